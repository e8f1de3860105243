"""Messages: what is sent arrives, and what is no message is refused without harm."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from MedSegLensLib.errors import Cancelled, CaseError, MedSegLensError, PackError, WorkerError
from MedSegLensLib.worker.protocol import (
    DTYPES,
    Decoder,
    Message,
    Segment,
    decode,
    encode,
    error_fields,
    error_of,
)
from MedSegLensLib.worker.segments import SharedFolder

ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda d: arrays_of.arrays(np.dtype(d), arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6))
)
VALUES = st.none() | st.booleans() | st.integers() | st.floats(-1e9, 1e9) | st.text(max_size=20)
FIELDS = st.dictionaries(st.text(max_size=8), VALUES, max_size=4)


@given(FIELDS, st.dictionaries(st.text("abc", max_size=3), ARRAYS, max_size=3), st.booleans())
@settings(max_examples=150, deadline=None)
def test_a_message_arrives_as_it_was_sent(fields, arrays, compress):
    back = decode(encode(Message("kind", fields, arrays), compress=compress))
    assert back.kind == "kind" and back.fields == fields and back.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        assert back.arrays[name].dtype == array.dtype and back.arrays[name].shape == array.shape
        assert back.arrays[name].tobytes() == array.tobytes()


@given(st.lists(st.integers(1, 40), max_size=30))
@settings(max_examples=50, deadline=None)
def test_messages_in_any_pieces_are_put_together(cuts):
    messages = [Message("a", {"n": 1}, {"x": np.arange(7)}), Message("b"), Message("c", {}, {"y": np.ones((2, 3))})]
    data, decoder, found = b"".join(encode(m) for m in messages), Decoder(), []
    for cut in [*cuts, len(data)]:
        found += decoder.feed(data[:cut])
        data = data[cut:]
    assert [m.kind for m in found] == ["a", "b", "c"] and decoder.empty
    assert np.array_equal(found[0].arrays["x"], np.arange(7))


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_refused_as_a_worker_error(data):
    with pytest.raises(WorkerError):
        decode(data)


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_a_damaged_message_is_refused_or_read_but_does_no_other_harm(data):
    whole = bytearray(
        encode(Message("edit", {"recipe": {"a": [1]}}, {"x": np.arange(30.0)}), compress=data.draw(st.booleans()))
    )
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    except MedSegLensError as problem:
        assert isinstance(problem, WorkerError)


def with_header(header: str) -> bytes:
    return struct.pack("<I", len(header)) + header.encode()


@pytest.mark.parametrize(
    "array",
    [
        '{"name":"x","dtype":"|O","shape":[1],"codec":"raw","bytes":8}',
        '{"name":"x","dtype":"<f4","shape":[99999,99999,99999],"codec":"zlib","bytes":9}',
        '{"name":"x","dtype":"<f4","shape":[-1],"codec":"raw","bytes":4}',
        '{"name":"x","dtype":"<f4","shape":[1.0],"codec":"raw","bytes":4}',
        '{"name":"x","dtype":"<f4","shape":[true],"codec":"raw","bytes":4}',
        '{"name":"x","dtype":"<f4","shape":[4],"codec":"raw","bytes":4}',
        '{"name":"x","dtype":"<f4","shape":[4],"codec":"shared","bytes":0,"segment":"../../etc/passwd"}',
        '{"name":"x","dtype":"<f4","shape":[4],"codec":"shared","bytes":0,"segment":"owner.lock"}',
        '{"name":"x","dtype":"<f4","shape":[4],"codec":"pickle","bytes":4}',
        '{"name":"x","dtype":"<f4","shape":[4],"codec":"raw","bytes":-4}',
    ],
)
def test_an_array_that_is_not_what_it_says_is_refused_before_anything_is_allocated(array):
    with pytest.raises(WorkerError):
        decode(with_header('{"kind":"k","fields":{},"arrays":[' + array + "]}") + b"\0" * 16)


def test_a_bomb_of_zeros_is_not_blown_up():
    import zlib

    bomb = zlib.compress(b"\0" * 10_000_000)
    header = '{"kind":"k","fields":{},"arrays":[{"name":"x","dtype":"|u1","shape":[20000],"codec":"zlib","bytes":%d}]}'
    with pytest.raises(WorkerError, match="does not unpack to its size"):
        decode(with_header(header % len(bomb)) + bomb)


def test_large_arrays_go_through_shared_memory_and_are_gone_when_taken():
    shared = SharedFolder.made()
    try:
        worker = SharedFolder(shared.path, "w")
        array = np.random.default_rng(0).normal(size=(40, 50, 60)).astype(np.float32)
        data = encode(Message("result", {}, {"big": array, "small": array[0, 0]}), worker)
        assert len(data) < 2000 and len(list(shared.path.glob("w-*"))) == 1
        back = decode(data, shared)
        assert np.array_equal(back.arrays["big"], array) and not list(shared.path.glob("w-*"))
    finally:
        shared.destroy()


def test_the_worker_only_looks_at_what_the_client_shares():
    shared = SharedFolder.made()
    try:
        array = np.arange(60_000, dtype=np.int32).reshape(30, 40, 50)
        held = Segment(shared.put(array), array.dtype, array.shape)
        for _ in range(2):
            worker = SharedFolder(shared.path, "w")
            assert np.array_equal(decode(encode(Message("open", {}, {"x": held})), worker).arrays["x"], array)
    finally:
        shared.destroy()
    assert not shared.path.exists()


def test_a_segment_that_is_gone_or_of_another_size_is_a_worker_error():
    shared = SharedFolder.made()
    try:
        name = shared.put(np.zeros(100, np.uint8))
        with pytest.raises(WorkerError, match="has 100 bytes"):
            shared.view(name, np.dtype("u1"), (101,))
        shared.remove(name)
        with pytest.raises(WorkerError, match="is gone"):
            shared.view(name, np.dtype("u1"), (100,))
    finally:
        shared.destroy()


@pytest.mark.parametrize("kind", [CaseError, PackError, WorkerError])
def test_errors_arrive_as_what_they_were(kind):
    problem = kind("a", "b.", "c.")
    back = error_of(error_fields(problem))
    assert type(back) is type(problem) and str(back) == str(problem)


def test_cancelling_arrives_as_cancelling_and_the_unknown_as_a_worker_error():
    assert isinstance(error_of(error_fields(Cancelled("edit"))), Cancelled)
    assert type(error_of({"error": "SystemExit", "subject": "x"})) is WorkerError
