"""Which patients of two cohorts are compared with which: the same patient acquired otherwise is a pair."""

from collections.abc import Sequence
from dataclasses import dataclass

from MedSegLensLib.diffing.effects import enough_cases


@dataclass(frozen=True)
class Pairing:
    """x, y: subjects of each cohort that are compared; where `paired`, the same in the same order. left_out: how many
    of either cohort are not. common: how many are in both."""

    paired: bool
    x: tuple[str, ...]
    y: tuple[str, ...]
    left_out: tuple[int, int]
    common: int

    def notes(self, x: str, y: str) -> list[str]:
        """What a reader must know of it."""
        n_x, n_y = len(self.x), len(self.y)
        said = []
        if self.paired:
            said.append(f"The {n_x} patients that are in both cohorts are compared pair by pair.")
            said += [
                f"{left} patients of {name} are not in the other cohort and are left out."
                for name, left in zip((x, y), self.left_out, strict=True)
                if left
            ]
        elif self.common:
            said.append(
                f"{self.common} patients are in both {x} and {y}; they are too few to compare pair by pair, so all are "
                "compared as if they were others."
            )
        if not enough_cases(n_x, n_y, self.paired):
            what = f"{n_x} pairs" if self.paired else f"{n_x} and {n_y} patients"
            said.append(f"Too few cases: with {what} no difference can be shown, however large it is.")
        return said


def pair_up(x: Sequence[str], y: Sequence[str]) -> Pairing:
    """The patients in both cohorts as pairs, where they are at least half of the smaller cohort and two at least;
    otherwise everybody, unpaired."""
    common = tuple(subject for subject in x if subject in set(y))
    if len(common) >= 2 and 2 * len(common) >= min(len(x), len(y)):
        return Pairing(True, common, common, (len(x) - len(common), len(y) - len(common)), len(common))
    return Pairing(False, tuple(x), tuple(y), (0, 0), len(common))
