"""What a pack's latents are called to a reader: by their own notes, else by the catalogue."""

from typing import TYPE_CHECKING

from MedSegLensLib.packs.catalogue import clear_name, shown_name
from MedSegLensLib.packs.notes import notes_of

if TYPE_CHECKING:
    from MedSegLensLib.packs.pack import LensPack


def shown_names(pack: "LensPack", places: bool = True) -> dict[tuple[str, int], str]:
    """By tap and number; nothing for a pack without a catalogue. places: an unnamed latent is called by where it
    fires ("81 % in brain outside the tumour"); else it is left out."""
    table = pack.catalogue()
    if table is None:
        return {}
    noted, names = notes_of(pack), {}
    for row in table.to_pylist():
        own, at = noted.name(row["tap"], row["latent"]), (row["tap"], row["latent"])
        if places or own or clear_name(row):
            names[at] = shown_name(row, own)
    return names
