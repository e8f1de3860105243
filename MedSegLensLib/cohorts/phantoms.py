"""A phantom asked for and not yet made: small enough to lie in a cohort's description, the same wherever it is made."""

from dataclasses import dataclass

from MedSegLensLib.cases.case import MODALITIES, Case
from MedSegLensLib.errors import CaseError


@dataclass(frozen=True)
class PhantomRequest:
    """The arguments of `cases.phantom.phantom`; see there."""

    seed: int
    tumour: bool = True
    size: tuple[int, int, int] = (240, 240, 155)
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    modalities: tuple[str, ...] = MODALITIES
    enhancing: bool | None = None
    shape: str = "usual"

    def make(self) -> Case:
        # Imported here: the phantom needs scipy, which reading a description does not.
        from MedSegLensLib.cases.phantom import phantom

        return phantom(
            self.seed,
            tumour=self.tumour,
            size=self.size,
            spacing=self.spacing,
            modalities=self.modalities,
            enhancing=self.enhancing,
            shape=self.shape,
        )

    def to_json(self) -> dict:
        return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}

    @staticmethod
    def from_json(value: dict) -> "PhantomRequest":
        """Raises CaseError for an argument that phantoms do not have."""
        try:
            return PhantomRequest(**{k: tuple(v) if isinstance(v, list) else v for k, v in value.items()})
        except TypeError as problem:
            raise CaseError("phantom", f"it cannot be asked for so ({problem}).", "Make the cohort again.") from None
