"""`medseglens demo`: the whole path on one case, with a report.

case -> segmentation -> latents ranked by influence on the enhancing tumour -> the most influential one suppressed ->
segmentation again.
"""

import json
import time
from pathlib import Path

import numpy as np

from MedSegLensLib.commands.common import (
    Result,
    add_case,
    add_command,
    add_labels,
    add_pack,
    check_region,
    output_folder,
    progress_bar,
)
from MedSegLensLib.commands.latents import (
    correlation_line,
    dense_line,
    latent_rows,
    write_activation,
    write_latents_csv,
)

DEMO_SEED = 7
TOP = 5


def add_parser(commands) -> None:
    command = add_command(
        commands,
        "demo",
        "the whole path on one case, with a report (start here)",
        run,
        "Segment a case, rank its latents by influence on the enhancing tumour, suppress the most influential one, "
        "segment again, and write a report. Without a case it takes the bundled phantom, an invented one.",
    )
    add_case(command)
    add_pack(command)
    add_labels(command)
    command.add_argument("--region", default="ET", help="region to rank by (default ET; WT where the case has none)")
    command.add_argument("--out", type=Path, default=Path("build/demo"), help="folder to write (default build/demo)")


def run(options) -> Result:
    from MedSegLensLib.cases.case import MODALITIES
    from MedSegLensLib.cases.phantom import phantom
    from MedSegLensLib.cases.writing import atomic_path, check_folder, write_labels
    from MedSegLensLib.commands.common import case_of

    started = time.perf_counter()
    check_region(options.region)
    check_folder(options.out)
    given = options.case or any(getattr(options, m) for m in (*MODALITIES, "seg"))
    with progress_bar(options.json) as progress:
        progress("opening the pack and the case" if given else "opening the pack and making the phantom", 0.0)
        from MedSegLensLib.editing.influence import influence, suppress
        from MedSegLensLib.editing.session import Session
        from MedSegLensLib.packs.pack import load_pack

        timings = {"import libraries": time.perf_counter() - started}
        begun = time.perf_counter()
        pack = load_pack(options.pack)
        timings["open pack"] = time.perf_counter() - begun
        begun = time.perf_counter()
        case = case_of(options) if given else phantom(DEMO_SEED)
        timings["read case" if given else "make phantom"] = time.perf_counter() - begun
        session = Session(case, pack, options.device, progress=progress)
        timings |= session.timings
        tap = pack.default_tap
        region = options.region if session.region_ml(session.labels, options.region) > 0 else "WT"
        begun = time.perf_counter()
        found = influence(session, tap, region, progress=progress)
        timings["influence of all latents"] = time.perf_counter() - begun
        latent = found.most_influential()
        edited = session.edit(suppress(session, tap, latent)) if latent is not None else None
        after = edited.labels if edited else session.labels
        if edited:
            timings["edit to labels, whole case"] = edited.seconds

        begun = time.perf_counter()
        progress("writing", 0.0)
        out = output_folder(options.out)
        write_labels(session.to_case(session.labels), out / "segmentation.nii.gz", options.labels)
        write_labels(session.to_case(after), out / "edited.nii.gz", options.labels)
        rows = latent_rows(session, found)
        write_latents_csv(rows, out / "latents.csv")
        for stale in out.glob("activation-*.nii.gz"):  # of an earlier run on another case
            stale.unlink()
        for row in rows[:TOP]:
            write_activation(session, tap, row["latent"], out)
        summary = _summary(session, found, region, latent, after, rows, options.region)
        timings["write volumes"] = time.perf_counter() - begun
        progress("writing the report", 0.5)
        begun = time.perf_counter()
        _write_report(session, found, region, latent, after, rows, summary, timings, out / "report.html")
        timings["write report"] = time.perf_counter() - begun
    timings["total"] = time.perf_counter() - started
    timings = {k: round(v, 4) for k, v in timings.items()}
    with atomic_path(out / "timings.json") as temporary:
        temporary.write_text(json.dumps(timings, indent=2) + "\n", encoding="utf-8")
    data = {
        "case": case.name,
        "phantom": case.invented,
        "pack": pack.info.name,
        "tap": tap,
        "region": region,
        "latent": latent,
        "rank_correlation": found.rank_correlation(),
        "volumes_ml_before": {r.region: r.before_ml for r in _regions(session, after)},
        "volumes_ml_after": {r.region: r.after_ml for r in _regions(session, after)},
        "changed_voxels": int((after != session.labels).sum()),
        "notes": session.notes,
        "timings": timings,
        "folder": str(out),
    }
    where = [
        "",
        f"Look at {out / 'report.html'} (open it in a browser).",
        f"For 3D Slicer, on the case's grid: segmentation, edited and activation-<latent>.nii.gz in {out};",
        "every latent is in latents.csv there.",
    ]
    return Result(data, [*summary, *where])


def _regions(session, after):
    from MedSegLensLib.editing.splice import dice
    from MedSegLensLib.reports.run_report import RegionRow

    labels = session.case.labels
    reference = session.conformed.labels(labels) if labels is not None else None
    rows = []
    for region in ("WT", "TC", "ET", "NCR", "ED"):
        true_ml = None if reference is None else session.region_ml(reference, region)
        scores = (None, None) if reference is None else (dice(a, reference, region) for a in (session.labels, after))
        rows.append(
            RegionRow(
                region, session.region_ml(session.labels, region), session.region_ml(after, region), true_ml, *scores
            )
        )
    return rows


def _axis_aligned_origin(conformed) -> tuple[float, float, float] | None:
    """The box's first voxel in mm (LPS), or None for an oblique volume, whose slices have no one position."""
    if not np.allclose(np.reshape(conformed.grid.direction, (3, 3)), np.eye(3), atol=1e-3):
        return None
    return conformed.grid.point(conformed.start)


def _summary(session, found, region, latent, after, rows, wanted) -> list[str]:
    from MedSegLensLib.reports.wording import place

    name = f"{session.case.name}" + (" (a phantom: invented, not a patient)" if session.case.invented else "")
    volumes = {r: session.region_ml(session.labels, r) for r in ("WT", "TC", "ET")}
    lines = [
        f"{name}, segmented by {session.pack.info.name}: whole tumour {volumes['WT']:.1f} mL, tumour core "
        f"{volumes['TC']:.1f} mL, enhancing tumour {volumes['ET']:.1f} mL."
    ]
    if session.case.labels is not None:
        from MedSegLensLib.editing.splice import dice_by_region

        reference = session.conformed.labels(session.case.labels)
        scores = dice_by_region(session.labels, reference)
        said = ", ".join(f"{r} {'absent' if v is None else f'{v:.2f}'}" for r, v in scores.items())
        lines.append(f"Dice against the reference segmentation that came with the case: {said}.")
    if region != wanted:
        lines.append(f"No {wanted} was found in this case, so latents are ranked by their influence on {region}.")
    if latent is None:
        lines.append(f"No latent has influence on {region} here; nothing was suppressed.")
        return lines
    row = next(r for r in rows if r["latent"] == latent)
    before_ml, after_ml = session.region_ml(session.labels, region), session.region_ml(after, region)
    lines += [
        f"{len(rows)} latents fire in this case at {found.tap}. The one that {region} hangs on most is latent {latent}"
        + (f" (on the training cases {row['name']})" if row["name"] else "")
        + f"; it is active in {row['active_ml']:.1f} mL, strongest at "
        f"{place((row['peak_r_mm'], row['peak_a_mm'], row['peak_s_mm']))} mm.",
        f"Suppressing it takes {region} from {before_ml:.1f} to {after_ml:.1f} mL "
        f"({after_ml - before_ml:+.1f} mL); {np.count_nonzero(after != session.labels)} voxels change their label.",
        correlation_line(found.rank_correlation(), len(found.suppressed_ml)),
        dense_line(found),
    ]
    return lines + [f"Note: {note}" for note in session.notes]


def _write_report(session, found, region, latent, after, rows, summary, timings, path) -> None:
    from MedSegLensLib.reports.run_report import LatentRow, RunReport, write_run_report

    latents = [
        LatentRow(
            r["tap"],
            r["latent"],
            r["name"],
            r["active_ml"],
            r["maximum"],
            r["attribution_ml"],
            r["suppressed_ml"],
            (r["peak_r_mm"], r["peak_a_mm"], r["peak_s_mm"]),
        )
        for r in rows[:40]
    ]
    info = session.pack.info
    spec = session.pack.input_spec()
    images = {m: session.conformed.array[i] for i, m in enumerate(spec.modalities) if session.conformed.present[i]}
    labels = session.case.labels
    write_run_report(
        RunReport(
            case_name=session.case.name,
            phantom=session.case.invented,
            pack=f"{info.name} {info.version}",
            engine=str(session.engine),
            device=session.engine.device,
            spacing=tuple(session.conformed.grid.spacing),
            origin=_axis_aligned_origin(session.conformed),
            images=images,
            before=session.labels,
            after=after,
            reference=session.conformed.labels(labels) if labels is not None else None,
            edit="No edit" if latent is None else f"Latent {latent} at {found.tap} suppressed (x 0)",
            influence_region=region,
            regions=_regions(session, after),
            latents=latents,
            activations=[(row, session.activation_volume(row.tap, row.latent)) for row in latents[:TOP]],
            rank_correlation=found.rank_correlation(),
            timings=timings,
            notes=tuple(session.notes),
            summary=summary,
        ),
        path,
    )
