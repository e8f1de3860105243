"""Studies brought into the scene: from a folder, as a phantom, or a real case downloaded with its checksum."""

from dataclasses import dataclass, field
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from MedSegLensLib.errors import CaseError

VOLUME_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")

CATEGORY = "MedSegLens"
PHANTOM = "MedSegLensPhantom"
REAL_CASE = "BraTS-SSA-00002-000"
"""An adult glioma of the BraTS-Africa data (The Cancer Imaging Archive, CC BY 4.0, doi:10.7937/v8h6-8x67), as it is
hosted for the tests of another extension. No shipped pack was trained on it."""
_REAL_URL = "https://github.com/lassoan/SlicerMONAIAuto3DSeg/releases/download/TestingData/"
_REAL_SHA256 = {
    "t1n": "cd78460e4225a1f145756c7fcda12a517ab3d13f62c52d8b287d78310e520cf7",
    "t1c": "b980aab6d6fb2e95f01e6f6c964d94a89ef32e717448e1b1c101e163219042b1",
    "t2w": "4d9810cd217a9504f8aa4313a0edec4a091ecb145bad09dab5b7955688639420",
    "t2f": "b7067abe232daafbf5c46c9707462edc961cdb30cb5eb445e5d4407e0da70c08",
}


@dataclass
class Loaded:
    """Volume nodes that came into the scene, and an expert's segmentation (a label volume) where there was one."""

    volumes: list = field(default_factory=list)
    reference: object = None


def loadFolder(folder: str) -> Loaded:
    """Every volume file in a folder; without one, its DICOM series. A file named as a segmentation becomes a label
    volume. Raises CaseError for a folder that holds none."""
    path = Path(folder)
    files = sorted(f for f in path.iterdir() if f.name.lower().endswith(VOLUME_SUFFIXES)) if path.is_dir() else []
    loaded = Loaded()
    for file in files:
        if _isSegmentation(file):
            # Not shown: filled labels over the anatomy would hide it, and every activation.
            loaded.reference = slicer.util.loadLabelVolume(str(file), {"show": False})
        else:
            loaded.volumes.append(slicer.util.loadVolume(str(file)))
    if not files and path.is_dir():
        loaded.volumes = _loadDicom(path)
    if not loaded.volumes:
        raise CaseError(
            folder,
            _("it has no volume file (NIfTI, NRRD, MetaImage) and no DICOM series."),
            _("Choose the folder of one study, or load the volumes with Slicer's Add Data."),
        )
    return loaded


def _isSegmentation(file: Path) -> bool:
    words = file.name.lower().split(".")[0].replace("-", "_").split("_")
    return any(word in ("seg", "segmentation", "label", "labels", "mask") for word in words)


def _loadDicom(folder: Path) -> list:
    """Through Slicer's DICOM module, so that results can be exported as DICOM; where it is not built in, by the library
    itself, which matches series by their description."""
    try:
        from DICOMLib import DICOMUtils
    except ImportError:
        from MedSegLensLib.cases.dicom import read_dicom_volumes
        from MedSegLensLib.scene.images import add_image

        volumes, _notes = read_dicom_volumes(folder)
        return [add_image(image, f"{folder.resolve().name} {modality}") for modality, (image, _) in volumes.items()]
    ids = []
    with DICOMUtils.TemporaryDICOMDatabase() as database:
        DICOMUtils.importDicom(str(folder), database)
        for patient in database.patients():
            ids += DICOMUtils.loadPatientByUID(patient)
    nodes = [slicer.mrmlScene.GetNodeByID(i) for i in ids]
    return [node for node in nodes if node is not None and node.IsA("vtkMRMLScalarVolumeNode")]


def addPhantom(seed: int = 101, **phantomArguments) -> Loaded:
    """The phantom of a seed as four volumes, with its exact labels as the reference; size and the like as `phantom`."""
    from MedSegLensLib.cases.phantom import phantom
    from MedSegLensLib.scene.images import add_image

    case = phantom(seed, **phantomArguments)
    volumes = [add_image(image, f"{case.name} {modality}") for modality, image in case.images.items()]
    return Loaded(volumes, add_image(case.labels, f"{case.name} labels", "vtkMRMLLabelMapVolumeNode"))


def downloadRealCase() -> Loaded:
    """A real glioma case through Slicer's Sample Data, verified by SHA-256. Raises CaseError where it cannot be had."""
    import SampleData

    try:
        nodes = SampleData.downloadSample(REAL_CASE)
    except Exception as problem:  # Sample Data raises whatever its download met
        raise CaseError(
            REAL_CASE, _("it cannot be downloaded ({problem}).").format(problem=problem), _("Check the connection.")
        ) from problem
    if not nodes or None in nodes:
        raise CaseError(REAL_CASE, _("it cannot be downloaded."), _("Check the connection, or use the phantom."))
    return Loaded(list(nodes))


def registerSampleData() -> None:
    """Put both studies on the page of Slicer's Sample Data module."""
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category=CATEGORY,
        sampleName=REAL_CASE,
        uris=[f"{_REAL_URL}{REAL_CASE}-{m}.nii.gz" for m in _REAL_SHA256],
        fileNames=[f"{REAL_CASE}-{m}.nii.gz" for m in _REAL_SHA256],
        nodeNames=[f"{REAL_CASE}-{m}" for m in _REAL_SHA256],
        checksums=[f"SHA256:{digest}" for digest in _REAL_SHA256.values()],
        loadFileType=["VolumeFile"] * len(_REAL_SHA256),
    )
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category=CATEGORY, sampleName=PHANTOM, customDownloader=lambda source: addPhantom().volumes
    )
