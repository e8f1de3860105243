"""`medseglens recipe`: make, show and check recipes. `medseglens edit --recipe` applies one."""

from pathlib import Path

from MedSegLensLib.commands.common import DEFAULT_PACK, Result, add_command
from MedSegLensLib.commands.edit import add_edits, edits_of
from MedSegLensLib.errors import UsageError


def add_parser(commands) -> None:
    group = commands.add_parser("recipe", help="make, show or check a recipe (a saved list of edits)")
    actions = group.add_subparsers(dest="action", metavar="ACTION", required=True)
    make = add_command(actions, "make", "save edits as a recipe, or add them to one", run_make)
    make.add_argument("--pack", default=DEFAULT_PACK, help=f"pack the recipe is for (default {DEFAULT_PACK})")
    make.add_argument("--name", help="what to call it")
    make.add_argument("--comment", default="", help="what it is for")
    make.add_argument("--append", action="store_true", help="add to the recipe that --out holds")
    make.add_argument("--out", type=Path, required=True, help="file to write (.json)")
    add_edits(make)
    show = add_command(actions, "show", "say what a recipe does", run_show)
    show.add_argument("recipe", type=Path)
    check = add_command(actions, "check", "does a recipe fit a pack?", run_check)
    check.add_argument("recipe", type=Path)
    check.add_argument("--pack", default=DEFAULT_PACK)


def run_make(options) -> Result:
    from MedSegLensLib.editing.recipe import PackReference, Recipe, load_recipe, save_recipe
    from MedSegLensLib.packs.pack import load_pack

    if not options.latent:
        raise UsageError("recipe make", "has no edit.", "Give at least one --latent.")
    pack = load_pack(options.pack)
    edits, name, comment = edits_of(options, pack.default_tap), options.name, options.comment
    if options.append:
        old = load_recipe(options.out)
        old.check_pack(pack)
        edits, name, comment = old.edits + edits, name or old.name, comment or old.comment
    recipe = Recipe(name or options.out.stem, PackReference.of(pack), edits, comment)
    recipe.check_pack(pack)
    save_recipe(recipe, options.out)
    return Result(recipe.to_json(), [*_lines(recipe), f"Written: {options.out}"])


def run_show(options) -> Result:
    from MedSegLensLib.editing.recipe import load_recipe

    recipe = load_recipe(options.recipe)
    return Result(recipe.to_json(), _lines(recipe))


def run_check(options) -> Result:
    from MedSegLensLib.editing.recipe import load_recipe
    from MedSegLensLib.packs.pack import load_pack

    recipe, pack = load_recipe(options.recipe), load_pack(options.pack)
    recipe.check_pack(pack)
    return Result({"ok": True, "pack": pack.info.name}, [f"{options.recipe} can be applied with {pack.info.name}."])


def _lines(recipe) -> list[str]:
    from MedSegLensLib.editing.recipe import Box, RegionOf, SliceRange

    lines = [f"Recipe {recipe.name!r} for {recipe.pack}" + (f": {recipe.comment}" if recipe.comment else "")]
    for edit in recipe.edits:
        what = {"scale": "x", "add": "+", "clamp": "set to "}[edit.kind]
        where = edit.where
        if where is None:
            place = "everywhere"
        elif isinstance(where, RegionOf):
            place = f"inside {where.region}" + (f" + {where.dilation:g} mm" if where.dilation else "")
        elif isinstance(where, Box):
            place = f"in the box {where.lower} to {where.upper} mm (R, A, S)"
        elif isinstance(where, SliceRange):
            place = f"between S {where.lower:g} and {where.upper:g} mm"
        else:
            place = f"inside a drawn mask of {int(where.array.sum())} voxels"
        lines.append(f"  latent {edit.latent} at {edit.tap}: {what}{edit.value:g} {place}")
    return lines
