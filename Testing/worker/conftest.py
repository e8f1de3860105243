"""One tiny pack and one small phantom for the room, and a look at what a worker leaves behind."""

import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "editing"))

from tiny_packs import write_tiny_pack  # noqa: E402

from MedSegLensLib.cases.phantom import phantom  # noqa: E402
from MedSegLensLib.editing.recipe import Edit, PackReference, Recipe  # noqa: E402
from MedSegLensLib.worker import segments  # noqa: E402
from MedSegLensLib.worker.client import Volume, WorkerClient  # noqa: E402

SECONDS = 400
"""More than anything takes here, on the busiest machine."""


def volume_of(image: sitk.Image, name: str = "") -> Volume:
    """As the scene gives it."""
    ras = np.diag([-1.0, -1.0, 1.0])
    affine = np.eye(4)
    affine[:3, :3] = ras @ np.reshape(image.GetDirection(), (3, 3)) @ np.diag(image.GetSpacing())
    affine[:3, 3] = ras @ np.array(image.GetOrigin())
    return Volume(sitk.GetArrayFromImage(image), affine, name)


def recipe_for(opened, *edits: tuple[int, float], name: str = "test") -> Recipe:
    """Latents of the default tap, scaled."""
    pack = PackReference(*(opened.pack[key] for key in ("name", "version", "hash")))
    return Recipe(name, pack, tuple(Edit(opened.default_tap, latent, "scale", value) for latent, value in edits))


def processes_of(marker: str) -> list[int]:
    """Processes whose command line or environment holds a word: looked for in the system, not in our own books."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
                state = (process / "stat").read_text().rsplit(")", 1)[1].split()[0]
            except OSError:
                continue
            if marker.encode() in told and b"MedSegLensLib.worker" in told and state != "Z":
                found.append(int(process.name))
    return found


@pytest.fixture(scope="session")
def case():
    return phantom(1, size=(48, 60, 20), spacing=(3.5, 3.5, 7.0))


@pytest.fixture(scope="session")
def volumes(case):
    return {modality: volume_of(image, modality) for modality, image in case.images.items()}


@pytest.fixture(scope="session")
def reference(case):
    return volume_of(case.labels, "experts")


@pytest.fixture(scope="session")
def pack(tmp_path_factory):
    return write_tiny_pack("segformer", tmp_path_factory.mktemp("packs") / "segformer").folder


@pytest.fixture(scope="session")
def shared_base(tmp_path_factory):
    """A folder of our own for shared memory, so that other tests' are not seen."""
    return tmp_path_factory.mktemp("shm")


@pytest.fixture(scope="session", autouse=True)
def own_shared_memory(shared_base):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(segments.FOLDER_VARIABLE, str(shared_base))
        yield


@pytest.fixture(scope="session")
def client():
    """One worker for the tests that do it no harm."""
    client = WorkerClient()
    yield client
    client.close()


@pytest.fixture(scope="session")
def session(client, volumes, reference, pack):
    return client.open_case(volumes, "phantom", str(pack), reference).result(SECONDS)
