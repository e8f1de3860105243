"""What a latent is called, by the catalogue and by the reader; what the details tell of it; notes that stay."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from MedSegLensLib.panel.latent_list import COLUMNS

ROOT = Path(__file__).resolve().parents[2]
NAME = COLUMNS.index("name")
FAVOURITES, STABLE, NAMED = 6, 7, 5
RIM, UNCLEAR, UNSTABLE, PLAIN = 3, 4, 5, 6
"""Latents of the pack: named and stable, unclear, without a name since it is not stable, as an old catalogue has it."""

ROWS = """
from atlas_sample import full_rows, pack_with_catalogue
from pathlib import Path
rows = full_rows()
rows[3]["examples"] = [dict(case="phantom-1", slice=9, row=20, column=30, value=4.0),
                       dict(case="another", slice=5, row=1, column=2, value=3.0)]
rows[5] |= dict(name="unclear", stability=0.2)
pack_with_catalogue("unet", Path(FOLDER), rows)
"""


@pytest.fixture(scope="session")
def tiny_pack(tmp_path_factory) -> Path:
    """In place of the room's: a pack with a catalogue, made by another process, so that this one has no torch."""
    folder = tmp_path_factory.mktemp("named")
    paths = [str(ROOT), *(str(ROOT / "Testing" / room) for room in ("", "editing", "reports"))]
    make = f"import sys; sys.path[:0] = {paths!r}; FOLDER = {str(folder)!r}\n{ROWS}"
    subprocess.run([sys.executable, "-c", make], check=True, timeout=600)
    return folder / "pack"


@pytest.fixture
def names(panel):
    """The names in the table, by latent."""

    def read() -> dict[int, str]:
        table = panel.latents.ui.latentsTable
        keys = panel.latents.table._keys
        return {latent: table.item(row, NAME).text() for row, (_tap, latent) in enumerate(keys)}

    return read


@pytest.fixture
def detailed(panel, opened, idle):
    """Selects a latent by its number and waits for its details; gives their text."""

    def choose(latent: int) -> str:
        panel.details.widget.collapsed = False
        panel.latents.select(panel.latents.tap, latent)
        idle()
        return panel.details.ui.detailsText.text

    return choose


def test_the_table_shows_names_and_says_which_are_unclear_or_not_stable(opened, names):
    shown = names()
    assert shown[RIM] == "FLAIR-bright rim outside the <enhancing> tumour"
    assert shown[UNCLEAR] == "not stable · 60% in enhancing tumour"  # of two reasons the graver one
    assert shown[UNSTABLE] == "not stable · 100% in brain outside the tumour"
    assert shown[PLAIN] == "100% in brain outside the tumour"


def test_the_tip_of_a_name_tells_where_it_fires_and_whether_it_is_stable(opened, panel):
    rows = [latent for _tap, latent in panel.latents.table._keys]
    item = panel.latents.ui.latentsTable.item(rows.index(RIM), NAME)
    assert "80% in edema" in item.toolTip()
    assert "stable over seeds (0.83)" in item.toolTip()


def test_search_finds_names_and_filters_the_named_and_the_stable(host, opened, panel):
    ui = panel.latents.ui
    host.type(ui.searchBox, "bright rim")
    assert [r.latent for r in panel.latents.listed()] == [RIM]
    host.type(ui.searchBox, "enhancing tumour")
    assert {r.latent for r in panel.latents.listed()} == {RIM, UNCLEAR}  # by its name, and by its place
    host.type(ui.searchBox, "")
    for entry in (NAMED, STABLE):
        ui.filterComboBox.setCurrentIndex(entry)
        assert [r.latent for r in panel.latents.listed()] == [RIM]


def test_details_tell_the_evidence_and_how_the_name_was_tested(panel, detailed):
    text = detailed(RIM)
    assert "FLAIR-bright rim" in panel.details.ui.detailsTitle.text
    for words in (
        "80 % of it lies in edema; FLAIR is 1.8 sd brighter there.",
        "balanced accuracy 0.79",
        "found again by other seeds (cosine 0.83)",
        "12.5 mL",
        "ED 0.91, WT 0.88",
        "log odds of WT -1.25",
        "FLAIR-bright rim outside the &lt;enhancing&gt; tumour",
    ):
        assert words in text, words
    assert "not found again by other seeds (cosine 0.31)" in detailed(UNCLEAR)


def test_relatives_are_links_that_select_the_latent(panel, detailed, idle):
    text = detailed(RIM)
    assert f'<a href="latent:{UNCLEAR}">{UNCLEAR}: 60% in enhancing tumour</a>' in text
    panel.latents.ui.searchBox.text = "bright rim"  # hides the other one
    panel.details.ui.detailsText.linkActivated(f"latent:{UNCLEAR}")
    idle()
    assert panel.latents.current[1] == UNCLEAR
    assert f"Latent {UNCLEAR} of" in panel.details.ui.detailsTitle.text
    assert panel.latents.ui.searchBox.text == ""


def test_an_example_in_the_open_case_is_a_link_to_its_place(opened, panel, detailed):
    from MedSegLensLib.scene import views

    text = detailed(RIM)
    assert '<a href="example:0">phantom-1, slice 9 (from 0)</a> (this case)' in text
    assert "<br>another, slice 5 (from 0)" in text
    panel.details.ui.detailsText.linkActivated("example:0")
    assert np.allclose(views.crosshair_ras(), (opened.session.opened.ijk_to_ras @ (30, 20, 9, 1))[:3], atol=0.5)


def test_a_name_that_is_typed_replaces_the_catalogues_and_is_kept(host, opened, panel, detailed, names, tmp_path):
    detailed(RIM)
    host.type(panel.details.ui.noteNameEdit, "my ring")
    assert names()[RIM] == "my ring"
    assert panel.details.ui.detailsTitle.text.endswith(": my ring")
    (file,) = (tmp_path / "notes").iterdir()
    (note,) = json.loads(file.read_text())["notes"]
    assert (note["latent"], note["name"], note["favourite"]) == (RIM, "my ring", False)
    host.type(panel.latents.ui.searchBox, "ring")
    assert [r.latent for r in panel.latents.listed()] == [RIM]
    host.type(panel.latents.ui.searchBox, "")
    detailed(PLAIN)
    assert panel.details.ui.noteNameEdit.text == ""
    detailed(RIM)
    assert panel.details.ui.noteNameEdit.text == "my ring"
    host.type(panel.details.ui.noteNameEdit, "")
    assert names()[RIM].startswith("FLAIR-bright rim")


def test_a_favourite_has_a_star_and_a_filter(host, opened, panel, detailed, names):
    detailed(PLAIN)
    host.click(panel.details.ui.favouriteCheckBox)
    assert names()[PLAIN] == "★ 100% in brain outside the tumour"
    panel.latents.ui.filterComboBox.setCurrentIndex(FAVOURITES)
    assert [r.latent for r in panel.latents.listed()] == [PLAIN]
    host.click(panel.details.ui.favouriteCheckBox)
    assert panel.latents.listed() == []


def test_a_comment_is_kept_while_typing_goes_on_and_found_by_search(host, opened, panel, detailed):
    detailed(PLAIN)
    host.type(panel.details.ui.noteCommentEdit, "as in the case of May")
    detailed(RIM)  # at once, before the pause that keeps it
    assert panel.details.ui.noteCommentEdit.plainText == ""
    host.type(panel.latents.ui.searchBox, "of May")
    assert [r.latent for r in panel.latents.listed()] == [PLAIN]
    host.type(panel.latents.ui.searchBox, "")
    detailed(PLAIN)
    assert panel.details.ui.noteCommentEdit.plainText == "as in the case of May"
    host.type(panel.details.ui.noteCommentEdit, "another word")
    host.wait(lambda: opened.notes.of(panel.latents.tap, PLAIN).comment == "another word", 60)


def test_notes_come_back_with_the_next_case_and_are_exported(host, opened, panel, detailed, names, idle, tmp_path):
    detailed(RIM)
    host.type(panel.details.ui.noteNameEdit, "my ring")
    host.click(panel.apply.ui.applyButton)
    idle()
    assert names()[RIM] == "my ring"
    assert not panel.details.ui.noteNameEdit.enabled, "no latent is chosen yet"
    host.answers.files.append(str(tmp_path / "notes.csv"))
    host.click(panel.details.ui.exportNotesButton)
    assert "my ring" in (tmp_path / "notes.csv").read_text()
    assert "notes.csv" in panel.apply.ui.messageLabel.text


def test_a_file_of_notes_that_cannot_be_read_is_said_and_left_alone(
    host, panel, phantom_in_scene, widget, idle, tmp_path
):
    (tmp_path / "notes").mkdir()
    file = tmp_path / "notes" / "tiny-unet.notes.json"
    file.write_text("{ half a file")
    host.click(panel.apply.ui.applyButton)
    idle()
    assert widget.review.isOpen
    assert "tiny-unet.notes.json" in panel.apply.ui.messageLabel.text
    panel.details.widget.collapsed = False
    panel.latents.select(panel.latents.tap, RIM)
    idle()
    assert not panel.details.ui.noteNameEdit.enabled
    assert file.read_text() == "{ half a file"
