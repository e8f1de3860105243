"""One case in two packs at once: the volumes are shared, the other lens is checked, memory is asked for before."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import SECONDS
from tiny_packs import write_tiny_pack

from MedSegLensLib.errors import Cancelled, PackError, UsageError, WorkerError
from MedSegLensLib.packs.comparisons import ComparedCohort, PackComparison, PackFinding
from MedSegLensLib.packs.notes import lens_hash
from MedSegLensLib.packs.shipped_comparisons import with_comparisons
from MedSegLensLib.worker.memory import Ceiling, used_gb
from MedSegLensLib.worker.opened_case import OpenedCase
from MedSegLensLib.worker.protocol import Message


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    """Two packs in one folder, each under its own name; the first is shipped with a comparison."""
    folder = tmp_path_factory.mktemp("together")
    bare = write_tiny_pack("unet", folder / "bare")
    tap = bare.default_tap
    finding = PackFinding(lens_hash(bare.info, tap), tap, 1, "backbone", "Alike.", null=0.3)
    cohorts = (ComparedCohort("x", 3), ComparedCohort("y", 4))
    shipped = PackComparison("tiny-unet", "cohorts", ("x", "y"), cohorts, None, "2026-11-21", (), (finding,))
    with_comparisons(bare, [shipped], folder / "tiny-unet")
    return folder / "tiny-unet", write_tiny_pack("segformer", folder / "tiny-segformer"), shipped


@pytest.fixture(scope="module")
def opened(client, volumes, packs):
    session = client.open_case(volumes, "phantom", str(packs[0])).result(SECONDS)
    yield session
    session.close().result(SECONDS)


@pytest.fixture
def wanted(packs) -> tuple[str, str, str]:
    """Pack, tap and lens of a partner."""
    tap = packs[1].default_tap
    return "tiny-segformer", tap, lens_hash(packs[1].info, tap)


def test_a_pack_tells_what_it_is_shipped_with(opened, packs):
    assert [PackComparison.from_json(one) for one in opened.opened.comparisons] == [packs[2]]


def test_the_partner_sees_the_same_case_without_a_copy_of_it(client, opened, volumes, wanted, packs, shared_base):
    held = sorted(shared_base.glob("*/c-*"))
    partner = opened.with_partner(*wanted).result(SECONDS)
    assert sorted(shared_base.glob("*/c-*")) == held, "no voxel was copied"
    alone = client.open_case(volumes, "phantom", str(packs[1].folder)).result(SECONDS)
    # Each opening chooses its engine by what is fastest at the moment, so numbers may differ in their last places.
    assert (partner.opened.labels == alone.opened.labels).mean() > 0.99
    ours, theirs = (session.activation(wanted[1], 3).result(SECONDS) for session in (partner, alone))
    assert np.corrcoef(ours.array.ravel(), theirs.array.ravel())[0, 1] > 0.99
    assert np.array_equal(ours.ijk_to_ras, theirs.ijk_to_ras)
    alone.close().result(SECONDS)
    partner.close().result(SECONDS)
    assert sorted(shared_base.glob("*/c-*")) == held, "the volumes are the other session's"
    assert opened.latents(opened.opened.default_tap).result(SECONDS)


@pytest.mark.parametrize(
    "change, said",
    [
        (("absent", None, None), "not installed where the worker runs"),
        ((None, "elsewhere", None), "no lens at elsewhere"),
        ((None, None, "0" * 64), "was trained anew since the packs were compared"),
        (("../tiny-segformer", None, None), "not installed"),
    ],
)
def test_another_pack_or_another_lens_is_refused(opened, wanted, change, said):
    asked = tuple(new if new is not None else old for new, old in zip(change, wanted, strict=True))
    with pytest.raises(PackError, match=said):
        opened.with_partner(*asked).result(SECONDS)
    assert opened.detail(opened.opened.default_tap, 0).result(SECONDS)["volume_ml"] >= 0


def test_memory_for_both_is_asked_for_before_it_is_taken(volumes, packs, wanted):
    described = [
        {"modality": m, "array": m, "ijk_to_ras": v.ijk_to_ras.tolist(), "name": m} for m, v in volumes.items()
    ]
    partner = {"beside": str(packs[0]), "tap": wanted[1], "lens": wanted[2]}
    fields = {"name": "phantom", "pack": wanted[0], "volumes": described, "partner": partner}
    asked = Message("open", fields, {m: v.array for m, v in volumes.items()})
    with pytest.raises(WorkerError, match=r"would take .* GB more, and the worker may use .* GB and has .* GB in use"):
        OpenedCase(asked, None, Ceiling(used_gb() + 1e-6), lambda stage, share: None)


def test_with_the_case_its_partners_are_closed(client, volumes, packs, wanted):
    session = client.open_case(volumes, "phantom", str(packs[0])).result(SECONDS)
    partner = session.with_partner(*wanted).result(SECONDS)
    before = len(client._sessions)
    session.close().result(SECONDS)
    deadline = time.monotonic() + 60
    while len(client._sessions) > before - 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert partner not in client._sessions and session not in client._sessions


def test_an_opening_that_is_given_up_leaves_nothing_open(client, opened, wanted):
    before = list(client._sessions)
    task = opened.with_partner(*wanted)
    task.cancel()
    with pytest.raises(Cancelled):
        task.result(SECONDS)
    assert opened.detail(opened.opened.default_tap, 0).result(SECONDS)
    assert client._sessions == before


def test_after_a_kill_the_partner_is_opened_again_when_it_is_asked(client, opened, wanted):
    partner = opened.with_partner(*wanted).result(SECONDS)
    before = partner.activation(wanted[1], 3).result(SECONDS).array
    os.kill(client.worker_pid, signal.SIGKILL)
    after = partner.activation(wanted[1], 3).result(SECONDS).array
    assert np.array_equal(before, after)
    partner.close().result(SECONDS)


def test_what_a_partner_must_be_is_checked_by_name(opened, wanted):
    with pytest.raises((UsageError, WorkerError)):
        opened.with_partner(wanted[0], wanted[1], "not a hash").result(SECONDS)


def test_a_pack_beside_the_open_one_counts_before_an_installed_one_of_its_name(packs, monkeypatch, tmp_path):
    from MedSegLensLib.packs import installed

    (tmp_path / "tiny-segformer").mkdir()
    (tmp_path / "tiny-segformer" / "pack.json").write_text("{}")
    monkeypatch.setattr(installed, "pack_folders", lambda: (Path(tmp_path),))
    found = installed.find_partners("tiny-segformer", packs[0])
    assert found == [packs[1].folder, tmp_path / "tiny-segformer"]
