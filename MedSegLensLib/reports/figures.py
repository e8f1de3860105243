"""Pictures: grey anatomy, outlines of labels, what an edit changed, and where a latent is active.

A picture is put together from an RGB array of the anatomy and *marks*: an array of the same size whose values are
rows of `INKS`, 0 for nothing. The same marks are either laid into the picture or stored as a transparent one that
is laid over it in the page.
"""

import base64
import io

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from MedSegLensLib.cases.case import REGIONS
from MedSegLensLib.reports.planes import LETTERS, Planes

# Okabe and Ito's colours, which stay apart for colour-blind readers.
LABEL_COLOURS = {1: "#56B4E9", 2: "#F0E442", 3: "#D55E00"}
"""Outlines of NCR, ED and ET: sky blue, yellow, vermilion; they differ in lightness too."""

CHANGE_COLOURS = {"added": "#00C58E", "removed": "#E58CC0", "other": "#FFFFFF"}
"""Bluish green (plain), reddish purple (striped), white (dotted), each lightened for a dark ground."""

NOTHING, HALO, THIN = 0, 10, 11
LINES = {"added": 4, "removed": 5, "other": 6}
FILLS = {"added": 7, "removed": 8, "other": 9}

HEAT = ("#3B0F70", "#8C2981", "#DE4968", "#FE9F6D", "#FCFDBF")
"""Activation from low to maximum (matplotlib's magma without its black end): even in lightness, colour-blind safe."""

HIDDEN_BELOW = 0.1
"""Activations below this share of the latent's maximum are not drawn."""

PIXELS_PER_MM, LONGEST_PX, MARGIN_MM = 3.0, 640, 9.0


def rgb(colour: str) -> tuple[int, int, int]:
    """'#56B4E9' as three numbers 0..255."""
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def _inks() -> np.ndarray:
    inks = np.zeros((12, 4), np.uint8)
    for label, colour in LABEL_COLOURS.items():
        inks[label] = (*rgb(colour), 255)
    for kind, colour in CHANGE_COLOURS.items():
        inks[LINES[kind]] = (*rgb(colour), 255)
        inks[FILLS[kind]] = (*rgb(colour), 150)
    inks[HALO] = (0, 0, 0, 150)
    inks[THIN] = (255, 255, 255, 230)
    return inks


INKS = _inks()
"""RGBA of every mark, uint8 (12, 4)."""


def grey_window(image: np.ndarray, brain: np.ndarray) -> tuple[float, float]:
    """The values shown black and white: the 1st and 99.9th percentile of the brain of (Z, Y, X)."""
    values = image[brain]
    if not values.size:
        return 0.0, 1.0
    low, high = np.percentile(values[:: max(values.size // 200_000, 1)], (1.0, 99.9))
    return float(low), float(max(high, low + 1e-6))


def size_px(planes: Planes, plane: str) -> tuple[int, int]:
    """Width and height in pixels of a plane's picture, without its margin: the same mm per pixel both ways."""
    per_mm = pixels_per_mm(planes)
    width, height = planes.size_mm(plane)
    return max(round(width * per_mm), 1), max(round(height * per_mm), 1)


def pixels_per_mm(planes: Planes) -> float:
    """One scale for all pictures of a case, so that they can be compared."""
    longest = max(max(planes.size_mm(plane)) for plane in LETTERS)
    return min(PIXELS_PER_MM, LONGEST_PX / longest)


def anatomy(
    planes: Planes, image: np.ndarray, brain: np.ndarray, window: tuple[float, float], plane: str, index: int
) -> np.ndarray:
    """A slice in grey, uint8 (rows, columns, 3); black outside the brain."""
    low, high = window
    section = np.clip((planes.cut(image, plane, index) - low) / (high - low), 0, 1)
    # The darkest tissue (CSF on FLAIR) stays lighter than the black outside.
    grey = np.where(planes.cut(brain, plane, index), 18 + 237 * section, 0).astype(np.uint8)
    picture = Image.fromarray(grey).resize(size_px(planes, plane), Image.Resampling.BICUBIC)
    return np.repeat(np.asarray(picture)[..., None], 3, axis=2)


def outline_marks(planes: Planes, labels: np.ndarray, plane: str, index: int) -> np.ndarray:
    """Outlines of the labels of a slice of (Z, Y, X), uint8 (rows, columns). Each lies just inside its label, so that
    neighbours do not hide each other."""
    section = planes.cut(labels, plane, index)
    size = size_px(planes, plane)[::-1]
    return outlines({label: _enlarged(section == label, size) for label in (2, 3, 1) if (section == label).any()}, size)


def outlines(shapes: dict[int, np.ndarray], size: tuple[int, int], width: int = 3) -> np.ndarray:
    """Outlines of shapes, bool (rows, columns) by the value of their label, as marks; later ones lie on top. Each is
    `width` pixels, just inside its shape, with a dark rim on both sides."""
    marks = np.zeros(size, np.uint8)
    for shape in shapes.values():
        marks[_grown(shape, 1) & ~_shrunk(shape, width + 1)] = HALO
    for label, shape in shapes.items():
        marks[shape & ~_shrunk(shape, width)] = label
    return marks


def change_marks(
    planes: Planes, before: np.ndarray, after: np.ndarray, region: str, plane: str, index: int
) -> np.ndarray:
    """What an edit changed on a slice of two label volumes (Z, Y, X), uint8 (rows, columns): voxels that the region
    gained (plain), lost (striped), and voxels that changed between other labels (dotted)."""
    old, new = planes.cut(before, plane, index), planes.cut(after, plane, index)
    was, now = np.isin(old, REGIONS[region]), np.isin(new, REGIONS[region])
    shapes = {"other": (old != new) & (was == now), "removed": was & ~now, "added": now & ~was}
    marks = np.zeros(size_px(planes, plane)[::-1], np.uint8)
    down, right = np.ogrid[: marks.shape[0], : marks.shape[1]]
    pattern = {"added": True, "removed": (down + right) % 10 < 6, "other": (down % 6 < 3) & (right % 6 < 3)}
    for kind, shape in shapes.items():
        if not shape.any():
            continue
        shape = _enlarged(shape, marks.shape)
        marks[shape] = NOTHING
        marks[shape & pattern[kind]] = FILLS[kind]
        marks[shape & ~_shrunk(shape, 2)] = LINES[kind]
    return marks


def edge_marks(planes: Planes, mask: np.ndarray, plane: str, index: int) -> np.ndarray:
    """The thin white edge of a mask (Z, Y, X) on a slice, uint8 (rows, columns)."""
    marks = np.zeros(size_px(planes, plane)[::-1], np.uint8)
    shape = _enlarged(planes.cut(mask, plane, index), marks.shape)
    marks[_grown(shape, 1) & ~_shrunk(shape, 3)] = HALO
    marks[shape & ~_shrunk(shape, 2)] = THIN
    return marks


def heated(picture: np.ndarray, planes: Planes, activation: np.ndarray, maximum: float, plane: str, index: int):
    """A picture (rows, columns, 3) with a latent's activation (Z, Y, X) over it: the stronger, the more opaque."""
    section = Image.fromarray(planes.cut(activation, plane, index).astype(np.float32) / max(maximum, 1e-12))
    strength = np.clip(np.asarray(section.resize(picture.shape[1::-1], Image.Resampling.BILINEAR)), 0, 1)
    ink = heat_inks()[(strength * 255).round().astype(np.uint8)].astype(np.float32)
    colour, opacity = ink[..., :3], ink[..., 3:] / 255
    return (picture * (1 - opacity) + colour * opacity).astype(np.uint8)


def heat_inks() -> np.ndarray:
    """RGBA of 256 strengths from 0 to 1, uint8 (256, 4), coloured and as opaque as `heated` draws them."""
    strength = np.linspace(0, 1, 256)
    stops = np.linspace(HIDDEN_BELOW, 1, len(HEAT))
    colour = [np.interp(strength, stops, channel) for channel in np.transpose([rgb(c) for c in HEAT])]
    opacity = np.where(strength < HIDDEN_BELOW, 0, np.interp(strength, (HIDDEN_BELOW, 0.5), (0.45, 0.85)))
    return np.stack([*colour, 255 * opacity], -1).round().astype(np.uint8)


def marked(picture: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """A picture (rows, columns, 3) with marks laid into it."""
    ink = INKS[marks].astype(np.float32)
    opacity = ink[..., 3:] / 255
    return (picture * (1 - opacity) + ink[..., :3] * opacity).astype(np.uint8)


def framed(picture: np.ndarray, planes: Planes, plane: str, index: int) -> Image.Image:
    """A picture with a black margin that says which side is which, where the slice is, and how long 5 cm are."""
    per_mm = pixels_per_mm(planes)
    margin = round(MARGIN_MM * per_mm)
    rows, columns = picture.shape[:2]
    page = Image.new("RGB", (columns + 2 * margin, rows + 2 * margin))
    page.paste(Image.fromarray(picture), (margin, margin))
    draw = ImageDraw.Draw(page)
    large, small = ImageFont.load_default(26), ImageFont.load_default(19)
    style = {"fill": "white", "stroke_width": 2, "stroke_fill": "black"}
    left, right, top, bottom = LETTERS[plane]
    draw.text((6, page.height / 2), left, font=large, anchor="lm", **style)
    draw.text((page.width - 6, page.height / 2), right, font=large, anchor="rm", **style)
    draw.text((page.width / 2, 4), top, font=large, anchor="mt", **style)
    draw.text((page.width / 2, page.height - 5), bottom, font=large, anchor="mb", **style)
    draw.text((6, page.height - 6), planes.position(plane, index), font=small, anchor="lb", **style)
    bar = round(50 * per_mm)
    if bar < page.width / 2 - 30:
        end, level = page.width - 8, page.height - 8
        draw.line((end - bar, level, end, level), fill="white", width=4)
        draw.text((end, level - 6), "5 cm", font=small, anchor="rb", **style)
    return page


def framed_marks(marks: np.ndarray, planes: Planes) -> Image.Image:
    """Marks as a transparent picture of the same size as `framed` makes of the anatomy."""
    padded = np.pad(marks, round(MARGIN_MM * pixels_per_mm(planes)))
    overlay = Image.fromarray(padded)
    overlay.putpalette(INKS[:, :3].ravel().tolist())
    overlay.info["transparency"] = INKS[:, 3].tobytes()
    return overlay


def jpeg_uri(picture: Image.Image, quality: int = 85) -> str:
    """A picture as a data URI; thin coloured lines keep their colours (no chroma subsampling)."""
    return _uri(picture, "jpeg", quality=quality, subsampling=0, optimize=True)


def png_uri(overlay: Image.Image) -> str:
    """A transparent overlay as a data URI."""
    return _uri(overlay, "png", optimize=True, transparency=overlay.info["transparency"])


def _uri(picture: Image.Image, kind: str, **options) -> str:
    data = io.BytesIO()
    picture.save(data, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}"


def _enlarged(shape: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A bool slice at a picture's size (rows, columns), its voxels' corners rounded off."""
    picture = Image.fromarray(shape.astype(np.uint8) * 255).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(picture) > 127


def _grown(shape: np.ndarray, by: int) -> np.ndarray:
    return ~_shrunk(~shape, by)


def _shrunk(shape: np.ndarray, by: int) -> np.ndarray:
    """A bool picture without its outermost `by` pixels."""
    for _ in range(by):
        inner = shape.copy()
        inner[1:] &= shape[:-1]
        inner[:-1] &= shape[1:]
        inner[:, 1:] &= shape[:, :-1]
        inner[:, :-1] &= shape[:, 1:]
        shape = inner
    return shape
