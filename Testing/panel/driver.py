"""The module in the Slicer host, driven as a reader drives it, for the demo, the tutorial and the benchmarks.

Run from the repository's root: `python -m Testing.panel.demo`. Imports no torch: only the worker does.
"""

import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
for place in (ROOT / "Testing", ROOT):
    if str(place) not in sys.path:
        sys.path.insert(0, str(place))

MODULE = ROOT / "MedSegLens" / "MedSegLens.py"
SECONDS = 900
"""More than opening a case takes on the slowest machine."""


class Driver:
    """A host with the module open: `panel` and `review` as the reader has them, and waiting for what was asked."""

    def __init__(self, size: tuple[int, int] = (1500, 1000)):
        import slicerhost

        self.host = slicerhost.start()
        started = time.perf_counter()
        self.widget = self.host.load_module(MODULE)
        self.first_open = time.perf_counter() - started
        self.panel, self.review = self.widget.panel, self.widget.review
        self.host.window.resize(*size)
        self.host.show()

    def idle(self) -> None:
        """Until nothing is under way; the views are drawn."""
        self.host.wait(lambda: not len(self.review.watch), SECONDS)
        self.host.process(0.05)

    def open_study(self, folder: Path | None, **phantom_arguments) -> str:
        """A case's folder, else the phantom; what it is in words."""
        from MedSegLensLib.panel import study_files

        if folder is None:
            self.panel.study._load(lambda: study_files.addPhantom(**phantom_arguments))
            return "phantom 101 (invented anatomy, not a patient)"
        self.panel.study.loadFolder(str(folder))
        return folder.name

    def apply(self, pack: str | None) -> None:
        """Press Apply and wait. Raises RuntimeError with what the panel says where it fails."""
        if pack:
            self.widget.parameters.pack = pack
            self.review.stateChanged.emit()
        self.host.click(self.panel.apply.ui.applyButton)
        self.idle()
        if not self.review.isOpen:
            raise RuntimeError(self.panel.apply.ui.messageLabel.text)

    def rank_by_influence(self, region: str = "WT") -> None:
        """Latents that push a region's volume up or down come first."""
        from MedSegLensLib.panel.regions_section import NAMES

        self.panel.latents.ui.rankRegionComboBox.setCurrentIndex(list(NAMES).index(region))
        self.panel.latents.ui.rankComboBox.setCurrentIndex(1)
        self.idle()

    def choose(self, row: int):
        """Select a row of the latents' table, wait for its overlay, go to its maximum; the latent."""
        latent = self.panel.latents.listed()[row]
        self.panel.latents.ui.latentsTable.selectRow(row)
        self.idle()
        self.panel.latents.jumpTo(latent.tap, latent.latent)
        self.host.process(0.05)
        return latent

    def slider(self, row: int):
        """The strength slider of a row."""
        return self.panel.latents.table._sliders[row]

    def scroll_to(self, section) -> None:
        """Bring a section of the panel to the top."""
        self.host.process()
        bar = self.host.window._panel.verticalScrollBar()
        bar.setValue(section.widget.pos.y())
        self.host.process()

    def fold(self, *open_sections) -> None:
        """Open these sections, fold the others."""
        for section in self.panel.sections:
            if hasattr(section.widget, "collapsed"):
                section.widget.collapsed = section not in open_sections
        self.host.process(0.05)
        self.idle()

    def tumour_centre(self) -> tuple[float, float, float]:
        """RAS of the labelled voxel nearest to the centre of the segmentation."""
        import numpy as np

        labels = self.review.originalLabels()
        voxels = np.argwhere(labels > 0)
        if not len(voxels):
            return (0.0, 0.0, 0.0)
        nearest = voxels[np.abs(voxels - voxels.mean(0)).sum(1).argmin()]
        return tuple((self.review.session.opened.ijk_to_ras @ [*nearest[::-1], 1.0])[:3])
