"""A procedural glioma case: invented anatomy with exact labels, for tests and for a demo without a patient's data.

The volumes look like BraTS: skull-stripped, 0 outside the brain, T1 / T1 with contrast / T2 / FLAIR contrasts whose
proportions were set beside real cases. Nothing in them comes from a patient, and no result on them says anything
about patients: whatever is shown of a phantom is named as such.

Everything is a function of place in millimetres (x to the left, y to the back, z up from the brain's centre), so that
any size, spacing and direction samples the same brain.
"""

from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from MedSegLensLib.cases.case import MODALITIES, PHANTOM, Case
from MedSegLensLib.cases.random_fields import Fields
from MedSegLensLib.errors import UsageError

# Tissues. The lesion's are its BraTS labels + 5.
AIR, CSF, GREY, WHITE, DEEP_GREY, VESSEL, NCR, ED, ET = range(9)

CONTRAST = {
    #       CSF   grey  white deep  vessel NCR   ED    ET      in units of the modality's white matter
    "t1n": (0.42, 0.77, 1.00, 0.87, 0.60, 0.72, 0.86, 0.88),
    "t1c": (0.44, 0.80, 1.00, 0.89, 1.75, 0.74, 0.85, 1.60),
    "t2w": (2.70, 1.35, 1.00, 1.12, 0.60, 2.30, 1.80, 1.90),
    "t2f": (0.45, 1.13, 1.00, 1.06, 0.60, 1.50, 1.55, 1.50),
}
"""Mean intensities; each phantom varies them, its lesion's most."""

VARIATION = np.array([0.05, 0.03, 0.03, 0.03, 0.10, 0.10, 0.08, 0.08])
"""Standard deviation of those means from phantom to phantom, as a share, in the same order."""

SHAPES = {
    "usual": "one tumour in a hemisphere, most with a necrotic core and an enhancing rim",
    "large": "one much larger tumour with wide edema, as when a patient comes late",
    "diffuse": "one that does not enhance and has no distinct core, as of low grade",
    "midline": "one in the brain stem that hardly enhances and has little edema, as in children",
    "several": "3 to 6 small round ones that enhance, as of metastases",
}
"""Of tumours. Caricatures: what tells them apart is drawn, and nothing was fitted to patients of such a kind."""

REACH = np.array([78.0, 98.0, 84.0])
"""Half the sides (mm) of the box that every brain fits in."""


def phantom(
    seed: int,
    *,
    tumour: bool = True,
    size: tuple[int, int, int] = (240, 240, 155),
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    direction: tuple[float, ...] = (1, 0, 0, 0, 1, 0, 0, 0, 1),
    modalities: tuple[str, ...] = MODALITIES,
    enhancing: bool | None = None,
    shape: str = "usual",
) -> Case:
    """The phantom case of a seed; the same seed and arguments give the same voxels.

    tumour: False gives a healthy brain (labels all 0).
    size, spacing (mm), direction (row-major cosines, LPS): the grid, in x, y, z order; the brain is at its centre. A
        grid smaller than the brain crops it: for a small and fast phantom keep size * spacing near 160 x 200 x 170 mm.
    modalities: which volumes the case has.
    enhancing: whether the tumour enhances; None lets the seed choose (four of five do), or the shape where it is not
        the usual one.
    shape: one of `SHAPES`. Raises UsageError for another.
    """
    if shape not in SHAPES:
        raise UsageError(shape, "is no shape of a phantom's tumour.", f"Shapes are {', '.join(SHAPES)}.")
    rng = np.random.default_rng(seed)
    box, start = _box_around_brain(size, spacing, direction)
    brain = _Brain.drawn(rng)
    lesions = _drawn(rng, brain, enhancing, shape) if tumour else []
    fields = Fields(box, REACH, rng)

    place = pushed = fields.places()
    for lesion in lesions:
        pushed = _pushed(pushed, lesion)
    tissue, depth = _anatomy(brain, fields, pushed)
    labels, density = _all_grown(lesions, fields, place, tissue, depth)
    tissue = np.where(labels > 0, labels + (NCR - 1), tissue)

    images = {}
    # Each modality has its own generator, so that leaving one out does not change the others.
    for modality, own in zip(MODALITIES, rng.spawn(len(MODALITIES)), strict=True):
        if modality in modalities:
            values = _acquired(modality, Fields(box, REACH, own), tissue, density)
            images[modality] = _placed(values, start, size, spacing, direction)
    kind = "without a tumour"
    if tumour:
        kind = "with a simulated tumour" + (f" of the shape '{shape}'" if shape != "usual" else "")
    note = f"{PHANTOM} {kind} (seed {seed}): invented anatomy, not a patient."
    return Case(f"phantom-{seed}", images, _placed(labels, start, size, spacing, direction), (note,))


@dataclass(frozen=True)
class _Brain:
    """The proportions of one brain."""

    half: np.ndarray  # the cerebrum's half-axes x, y, z in mm
    ventricles: float  # 1 is usual
    sulci: float  # width of the CSF in them in mm; wide in the old
    falx: float  # mm that it lies off the middle

    @staticmethod
    def drawn(rng: np.random.Generator) -> "_Brain":
        half = np.array([65.0, 82.0, 66.0]) * rng.normal(1.0, 0.03, 3).clip(0.93, 1.07)
        return _Brain(half, rng.uniform(0.75, 1.5), rng.uniform(0.5, 1.1), rng.normal(0, 1.0))


@dataclass(frozen=True)
class _Lesion:
    """One tumour: where, how large (mm) and of which make."""

    centre: np.ndarray
    core: float
    stretch: np.ndarray
    rim: float
    edema: float
    enhancing: bool

    @staticmethod
    def drawn(rng: np.random.Generator, brain: _Brain, enhancing: bool | None) -> "_Lesion":
        side = rng.choice([-1, 1])
        # In a hemisphere, above its base, away from the midline.
        towards = np.array([side * rng.uniform(0.35, 0.62), rng.uniform(-0.55, 0.5), rng.uniform(-0.1, 0.5)])
        core = float(rng.uniform(7, 24))
        enhances = bool(rng.random() < 0.8)
        return _Lesion(
            centre=towards * brain.half,
            core=core,
            stretch=rng.uniform(0.75, 1.3, 3),
            rim=float(rng.uniform(2.5, 7.0)) if rng.random() < 0.8 else core,  # a rim, or solid throughout
            edema=float(rng.uniform(3, 20)),
            enhancing=enhances if enhancing is None else enhancing,
        )


def _drawn(rng: np.random.Generator, brain: _Brain, enhancing: bool | None, shape: str) -> list[_Lesion]:
    """The tumours of a seed, all of one shape (`SHAPES`)."""
    usual = _Lesion.drawn(rng, brain, enhancing)
    if shape == "usual":
        return [usual]
    if shape == "large":
        more = {"core": rng.uniform(22, 30), "rim": rng.uniform(3, 6), "edema": rng.uniform(10, 17)}
        return [replace(usual, **more, enhancing=enhancing is not False)]
    if shape == "diffuse":
        more = {"core": rng.uniform(4, 8), "edema": rng.uniform(12, 24), "stretch": rng.uniform(0.7, 1.6, 3)}
        return [replace(usual, **more, enhancing=bool(enhancing))]
    if shape == "midline":
        centre = np.array([rng.uniform(-4, 4), 0.16 * brain.half[1], rng.uniform(-0.5, -0.3) * brain.half[2]])
        more = {"core": rng.uniform(9, 14), "edema": rng.uniform(1.5, 4), "stretch": rng.uniform(0.85, 1.2, 3)}
        return [replace(usual, centre=centre, **more, rim=1.5, enhancing=bool(enhancing))]
    several = [_Lesion.drawn(rng, brain, True) for _ in range(rng.integers(3, 7))]
    return [
        replace(
            one,
            core=rng.uniform(3.5, 8),
            stretch=rng.uniform(0.9, 1.1, 3),
            rim=rng.uniform(2, 4),
            edema=rng.uniform(3, 10),
            enhancing=enhancing is not False,
        )
        for one in several
    ]


def _box_around_brain(size, spacing, direction) -> tuple[sitk.Image, tuple[int, int, int]]:
    """The part of the grid where the brain can be, as an empty volume with its place, and its first voxel."""
    axes = np.array(direction, float).reshape(3, 3)
    size, spacing = np.array(size), np.array(spacing, float)
    middle = (size - 1) / 2
    half = np.abs(axes.T) @ REACH / spacing  # the brain's box along each of the grid's axes
    low = np.maximum(np.floor(middle - half), 0).astype(int)
    high = np.minimum(np.ceil(middle + half) + 1, size).astype(int)
    box = sitk.Image((high - low).tolist(), sitk.sitkUInt8)
    box.SetSpacing(spacing.tolist())
    box.SetDirection(axes.ravel().tolist())
    box.SetOrigin((axes @ (spacing * (low - middle))).tolist())
    return box, tuple(int(n) for n in low)


def _pushed(place: list[np.ndarray], lesion: _Lesion) -> list[np.ndarray]:
    """Where the tissue now at each place came from: a growing tumour pushes its surroundings outwards."""
    away = [p - np.float32(c) for p, c in zip(place, lesion.centre, strict=True)]
    squared = away[0] ** 2 + away[1] ** 2 + away[2] ** 2
    pull = np.float32(0.4) * np.exp(squared * np.float32(-1 / (2.2 * lesion.core) ** 2))
    return [p - a * pull for p, a in zip(place, away, strict=True)]


def _radius(place: list[np.ndarray], centre, half) -> np.ndarray:
    """Distance from an ellipsoid's centre, 1 on its surface."""
    parts = [((p - np.float32(c)) * np.float32(1 / h)) ** 2 for p, c, h in zip(place, centre, half, strict=True)]
    return np.sqrt(parts[0] + parts[1] + parts[2])


def _anatomy(brain: _Brain, fields: Fields, place: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Tissue of every voxel (uint8), and the depth below the brain's surface in mm (not positive outside)."""
    x, y, z = place
    hx, hy, hz = brain.half
    wave = fields.smooth(20.0)
    uneven = 1 + np.float32(0.08) * wave

    # The cerebrum is flat below, with a temporal lobe hanging on either side.
    flat = np.where(z < 0, z * np.float32(1.75), z)
    cerebrum = (1 - _radius([x, y, flat], (0, 0, 0), brain.half)) * np.float32(0.9 * hx)
    temporal = (1 - _radius([np.abs(x), y, z], (0.62 * hx, -0.12 * hy, -0.42 * hz), (21, 38, 21))) * np.float32(20)
    cerebellum = (1 - _radius(place, (0, 0.50 * hy, -0.66 * hz), (0.76 * hx, 0.40 * hy, 0.36 * hz))) * np.float32(26)
    stem = (1 - _radius(place, (0, 0.16 * hy, -0.62 * hz), (14, 13, 38))) * np.float32(13)
    hindbrain = np.maximum(cerebellum, stem)
    # Lobes that only touch leave a cleft (the Sylvian fissure, the tentorium) between them.
    gap = np.minimum(np.abs(cerebrum - np.maximum(temporal, hindbrain)), 12) + np.maximum(cerebrum - 16, 0)
    depth = np.maximum(np.maximum(cerebrum, temporal), hindbrain) + np.float32(1.2) * wave
    behind = hindbrain > np.maximum(cerebrum, temporal)

    # Sulci are where a wavy field crosses zero, down to some depth; the hindbrain's folds are too fine to be drawn.
    folds = np.abs(fields.smooth(9.0)) * np.float32(7.0)
    floor = np.maximum(depth - np.float32(17.0) - 3 * wave, 0)
    falx = np.abs(x - np.float32(brain.falx)) + np.maximum(np.float32(12.0) - z, 0) * np.float32(0.8)
    to_csf = np.minimum(np.minimum(depth + np.float32(0.3), folds + floor), np.minimum(falx, gap + np.float32(0.2)))
    to_csf = np.where(behind, depth + np.float32(0.3), to_csf)

    tissue = np.where(to_csf < np.float32(3.4) + np.float32(0.4) * wave, np.uint8(GREY), np.uint8(WHITE))
    solid = [np.broadcast_to(p, tissue.shape) for p in place]

    def paint(kind: int, centre: tuple, half: tuple) -> None:
        where = fields.around(centre, np.array(half) * 1.3 + 15)  # as far as a tumour may push it
        inside = _radius([p[where] for p in solid], centre, half) < uneven[where]
        tissue[where][inside] = kind

    for side in (-1, 1):
        paint(DEEP_GREY, (side * 11, 10, 2), (8, 14, 9))  # thalamus
        paint(DEEP_GREY, (side * 25, -6, 0), (5, 15, 9))  # putamen
        paint(DEEP_GREY, (side * 13, -21, 7), (5, 9, 9))  # caudate
    tissue[to_csf < np.float32(brain.sulci)] = CSF
    # Vessels are where two fields are both near zero: curves in space. They run in CSF and on the surface.
    tube = fields.smooth(13.0) ** 2 + fields.smooth(13.0) ** 2
    tissue[(tube < np.float32(0.012)) & (to_csf < np.float32(2.2))] = VESSEL

    v = brain.ventricles
    for side in (-1, 1):
        # Lateral ventricles: horns and bodies that part forwards and back, and a trigone below them.
        for step in np.linspace(-1, 1, 9):
            apart = 5 + 8 * step * step + 3 * step
            paint(CSF, (side * apart, 4 + 33 * step, 15 - 11 * step * step), (3.4 * v, 8, 6 * v**0.5))
        paint(CSF, (side * 24, 36, -4), (4.5 * v, 10, 9 * v**0.5))
    paint(CSF, (0, 8, 0), (1.6 * v, 13, 9))  # third ventricle
    paint(CSF, (0, 0.34 * hy, -0.56 * hz), (6, 5, 9))  # fourth
    # The superior sagittal sinus runs along the top of the falx.
    tissue[(np.abs(x - np.float32(brain.falx)) < 2.2) & (depth < 3.5) & (z > 0)] = VESSEL
    tissue[depth <= 0] = AIR
    return tissue, depth


def _all_grown(
    lesions: list[_Lesion], fields: Fields, place: list[np.ndarray], tissue: np.ndarray, depth: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """`_grown` for each tumour; where two meet, a core lies over edema and the denser edema counts."""
    labels, density = np.zeros_like(tissue), None
    for lesion in lesions:
        grown, dense = _grown(lesion, fields, place, tissue, depth)
        labels = np.where((grown == 1) | (grown == 3) | (labels == 0), grown, labels)
        density = dense if density is None else np.maximum(density, dense)
    return labels, density


def _grown(
    lesion: _Lesion, fields: Fields, place: list[np.ndarray], tissue: np.ndarray, depth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the lesion (uint8), and how dense the edema is (1 near the core, less further out), float32."""
    coarse, fine = fields.smooth(14.0), fields.smooth(6.0)
    radius = _radius(place, lesion.centre, lesion.stretch) + np.float32(2.0) * coarse + np.float32(0.7) * fine
    # Edema keeps to white matter: in grey matter it reaches half as far. It ends at CSF.
    beyond = radius - np.float32(lesion.core)
    grey = (tissue == GREY) | (tissue == DEEP_GREY)
    spread = np.where(grey, 2.0 * beyond, beyond) - np.float32(3) * fields.smooth(20.0)
    labels = np.zeros(tissue.shape, np.uint8)
    labels[(spread < lesion.edema) & (grey | (tissue == WHITE))] = 2
    core = (beyond < 0) & (depth > 1)
    labels[core] = 1
    if lesion.enhancing:
        # The rim is thicker here and thinner there, now and then broken.
        rim = np.float32(lesion.rim) * (1 + np.float32(0.5) * fields.smooth(9.0))
        labels[core & (beyond > -rim)] = 3
    return labels, np.clip(np.float32(1.1) - spread * np.float32(0.5 / lesion.edema), 0.5, 1.1)


def _acquired(modality: str, fields: Fields, tissue: np.ndarray, density: np.ndarray | None) -> np.ndarray:
    """One modality's intensities, whole numbers as scanners write them, float32 (Z, Y, X), 0 outside the brain."""
    rng = fields.rng
    means = np.array([0.0, *CONTRAST[modality]], np.float32)
    means[1:] *= np.clip(rng.normal(1.0, VARIATION), 0.75, 1.25)
    values = means[tissue]
    if density is not None:
        edema = tissue == ED
        values[edema] = means[WHITE] + (values[edema] - means[WHITE]) * density[edema]
    # Texture: no tissue is uniform, a lesion least of all.
    share = np.full(len(means), 0.025, np.float32)
    share[NCR:] = 0.06
    values *= 1 + share[tissue] * (fields.smooth(6.0) + fields.smooth(18.0))
    # Partial volume: tissues blend over about a millimetre, and more between slices where those were acquired thick.
    thick = 0.6 if rng.random() < 0.5 else rng.uniform(0.6, 1.8)
    sigmas = np.array([thick, 0.6, 0.6]) / np.array(fields.box.GetSpacing())[::-1]
    inside = tissue > 0
    weight = ndimage.gaussian_filter(inside.astype(np.float32), sigmas, truncate=2.5)
    # Outside the brain nothing was measured: divided by the weight, nothing from there blends in.
    values = ndimage.gaussian_filter(values, sigmas, truncate=2.5) / np.maximum(weight, np.float32(0.05))
    values *= 1 + np.float32(rng.uniform(0.03, 0.07)) * fields.smooth(70.0)  # the receive coil's bias field
    scale = np.float32(10 ** rng.uniform(2.3, 3.2))  # scanners differ in their units
    values += np.float32(rng.uniform(0.012, 0.035)) * fields.noise()
    return np.where(inside, np.maximum(np.rint(values * scale), 1), 0).astype(np.float32)


def _placed(array: np.ndarray, start, size, spacing, direction) -> sitk.Image:
    """The box's array in a whole volume, whose centre is at 0, 0, 0 mm."""
    whole = np.zeros(tuple(size)[::-1], array.dtype)
    whole[tuple(slice(a, a + n) for a, n in zip(start[::-1], array.shape, strict=True))] = array
    image = sitk.GetImageFromArray(whole)
    axes = np.array(direction, float).reshape(3, 3)
    image.SetSpacing([float(s) for s in spacing])
    image.SetDirection(axes.ravel().tolist())
    image.SetOrigin((-axes @ (np.array(spacing, float) * (np.array(size) - 1) / 2)).tolist())
    return image
