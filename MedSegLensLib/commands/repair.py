"""`medseglens repair`: points that say "this is tumour", "this is not", and the few latents that make it so."""

from pathlib import Path
from typing import TYPE_CHECKING

from MedSegLensLib.commands.common import (
    Result,
    add_case,
    add_command,
    add_labels,
    add_pack,
    check_volume_file,
    note_lines,
    open_session,
    progress_bar,
    region_volumes,
)
from MedSegLensLib.errors import UsageError

if TYPE_CHECKING:
    from MedSegLensLib.editing.session import Session
    from MedSegLensLib.failures.points import Point
    from MedSegLensLib.failures.repair import Proposal


def add_parser(commands) -> None:
    command = add_command(
        commands,
        "repair",
        "move the segmentation by pointing: few latents that do what points say",
        run,
        "Answer points, each over the edits of those before it, with a recipe of at most five latents a point. "
        "Points: a markups file of Slicer (.mrk.json) or a CSV with the columns R, A, S (mm) and label; the label says "
        '"tumour", "not tumour", or a region: "ET", "not ET". Where no latent does what a point says, that is said, '
        "and nothing is changed for it.",
    )
    add_case(command)
    add_pack(command)
    add_labels(command)
    command.add_argument("--points", type=Path, required=True, metavar="FILE", help="the points (.mrk.json or .csv)")
    command.add_argument(
        "--second",
        metavar="PACK",
        help="another pack that is asked for its opinion: where it says at a point what the point says, the tissue is "
        "what it says around it (a second pass)",
    )
    command.add_argument("--tap", help="tap whose latents are used (default: the pack's default)")
    command.add_argument("--strength", type=float, default=1.0, help="how much of it: 0 nothing to 2 (default 1)")
    command.add_argument("--recipe", type=Path, help="a saved recipe to start from")
    command.add_argument("--save-recipe", type=Path, metavar="FILE", help="save the repair as a recipe")
    command.add_argument("--out", type=Path, default=Path("repaired.nii.gz"), help="file to write (.nii.gz, .nrrd)")


def run(options) -> Result:
    from MedSegLensLib.cases.writing import check_file, write_labels
    from MedSegLensLib.editing.recipe import PackReference, Recipe, load_recipe, save_recipe
    from MedSegLensLib.failures.opinion import opinion_of
    from MedSegLensLib.failures.points import check_points, read_points
    from MedSegLensLib.packs.pack import load_pack

    if not 0 <= options.strength <= 2:
        raise UsageError(f"--strength {options.strength:g}", "is not between 0 and 2.", "1 is the strength as fitted.")
    points = read_points(options.points)
    check_volume_file(options.out)
    if options.save_recipe:
        check_file(options.save_recipe)
    pack = load_pack(options.pack)
    check_points(points, pack.info)
    recipe = load_recipe(options.recipe) if options.recipe else Recipe("repair", PackReference.of(pack))
    recipe.check_pack(pack)
    second = load_pack(options.second) if options.second else None
    if second is not None and second.info.name == pack.info.name:
        raise UsageError(f"--second {options.second}", "it is the same pack.", "Name another one.")
    with progress_bar(options.json) as progress:
        session = open_session(options, progress, pack)
        opinion = None if second is None else opinion_of(second, session, options.device, progress)
        recipe, labels, answers = _answer(session, points, recipe, options, progress, opinion)
    write_labels(session.to_case(labels), options.out, options.labels)
    if options.save_recipe:
        save_recipe(recipe, options.save_recipe)
    before, after = region_volumes(session, session.labels), region_volumes(session, labels)
    data = {
        "case": session.case.name,
        "pack": pack.info.name,
        "points": [answer["data"] for answer in answers],
        "recipe": recipe.to_json(),
        "file": str(options.out),
        "volumes_ml_before": before,
        "volumes_ml_after": after,
        "notes": session.notes,
    }
    data |= _dice(session, labels)
    text = [f"{session.case.name}: {len(points)} point{'s' * (len(points) != 1)}, {len(recipe.edits)} edits."]
    for answer in answers:
        text += answer["text"]
    for region, ml in after.items():
        text.append(f"  {region:<4} {before[region]:8.1f} -> {ml:8.1f} mL ({ml - before[region]:+.1f})")
    for region, value in data.get("dice_after", {}).items():
        text.append(
            f"  Dice {region:<4} {data['dice_before'][region]:.3f} -> {value:.3f} against the case's own labels"
        )
    return Result(data, [*text, *note_lines(session.notes), f"Written: {options.out}"])


def _answer(session: "Session", points: "list[Point]", recipe, options, progress, opinion):
    """The recipe and labels after all points, and what is said of each."""
    from MedSegLensLib.failures.repair import propose
    from MedSegLensLib.failures.repair_words import describe
    from MedSegLensLib.packs.shown_names import shown_names

    labels = session.edit(recipe).labels if recipe.edits else session.labels
    tap = options.tap or session.pack.default_tap
    names, called, answers = shown_names(session.pack), shown_names(session.pack, places=False), []
    for number, point in enumerate(points, start=1):
        progress(f"point {number} of {len(points)}", (number - 1) / len(points))
        proposal = propose(session, point, recipe, tap, labels, earlier=points[: number - 1], opinion=opinion)
        if proposal.gains:
            recipe = proposal.at(options.strength)
            labels = proposal.after if options.strength == 1 else session.edit(recipe).labels
        answers.append(_said(number, proposal, names, describe(proposal, called)))
    return recipe, labels, answers


def _said(number: int, proposal: "Proposal", names: dict[tuple[str, int], str], words: str) -> dict:
    from MedSegLensLib.failures.repair_words import verb

    at = ", ".join(f"{v:.0f}" for v in proposal.point.ras)
    start = f'  Point {number}, "{proposal.point.words}" at ({at}) mm: '
    if not proposal.gains:
        text = [start + proposal.reason]
    else:
        text = [
            start + f"{proposal.moved:.0%} of {proposal.tissue_ml:.1f} mL of tissue like it change "
            f"({proposal.seconds:.1f} s).",
            f"    {words}",
        ]
        for gain in proposal.gains:
            called = names.get((gain.tap, gain.latent)) or "not in the catalogue"
            text.append(f"    {verb(gain)} latent {gain.latent} (x {gain.value:.2f}): {called}")
    return {
        "text": text,
        "data": proposal.point.to_json()
        | {
            "words": words,
            "gains": [{"tap": g.tap, "latent": g.latent, "value": round(g.value, 4)} for g in proposal.gains],
            "tissue_ml": round(proposal.tissue_ml, 3),
            "moved": round(proposal.moved, 4),
            "reason": proposal.reason,
            "seconds": round(proposal.seconds, 3),
        },
    }


def _dice(session: "Session", labels) -> dict:
    """Dice before and after by region that the case's own labels have; nothing for a case without labels."""
    if session.case.labels is None:
        return {}
    from MedSegLensLib.editing.splice import dice_by_region

    truth = session.conformed.labels(session.case.labels)
    before, after = dice_by_region(session.labels, truth), dice_by_region(labels, truth)
    present = [region for region, value in before.items() if value is not None]
    return {"dice_before": {r: before[r] for r in present}, "dice_after": {r: after[r] for r in present}}
