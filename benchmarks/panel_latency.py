"""How long the reader waits, in the Slicer host on true MRML views drawn in software: opening the module, releasing a
strength, dragging it, changing the overlay. Each is stated beside what it is measured against in the same run.

    python benchmarks/panel_latency.py [--json] [--pack glioma-segformer] [--case <folder>]
"""

import argparse
import json
import platform
import statistics
import sys
import time
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from Testing.panel.driver import MODULE, Driver  # noqa: E402

REAL = ROOT.parent / "shared" / "data" / "brats2021" / "BraTS2021_00006"
REPEATS = 5
DRAG_SECONDS = 4.0


def main() -> int:
    options = _options()
    driver = Driver()
    try:
        result = {"date": date.today().isoformat(), "processor": platform.machine(), "pack": options.pack}
        result |= opening(driver)
        case = options.case or (REAL if REAL.is_dir() else None)
        result["case"] = driver.open_study(case)
        driver.apply(options.pack)
        driver.idle()
        row = _useful_row(driver)
        result |= releasing(driver, row)
        result |= dragging(driver, row)
        result |= switching_overlays(driver)
        result["torch_imported_in_slicer"] = "torch" in sys.modules
    finally:
        driver.host.quit()
    lines = [f"{name:>28}  {value}" for name, value in result.items()]
    print(json.dumps(result, indent=2) if options.json else "\n".join(lines))
    return 0


def opening(driver: Driver) -> dict:
    """Seconds to open the module: the first time is the Driver's own (Python files are read), then again."""
    seconds = []
    for _ in range(REPEATS):
        driver.host.unload_module("MedSegLens")
        started = time.perf_counter()
        driver.widget = driver.host.load_module(MODULE)
        seconds.append(time.perf_counter() - started)
    driver.panel, driver.review = driver.widget.panel, driver.widget.review
    return {"module_open_s": round(statistics.median(seconds), 3), "module_first_open_s": round(driver.first_open, 3)}


def releasing(driver: Driver, row: int) -> dict:
    """From a strength set to labels and difference drawn in the views, beyond the engine's own edit."""
    latent = driver.panel.latents.listed()[row]
    driver.panel.edits.ui.differenceButton.checked = True
    engine, told = [], []
    driver.review.edited.connect(lambda edited: told.append(edited.seconds))
    totals = []
    for n in range(2 * REPEATS):
        before = _draws(driver)
        started = time.perf_counter()
        driver.review.setStrength(latent.tap, latent.latent, 0.0 if n % 2 == 0 else 2.0)
        driver.host.wait(lambda: driver.review.editing is None, 300)
        driver.host.wait(lambda before=before: all(now > was for now, was in zip(_draws(driver), before, strict=True)))
        totals.append(time.perf_counter() - started)
        engine.append(told[-1])
    overhead = [total - own for total, own in zip(totals, engine, strict=True)]
    driver.review.resetAll()
    driver.panel.edits.ui.differenceButton.checked = False
    driver.idle()
    return {
        "edit_total_s": round(statistics.median(totals), 3),
        "edit_engine_s": round(statistics.median(engine), 3),
        "edit_overhead_s": round(statistics.median(overhead), 3),
    }


def dragging(driver: Driver, row: int) -> dict:
    """Redraws of the axial slice with a new preview, per second, while a slider moves without pause."""
    latent = driver.panel.latents.listed()[row]
    driver.panel.latents.jumpTo(latent.tap, latent.latent)
    driver.idle()
    shown = []
    preview = driver.review.preview
    show = preview.show
    preview.show = lambda box: (show(box), shown.append(time.perf_counter()))
    red = _views(driver)[0]
    before, started, n = red._host_draws(), time.perf_counter(), 0
    while time.perf_counter() - started < DRAG_SECONDS:
        n += 1
        driver.review.dragStrength(latent.tap, latent.latent, 5 * abs((n % 100) / 50 - 1))
        driver.host.process(0.015)
    seconds = time.perf_counter() - started
    preview.show = show
    driver.review.setStrength(latent.tap, latent.latent, 1.0)
    preview.end()
    driver.idle()
    return {
        "drag_redraws_per_s": round(min(len(shown), red._host_draws() - before) / seconds, 2),
        "drag_positions_per_s": round(n / seconds, 1),
    }


def switching_overlays(driver: Driver) -> dict:
    """From a click on another latent to its activation drawn in the three slice views, against one redraw of them: the
    same views with an overlay, moved to the neighbouring slice (drawn again without a change they are only copied)."""
    import slicer

    nodes = [slicer.app.layoutManager().sliceWidget(n).mrmlSliceNode() for n in ("Red", "Yellow", "Green")]
    driver.panel.latents.ui.latentsTable.selectRow(0)
    driver.idle()
    redraws = []
    for n in range(2 * REPEATS):
        before = _draws(driver)
        started = time.perf_counter()
        for node in nodes:
            node.SetSliceOffset(node.GetSliceOffset() + (1 if n % 2 else -1))
        driver.host.wait(lambda before=before: all(now > was for now, was in zip(_draws(driver), before, strict=True)))
        redraws.append(time.perf_counter() - started)
    switches = []
    table = driver.panel.latents.ui.latentsTable
    for row in range(1, 2 * REPEATS + 1):
        before = _draws(driver)
        started = time.perf_counter()
        table.selectRow(row)
        driver.host.wait(lambda before=before: all(now > was for now, was in zip(_draws(driver), before, strict=True)))
        switches.append(time.perf_counter() - started)
        driver.idle()
    redraw, switch = statistics.median(redraws), statistics.median(switches)
    return {
        "three_views_redraw_s": round(redraw, 3),
        "overlay_switch_s": round(switch, 3),
        "overlay_switch_ratio": round(switch / redraw, 2),
    }


def _useful_row(driver: Driver) -> int:
    """A latent that fires in a part of the brain, as a reader would edit."""
    listed = driver.panel.latents.listed()[:30]
    return next((row for row, latent in enumerate(listed) if not latent.dense), 0)


def _views(driver: Driver) -> list:
    import slicer

    return [slicer.app.layoutManager().sliceWidget(name).sliceView() for name in ("Red", "Yellow", "Green")]


def _draws(driver: Driver) -> list[int]:
    return [view._host_draws() for view in _views(driver)]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--pack", default="glioma-segformer")
    parser.add_argument("--case", type=Path, help="folder of one study (default: a validation case, else the phantom)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
