"""Fixtures that several rooms use: real cases (skipped, saying so, where they are absent) and a small phantom."""

import os
from pathlib import Path

# Tensors this small gain nothing from threads, which on a busy machine wait for each other for minutes. Set before
# torch is imported, and inherited by the commands that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest  # noqa: E402

ROOMS_WITH_SHARED_WORK = ("editing", "packs", "segmenters", "worker")
"""Rooms whose tests share sessions, packs or workers that take seconds to make: one process runs the whole room. Of the
others each file goes to whichever process is free."""

REAL_CASES = Path(__file__).resolve().parents[2] / "shared" / "data" / "brats2021"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Which tests go to one process together. (Marks of `--dist loadgroup` do nothing under pytest 9.2 with xdist 3.8:
    each test went its own way, and the fixtures of every file were made twice.)"""
    from xdist.scheduler import LoadScopeScheduling

    class ByRoomOrFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = Path(nodeid.split("::")[0])
            return str(file.parent if file.parent.name in ROOMS_WITH_SHARED_WORK else file)

    return ByRoomOrFile(config, log)


def pytest_collection_modifyitems(items):
    if REAL_CASES.is_dir():
        return
    absent = pytest.mark.skip(reason=f"needs the real cases, which are not in {REAL_CASES}")
    for item in items:
        if "real_case" in item.keywords:
            item.add_marker(absent)


@pytest.fixture(scope="session")
def real_cases_folder() -> Path:
    """The folder of the BraTS 2021 cases; only for tests marked `real_case`."""
    return REAL_CASES


@pytest.fixture(scope="session")
def small_phantom():
    """A phantom with a tumour at 4 mm, which takes a fraction of a second."""
    from MedSegLensLib.cases.phantom import phantom

    return phantom(1, size=(40, 50, 42), spacing=(4.0, 4.0, 4.0))
