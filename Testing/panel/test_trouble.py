"""Bad input and trouble, each tried: the panel says what happened and what to do, and stays usable."""

import http.server
import shutil
import socket
import threading

import numpy as np
import pytest
import slicer
from phantoms import SMALL

from MedSegLensLib.errors import WorkerError
from MedSegLensLib.worker.task import Task


@pytest.fixture
def said(panel):
    """What the panel's message line shows."""
    return lambda: panel.apply.ui.messageLabel.text


@pytest.fixture
def apply(host, panel, idle):  # noqa: F811
    def press() -> None:
        host.click(panel.apply.ui.applyButton)
        idle(120)

    return press


def load_phantom(panel, **arguments) -> None:
    from MedSegLensLib.panel import study_files  # needs the host that the fixtures start

    panel.study._load(lambda: study_files.addPhantom(1, **arguments))


def usable(panel) -> bool:
    return panel.apply.ui.applyButton.enabled and panel.apply.ui.applyButton.text in ("Apply", "Continue")


def resample(node, ijk_to_ras, shape) -> None:
    """Give a volume node another grid, filled from its middle."""
    array = np.zeros(shape, np.float32)
    old = slicer.util.arrayFromVolume(node)
    part = tuple(slice(0, min(a, b)) for a, b in zip(shape, old.shape, strict=True))
    array[part] = old[part]
    slicer.util.updateVolumeFromArray(node, array)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ijk_to_ras))


def matrix(node) -> np.ndarray:
    import vtk

    m = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(m)
    return slicer.util.arrayFromVTKMatrix(m)


# -- the study ------------------------------------------------------------------------------------------------------


def test_volumes_on_different_grids_are_warned_of_and_segmented(widget, panel, phantom_in_scene, apply, said):
    node = phantom_in_scene.t2f
    resample(node, matrix(node) @ np.diag([1.0, 1.0, 1.0, 1.0]) + np.eye(4)[:, 3:] @ [[0, 0, 0, 2.0]], (18, 50, 40))
    panel.study.update()
    assert "grid" in panel.study.ui.studyNotes.text
    apply()
    assert widget.review.isOpen, said()


@pytest.mark.parametrize(
    "how", ["oblique", *(pytest.param(how, marks=pytest.mark.slow) for how in ("flipped", "thick"))]
)
def test_flipped_oblique_and_thick_studies_are_segmented_where_they_lie(widget, panel, tiny_pack, apply, said, how):
    direction = {
        "flipped": (-1, 0, 0, 0, -1, 0, 0, 0, 1),
        "oblique": (0.96, 0.28, 0, -0.28, 0.96, 0, 0, 0, 1),
        "thick": (1, 0, 0, 0, 1, 0, 0, 0, 1),
    }[how]
    arguments = {"size": (48, 60, 28), "spacing": (3.5, 3.5, 5.0)} if how == "thick" else SMALL
    load_phantom(panel, direction=direction, **arguments)
    if how == "thick":
        assert "5 mm" in panel.study.ui.studyNotes.text
    widget.parameters.pack = str(tiny_pack)
    apply()
    assert widget.review.isOpen, said()
    assert np.allclose(widget.review.session.opened.ijk_to_ras, matrix(widget.parameters.t1n), atol=1e-3)
    assert np.allclose(widget.review.result.ijk_to_ras, matrix(widget.parameters.t1n), atol=1e-3)


def test_a_label_volume_chosen_as_image_is_warned_of(host, widget, panel, phantom_in_scene):
    labels = slicer.util.addVolumeFromArray(np.eye(40, dtype=np.uint8)[None].repeat(10, 0) * 3, None, "my drawing")
    panel.study.selectors["t1c"].setCurrentNode(labels)
    host.process()
    assert "looks like labels" in panel.study.ui.studyNotes.text


def test_apply_without_a_volume_says_what_to_do(host, panel, said):
    host.click(panel.apply.ui.applyButton)
    assert "Choose at least one volume" in said()
    assert usable(panel)


@pytest.mark.slow
def test_a_volume_deleted_while_segmenting(host, widget, panel, phantom_in_scene, idle, said):
    host.click(panel.apply.ui.applyButton)
    for modality in ("t1n", "t1c", "t2w", "t2f"):
        slicer.mrmlScene.RemoveNode(getattr(widget.parameters, modality))
    idle(120)
    assert "deleted while it was segmented" in said()
    assert widget.review.result.node is None
    assert usable(panel)


def test_the_scene_closed_while_segmenting(host, widget, panel, phantom_in_scene, tiny_pack, idle, apply, said):
    host.click(panel.apply.ui.applyButton)
    host.process(0.2)
    host.close_scene()
    idle(120)
    host.process(0.5)
    assert widget.review.result.node is None
    assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    assert usable(panel)
    load_phantom(panel, **SMALL)
    widget.parameters.pack = str(tiny_pack)
    apply()
    assert widget.review.isOpen, said()


def test_the_segmentation_deleted_by_the_user_is_said_at_the_next_edit(host, opened, panel, idle, said):
    slicer.mrmlScene.RemoveNode(opened.result.node)
    latent = panel.latents.listed()[0]
    opened.setStrength(latent.tap, latent.latent, 0.0)
    idle()
    assert "⚠" in said() and "Apply" in said()
    assert usable(panel)


# -- the pack -------------------------------------------------------------------------------------------------------


def test_a_pack_folder_that_is_gone(host, widget, panel, phantom_in_scene, apply, said, tmp_path):
    widget.parameters.pack = str(tmp_path / "no such pack")
    apply()
    assert "no such pack" in said()
    assert usable(panel)


@pytest.mark.slow
def test_a_saved_scene_whose_pack_is_gone_is_shown_all_the_same(
    host, widget, panel, phantom_in_scene, tiny_pack, apply, idle, said, tmp_path
):
    mine = shutil.copytree(tiny_pack, tmp_path / "my pack")
    widget.parameters.pack = str(mine)
    apply()
    latent = panel.latents.listed()[0]
    widget.review.setStrength(latent.tap, latent.latent, 0.0)
    idle()
    regions = panel.regions.ui.regionsTable.item(0, 2).text()
    host.save_scene(tmp_path / "scene.mrb")
    shutil.rmtree(mine)
    host.load_scene(tmp_path / "scene.mrb")
    host.process(0.2)
    assert panel.regions.ui.regionsTable.item(0, 2).text() == regions
    assert panel.apply.ui.applyButton.text == "Continue"
    apply()
    assert "my pack" in said()
    assert widget.review.isRestored and widget.review.result.node is not None
    assert [e.latent for e in widget.review.history.recipe.edits] == [latent.latent]


def test_a_pack_that_was_changed_since_asks_before_it_drops_the_edits(
    host, widget, panel, opened, idle, apply, said, monkeypatch
):
    latent = panel.latents.listed()[0]
    opened.setStrength(latent.tap, latent.latent, 0.0)
    idle()
    pack = dict(opened.session.opened.pack, hash="f" * 64, error=None)
    monkeypatch.setattr(type(opened), "chosenPack", lambda self: pack)
    host.answers.confirm = False
    host.click(panel.apply.ui.applyButton)
    assert "mean nothing in it" in host.messages[-1].text
    assert len(opened.history.recipe.edits) == 1 and not opened.isBusy
    host.answers.confirm = True
    apply()
    assert opened.history.recipe.edits == ()
    assert opened.isOpen


# -- the worker -----------------------------------------------------------------------------------------------------

TROUBLES = {
    "shared memory": WorkerError("the volumes", "there is no room for shared memory.", "Close other cases."),
    "memory": WorkerError("phantom-1", "the worker has no memory left.", "Close other programs."),
    "gpu": WorkerError("cuda", "this GPU is too old for the torch build.", "Choose the CPU, see the doctor."),
    "port": WorkerError("port 8443", "it is taken by another program.", "Give another one."),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_what_the_worker_says_is_shown_in_full(host, widget, panel, phantom_in_scene, said, monkeypatch, name):
    problem = TROUBLES[name]
    task = Task("opening")
    task._fail(problem)
    monkeypatch.setattr(widget.review.client, "open_case", lambda *a: task, raising=False)
    host.click(panel.apply.ui.applyButton)
    host.process(0.1)
    assert str(problem) in said()
    assert panel.apply.ui.messageLabel.wordWrap
    assert usable(panel)


class OtherProgram(http.server.BaseHTTPRequestHandler):
    """Something that answers, and is no worker of ours."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(b'{"protocol": 999, "version": "9.9"}')

    do_POST = do_GET

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("kind", ["no answer", "another program"])
def test_an_address_that_is_no_worker_is_named(host, widget, panel, phantom_in_scene, idle, said, monkeypatch, kind):
    from MedSegLensLib.panel import shared_review
    from MedSegLensLib.panel.worker_choice import WorkerDialog, chosenWorker
    from MedSegLensLib.worker.client import WorkerClient

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), OtherProgram)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    if kind == "no answer":
        server.shutdown()
        server.server_close()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]

    def enter(dialog):
        dialogs[-1].addressEdit.text = f"http://127.0.0.1:{port}"
        dialogs[-1].keyEdit.text = "a key that is long enough to be one"
        return 1

    dialogs = []
    made = WorkerDialog.__init__
    monkeypatch.setattr(WorkerDialog, "__init__", lambda self, parent: (made(self, parent), dialogs.append(self))[0])
    host.answers.dialogs = enter
    before = shared_review._makeClient

    def make():
        choice = chosenWorker()
        return WorkerClient(address=choice.address, key=choice.key) if choice.address else before()

    monkeypatch.setattr(widget.review, "_makeClient", make)
    host.click(panel.pack.ui.workerButton)
    idle(120)
    assert str(port) in said() and "⚠" in said()
    host.answers.dialogs = lambda dialog: (setattr(dialogs[-1].addressEdit, "text", ""), 1)[1]
    host.click(panel.pack.ui.workerButton)
    idle(120)
    assert widget.review.hello is not None, "back to this computer"
    assert usable(panel)
    if kind == "another program":
        server.shutdown()


def test_a_worker_killed_while_editing_is_one_line_and_nothing_is_lost(host, widget, opened, panel, idle, said):
    import os
    import signal

    latent = panel.latents.listed()[0]
    opened.setStrength(latent.tap, latent.latent, 0.0)
    idle()
    pid = opened.client._process.pid
    os.kill(pid, signal.SIGKILL)
    opened.setStrength(latent.tap, latent.latent, 3.0)
    idle(180)
    assert [e.value for e in opened.history.recipe.edits] == [3.0]
    assert said().count("again") == 1, said()
    assert (opened.result.labels() == _whole(opened)).all()


def _whole(review) -> np.ndarray:
    """The labels that the session itself gives for the recipe in force."""
    edited = review.session.edit(review.history.recipe).result(120)
    labels = review.session.opened.labels.copy()
    if edited.box is not None:
        labels[edited.box.slices] = edited.box.labels
    return labels


# -- dependencies ---------------------------------------------------------------------------------------------------


def test_dependencies_refused_by_the_user(host, widget, panel, phantom_in_scene, said, monkeypatch):
    from slicerhost import packaging

    from MedSegLensLib.panel import dependencies

    monkeypatch.setattr(dependencies, "PACKAGES", (*dependencies.PACKAGES, ("surely-not-installed", "1.0")))
    host.answers.confirm = False
    host.click(panel.apply.ui.applyButton)
    assert "surely-not-installed>=1.0" in host.messages[-1].text
    assert "as you chose" in said()
    assert packaging.requested == []
    assert usable(panel)


def test_dependencies_are_asked_for_at_apply_and_never_on_opening(host, widget, panel, phantom_in_scene, monkeypatch):
    from slicerhost import packaging

    from MedSegLensLib.panel import dependencies

    assert not host.messages
    monkeypatch.setattr(dependencies, "PACKAGES", (*dependencies.PACKAGES, ("surely-not-installed", "1.0")))
    host.answers.confirm = True
    host.click(panel.apply.ui.applyButton)
    assert packaging.requested == [["surely-not-installed>=1.0"]]
    assert "still missing" in panel.apply.ui.messageLabel.text
    assert usable(panel)


def test_constraints_keep_slicers_own_packages_and_take_wheels_only(widget):
    from MedSegLensLib.panel.dependencies import constraintsText

    lines = constraintsText().splitlines()
    assert lines[0] == "--only-binary :all:"
    assert f"numpy=={np.__version__}" in lines
    assert any(line.startswith("SimpleITK==") for line in lines)


# -- saved scenes ---------------------------------------------------------------------------------------------------


def test_a_saved_scene_shows_everything_before_anything_is_computed(host, widget, opened, panel, idle, apply, tmp_path):
    latent = panel.latents.listed()[1]
    panel.latents.ui.latentsTable.selectRow(1)
    opened.setStrength(latent.tap, latent.latent, 0.0)
    idle()
    labels = opened.result.labels()
    rows = [r.latent for r in panel.latents.listed()[:10]]
    host.save_scene(tmp_path / "scene.mrb")
    host.close_scene()
    assert panel.regions.ui.regionsTable.rowCount == 0
    host.load_scene(tmp_path / "scene.mrb")
    host.process(0.2)
    review = widget.review
    assert review.isRestored and not len(review.watch), "nothing is asked of the worker"
    assert (review.result.labels() == labels).all()
    assert [r.latent for r in panel.latents.listed()[:10]] == rows
    assert review.overlays.scene.shown(0) and review.overlays.slotOf(latent.tap, latent.latent) == 0
    assert panel.edits.ui.editsTable.item(0, 1).text() == "suppressed"
    assert panel.study.selectors["t1n"].currentNode().GetName() == "phantom-1 t1n"
    assert panel.apply.ui.applyButton.text == "Continue"
    apply()
    assert (review.result.labels() == labels).all(), "the recipe is replayed"
    assert panel.apply.ui.applyButton.text == "Apply"
