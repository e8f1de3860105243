"""Harvested tokens in a folder: bounded, streamed, and gone on with after a stop."""

import dataclasses
import json
import resource
import signal

import numpy as np
import pytest
import torch

from MedSegLensLib.errors import CaseError, OutputError, UsageError
from MedSegLensLib.lenses.lens_config import LensConfig
from MedSegLensLib.lenses.sampling import AIR, BRAIN, LESION, STRATA
from MedSegLensLib.lenses.token_store import HarvestPlan, TokenStore
from MedSegLensLib.lenses.training import train_lens

PLAN = HarvestPlan(("deep", "fine"), "abc", per_case=400, natural=100, shares={"air": 0.1, "brain": 0.5, "lesion": 0.4})


def chunks(case: int, n=3000, channels=(8, 4)):
    """Tokens whose first channel is their stratum and whose second is the case; the rest is noise."""
    rng = np.random.default_rng(case)
    for _ in range(2):
        strata = rng.choice([AIR, BRAIN, LESION], n, p=[0.5, 0.45, 0.05])
        tokens = {}
        for tap, d in zip(PLAN.taps, channels, strict=True):
            x = rng.standard_normal((n, d)).astype(np.float32)
            x[:, 0], x[:, 1] = strata, case
            tokens[tap] = torch.from_numpy(x)
        yield tokens, {tap: strata for tap in PLAN.taps}


def store_of(folder, n_cases, plan=PLAN):
    store = TokenStore.create(folder, plan)
    for case in range(n_cases):
        if not store.has(f"case {case}"):
            store.add(f"case {case}", chunks(case))
    return store


def test_a_case_gives_its_quota_by_stratum_and_no_more(tmp_path):
    case = store_of(tmp_path, 1).cases()[0]
    pools = case.by_stratum("deep", 0)
    assert {s: len(x) for s, x in pools.items()} == {AIR: 80, BRAIN: 400, LESION: pytest.approx(285, abs=30)}
    for stratum, tokens in pools.items():
        assert tokens.dtype == torch.float16 and (tokens[:, 0] == stratum).all()
    tokens, strata = case.natural(1)
    assert len(tokens) == 100 and torch.equal(tokens[:, 0].to(torch.int8), strata)
    assert float((strata == AIR).float().mean()) == pytest.approx(0.5, abs=0.15)


def test_batches_hold_the_shares_and_never_a_held_out_case(tmp_path):
    tokens = store_of(tmp_path, 5).tokens("deep")
    assert len(tokens.held_out_cases) == 1 and tokens.held_out_cases[0] in tokens.held_out_said
    apart = int(tokens.held_out_cases[0].split()[1])
    assert (tokens.held_out[:, 1] == apart).all() and len(tokens.held_out_strata) == len(tokens.held_out)
    assert set(tokens.natural[:, 1].tolist()) == {0, 1, 2, 3, 4}
    batch = next(tokens.batches(500, seed=1))
    assert batch.dtype == torch.float32 and set(batch[:, 1].tolist()) == {0, 1, 2, 3, 4} - {apart}
    shares = [float((batch[:, 0] == s).float().mean()) for s in (AIR, BRAIN, LESION)]
    assert shares == pytest.approx([0.1, 0.5, 0.4], abs=0.01)


def test_with_one_case_tokens_are_held_out_and_that_is_said(tmp_path):
    tokens = store_of(tmp_path, 1).tokens("fine")
    assert tokens.held_out_cases == () and "training cases" in tokens.held_out_said
    trained = {tuple(t) for pool in tokens.cases[0].by_stratum("fine", 1).values() for t in pool.float().tolist()}
    assert not trained & {tuple(t) for t in tokens.held_out.tolist()}


def test_a_batch_depends_on_the_seed_and_its_number_alone(tmp_path):
    store = store_of(tmp_path, 6)
    for memory in (512, 0.01):  # all in memory, or some cases at a time
        row = store.tokens("deep", memory_mb=512)
        row.capacity = row.total if memory == 512 else 700
        batches = row.batches(200, seed=3)
        first = [next(batches) for _ in range(20)]
        again = store.tokens("deep")
        again.capacity = row.capacity
        assert torch.equal(next(again.batches(200, seed=3, start=17)), first[17])
        assert not torch.equal(next(again.batches(200, seed=4, start=17)), first[17])


def test_windows_go_through_every_case_and_hold_a_few(tmp_path):
    tokens = store_of(tmp_path, 12).tokens("deep", held_out=0)
    tokens.capacity = tokens.total // 5
    batches, seen = tokens.batches(256, seed=0), []
    for _ in range(2 * tokens.total // 256):
        seen.append(set(next(batches)[:, 1].tolist()))
        assert len(tokens._windows) <= 2
    assert max(map(len, seen)) < 6 and set.union(*seen) == set(range(12))


def test_the_room_on_disk_is_what_the_plan_says(tmp_path):
    few, many = store_of(tmp_path / "few", 4), store_of(tmp_path / "many", 8, dataclasses.replace(PLAN, per_case=200))
    size = [sum(f.stat().st_size for f in s.folder.rglob("*.safetensors")) for s in (few, many)]
    assert size[1] < 1.2 * size[0]


def test_a_harvest_goes_on_with_the_cases_that_are_missing(tmp_path):
    store_of(tmp_path / "stopped", 2)
    stopped = {f.name: f.stat().st_mtime_ns for f in (tmp_path / "stopped" / "cases").iterdir()}
    went_on, at_once = store_of(tmp_path / "stopped", 4), store_of(tmp_path / "at once", 4)
    for name, when in stopped.items():
        assert (went_on.folder / "cases" / name).stat().st_mtime_ns == when
    for a, b in zip(went_on.cases(), at_once.cases(), strict=True):
        assert a.path.read_bytes() == b.path.read_bytes()


@pytest.mark.parametrize("change", [{"segmenter": "other"}, {"taps": ("deep",)}, {"seed": 1}, {"per_case": 9}])
def test_another_configuration_does_not_go_on(tmp_path, change):
    store_of(tmp_path, 1)
    with pytest.raises(UsageError, match=f"{next(iter(change))} was"):
        TokenStore.create(tmp_path, dataclasses.replace(PLAN, **change))


def test_a_disk_that_fills_leaves_the_cases_before_and_says_what_to_do(tmp_path):
    store = store_of(tmp_path, 1)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))  # as a full disk: the write ends in the middle
    try:
        with pytest.raises(OutputError, match="case 1.*goes on with the cases that are missing"):
            store.add("case 1", chunks(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert [f.suffix for f in (tmp_path / "cases").iterdir()] == [".safetensors"]
    assert store.has("case 0") and not store.has("case 1")
    assert len(store_of(tmp_path, 2).cases()) == 2


def test_a_tap_whose_channels_change_between_cases_is_refused(tmp_path):
    store = store_of(tmp_path, 1)
    with pytest.raises(UsageError, match="fine.*6 channels in case 1 and 4 in case 0"):
        store.add("case 1", chunks(1, channels=(8, 6)))
    assert not store.has("case 1")


@pytest.mark.parametrize("value", [float("nan"), 1e6])
def test_activations_that_float16_cannot_hold_are_refused(tmp_path, value):
    broken = [({t: x.index_fill(1, torch.tensor([2]), value) for t, x in c[0].items()}, c[1]) for c in chunks(0)]
    with pytest.raises(CaseError, match="not finite"):
        TokenStore.create(tmp_path, PLAN).add("case 0", broken)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "taps": []}', "\x00"])
def test_a_folder_that_is_no_store_is_refused(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UsageError):
        TokenStore.open(tmp_path)
    with pytest.raises(UsageError):
        TokenStore.open(tmp_path / "nowhere")


def test_a_damaged_case_is_named(tmp_path):
    store = store_of(tmp_path, 2)
    path = next((tmp_path / "cases").iterdir())
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UsageError, match=f"{path.name}.*damaged"):
        store.tokens("deep")


def test_unknown_names_and_impossible_splits_are_refused(tmp_path):
    store = store_of(tmp_path, 2)
    for wrong in ({"tap": "none"}, {"tap": "deep", "held_out": 2}, {"tap": "deep", "held_out": -1}):
        with pytest.raises(UsageError):
            store.tokens(**wrong)
    with pytest.raises(UsageError, match="tumour"):
        dataclasses.replace(PLAN, shares={"tumour": 1.0})
    with pytest.raises(UsageError, match="no case"):
        TokenStore.create(tmp_path / "empty", PLAN).tokens("deep")
    assert STRATA == ("air", "brain", "lesion", "border")
    assert json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))["taps"] == ["deep", "fine"]


def test_a_lens_is_trained_from_a_store(tmp_path):
    tokens = store_of(tmp_path, 4).tokens("deep")
    lens = train_lens(tokens, LensConfig("deep", width=48, k=6, steps=150, batch=256, lr=5e-3))
    assert lens.metadata["held_out"]["explained_variance"] > 0.5
    assert lens.metadata["held_out"]["n_tokens"] == len(tokens.held_out)
