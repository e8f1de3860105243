"""Opening a lens pack: found by path or name, verified, and its parts read when they are asked for.

torch is imported only where weights are read, so a pack can be listed and described inside Slicer.
"""

import hashlib
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from MedSegLensLib.errors import PackError, UsageError
from MedSegLensLib.packs.checked_json import canonical_json
from MedSegLensLib.packs.container import PACK_FILE, FolderFiles, open_container
from MedSegLensLib.packs.info import CATALOGUE_FILE, MODEL_CARD_FILE, SEGMENTER_FILE, LensInfo, PackInfo
from MedSegLensLib.packs.installed import find_pack
from MedSegLensLib.packs.notes import lens_hash
from MedSegLensLib.packs.verify import Finding, inspect

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from MedSegLensLib.cases.conform import InputSpec
    from MedSegLensLib.lenses.lens import Lens
    from MedSegLensLib.packs.comparisons import PackComparison


@dataclass
class LensPack:
    """A verified pack, open for reading.

    folder: where its files are; for a zip a temporary folder that lasts as long as this object.
    info: what pack.json says.
    hash: SHA-256 of pack.json in canonical form. Since pack.json holds the hash of every other file, it identifies
        the pack with all its weights, its catalogue and whatever else it holds.
    edits_hash: see the function of this name; recipes name it. A view of the pack with other lenses keeps it.
    warnings: findings of `verify` that do not keep it from being used.
    """

    folder: Path
    info: PackInfo
    hash: str
    edits_hash: str
    warnings: tuple[Finding, ...] = ()
    _unpacked: tempfile.TemporaryDirectory | None = field(default=None, repr=False)
    _lenses: dict[str, "Lens"] = field(default_factory=dict, repr=False)

    @property
    def taps(self) -> tuple[str, ...]:
        """Taps that have a lens, in the order of pack.json."""
        return tuple(lens.tap for lens in self.info.lenses)

    @property
    def default_tap(self) -> str:
        """The tap whose lens opens first. Raises UsageError for a pack without a lens."""
        for lens in self.info.lenses:
            if lens.default:
                return lens.tap
        raise UsageError(self.info.name, "this pack has no lens.", "Train one with `medseglens train lens`.")

    @property
    def model_card(self) -> str:
        """MODEL_CARD.md, Markdown."""
        return (self.folder / MODEL_CARD_FILE).read_text(encoding="utf-8")

    def input_spec(self) -> "InputSpec":
        """What the segmenter takes."""
        return self.info.input_spec()

    def lens_info(self, tap: str | None = None) -> LensInfo:
        """Sizes of the lens at `tap` (None: the default tap). Raises UsageError for a tap without a lens."""
        wanted = self.default_tap if tap is None else tap
        for lens in self.info.lenses:
            if lens.tap == wanted:
                return lens
        known = ", ".join(self.taps) or "none"
        raise UsageError(str(tap), f"the pack {self.info.name} has no lens at this tap.", f"Its taps are: {known}.")

    def lens(self, tap: str | None = None) -> "Lens":
        """The lens at `tap` (None: the default tap), read once. Raises UsageError for a tap without a lens."""
        info = self.lens_info(tap)
        if info.tap not in self._lenses:
            from MedSegLensLib.lenses.files import load_lens

            lens = load_lens(self.folder / info.folder)
            if lens.tap != info.tap:
                cause = f"it is a lens for {lens.tap!r}; pack.json says {info.tap!r}."
                raise PackError(self.folder / info.folder, cause, "Ask the pack's maker to build it again.")
            self._lenses[info.tap] = lens
        return self._lenses[info.tap]

    def state_dict(self) -> "dict[str, torch.Tensor]":
        """The segmenter's weights, read anew at each call; float16 on disk becomes float32, counters stay integers."""
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.folder / SEGMENTER_FILE
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as problem:
            raise PackError(path, f"it cannot be read ({problem}).", "Copy or download the pack again.") from problem
        return {name: t.to(torch.float32) if t.is_floating_point() else t for name, t in tensors.items()}

    def network(self) -> "torch.nn.Module":
        """The segmenter with its weights, on the CPU, in evaluation mode; built anew at each call."""
        from MedSegLensLib.segmenters.architectures import build_network
        from MedSegLensLib.segmenters.weights import fit_weights

        tensors = self.state_dict()
        # Arguments that ask for more than the weights can fill are absurd; small tables a network makes itself are not.
        most = max(2**24, 4 * sum(tensor.numel() for tensor in tensors.values()))
        network = build_network(self.info.segmenter, most)
        fit_weights(network, tensors, self.folder / SEGMENTER_FILE)
        return network.eval()

    def catalogue(self) -> "pa.Table | None":
        """What is known of each latent (columns: `CATALOGUE_SCHEMA`), or None if the pack does not say."""
        if CATALOGUE_FILE not in self.info.files:
            return None
        from MedSegLensLib.packs.catalogue import read_catalogue

        return read_catalogue(self.folder / CATALOGUE_FILE)

    def comparisons(self) -> "list[PackComparison]":
        """What comparisons that the pack was shipped with found of its latents."""
        from MedSegLensLib.packs.shipped_comparisons import shipped_comparisons

        return shipped_comparisons(self)


def load_pack(path_or_name: Path | str) -> LensPack:
    """Open the pack in a folder or .mslp/.zip, or one of `list_packs` by its name.

    All of it is verified first, see `verify`; the first error is raised as PackError.

    >>> pack = load_pack("glioma-unet")
    >>> pack.default_tap, pack.lens().d_sae
    """
    path = find_pack(path_or_name)
    container = open_container(path)
    try:
        inspection = inspect(container)
        errors = inspection.errors
        if errors:
            more = f" ({len(errors) - 1} more problems: see `medseglens pack verify`)" if len(errors) > 1 else ""
            first = errors[0]
            subject = f"{path}: {first.file}" if first.file != str(path) else first.file
            raise PackError(subject, first.cause, first.remedy + more)
        unpacked, folder = None, container.path
        if not isinstance(container, FolderFiles):
            unpacked = tempfile.TemporaryDirectory(prefix="medseglens-pack-")
            folder = Path(unpacked.name)
            try:
                container.unpack([PACK_FILE, *inspection.info.files], folder)
            except OSError as problem:
                unpacked.cleanup()
                cause = f"it cannot be unpacked ({problem})."
                raise PackError(path, cause, f"Free some space in {folder.parent}, or unzip it yourself.") from problem
    finally:
        container.close()
    info, whole = inspection.info, pack_hash(inspection.document)
    return LensPack(folder, info, whole, edits_hash(info), tuple(inspection.findings), unpacked)


def pack_hash(document: dict) -> str:
    """The SHA-256 by which a pack with this pack.json is known."""
    return hashlib.sha256(canonical_json(document)).hexdigest()


def edits_hash(info: PackInfo) -> str:
    """SHA-256 of all that the result of an edit depends on: the segmenter, what goes into it, its labels, the lenses.
    Recipes name it, so that they stay good when a pack gets another catalogue, reference or comparison."""
    document = info.to_json()
    acting = {part: document[part] for part in ("input", "labels", "segmenter")}
    acting["weights"] = info.files[SEGMENTER_FILE].sha256
    acting["lenses"] = {lens.tap: lens_hash(info, lens.tap) for lens in info.lenses}
    return hashlib.sha256(canonical_json(acting)).hexdigest()
