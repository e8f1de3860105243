"""The Slicer module without Slicer: `python -m Testing.panel.demo`.

With a display a window opens, panel and four views, with a study segmented and its latents listed: yours to try.
Without one the same is done step by step, and each step is written as a screenshot; the tutorial has its pictures so:

    python -m Testing.panel.demo --shots --out docs/images --prefix tutorial-
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from Testing.panel.demo_failure import tell_failure
from Testing.panel.driver import ROOT, Driver


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    driver = Driver()
    try:
        if not options.shots:
            what = driver.open_study(options.case)
            print(f"{what}: segmenting; the window shows the progress ...")
            driver.apply(options.pack)
            driver.host.run()
            return 0
        shots = Shots(driver, options.out, options.prefix)
        STORIES[options.story](driver, shots, options.case, options.pack)
    finally:
        driver.host.quit()
    return 0


class Shots:
    """Screenshots, each with a line on what it shows."""

    def __init__(self, driver: Driver, folder: Path, prefix: str):
        self._driver, self._folder, self._prefix = driver, folder, prefix

    def take(self, name: str, what: str) -> None:
        path = self._driver.host.screenshot(self._folder / f"{self._prefix}{name}.png")
        print(f"{os.path.relpath(path)}: {what}")


def tell(driver: Driver, shots: Shots, case: Path | None, pack: str | None) -> None:
    """From an empty scene to a saved and reopened one, a screenshot a step."""
    from MedSegLensLib.scene import views

    panel, review, host = driver.panel, driver.review, driver.host
    driver.idle()
    driver.fold(panel.study, panel.pack)
    what = driver.open_study(case)
    shots.take("study", f"the four volumes are recognised: {what}")
    driver.apply(pack)
    driver.fold(panel.study, panel.pack, panel.regions)
    views.jump_to(driver.tumour_centre())
    host.click(panel.regions.ui.surfaceCheckBox)
    driver.idle()
    shots.take("segmented", "the segmentation, and the volumes of its regions in mL")
    host.click(panel.regions.ui.surfaceCheckBox)

    driver.fold(panel.latents)
    driver.rank_by_influence("WT")
    latent = driver.choose(_row(driver))
    row = panel.latents.table._keys.index((latent.tap, latent.latent))
    views.jump_to(driver.tumour_centre())
    host.process(0.1)
    shots.take("latent", f"latent {latent.latent} over the anatomy; ranked by influence on the whole tumour")
    driver.fold(panel.details)
    shots.take("details", "all about one latent")

    driver.fold(panel.regions, panel.latents)
    driver.scroll_to(panel.latents)
    review.overlays.hideAll()
    slider = driver.slider(row)
    from slicerhost import driving

    for step, _event in enumerate(driving.drag(slider, 0.0, 6)):
        host.process(0.3)
        if step == 5:
            shots.take("dragging", "while the strength is dragged, the axial slice follows")
    driver.idle()
    driver.fold(panel.regions, panel.edits)
    shots.take("edited", "released: the whole case is segmented again; volumes before and after")
    host.click(panel.edits.ui.differenceButton)
    driver.idle()
    shots.take("difference", "voxels that the edit added and removed")
    host.click(panel.edits.ui.differenceButton)
    host.click(panel.edits.ui.sideBySideButton)
    driver.idle()
    shots.take("side-by-side", "original left, edited right")
    host.click(panel.edits.ui.sideBySideButton)

    with tempfile.TemporaryDirectory() as folder:
        scene = Path(folder) / "tomorrow.mrb"
        host.save_scene(scene)
        host.close_scene()
        host.load_scene(scene)
        driver.fold(panel.regions, panel.edits)
        host.process(0.3)
        shots.take("reopened", "the scene saved and opened again: all is there before anything is computed")


def _row(driver: Driver) -> int:
    """The first latent of the ranking whose suppression makes the tumour smaller, else the first."""
    from MedSegLensLib.panel.latent_list import influence

    listed = driver.panel.latents.listed()[:30]
    return next((row for row, latent in enumerate(listed) if (influence(latent) or 0) < -0.2 and not latent.dense), 0)


STORIES = {"review": tell, "failure": tell_failure}


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="slicer-demo", description=__doc__.split("\n")[0])
    parser.add_argument("--case", type=Path, help="folder of one study (default: the phantom)")
    parser.add_argument("--pack", help="lens pack: a name, a folder or a zip (default: the first that is installed)")
    parser.add_argument("--story", choices=list(STORIES), default="review", help="what the screenshots show")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "slicer-demo", help="folder for the screenshots")
    parser.add_argument("--prefix", default="", help="put before the screenshots' names")
    has_display = bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    parser.add_argument("--shots", action="store_true", default=not has_display, help="screenshots though a display is")
    options = parser.parse_args(arguments)
    if options.shots:
        os.environ["QT_QPA_PLATFORM"] = "offscreen"
    return options


if __name__ == "__main__":
    sys.exit(main())
