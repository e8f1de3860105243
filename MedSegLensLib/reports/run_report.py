"""The report of a run: a case segmented, its latents ranked, one of them edited, segmented again; as one HTML file.

The page holds its pictures, styles and scripts, loads nothing from anywhere, and prints.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from MedSegLensLib.cases.case import LABELS, MODALITY_NAMES, REGIONS
from MedSegLensLib.cases.writing import atomic_path
from MedSegLensLib.reports import figures, wording
from MedSegLensLib.reports.pages import template
from MedSegLensLib.reports.planes import PLANES, Planes
from MedSegLensLib.reports.slices import best_slice, key_slice, scroll_slices

BACKGROUNDS = ("t2f", "t2w", "t1c", "t1n")
"""What edema, and so most of a tumour's extent, is best seen on, best first."""

SECOND_BACKGROUNDS = ("t1c", "t1n", "t2w", "t2f")
"""What enhancement is best seen on, best first."""

LABEL_WORDS = {"NCR": "necrotic core", "ED": "edema", "ET": "enhancing tumour"}
REGION_WORDS = {"WT": "whole tumour", "TC": "tumour core", **LABEL_WORDS}


@dataclass(frozen=True)
class RegionRow:
    """One region's volumes in mL (0 where it is absent; reference None where there is no reference) and its Dice
    against the reference, None where the region is absent from it or there is no reference."""

    region: str
    before_ml: float
    after_ml: float
    reference_ml: float | None
    dice_before: float | None
    dice_after: float | None


@dataclass(frozen=True)
class LatentRow:
    """What is known of one latent in this case.

    active_ml: volume where it is active. maximum: its largest activation.
    attribution_ml, suppressed_ml: change of the influence region's volume were it suppressed, estimated by gradient x
        activation and measured (None where it was not); positive means that the region would grow.
    peak_mm: RAS mm of its maximum.
    """

    tap: str
    latent: int
    name: str
    active_ml: float
    maximum: float
    attribution_ml: float
    suppressed_ml: float | None
    peak_mm: tuple[float, float, float]


@dataclass
class RunReport:
    """Everything that the page of a run shows. Volumes are (Z, Y, X) in LPS, all of one shape.

    phantom: whether the case is invented; said on the page.
    pack: name and version. engine, device: what computed it.
    spacing: x, y, z in mm. origin: LPS mm of the first voxel's centre; None when not known or the grid is oblique.
    images: by modality, float, z-scored in the brain and 0 outside; a missing modality is left out or all 0.
    before, after, reference: uint8 labels (0 background, 1 NCR, 2 ED, 3 ET); reference None where there is none.
    edit: in words. influence_region: the region that attribution is about.
    activations: latents with their activation volume, float, those to be shown as pictures.
    rank_correlation: Spearman's rho of estimated and measured influence. timings: seconds by step.
    notes: warnings. summary: what was found, in plain sentences, the headline first.
    files: what was written beside the page, name -> what it is; None for the names that `medseglens` uses.
    """

    case_name: str
    phantom: bool
    pack: str
    engine: str
    device: str
    spacing: tuple[float, float, float]
    images: dict[str, np.ndarray]
    before: np.ndarray
    after: np.ndarray
    reference: np.ndarray | None
    edit: str
    influence_region: str
    regions: list[RegionRow]
    latents: list[LatentRow]
    activations: list[tuple[LatentRow, np.ndarray]]
    rank_correlation: float | None
    timings: dict[str, float]
    notes: tuple[str, ...]
    summary: list[str]
    origin: tuple[float, float, float] | None = None
    files: dict[str, str] | None = None


def write_run_report(report: RunReport, path: Path) -> None:
    """Write the page. Raises OutputError when it cannot be written; an older page is then still there."""
    page = render_run_report(report)
    with atomic_path(Path(path)) as temporary:
        temporary.write_text(page, encoding="utf-8")


def render_run_report(report: RunReport) -> str:
    """The page as HTML.

    Raises ValueError when volumes differ in shape, there is none with anatomy, or the influence region is not known.
    """
    _check(report)
    brain = np.any([image != 0 for image in report.images.values()], axis=0)
    planes = Planes.around(brain, report.spacing, report.origin)
    shown = _backgrounds(report.images)
    windows = {m: figures.grey_window(report.images[m], brain & (report.images[m] != 0)) for m in shown}
    key, why = key_slice(brain, report.before, report.after, report.influence_region)
    # WT for the latents' pictures: where a latent sits is judged against the tumour.
    tumour = report.before > 0

    def anatomy(modality: str, plane: str, index: int) -> np.ndarray:
        return figures.anatomy(planes, report.images[modality], brain, windows[modality], plane, index)

    def overlays(index: int) -> dict[str, np.ndarray]:
        region = report.influence_region
        states = {
            "before": figures.outline_marks(planes, report.before, "axial", index),
            "after": figures.outline_marks(planes, report.after, "axial", index),
            "change": figures.change_marks(planes, report.before, report.after, region, "axial", index),
        }
        if report.reference is not None:
            states["reference"] = figures.outline_marks(planes, report.reference, "axial", index)
        return states

    def key_row(modality: str) -> list[dict]:
        grey = anatomy(modality, "axial", key)
        return [
            _picture(state, figures.framed(figures.marked(grey, marks), planes, "axial", key))
            for state, marks in key_overlays.items()
            if state != "reference"
        ]

    def latent_pictures(activation: np.ndarray, maximum: float) -> list[dict]:
        pictures = []
        for plane, axis in PLANES.items():
            index = best_slice(activation, axis)
            picture = figures.heated(anatomy(shown[0], plane, index), planes, activation, maximum, plane, index)
            picture = figures.marked(picture, figures.edge_marks(planes, tumour, plane, index))
            framed = figures.framed(picture, planes, plane, index)
            pictures.append(_picture(planes.number(plane, index), framed))
        return pictures

    key_overlays = overlays(key)
    volumes = [report.before, report.after] + ([] if report.reference is None else [report.reference])
    scroll = [
        {
            "caption": f"{planes.number('axial', i).capitalize()}, {planes.position('axial', i)}",
            "bases": [figures.jpeg_uri(figures.framed(anatomy(m, "axial", i), planes, "axial", i), 80) for m in shown],
            "overlays": {
                state: figures.png_uri(figures.framed_marks(marks, planes)) for state, marks in overlays(i).items()
            },
        }
        for i in scroll_slices(brain, volumes, key)
    ]
    return template("run.html.j2").render(
        report=report,
        words=wording,
        region_words=REGION_WORDS,
        modality_names=[MODALITY_NAMES[m] for m in shown],
        why=why,
        key_caption=f"{planes.number('axial', key).capitalize()}, {planes.position('axial', key)}",
        key_rows=[(MODALITY_NAMES[m], key_row(m)) for m in shown],
        scroll=scroll,
        scroll_start=next(n for n, s in enumerate(scroll) if s["caption"].startswith(f"Axial slice {key + 1} of")),
        latent_pictures=[
            (row, latent_pictures(activation, float(activation.max()))) for row, activation in report.activations
        ],
        label_colours=[(LABELS[v], LABEL_WORDS[LABELS[v]], c) for v, c in figures.LABEL_COLOURS.items()],
        change_colours=figures.CHANGE_COLOURS,
        heat=figures.HEAT,
        hidden_below=figures.HIDDEN_BELOW,
        suppressed_count=sum(row.suppressed_ml is not None for row in report.latents),
        files=report.files if report.files is not None else _usual_files(report),
    )


def _check(report: RunReport) -> None:
    if report.influence_region not in REGIONS:
        raise ValueError(f"region {report.influence_region!r} is none of {', '.join(REGIONS)}")
    if not any(image.any() for image in report.images.values()):
        raise ValueError("a report needs at least one modality that is not all zero")
    volumes = {"before": report.before, "after": report.after, "reference": report.reference, **report.images}
    volumes |= {f"activation of latent {row.latent}": a for row, a in report.activations}
    shapes = {name: v.shape for name, v in volumes.items() if v is not None}
    if len(set(shapes.values())) > 1 or len(report.before.shape) != 3:
        raise ValueError(f"volumes of a report must have one shape (Z, Y, X): {shapes}")


def _backgrounds(images: dict[str, np.ndarray]) -> list[str]:
    """One or two modalities to show: the best for edema and the best for enhancement of those that are present."""
    present = [m for m in BACKGROUNDS if m in images and images[m].any()]
    second = [m for m in SECOND_BACKGROUNDS if m in present and m != present[0]]
    return present[:1] + second[:1]


def _picture(caption: str, picture) -> dict:
    return {"caption": caption, "uri": figures.jpeg_uri(picture), "width": picture.width, "height": picture.height}


def _usual_files(report: RunReport) -> dict[str, str]:
    ids = [row.latent for row, _ in report.activations]
    return {
        "segmentation.nii.gz": "labels before the edit, on the case's own grid",
        "edited.nii.gz": "labels after the edit",
        "latents.csv": "all latents with their numbers",
        **{f"activation-{i}.nii.gz": f"where latent {i} is active, on the case's own grid" for i in ids},
        "timings.json": "what each step took",
    }
