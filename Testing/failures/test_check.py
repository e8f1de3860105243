"""The check of a case, with tiny packs of random weights: every part real, and small."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.diffing.dictionaries import at_work
from MedSegLensLib.editing.places import token_box
from MedSegLensLib.errors import CaseError, PackError
from MedSegLensLib.failures.check import FEWEST_LISTED, LEAST, LISTED, check
from MedSegLensLib.failures.detector import Detector, every_third_slice, fit, fit_and_leave_out, reading_session
from MedSegLensLib.failures.features import Basis, case_features, latent_of, place_features
from MedSegLensLib.failures.findings import Check
from MedSegLensLib.failures.place_readings import POOLS, deciding_tokens, likeness_by_latents, read_places, shapes_of
from MedSegLensLib.failures.reference import Reference, Workings, workings_of
from MedSegLensLib.failures.suspects import JUDGED, Places

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "editing"))
from tiny_packs import write_tiny_pack  # noqa: E402

SEEDS = (1, 2, 3, 4)


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return write_tiny_pack("unet", tmp_path_factory.mktemp("pack") / "tiny-unet")


@pytest.fixture(scope="module")
def sessions(pack):
    cases = [phantom(seed, size=(40, 48, 14), spacing=(4.0, 4.0, 9.0)) for seed in SEEDS]
    return [reading_session(at_work(pack), case) for case in cases]


@pytest.fixture(scope="module")
def readings(sessions):
    """Three of each session: as it is, and with a truth that hardly differs from what it says."""
    found = []
    for session in sessions:
        truth = session.conformed.labels(session.case.labels)
        nearly = session.labels.copy()
        nearly[: len(nearly) // 2] = truth[: len(nearly) // 2]
        found += [read_places(session, labels)[1] for labels in (truth, nearly, session.labels)]
    return found


@pytest.fixture(scope="module")
def detector(readings):
    return fit(readings, [f"phantom-{seed}" for seed in SEEDS for _ in range(3)])


@pytest.fixture(scope="module")
def reference(pack, sessions, detector):
    rows = [workings_of(session).to_arrays() for session in sessions[1:]]
    arrays = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    workings = Workings.from_arrays(arrays, pack.taps)
    modalities = tuple(pack.info.input["modalities"])
    return Reference(("2", "3", "4"), workings, modalities, detector=json.loads(json.dumps(detector.to_json())))


def test_a_check_lists_the_worst_places_first_and_changes_nothing(sessions, reference):
    before = sessions[0].labels.copy()
    found, risk = check(sessions[0], reference)
    assert found.suspects and found.shift is not None and {one.region for one in found.quality} <= set(JUDGED)
    worth = [one.risk * one.ml for one in found.suspects if one.risk >= LISTED]
    assert len(worth) >= FEWEST_LISTED or all(one.risk >= LEAST for one in found.suspects)
    assert worth == pytest.approx(sorted(worth, reverse=True), rel=1e-2)
    assert all("likely" in one.words if one.risk >= 0.5 else "may" in one.words for one in found.suspects)
    assert all(one.reasons for one in found.suspects)
    assert risk.dtype == np.float32 and risk.shape == before.shape and risk.min() >= 0 and 0.25 <= risk.max() <= 1
    assert np.array_equal(sessions[0].labels, before)
    assert Check.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_a_reason_is_the_mean_code_of_its_latent_at_the_place(sessions, reference):
    found, _ = check(sessions[0], reference)
    places, readings = read_places(sessions[0])
    for suspect in found.suspects:
        for reason in suspect.reasons:
            assert np.isclose(
                readings[f"code {reason.tap}"][: len(places), reason.latent], reason.value, atol=1e-3
            ).any()
            assert f"latent {reason.latent}" in suspect.words


def test_a_pack_without_a_reference_says_what_to_do(sessions):
    found, risk = check(sessions[0])
    assert (found.quality, found.shift, found.suspects) == ((), None, ()) and not risk.any()
    assert len(found.notes) == 1 and "add-reference" in found.notes[0]


def test_a_reference_without_labels_tells_the_shift_alone(sessions, reference):
    found, _ = check(sessions[0], replace(reference, detector=None))
    assert found.shift is not None and found.suspects == () and "no labels" in found.notes[0]


def test_nothing_segmented_is_said_and_only_missed_tumour_is_looked_for(sessions, reference):
    session = sessions[1]
    kept = session.labels
    try:
        session.labels = np.zeros_like(kept)
        found, _ = check(session, reference)
    finally:
        session.labels = kept
    assert found.quality == () and {one.kind for one in found.suspects} <= {"missed"}
    assert any("No tumour was segmented" in note for note in found.notes)


def test_a_damaged_detector_is_refused(detector):
    document = json.loads(json.dumps(detector.to_json()))
    broken = json.loads(json.dumps(document))
    broken["places"][0]["intercept"] = float("nan")
    for wrong in (None, document | {"format": 99}, document | {"places": []}, broken):
        with pytest.raises(PackError, match="add-reference"):
            Detector.from_json(wrong)


def test_a_detector_that_judges_by_what_is_not_read_is_refused(detector, readings):
    document = json.loads(json.dumps(detector.to_json()))
    for place in document["places"]:
        for feature in place["features"]:
            feature["name"] += " of the next version"
    strange = Detector.from_json(document)
    with pytest.raises(PackError, match="of the next version.*add-reference"):
        strange.risks(readings[0])


def test_a_detector_comes_back_from_json_with_the_same_risks(detector, readings):
    again = Detector.from_json(json.loads(json.dumps(detector.to_json())))
    for one in readings[::3]:
        assert np.allclose(again.risks(one), detector.risks(one), atol=0.01)


def test_each_patient_can_be_judged_by_what_the_others_taught(readings, detector):
    patients = [f"phantom-{seed}" for seed in SEEDS for _ in range(3)]
    everything, without = fit_and_leave_out(readings, patients)
    assert set(without) == set(patients) and everything.to_json() == detector.to_json()
    other = [one | {"wrong": 1 - one["wrong"]} if i < 3 else one for i, one in enumerate(readings)]
    _, again = fit_and_leave_out(other, patients)
    basis, same = without["phantom-1"].basis, again["phantom-1"].basis
    assert all(np.array_equal(basis.usual[tap], same.usual[tap]) for tap in basis.taps), "its truth taught nothing"


def test_fewer_than_three_patients_teach_nothing(readings):
    with pytest.raises(CaseError, match="3 patients"):
        fit(readings[:6], ["one"] * 3 + ["two"] * 3)


def test_a_voxel_has_the_code_of_its_token(sessions, readings):
    session = sessions[0]
    for tap, codes in session.codes.items():
        latent = int(np.diff(codes.pointers).argmax())
        steps = [n // g for n, g in zip(session.sampling.sample_shape, codes.grid[1:], strict=True)]
        dense = codes.dense(latent).repeat(steps[0], 1).repeat(steps[1], 2)
        brain = len(readings[0]["places"]) + POOLS.index("brain")
        inside = dense[session.conformed.brain]
        assert readings[0][f"code {tap}"][brain, latent] == pytest.approx(inside.mean(), rel=1e-4)
        assert readings[0][f"fires {tap}"][brain, latent] == pytest.approx((inside > 0).mean(), rel=1e-4)


def test_where_windows_overlap_a_voxel_has_a_token_of_a_window_that_holds_it(tmp_path):
    pack = write_tiny_pack("segresnet", tmp_path / "tiny-segresnet")
    session = reading_session(at_work(pack), phantom(1, size=(36, 40, 36), spacing=(5.0, 5.0, 5.0)))
    for tap, codes in session.codes.items():
        owner = deciding_tokens(session, tap)
        for voxel in np.argwhere(session.conformed.brain)[::997]:
            box = token_box(owner[tuple(voxel)], session.sampling, codes.grid)
            assert all(b.start <= v < b.stop for b, v in zip(box, voxel, strict=True))
    places, arrays = read_places(session)
    assert len(places) == len(arrays["places"]) == len(arrays["ml"])


def test_a_pack_without_a_catalogue_has_no_likeness(sessions):
    assert likeness_by_latents(sessions[0], {}) == {}


def test_features_have_names_and_are_finite(readings, detector):
    names, table = place_features(readings[0], detector.basis)
    assert len(names) == len(set(names)) == table.shape[1] and np.isfinite(table).all()
    taps = {latent_of(name)[0] for name in names if latent_of(name)}
    assert taps == set(detector.basis.taps) and latent_of("entropy") is None
    for region in JUDGED:
        names, values = case_features(readings[0], detector.risks(readings[0]), detector.basis, region)
        assert values.shape == (len(names),) and np.isfinite(values).all()


def test_what_is_usual_is_not_unusual(readings):
    basis = Basis.fit(readings)
    right = [one["wrong"] <= 0.5 for one in readings]
    for tap in basis.taps:
        far = np.concatenate([basis.unusual(one, tap)[: len(r)][r] for one, r in zip(readings, right, strict=True)])
        assert abs(far.mean()) < 0.2 and np.square(far).mean() < 1.5


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 1.0, 1.0), (3.0, 0.8, 0.8)])
def test_shape_and_volume_are_in_mm_and_ml_whatever_the_spacing(spacing):
    shape = tuple(int(60 / s) for s in spacing)
    at = np.stack(np.meshgrid(*(np.arange(n) * s for n, s in zip(shape, spacing, strict=True)), indexing="ij"))
    inside = np.square((at - 30) / np.array([20.0, 10.0, 10.0])[:, None, None, None]).sum(0) <= 1
    places = Places(shape, np.array([0, inside.sum()]), np.flatnonzero(inside), np.array([0]), np.array([0]))
    grid = SimpleNamespace(spacing=spacing[::-1])
    session = SimpleNamespace(conformed=SimpleNamespace(grid=grid, brain=np.ones(shape, bool)))
    ml = inside.sum() * np.prod(spacing) / 1000
    assert ml == pytest.approx(4 / 3 * np.pi * 20 * 10 * 10 / 1000, rel=0.05)
    assert shapes_of(session, places)[0, :3] == pytest.approx([20 / 5**0.5, 10 / 5**0.5, 10 / 5**0.5], rel=0.06)


def test_every_third_slice_is_taken_of_thin_ones_from_foot_to_head():
    thin = every_third_slice(phantom(1, size=(40, 48, 40), spacing=(4.0, 4.0, 2.0)))
    assert thin.reference.GetSize() == (40, 48, 14) and thin.labels.GetSpacing() == (4.0, 4.0, 6.0)
    thick = phantom(1, size=(40, 48, 14), spacing=(4.0, 4.0, 9.0))
    assert every_third_slice(thick) is thick
