"""What a reader does beyond files: DICOM, the doctor; a port that is taken, a full disk; with the real things."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import slicer
from phantoms import SMALL

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "Testing" / "cases"))
KEY = "a-key-for-tests-0123456789"


@pytest.fixture
def said(panel):
    return lambda: panel.apply.ui.messageLabel.text


def test_the_doctor_says_in_a_window_whether_this_machine_is_ready(host, panel):
    from PySide6 import QtWidgets

    host.click(panel.pack.ui.doctorButton)
    windows = [w for w in panel.pack.widget.findChildren(QtWidgets.QDialog) if w.isVisible()]
    texts = [browser.toPlainText() for w in windows for browser in w.findChildren(QtWidgets.QTextBrowser)]
    assert len(texts) == 1
    for part in ("torch", "memory", "Python"):
        assert part.lower() in texts[0].lower()


def test_a_port_that_is_taken_is_said_by_the_program_that_wants_it():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        told = subprocess.run(
            [sys.executable, "-m", "MedSegLensLib.cli", "serve", "--port", str(port)],
            cwd=ROOT,
            env=os.environ | {"MEDSEGLENS_KEY": KEY},
            capture_output=True,
            text=True,
        )
    assert told.returncode != 0 and str(port) in told.stderr and "Traceback" not in told.stderr


def test_without_room_for_shared_memory_a_study_goes_through_the_connection_and_this_is_said(
    host, widget, phantom_in_scene, panel, idle, said, monkeypatch
):
    """Files may not grow beyond 4 kB: writing the study's shared memory really fails, as on a full disk."""
    resource = pytest.importorskip("resource")  # Windows has no such limit
    host.wait(lambda: widget.review.hello is not None, 300)  # the worker is to run without that limit
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # Python 3.11 keeps what it wrote in part (gh-126606)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        host.click(panel.apply.ui.applyButton)
        idle()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert said().count("no room") == 1 and "through the connection instead" in said(), said()
    assert widget.review.isOpen and panel.apply.ui.applyButton.text == "Apply"


def test_a_folder_of_dicom_series_is_read_as_a_study(host, widget, panel, tmp_path, said):
    from test_dicom import write_series

    from MedSegLensLib.cases.phantom import phantom

    images = phantom(1, **SMALL).images
    for number, (modality, words) in enumerate(
        {"t1n": "AX T1", "t1c": "AX T1 post Gd", "t2w": "AX T2", "t2f": "AX FLAIR"}.items(), 3
    ):
        write_series(images[modality], tmp_path / modality, number, words)
    panel.study.loadFolder(str(tmp_path))
    host.process()
    chosen = {m: panel.study.selectors[m].currentNode() for m in images}
    assert all(chosen.values()), said()
    for modality, node in chosen.items():
        assert slicer.util.arrayFromVolume(node).shape == images[modality].GetSize()[::-1]
