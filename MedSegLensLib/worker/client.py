"""The worker from the side of Slicer: started, watched, asked, and started again when it dies. Imports no torch.

    client = WorkerClient()
    hello = client.start().result()                       # the panel polls task.done with a timer instead
    session = client.open_case({"t1n": Volume(...), ...}, "patient 7", "glioma-unet").result()
    show(session.opened.labels)
    edited = session.edit(recipe, near_ras=[crosshair]).result()
    labels[edited.box.slices] = edited.box.labels
    client.close()

Every request returns a Task at once and is worked on by a background thread. What the user did lives in the recipe,
which comes along with every request, and the volumes stay with the client: so a worker that dies is started again,
given the case again and asked again, and the user reads one line in `messages()`.
"""

from MedSegLensLib.editing.recipe import Recipe
from MedSegLensLib.worker.answers import Edited, Handshake, LabelBox, LatentRow, Opened, Overlay, Point, Volume
from MedSegLensLib.worker.task import Task

__all__ = [
    "CaseSession", "Edited", "Handshake", "LabelBox", "LatentRow", "Opened", "Overlay", "Task", "Volume",
    "WorkerClient",
]  # fmt: skip


class WorkerClient:
    """One worker, local or remote.

    python: the interpreter that runs a local worker; None is this one (in Slicer: PythonSlicer).
    environment: variables on top of this process's own, for a local worker.
    address, key, tls_ca: of a worker started by `medseglens serve` ("https://host:8443"), its key, and the file of
        the certificate authority where the system does not know it.
    device: 'cpu', 'cuda', 'mps'; None is the best there is.
    memory_gb: what a local worker may use at most; None is 90 % of what is free when it starts.
    idle_seconds: a local worker without work ends after this long; the next request starts it again.
    """

    def __init__(
        self,
        python: str | None = None,
        address: str | None = None,
        key: str | None = None,
        tls_ca: str | None = None,
        device: str | None = None,
        environment: dict[str, str] | None = None,
        memory_gb: float | None = None,
        idle_seconds: float = 1800.0,
    ):
        raise NotImplementedError

    def start(self) -> Task[Handshake]:
        """Start the worker (or reach the remote one) and shake hands. A started worker answers at once.

        The task raises WorkerError: no such interpreter, dependencies missing, another version, wrong key, no answer.
        """

    def open_case(
        self, volumes: dict[str, Volume], name: str, pack: str, reference: Volume | None = None
    ) -> "Task[CaseSession]":
        """Open a case with a pack (a name or a path); starts the worker where needed. The voxels are copied before
        this returns, so the nodes may change or go.

        volumes: by modality (t1n, t1c, t2w, t2f), at least one; grids may differ. reference: a label volume, for Dice.
        The task raises CaseError, PackError, WorkerError (memory), Cancelled.
        """

    def messages(self) -> list[str]:
        """New lines for the user since the last call, e.g. "The worker stopped and was started again; nothing was
        lost." """

    def close(self) -> None:
        """End the worker and remove all shared memory; tasks under way are cancelled. Waits 3 s at most."""


class CaseSession:
    """One case opened with one pack. Survives the worker's restarts.

    opened: what was found on opening.
    """

    opened: Opened

    def edit(self, recipe: Recipe, near_ras: list[Point] = ()) -> Task[Edited]:
        """The segmentation under a recipe. The axial slices through `near_ras` come first, as `Task.partial()` (a
        LabelBox, or None). A newer edit of the case cancels an older one still under way."""

    def preview(self, recipe: Recipe, ras: Point) -> Task[LabelBox]:
        """The one axial sample (slice) through a point under a recipe, whole, for dragging. The newest wins: of
        requests that wait, all but the newest are cancelled. Raises UsageError for a point outside the volume."""

    def latents(
        self,
        tap: str,
        rank: str = "activity",
        region: str | None = None,
        ras: Point | None = None,
        mask: Volume | None = None,
        measure: int = 0,
    ) -> Task[list[LatentRow]]:
        """The latents of the case, best first.

        rank: 'activity' (most activation first, dense ones last), 'influence' (on `region`; of the `measure` first ones
        the suppression is measured), 'point' (those that fire at `ras`, strongest first), 'mask' (those that fire
        inside `mask` != 0, strongest mean first).
        """

    def detail(self, tap: str, latent: int) -> Task[dict]:
        """All about one latent in the case: histogram {counts, edges}; extent_mm [R, A, S] or None; volume_ml;
        region_share {NCR, ED, ET, brain}: shares of its activation; peak_ras or None; slice_profile {s_mm, total}: sum
        of its code per axial slice; catalogue: its row as a dictionary, or None."""

    def activation(self, tap: str, latent: int) -> Task[Overlay]:
        """Where a latent fires, on the tap's grid."""

    def probability(self, region: str, recipe: Recipe | None = None) -> Task[Overlay]:
        """Probability (0..1) of WT, TC, ET, NCR or ED on the case's grid; under a recipe where one is given."""

    def close(self) -> Task[None]:
        """Let the worker forget the case and free its shared memory."""
