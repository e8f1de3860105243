"""What comparisons say of a latent: a badge, its evidence, a filter, and the partner in the other pack beside it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import slicer

from MedSegLensLib.packs.comparisons import (
    ComparedCohort,
    PackComparison,
    PackFinding,
    PartnerPack,
    save_comparison,
)
from MedSegLensLib.panel.latent_list import COLUMNS

ROOT = Path(__file__).resolve().parents[2]
BADGE = COLUMNS.index("badge")
SHARED, PARTLY, NOISE, ALONE, BACKBONE, ABSENT, RETRAINED, UNDECIDED = range(8)
"""Latents of the pack, by what is said of them."""
PARTNERS = {SHARED: 5, PARTLY: 9}
NEAREST = 12

MAKE = """
import json, torch
from pathlib import Path
from tiny_packs import write_tiny_pack
from MedSegLensLib.packs.comparisons import ComparedCohort, PackComparison, PackFinding
from MedSegLensLib.packs.notes import lens_hash
from MedSegLensLib.packs.shipped_comparisons import with_comparisons
folder = Path(FOLDER)
torch.manual_seed(1)
unet = write_tiny_pack("unet", folder / "bare")
segformer = write_tiny_pack("segformer", folder / "tiny-segformer")
lenses = {p.info.name: {tap: lens_hash(p.info, tap) for tap in p.taps} for p in (unet, segformer)}
tap = unet.default_tap
finding = PackFinding(lenses["tiny-unet"][tap], tap, BACKBONE, "backbone", "Effect size 0.02.", null=0.4)
cohorts = (ComparedCohort("adults", 9), ComparedCohort("children", 7, simulated=True))
shipped = PackComparison("tiny-unet", "cohorts", ("adults", "children"), cohorts, None, "2026-11-21", (), (finding,))
with_comparisons(unet, [shipped], folder / "tiny-unet")
(folder / "lenses.json").write_text(json.dumps(lenses))
"""


@pytest.fixture(scope="session")
def two_packs(tmp_path_factory) -> Path:
    """A folder with two packs, one of them shipped with a comparison; made by another process, so that this one has no
    torch."""
    folder = tmp_path_factory.mktemp("compared")
    paths = [str(ROOT), *(str(ROOT / "Testing" / room) for room in ("", "editing"))]
    make = f"import sys; sys.path[:0] = {paths!r}; FOLDER, BACKBONE = {str(folder)!r}, {BACKBONE}\n{MAKE}"
    subprocess.run([sys.executable, "-c", make], check=True, timeout=600)
    return folder


@pytest.fixture(scope="session")
def tiny_pack(two_packs) -> Path:
    """In place of the room's."""
    return two_packs / "tiny-unet"


@pytest.fixture
def compared(widget, two_packs):
    """The reader's own comparisons of the pack, kept before the case opens."""
    lenses = json.loads((two_packs / "lenses.json").read_text())
    own, other = lenses["tiny-unet"], lenses["tiny-segformer"]
    (tap, lens), (partner_tap, *_rest) = next(iter(own.items())), list(other)

    def say(latent: int, category: str, **more) -> PackFinding:
        evidence = f"The correlation of latent {latent} with its best match is 0.82 (0.74 to 0.88)."
        return PackFinding(lens, tap, latent, category, evidence, **({"null": 0.21} | more))

    def keep(partner: PartnerPack, *findings: PackFinding) -> None:
        cohort = ComparedCohort("phantoms", 3, invented=True)
        save_comparison(
            PackComparison("tiny-unet", "models", (partner.name,), (cohort,), partner, "2026-11-21", (), findings)
        )

    matched = {latent: {"partner_tap": partner_tap, "partner_latent": j} for latent, j in PARTNERS.items()}
    keep(
        PartnerPack("tiny-segformer", "1.0.0", other),
        say(SHARED, "shared", **matched[SHARED]),
        say(PARTLY, "partly shared", **matched[PARTLY]),
        say(NOISE, "not distinguishable from seed noise", partner_tap=partner_tap, partner_latent=NEAREST),
        say(ALONE, "specific", specific_to="tiny-unet"),
        say(BACKBONE, "shared", **matched[SHARED]),
        say(UNDECIDED, "undecided"),
    )
    keep(PartnerPack("absent", "1.0.0", {"t": "a" * 64}), say(ABSENT, "shared", partner_tap="t", partner_latent=1))
    keep(
        PartnerPack("tiny-segformer", "0.9.0", {partner_tap: "b" * 64}),
        say(RETRAINED, "shared", partner_tap=partner_tap, partner_latent=1),
    )
    return partner_tap


@pytest.fixture
def opened(compared, opened):
    """The room's, with the comparisons in place."""
    return opened


@pytest.fixture
def badges(panel):
    """The badges in the table, by latent."""

    def read() -> dict[int, str]:
        table = panel.latents.table
        return {latent: table.table.item(row, BADGE).text() for row, (_tap, latent) in enumerate(table._keys)}

    return read


@pytest.fixture
def choose(panel, opened, idle):
    """Selects a latent by its number, as a click does."""

    def select(latent: int) -> None:
        panel.latents.select(panel.latents.tap, latent)
        idle()

    return select


@pytest.fixture
def line(panel):
    return lambda: panel.latents.ui.partnerLabel.text


def test_a_badge_is_a_sign_and_a_word_and_its_tip_tells_the_evidence_and_its_null(opened, panel, badges):
    shown = badges()
    assert shown[SHARED] == "● shared"
    assert shown[PARTLY] == "◐ partly shared"
    assert shown[NOISE] == "? seed noise?"
    assert shown[ALONE] == "▲ specific"
    assert shown[BACKBONE] == "● shared\n■ backbone", "of two comparisons, one shipped with the pack"
    assert shown[UNDECIDED] == "" and shown[10] == ""
    assert not panel.latents.ui.latentsTable.isColumnHidden(BADGE)
    rows = [latent for _tap, latent in panel.latents.table._keys]
    tip = panel.latents.ui.latentsTable.item(rows.index(SHARED), BADGE).toolTip()
    assert "Shared with tiny-segformer" in tip.replace("● s", "S")
    for words in ("0.82 (0.74 to 0.88)", "The null reaches 0.21", "3 cases of phantoms (phantoms, not patients)"):
        assert words in tip, words
    tip = panel.latents.ui.latentsTable.item(rows.index(BACKBONE), BADGE).toolTip()
    assert "Effect size 0.02" in tip and "children (simulated acquisitions)" in tip
    tip = panel.latents.ui.latentsTable.item(rows.index(UNDECIDED), BADGE).toolTip()
    assert "Undecided" in tip


def test_details_tell_what_comparisons_found(opened, panel, choose):
    panel.details.widget.collapsed = False
    choose(ALONE)
    assert "specific to tiny-unet" in panel.details.ui.detailsText.text


def test_without_comparisons_nothing_of_them_is_to_be_seen(host, widget, panel, phantom_in_scene, idle, two_packs):
    phantom_in_scene.pack = str(two_packs / "tiny-segformer")
    host.click(panel.apply.ui.applyButton)
    idle()
    ui = panel.latents.ui
    assert widget.review.isOpen and ui.latentsTable.isColumnHidden(BADGE)
    assert not any(part.visible for part in (ui.badgeComboBox, ui.partnerButton, ui.partnerLabel))


def test_latents_are_filtered_by_badge_beside_the_search(host, opened, panel):
    ui = panel.latents.ui
    entries = [ui.badgeComboBox.itemText(n) for n in range(ui.badgeComboBox.count)]
    assert entries[0] == "any badge" and "● shared with tiny-segformer" in entries
    assert "■ backbone: alike in adults and children" in entries and "▲ specific to tiny-unet" in entries
    ui.badgeComboBox.setCurrentIndex(entries.index("● shared with tiny-segformer"))
    assert {row.latent for row in panel.latents.listed()} == {SHARED, BACKBONE, RETRAINED}
    host.type(ui.searchBox, str(BACKBONE))
    assert [row.latent for row in panel.latents.listed()] == [BACKBONE]
    host.type(ui.searchBox, "")
    panel.latents.select(panel.latents.tap, ALONE)
    assert ui.badgeComboBox.currentIndex == 0, "a filter that hides what is to be selected gives way"
    ui.tapComboBox.setCurrentIndex(1)
    assert ui.badgeComboBox.count == 1 and not ui.badgeComboBox.visible, "nothing was compared at the other lens"


def test_the_partner_is_shown_beside_the_latent_in_a_colour_of_its_own(
    host, opened, panel, idle, choose, line, compared
):
    choose(SHARED)
    host.click(panel.latents.ui.partnerButton)
    idle()
    overlays = opened.overlays.scene
    assert overlays.key_of(0) == f"{panel.latents.tap}/{SHARED}"
    assert overlays.key_of(1) == f"partner:tiny-segformer/{compared}/{PARTNERS[SHARED]}"
    assert overlays.shown(0) and overlays.shown(1) and overlays.colour(0) != overlays.colour(1)
    alone = opened.partner._sessions["tiny-segformer"].activation(compared, PARTNERS[SHARED]).result(300)
    assert np.array_equal(slicer.util.arrayFromVolume(overlays.node(1)), alone.array) and alone.maximum > 0
    assert f"latent {PARTNERS[SHARED]} ({compared})" in line() and "mL of this case" in line() and "■" in line()
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        assert composite.GetNthLayerVolumeID(3) == overlays.node(1).GetID(), "linked: in every view, on the same slice"

    from MedSegLensLib.scene import views

    panel.latents.ui.partnerLabel.linkActivated("peak")
    assert np.allclose(views.crosshair_ras(), opened.partner.peak, atol=0.5)


def test_the_partner_goes_along_with_the_selection_and_the_case_is_opened_once(
    host, opened, panel, idle, choose, line, compared, monkeypatch
):
    asked = []
    real = type(opened.session).with_partner
    monkeypatch.setattr(
        type(opened.session), "with_partner", lambda self, *a: (asked.append(a), real(self, *a))[1], raising=True
    )
    overlays = opened.overlays.scene
    choose(SHARED)
    host.click(panel.latents.ui.partnerButton)
    idle()
    choose(PARTLY)
    assert overlays.key_of(1).endswith(f"/{PARTNERS[PARTLY]}") and overlays.shown(1)
    choose(ALONE)
    assert not overlays.shown(1) and "no partner" in line()
    choose(SHARED)
    assert overlays.key_of(1).endswith(f"/{PARTNERS[SHARED]}") and overlays.shown(1)
    assert len(asked) == 1
    host.click(panel.latents.ui.partnerButton)
    idle()
    assert not overlays.shown(1) and overlays.shown(0) and line() == "● shared with tiny-segformer"
    choose(ALONE)
    assert not panel.latents.ui.partnerButton.enabled


@pytest.mark.slow
def test_without_a_partner_the_nearest_latent_is_shown_and_called_so(host, opened, panel, idle, choose, line):
    choose(NOISE)
    assert panel.latents.ui.partnerButton.text == "Show nearest"
    host.click(panel.latents.ui.partnerButton)
    idle()
    assert "No partner, only the nearest: tiny-segformer, latent 12" in line()
    assert opened.overlays.scene.node(1).GetName().startswith("nearest: latent 12 of tiny-segformer (")
    choose(SHARED)
    assert panel.latents.ui.partnerButton.text == "Show partner" and "only the nearest" not in line()


@pytest.mark.slow
def test_a_second_overlay_of_the_readers_stays_where_it_is(host, opened, panel, idle, choose):
    choose(SHARED)
    opened.overlays.toggle(panel.latents.tap, ALONE)
    idle()
    host.click(panel.latents.ui.partnerButton)
    idle()
    overlays = opened.overlays.scene
    assert overlays.key_of(1) == f"{panel.latents.tap}/{ALONE}" and overlays.shown(1)
    assert overlays.key_of(2).startswith("partner:tiny-segformer/") and overlays.shown(2)


def test_a_partner_pack_that_is_not_there_is_told(host, opened, panel, idle, choose, line):
    choose(ABSENT)
    host.click(panel.latents.ui.partnerButton)
    idle()
    assert "not installed where the worker runs" in line()
    assert "not installed" in panel.apply.ui.messageLabel.text
    assert not panel.latents.ui.partnerButton.checked and panel.latents.ui.partnerButton.enabled
    assert opened.isOpen and opened.overlays.scene.shown(0)


@pytest.mark.parametrize("open_before", [False, True])
def test_a_partner_whose_lens_was_trained_since_is_told(host, opened, panel, idle, choose, line, open_before):
    if open_before:
        choose(SHARED)
        host.click(panel.latents.ui.partnerButton)
        idle()
        choose(RETRAINED)
    else:
        choose(RETRAINED)
        host.click(panel.latents.ui.partnerButton)
        idle()
    assert "was trained anew since the packs were compared" in line()
    assert not opened.overlays.scene.shown(1)


@pytest.mark.slow
def test_the_partner_survives_the_worker(host, opened, panel, idle, choose, line, one_worker):
    choose(SHARED)
    host.click(panel.latents.ui.partnerButton)
    idle()
    pid = one_worker.worker_pid
    os.kill(pid, signal.SIGKILL)
    host.wait(lambda: one_worker.worker_pid not in (pid, None), 300)
    choose(PARTLY)
    assert opened.overlays.scene.key_of(1).endswith(f"/{PARTNERS[PARTLY]}") and opened.overlays.scene.shown(1)
    assert f"latent {PARTNERS[PARTLY]}" in line()


@pytest.mark.slow
def test_another_case_lets_go_of_the_partner(host, opened, panel, idle, choose, one_worker):
    choose(SHARED)
    host.click(panel.latents.ui.partnerButton)
    idle()
    held = len(one_worker._sessions)
    host.click(panel.apply.ui.applyButton)
    idle()
    host.wait(lambda: len(one_worker._sessions) == held - 1, 60)
    assert not opened.partner.isOn and not opened.overlays.scene.shown(1)
    choose(SHARED)
    host.click(panel.latents.ui.partnerButton)
    idle()
    assert opened.overlays.scene.shown(1)


def test_giving_up_while_the_other_pack_opens_leaves_nothing_behind(host, opened, panel, idle, choose, line):
    choose(SHARED)
    host.click(panel.latents.ui.partnerButton)
    host.click(panel.latents.ui.partnerButton)
    idle()
    assert not opened.partner.isOn and not opened.overlays.scene.shown(1)
    assert line() == "● shared with tiny-segformer"
    host.click(panel.latents.ui.partnerButton)
    idle()
    assert opened.overlays.scene.shown(1)


def test_a_saved_scene_shows_badges_and_partner_before_anything_is_computed(
    host, widget, opened, panel, idle, choose, badges, tmp_path
):
    choose(SHARED)
    host.click(panel.latents.ui.partnerButton)
    idle()
    before, name = badges(), opened.overlays.scene.node(1).GetName()
    host.save_scene(tmp_path / "scene.mrb")
    host.close_scene()
    host.load_scene(tmp_path / "scene.mrb")
    host.process(0.2)
    review = widget.review
    assert review.isRestored and not len(review.watch)
    assert badges() == before
    assert review.overlays.scene.shown(1) and review.overlays.scene.node(1).GetName() == name
    panel.latents.select(panel.latents.tap, SHARED)
    host.click(panel.latents.ui.partnerButton)
    assert "Press Continue first" in panel.apply.ui.messageLabel.text and not panel.latents.ui.partnerButton.checked


def test_a_file_of_comparisons_that_cannot_be_read_is_said(host, panel, widget, phantom_in_scene, idle, tmp_path):
    folder = tmp_path / "comparisons" / "tiny-unet"
    folder.mkdir(parents=True)
    (folder / "half.json").write_text("{ half")
    host.click(panel.apply.ui.applyButton)
    idle()
    assert widget.review.isOpen and "half.json" in panel.apply.ui.messageLabel.text
