"""Is this machine ready, and what to do where it is not: the findings that `medseglens doctor` prints.

Nothing is installed, downloaded or changed. torch is imported only inside `examine`, so that a broken torch is
itself a finding.
"""

import importlib
import importlib.metadata
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

GB = 1e9
# A session on one case takes up to 3 GB beyond the imports, which take about 1 GB.
MEMORY_WANTED_GB = 4.0
# What `medseglens demo` writes is about 0.1 GB; the activations harvested for a lens are up to 2 GB.
DISK_WANTED_GB = 2.0
_PYTHONS = ((3, 11), (3, 12))
# A container's limit and use, in control groups of version 2 and 1.
_CGROUP_FILES = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)
# A trial on a busy machine ends after this long with fewer repetitions.
_TRIAL_SECONDS = 1.0


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `remedy` says what to do, and is empty where the finding is ok."""

    name: str
    value: str
    ok: bool = True
    remedy: str = ""


def examine(folder: Path | None = None) -> list[Finding]:
    """Look at Python, memory, the disk of `folder` (default the working folder), torch, GPU, packages and packs."""
    findings = [_python(), _memory(), _disk(folder or Path.cwd())]
    driver = nvidia_driver()
    try:
        torch = importlib.import_module("torch")
    except (ImportError, OSError) as problem:
        remedy = "Run `make venv` again, or install torch with pip by the version in constraints.txt."
        findings.append(Finding("torch", f"cannot be imported ({problem})", False, remedy))
    else:
        findings += [_processor(torch), _cpu_run(torch), _torch_build(torch, driver), *_gpus(torch, driver)]
    return findings + _packages() + [_packs()]


def nvidia_driver() -> str:
    """Version of the NVIDIA driver as nvidia-smi gives it; empty where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    query = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return next(iter(answer.stdout.split()), "")


def runs_on(builds: list[str], capability: tuple[int, int]) -> bool:
    """Whether a torch built for `builds` (torch.cuda.get_arch_list) has code for a GPU of this compute capability.

    Machine code (sm_86) runs on the same major version from that minor on; code marked a or f (sm_90a) only where it
    was made for; PTX (compute_80) is compiled by the driver for any newer GPU.
    """
    for build in builds:
        kind, _, number = build.partition("_")
        digits = number.rstrip("af")
        if not digits.isdigit():
            continue
        made_for = divmod(int(digits), 10)
        if made_for == capability:
            return True
        if digits == number and made_for < capability and (kind == "compute" or made_for[0] == capability[0]):
            return True
    return False


def _python() -> Finding:
    value = f"{platform.python_version()} on {platform.platform()}"
    if sys.version_info[:2] in _PYTHONS:
        return Finding("Python", value)
    return Finding("Python", value, False, "Use Python 3.11 or 3.12: `make venv PYTHON=/path/to/python3.12`.")


def _memory() -> Finding:
    total, free = memory_gb()
    if free is None:
        return Finding("Memory", "free memory is not known on this platform" + (f"; {total:.1f} GB" if total else ""))
    value = f"{free:.1f} GB free of {total:.1f} GB"
    if free >= MEMORY_WANTED_GB:
        return Finding("Memory", value)
    remedy = f"Close other programs: a session on one case wants {MEMORY_WANTED_GB:g} GB."
    return Finding("Memory", value, False, remedy)


def memory_gb() -> tuple[float | None, float | None]:
    """Total and free memory that this process may use, None where not known; a container's limit counts."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GB
    except (AttributeError, ValueError, OSError):  # Windows
        return None, None
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines())
        free = float(lines["MemAvailable"].split()[0]) * 1024 / GB
    except (OSError, KeyError, ValueError):  # macOS
        return total, None
    for limit_file, used_file in _CGROUP_FILES:
        try:
            limit = float(Path("/sys/fs/cgroup", limit_file).read_text(encoding="utf-8")) / GB
            used = float(Path("/sys/fs/cgroup", used_file).read_text(encoding="utf-8")) / GB
        except (OSError, ValueError):  # no such control group, or "max"
            continue
        total, free = min(total, limit), min(free, max(0.0, limit - used))
    return total, free


def _disk(folder: Path) -> Finding:
    try:
        free = shutil.disk_usage(folder).free / GB
    except OSError as problem:
        return Finding("Disk", f"{folder} cannot be read ({problem.strerror})", False, "Work in a folder that exists.")
    value = f"{free:.1f} GB free in {folder}"
    if not os.access(folder, os.W_OK):
        return Finding("Disk", f"{value}, which is read-only", False, "Give a folder that can be written with --out.")
    if free < DISK_WANTED_GB:
        remedy = f"Free some space, or give another folder with --out: {DISK_WANTED_GB:g} GB are wanted."
        return Finding("Disk", value, False, remedy)
    return Finding("Disk", value)


def _processor(torch: ModuleType) -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    native = {True: "native", False: "not native", None: "not known to be native"}[native_bfloat16(torch)]
    capability = torch.backends.cpu.get_cpu_capability()
    value = f"{platform.machine()} {capability}, {cores} cores, {torch.get_num_threads()} threads; bfloat16 {native}"
    return Finding("Processor", value)


def native_bfloat16(torch: ModuleType) -> bool | None:
    """Whether the processor computes in bfloat16 itself; None where this torch cannot tell."""
    answers = [getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
    if platform.machine().lower() not in ("x86_64", "amd64") or not any(answers):
        return None
    return any(answer() for answer in answers if answer is not None)


def _convolution_ms(torch: ModuleType, device: str, dtype) -> float:
    """Median milliseconds of up to five 3x3 convolutions, 16 to 16 channels on 128 x 128, after one that warms up."""
    network = torch.nn.Conv2d(16, 16, 3, padding=1).to(device, dtype)
    image = torch.ones(1, 16, 128, 128, device=device, dtype=dtype)
    times = []
    end = time.perf_counter() + _TRIAL_SECONDS
    with torch.inference_mode():
        while len(times) < 2 or (len(times) < 6 and time.perf_counter() < end):
            start = time.perf_counter()
            network(image).sum().item()  # item waits for a GPU to finish
            times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[1:])


def _trial(torch: ModuleType, name: str, device: str, remedy: str) -> Finding:
    try:
        times = [_convolution_ms(torch, device, dtype) for dtype in (torch.float32, torch.bfloat16)]
    except Exception as problem:  # whatever a driver, a build or an old MPS raises is the finding
        reason = str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__
        return Finding(name, f"a convolution fails ({reason})", False, remedy)
    return Finding(name, f"a convolution takes {times[0]:.2f} ms in float32, {times[1]:.2f} ms in bfloat16")


def _cpu_run(torch: ModuleType) -> Finding:
    return _trial(torch, "Processor trial", "cpu", "Install torch again: `rm -rf .venv && make venv`.")


def _torch_build(torch: ModuleType, driver: str) -> Finding:
    if torch.version.cuda:
        build = f"CUDA {torch.version.cuda}"
    elif torch.version.hip:
        build = f"ROCm {torch.version.hip}"
    else:
        build = "CPU only" if not torch.backends.mps.is_built() else "CPU and MPS"
    value = f"{torch.__version__}, built for {build}"
    if driver and not torch.version.cuda:
        remedy = (
            "To use the NVIDIA GPU, install torch's CUDA build into this environment, by the command that PyTorch's "
            f"'Get Started' page gives for pip and a CUDA version that driver {driver} supports."
        )
        return Finding("torch", f"{value}, but an NVIDIA driver ({driver}) is here", False, remedy)
    return Finding("torch", value)


def _gpus(torch: ModuleType, driver: str) -> list[Finding]:
    if torch.backends.mps.is_available():
        return [_trial(torch, "GPU trial", "mps", "Update macOS and torch, or give --device cpu.")]
    if not (torch.version.cuda or torch.version.hip):
        return [] if driver else [Finding("GPU", "none; the processor computes")]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        if not driver:
            return [Finding("GPU", "none; the processor computes")]
        reason = f" ({str(said[0].message).splitlines()[0]})" if said else ""
        remedy = (
            "Update the NVIDIA driver, or install a torch built for an older CUDA; in a container, start it with "
            "access to the GPU; see that CUDA_VISIBLE_DEVICES does not hide it."
        )
        return [Finding("GPU", f"driver {driver}, but torch cannot use it{reason}", False, remedy)]
    findings = []
    for index in range(count):
        findings += _gpu(torch, index, driver)
    return findings


def _gpu(torch: ModuleType, index: int, driver: str) -> list[Finding]:
    device = torch.cuda.get_device_properties(index)
    capability = (device.major, device.minor)
    value = f"{device.name}, {device.total_memory / GB:.1f} GB, compute capability {device.major}.{device.minor}"
    if driver:
        value += f", driver {driver}"
    builds = torch.cuda.get_arch_list()
    if torch.version.cuda and not runs_on(builds, capability):
        remedy = "Install a torch release whose CUDA build has code for this GPU, or give --device cpu."
        return [Finding(f"GPU {index}", f"{value}; this torch is built for {', '.join(builds)} only", False, remedy)]
    trial_remedy = "Update the driver and torch, see that no other program fills the GPU, or give --device cpu."
    return [Finding(f"GPU {index}", value), _trial(torch, f"GPU {index} trial", f"cuda:{index}", trial_remedy)]


def _packages() -> list[Finding]:
    """Each package that MedSegLens asks for (torch apart), its version and the range wanted, without importing it."""
    from packaging.requirements import Requirement

    try:
        lines = importlib.metadata.requires("medseglens") or []
    except importlib.metadata.PackageNotFoundError:
        remedy = "Install MedSegLens into this Python: `make venv`, or `pip install -e .` in its folder."
        value = "not installed in this Python, so the packages it needs were not checked"
        return [Finding("medseglens", value, False, remedy)]
    requirements = [Requirement(line) for line in lines]
    wanted = [r for r in requirements if r.name != "torch" and (r.marker is None or r.marker.evaluate({"extra": ""}))]
    return [_package(requirement.name, requirement.specifier) for requirement in wanted]


def _package(name: str, specifier) -> Finding:
    remedy = f"Run `make venv` again, or `pip install '{name}{specifier}'`."
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, f"missing ({specifier} is wanted)", False, remedy)
    ok = specifier.contains(version, prereleases=True)
    return Finding(name, f"{version} ({specifier} is wanted)", ok, "" if ok else remedy)


def _packs() -> Finding:
    from MedSegLensLib.packs.installed import list_packs

    packs = list_packs()
    if packs:
        return Finding("Lens packs", ", ".join(f"{name} ({path})" for name, path in packs.items()))
    remedy = "Take a whole clone (packs are in Resources/Packs), or put a pack into ~/.medseglens/packs."
    return Finding("Lens packs", "none found", False, remedy)
