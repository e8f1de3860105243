"""Kill the worker at random moments of a scripted session: is anything lost, does anything stay behind?

The session runs in a process of its own (the host). It opens a case, and then edits, previews, ranks and looks at
activations, round after round; a thread kills the worker without warning, at any moment: while it starts, opens,
computes, answers or rests. Every edit's labels are compared with those of a session without kills.

recipes_lost: edits whose result did not come or was wrong. host_crashes: hosts that ended other than by themselves, or
with an exception no task reported. orphans: worker processes, and folders of shared memory, found in the system
afterwards.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

MARKER = "MEDSEGLENS_KILLS"
SHARED = "MEDSEGLENS_SHARED_MEMORY"
LONGEST_PAUSE = 2.0
"""Between kills: from nothing to so many times as long as a start with a case takes here, evenly. So about half of the
kills come before the worker is ready again, and half while it works or rests."""
SECONDS = 600
ROUND = (3.0, 0.0, 0.5, 2.0)
"""Strengths that the latents are given in turn."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--pack", default="glioma-segformer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--host", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.host:
        print(json.dumps(host(options)))
        return
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else folder
        shared = Path(tempfile.mkdtemp(prefix="kills-", dir=memory))
        marker = f"{os.getpid()}-{time.time_ns()}"
        command = [sys.executable, __file__, "--host", "--kills", str(options.kills), "--pack", options.pack]
        command += ["--seed", str(options.seed)]
        environment = os.environ | {MARKER: marker, SHARED: str(shared)}
        run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
        time.sleep(3.0)
        left = workers(marker)
        folders = list(shared.glob("*"))
        for path in folders:
            print(f"left behind: {path}", file=sys.stderr)
        if not folders:
            shared.rmdir()
    result = {"kills": 0, "recipes_lost": None, "host_crashes": 0, "orphans": len(left) + len(folders)}
    try:
        told = json.loads(run.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        told = {}
    result |= told
    if run.returncode != 0 or not told:
        result["host_crashes"] += 1
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        print(
            f"{result['kills']} kills in {result.get('seconds', 0):.0f} s, {result.get('edits', 0)} edits: "
            f"{result['recipes_lost']} recipes lost, {result['host_crashes']} host crashes, {result['orphans']} orphans"
        )


def host(options) -> dict:
    """The scripted session; what the host can say itself."""
    from MedSegLensLib.cases.phantom import phantom
    from MedSegLensLib.editing.recipe import Edit, PackReference, Recipe
    from MedSegLensLib.errors import MedSegLensError
    from MedSegLensLib.worker.client import WorkerClient

    uncaught: list[str] = []
    threading.excepthook = lambda told: uncaught.append(f"{told.exc_type.__name__}: {told.exc_value}")
    case = phantom(1, size=(80, 100, 40), spacing=(2.0, 2.0, 4.0))
    volumes = {modality: volume_of(image, modality) for modality, image in case.images.items()}
    client = WorkerClient()
    began = time.monotonic()
    try:
        session = client.open_case(volumes, case.name, options.pack).result(SECONDS)
        killer = Killer(client, options.kills, options.seed, LONGEST_PAUSE * (time.monotonic() - began))
        opened = session.opened
        pack = PackReference(*(opened.pack[key] for key in ("name", "version", "hash")))
        rows = session.latents(opened.default_tap).result(SECONDS)[:6]
        recipes = [
            Recipe(f"{row.latent} x {strength}", pack, (Edit(opened.default_tap, row.latent, "scale", strength),))
            for row, strength in zip(rows, ROUND * 2, strict=False)
        ]
        expected = [shown(session, recipe) for recipe in recipes]
        started, edits, lost, trouble = time.monotonic(), 0, 0, []
        killer.start()
        moments = random.Random(options.seed + 1)
        while not killer.done:
            number = moments.randrange(len(recipes))
            recipe, place = recipes[number], rows[number].peak_ras
            task = session.edit(recipe, [place])
            edits += 1
            try:
                if moments.random() < 0.3:
                    session.preview(recipe, place).result(SECONDS)
                if moments.random() < 0.2:
                    session.activation(opened.default_tap, rows[number].latent).result(SECONDS)
                task.result(SECONDS)
                # The labels shown: the unedited ones under the box, as the panel paints them.
                session._touched = None
                if not np.array_equal(shown(session, recipe), expected[number]):
                    lost += 1
                    trouble.append(f"{recipe.name}: other labels")
            except (MedSegLensError, TimeoutError) as problem:
                lost += 1
                trouble.append(str(problem))
            client.messages()
        seconds = time.monotonic() - started
        killer.stop()
    finally:
        client.close()
    told = {"kills": killer.kills, "recipes_lost": lost, "edits": edits, "host_crashes": len(uncaught)}
    return told | {"seconds": round(seconds, 1), "pack": options.pack, "trouble": (trouble + uncaught)[:5]}


def shown(session, recipe) -> np.ndarray:
    """The labels of the whole case under a recipe."""
    labels = session.opened.labels.copy()
    edited = session.edit(recipe).result(SECONDS)
    if edited.box is not None:
        labels[edited.box.slices] = edited.box.labels
    return labels


class Killer:
    """Kills the worker at random moments, without warning, so many times."""

    def __init__(self, client, kills: int, seed: int, longest_pause: float):
        self._client, self._wanted, self._random = client, kills, random.Random(seed)
        self._longest_pause = longest_pause
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.kills = 0

    @property
    def done(self) -> bool:
        return self.kills >= self._wanted

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        began = time.monotonic()
        while not self.done and not self._stopped.wait(self._random.uniform(0.0, self._longest_pause)):
            worker = self._client.worker_pid
            if worker is not None:
                os.kill(worker, signal.SIGKILL if os.name != "nt" else signal.SIGTERM)
                self.kills += 1
                if self.kills % 10 == 0:
                    print(f"{self.kills} of {self._wanted} kills, {time.monotonic() - began:.0f} s", file=sys.stderr)


def volume_of(image, name: str):
    """A SimpleITK image (LPS) as the scene gives volumes (RAS)."""
    import SimpleITK as sitk

    from MedSegLensLib.worker.client import Volume

    ras = np.diag([-1.0, -1.0, 1.0])
    affine = np.eye(4)
    affine[:3, :3] = ras @ np.reshape(image.GetDirection(), (3, 3)) @ np.diag(image.GetSpacing())
    affine[:3, 3] = ras @ np.array(image.GetOrigin())
    return Volume(sitk.GetArrayFromImage(image), affine, name)


def workers(marker: str) -> list[int]:
    """Worker processes of a run that are still there, by the word in their environment (Linux)."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if marker.encode() in (process / "environ").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found


if __name__ == "__main__":
    main()
