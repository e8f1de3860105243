"""The doctor on this machine, with the torch that is here, and its answers on machines that are not ready."""

import importlib.metadata
import json
import sys
from dataclasses import asdict

import pytest
import torch
from packaging.specifiers import SpecifierSet

from MedSegLensLib import doctor


@pytest.fixture
def driver(monkeypatch):
    """A machine with an NVIDIA driver."""
    monkeypatch.setattr(doctor, "nvidia_driver", lambda: "570.12")
    return "570.12"


def by_name(findings):
    return {finding.name: finding for finding in findings}


def test_findings_of_this_machine(tmp_path):
    findings = doctor.examine(tmp_path)
    found = by_name(findings)
    assert len(found) == len(findings)
    assert {"Python", "Memory", "Disk", "Processor", "Processor trial", "torch", "Lens packs"} <= set(found)
    assert found["Processor trial"].ok and "float32" in found["Processor trial"].value
    assert torch.__version__ in found["torch"].value
    assert str(tmp_path) in found["Disk"].value
    assert all(finding.value for finding in findings)
    assert all(bool(finding.remedy) != finding.ok for finding in findings)
    json.dumps([asdict(finding) for finding in findings])


def test_torch_that_cannot_be_imported_is_a_finding(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    found = by_name(doctor.examine(tmp_path))
    assert not found["torch"].ok and "make venv" in found["torch"].remedy
    assert "Lens packs" in found  # the rest is still looked at


@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch has CUDA")
def test_driver_without_cuda_build_names_the_remedy(driver):
    finding = doctor._torch_build(torch, driver)
    assert not finding.ok and driver in finding.value and "CUDA build" in finding.remedy
    assert doctor._torch_build(torch, "").ok


def test_cuda_build_that_cannot_use_the_driver(monkeypatch, driver):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    (finding,) = doctor._gpus(torch, driver)
    assert not finding.ok and "Update the NVIDIA driver" in finding.remedy
    (finding,) = doctor._gpus(torch, "")
    assert finding.ok


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_trial_on_a_device_that_fails_is_a_finding():
    finding = doctor._trial(torch, "GPU 0 trial", "cuda:0", "the remedy")
    assert not finding.ok and "fails" in finding.value and finding.remedy == "the remedy"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_gpu_of_this_machine():
    found = by_name(doctor._gpus(torch, doctor.nvidia_driver()))
    assert found["GPU 0"].ok and found["GPU 0 trial"].ok


@pytest.mark.parametrize(
    ("builds", "capability", "runs"),
    [
        (["sm_80", "sm_86"], (8, 6), True),
        (["sm_80"], (8, 9), True),  # same major version
        (["sm_86"], (8, 0), False),  # made for a later minor one
        (["sm_80", "sm_90"], (12, 0), False),
        (["sm_80", "compute_90"], (12, 0), True),  # PTX
        (["sm_90a"], (9, 0), True),
        (["sm_100a"], (10, 3), False),
        (["sm_120"], (12, 0), True),
        (["sm_75"], (6, 1), False),
        ([], (8, 0), False),
    ],
)
def test_whether_a_build_runs_on_a_gpu(builds, capability, runs):
    assert doctor.runs_on(builds, capability) is runs


def test_no_program_no_driver(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.nvidia_driver() == ""


def test_little_memory_and_disk(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "memory_gb", lambda: (8.0, 1.2))
    monkeypatch.setattr(doctor, "DISK_WANTED_GB", 1e9)
    memory, disk = doctor._memory(), doctor._disk(tmp_path)
    assert not memory.ok and "1.2 GB free of 8.0 GB" in memory.value
    assert not disk.ok and "Free some space" in disk.remedy


def test_memory_that_is_not_known(monkeypatch):
    monkeypatch.setattr(doctor, "memory_gb", lambda: (None, None))
    assert doctor._memory().ok


def test_folder_that_is_not_there(tmp_path):
    finding = doctor._disk(tmp_path / "nowhere")
    assert not finding.ok and "nowhere" in finding.value


def test_python_that_is_too_old(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    assert "3.11 or 3.12" in doctor._python().remedy


def test_packages_out_of_range_and_missing():
    numpy = importlib.metadata.version("numpy")
    assert doctor._package("numpy", SpecifierSet(">=1")).ok
    old = doctor._package("numpy", SpecifierSet(">=999"))
    assert not old.ok and numpy in old.value and "numpy>=999" in old.remedy
    assert "missing" in doctor._package("no-such-package-here", SpecifierSet(">=1")).value


def test_packages_asked_for_are_those_of_the_project(monkeypatch):
    lines = ["torch>=2", "numpy>=1", 'pytest>=8; extra == "dev"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: lines)
    assert [finding.name for finding in doctor._packages()] == ["numpy"]


def test_no_packs(monkeypatch):
    monkeypatch.setattr("MedSegLensLib.packs.installed.list_packs", dict)
    finding = doctor._packs()
    assert not finding.ok and finding.remedy
