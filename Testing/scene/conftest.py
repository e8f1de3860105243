"""A Slicer scene without the application: MRML, logics and slice views drawn off screen."""

import types

import pytest

pytest.importorskip("slicer", reason="needs slicer-core: pip install medseglens[host]")

import slicer  # noqa: E402
import slicer.util  # noqa: E402
from offscreen import Application  # noqa: E402


@pytest.fixture(scope="session")
def application():
    """Application logic and three slice views, as Slicer has them; one for all tests, as Slicer has one."""
    before = getattr(slicer, "mrmlScene", None)
    application = Application()
    slicer.mrmlScene = before
    return application


@pytest.fixture
def scene(application, monkeypatch):
    """The scene, empty but for the views. Other rooms' tests have the host's application in the same process."""
    app = {"pauseRender": application.logic.PauseRender, "resumeRender": application.logic.ResumeRender}
    segmentations = types.SimpleNamespace(logic=lambda: application.segmentations)
    monkeypatch.setattr(slicer, "app", types.SimpleNamespace(**app), raising=False)
    monkeypatch.setattr(slicer, "modules", types.SimpleNamespace(segmentations=segmentations), raising=False)
    monkeypatch.setattr(slicer, "mrmlScene", application.scene, raising=False)
    application.clear()
    yield application.scene
    application.clear()


@pytest.fixture
def views(scene, application):
    """The slice views by name: Red (axial), Yellow (sagittal), Green (coronal)."""
    return application.views


@pytest.fixture
def owner(scene):
    """A module's parameter node."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "MedSegLens")
    node.SetAttribute("ModuleName", "MedSegLens")
    return node
