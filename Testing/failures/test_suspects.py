"""The places that a check judges, on a hand-made segmentation and on a phantom's."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from MedSegLensLib.failures.findings import FALSE_POSITIVE, MISSED
from MedSegLensLib.failures.suspects import JUDGED, KINDS, STRETCH_ML, Belief, find_places, risk_map, wrong_share
from MedSegLensLib.segmenters.sampling import Slices

SPACING = (1.5, 1.0, 1.0)
"""z, y, x in mm."""
SHAPE = (24, 60, 60)


def ball(middle, radius_mm: float) -> np.ndarray:
    at = [np.arange(n) * s - m for n, s, m in zip(SHAPE, SPACING, middle, strict=True)]
    z, y, x = np.meshgrid(*at, indexing="ij")
    return z**2 + y**2 + x**2 <= radius_mm**2


def segmented(labels: np.ndarray, likely: np.ndarray | None = None) -> SimpleNamespace:
    """What `find_places` reads of a session. likely: where the segmenter is unsure of its background."""
    logits = np.zeros((4, *SHAPE), np.float32)
    for k in range(4):
        logits[k] = np.where(labels == k, 6.0, 0.0)
    if likely is not None:
        logits[2] += np.where(likely, 5.0, 0.0)
    conformed = SimpleNamespace(
        grid=SimpleNamespace(spacing=SPACING[::-1]),
        voxel_ml=float(np.prod(SPACING)) / 1000,
        brain=np.ones(SHAPE, bool),
    )
    sampling = Slices(SHAPE)
    replay = SimpleNamespace(logits=torch.from_numpy(logits).transpose(0, 1))
    return SimpleNamespace(labels=labels, conformed=conformed, sampling=sampling, replay=replay)


@pytest.fixture(scope="module")
def tumour():
    """Edema of 12 mm around a core of 7 mm, a speck far from it, and a place that the segmenter hesitates at."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[ball((18, 24, 24), 12)] = 2
    labels[ball((18, 24, 24), 7)] = 3
    speck, likely = ball((18, 50, 50), 3), ball((18, 50, 15), 4)
    labels[speck] = 2
    return segmented(labels, likely), labels, speck, likely


@pytest.fixture(scope="module")
def places(tumour):
    return find_places(tumour[0], Belief(tumour[0]), {})


def of_kind(places, kind: str, form: str, region: str) -> list[np.ndarray]:
    wanted = (KINDS.index((kind, form)), JUDGED.index(region))
    return [places.of(i) for i in range(len(places)) if (places.kind[i], places.region[i]) == wanted]


def test_each_connected_piece_is_judged_as_one(tumour, places):
    pieces = of_kind(places, FALSE_POSITIVE, "component", "WT")
    assert [len(piece) for piece in pieces] == sorted((len(piece) for piece in pieces), reverse=True)
    assert len(pieces) == 2 and np.array_equal(pieces[1], np.flatnonzero(tumour[2]))


def test_the_border_of_a_large_piece_is_cut_into_stretches_within_and_without(tumour, places):
    for kind, inside in ((FALSE_POSITIVE, True), (MISSED, False)):
        stretches = of_kind(places, kind, "boundary", "WT")
        assert len(stretches) >= 3
        voxels = np.concatenate(stretches)
        assert len(set(voxels.tolist())) == len(voxels), "a stretch has what no other one has"
        assert ((tumour[1].ravel()[voxels] > 0) == inside).all()
        depth = np.abs(np.linalg.norm(np.stack(np.unravel_index(voxels, SHAPE), 1) * SPACING - (18, 24, 24), axis=1))
        assert np.abs(depth - 12).max() <= 3 + 1.5
        ml = np.array([len(stretch) for stretch in stretches]) * np.prod(SPACING) / 1000
        assert 0.4 * STRETCH_ML <= np.median(ml) <= 2 * STRETCH_ML


def test_where_the_segmenter_hesitates_tumour_may_be_missed(tumour, places):
    pieces = of_kind(places, MISSED, "component", "WT")
    found = np.concatenate(pieces)
    assert set(np.flatnonzero(tumour[3])) & set(found.tolist()), "the likeliest brain is looked at"
    assert (tumour[1].ravel()[found] == 0).all()


def test_what_of_a_place_is_wrong_is_told_from_the_truth(tumour, places):
    truth = tumour[1].copy()
    truth[tumour[2]] = 0  # the speck was none
    truth[tumour[3]] = 2  # and this was missed
    wrong = wrong_share(places, truth)
    pieces = [i for i in range(len(places)) if places.kind[i] == 0 and places.region[i] == 0]
    assert wrong[pieces].tolist() == [0.0, 1.0]
    missed = np.array([KINDS[k][0] == MISSED for k in places.kind])
    hit = np.array([np.isin(places.of(i), np.flatnonzero(tumour[3])).mean() for i in range(len(places))])
    whole = places.region == 0
    assert np.allclose(wrong[missed & whole], hit[missed & whole])


def test_the_risk_map_shows_the_larger_risk_where_places_overlap(places):
    risks = np.linspace(0.1, 0.9, len(places))
    risk = risk_map(places, risks)
    assert risk.dtype == np.float32 and risk.shape == SHAPE
    for i in range(0, len(places), 7):
        assert (risk.ravel()[places.of(i)] >= np.float32(risks[i])).all()
    inside = np.zeros(SHAPE, bool)
    inside.ravel()[places.voxels] = True
    assert (risk[~inside] == 0).all()


def test_nothing_segmented_leaves_only_what_may_be_missed():
    session = segmented(np.zeros(SHAPE, np.uint8), ball((18, 24, 24), 6))
    places = find_places(session, Belief(session), {})
    assert len(places) and {KINDS[k] for k in places.kind} == {(MISSED, "component")}
    assert {JUDGED[r] for r in places.region} == {"WT"}


def test_a_segmenter_that_says_the_same_everywhere_gives_no_place():
    session = segmented(np.zeros(SHAPE, np.uint8))
    assert len(find_places(session, Belief(session), {})) == 0


def test_belief_is_what_the_logits_say(tumour):
    belief = Belief(tumour[0])
    p = torch.tensor([6.0, 0.0, 0.0, 0.0]).softmax(0).numpy()
    far = (0, 59, 0)
    assert belief.surest[far] == pytest.approx(p[0]) and belief.p["WT"][far] == pytest.approx(3 * p[1])
    assert belief.entropy[far] == pytest.approx(-(p * np.log(p)).sum(), rel=1e-4)
    assert belief.odds["WT"][far] == pytest.approx(np.log(3 * p[1] / p[0]), rel=1e-4)
