"""PythonQt's rules over PySide6: what Slicer's Python sees when it touches a Qt object.

`install()` changes PySide6's own classes, so that every Qt object, also one that Qt hands out (a table's header, a
menu's action), follows the rules below. They are PythonQt's, read from its source:

- A Qt property is an attribute: `label.text` reads it, `label.text = "a"` writes it, `label.text()` fails. Lists come
  back as tuples. `name` stands for `objectName`. A dynamic property and a named child are attributes too.
- Nothing else can be assigned: a method, a signal or an unknown name raises, unless a Python class derives from Qt's.
- `object.connect("clicked(bool)", f)` and `object.clicked.connect(f)`; the signature must exist. f gets as many
  arguments as it takes, at most those of the signature. A signal is sent by calling it; it has no `emit`.
- Protected C++ methods, and what PySide adds for its own comfort, are not there.
- Slicer's and CTK's classes (those with `slicer_class`) show exactly what facts.json lists, and Qt's base class.
- Any touch from another thread than the main one raises: in Slicer it crashes, later and elsewhere.
- Enum values are equal to their integers.
"""

import contextlib
import dis
import enum
import inspect
import sys
import threading
import types
from functools import cache

from PySide6 import QtCore, QtGui, QtNetwork, QtWidgets
from shiboken6 import Shiboken

from .facts import normalized, surface

QT_MODULES = (QtCore, QtGui, QtWidgets, QtNetwork)

# C++ protected, or PySide's own: there in PySide6, not in PythonQt. Event handlers can be overridden, not called.
REFUSED = {
    "dirtyRegionOffset", "doAutoScroll", "horizontalOffset", "indexFromItem", "initStyleOption",
    "initViewItemOption", "isSignalConnected", "itemFromIndex", "moveCursor", "receivers",
    "sectionSizeFromContents", "selectedIndexes", "sender", "senderSignalIndex", "setState", "setViewportMargins",
    "startDrag", "verticalOffset", "viewOptions", "viewportMargins", "visualRegionForSelection",
}
# Protected on some classes, public on the others named here.
PUBLIC_ON = {
    "itemFromIndex": (QtWidgets.QTableWidget, QtWidgets.QTreeWidget, QtWidgets.QListWidget, QtGui.QStandardItemModel),
    "indexFromItem": (QtWidgets.QTableWidget, QtWidgets.QTreeWidget, QtWidgets.QListWidget, QtGui.QStandardItemModel),
}
_MAIN_THREAD = threading.get_ident()
# PySide's own lookup, for the classes that have one (QObject, and QMenu, QFile ... which have methods of two kinds).
_raw_reads: dict[type, object] = {}
_raw_write = Shiboken.Object.__setattr__


def _raw_read(self, name):
    cls = type(self)
    if cls not in _raw_reads:
        _raw_reads[cls] = next(_raw_reads[c] for c in cls.__mro__ if c in _raw_reads)
    return _raw_reads[cls](self, name)


def is_qt_class(cls: type) -> bool:
    """Whether the class is PySide's own, not one written in Python."""
    return cls.__module__.startswith(("PySide6", "Shiboken", "shiboken6"))


_accessors: dict[int, tuple] = {}


def host_property(kind, read, write=None) -> QtCore.Property:
    """A Qt property of a host class; `read(self)` and `write(self, value)` raise to whoever uses it in Python."""
    made = QtCore.Property(kind, read, write) if write else QtCore.Property(kind, read)
    _accessors[id(made)] = made, read, write
    return made


def _accessor(cls: type, name: str):
    """(read, write) of a host class's property, or None."""
    found = next((c.__dict__[name] for c in cls.__mro__ if name in c.__dict__), None)
    return _accessors[id(found)][1:] if id(found) in _accessors else None


class Signal:
    """A signal of one object, as PythonQt hands it out: connect, disconnect, and a call sends it."""

    def __init__(self, owner: QtCore.QObject, name: str):
        self._owner, self._name = owner, name

    def __call__(self, *arguments):
        name, parameters = _checked(self._owner, _first_signature(self._owner, self._name))
        _overload(self._owner, name, parameters if arguments else ()).emit(*arguments)

    def connect(self, receiver) -> bool:
        """Call `receiver` with the signal's arguments, as many as it takes."""
        return connect(self._owner, _first_signature(self._owner, self._name), receiver)

    def disconnect(self, receiver) -> bool:
        """Undo `connect(receiver)`. Raises ValueError where there was none."""
        return disconnect(self._owner, _first_signature(self._owner, self._name), receiver)

    def __getattr__(self, name):
        raise AttributeError(f"a PythonQt signal has no '{name}': it is sent by calling it, {self._name}(...).")


def send(owner: QtCore.QObject, name: str, *arguments) -> None:
    """Send a signal of a host object from inside the host."""
    _raw_read(owner, name).emit(*arguments)


def connect(owner: QtCore.QObject, signature: str, receiver, slot: str | None = None) -> bool:
    """PythonQt's `owner.connect(signature, callable)`, or with a receiving object and its slot's signature.

    Raises AttributeError for a signal or slot that does not exist (PythonQt prints a warning, connects nothing, and
    returns False).
    """
    if slot is not None:
        receiver = getattr(receiver, slot.partition("(")[0])
    name, parameters = _checked(owner, signature)
    if isinstance(receiver, Signal):
        receiver = receiver.__call__
    if not callable(receiver):
        raise TypeError(f"cannot connect {signature} to {receiver!r}, which cannot be called")
    most = len(parameters)
    takes = _arity(receiver)
    count = most if takes is None else min(most, takes)

    def pass_on(*arguments):
        receiver(*arguments[:count])

    _connections(owner).append((name, receiver, pass_on))
    _overload(owner, name, parameters).connect(pass_on)
    return True


def disconnect(owner: QtCore.QObject, signature: str, receiver, slot: str | None = None) -> bool:
    """Undo `connect` with the same arguments. Raises ValueError where there is no such connection."""
    if slot is not None:
        receiver = getattr(receiver, slot.partition("(")[0])
    name, parameters = _checked(owner, signature)
    known = _connections(owner)
    for i, (its_name, its_receiver, pass_on) in enumerate(known):
        if its_name == name and its_receiver == receiver:
            del known[i]
            _overload(owner, name, parameters).disconnect(pass_on)
            return True
    raise ValueError(f"{signature} of {type(owner).__name__} is not connected to {receiver!r}")


def _connections(owner) -> list:
    return _raw_read(owner, "__dict__").setdefault("_host_connections", [])


def _arity(receiver) -> int | None:
    """How many positional arguments PythonQt passes: it looks at plain functions and methods only; None is all."""
    code = getattr(getattr(receiver, "__func__", receiver), "__code__", None)
    if code is None or code.co_flags & inspect.CO_VARARGS:
        return None
    return code.co_argcount - (1 if inspect.ismethod(receiver) else 0)


def _checked(owner, signature: str) -> tuple[str, tuple[str, ...]]:
    """Name and parameter types of a signal. Raises AttributeError where the class has no such signal."""
    wanted = normalized(signature if "(" in signature else signature + "()")
    name, _, parameters = wanted.partition("(")
    known = [s for s in _signatures(type(owner)) if s.partition("(")[0] == name]
    if wanted not in known:
        known = ", ".join(known) or "no signal of that name"
        raise AttributeError(f"{type(owner).__name__} has no signal {wanted} in Slicer (it has {known}).")
    return name, tuple(filter(None, parameters.rstrip(")").split(",")))


def _first_signature(owner, name: str) -> str:
    """What `object.signal` stands for: the signal's longest signature of those PythonQt finds first."""
    return next(s for s in _signatures(type(owner)) if s.partition("(")[0] == name)


_signature_cache: dict[type, list[str]] = {}


def _signatures(cls: type) -> list[str]:
    if cls not in _signature_cache:
        found, hosted = [], _slicer_class(cls)
        if hosted:
            found += surface(hosted).signals
        meta = cls.staticMetaObject
        for i in range(meta.methodCount()):
            method = meta.method(i)
            if method.methodType() == QtCore.QMetaMethod.MethodType.Signal:
                signature = normalized(bytes(method.methodSignature()).decode())
                if "PyObject" not in signature and signature not in found:
                    found.append(signature)
        _signature_cache[cls] = found
    return _signature_cache[cls]


def _overload(owner, name: str, parameters: tuple[str, ...]):
    signal = _raw_read(owner, name)
    if not isinstance(signal, QtCore.SignalInstance):  # a Qt class has a method of the signal's name
        raise AttributeError(f"the host cannot reach the signal {name} of {type(owner).__name__}")
    if parameters:
        alias = f"_{name}_{parameters[0]}"  # a host class keeps its second overload under this name
        if hasattr(type(owner), alias):
            return _raw_read(owner, alias)
        with contextlib.suppress(IndexError, KeyError):  # a host class sends Python objects, by one signature
            return signal[",".join(parameters)]
    return signal


@cache
def _slicer_class(cls: type) -> str | None:
    return next((c.__dict__["slicer_class"] for c in cls.__mro__ if "slicer_class" in c.__dict__), None)


_rules: dict[tuple[type, str], str] = {}


def _rule(cls: type, name: str) -> str:
    """How `name` is to be looked up on instances of cls: plain, property, signal, refused or unknown."""
    key = cls, name
    if key not in _rules:
        _rules[key] = _find_rule(cls, name)
    return _rules[key]


def _find_rule(cls: type, name: str) -> str:
    for c in cls.__mro__:
        if "slicer_class" in c.__dict__ or is_qt_class(c):
            break
        if name in c.__dict__:
            return "plain"
    hosted = _slicer_class(cls)
    if hosted:
        facts = surface(hosted)
        if name in facts.signal_names:
            return "signal"
        if name in facts.properties and _accessor(cls, name):
            return "host property"
        if facts.has(name):
            return "plain" if hasattr(cls, name) else "uncovered"
        qt_base = next(c for c in cls.__mro__ if is_qt_class(c))
        if name not in ("connect", "disconnect") and not hasattr(qt_base, name) and not _has_property(qt_base, name):
            return "refused" if name in facts.hidden else "unknown"
        cls = qt_base
    if _has_property(cls, name):
        return "property"
    if name in REFUSED and not issubclass(cls, PUBLIC_ON.get(name, ())):
        return "refused"
    found = inspect.getattr_static(cls, name, None)
    if isinstance(found, QtCore.Signal):
        return "signal"
    return "unknown" if found is None and not hasattr(cls, name) else "plain"


_property_tables: dict[type, dict[str, tuple[bool, str]]] = {}


def properties(cls: type) -> dict[str, tuple[bool, str]]:
    """Qt properties of a class: name -> (writable, C++ type). Read once: PySide's meta objects do not live for long."""
    if cls not in _property_tables:
        meta, table = cls.staticMetaObject, {}
        for i in range(meta.propertyCount()):
            found = meta.property(i)
            table[found.name()] = found.isWritable(), found.typeName()
        _property_tables[cls] = table
    return _property_tables[cls]


def _has_property(cls: type, name: str) -> bool:
    return name in properties(cls)


def _read(self, name):
    if name[0] == "_" or threading.get_ident() != _MAIN_THREAD:
        if name[:2] == "__" or name[0] == "_" and threading.get_ident() == _MAIN_THREAD:
            return _raw_read(self, name)
        raise RuntimeError(f"{type(self).__name__}.{name} was touched from another thread than the main one")
    if name == "name":
        return QtCore.QObject.objectName(self)
    if name in _EXTRA:
        return _EXTRA[name].__get__(self)
    cls = type(self)
    if not is_qt_class(cls):
        own = _raw_read(self, "__dict__")
        if name in own and not isinstance(own[name], QtCore.SignalInstance):  # PySide keeps signals there
            return own[name]
    rule = _rule(cls, name)
    if rule == "host property":
        return _accessor(cls, name)[0](self)
    if rule == "plain":
        return _raw_read(self, name)
    if rule == "property":
        return _read_property(self, name)
    if rule == "signal":
        return Signal(self, name)
    hosted = _slicer_class(cls)
    if rule == "uncovered":
        raise NotImplementedError(f"Slicer has {hosted}.{name}, the host does not cover it yet (Testing/slicerhost).")
    if rule == "refused" and not _asked_in_python(sys._getframe(1), name):
        return _raw_read(self, name)
    if rule == "refused":
        why = surface(hosted).why_not(name) if hosted else f"{cls.__name__}.{name} is not there in PythonQt."
        raise AttributeError(why)
    if name.encode() in QtCore.QObject.dynamicPropertyNames(self):
        return QtCore.QObject.property(self, name)
    for child in QtCore.QObject.children(self):
        if QtCore.QObject.objectName(child) == name:
            return child
    raise AttributeError(surface(hosted).why_not(name) if hosted else f"{cls.__name__} has no attribute named '{name}'")


_attribute_loads: dict[tuple[object, int], str | None] = {}


def _asked_in_python(frame, name: str) -> bool:
    """Whether the frame's running instruction loads this attribute. Otherwise Qt asks for an override of a virtual."""
    key = frame.f_code, frame.f_lasti
    if key not in _attribute_loads:
        running = next((i for i in dis.get_instructions(frame.f_code) if i.offset == frame.f_lasti), None)
        loads = running is not None and running.opname in ("LOAD_ATTR", "LOAD_METHOD")
        _attribute_loads[key] = running.argval if loads else None
    return _attribute_loads[key] == name


_reading: set[tuple[int, str]] = set()


def _read_property(self, name):
    """Qt's value of a property. Its getter may be virtual, and PySide then asks Python for an override by its name."""
    key = id(self), name
    if key in _reading:
        return _raw_read(self, name)
    _reading.add(key)
    try:
        value = QtCore.QObject.property(self, name)
    finally:
        _reading.discard(key)
    return tuple(value) if isinstance(value, list) else value


# Set while a .ui file is loaded: PySide's loader assigns every named child to the top widget.
loading_ui = False


def _write(self, name, value):
    cls = type(self)
    if loading_ui and isinstance(value, QtCore.QObject) and QtCore.QObject.objectName(value) == name:
        return
    if isinstance(value, QtCore.SignalInstance) or name[0] == "_" and (not is_qt_class(cls) or name[:5] == "_host"):
        _raw_write(self, name, value)
        return
    if threading.get_ident() != _MAIN_THREAD:
        raise RuntimeError(f"{cls.__name__}.{name} was set from another thread than the main one")
    if name == "name":
        name = "objectName"
    hosted = _slicer_class(cls)
    rule = _rule(cls, name)
    if rule == "host property":
        if surface(hosted).properties[name].endswith("(read only)"):
            raise AttributeError(f"Property '{name}' of type '{hosted}' is not writable")
        _accessor(cls, name)[1](self, value)
    elif rule == "property":
        _write_property(self, name, value)
    elif rule == "plain" and not is_qt_class(cls) and _is_python_attribute(cls, name):
        _raw_write(self, name, value)
    elif rule in ("plain", "signal"):
        raise AttributeError(f"Slot '{name}' can not be overwritten on {cls.__name__} (PythonQt)")
    elif rule == "uncovered":
        raise NotImplementedError(f"Slicer has {hosted}.{name}, the host does not cover it yet (Testing/slicerhost).")
    elif rule == "refused":
        raise AttributeError(surface(hosted).why_not(name) if hosted else f"{cls.__name__}.{name} is not in PythonQt.")
    elif name.encode() in QtCore.QObject.dynamicPropertyNames(self):
        QtCore.QObject.setProperty(self, name, value)
    elif not is_qt_class(cls) and "slicer_class" not in cls.__dict__:
        _raw_write(self, name, value)
    else:
        raise AttributeError(
            f"'{name}' does not exist on {cls.__name__} and creating new attributes on C++ objects is not allowed"
        )


def _is_python_attribute(cls: type, name: str) -> bool:
    for c in cls.__mro__:
        if "slicer_class" in c.__dict__ or is_qt_class(c):
            return False
        if name in c.__dict__:
            return True
    return False


def _write_property(self, name, value):
    writable, kind = properties(type(self))[name]
    if not writable:
        raise AttributeError(f"Property '{name}' of type '{type(self).__name__}' is not writable")
    if value is None or not QtCore.QObject.setProperty(self, name, list(value) if isinstance(value, tuple) else value):
        raise AttributeError(
            f"Property '{name}' of type '{kind}' does not accept an object of type {type(value).__name__}"
            f" ({value!r})"
        )


def _class_name(self) -> str:
    """PythonQt's `object.className()`."""
    return type(self).__name__


def _delete(self):
    """PythonQt's `object.delete()`: the C++ object goes at once."""
    Shiboken.delete(self)


def _connect(self, *arguments) -> bool:
    """`owner.connect(signature, receiver)`, or with the sender first, as Qt's own static function has it."""
    if isinstance(arguments[0], QtCore.QObject):
        sender, signature, *receiver = arguments
        return connect(sender, signature.lstrip("2"), *receiver)
    return connect(self, *arguments)


_EXTRA = {"connect": _connect, "disconnect": disconnect, "className": _class_name, "delete": _delete}


def _refuse_new_attributes(self, name, value):
    public_member = isinstance(inspect.getattr_static(type(self), name, None), types.GetSetDescriptorType)
    if is_qt_class(type(self)) and not public_member:
        raise AttributeError(
            f"'{name}' does not exist on {type(self).__name__} and creating new attributes on C++ objects is not"
            " allowed"
        )
    _raw_write(self, name, value)


def install():
    """Change PySide6's classes once for this process."""
    if _raw_reads:
        return
    for module in QT_MODULES:
        for value in (getattr(module, name) for name in dir(module)):  # PySide6 makes its classes when asked for them
            if isinstance(value, type) and is_qt_class(value):
                _patch(value)


def _patch(cls: type):
    if issubclass(cls, enum.Enum):
        _patch_enum(cls)
        return
    for value in list(vars(cls).values()):
        if isinstance(value, type) and issubclass(value, enum.Enum):
            _patch_enum(value)
    if issubclass(cls, QtCore.QObject):
        if "__getattribute__" in cls.__dict__:
            _raw_reads[cls] = cls.__dict__["__getattribute__"]
        cls.__getattribute__ = _read
        cls.__setattr__ = _write
    elif isinstance(cls, type(QtCore.QObject)) and cls is not QtCore.Signal:
        cls.__setattr__ = _refuse_new_attributes


def _patch_enum(cls: type):
    if issubclass(cls, int):
        return
    cls.__eq__ = _enum_equal
    cls.__hash__ = _enum_hash
    cls.__int__ = cls.__index__ = _enum_int


def _enum_equal(self, other):
    if isinstance(other, enum.Enum):
        return self.value == other.value if type(other) is type(self) else NotImplemented
    return self.value == other if isinstance(other, int) else NotImplemented


def _enum_hash(self):
    return hash(self.value)


def _enum_int(self):
    return self.value
