"""How far a case is from the reference: invented numbers, and invented cases through a shipped pack."""

import math
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from bare_pack import without_reference

from MedSegLensLib.cases.case import Case
from MedSegLensLib.cases.conform import InputSpec, conform
from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.cohorts.cohort import CohortCase
from MedSegLensLib.cohorts.phantoms import PhantomRequest
from MedSegLensLib.editing.session import Session
from MedSegLensLib.errors import CaseError, UsageError
from MedSegLensLib.failures.circuit import (
    TARGETS,
    circuit_shift,
    co_firing,
    depth_bias,
    early_and_late,
    graph,
    influence,
    much_brain,
    targets_of,
    weights_of,
)
from MedSegLensLib.failures.findings import Shift
from MedSegLensLib.failures.input_statistics import NAMES, input_statistics
from MedSegLensLib.failures.reference import Reference, Workings, build_reference, reference_of, workings_of
from MedSegLensLib.failures.shift import cohort_shift, shift, shift_of
from MedSegLensLib.packs.pack import load_pack
from MedSegLensLib.packs.shipped_reference import with_reference
from MedSegLensLib.segmenters.taps import changed

MODALITIES = ("t1n", "t1c", "t2w", "t2f")
SMALL = {"size": (56, 68, 12), "spacing": (3.0, 3.0, 12.0)}


def invented(n: int, seed: int = 0, moved: float = 0.0, noisy: int | None = None) -> Workings:
    """Workings of n cases: rates and edges that lie around a pattern, by `moved` away from it."""
    pattern, rng = np.random.default_rng(99), np.random.default_rng(seed)
    rate = pattern.uniform(0.05, 0.5, 40) * np.exp(rng.normal(0, 0.1, (n, 40))) * (1 + moved * (np.arange(40) % 2))
    edges = pattern.normal(size=300) + rng.normal(0, 0.3, (n, 300)) + moved * pattern.normal(size=300)
    inputs = pattern.normal(size=(4, 12)) + rng.normal(0, 0.1, (n, 4, 12))
    if noisy is not None:
        inputs[:, noisy] += 3.0
    magnitude = 1 + rng.normal(0, 0.05, (n, 40))
    return Workings({"tap": rate}, {"tap": magnitude}, edges, inputs, np.ones((n, 4), bool))


def one(workings: Workings) -> Workings:
    arrays = {name: array[0] for name, array in workings.to_arrays().items()}
    return Workings.from_arrays(arrays, list(workings.rate))


def reference(n: int = 7) -> Reference:
    return Reference(tuple(f"case-{i}" for i in range(n)), invented(n), MODALITIES)


def test_an_ordinary_case_is_about_one_and_some_reference_cases_are_as_far():
    found = shift_of(one(invented(1, seed=5)), reference(20))
    assert 0.6 < found.score < 1.6 and found.rank > 0.05
    assert "as the reference studies do" in found.words


def test_the_farther_a_case_is_moved_the_larger_its_score():
    found = [shift_of(one(invented(1, seed=5, moved=moved)), reference()).score for moved in (0, 0.5, 1.5, 4)]
    assert found == sorted(found) and found[-1] > 2 * found[0]


def test_few_reference_cases_are_counted_and_many_are_told_in_per_cent():
    far = one(invented(1, seed=5, moved=3.0, noisy=0))
    assert shift_of(far, reference(7)).words == (
        "This study drives latents as none of the 7 reference studies does: T1 differs most."
    )
    many = reference(60)
    outliers = invented(2, seed=8, moved=6.0)
    both = {name: np.concatenate([a, outliers.to_arrays()[name]]) for name, a in many.workings.to_arrays().items()}
    with_outliers = Reference((*many.cases, "x", "y"), Workings.from_arrays(both, ["tap"]), MODALITIES)
    found = shift_of(far, with_outliers)
    assert found.rank == pytest.approx(2 / 62) and "as only 3 % of the reference studies do: T1" in found.words


def test_the_modality_that_differs_most_is_named_and_none_where_none_stands_out():
    for m, modality in enumerate(MODALITIES):
        assert shift_of(one(invented(1, seed=5, noisy=m)), reference()).modality == modality
    assert shift_of(one(invented(1, seed=5)), reference(20)).modality is None


def test_a_missing_modality_is_said_to_be_missing():
    case = one(invented(1, seed=5, moved=3.0, noisy=3))
    lacking = replace(case, present=np.array([True, False, True, True]))
    found = shift_of(lacking, reference())
    assert found.modality == "t1c" and found.words.endswith("T1 with contrast is missing.")


def test_a_modality_that_the_reference_lacks_too_is_no_difference():
    known = reference()
    present = np.ones((7, 4), bool)
    present[:, 1] = False
    known = replace(known, workings=replace(known.workings, present=present))
    lacking = replace(one(invented(1, seed=5)), present=np.array([True, False, True, True]))
    assert shift_of(lacking, known).modality != "t1c"


def test_a_reference_case_is_not_held_against_itself():
    known = reference()
    assert shift_of(known.case(2), known, "case-2").score > shift_of(known.case(2), known).score


def test_too_few_reference_cases_give_no_rank():
    for n in (1, 2):
        found = shift_of(one(invented(1, seed=5)), reference(n))
        assert found.rank is None and found.words.startswith(f"Too few reference studies ({n})")


def test_a_pack_with_one_tap_has_usage_alone():
    known = reference()
    known = replace(known, workings=replace(known.workings, graph=np.zeros((7, 0))))
    found = shift_of(replace(one(invented(1, seed=5)), graph=np.zeros(0)), known)
    assert set(found.distance) == {"usage"} and math.isfinite(found.score)


def test_a_circuit_is_compared_by_the_order_of_its_edges():
    edges = np.random.default_rng(0).normal(size=200)
    assert circuit_shift(edges, edges**3) == pytest.approx(0)
    assert circuit_shift(edges, -edges) == pytest.approx(2)
    assert math.isnan(circuit_shift(np.zeros(0), np.zeros(0))) and math.isnan(circuit_shift(edges, np.ones(200)))


# -- through a shipped pack -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pack():
    return load_pack("glioma-unet")


@pytest.fixture(scope="module")
def cases() -> list[CohortCase]:
    return [CohortCase(f"p{s}", f"p{s}", phantom=PhantomRequest(s, **SMALL)) for s in (11, 12, 13)]


@pytest.fixture(scope="module")
def built(pack, cases):
    return build_reference(pack, cases, detector=False)


@pytest.fixture(scope="module")
def session(pack):
    return Session(phantom(21, **SMALL), pack)


def test_a_reference_is_built_shipped_and_found_again(pack, built, tmp_path):
    known, failures = built
    assert known.cases == ("p11", "p12", "p13") and failures == () and known.detector is None
    with_reference(pack, known.shipped(pack.info), tmp_path / "pack")
    again = reference_of(load_pack(tmp_path / "pack"))
    assert again.cases == known.cases and again.taps == known.taps
    for name, array in known.workings.to_arrays().items():
        assert np.allclose(array, again.workings.to_arrays()[name], rtol=2e-3, atol=2e-3)
    assert reference_of(without_reference("glioma-unet", tmp_path / "bare")) is None


def test_what_was_held_out_cannot_be_a_reference(pack):
    with pytest.raises(UsageError, match="held out"):
        build_reference(pack, [CohortCase("BraTS2021_00006", "x", phantom=PhantomRequest(3, **SMALL))])


def test_a_case_that_cannot_be_read_is_left_out(pack, cases, tmp_path):
    gone = CohortCase("gone", "gone", folder=tmp_path / "gone")
    known, failures = build_reference(pack, [cases[0], gone], detector=False)
    assert known.cases == ("p11",) and [failure.case for failure in failures] == ["gone"]


def test_noise_in_place_of_a_brain_is_far_and_a_like_case_is_not(pack, built, session):
    known, _ = built
    near = shift(session, known)
    rng = np.random.default_rng(0)
    images = {}
    for modality, image in session.case.images.items():
        noise = sitk.GetImageFromArray(rng.gamma(2.0, 100.0, image.GetSize()[::-1]).astype(np.float32))
        noise.CopyInformation(image)
        images[modality] = noise
    spine = shift(Session(Case("spine", images), pack), known)
    assert isinstance(near, Shift) and spine.score > 2 * near.score and spine.rank == 0
    assert "as none of the 3 reference studies does" in spine.words


def test_edges_are_correlations_of_codes_on_shared_places(session):
    early, late = early_and_late(session)
    edges = co_firing(session, early, late)
    assert edges.shape == (session.codes[early].n_latents, session.codes[late].n_latents)
    assert np.abs(edges).max() <= 1 + 1e-5 and graph(session, weights_of(session.pack)).shape == (len(edges) * TARGETS,)
    itself = co_firing(session, late, late)
    fires = np.diff(session.codes[late].pointers) > 0
    assert np.allclose(np.diag(itself)[fires], 1, atol=1e-2)


def test_influence_is_what_suppressing_an_early_latent_does_to_a_late_one(session):
    """First order against the real thing: the early latent's direction taken away a little, the late codes again."""
    early, late = early_and_late(session)
    target = int(np.argmax(np.diff(session.codes[late].pointers)))
    found = influence(session, early, late, [target])[:, 0]
    latent, share = int(np.argmax(np.abs(found))), 1e-2
    difference = 0.0
    for sample in much_brain(session, late):
        codes = torch.from_numpy(session.codes[early].dense(latent, [sample])[0])
        direction = session.lenses[early].W_dec[latent]
        taken = torch.einsum("...,c->c...", codes, direction)[None] * share
        sums = []
        for less in (0.0, taken):
            seen = []
            hooks = {early: lambda x, less=less: x - less, late: seen.append}
            given = session.sampling.inputs(torch.from_numpy(session.conformed.array), [sample])
            with torch.no_grad(), changed(session.network, hooks):
                session.network(session.engine.place(given))
            tokens = seen[0][0].flatten(1).T[torch.from_numpy(session.brain_tokens[late][sample].ravel())]
            sums.append(float(session.lenses[late].encode_latents(tokens.float(), [target]).sum()))
        difference += (sums[0] - sums[1]) / share
    assert found[latent] == pytest.approx(difference, rel=0.1)


def test_depth_bias_is_a_number_where_there_is_tumour(session):
    assert math.isfinite(depth_bias(session))


def test_what_a_volume_looks_like_tells_noise_and_absence():
    case = phantom(5, **SMALL)
    plain = input_statistics(conform(case, InputSpec(may_be_missing=MODALITIES)))
    assert plain.shape == (4, len(NAMES)) and np.isfinite(plain).all()
    images = {m: image for m, image in case.images.items() if m != "t1c"}
    less = input_statistics(conform(Case("c", images), InputSpec(may_be_missing=MODALITIES)))
    assert np.isnan(less[1]).all() and np.allclose(less[[0, 2, 3]], plain[[0, 2, 3]])


def test_no_case_at_all_is_no_reference(pack, tmp_path):
    with pytest.raises(CaseError):
        build_reference(pack, [CohortCase("gone", "gone", folder=tmp_path / "gone")], detector=False)


def test_what_workings_are_of_a_session(session, pack):
    found = workings_of(session)
    assert tuple(found.rate) == pack.taps and all(rate.min() >= 0 and rate.max() <= 1 for rate in found.rate.values())
    assert found.present.all() and np.isfinite(found.inputs).all()


def test_latents_that_nothing_rests_on_do_not_count():
    weights = {"tap": np.where(np.arange(40) % 2, 0.0, 1 / 20)}  # only the odd ones move
    known = reference()
    plain, moved = one(invented(1, seed=5)), one(invented(1, seed=5, moved=4.0))
    moved = replace(moved, graph=plain.graph)
    weighed = replace(known, weights=weights)
    assert shift_of(moved, weighed).score == pytest.approx(shift_of(plain, weighed).score, rel=0.05)
    assert shift_of(moved, known).score > 2 * shift_of(plain, known).score


def test_weights_come_from_the_catalogue_and_the_edges_lead_to_the_weightiest(pack):
    weights = weights_of(pack)
    assert tuple(weights) == pack.taps and all(w.sum() == pytest.approx(1) for w in weights.values())
    weight = weights[pack.default_tap]
    chosen = targets_of(weight)
    assert len(chosen) == TARGETS and weight[chosen].min() >= np.delete(weight, chosen).max()


def test_a_cohort_as_a_whole_is_farther_the_more_it_is_moved():
    known = reference(8)

    def cohort(moved):
        return [one(invented(1, seed=seed, moved=moved)) for seed in range(20, 26)]

    assert cohort_shift(cohort(0.0), known) < cohort_shift(cohort(0.4), known) < cohort_shift(cohort(2.0), known)
    with pytest.raises(UsageError):
        cohort_shift(cohort(0.0), reference(3))
    with pytest.raises(UsageError):
        cohort_shift([], known)
