"""`slicer.parameterNodeWrapper`: typed fields over a vtkMRMLScriptedModuleNode, in Slicer's storage format.

How a value named `n` lies in the node (SetParameter unless said otherwise):

| type | storage |
| --- | --- |
| str, int, float, pathlib paths | n = str(value) |
| bool | n = "True" or "False" |
| enum.Enum | n = the member's name |
| MRML node (or None) | n = "" and node reference of role n |
| list[T] | n_len = length, n_0, n_1 ... each stored as T |
| tuple[A, B] | n_0 as A, n_1 as B |
| dict[K, V] | as list[tuple[K, V]] |
| A | B, Optional[A] | n_<index of the alternative>, None as "True" |
| parameterPack | n.<field> |

Lists, dicts and packs that are read write back when they are changed. Raises TypeError or ValueError for a value that
the field does not take.
"""

import enum
import pathlib
import sys
import types
import typing
from collections.abc import MutableMapping, MutableSequence

import slicer
import vtk

PROPERTY = "SlicerParameterName"


class Validator:
    """An annotation that refuses values: `validate(value)` raises ValueError."""

    def validate(self, value):
        raise NotImplementedError


class NotNone(Validator):
    """Any value but None."""

    def validate(self, value):
        if value is None:
            raise ValueError("Value must not be None")


class IsInstance(Validator):
    """Instances of a class."""

    def __init__(self, classtype):
        self.classtype = classtype

    def validate(self, value):
        if not isinstance(value, self.classtype):
            raise TypeError(f"Value must be of type {self.classtype}, is {value!r}")


class WithinRange(Validator):
    """minimum <= value <= maximum."""

    def __init__(self, minimum, maximum):
        self.minimum, self.maximum = minimum, maximum

    def validate(self, value):
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"Value {value} must be within [{self.minimum}, {self.maximum}]")


class Minimum(Validator):
    """value >= minimum."""

    def __init__(self, minimum):
        self.minimum = minimum

    def validate(self, value):
        if value < self.minimum:
            raise ValueError(f"Value {value} must be at least {self.minimum}")


class Maximum(Validator):
    """value <= maximum."""

    def __init__(self, maximum):
        self.maximum = maximum

    def validate(self, value):
        if value > self.maximum:
            raise ValueError(f"Value {value} must be at most {self.maximum}")


class Choice(Validator):
    """One of the choices."""

    def __init__(self, choices):
        self.choices = choices

    def validate(self, value):
        if value not in self.choices:
            raise ValueError(f"Value {value!r} must be one of {self.choices}")


class Exclude(Validator):
    """None of the values."""

    def __init__(self, excludedValues):
        self.excludedValues = excludedValues

    def validate(self, value):
        if value in self.excludedValues:
            raise ValueError(f"Value {value!r} must not be one of {self.excludedValues}")


class Default:
    """An annotation with the field's default, or a generator of it."""

    def __init__(self, value=None, *, generator=None):
        self._value, self._generator = value, generator

    @property
    def value(self):
        return self._generator() if self._generator else self._value


class Decimals:
    """An annotation with the decimals shown by the widget."""

    def __init__(self, value):
        self.value = value


class SingleStep:
    """An annotation with the step of the widget."""

    def __init__(self, value):
        self.value = value


# ---- storage: one class a kind of value; each has `default`, `is_in`, `write`, `read`, `remove` ----


class _Text:
    """Values that are one string in the node."""

    def __init__(self, kind, to_text=str, from_text=None, accepts=None):
        self.kind, self.to_text, self.from_text = kind, to_text, from_text or kind
        self.accepts = accepts or kind

    def default(self):
        return next(iter(self.kind)) if issubclass(self.kind, enum.Enum) else self.kind()

    def is_in(self, node, name):
        return node.HasParameter(name)

    def write(self, node, name, value):
        if not isinstance(value, self.accepts):
            raise TypeError(f"{name} must be of type {self.kind.__name__}, is {value!r}")
        node.SetParameter(name, self.to_text(value))

    def read(self, node, name):
        return self.from_text(node.GetParameter(name))

    def remove(self, node, name):
        node.UnsetParameter(name)


class _Node:
    """A reference to a MRML node."""

    def __init__(self, classes):
        self.classes = classes

    def default(self):
        return None

    def is_in(self, node, name):
        return node.HasParameter(name)

    def write(self, node, name, value):
        if value is not None and not isinstance(value, self.classes):
            raise TypeError(f"{name} must be a {self.classes}, is {value!r}")
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, node, name):
        return node.GetNodeReference(name)

    def remove(self, node, name):
        node.UnsetParameter(name)
        node.RemoveNodeReferenceIDs(name)


class _List:
    """list[T]."""

    def __init__(self, element):
        self.element = element

    def default(self):
        return []

    def is_in(self, node, name):
        return node.HasParameter(f"{name}_len")

    def write(self, node, name, values):
        values = list(values)
        old = int(node.GetParameter(f"{name}_len")) if self.is_in(node, name) else 0
        for i, value in enumerate(values):
            self.element.write(node, f"{name}_{i}", value)
        node.SetParameter(f"{name}_len", str(len(values)))
        for i in range(len(values), old):
            self.element.remove(node, f"{name}_{i}")

    def read(self, node, name):
        count = int(node.GetParameter(f"{name}_len")) if self.is_in(node, name) else 0
        return ObservedList([self.element.read(node, f"{name}_{i}") for i in range(count)], node, self, name)

    def remove(self, node, name):
        self.write(node, name, [])
        node.UnsetParameter(f"{name}_len")


class _Tuple:
    """tuple[A, B, ...]."""

    def __init__(self, elements):
        self.elements = elements

    def default(self):
        return tuple(e.default() for e in self.elements)

    def is_in(self, node, name):
        return self.elements[0].is_in(node, f"{name}_0")

    def write(self, node, name, values):
        values = tuple(values)
        if len(values) != len(self.elements):
            raise ValueError(f"{name} takes {len(self.elements)} values, got {len(values)}")
        for i, (element, value) in enumerate(zip(self.elements, values, strict=True)):
            element.write(node, f"{name}_{i}", value)

    def read(self, node, name):
        return tuple(element.read(node, f"{name}_{i}") for i, element in enumerate(self.elements))

    def remove(self, node, name):
        for i, element in enumerate(self.elements):
            element.remove(node, f"{name}_{i}")


class _Dict:
    """dict[K, V], a list of pairs in the node."""

    def __init__(self, key, value):
        self.pairs = _List(_Tuple([key, value]))

    def default(self):
        return {}

    def is_in(self, node, name):
        return self.pairs.is_in(node, name)

    def write(self, node, name, values):
        self.pairs.write(node, name, dict(values).items())

    def read(self, node, name):
        return ObservedDict(dict(self.pairs.read(node, name)), node, self, name)

    def remove(self, node, name):
        self.pairs.remove(node, name)


class _NoneValue:
    """None, as an alternative of a union."""

    def default(self):
        return None

    def is_in(self, node, name):
        return node.HasParameter(name)

    def write(self, node, name, value):
        if value is not None:
            raise TypeError(f"{name} must be None")
        node.SetParameter(name, "True")

    def read(self, node, name):
        return None

    def remove(self, node, name):
        node.UnsetParameter(name)


class _Union:
    """A | B."""

    def __init__(self, alternatives):
        self.alternatives = alternatives

    def default(self):
        last = self.alternatives[-1]
        return None if len(self.alternatives) == 2 and isinstance(last, _NoneValue) else self.alternatives[0].default()

    def is_in(self, node, name):
        return any(a.is_in(node, f"{name}_{i}") for i, a in enumerate(self.alternatives))

    def write(self, node, name, value):
        for i, alternative in enumerate(self.alternatives):
            try:
                alternative.write(node, f"{name}_{i}", value)
            except (TypeError, ValueError):
                continue
            for j, other in enumerate(self.alternatives):
                if j != i and other.is_in(node, f"{name}_{j}"):
                    other.remove(node, f"{name}_{j}")
            return
        raise TypeError(f"{name} takes no {value!r}")

    def read(self, node, name):
        for i, alternative in enumerate(self.alternatives):
            if alternative.is_in(node, f"{name}_{i}"):
                return alternative.read(node, f"{name}_{i}")
        raise KeyError(name)

    def remove(self, node, name):
        for i, alternative in enumerate(self.alternatives):
            alternative.remove(node, f"{name}_{i}")


class _Pack:
    """A parameterPack."""

    def __init__(self, kind):
        self.kind = kind

    def default(self):
        return self.kind()

    def is_in(self, node, name):
        return all(f.storage.is_in(node, f"{name}.{n}") for n, f in self.kind.allParameters.items())

    def write(self, node, name, value):
        if not isinstance(value, self.kind):
            raise TypeError(f"{name} must be a {self.kind.__name__}, is {value!r}")
        for n, field in self.kind.allParameters.items():
            field.write(node, f"{name}.{n}", getattr(value, n))

    def read(self, node, name):
        fields = {n: f.storage.read(node, f"{name}.{n}") for n, f in self.kind.allParameters.items()}
        value = self.kind(**fields)
        object.__setattr__(value, "_written", lambda: _modify(node, lambda: self.write(node, name, value)))
        return value

    def remove(self, node, name):
        for n, field in self.kind.allParameters.items():
            field.storage.remove(node, f"{name}.{n}")


def _modify(node, change):
    with slicer.util.NodeModify(node):
        change()


class _Observed:
    """A container read from a node, which writes itself back when it is changed."""

    def __init__(self, values, node, storage, name):
        self._values, self._node, self._storage, self._name = values, node, storage, name

    def _save(self):
        _modify(self._node, lambda: self._storage.write(self._node, self._name, self._values))

    def __len__(self):
        return len(self._values)

    def __getitem__(self, key):
        return self._values[key]

    def __setitem__(self, key, value):
        self._values[key] = value
        self._save()

    def __delitem__(self, key):
        del self._values[key]
        self._save()

    def __eq__(self, other):
        return self._values == (other._values if isinstance(other, _Observed) else other)

    def __repr__(self):
        return f"{type(self).__name__}({self._values!r})"


class ObservedList(_Observed, MutableSequence):
    """A list[T] read from a node."""

    def insert(self, index, value):
        self._values.insert(index, value)
        self._save()

    def __add__(self, other):
        raise NotImplementedError("Adding an ObservedList is not supported in Slicer. However, += is supported.")


class ObservedDict(_Observed, MutableMapping):
    """A dict[K, V] read from a node."""

    def __iter__(self):
        return iter(self._values)


def _is_node_class(kind) -> bool:
    return isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode)


def _split(annotated):
    if typing.get_origin(annotated) is typing.Annotated:
        kind, *annotations = typing.get_args(annotated)
        return kind, annotations
    return annotated, []


def _storage(annotated):
    kind, annotations = _split(annotated)
    validators = [a for a in annotations if isinstance(a, Validator)]
    storage = _plain_storage(kind)
    return _Validated(storage, validators) if validators else storage


def _plain_storage(kind):
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _Union([_storage(a) for a in arguments])
    if origin is list:
        return _List(_storage(arguments[0]))
    if origin is tuple:
        return _Tuple([_storage(a) for a in arguments])
    if origin is dict:
        return _Dict(*map(_storage, arguments))
    if kind is type(None):
        return _NoneValue()
    if kind is bool:
        return _Text(bool, str, lambda text: text == "True")
    if kind is float:
        return _Text(float, accepts=(int, float))
    if kind in (int, str) or isinstance(kind, type) and issubclass(kind, pathlib.PurePath):
        return _Text(kind)
    if _is_node_class(kind):
        return _Node(kind)
    if isParameterPack(kind):
        return _Pack(kind)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _Text(kind, lambda member: member.name, lambda text: kind[text])
    raise TypeError(f"the host has no storage for the type {kind!r}")


class _Validated:
    """A storage behind validators."""

    def __init__(self, storage, validators):
        self._storage, self._validators = storage, validators

    def __getattr__(self, name):
        return getattr(self._storage, name)

    def write(self, node, name, value):
        for validator in self._validators:
            validator.validate(value)
        self._storage.write(node, name, value)


class _Field:
    """One field of a wrapper or pack: its storage and its default."""

    def __init__(self, name, annotated, owner):
        self.annotated = annotated
        self.kind, self.annotations = _split(annotated)
        self.storage = _storage(annotated)
        self.write = self.storage.write
        given = next((a for a in self.annotations if isinstance(a, Default)), None)
        if name in owner.__dict__:
            given = Default(owner.__dict__[name])
        self._given = given

    def default(self):
        return self._given.value if self._given else self.storage.default()


def _fields(cls) -> dict[str, _Field]:
    return {name: _Field(name, kind, cls) for name, kind in typing.get_type_hints(cls, include_extras=True).items()}


# ---- parameterPack ----


def isParameterPack(kind) -> bool:
    """Whether a class (or an instance) was decorated with parameterPack."""
    return getattr(kind, "_is_parameterPack", False)


def parameterPack(classtype=None):
    """Class decorator: typed fields that are stored together."""
    if classtype is None:
        return parameterPack
    fields = _fields(classtype)

    def __init__(self, *values, **named):
        given = dict(zip(fields, values, strict=False)) | named
        unknown = set(given) - set(fields)
        if unknown:
            raise TypeError(f"{classtype.__name__} has no {sorted(unknown)}")
        for name, field in fields.items():
            object.__setattr__(self, name, given[name] if name in given else field.default())

    def __setattr__(self, name, value):
        if name not in fields:
            raise AttributeError(f"{classtype.__name__} has no field {name}")
        object.__setattr__(self, name, value)
        if "_written" in self.__dict__:
            self._written()

    def __eq__(self, other):
        return isinstance(other, classtype) and all(getattr(self, n) == getattr(other, n) for n in fields)

    classtype.__init__, classtype.__setattr__, classtype.__eq__ = __init__, __setattr__, __eq__
    classtype.allParameters, classtype._is_parameterPack = fields, True
    classtype.getValue = lambda self, name: _dotted_get(self, name)
    classtype.setValue = lambda self, name, value: _dotted_set(self, name, value)
    classtype.dataType = classmethod(lambda cls, name: fields[name].annotated)
    return classtype


def _dotted_get(owner, name):
    for part in name.split("."):
        owner = getattr(owner, part)
    return owner


def _dotted_set(owner, name, value):
    *path, last = name.split(".")
    setattr(_dotted_get(owner, ".".join(path)) if path else owner, last, value)


# ---- parameterNodeWrapper ----


def isParameterNodeWrapper(classOrObj) -> bool:
    """Whether a class (or an instance) was decorated with parameterNodeWrapper."""
    return getattr(classOrObj, "_is_parameter_node_wrapper", False)


def parameterNodeWrapper(classtype=None):
    """Class decorator: typed attributes that live in a vtkMRMLScriptedModuleNode."""
    if classtype is None:
        return parameterNodeWrapper
    fields = _fields(classtype)
    for name, field in fields.items():
        setattr(classtype, name, _attribute(name, field))
    reserved = dict(
        allParameters=fields,
        _is_parameter_node_wrapper=True,
        getValue=lambda self, name: _dotted_get(self, name),
        setValue=lambda self, name, value: _dotted_set(self, name, value),
        default=lambda self, name: Default(fields[name].default()),
        dataType=staticmethod(lambda name: _data_type(fields, name)),
        isCached=lambda self, name: True,
        connectGui=_connect_gui,
        connectParametersToGui=_connect_parameters,
        disconnectGui=_disconnect_gui,
        StartModify=lambda self: self.parameterNode.StartModify(),
        EndModify=lambda self, was: self.parameterNode.EndModify(was),
        AddObserver=lambda self, event, callback, priority=0.0: (
            self.parameterNode.AddObserver(event, callback, priority)
        ),
        RemoveObserver=lambda self, tag: self.parameterNode.RemoveObserver(tag),
        Modified=lambda self: self.parameterNode.Modified(),
    )
    for name, value in reserved.items():
        if name in classtype.__dict__:
            raise ValueError(f"Cannot use reserved name '{name}' in a parameterNodeWrapper")
        setattr(classtype, name, value)
    classtype.__init__ = _init_wrapper
    return classtype


def _attribute(name, field):
    def read(self):
        if not field.storage.is_in(self.parameterNode, self._prefix + name):
            field.storage.write(self.parameterNode, self._prefix + name, field.default())
        return field.storage.read(self.parameterNode, self._prefix + name)

    def write(self, value):
        _modify(self.parameterNode, lambda: field.write(self.parameterNode, self._prefix + name, value))

    return property(read, write)


def _init_wrapper(self, parameterNode, prefix=None):
    self.parameterNode, self._prefix = parameterNode, prefix or ""
    self._connections, self._next_tag, self._updating = {}, 0, False
    for name, field in self.allParameters.items():
        if not field.storage.is_in(parameterNode, self._prefix + name):
            field.write(parameterNode, self._prefix + name, field.default())


def _data_type(fields, name):
    first, _, rest = name.partition(".")
    if first not in fields:
        raise ValueError(f"Cannot find a param with the given name: {first} (there are {', '.join(fields)})")
    return fields[first].kind.dataType(rest) if rest else fields[first].annotated


def _connect_gui(self, gui):
    """Connect the widgets that carry a SlicerParameterName; returns the tag for disconnectGui."""
    import qt

    widgets = gui.findChildren(qt.QWidget) if hasattr(gui, "isWidgetType") else vars(gui).values()
    found = {w.property(PROPERTY): w for w in widgets if w.property(PROPERTY)}
    return self.connectParametersToGui(found)


def _connect_parameters(self, mapping):
    """Connect parameters to widgets by name; returns the tag for disconnectGui."""
    from .gui_connectors import make_connector

    connectors = {name: make_connector(widget, self.dataType(name)) for name, widget in mapping.items()}
    tag, self._next_tag = self._next_tag, self._next_tag + 1
    self._connections[tag] = connectors
    for name, connector in connectors.items():
        connector.write(self.getValue(name))
        connector.connect(_from_widget(self, name, connector))
    self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: _to_widgets(self))
    return tag


def _from_widget(self, name, connector):
    def changed():
        if not self._updating:
            with slicer.util.NodeModify(self):
                self.setValue(name, connector.read())

    return changed


def _to_widgets(self):
    if self._updating:
        return
    self._updating = True
    try:
        for connectors in list(self._connections.values()):
            for name, connector in connectors.items():
                connector.write(self.getValue(name))
    finally:
        self._updating = False


def _disconnect_gui(self, tag):
    for connector in self._connections.pop(tag, {}).values():
        connector.disconnect()


def install():
    """Put the wrapper where the module finds it: the package slicer.parameterNodeWrapper and its parts."""
    package = types.ModuleType("slicer.parameterNodeWrapper")
    package.__path__ = []
    parts = {
        "wrapper": (parameterNodeWrapper, isParameterNodeWrapper),
        "validators": (NotNone, IsInstance, WithinRange, Minimum, Maximum, Choice, Exclude, Validator),
        "default": (Default,),
        "parameterPack": (parameterPack, isParameterPack),
        "guiConnectors": (Decimals, SingleStep),
    }
    for part, names in parts.items():
        module = types.ModuleType(f"slicer.parameterNodeWrapper.{part}")
        for value in names:
            setattr(module, value.__name__, value)
            setattr(package, value.__name__, value)
        sys.modules[module.__name__] = module
        if part != "parameterPack":  # the decorator has the name, as in Slicer
            setattr(package, part, module)
    sys.modules[package.__name__] = package
    slicer.parameterNodeWrapper = package
