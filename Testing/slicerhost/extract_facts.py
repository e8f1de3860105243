"""Take the facts that the host needs from a slicer-api.json and write facts.json beside this file.

    python Testing/slicerhost/extract_facts.py ../shared/slicer-api.json

slicer-api.json is read from the headers of Slicer and CTK: for every widget and application class what Python can
use (properties, signals, callable slots and invokables, enums) and which C++ methods PythonQt does not expose. Only
the classes named in CLASSES, their bases, and the Python packages named in PACKAGES are carried.
"""

import json
import sys
from pathlib import Path

FACTS = Path(__file__).with_name("facts.json")

CLASSES = (
    "ctkSliderWidget",
    "ctkDoubleSlider",
    "ctkDoubleSpinBox",
    "ctkRangeWidget",
    "ctkDoubleRangeSlider",
    "ctkCollapsibleButton",
    "ctkCollapsibleGroupBox",
    "ctkComboBox",
    "ctkCheckBox",
    "ctkCheckableComboBox",
    "ctkSearchBox",
    "ctkPathLineEdit",
    "ctkDirectoryButton",
    "ctkPushButton",
    "ctkMenuButton",
    "ctkCheckablePushButton",
    "ctkColorPickerButton",
    "ctkExpandableWidget",
    "ctkDynamicSpacer",
    "ctkFittedTextBrowser",
    "ctkMessageBox",
    "ctkVTKAbstractView",
    "ctkVTKSliceView",
    "ctkVTKRenderView",
    "ctkLayoutManager",
    "qMRMLWidget",
    "qMRMLNodeComboBox",
    "qMRMLCheckableNodeComboBox",
    "qMRMLColorTableComboBox",
    "qMRMLSegmentSelectorWidget",
    "qMRMLSliderWidget",
    "qMRMLSpinBox",
    "qMRMLRangeWidget",
    "qMRMLCollapsibleButton",
    "qMRMLAbstractViewWidget",
    "qMRMLSliceWidget",
    "qMRMLSliceView",
    "qMRMLViewControllerBar",
    "qMRMLSliceControllerWidget",
    "qMRMLThreeDWidget",
    "qMRMLThreeDView",
    "qMRMLThreeDViewControllerWidget",
    "qMRMLLayoutManager",
    "qSlicerLayoutManager",
    "qSlicerMarkupsPlaceWidget",
    "qSlicerCoreApplication",
    "qSlicerApplication",
    "qSlicerCoreIOManager",
    "qSlicerIOManager",
    "qSlicerModuleManager",
    "qSlicerAbstractModuleFactoryManager",
    "qSlicerModuleFactoryManager",
    "qSlicerAbstractCoreModule",
    "qSlicerAbstractModule",
    "qSlicerLoadableModule",
    "qSlicerScriptedLoadableModule",
    "qSlicerScriptedLoadableModuleWidget",
    "qSlicerMainWindow",
    "qSlicerBaseQTAppPythonQtDecorators",
    "qSlicerBaseQTBasePythonQtDecorators",
    "qSlicerBaseQTGUIPythonQtDecorators",
)
PACKAGES = (
    "slicer.ScriptedLoadableModule",
    "slicer.i18n",
    "slicer.packaging",
    "slicer.parameterNodeWrapper.validators",
    "slicer.parameterNodeWrapper.default",
    "slicer.util",
)


def extract(api: dict) -> dict:
    """The part of a slicer-api.json that facts.json holds. Raises KeyError for a class or package it lacks."""
    widgets, wanted = {}, list(CLASSES)
    while wanted:
        name = wanted.pop()
        if name not in widgets:
            widgets[name] = {k: v for k, v in api["widgets"][name].items() if k != "header"}
            base = widgets[name].get("base", "")
            wanted += [base] if base in api["widgets"] else []
    return {
        "about": api["about"],
        "widgets": {name: widgets[name] for name in sorted(widgets)},
        "python": {name: api["python"][name] for name in PACKAGES},
    }


def main():
    """Read the slicer-api.json given as argument and write facts.json."""
    facts = extract(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    FACTS.write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
    print(f"{len(facts['widgets'])} classes, {len(facts['python'])} packages -> {FACTS.name}")


if __name__ == "__main__":
    main()
