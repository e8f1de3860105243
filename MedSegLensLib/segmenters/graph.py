"""Any network as a graph that can be cut at its taps.

`torch.export` turns the network into a flat graph of ATen operations for one spatial input size and any number of
samples. A tap is a named module whose output is marked in that graph by an identity operation. Everything that
depends on the mark is the *tail*; what the tail reads from before the mark are its *skips*. So a tail needs no
hand-cut copy of its network, and nothing before the tap is run again.
"""

import difflib
import operator
import threading
from collections.abc import Iterable

import torch
from torch import fx, nn

from MedSegLensLib.errors import MedSegLensError, UsageError


@torch.library.custom_op("medseglens::tap", mutates_args=())
def mark(x: torch.Tensor, name: str) -> torch.Tensor:
    """Identity that stands in the graph for "the output of the module `name`"."""
    return x.clone()


@mark.register_fake
def _(x, name):
    return torch.empty_like(x)


class CannotCapture(torch._dynamo.exc.TorchDynamoException):
    """`torch.export` cannot follow this network."""


MARK = torch.ops.medseglens.tap.default


class Intervene(nn.Module):
    """What a mark becomes inside a tail: `change(x)` while an edit of that tap runs, else the identity. A change is
    that of the thread that sets it: a tail may run in several at once."""

    def __init__(self):
        super().__init__()
        self._of_thread = threading.local()

    @property
    def change(self):
        return getattr(self._of_thread, "change", None)

    @change.setter
    def change(self, change):
        self._of_thread.change = change

    def forward(self, x):
        change = self.change
        return x if change is None else change(x)


def tensor_output(output: object) -> torch.Tensor | None:
    """The tensor that a tap reads from a module's output: the output itself, or the first tensor of a tuple."""
    if isinstance(output, torch.Tensor):
        return output
    if isinstance(output, tuple | list) and output and isinstance(output[0], torch.Tensor):
        return output[0]
    return None


def no_such_tap(name: str, modules: Iterable[str]) -> UsageError:
    """What to say of a tap that is no module of the network: names like it, those of its last part first."""
    modules = [m for m in modules if m]
    near = [m for m in modules if name and (m.endswith(f".{name}") or m.startswith(f"{name}."))][:3]
    near += [m for m in difflib.get_close_matches(name, modules, n=4, cutoff=0.5) if m not in near]
    remedy = f"Like it are: {', '.join(near[:5])}." if near else "List them with `medseglens pack show PACK --taps`."
    return UsageError(name, "is not a module of this segmenter.", remedy)


def capture(network: nn.Module, example: torch.Tensor, taps: list[str]) -> fx.GraphModule:
    """The network as a functional ATen graph in which the output of each tap is marked.

    example: (B, C, *spatial) with B >= 2; the graph holds for this spatial size and any B. Raises UsageError for a
    tap that is no module of the network, or that does not run exactly once; CannotCapture for a network that
    `torch.export` cannot follow, as where Python branches on the data.
    """
    modules = dict(network.named_modules())
    handles = []
    for name in taps:
        if name not in modules:
            raise no_such_tap(name, modules)

        def mark_output(_module, _inputs, output, name=name):
            tensor = tensor_output(output)
            if tensor is None:
                raise UsageError(name, "does not return a tensor.", "Choose a tap whose output is a feature map.")
            marked = mark(tensor, name)
            return marked if tensor is output else type(output)([marked, *output[1:]])

        handles.append(modules[name].register_forward_hook(mark_output, prepend=True))
    try:
        with torch.no_grad():
            program = torch.export.export(
                network,
                (example,),
                dynamic_shapes=({0: torch.export.Dim("samples", min=1, max=65535)},),
                strict=False,
            )
            if _overwrites(program.graph_module):
                # Decomposing nothing still makes the graph functional: no operation overwrites a cached skip. It traces
                # the network once more, which takes longer than the export itself (SegFormer 3.6 s after 3.0 s).
                program = program.run_decompositions({})
            module = program.module(check_guards=False)
    except (MedSegLensError, MemoryError):
        raise
    except Exception as problem:  # each of torch's layers has errors of its own
        first = str(problem).splitlines()[0] if str(problem) else ""
        raise CannotCapture(f"{type(problem).__name__}: {first}") from problem
    finally:
        for handle in handles:
            handle.remove()
    _forget_tracing(module)
    _drop_identities(module)
    _fold_constants(module)
    marked = [node.args[1] for node in module.graph.nodes if node.target is MARK]
    for name in taps:
        if marked.count(name) != 1:
            raise UsageError(
                name,
                f"runs {marked.count(name)} times in one forward pass, so it is not one tap.",
                "Choose a module that runs exactly once.",
            )
    return module


def _overwrites(module: fx.GraphModule) -> bool:
    """Whether an operation changes its input in place."""
    operations = {node.target for node in module.graph.nodes if isinstance(node.target, torch._ops.OpOverload)}
    return any(operation._schema.is_mutable for operation in operations)


def _forget_tracing(module: fx.GraphModule) -> None:
    """Drop what the tracer remembered of shapes. It refers to itself by way of C++, where no garbage collector sees it:
    2.6 MB a capture would stay, of every case that a process opens."""
    for node in module.graph.nodes:
        tracer = getattr(getattr(node.meta.get("val"), "fake_mode", None), "shape_env", None)
        if hasattr(tracer, "fake_tensor_cache"):
            tracer.fake_tensor_cache.clear()


def _drop_identities(module: fx.GraphModule) -> None:
    """Remove dropout, padding by nothing, and the copies they leave behind: each costs a pass over memory."""
    for node in list(module.graph.nodes):
        copied = node.target is torch.ops.aten.clone.default and not node.kwargs.get("memory_format")
        padded = node.target is torch.ops.aten.pad.default and not any(node.args[1])
        dropped = node.target is torch.ops.aten.dropout.default and not node.args[2]
        if copied or padded or dropped:
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)
    module.recompile()


def _fold_constants(module: fx.GraphModule) -> None:
    """Compute at once what depends on weights alone (a reshaped weight, a table of relative positions): else a tail
    would take it for a skip, of which there is one for each sample."""
    values: dict[fx.Node, object] = {}
    for node in module.graph.nodes:
        if node.op == "get_attr":
            values[node] = operator.attrgetter(node.target)(module)
        elif (
            node.op == "call_function"
            and isinstance(node.target, torch._ops.OpOverload)
            and node.target is not MARK
            and isinstance(node.meta.get("val"), torch.Tensor)
            and torch.Tag.nondeterministic_seeded not in node.target.tags
            and all(used in values for used in node.all_input_nodes)
        ):
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
            with torch.no_grad():
                values[node] = node.target(*args, **kwargs)
    for number, (node, value) in enumerate(list(values.items())):
        if node.op != "get_attr" and any(user not in values for user in node.users):
            name = f"_constant_{number}"
            module.register_buffer(name, value, persistent=False)
            with module.graph.inserting_before(node):
                constant = module.graph.get_attr(name)
            constant.meta = dict(node.meta)
            node.replace_all_uses_with(constant)
    module.graph.eliminate_dead_code()
    module.recompile()


def marked_node(module: fx.GraphModule, tap: str) -> fx.Node:
    return next(node for node in module.graph.nodes if node.target is MARK and node.args[1] == tap)


def output_node(module: fx.GraphModule) -> fx.Node:
    """The node that computes the logits."""
    output = next(node for node in reversed(module.graph.nodes) if node.op == "output")
    result = output.args[0]
    return result[0] if isinstance(result, tuple | list) else result


def tail_nodes(module: fx.GraphModule, start: fx.Node) -> list[fx.Node]:
    """All nodes that depend on `start`, in order, `start` and the output left out."""
    reached = {start}
    for node in module.graph.nodes:
        if node.op != "output" and any(used in reached for used in node.all_input_nodes):
            reached.add(node)
    reached.discard(start)
    return [node for node in module.graph.nodes if node in reached]


def cut_tail(
    module: fx.GraphModule, start: fx.Node, end: fx.Node | None = None
) -> tuple[fx.GraphModule, list[fx.Node]]:
    """The tail after `start` as a module of its own, `tail(start value, *skips) -> logits`, and the skips' nodes.

    With `end`, the stretch from `start` to `end` instead. Later marks become `Intervene` submodules named by
    `intervention_name`.
    """
    graph, copies, skips = fx.Graph(), {}, []
    copies[start] = graph.placeholder("tap")
    copies[start].meta = dict(start.meta)
    end = end or output_node(module)
    inside = _nodes_between(tail_nodes(module, start), end)

    def copy_of(node: fx.Node) -> fx.Node:
        if node in copies:
            return copies[node]
        if node.op == "get_attr":
            copies[node] = graph.node_copy(node)
        elif isinstance(node.meta.get("val"), torch.SymInt | int):
            copies[node] = _size_of(node)
        else:
            with graph.inserting_after(list(graph.nodes)[len(skips)]):  # placeholders stay first
                copies[node] = graph.placeholder(f"skip_{len(skips)}")
            copies[node].meta = dict(node.meta)
            skips.append(node)
        return copies[node]

    def _size_of(node: fx.Node) -> fx.Node:
        # Sizes in the graph are functions of the number of samples alone; the tail reads it off its first input.
        if node.target is torch.ops.aten.sym_size.int and node.args[1] == 0:
            return graph.call_function(torch.ops.aten.sym_size.int, (copies[start], 0))
        if getattr(node.target, "__module__", "") in ("_operator", "operator", "math"):
            return graph.node_copy(node, copy_of)
        raise UsageError(
            str(node), "has a size that depends on more than the number of samples.", "Choose a later tap."
        )

    attributes: dict[str, nn.Module] = {}
    for node in inside:
        if node.target is MARK:
            name = intervention_name(node.args[1])
            attributes[name] = Intervene()
            copies[node] = graph.call_module(name, (copy_of(node.args[0]),))
            copies[node].meta = dict(node.meta)
        else:
            copies[node] = graph.node_copy(node, copy_of)
    graph.output(copies[end])
    root = nn.Module()
    for node in graph.nodes:
        if node.op == "get_attr":
            _place(root, node.target, operator.attrgetter(node.target)(module))
    for name, value in attributes.items():
        root.add_module(name, value)
    return fx.GraphModule(root, graph), skips


def _nodes_between(nodes: list[fx.Node], end: fx.Node) -> list[fx.Node]:
    """Those of `nodes` (in order) that `end` depends on, `end` included."""
    needed = {end}
    for node in reversed(nodes):
        if node in needed:
            needed.update(node.all_input_nodes)
    return [node for node in nodes if node in needed]


def intervention_name(tap: str) -> str:
    return "at_" + tap.replace(".", "_")


def _place(root: nn.Module, path: str, value: object) -> None:
    *parents, last = path.split(".")
    for name in parents:
        if not hasattr(root, name):
            root.add_module(name, nn.Module())
        root = getattr(root, name)
    if isinstance(value, nn.Parameter):
        root.register_parameter(last, value)
    elif isinstance(value, torch.Tensor):
        root.register_buffer(last, value)
    else:
        setattr(root, last, value)


def with_outputs(module: fx.GraphModule, wanted: list[fx.Node]) -> fx.GraphModule:
    """The whole network, returning `(logits, *wanted values)`."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in module.graph.nodes:
        if node.op != "output":
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output((copies[output_node(module)], *(copies[node] for node in wanted)))
    whole = fx.GraphModule(module, graph)
    whole.graph.eliminate_dead_code()
    whole.recompile()
    return whole
