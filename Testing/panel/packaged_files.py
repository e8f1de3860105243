"""What the extension packages, against what lies in the tree: `python -m Testing.panel.packaged_files` writes the lists
in the two CMakeLists.txt anew."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS, RESOURCES = "MODULE_PYTHON_SCRIPTS", "MODULE_PYTHON_RESOURCES"


def in_tree() -> dict[Path, dict[str, list[str]]]:
    """What each CMakeLists.txt has to list, relative to its folder."""
    library = _files(ROOT, "MedSegLensLib")
    scripts = [f for f in library if f.endswith(".py")]
    return {
        ROOT / "CMakeLists.txt": {
            SCRIPTS: scripts,
            RESOURCES: [f for f in library if f not in scripts] + _files(ROOT, "Resources/Packs"),
        },
        ROOT / "MedSegLens" / "CMakeLists.txt": {
            SCRIPTS: ["MedSegLens.py"],
            RESOURCES: _files(ROOT / "MedSegLens", "Resources"),
        },
    }


def listed(cmake: Path) -> dict[str, list[str]]:
    """What a CMakeLists.txt lists."""
    text = cmake.read_text(encoding="utf-8")
    return {name: re.search(rf"set\({name}\n(.*?)\s*\)", text, re.S).group(1).split() for name in (SCRIPTS, RESOURCES)}


def write() -> None:
    for cmake, lists in in_tree().items():
        text = cmake.read_text(encoding="utf-8")
        for name, files in lists.items():
            lines = "".join(f"  {file}\n" for file in files)
            text = re.sub(rf"set\({name}\n.*?\s*\)", f"set({name}\n{lines}  )", text, count=1, flags=re.S)
        cmake.write_text(text, encoding="utf-8")


def _files(root: Path, folder: str) -> list[str]:
    found = (f for f in (root / folder).rglob("*") if f.is_file() and f.suffix != ".pyc")
    return sorted(f.relative_to(root).as_posix() for f in found)


if __name__ == "__main__":
    write()
