"""MedSegLens: see what a tumour segmenter sees, as latents on the anatomy, and change its mind in place.

The module's shell: parameter node, widget, logic, self-test. What the sections of the panel do is in
MedSegLensLib/panel, what they put into the scene in MedSegLensLib/scene; torch runs in a process of its own.
"""

import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import qt
import slicer
from slicer import vtkMRMLDisplayableNode, vtkMRMLMarkupsROINode, vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

try:
    import MedSegLensLib  # noqa: F401
except ModuleNotFoundError:  # a plain checkout: the library lies beside the module's folder
    sys.path.append(str(Path(__file__).resolve().parents[1]))

POLL_MS = 25
"""How often the worker's answers are looked at: unseen by the eye, and nothing when idle."""


class MedSegLens(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("MedSegLens")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.contributors = ["MedSegLens contributors"]
        parent.helpText = _(
            "Segments a glioma study, shows the segmenter's latents (sparse-autoencoder features) over the anatomy, "
            "and segments again in place while their strength is changed. Research software, not a medical device."
        )
        parent.acknowledgementText = _("After Med-SegLens, arXiv:2602.10508. Data: BraTS 2021, CC BY 4.0.")
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData():
    from MedSegLensLib.panel import study_files

    study_files.registerSampleData()


@parameterNodeWrapper
class MedSegLensParameterNode:
    """All that is saved with the scene; nodes made by MedSegLens are further references of the same node.

    pack: name or path; recipe: its JSON; found: volumes and latents as last seen (SavedReview), for showing a saved
    scene before anything is computed. overlayThreshold is in percent of an overlay's maximum.
    """

    t1n: vtkMRMLScalarVolumeNode
    t1c: vtkMRMLScalarVolumeNode
    t2w: vtkMRMLScalarVolumeNode
    t2f: vtkMRMLScalarVolumeNode
    reference: vtkMRMLDisplayableNode
    roi: vtkMRMLMarkupsROINode
    pack: str = ""
    packVersion: str = ""
    packHash: str = ""
    recipe: str = ""
    found: str = ""
    tap: str = ""
    rank: str = "activity"
    latent: int = -1
    pinned: str = ""
    overlayOpacity: Annotated[float, WithinRange(0, 1)] = 0.6
    overlayThreshold: Annotated[float, WithinRange(0, 100)] = 10.0


class MedSegLensWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: one section under the other, each in a file of its own."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.parameters = self.panel = self.review = None

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        from MedSegLensLib.panel.panel import Panel

        self.logic = MedSegLensLogic()
        self.review = self.logic.review
        self.panel = Panel(self.review, lambda name: slicer.util.loadUI(self.resourcePath(f"UI/{name}.ui")))
        self.panel.layOut(self.layout)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEndImport)
        self.timer = qt.QTimer()
        self.timer.setInterval(POLL_MS)
        self.timer.connect("timeout()", self.panel.tick)
        self.timer.start()
        self.setParameterNode(self.logic.getParameterNode())

    def enter(self):
        """The reader opens the module."""
        if self.parameters is None:
            self.setParameterNode(self.logic.getParameterNode())
        self.panel.enter(self.parent.window())

    def exit(self):
        """The reader goes to another module: keys are free again, what is under way goes on."""
        self.panel.exit()

    def cleanup(self):
        """The module is closed or reloaded."""
        if self.panel is not None:
            self.timer.stop()
            self.panel.exit()
            self.setParameterNode(None)
            self.panel.close()
            self.panel = None
            self.logic.release()
        self.removeObservers()

    def onReload(self):
        """Reload the library too: Slicer reloads this file alone."""
        for name in [n for n in sys.modules if n.split(".")[0] == "MedSegLensLib"]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def onSceneStartClose(self, _caller, _event):
        self.setParameterNode(None)
        self.review.leave()

    def onSceneEndClose(self, _caller, _event):
        if self.parent.isEntered:
            self.setParameterNode(self.logic.getParameterNode())

    def onSceneEndImport(self, _caller, _event):
        # Node selectors learn of the import after this observer: until then they cannot show its nodes.
        qt.QTimer.singleShot(0, self.onImported)

    def onImported(self):
        if self.panel is not None:
            self.setParameterNode(self.logic.getParameterNode(), anew=True)

    def setParameterNode(self, parameters, anew=False):
        """Show the work that a parameter node holds; None disconnects the panel from the scene; anew: it was loaded."""
        self.panel.disconnectFrom(self.parameters)
        self.parameters = parameters
        if parameters is not None:
            self.review.attach(parameters, anew)
            self.panel.connectTo(parameters)


class MedSegLensLogic(ScriptedLoadableModuleLogic):
    """The review of the scene's case, shared by all widgets of the module; usable from scripts without one.

    >>> logic = MedSegLensLogic()
    >>> labels = logic.process({"t2f": flairNode}, "glioma-segformer")
    """

    def __init__(self):
        ScriptedLoadableModuleLogic.__init__(self)
        from MedSegLensLib.panel import shared_review

        self._shared = shared_review  # kept: after a reload there is another module of this name
        self.review = shared_review.takeReview()

    def release(self):
        """Let go of the review; with its last user the worker ends."""
        if self.review is not None:
            self._shared.releaseReview()
        self.review = None

    def getParameterNode(self):
        return MedSegLensParameterNode(super().getParameterNode())

    def process(self, volumes, pack):
        """Segment volume nodes by modality with a pack and wait; the segmentation node. Raises MedSegLensError."""
        parameters = self.getParameterNode()
        for modality in ("t1n", "t1c", "t2w", "t2f"):
            setattr(parameters, modality, volumes.get(modality))
        parameters.pack = str(pack)
        self.review.attach(parameters, anew=True)
        return self.review.applyAndWait()


class MedSegLensTest(ScriptedLoadableModuleTest):
    """Runs in Slicer with Reload and Test, and in the host: a phantom is segmented, a latent edited and undone, a point
    answered, the case checked."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_PhantomIsSegmentedEditedUndonePointedAtAndChecked()

    def test_PhantomIsSegmentedEditedUndonePointedAtAndChecked(self):
        from MedSegLensLib.packs.installed import list_packs
        from MedSegLensLib.panel.dependencies import missing
        from MedSegLensLib.panel.study_files import addPhantom
        from MedSegLensLib.scene.study import guess_modalities

        self.assertEqual(missing(), [], "Press Apply once, so that the packages are installed, then test again")
        volumes = guess_modalities(addPhantom(size=(96, 120, 48), spacing=(2.0, 2.0, 4.0)).volumes)
        logic = MedSegLensLogic()
        try:
            node = logic.process(volumes, next(iter(list_packs())))
            self.assertGreaterEqual(node.GetSegmentation().GetNumberOfSegments(), 3)
            review = logic.review
            tap = review.session.opened.default_tap
            row = review.session.latents(tap).result()[0]
            before = review.result.labels()
            review.setStrength(tap, row.latent, 0.0)
            review.wait()
            self.assertEqual([e.latent for e in review.history.recipe.edits], [row.latent])
            review.undo()
            review.wait()
            self.assertTrue((review.result.labels() == before).all())
            voxel = [*map(float, np.argwhere(before > 0)[0][::-1]), 1.0]
            review.pointing.say(tuple((review.result.ijk_to_ras @ voxel)[:3]), False, "WT")
            review.wait()
            answer = review.pointing.answer
            self.assertTrue(answer is not None and (answer.edits or answer.reason), review.pointing.problem)
            review.pointing.reject()
            review.checking.run()
            review.wait()
            self.assertTrue(review.checking.found.shift or review.checking.found.notes)
            self.assertTrue((review.result.labels() == before).all())
        finally:
            logic.release()
        self.delayDisplay("Test passed")
