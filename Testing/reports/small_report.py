"""A small report: an ellipsoid as brain, a ball as tumour, half of whose rim an edit takes away. Not a patient."""

from dataclasses import replace

import numpy as np

from MedSegLensLib.reports.run_report import LatentRow, RegionRow, RunReport

SHAPE = (12, 44, 36)
SPACING = (1.0, 1.0, 3.0)


def small_report(**changes) -> RunReport:
    z, y, x = (np.arange(n) - (n - 1) / 2 for n in SHAPE)
    z, y, x = z[:, None, None] * 3, y[None, :, None], x[None, None, :]
    brain = (x / 16) ** 2 + (y / 20) ** 2 + (z / 16) ** 2 < 1
    far = np.sqrt((x - 5) ** 2 + y**2 + z**2)
    before = np.select([far < 3, far < 6, far < 9], [1, 3, 2], 0).astype(np.uint8) * brain
    after = np.where((before == 3) & (y < 0), 2, before).astype(np.uint8)
    after[(before == 2) & (y > 4)] = 3
    noise = np.random.default_rng(0).normal(0, 0.3, SHAPE)
    images = {"t1c": (noise + (before == 3) * 3) * brain, "t2f": (noise + (before > 0) * 2) * brain}
    latents = [
        LatentRow("upcat_3", 123, "enhancing rim", 4.56, 7.25, -1.37, -2.46, (-5.0, 12.0, 3.0)),
        LatentRow("upcat_3", 8, "", 0.75, 1.5, 0.02, None, (-5.0, 0.0, -3.0)),
    ]
    report = RunReport(
        case_name="case-1",
        phantom=False,
        pack="glioma-unet 1.2.3",
        engine="bf16",
        device="CPU",
        spacing=SPACING,
        images=images,
        before=before,
        after=after,
        reference=before,
        edit="Latent 123 at upcat_3 suppressed (× 0)",
        influence_region="ET",
        regions=[
            RegionRow("ET", 12.34, 6.17, 11.11, 0.87, 0.43),
            RegionRow("NCR", 0.0, 0.0, 0.0, None, None),
        ],
        latents=latents,
        activations=[(latents[0], (before == 3).astype(np.float16) * 7.25)],
        rank_correlation=0.83,
        timings={"segment": 11.3, "resegment": 0.085},
        notes=("t1n (T1) is missing.",),
        summary=["The enhancing tumour shrinks.", "Look at slice 6."],
        origin=(-17.5, -21.5, -16.5),
    )
    return replace(report, **changes)
