"""`medseglens latents`: the latents of a case, ranked by their influence on a region."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from MedSegLensLib.commands.common import (
    Result,
    add_case,
    add_command,
    add_pack,
    check_region,
    note_lines,
    open_session,
    output_folder,
    progress_bar,
)
from MedSegLensLib.errors import UsageError

if TYPE_CHECKING:
    from MedSegLensLib.editing.influence import Influence
    from MedSegLensLib.editing.session import Session


def add_parser(commands) -> None:
    command = add_command(
        commands,
        "latents",
        "rank the latents of a case by influence on a region",
        run,
        "Rank the latents of a case by how much a region's volume hangs on them: for all by gradient x activation, "
        "for the top ones by really suppressing them. Writes latents.csv and activation volumes.",
    )
    add_case(command)
    add_pack(command)
    command.add_argument("--tap", help="tap of the pack (default: the pack's default)")
    command.add_argument("--region", default="ET", help="WT, TC, ET, NCR or ED (default ET)")
    command.add_argument("--measure", type=int, default=20, help="how many to suppress for real (default 20)")
    command.add_argument("--volumes", type=int, default=5, help="how many activation volumes to write (default 5)")
    command.add_argument("--out", type=Path, default=Path("latents"), help="folder to write to")


def run(options) -> Result:
    from MedSegLensLib.cases.writing import check_folder
    from MedSegLensLib.packs.pack import load_pack

    for name in ("measure", "volumes"):
        if getattr(options, name) < 0:
            raise UsageError(f"--{name} {getattr(options, name)}", "is negative.", "Give 0 or more.")
    check_region(options.region)
    check_folder(options.out)
    pack = load_pack(options.pack)
    tap = pack.lens_info(options.tap).tap
    with progress_bar(options.json) as progress:
        session = open_session(options, progress, pack)
        from MedSegLensLib.editing.influence import influence

        found = influence(session, tap, options.region, options.measure, progress)
        rows = latent_rows(session, found)
        out = output_folder(options.out)
        write_latents_csv(rows, out / "latents.csv")
        files = [str(out / "latents.csv")]
        files += [str(write_activation(session, tap, row["latent"], out)) for row in rows[: options.volumes]]
    rho = found.rank_correlation()
    data = {
        "case": session.case.name,
        "pack": session.pack.info.name,
        "tap": tap,
        "region": options.region,
        "rank_correlation": rho,
        "latents": rows[: max(options.measure, options.volumes)],
        "files": files,
        "notes": session.notes,
    }
    text = [f"Latents of {session.case.name} at {tap}, by influence on {options.region} (mL, if suppressed):"]
    text += [f"  {'latent':>6} {'active mL':>10} {'maximum':>8} {'predicted':>10} {'measured':>9}  name"]
    for row in rows[:10]:
        measured = f"{'':9}" if row["suppressed_ml"] is None else f"{row['suppressed_ml']:+9.2f}"
        numbers = f"{row['active_ml']:>10.1f} {row['maximum']:>8.2f} {row['attribution_ml']:>+10.2f}"
        text.append(f"  {row['latent']:>6} {numbers} {measured}  {row['name']}".rstrip())
    if not rows:
        text.append(f"  none: no latent has influence on {options.region} in this case.")
    text += [
        dense_line(found),
        correlation_line(rho, len(found.suppressed_ml)),
        *note_lines(session.notes),
        f"Written: {out}",
    ]
    return Result(data, text)


def correlation_line(rho: float | None, count: int) -> str:
    if rho is None:
        return "Too few latents change the region to compare prediction and measurement."
    verdict = "agree well" if rho >= 0.8 else "agree roughly" if rho >= 0.5 else "do not agree"
    return f"Predicted and measured effects {verdict} in rank: Spearman {rho:.2f} over {count} latents."


def dense_line(found: "Influence") -> str:
    from MedSegLensLib.editing.influence import DENSE

    return (
        f"Not ranked: {int(found.dense.sum())} latents that fire on over {DENSE:.0%} of the brain, whose suppression "
        "would shift everything."
    )


def latent_rows(session: "Session", found: "Influence") -> list[dict]:
    """One row per latent that fires in the case: those with the largest measured or predicted influence first."""
    import numpy as np

    from MedSegLensLib.editing.places import ras_point, token_middle
    from MedSegLensLib.packs.shown_names import shown_names

    codes = session.codes_at(found.tap)
    summary = codes.summary()
    token_ml = session.conformed.voxel_ml * session.labels.size / codes.n_tokens
    brain = np.count_nonzero(session.brain_tokens[found.tap])
    names = shown_names(session.pack)
    rows = []
    for latent in np.flatnonzero(summary.count):
        latent = int(latent)
        measured = found.suppressed_ml.get(latent)
        rows.append(
            {
                "tap": found.tap,
                "latent": latent,
                "name": names.get((found.tap, latent), ""),
                "active_ml": round(float(summary.count[latent]) * token_ml, 3),
                "brain_share": round(float(summary.count[latent]) / brain, 4),
                "maximum": round(float(summary.maximum[latent]), 4),
                "mean": round(float(summary.mean[latent]), 4),
                "attribution_ml": round(float(found.attribution_ml[latent]), 4),
                "suppressed_ml": None if measured is None else round(measured, 4),
            }
        )
    rows.sort(key=lambda r: (r["suppressed_ml"] is None, -abs(r["suppressed_ml"] or 0), -abs(r["attribution_ml"])))
    for row in rows:
        tokens, values = codes.latent(row["latent"])
        middle = token_middle(tokens[int(np.argmax(values))], session.sampling, codes.grid)
        peak = ras_point(session.conformed, middle)
        row["peak_r_mm"], row["peak_a_mm"], row["peak_s_mm"] = (round(float(p), 1) for p in peak)
    return rows


def write_latents_csv(rows: list[dict], path: Path) -> None:
    from MedSegLensLib.cases.writing import atomic_path

    columns = list(rows[0]) if rows else ["tap", "latent"]
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def write_activation(session: "Session", tap: str, latent: int, folder: Path) -> Path:
    from MedSegLensLib.cases.writing import write_image

    path = folder / f"activation-{latent}.nii.gz"
    write_image(session.to_case(session.activation_volume(tap, latent), "linear"), path)
    return path
