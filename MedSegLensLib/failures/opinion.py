"""What another pack says of a case that is open: a second opinion for `repair.propose`."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from MedSegLensLib.editing.session import Session

if TYPE_CHECKING:
    from MedSegLensLib.packs.pack import LensPack


def opinion_of(
    pack: "LensPack",
    session: Session,
    device: str | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> np.ndarray:
    """The pack's labels of the session's case on the session's grid, uint8 (Z, Y, X): one more pass.

    Raises CaseError for a case that the pack cannot take, UsageError for a device that is not there.
    """
    theirs = Session(session.case, pack, device, progress=progress)
    return session.conformed.labels(theirs.to_case(theirs.labels))
