"""What the extension packages, its metadata, and what the module's file may import."""

import ast
import re
import sys
from pathlib import Path

import packaged_files

ROOT = packaged_files.ROOT


def test_every_file_of_the_library_and_the_packs_is_packaged():
    for cmake, lists in packaged_files.in_tree().items():
        assert packaged_files.listed(cmake) == lists, "python -m Testing.panel.packaged_files writes the lists anew"


def test_the_extension_describes_itself():
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    for name in ("HOMEPAGE", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS"):
        assert re.search(rf'set\(EXTENSION_{name} "[^"]{{10,}}"\)', text), name
    assert 'set(EXTENSION_DEPENDS "PyTorch")' in text


def test_screenshots_and_icon_of_the_catalogue_are_in_the_repository():
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    urls = re.findall(r"https://raw\.githubusercontent\.com/[^/]+/[^/]+/main/([^\s\"]+)", text)
    assert len(urls) >= 3
    for path in urls:
        assert (ROOT / path).is_file(), path


def test_the_module_file_imports_only_what_slicer_brings():
    tree = ast.parse((ROOT / "MedSegLens" / "MedSegLens.py").read_text(encoding="utf-8"))
    names = {a.name.split(".")[0] for node in tree.body if isinstance(node, ast.Import) for a in node.names}
    names |= {node.module.split(".")[0] for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert names <= set(sys.stdlib_module_names) | {"slicer", "vtk", "qt", "ctk", "numpy", "SimpleITK"}


def test_dependencies_of_the_worker_are_those_of_the_package():
    import tomllib

    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {r.name: str(r.specifier).removeprefix(">=") for r in map(Requirement, project["dependencies"])}
    source = (ROOT / "MedSegLensLib" / "panel" / "dependencies.py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    assigned = {n.targets[0].id: n.value for n in tree.body if isinstance(n, ast.Assign)}
    asked = dict([ast.literal_eval(assigned["TORCH"]), *ast.literal_eval(assigned["PACKAGES"])])
    assert {name: wanted[name] for name in asked} == asked
    brought_by_slicer = {"numpy", "scipy", "SimpleITK", "packaging", "pillow"}
    not_in_the_worker = {"jinja2", "tqdm", "scikit-learn"}
    assert set(wanted) == set(asked) | brought_by_slicer | not_in_the_worker


def test_packaged_files_are_below_the_extensions_limit():
    listed = [ROOT / f for f in packaged_files.listed(ROOT / "CMakeLists.txt")[packaged_files.RESOURCES]]
    assert sum(Path(f).stat().st_size for f in listed) < 100e6
