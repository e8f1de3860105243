"""`medseglens edit`: change latents of a case and segment it again."""

import argparse
from pathlib import Path

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

OF_AN_EDIT = ("tap", "scale", "add", "clamp", "in_region", "in_box", "in_slices", "in_mask")


def add_parser(commands) -> None:
    command = add_command(
        commands,
        "edit",
        "suppress or amplify latents, or apply a recipe, and segment again",
        run,
        "Suppress or amplify latents, or apply a saved recipe, and segment the case again. "
        "Without --scale, --add or --clamp the latents are suppressed (scale 0).",
    )
    add_case(command)
    add_pack(command)
    add_labels(command)
    add_edits(command)
    command.add_argument("--recipe", type=Path, help="a saved recipe, instead of --latent")
    command.add_argument("--save-recipe", type=Path, metavar="FILE", help="save what was done as a recipe")
    command.add_argument("--out", type=Path, default=Path("edited.nii.gz"), help="file to write (.nii.gz, .nrrd)")


def add_edits(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("the edit")
    group.add_argument("--latent", type=int, action="append", metavar="N", help="latent to edit; may be repeated")
    group.add_argument("--tap", help="tap of the pack (default: the pack's default)")
    kind = group.add_mutually_exclusive_group()
    kind.add_argument("--scale", metavar="G", help="multiply the latent (0 suppresses, 2 doubles)")
    kind.add_argument("--add", metavar="A", help="add to the latent's code")
    kind.add_argument("--clamp", metavar="V", help="set the latent's code")
    place = group.add_mutually_exclusive_group()
    place.add_argument("--in-region", metavar="REGION[+MM]", help="only inside a predicted region, e.g. ET or WT+5")
    place.add_argument(
        "--in-box", nargs=6, type=float, metavar="MM", help="only inside R A S lower, R A S upper corner"
    )
    place.add_argument("--in-slices", nargs=2, type=float, metavar="MM", help="only between two axial planes (S, mm)")
    place.add_argument("--in-mask", type=Path, metavar="FILE", help="only where this volume is not 0")


def edits_of(options: argparse.Namespace, default_tap: str):
    """The edits that the options name. Raises UsageError for a value that is no number."""
    from MedSegLensLib.editing.recipe import Edit

    kind = "clamp" if options.clamp is not None else "add" if options.add is not None else "scale"
    text = getattr(options, kind)
    try:
        value = 0.0 if text is None else float(text)
    except ValueError:
        raise UsageError(f"--{kind} {text}", "is not a number.", "Give a number such as 0, 0.5 or 2.") from None
    place = _place_of(options)
    return tuple(Edit(options.tap or default_tap, latent, kind, value, place) for latent in options.latent)


def _place_of(options: argparse.Namespace):
    from MedSegLensLib.editing.recipe import Box, RegionOf, SliceRange, VoxelMask

    if options.in_region:
        region, _, margin = options.in_region.partition("+")
        try:
            return RegionOf(region, float(margin or 0))
        except ValueError:
            raise UsageError(options.in_region, "has no number of mm behind the +.", "Write, say, WT+5.") from None
    if options.in_box:
        return Box(tuple(options.in_box[:3]), tuple(options.in_box[3:]))
    if options.in_slices:
        return SliceRange(*options.in_slices)
    if options.in_mask:
        from MedSegLensLib.cases.volume import read_mask

        return VoxelMask.from_image(read_mask(options.in_mask))
    return None


def run(options) -> Result:
    from MedSegLensLib.cases.writing import check_file, write_labels
    from MedSegLensLib.editing.recipe import PackReference, Recipe, load_recipe, save_recipe
    from MedSegLensLib.packs.pack import load_pack

    if bool(options.recipe) == bool(options.latent):
        raise UsageError("edit", "needs either --latent or --recipe.", "Give one of them.")
    if options.recipe and any(getattr(options, name) is not None for name in OF_AN_EDIT):
        raise UsageError("edit", "a recipe says all of its edits itself.", "Leave out the options of an edit.")
    check_volume_file(options.out)
    if options.save_recipe:
        check_file(options.save_recipe)
    pack = load_pack(options.pack)
    if options.recipe:
        recipe = load_recipe(options.recipe)
    else:
        edits = edits_of(options, pack.default_tap)
        recipe = Recipe("edit of " + ", ".join(str(e.latent) for e in edits), PackReference.of(pack), edits)
    recipe.check_pack(pack)  # before the minutes that a case may take
    with progress_bar(options.json) as progress:
        session = open_session(options, progress, pack)
        progress("editing", 0.0)
        edited = session.edit(recipe)
    write_labels(session.to_case(edited.labels), options.out, options.labels)
    if options.save_recipe:
        save_recipe(recipe, options.save_recipe)
    before, after = region_volumes(session, session.labels), region_volumes(session, edited.labels)
    changed_voxels = int((edited.labels != session.labels).sum())
    data = {
        "case": session.case.name,
        "pack": session.pack.info.name,
        "recipe": recipe.to_json(),
        "file": str(options.out),
        "volumes_ml_before": before,
        "volumes_ml_after": after,
        "changed_voxels": changed_voxels,
        "changed_ml": round(changed_voxels * session.conformed.voxel_ml, 3),
        "edit_seconds": round(edited.seconds, 4),
        "notes": session.notes,
    }
    text = [f"{session.case.name}: {recipe.name}, resegmented in {edited.seconds:.2f} s."]
    for region, ml in after.items():
        text.append(f"  {region:<4} {before[region]:8.1f} -> {ml:8.1f} mL ({ml - before[region]:+.1f})")
    if edited.box is None:
        text.append("  The edited latents do not fire in this case: nothing changed.")
    return Result(data, [*text, *note_lines(session.notes), f"Written: {options.out}"])
