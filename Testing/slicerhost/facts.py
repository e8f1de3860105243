"""What Slicer's and CTK's classes let Python use, from facts.json (see extract_facts.py)."""

import json
import re
from functools import cache, cached_property

from .extract_facts import FACTS

# What the headers' text parser of slicer-api.json did not see, looked up in Slicer's source.
ODD_CASES = {
    "qSlicerAbstractCoreModule": {"callable": ["logic()"]},
    "qSlicerWidget": {
        "base": "QWidget",
        "callable": ["mrmlScene()", "setMRMLScene(vtkMRMLScene* scene)"],
        "signals": ["mrmlSceneChanged(vtkMRMLScene*)"],
    },
    "qSlicerAbstractModuleWidget": {
        "base": "qSlicerWidget",
        "callable": ["module()"],
        "properties": {"isEntered": "bool (read only)"},
    },
    # ctkLayoutFactory, its base, lies outside the parsed folders; it derives from ctkLayoutManager.
    "ctkLayoutFactory": {"base": "ctkLayoutManager"},
}


def normalized(signature: str) -> str:
    """A signal or slot without parameter names, const and &: "valueChanged(double value)" -> "valueChanged(double)"."""
    name, _, parameters = signature.strip().partition("(")
    types = []
    for parameter in filter(None, (p.strip() for p in parameters.rstrip(")").split(","))):
        words = re.sub(r"\bconst\b|&", " ", parameter).replace("*", "* ").split()
        last = words[-1]
        named = len(words) > 1 and "*" not in last and last not in ("int", "long", "double", "char")
        types.append(" ".join(words[:-1] if named else words).replace(" *", "*"))
    return f"{name.strip()}({','.join(types)})"


class Surface:
    """The names of one class, its own and its bases' as far as they are Slicer's or CTK's.

    properties: name -> C++ type, with " (read only)"; signals: normalized signatures; callables: names; enums: name ->
    values; hidden: C++ methods that PythonQt does not expose; qt_base: the first base that is Qt's own.
    """

    def __init__(self, name: str):
        self.name, self.qt_base = name, ""
        self.properties, self.signals, self.callables, self.enums, self.hidden = {}, [], set(), {}, set()
        self.own_not_callable = set()
        classes = load()["widgets"]
        while name in classes:
            facts = classes[name]
            self.properties = {**facts.get("properties", {}), **self.properties}
            self.signals += [normalized(s) for s in facts.get("signals", ())]
            self.callables |= {c.partition("(")[0] for c in facts.get("callable", ())} | decorated(name)
            self.enums = {**facts.get("enums", {}), **self.enums}
            self.hidden |= set(facts.get("not_callable_from_python", ()))
            self.qt_base = name = facts.get("base", "")

    @cached_property
    def signal_names(self) -> set[str]:
        """Names of the signals, without their parameters."""
        return {signal.partition("(")[0] for signal in self.signals}

    @cached_property
    def enum_values(self) -> dict[str, int]:
        """Enum values by name; numbered in order, which is all that the header's names tell."""
        return {value: i for values in self.enums.values() for i, value in enumerate(values)}

    def has(self, name: str) -> bool:
        """Whether Python can use `name` on the class itself (Qt's own names aside)."""
        return (
            name in self.properties
            or name in self.callables
            or name in self.signal_names
            or name in self.enums
            or name in self.enum_values
        )

    def why_not(self, name: str) -> str:
        """Why Python cannot use `name`, for an error message."""
        if name in self.hidden:
            return (
                f"{self.name}.{name} is a C++ method that PythonQt does not expose: in Slicer this is an "
                f"AttributeError (is there a property instead?)."
            )
        return f"{self.name} has no attribute named '{name}' in Slicer."


@cache
def load() -> dict:
    """facts.json, completed by ODD_CASES."""
    facts = json.loads(FACTS.read_text())
    for name, more in ODD_CASES.items():
        known = facts["widgets"].setdefault(name, {})
        for key, value in more.items():
            known[key] = known[key] + value if isinstance(value, list) and key in known else value
    return facts


@cache
def surface(class_name: str) -> Surface:
    """The surface of a Slicer or CTK class. Raises KeyError for one that facts.json does not carry."""
    if class_name not in load()["widgets"]:
        raise KeyError(f"facts.json has no class {class_name}: add it to CLASSES in extract_facts.py")
    return Surface(class_name)


@cache
def decorated(class_name: str) -> set[str]:
    """Methods that PythonQt decorators add to a class: f(Class* self, ...) and static_Class_f(...)."""
    names = set()
    for decorators, facts in load()["widgets"].items():
        for signature in facts.get("callable", ()) if decorators.endswith("PythonQtDecorators") else ():
            name, _, parameters = signature.partition("(")
            if name.startswith(f"static_{class_name}_"):
                names.add(name.removeprefix(f"static_{class_name}_"))
            elif parameters.startswith(f"{class_name}*"):
                names.add(name)
    return names
