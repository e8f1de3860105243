"""Errors a user can act on.

Every failure that a user can cause or repair is raised as a `MedSegLensError` with three parts: what was
being read or written, the cause, and the remedy. The command line prints them as one sentence each and
exits with the class's `exit_code`; `--debug` adds the traceback. Anything else that is raised is a bug.
"""


class MedSegLensError(Exception):
    """A failure with its subject (a file, folder or name), its cause and its remedy."""

    exit_code = 1

    def __init__(self, subject: object, cause: str, remedy: str):
        self.subject, self.cause, self.remedy = str(subject), cause, remedy
        super().__init__(f"{self.subject}: {cause} {remedy}")


class UsageError(MedSegLensError):
    """An argument that names nothing (an unknown latent, tap, region) or is not a value (a gain of nan)."""

    exit_code = 2


class CaseError(MedSegLensError):
    """A case that cannot be read or used."""

    exit_code = 3


class PackError(MedSegLensError):
    """A lens pack that is damaged, unsafe or of an unknown version."""

    exit_code = 4


class RecipeError(MedSegLensError):
    """A recipe that cannot be read, or belongs to another pack."""

    exit_code = 5


class OutputError(MedSegLensError):
    """A result that cannot be written."""

    exit_code = 6


class MemoryShortage(MedSegLensError):
    """Not enough memory, of the machine or of its graphics processor, for what was asked."""

    exit_code = 9

    WORDS = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")
    """How torch and the system say it in errors of other classes."""

    @staticmethod
    def said_by(problem: BaseException) -> bool:
        """Whether an exception of any library means this."""
        said = str(problem).lower()
        return isinstance(problem, MemoryError) or any(words in said for words in MemoryShortage.WORDS)


class Cancelled(MedSegLensError):
    """The user stopped the work; nothing is left half-written."""

    exit_code = 130

    def __init__(self, subject: object = "run"):
        super().__init__(subject, "cancelled by the user.", "Start it again to have the result.")


class WorkerError(MedSegLensError):
    """A worker that cannot be started, reached or understood, or has no room for what is asked."""

    exit_code = 8
