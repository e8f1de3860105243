"""As much of Slicer's application as a scene needs to be seen: logics, and slice views drawn into memory."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")

import numpy as np  # noqa: E402
import slicer  # noqa: E402
import slicer.util  # noqa: E402
import vtk  # noqa: E402
from vtk.util.numpy_support import vtk_to_numpy  # noqa: E402

ORIENTATION = {"Red": "Axial", "Yellow": "Sagittal", "Green": "Coronal"}


class Application:
    """The scene's logics and one slice view per orientation."""

    def __init__(self):
        self.scene = slicer.vtkMRMLScene()
        slicer.mrmlScene = self.scene
        self.logic = slicer.vtkSlicerApplicationLogic()
        self.logic.SetMRMLScene(self.scene)
        self.slice_logics, self.view_logics = vtk.vtkCollection(), vtk.vtkCollection()
        self.logic.SetSliceLogics(self.slice_logics)
        self.logic.SetViewLogics(self.view_logics)
        self.logic.SetHomeDirectory(str(Path(slicer.__file__).parent))
        self.logic.GetColorLogic().SetMRMLScene(self.scene)
        self.logic.GetColorLogic().AddDefaultColorNodes()
        self.logic.SetModuleLogic("Colors", self.logic.GetColorLogic())
        self.volumes = self._module(slicer.vtkSlicerVolumesLogic, "Volumes")
        self.segmentations = self._module(slicer.vtkSlicerSegmentationsModuleLogic, "Segmentations")
        self._module(slicer.vtkSlicerMarkupsLogic, "Markups")
        self._module(slicer.vtkSlicerSubjectHierarchyModuleLogic, "SubjectHierarchy")
        self._give_cache(tempfile.mkdtemp(prefix="medseglens-scene-"))
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self.scene, True)
        crosshair = slicer.vtkMRMLCrosshairNode()
        crosshair.SetCrosshairName("default")
        self.scene.AddNode(crosshair)
        self.views = {name: SliceView(self, name, orientation) for name, orientation in ORIENTATION.items()}

    def clear(self) -> None:
        """Close the scene; views and colours stay, as in Slicer."""
        self.scene.Clear(0)

    def save(self, path) -> None:
        assert self.scene.WriteToMRB(str(path), None)

    def load(self, path) -> None:
        self.scene.Clear(0)
        self.add(path)

    def add(self, path) -> None:
        """Load a scene without closing this one."""
        assert self.scene.ReadFromMRB(str(path), False)
        for view in self.views.values():
            view.node.Modified()  # Slicer's layout manager does so: the view's contents are taken up at the next event

    def _give_cache(self, folder: str) -> None:
        """Where a scene bundle is unpacked; Slicer's application sets it up too."""
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        self._cache, self._io = slicer.vtkCacheManager(), slicer.vtkDataIOManager()
        self._cache.SetRemoteCacheDirectory(folder)
        self._io.SetCacheManager(self._cache)
        self.scene.SetCacheManager(self._cache)
        self.scene.SetDataIOManager(self._io)

    def _module(self, kind, name):
        logic = kind()
        logic.SetMRMLApplicationLogic(self.logic)
        logic.SetMRMLScene(self.scene)
        self.logic.SetModuleLogic(name, logic)
        return logic


class SliceView:
    """A slice view of 300 x 300 pixels."""

    MANAGERS = ("vtkMRMLModelSliceDisplayableManager", "vtkMRMLSegmentationsDisplayableManager2D")

    def __init__(self, application: Application, name: str, orientation: str, size: int = 300):
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        factory.SetMRMLApplicationLogic(application.logic)
        for manager in self.MANAGERS:
            if not factory.IsDisplayableManagerRegistered(manager):
                factory.RegisterDisplayableManager(manager)
        self.size = size
        self.renderer = vtk.vtkRenderer()
        self.renderer.GetActiveCamera().ParallelProjectionOn()
        self.window = vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(1)
        self.window.SetMultiSamples(0)
        self.window.SetSize(size, size)
        self.window.AddRenderer(self.renderer)
        self.interactor = vtk.vtkGenericRenderWindowInteractor()
        self.interactor.SetRenderWindow(self.window)
        self.managers = slicer.vtkMRMLDisplayableManagerGroup()
        self.managers.Initialize(factory, self.renderer)
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(application.logic)
        application.slice_logics.AddItem(self.logic)
        self.logic.SetMRMLScene(application.scene)
        self.node = self.logic.AddSliceNode(name)
        self.node.SetOrientation(orientation)
        self.node.SetMappedInLayout(1)
        self.managers.SetMRMLDisplayableNode(self.node)
        self.mapper = vtk.vtkImageMapper()
        self.mapper.SetColorWindow(255)
        self.mapper.SetColorLevel(127.5)
        picture = vtk.vtkActor2D()
        picture.SetMapper(self.mapper)
        picture.GetProperty().SetDisplayLocationToBackground()
        self.renderer.AddViewProp(picture)
        self.logic.ResizeSliceNode(size, size)
        self.requests = 0
        self.managers.AddObserver(vtk.vtkCommand.UpdateEvent, self._count)
        self.logic.AddObserver(vtk.vtkCommand.ModifiedEvent, self._count)

    def _count(self, *_) -> None:
        """Slicer draws when asked; `requests` counts how often it was."""
        self.requests += 1

    @property
    def composite(self):
        return self.logic.GetSliceCompositeNode()

    def show(self, background) -> None:
        self.composite.SetBackgroundVolumeID(background.GetID())
        self.logic.FitSliceToBackground()

    def pixels(self, png=None) -> np.ndarray:
        """What the view shows, uint8 (rows from the top, columns, RGB)."""
        self.logic.UpdatePipeline()
        self.mapper.SetInputConnection(self.logic.GetImageDataConnection())
        self.window.Render()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(self.window)
        grab.ReadFrontBufferOff()
        grab.SetInputBufferTypeToRGB()
        grab.Update()
        image = grab.GetOutput()
        if png:
            writer = vtk.vtkPNGWriter()
            writer.SetFileName(str(png))
            writer.SetInputData(image)
            writer.Write()
        width, height, _ = image.GetDimensions()
        return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, 3)[::-1].copy()

    def pixel_of(self, ras) -> tuple[int, int]:
        """(row from the top, column) where a point (RAS, mm) is drawn."""
        to_xy = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self.node.GetXYToRAS(), to_xy)
        x, y, _, _ = to_xy.MultiplyPoint((*ras, 1))
        return round(self.size - 1 - y), round(x)
