"""Parameter nodes in Slicer's storage format, through a saved scene and back."""

import enum
import pathlib
from typing import Annotated

import pytest


@pytest.fixture
def wrapper(host):
    import slicer
    from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

    class Rank(enum.Enum):
        ACTIVITY = 1
        POINT = 2

    @parameterNodeWrapper
    class Parameters:
        volume: slicer.vtkMRMLScalarVolumeNode
        share: Annotated[float, WithinRange(0, 1)] = 0.5
        latent: int = -1
        on: bool = True
        text: str = "a"
        rank: Rank = Rank.POINT
        pinned: list[int]
        pairs: dict[str, float]
        span: tuple[float, float] = (0.0, 1.0)
        maybe: int | None
        folder: pathlib.Path

    Parameters.Rank = Rank
    return Parameters


def node_of(slicer):
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "parameters")


def test_values_lie_in_the_node_as_slicer_writes_them(wrapper):
    import slicer

    node = node_of(slicer)
    p = wrapper(node)
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    p.volume, p.share, p.on, p.latent, p.pinned, p.pairs = volume, 0.25, False, 7, [3, 5], {"a": 1.5}
    stored = {name: node.GetParameter(name) for name in node.GetParameterNames()}
    assert stored == {
        "volume": "",
        "share": "0.25",
        "latent": "7",
        "on": "False",
        "text": "a",
        "rank": "POINT",
        "pinned_len": "2",
        "pinned_0": "3",
        "pinned_1": "5",
        "pairs_len": "1",
        "pairs_0_0": "a",
        "pairs_0_1": "1.5",
        "span_0": "0.0",
        "span_1": "1.0",
        "maybe_1": "True",
        "folder": ".",
    }
    assert node.GetNodeReferenceID("volume") == volume.GetID()


def test_lists_and_dicts_write_back_when_they_change(wrapper):
    import slicer

    node = node_of(slicer)
    p = wrapper(node)
    p.pinned.append(4)
    p.pinned += [9]
    p.pairs["b"] = 2.0
    assert wrapper(node).pinned == [4, 9]
    del p.pinned[0]
    assert node.GetParameter("pinned_len") == "1" and not node.HasParameter("pinned_1")
    assert wrapper(node).pairs == {"b": 2.0}


@pytest.mark.parametrize(
    "name, value", [("share", 2.0), ("latent", 1.5), ("on", "yes"), ("text", 3), ("volume", "a"), ("maybe", "x")]
)
def test_a_value_of_another_kind_is_refused(wrapper, name, value):
    import slicer

    p = wrapper(node_of(slicer))
    before = getattr(p, name)
    with pytest.raises((TypeError, ValueError)):
        setattr(p, name, value)
    assert getattr(p, name) == before


def test_one_change_tells_observers_once(wrapper):
    import slicer
    import vtk

    p, told = wrapper(node_of(slicer)), []
    p.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: told.append(1))
    p.pinned = [1, 2, 3]
    assert len(told) == 1
    with slicer.util.NodeModify(p):
        p.latent, p.text = 3, "b"
    assert len(told) == 2


def test_everything_comes_back_from_a_saved_scene(host, wrapper, tmp_path):
    import numpy as np
    import slicer

    p = wrapper(node_of(slicer))
    p.volume = slicer.util.addVolumeFromArray(np.ones((3, 4, 5), np.float32), None, "brain")
    p.text, p.pinned, p.rank, p.maybe = 'a "quoted" <text> & more;\nsecond line', [1, 2], wrapper.Rank.ACTIVITY, 4
    host.save_scene(tmp_path / "scene.mrb")
    host.close_scene()
    host.load_scene(tmp_path / "scene.mrb")
    q = wrapper(slicer.util.getNode("parameters"))
    assert q.volume.GetName() == "brain"
    assert q.pinned == [1, 2] and q.rank is wrapper.Rank.ACTIVITY and q.maybe == 4
    assert q.text.startswith('a "quoted" <text> & more')
    assert np.array_equal(slicer.util.arrayFromVolume(q.volume), np.ones((3, 4, 5)))


def test_a_slider_for_an_unbounded_number_is_refused(host):
    import ctk
    import slicer
    from slicer.parameterNodeWrapper import parameterNodeWrapper

    @parameterNodeWrapper
    class Unbounded:
        value: float = 1.0

    with pytest.raises(RuntimeError, match="bounded"):
        Unbounded(node_of(slicer)).connectParametersToGui({"value": ctk.ctkSliderWidget()})
