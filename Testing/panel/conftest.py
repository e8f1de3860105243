"""The true module in the Slicer host, with the true worker, a tiny pack and a small phantom.

torch is never imported in this process: the tiny pack is made by another one, as Slicer's would be.
"""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("slicer", reason="needs slicer-core: pip install medseglens[host]")

ROOT = Path(__file__).resolve().parents[2]
TESTING = ROOT / "Testing"
if str(TESTING) not in sys.path:
    sys.path.insert(0, str(TESTING))

from slicerhost.fixture import host  # noqa: E402, F401

MODULE = ROOT / "MedSegLens" / "MedSegLens.py"


@pytest.fixture(scope="session")
def tiny_pack(tmp_path_factory) -> Path:
    """A U-Net pack with random weights and 24 latents a lens; its pack.json says nothing of its place."""
    folder = tmp_path_factory.mktemp("packs") / "tiny"
    make = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(TESTING)!r}, {str(TESTING / 'editing')!r}]\n"
        f"from pathlib import Path; from tiny_packs import write_tiny_pack; import torch; torch.manual_seed(1)\n"
        f"write_tiny_pack('unet', Path({str(folder)!r}))"
    )
    subprocess.run([sys.executable, "-c", make], check=True, timeout=600)
    return folder


@pytest.fixture(scope="session")
def one_worker():
    """A worker client that outlives the tests that use it, so that torch is imported once."""
    from MedSegLensLib.worker.client import WorkerClient

    client = WorkerClient()
    client.start()
    yield client
    client.close()


@pytest.fixture
def widget(host, one_worker, monkeypatch, tmp_path):  # noqa: F811
    """The module's widget, opened in the host; its review uses the worker that all tests share. The reader's notes and
    comparisons lie in folders of the test."""
    from MedSegLensLib.panel import shared_review

    monkeypatch.setenv("MEDSEGLENS_NOTES", str(tmp_path / "notes"))
    monkeypatch.setenv("MEDSEGLENS_COMPARISONS", str(tmp_path / "comparisons"))
    monkeypatch.setattr(shared_review, "_makeClient", lambda: Kept(one_worker))
    widget = host.load_module(MODULE)
    host.show()
    return widget


class Kept:
    """A client that its review cannot close, since other tests go on with it."""

    def __init__(self, client):
        self._client = client

    def __getattr__(self, name):
        return getattr(self._client, name)

    def close(self):
        pass


@pytest.fixture
def panel(widget):
    return widget.panel


@pytest.fixture
def idle(host, widget):  # noqa: F811
    """Waits until nothing is under way."""

    def wait(seconds: float = 300) -> None:  # a minute is not enough on a machine that trains meanwhile
        host.wait(lambda: not len(widget.review.watch), seconds)
        host.process()

    return wait


@pytest.fixture
def phantom_in_scene(widget, panel, tiny_pack):
    """A small phantom chosen as the study, and the tiny pack."""
    from phantoms import SMALL

    from MedSegLensLib.panel import study_files

    panel.study._load(lambda: study_files.addPhantom(1, **SMALL))
    widget.parameters.pack = str(tiny_pack)
    widget.review.stateChanged.emit()
    return widget.parameters


@pytest.fixture
def opened(host, widget, panel, phantom_in_scene, idle):  # noqa: F811
    """The phantom segmented by Apply, its latents listed; gives the review."""
    host.click(panel.apply.ui.applyButton)
    idle()
    assert widget.review.isOpen, panel.apply.ui.messageLabel.text
    return widget.review
