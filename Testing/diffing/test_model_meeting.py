"""Two packs meet on a case: the streamed sums are those of the activation volumes themselves."""

import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from MedSegLensLib.cohorts.cohort import CohortCase
from MedSegLensLib.cohorts.phantoms import PhantomRequest
from MedSegLensLib.diffing.meeting import Meeting, SideWork, slabs
from MedSegLensLib.diffing.model_diff import layout_of
from MedSegLensLib.diffing.paired_tokens import PairedTokens
from MedSegLensLib.diffing.pooling import Pool
from MedSegLensLib.diffing.seeds import SeedLens
from MedSegLensLib.diffing.stacking import Part, random_directions, stacked, thinned
from MedSegLensLib.editing.pack_at_work import PackAtWork
from MedSegLensLib.editing.session import Session
from MedSegLensLib.errors import UsageError
from MedSegLensLib.lenses.codes import Codes
from MedSegLensLib.lenses.files import save_lens
from MedSegLensLib.lenses.lens import Lens

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "editing"))
from tiny_packs import write_tiny_pack  # noqa: E402

CASE = CohortCase("one", "one", phantom=PhantomRequest(1, size=(40, 48, 14), spacing=(4.0, 4.0, 9.0)))


@pytest.fixture(scope="module")
def met(tmp_path_factory):
    """The work on a phantom by a U-Net with a lens of another seed and a SegFormer without, and what it gave."""
    place = tmp_path_factory.mktemp("met")
    a, b = (write_tiny_pack(name, place / name) for name in ("unet", "segformer"))
    tap = a.default_tap
    own = a.lens(tap)
    order = torch.randperm(own.d_sae, generator=torch.Generator().manual_seed(0))
    again = Lens(tap, own.W_enc[:, order], own.b_enc[order], own.W_dec[order], own.b_dec, own.threshold[order], own.k)
    save_lens(again, place / "seed-2")
    seeds = (SeedLens.of(place / "seed-2"),)
    work = Meeting(
        SideWork(PackAtWork.of(a, place / "unet"), (tap,), seeds),
        SideWork(PackAtWork.of(b, place / "segformer"), b.taps),
        randoms=12,
    )
    return a, b, work, work(CASE), order


def volumes(session, tap, latents, brain):
    shown = [session.to_case(session.activation_volume(tap, j), interpolation="linear") for j in latents]
    return np.stack([sitk.GetArrayFromImage(v)[brain] for v in shown])


def test_the_sums_give_the_correlation_of_the_volumes(met):
    a, b, work, sums, _ = met
    case = CASE.read()
    one, two = Session(case, a), Session(case, b)
    brain = sitk.GetArrayFromImage(one.to_case(one.conformed.brain)) > 0
    brain &= sitk.GetArrayFromImage(two.to_case(two.conformed.brain)) > 0
    lesion = sitk.GetArrayFromImage(case.labels)[brain] > 0
    assert sums["voxels"].tolist() == [brain.sum(), lesion.sum()]
    latents = [0, 5, 23]
    x = volumes(one, a.default_tap, latents, brain)
    y = np.concatenate([volumes(two, tap, latents, brain) for tap in b.taps])
    pool = Pool()
    pool.add("one", sums)
    columns = [*latents, *(24 + j for j in latents)]
    for mask, there in enumerate((np.ones(brain.sum(), bool), lesion)):
        wanted = np.corrcoef(x[:, there], y[:, there])[:3, 3:]
        np.testing.assert_allclose(pool.pooled().between(mask)[latents][:, columns], wanted, atol=2e-4)


def test_a_permuted_seed_is_found_again_one_to_one(met):
    a, _, work, sums, order = met
    pool = Pool()
    pool.add("one", sums)
    r = pool.pooled().with_seeds("a")
    fires = sums["a_tokens"] > 0
    assert fires.sum() > 12
    np.testing.assert_allclose(r[order.numpy(), np.arange(24)][fires[order.numpy()]], 1, atol=1e-4)
    across, between = pool.pooled().across("a", "seed"), pool.pooled().between()
    np.testing.assert_allclose(across, between[order.numpy()], atol=1e-4)


def test_no_partner_is_asked_for_more_than_the_coarser_grid_can_show(met):
    _, _, _, sums, _ = met
    pool = Pool()
    pool.add("one", sums)
    for side, other in (("a", "b"), ("b", "a")):
        limit = pool.pooled().grid_limit(side)
        fires = sums[f"{side}_tokens"] > 0
        assert (limit[fires] > 0.1).all() and (limit <= 1).all() and limit[fires].min() < 0.999, other


def test_random_directions_fire_as_often_as_the_latents_they_imitate(met):
    a, b, work, sums, _ = met
    assert len(sums["a_random_tokens"]) == 12 and len(sums["b_random_tokens"]) == 24
    tokens = set(sums["a_tokens"].tolist())
    assert np.mean([n in tokens for n in sums["a_random_tokens"].tolist()]) > 0.9


def test_a_case_without_labels_says_nothing_of_a_lesion(met):
    _, _, _, sums, _ = met
    pool = Pool()
    pool.add("one", {**sums, "voxels": np.array([sums["voxels"][0], -1.0])})
    assert pool.labelled == 0 and not pool.pooled().between(1).any()


def test_both_networks_are_read_at_the_same_voxels(met):
    a, b, work, _, _ = met
    pairing = PairedTokens(work.a.pack, work.b.pack, a.default_tap, b.default_tap, voxels=40)
    found, again = pairing(CASE), pairing(CASE)
    assert all(np.array_equal(found[name], again[name]) for name in found)
    n = len(found["natural"])
    assert found["natural"].sum() == 40 < n <= 60 and found["lesion"][40:].all()
    for side, pack in (("a", a), ("b", b)):
        lens = pack.lens(pack.default_tap)
        assert found[side].shape == (n, lens.d_in) and found[f"{side}_codes"].shape == (n, lens.d_sae)
        assert np.isfinite(found[side]).all() and (found[f"{side}_codes"] >= 0).all() and found[f"{side}_codes"].any()


def test_its_key_changes_with_what_decides_the_result(met):
    from dataclasses import replace

    work = met[2]
    assert replace(work).key() == work.key() != replace(work, randoms=13).key()


def test_lenses_of_any_kind_stand_side_by_side():
    torch.manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(10, 6), dim=1)
    jump = Lens("t", rows.T.contiguous(), torch.randn(10), rows, torch.randn(6), torch.full((10,), 0.2), 3)
    top = Lens("t", rows.T.contiguous(), torch.zeros(10), rows, torch.zeros(6), torch.zeros(10), 3, activation="topk")
    x = torch.randn(50, 6)
    for lenses in ([jump, jump], [jump, top]):
        wide = stacked(lenses).to("cpu")
        wanted = torch.cat([lens.encode(x) for lens in lenses], 1)
        torch.testing.assert_close(wide.encode(x), wanted, atol=1e-5, rtol=1e-5)


def test_thinned_directions_keep_their_strongest_tokens():
    values = np.array([1, 1, 5, 3, 4, 2], np.float32)  # latent 0 on two tokens, direction 1 on four
    codes = Codes(np.array([0, 2, 6]), np.array([0, 1, 0, 1, 2, 3], np.int32), values, (1, 4))
    found = thinned(codes, Part("random", 1, 2), np.array([0]))
    tokens, kept = found.latent(1)
    assert tokens.tolist() == [0, 2] and kept.tolist() == [5, 4]
    assert found.latent(0)[0].tolist() == [0, 1]


def test_random_directions_are_of_unit_length_and_repeat_with_their_seed():
    torch.manual_seed(0)
    lens = Lens("t", torch.randn(6, 10), torch.zeros(10), torch.randn(10, 6), torch.zeros(6), torch.zeros(10), 3)
    one, two, three = (random_directions(lens, 7, seed) for seed in (1, 1, 2))
    torch.testing.assert_close(one.W_dec.norm(dim=1), torch.ones(7))
    assert torch.equal(one.W_dec, two.W_dec) and not torch.equal(one.W_dec, three.W_dec)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slabs_hold_each_voxel_once(axis):
    mask = np.random.default_rng(0).random((20, 90, 80)) < 0.5
    mask[:, :30] = False
    seen = np.zeros(mask.shape, int)
    parts = list(slabs(mask, axis))
    for part in parts:
        seen[tuple(part.T)] += 1
    assert (seen == mask).all() and len(parts) > 1


def test_the_packs_own_lens_is_no_other_seed(met, tmp_path):
    from MedSegLensLib.diffing.seeds import check_seeds

    a = met[0]
    save_lens(a.lens(), tmp_path / "copy")
    with pytest.raises(UsageError, match="itself"):
        check_seeds(a, [SeedLens.of(tmp_path / "copy")])
    with pytest.raises(UsageError, match="tap"):
        check_seeds(met[1], [SeedLens.of(tmp_path / "copy")])


def test_latents_are_numbered_tap_by_tap(met):
    a, b, work, sums, _ = met
    layout = layout_of(b, work.b, 12)
    assert layout.n == 48 == sums["ab"].shape[2]
    assert layout.tap_of[[0, 23, 24]].tolist() == [0, 0, 1] and layout.latent_of[[23, 24]].tolist() == [23, 0]
    assert layout_of(a, work.a, 12).seed_blocks() == [(0, 24, 0, 24)]
