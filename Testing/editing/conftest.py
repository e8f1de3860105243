import pytest
from tiny_packs import write_tiny_pack

from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.editing.session import Session


@pytest.fixture(scope="session")
def case():
    return phantom(1, size=(48, 60, 20), spacing=(3.5, 3.5, 7.0))


@pytest.fixture(scope="session", params=["unet", "segformer", "segresnet"])
def pack(request, tmp_path_factory):
    return write_tiny_pack(request.param, tmp_path_factory.mktemp("packs") / request.param)


@pytest.fixture(scope="session")
def session(case, pack):
    return Session(case, pack)
