"""A case as the worker holds it: what the client asks, answered from a session, on the case's own grid."""

from collections.abc import Callable

import numpy as np
import torch

from MedSegLensLib.cases.case import MODALITIES, REGIONS
from MedSegLensLib.cases.from_arrays import case_from_arrays
from MedSegLensLib.cases.grid import voxel_ml
from MedSegLensLib.editing.recipe import Recipe
from MedSegLensLib.editing.session import Session
from MedSegLensLib.errors import PackError, UsageError
from MedSegLensLib.packs.installed import find_partners
from MedSegLensLib.packs.notes import lens_hash
from MedSegLensLib.packs.pack import LensPack, load_pack
from MedSegLensLib.segmenters.engine import Engine
from MedSegLensLib.segmenters.sampling import Box, whole
from MedSegLensLib.worker.answers import LabelBox, Overlay, Point
from MedSegLensLib.worker.case_grid import CaseGrid
from MedSegLensLib.worker.memory import Ceiling
from MedSegLensLib.worker.protocol import Message

Say = Callable[[str, float], None]
Offer = Callable[[Message], None]

BYTES_PER_VOXEL_TO_READ = 14
"""Of a volume while it is read and conformed: float32 as read, checked and cut, and masks."""
DICE_REGIONS = ("WT", "TC", "ET")


class OpenedCase:
    """Raises what Session raises, WorkerError where memory would not suffice, PackError where the pack is not the one
    expected."""

    def __init__(self, request: Message, device: str | None, ceiling: Ceiling, say: Say):
        fields = request.fields
        say("reading the pack", 0.0)
        partner = fields.get("partner")
        pack = _partner_pack(fields["pack"], **partner) if partner else load_pack(fields["pack"])
        expected = fields.get("expected_hash")
        if expected and pack.edits_hash != expected:
            cause = f"this pack has changed since the case was opened ({expected[:12]}, now {pack.edits_hash[:12]})."
            raise PackError(fields["pack"], cause, "Open the case anew; old recipes need the old pack.")
        say("reading the volumes", 0.0)
        placed = {
            about["modality"]: (request.arrays[about["array"]], np.array(about["ijk_to_ras"]), about["name"])
            for about in fields["volumes"]
        }
        reference = placed.pop("reference", None)
        voxels = sum(array.size for array, _, _ in placed.values())
        ceiling.admit(voxels * BYTES_PER_VOXEL_TO_READ, "reading these volumes")
        # As `assemble` chooses: the finest grid, of equally fine ones the first.
        sizes = {m: round(float(np.prod(np.linalg.norm(placed[m][1][:3, :3], axis=0))) / 1000, 6) for m in placed}
        self.grid_of = min((m for m in MODALITIES if m in placed), key=sizes.get, default="")
        case = case_from_arrays(placed, reference, fields["name"])
        engine = _engine_of(fields["engine"]) if fields.get("engine") else None
        self.session = Session(case, pack, device, engine, say, ceiling.admit)
        say("counting", 1.0)
        self.grid = CaseGrid(self.session.conformed)
        self.catalogue = _catalogue_of(pack)
        self._reference = self.session.conformed.labels(case.labels) if case.labels is not None else None
        self._counts = self._confusion(whole(self.session.labels.shape), self.session.labels)
        # Expert labels beyond the brain's box are missed by every segmentation.
        self._beyond = np.zeros(4, np.int64)
        if case.labels is not None and not self.session.conformed.grid.resampled:
            import SimpleITK as sitk

            everywhere = np.bincount(sitk.GetArrayViewFromImage(case.labels).ravel(), minlength=4)
            self._beyond = everywhere - self._counts.sum(1)

    def opened(self) -> Message:
        """What `Opened` holds."""
        session, grid = self.session, self.grid
        info = session.pack.info
        engine = session.engine
        fields = {
            "name": session.case.name,
            "ijk_to_ras": grid.ijk_to_ras.tolist(),
            "grid_of": self.grid_of,
            "pack": pack_fields(session.pack),
            "label_meta": info.to_json()["labels"],
            "regions_ml": self._regions_ml(self._counts),
            "voxel_ml": voxel_ml(session.case.reference),
            "notes": list(session.notes),
            "engine": str(engine),
            "engine_fields": {
                "device": engine.device,
                "dtype": str(engine.dtype).removeprefix("torch."),
                "channels_last": engine.channels_last,
                "batch": engine.batch,
            },
            "timings": {name: float(seconds) for name, seconds in session.timings.items()},
            "dice": self._dice(self._counts),
            "comparisons": [comparison.to_json() for comparison in session.pack.comparisons()],
        }
        return Message("result", fields, {"labels": grid.values(session.labels)})

    def edit(self, recipe: Recipe, near: list[Point], say: Say, offer: Offer) -> Message:
        """`Edited`: the box is where the labels differ from the unedited ones; the client widens it to what it shows.

        The axial samples through `near` come first and are offered."""
        session, grid = self.session, self.grid
        first = self._axial(near)

        def watch(share: float, labels: np.ndarray | None) -> None:
            say("editing", share)
            if labels is not None:
                part = _label_message("partial", self._shown(labels, near))
                if part:
                    offer(part)

        edited = session.edit(recipe, first=first, watch=watch)
        counts = self._counts
        if edited.box is not None:
            counts = counts - self._confusion(edited.box, session.labels) + self._confusion(edited.box, edited.labels)
        message = _label_message("result", grid.changed(session.labels, edited.labels, edited.box)) or Message("result")
        message.fields |= {
            "regions_ml": self._regions_ml(counts),
            "dice": self._dice(counts),
            "seconds": edited.seconds,
        }
        return message

    def preview(self, recipe: Recipe, ras: Point) -> Message:
        """The axial slice through a point, whole."""
        edited = self.session.edit(recipe, samples=list(self._axial([ras])))
        part = _label_message("result", self._shown(edited.labels, [ras]))
        if part is None:
            raise UsageError("point", "no voxel of the case lies in its slice.", "Put the crosshair on the anatomy.")
        return part

    def activation(self, tap: str, latent: int) -> Overlay:
        """On the tap's grid where a sample is a slice; windows overlap, so theirs are merged on the network's grid."""
        session = self.session
        codes = session.codes_at(tap)
        if session.sampling.overlapping:
            array, affine = session.activation_volume(tap, latent), self.grid.network_ijk_to_ras
        else:
            array = codes.dense(latent)
            steps = [n / g for n, g in zip(session.sampling.sample_shape[::-1], codes.grid[:0:-1], strict=True)]
            cell = np.diag([*steps, 1.0, 1.0])
            cell[:2, 3] = [(step - 1) / 2 for step in steps]
            affine = self.grid.network_ijk_to_ras @ cell
        return Overlay(array, affine, float(array.max()))

    def probability(self, region: str, recipe: Recipe | None) -> Overlay:
        """On the case's grid."""
        return self.on_case(self.session.probability(region, recipe))

    def on_case(self, array: np.ndarray) -> Overlay:
        """Values of the network's grid, float32 (Z, Y, X), on the case's grid."""
        if self.session.conformed.grid.resampled:
            import SimpleITK as sitk

            array = sitk.GetArrayFromImage(self.session.to_case(array, "linear"))
        else:
            array = self.grid.values(array)
        return Overlay(array, self.grid.ijk_to_ras, float(array.max()))

    # -- places -----------------------------------------------------------------------------------------------------

    def _slice_box(self, point: Point) -> Box:
        """The axial slice through a point, on the network's grid."""
        z = self.grid.index(point)[0]
        return (slice(z, z + 1), *whole(self.session.labels.shape)[1:])

    def _axial(self, points: list[Point]) -> tuple[int, ...]:
        """The samples that decide the axial slices through some points."""
        samples = [s for p in points for s in self.session.sampling.samples_of(self._slice_box(p))]
        return tuple(dict.fromkeys(samples))

    def _shown(self, labels: np.ndarray, points: list[Point]) -> LabelBox | None:
        """The labels of the axial slices through some points: of one its whole slice of the case, of several the box
        of what differs from the unedited labels in any of them."""
        boxes = [self._slice_box(p) for p in points]
        if len({b[0].start for b in boxes}) == 1:
            z = self._case_slice(boxes[0])
            return None if z is None else self.grid.labels(labels, z)
        only = self.session.labels.copy()
        for box in boxes:
            only[box] = labels[box]
        return self.grid.changed(self.session.labels, only, whole(labels.shape))

    def _case_slice(self, box: Box) -> Box | None:
        """The whole slice of the case, to its borders, that a slice of the network's box fills a part of."""
        part = self.grid.box_on_case(box)
        if part is None:
            return None
        axis = self.grid.axis_of_slices
        return tuple(part[a] if a == axis else slice(0, n) for a, n in enumerate(self.grid.shape))

    # -- volumes and Dice -------------------------------------------------------------------------------------------

    def _confusion(self, box: Box, labels: np.ndarray) -> np.ndarray:
        """Voxels of a box by expert label (rows; 0 without a reference) and label, int64 (4, 4); padding left out."""
        box = tuple(
            slice(max(b.start, i.start), max(min(b.stop, i.stop), b.start, i.start))
            for b, i in zip(box, self.grid.inside, strict=True)
        )
        pairs = labels[box]
        if self._reference is not None:
            pairs = pairs + 4 * self._reference[box]
        return np.bincount(pairs.ravel(), minlength=16).reshape(4, 4)

    def volumes_ml(self, labels: np.ndarray) -> dict[str, float]:
        """mL by region of labels on the network's grid, uint8 (Z, Y, X)."""
        return self._regions_ml(self._confusion(whole(labels.shape), labels))

    def _regions_ml(self, counts: np.ndarray) -> dict[str, float]:
        ml = self.session.conformed.voxel_ml
        return {region: float(counts[:, list(values)].sum()) * ml for region, values in REGIONS.items()}

    def _dice(self, counts: np.ndarray) -> dict[str, float | None] | None:
        if self._reference is None:
            return None
        dice = {}
        for region in DICE_REGIONS:
            values = list(REGIONS[region])
            theirs = int(counts[values].sum() + self._beyond[values].sum())
            ours = int(counts[:, values].sum())
            both = int(counts[np.ix_(values, values)].sum())
            dice[region] = 2 * both / (ours + theirs) if theirs else None
        return dice


def pack_fields(pack: LensPack) -> dict:
    """What a client is told of a pack."""
    return {
        "name": pack.info.name,
        "version": pack.info.version,
        "hash": pack.edits_hash,
        "path": str(pack.folder),
        "taps": list(pack.taps),
        "default_tap": pack.default_tap if pack.taps else None,
        "description": pack.info.description,
        "model_card": pack.model_card,
        "latents": {lens.tap: lens.d_sae for lens in pack.info.lenses},
        "lens_hashes": {lens.tap: lens_hash(pack.info, lens.tap) for lens in pack.info.lenses},
    }


def _partner_pack(name: str, beside: str, tap: str, lens: str) -> LensPack:
    """The pack that another one was compared with: by its name, and with the very lens, for a latent's number means
    nothing in another one. Raises PackError where there is none."""
    for path in find_partners(name, beside):
        pack = load_pack(path)
        if tap in pack.taps and lens_hash(pack.info, tap) == lens:
            return pack
    cause = f"has no lens at {tap}, where the comparison found the partner."
    if tap in pack.taps:
        cause = f"its lens at {tap} was trained anew since the packs were compared."
    remedy = "Compare the packs again with `medseglens diff models`."
    raise PackError(f"{pack.info.name} {pack.info.version}", cause, remedy)


def overlay_message(overlay: Overlay) -> Message:
    fields = {"ijk_to_ras": overlay.ijk_to_ras.tolist(), "maximum": overlay.maximum}
    return Message("result", fields, {"array": overlay.array.astype(np.float32, copy=False)})


def _label_message(kind: str, box: LabelBox | None) -> Message | None:
    if box is None:
        return None
    return Message(kind, {"lower": list(box.lower), "upper": list(box.upper)}, {"labels": box.labels})


def _engine_of(fields: dict) -> Engine:
    """The engine that a case was first opened with: another number format would move voxels that no edit touched."""
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[fields["dtype"]]
    return Engine(fields["device"], dtype, fields["channels_last"], fields["batch"])


def _catalogue_of(pack: LensPack) -> dict[tuple[str, int], dict]:
    table = pack.catalogue()
    return {} if table is None else {(row["tap"], row["latent"]): row for row in table.to_pylist()}
