"""pack.json and PackInfo: any valid info survives the round trip and keeps to the schema."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from MedSegLensLib.packs.checked_json import canonical_json, parse_json, schema_problems
from MedSegLensLib.packs.info import (
    SCHEMA,
    Code,
    FileInfo,
    Label,
    LensInfo,
    PackInfo,
    TrainedOn,
)
from MedSegLensLib.segmenters.architectures import SegmenterConfig

# Lone surrogates are not text; pack.json cannot hold them.
text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
texts = st.lists(text, max_size=3).map(tuple)
modalities = st.lists(st.sampled_from(["t1n", "t1c", "t2w", "t2f"]), min_size=1, max_size=4, unique=True)
counts = st.integers(1, 512)

PERCENTILES = {"kind": "percentiles", "from": [0.5, 99.5], "to": [0.0, 1.0], "clip": True}
infos = st.builds(
    PackInfo,
    name=st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,20}[a-z0-9])?", fullmatch=True),
    version=st.from_regex(r"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}", fullmatch=True),
    licence=text,
    created=st.dates().map(str),
    description=text,
    trained_on=st.builds(TrainedOn, text, texts, texts, text),
    input=st.fixed_dictionaries(
        {
            "modalities": modalities,
            "spacing": st.lists(st.none() | st.floats(0.05, 50), min_size=3, max_size=3),
            "size_divisor": st.lists(counts, min_size=3, max_size=3),
            "orientation": st.sampled_from(["LPS", "RAS", "SLP", "PIR"]),
            "normalisation": st.sampled_from(["zscore_brain", "zscore_nonzero", "zscore_volume", PERCENTILES]),
            "may_be_missing": st.just([]),
        }
    ),
    labels=st.lists(
        st.builds(
            Label,
            value=st.integers(1, 255),
            name=text,
            region=text,
            code=st.none() | st.builds(Code, text, text, st.just("SCT")),
            colour=st.tuples(*[st.integers(0, 255)] * 3),
        ),
        min_size=1,
        max_size=4,
    ).map(tuple),
    segmenter=st.builds(SegmenterConfig, st.just("unet"), st.dictionaries(text, st.integers(0, 2048), max_size=2))
    | st.builds(
        SegmenterConfig,
        st.just("segresnet"),
        st.just({}),
        st.just("patches"),
        st.tuples(*[st.integers(8, 512)] * 3),
        st.floats(0, 0.9),
        st.sampled_from([None, {"kind": "sigmoid", "channels": ["TC", "WT", "ET"]}]),
        st.lists(text, max_size=2).map(tuple),
    ),
    citation=texts,
    quality=st.dictionaries(text, st.none() | st.floats(allow_nan=False, allow_infinity=False) | text, max_size=3),
    limits=texts,
    lenses=st.lists(st.builds(LensInfo, text, text, counts, counts, counts, st.booleans()), max_size=3).map(tuple),
    files=st.dictionaries(
        text, st.builds(FileInfo, st.from_regex(r"[0-9a-f]{64}", fullmatch=True), st.integers(0, 2**31)), max_size=3
    ),
)


@settings(max_examples=150, deadline=None)
@given(info=infos)
def test_round_trip(info):
    document = parse_json(json.dumps(info.to_json()).encode())
    assert schema_problems(document, SCHEMA) == []
    assert PackInfo.from_json(document) == info
    assert PackInfo.from_json(document).to_json() == document
    assert canonical_json(parse_json(json.dumps(document, indent=3).encode())) == canonical_json(document)
