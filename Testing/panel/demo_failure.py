"""The demo's second story: a segmentation that is wrong is checked, pointed at and repaired, a screenshot a step.

    python -m Testing.panel.demo --story failure --case <folder> --pack <pack> --shots

Where the reader would look for what is wrong with their own eyes, the demo looks into the expert's segmentation that
lies beside the case: at the middle of the largest mistake, as `failures.reader` does.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from Testing.panel.driver import Driver

if TYPE_CHECKING:
    from Testing.panel.demo import Shots

CLICKS = 3
FIELD_MM = 120.0
"""Of the slice views, around what is looked at."""
LABELS = {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,), "NCR": (1,), "ED": (2,)}


def tell_failure(driver: Driver, shots: "Shots", case: Path | None, pack: str | None, region: str = "WT") -> None:
    """From a segmentation to its check, and from clicks to a repaired segmentation."""
    panel, review, host = driver.panel, driver.review, driver.host
    driver.idle()
    driver.open_study(case)
    _show_flair(review.parameters.t2f)
    driver.apply(pack)
    _check(driver, shots)
    driver.fold(panel.regions, panel.points)
    review.checking.showMap(False)
    panel.points.choose(region)
    answered, passed, first = 0, [], None
    for _click in range(CLICKS):
        mistake = largest_mistake(driver, region, passed)
        if mistake is None:
            break
        ras, inside = mistake
        first = first or ras
        look_closely(driver, ras)
        driver.scroll_to(panel.regions)
        host.click(panel.points.ui.insideButton if inside else panel.points.ui.outsideButton)
        host.view("Red").click(ras=ras)
        driver.idle()
        print(f"  {'is' if inside else 'is not'} {region} at {tuple(round(c) for c in ras)}: {_told(driver)}")
        if not review.pointing.canDecide:
            passed.append(ras)
            shots.take("no-latent", "no latent does it: the region is prepared for the Segment Editor")
            host.click(panel.points.ui.rejectButton)
            continue
        answered += 1
        if answered == 1:
            shots.take("proposal", "a click is answered: what would change, before it is applied")
        host.click(panel.points.ui.acceptButton)
        driver.idle()
        if answered == 1:
            shots.take("accepted", "accepted: an edit like any other")
    driver.fold(panel.regions, panel.edits)
    if first is not None:
        look_closely(driver, first)
    host.click(panel.edits.ui.differenceButton)
    driver.idle()
    driver.scroll_to(panel.regions)
    shots.take("repaired", "after the clicks: volumes and, against the expert's segmentation, Dice")


def _show_flair(node) -> None:
    """FLAIR as background, windowed so that a bright tumour is not burnt out."""
    import slicer

    display = node.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0.0, float(np.quantile(slicer.util.arrayFromVolume(node), 0.9995)))
    slicer.util.setSliceViewerLayers(background=node)


def _check(driver: Driver, shots: "Shots") -> None:
    panel, review, host = driver.panel, driver.review, driver.host
    driver.fold(panel.check)
    driver.scroll_to(panel.check)
    host.click(panel.check.ui.checkButton)
    driver.idle()
    found = review.checking.found
    if found is not None and found.suspects:
        panel.check.ui.suspectsTable.selectRow(0)
        look_closely(driver, found.suspects[0].ras)
        host.click(panel.check.ui.riskCheckBox)
        driver.idle()
    driver.scroll_to(panel.check)
    shots.take("check", "likely Dice, how unusual the study is, and where to look; the risk map over the anatomy")


def look_closely(driver: Driver, ras: tuple[float, float, float]) -> None:
    """Centre the slice views on a place, near enough to see it."""
    import slicer

    from MedSegLensLib.scene import views

    views.jump_to(ras)
    for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        node.JumpSliceByCentering(*ras)
        width, height, depth = node.GetFieldOfView()
        scale = FIELD_MM / min(width, height)
        node.SetFieldOfView(width * scale, height * scale, depth)
    driver.host.process(0.1)


def largest_mistake(
    driver: Driver, region: str, passed: list[tuple[float, float, float]]
) -> tuple[tuple[float, float, float], bool] | None:
    """RAS of the middle of the largest connected mistake, and whether it belongs to the region; None without one.

    passed: places that came to nothing; the mistakes that they lie in are passed over.
    """
    from scipy import ndimage

    from MedSegLensLib.scene.reference import reference_volume

    review, values = driver.review, LABELS[region]
    truth = np.isin(reference_volume(review.parameters.reference).array, values)
    ours = np.isin(review.result.labels(), values)
    best = None
    for inside, wrong in ((True, truth & ~ours), (False, ours & ~truth)):
        pieces, count = ndimage.label(wrong)
        if count:
            sizes = np.bincount(pieces.ravel())[1:]
            for ras in passed:
                x, y, z = (round(i) for i in (np.linalg.inv(review.session.opened.ijk_to_ras) @ [*ras, 1.0])[:3])
                if pieces[z, y, x]:
                    sizes[pieces[z, y, x] - 1] = 0
            if sizes.max() > (best[0] if best else 0):
                best = int(sizes.max()), inside, pieces == sizes.argmax() + 1
    if best is None:
        return None
    _size, inside, piece = best
    depth = ndimage.distance_transform_edt(np.pad(piece, 1))
    z, y, x = (int(i) - 1 for i in np.unravel_index(depth.argmax(), depth.shape))
    return tuple(float(c) for c in (review.session.opened.ijk_to_ras @ [x, y, z, 1.0])[:3]), inside


def _told(driver: Driver) -> str:
    ui, answer = driver.panel.points.ui, driver.review.pointing.answer
    seconds = "" if answer is None else f" ({answer.seconds:.1f} s)"
    return f"{ui.pointsState.text} {ui.pointsChange.text}".replace("<br>", "; ").strip() + seconds
