"""What is read off a session once for its places: sums over the voxels of each, small, and all that the features of
detection are made of. A change of the features needs no new session.

Arrays by name, P places, J_t latents of tap t, taps from early to late:

- "places": int64 (P, 3): kind (`suspects.KINDS`), region (`suspects.JUDGED`), voxels. "ml", "middle" (voxel z, y, x).
- "shape": float32 (P, 4): standard deviation along its three axes, longest first, and depth under the brain's surface;
  mm.
- "belief": float32 (P, 7): means over the place of the entropy (nat), the probability of the most likely label, the
  probabilities of WT, TC and ET, and the mean and the largest log odds of its own region.
- "code t", "fires t": float32 (P + pools, J_t): mean code over the place's voxels, and the share of them where it is
  above 0. A voxel has the code of the token that decides it. The last rows are the pools `POOLS`: the brain, and the
  segmented WT, TC and ET; zeros for one that is empty.
- "case": float64: see `CASE`. "grid": spacing (z, y, x, mm).
- with the truth: "wrong" (P,), see `suspects.wrong_share`; "truth ml" and "dice" of `JUDGED`, nan where absent in both.
"""

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse
from scipy import ndimage

from MedSegLensLib.cases.case import REGIONS, region_mask
from MedSegLensLib.failures.suspects import JUDGED, Belief, Places, find_places, wrong_share
from MedSegLensLib.segmenters.sampling import whole

if TYPE_CHECKING:
    from MedSegLensLib.editing.session import Session
    from MedSegLensLib.lenses.codes import Codes

LAYOUT = 1
"""Counted up where what is read changes, so that a journal's old readings are not taken."""

POOLS = ("brain", *JUDGED)
ENTROPY = ("mean", "standard deviation", "90 %", "99 %")
CASE = (
    *(f"ml {region}" for region in REGIONS),
    "ml brain",
    *(f"entropy {pool}, {measure}" for pool in ("brain", *JUDGED, "border") for measure in ENTROPY),
    *(f"surest {pool}" for pool in ("brain", *JUDGED, "border")),
    "entropy, sum over the brain, nat mL",
)
"""Names of the case's numbers. border: voxels of WT, and within one voxel of it, whose neighbour has another label."""


def read_places(session: "Session", truth: np.ndarray | None = None) -> tuple[Places, dict[str, np.ndarray]]:
    """The places of a session and their readings. truth: uint8 labels (Z, Y, X) of the network's grid, for training."""
    belief = Belief(session)
    owners = {tap: deciding_tokens(session, tap) for tap in session.replay.taps}
    places = find_places(session, belief, likeness_by_latents(session, owners))
    arrays = {
        "places": np.stack([places.kind, places.region, places.sizes], 1),
        "ml": (places.sizes * session.conformed.voxel_ml).astype(np.float32),
        "middle": places.middles(),
        "shape": shapes_of(session, places),
        "belief": _beliefs(belief, places),
        "case": _case_numbers(session, belief),
        "grid": np.array(session.conformed.grid.spacing[::-1]),
    }
    for tap, owner in owners.items():
        code, fires = _by_place(session, tap, owner, places)
        arrays |= {f"code {tap}": code, f"fires {tap}": fires}
    if truth is not None:
        arrays["wrong"] = wrong_share(places, truth)
        arrays["truth ml"] = np.array([session.region_ml(truth, region) for region in JUDGED])
        arrays["dice"] = np.array([dice_of(session.labels, truth, region) for region in JUDGED])
    return places, arrays


def deciding_tokens(session: "Session", tap: str) -> np.ndarray:
    """The token of a tap that decides each voxel, int32 (Z, Y, X): where windows overlap, that of the window that has
    the largest say in the voxel."""
    sampling, grid = session.sampling, session.codes[tap].grid[1:]
    steps = [np.arange(n) * g // n for n, g in zip(sampling.sample_shape, grid, strict=True)]
    cells = np.ravel_multi_index(np.meshgrid(*steps, indexing="ij"), grid).astype(np.int32)
    size = int(np.prod(grid))
    owner, most = np.zeros(session.labels.shape, np.int32), np.full(session.labels.shape, -1.0, np.float32)
    for sample in range(sampling.count):
        place = sampling.place(sample, whole(sampling.sample_shape))
        inside = tuple(slice(0, p.stop - p.start) for p in place[-cells.ndim :])
        if not sampling.overlapping:
            owner[place] = cells[inside] + sample * size
            continue
        say = np.broadcast_to(sampling.say(sample).numpy(), sampling.sample_shape)[inside]
        larger = say > most[place]
        owner[place][larger] = cells[inside][larger] + sample * size
        most[place][larger] = say[larger]
    return owner


def likeness_by_latents(session: "Session", owners: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """How much each voxel looks like WT, TC and ET: what share of its code is by latents that fire there on the pack's
    training cases (the catalogue), mean over the taps, float32 (Z, Y, X). {} for a pack without a catalogue."""
    table = session.pack.catalogue()
    if table is None:
        return {}
    columns = {"WT": ("share_ncr", "share_ed", "share_et"), "TC": ("share_ncr", "share_et"), "ET": ("share_et",)}
    rows = table.select(["tap", "latent", "mean", "share_ncr", "share_ed", "share_et"]).to_pylist()
    alike = {region: np.zeros(session.labels.shape, np.float32) for region in columns}
    for tap, owner in owners.items():
        codes = session.codes[tap]
        shares, scale = np.zeros((len(columns), codes.n_latents)), np.ones(codes.n_latents)
        for row in rows:
            if row["tap"] == tap:
                shares[:, row["latent"]] = [sum(row[c] or 0.0 for c in wanted) for wanted in columns.values()]
                scale[row["latent"]] = row["mean"] or 1.0
        weights = np.stack([np.ones(codes.n_latents), *shares]) / scale
        sums = _columns(codes, codes.values) @ weights.T.astype(np.float32)  # (tokens, 1 + regions)
        for region, like in zip(columns, (sums[:, 1:] / np.maximum(sums[:, :1], 1e-9)).T, strict=True):
            alike[region] += like[owner] / len(owners)
    return alike


def _by_place(session: "Session", tap: str, owner: np.ndarray, places: Places) -> tuple[np.ndarray, np.ndarray]:
    codes = session.codes[tap]
    row = np.repeat(np.arange(len(places)), places.sizes)
    token = owner.ravel()[places.voxels]
    pools = [session.conformed.brain, *(region_mask(session.labels, r) & session.conformed.brain for r in JUDGED)]
    for i, pool in enumerate(pools, start=len(places)):
        inside = owner[pool]
        row, token = np.concatenate([row, np.full(len(inside), i)]), np.concatenate([token, inside])
    count = len(places) + len(pools)
    sizes = np.bincount(row, minlength=count)
    weight = scipy.sparse.csr_matrix((np.ones(len(row), np.float32), (row, token)), (count, codes.n_tokens))
    weight = scipy.sparse.diags(1 / np.maximum(sizes, 1)).astype(np.float32) @ weight
    dense = []
    for values in (codes.values, np.ones_like(codes.values)):
        # (latents, tokens) @ (tokens, places): a product with the transposes reads the codes as they lie.
        dense.append((_columns(codes, values).T @ weight.T).T.toarray().astype(np.float32))
    return dense[0], dense[1]


def _columns(codes: "Codes", values: np.ndarray) -> scipy.sparse.csc_matrix:
    return scipy.sparse.csc_matrix((values, codes.tokens, codes.pointers), (codes.n_tokens, codes.n_latents))


def shapes_of(session: "Session", places: Places) -> np.ndarray:
    spacing = np.array(session.conformed.grid.spacing[::-1])
    step = tuple(max(1, int(3 // s)) for s in spacing)  # depth to some 3 mm is enough, and takes a thirtieth
    coarse = np.pad(session.conformed.brain[tuple(slice(None, None, s) for s in step)], 1)
    depth = ndimage.distance_transform_edt(coarse, sampling=spacing * step)[1:-1, 1:-1, 1:-1]
    shapes = np.zeros((len(places), 4), np.float32)
    for i in range(len(places)):
        index = np.stack(np.unravel_index(places.of(i), places.shape), 1)
        if len(index) > 1:
            spread = np.linalg.eigvalsh(np.cov((index * spacing).T))
            shapes[i, :3] = np.sqrt(np.maximum(spread, 0))[::-1]
        at = np.minimum(index // step, np.array(depth.shape) - 1)
        shapes[i, 3] = depth[tuple(at.T)].mean()
    return shapes


def _beliefs(belief: Belief, places: Places) -> np.ndarray:
    columns = [places.means(volume) for volume in (belief.entropy, belief.surest, *belief.p.values())]
    mean, most = np.zeros(len(places)), np.zeros(len(places))
    for r, region in enumerate(JUDGED):
        own = places.region == r
        if own.any():
            odds = belief.odds[region]
            mean = np.where(own, places.means(odds), mean)
            most = np.where(own, np.maximum.reduceat(odds.ravel()[places.voxels], places.pointers[:-1]), most)
    return np.stack([*columns, mean, most], 1).astype(np.float32)


def _case_numbers(session: "Session", belief: Belief) -> np.ndarray:
    brain, labels = session.conformed.brain, session.labels
    pools = [brain, *(region_mask(labels, region) & brain for region in JUDGED), _border(labels) & brain]
    entropies, surest = [], []
    for pool in pools:
        inside = belief.entropy[pool]
        measures = (np.mean, np.std, lambda v: np.quantile(v, 0.9), lambda v: np.quantile(v, 0.99))
        entropies += [float(measure(inside)) if len(inside) else np.nan for measure in measures]
        surest.append(float(belief.surest[pool].mean()) if len(inside) else np.nan)
    voxel_ml = session.conformed.voxel_ml
    volumes = [session.region_ml(labels, region) for region in REGIONS]
    total = float(belief.entropy[brain].sum(dtype=np.float64)) * voxel_ml
    return np.array([*volumes, np.count_nonzero(brain) * voxel_ml, *entropies, *surest, total])


def _border(labels: np.ndarray) -> np.ndarray:
    """Voxels with a neighbour by a face that has another label, bool (Z, Y, X)."""
    border = np.zeros(labels.shape, bool)
    for axis in range(3):
        first, last = [slice(None)] * 3, [slice(None)] * 3
        first[axis], last[axis] = slice(None, -1), slice(1, None)
        differ = labels[tuple(first)] != labels[tuple(last)]
        border[tuple(first)] |= differ
        border[tuple(last)] |= differ
    return border


def dice_of(labels: np.ndarray, truth: np.ndarray, region: str) -> float:
    """Dice; 0 where only one of them has the region, nan where neither has it."""
    ours, theirs = region_mask(labels, region), region_mask(truth, region)
    total = np.count_nonzero(ours) + np.count_nonzero(theirs)
    return 2 * np.count_nonzero(ours & theirs) / total if total else float("nan")
