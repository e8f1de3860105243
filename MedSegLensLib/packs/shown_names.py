"""What a pack's latents are called to a reader: by their own notes, else by the catalogue."""

from typing import TYPE_CHECKING

from MedSegLensLib.packs.catalogue import shown_name
from MedSegLensLib.packs.notes import notes_of

if TYPE_CHECKING:
    from MedSegLensLib.packs.pack import LensPack


def shown_names(pack: "LensPack") -> dict[tuple[str, int], str]:
    """By tap and number; nothing for a pack without a catalogue."""
    table = pack.catalogue()
    if table is None:
        return {}
    noted = notes_of(pack)
    return {
        (row["tap"], row["latent"]): shown_name(row, noted.name(row["tap"], row["latent"])) for row in table.to_pylist()
    }
