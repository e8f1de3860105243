"""`medseglens cohort`: describe a set of cases once, and call it by its name from then on."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from MedSegLensLib.cases.case import MODALITIES
from MedSegLensLib.commands.common import Result, add_command, output_folder, progress_bar
from MedSegLensLib.errors import MedSegLensError, UsageError

if TYPE_CHECKING:
    from MedSegLensLib.cohorts.cohort import Cohort

PHANTOM_ONLY = ("shape", "first_seed", "size", "spacing", "modalities", "no_enhancement")
ACQUIRED_ONLY = ("acquisition", "strength", "seed")
FILES_ONLY = ("layout", "facts", "label_values", "source", "licence")

ACQUISITIONS = (
    "low-field, thick-slices, low-resolution, motion, bias-field, other-contrast, noise, missing-t1n, missing-t1c, "
    "missing-t2w, missing-t2f"
)
"""`cohorts.acquisitions.kinds()`, which is not imported to print a help text."""


def add_parser(commands) -> None:
    group = commands.add_parser("cohort", help="describe a set of cases once, by a name that commands take")
    actions = group.add_subparsers(dest="action", metavar="WHAT", required=True)
    _add_create(actions)
    command = add_command(actions, "list", "the cohorts that have a name here", run_list)
    command = add_command(actions, "show", "what a cohort is: cases, modalities, labels, facts", run_show)
    command.add_argument("cohort", help="name, description (.json), table (.csv) or folder of cases")
    command.add_argument("--cases", action="store_true", help="a line for each case")
    command = add_command(
        actions,
        "write",
        "write the cases as NIfTI, to look at them in Slicer",
        run_write,
        "Write the cases as NIfTI, to look at them in Slicer. Phantoms and simulated cases say in names and headers\n"
        "what they are. Patients' voxels are copied: mind where to.",
    )
    command.add_argument("cohort", help="name, description (.json), table (.csv) or folder of cases")
    command.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these cases only")
    command.add_argument("--out", type=Path, required=True, help="folder to write to, one folder a case")
    command = add_command(actions, "remove", "forget a name; the cases stay where they are", run_remove)
    command.add_argument("name")


def _add_create(actions) -> None:
    command = add_command(
        actions,
        "create",
        "describe cases and keep them under a name",
        run_create,
        "Describe a folder of cases (BraTS of any year, IXI, BIDS, or case folders with NIfTI or DICOM), a CSV,\n"
        "phantoms, or another cohort under a simulated acquisition. Files are told by names and headers, and stay\n"
        "where they are.\n\n"
        "  medseglens cohort create africa /data/BraTS-Africa --where group=95_Glioma\n"
        "  medseglens cohort create clinic clinic.csv --licence 'internal use'\n"
        "  medseglens cohort create africa-lowfield --of africa --acquisition low-field\n"
        "  medseglens cohort create invented --phantoms 20 --shape large",
    )
    command.add_argument("name", help="by which commands ask for it")
    command.add_argument("path", nargs="?", type=Path, help="folder of cases, or CSV")
    command.add_argument("--of", metavar="COHORT", help="of another cohort's cases instead")
    command.add_argument("--phantoms", type=int, metavar="N", help="of so many invented cases instead")
    command.add_argument("--out", type=Path, metavar="FILE", help="write the description (.json) there, not by name")
    command.add_argument("--replace", action="store_true", help="a cohort of this name may be there")
    command.add_argument("--healthy", action="store_true", help="nobody has a tumour (of phantoms: draw none)")

    files = command.add_argument_group("of a folder or table")
    files.add_argument("--source", help="where the cases come from, with the citation")
    files.add_argument("--licence", help="of the data")
    files.add_argument("--layout", help="folders, bids, ixi or table (default: told by what lies there)")
    files.add_argument("--facts", type=Path, metavar="TABLE", help="CSV or TSV with facts by case or subject")
    files.add_argument(
        "--label-values", nargs="+", metavar="OLD=NEW", help="what label files' values are as NCR 1, ED 2, ET 3 (or 0)"
    )

    simulated = command.add_argument_group("of another cohort")
    simulated.add_argument("--acquisition", metavar="KIND", help=f"simulated: {ACQUISITIONS}")
    simulated.add_argument("--strength", type=float, help="of the acquisition, up to 3 (default 1)")
    simulated.add_argument("--seed", type=int, help="of what is random in it (default 0)")

    invented = command.add_argument_group("of phantoms")
    invented.add_argument("--shape", help="of the tumours: usual, large, diffuse, midline or several")
    invented.add_argument("--no-enhancement", action="store_true", default=None, help="no tumour enhances")
    invented.add_argument("--first-seed", type=int, help="the first phantom's; the others follow (default 0)")
    invented.add_argument("--size", type=int, nargs=3, metavar=("X", "Y", "Z"), help="voxels (default 240 240 155)")
    invented.add_argument("--spacing", type=float, nargs=3, metavar=("X", "Y", "Z"), help="mm (default 1 1 1)")
    invented.add_argument("--modalities", nargs="+", metavar="M", help=f"(default {' '.join(MODALITIES)})")

    part = command.add_argument_group("which of the cases")
    part.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these")
    part.add_argument(
        "--where", action="append", default=[], metavar="FACT<VALUE", help="with such facts, as 'age<18', 'site=north'"
    )
    part.add_argument("--require", nargs="+", default=[], metavar="MODALITY", help="that have these modalities")
    part.add_argument("--labelled", action="store_true", help="that have labels")
    part.add_argument("--limit", type=int, metavar="N", help="the first so many")


def run_create(options) -> Result:
    from MedSegLensLib.cohorts.choosing import chosen
    from MedSegLensLib.cohorts.overview import overview, overview_lines
    from MedSegLensLib.cohorts.registry import check_name, register, registered

    check_name(options.name)
    _check_what(options)
    if not options.out and not options.replace and options.name in registered():
        remedy = "Choose another, or give --replace."
        raise UsageError(options.name, "there is a cohort of this name.", remedy)
    if options.out:
        from MedSegLensLib.cases.writing import check_file

        if options.out.suffix != ".json":
            raise UsageError(options.out, "a description's name ends in .json.", "Choose such a name.")
        check_file(options.out)
    with progress_bar(options.json) as progress:
        cohort = chosen(
            _made(options, progress),
            only=options.only,
            where=options.where,
            require=options.require,
            labelled=options.labelled,
            limit=options.limit,
        )
    if options.out:
        cohort.save(options.out)
    file = options.out or register(cohort)
    return Result(overview(cohort) | {"file": str(file)}, [*overview_lines(cohort), f"Written: {file}"])


def _check_what(options) -> None:
    """Exactly one kind of cohort, and no option of another kind."""
    given = [what for what in ("path", "of", "phantoms") if getattr(options, what) is not None]
    if len(given) != 1:
        cause = "of what it is to be made was not said." if not given else "several things to make it of were given."
        raise UsageError(options.name, cause, "Give one of: a folder or CSV, --of COHORT, --phantoms N.")
    for what, names in (("path", FILES_ONLY), ("of", ACQUIRED_ONLY), ("phantoms", PHANTOM_ONLY)):
        strange = [name for name in names if getattr(options, name) is not None]
        if strange and what != given[0]:
            whose = {"path": "a folder or table", "of": "another cohort (--of)", "phantoms": "phantoms"}[what]
            cause = f"it belongs to a cohort of {whose}."
            raise UsageError(f"--{strange[0].replace('_', '-')}", cause, "Leave it out.")
    if options.of and options.healthy:
        raise UsageError("--healthy", "the cases of another cohort are what they are.", "Leave it out.")


def _made(options, progress) -> "Cohort":
    from MedSegLensLib.cohorts.cohort import find_cohort

    if options.path:
        from MedSegLensLib.cohorts.layouts import describe

        return describe(
            options.path,
            options.name,
            source=options.source or "",
            licence=options.licence or "",
            layout=options.layout,
            facts=options.facts,
            label_values=_label_values(options.label_values),
            healthy=options.healthy,
            progress=progress,
        )
    if options.phantoms is not None:
        return _phantoms(options)
    cohort = find_cohort(options.of, progress)
    if options.acquisition is None:
        if options.strength is not None or options.seed is not None:
            raise UsageError("--strength, --seed", "of which acquisition was not said.", "Give --acquisition.")
        note = f"A part of the cohort {cohort.name}."
        return replace(cohort, name=options.name, notes=(note, *cohort.notes))
    from MedSegLensLib.cohorts.acquisitions import Acquisition
    from MedSegLensLib.cohorts.making import acquired_cohort

    strength = 1.0 if options.strength is None else options.strength
    return acquired_cohort(options.name, cohort, Acquisition(options.acquisition, strength, options.seed or 0))


def _phantoms(options) -> "Cohort":
    from MedSegLensLib.cases.phantom import SHAPES
    from MedSegLensLib.cohorts.making import phantom_cohort

    if options.phantoms < 1:
        raise UsageError(f"--phantoms {options.phantoms}", "leaves no case.", "Give 1 or more.")
    if options.healthy and (options.shape or options.no_enhancement):
        raise UsageError("--healthy", "a tumour that is not there has no shape.", "Leave out one of the two.")
    if options.shape and options.shape not in SHAPES:
        raise UsageError(options.shape, "is no shape of a phantom's tumour.", f"Shapes are {', '.join(SHAPES)}.")
    if options.size and (min(options.size) < 2 or max(options.size) > 512):
        raise UsageError("--size", "is not between 2 and 512 voxels.", "Give three such numbers.")
    if options.spacing and not all(0.3 <= s <= 20 for s in options.spacing):
        raise UsageError("--spacing", "is not between 0.3 and 20 mm.", "Give three such numbers.")
    strange = [m for m in options.modalities or () if m not in MODALITIES]
    if strange:
        raise UsageError(strange[0], "is not a modality.", f"Modalities are {', '.join(MODALITIES)}.")
    asked = {
        "tumour": not options.healthy,
        "shape": options.shape,
        "enhancing": False if options.no_enhancement else None,
        "size": options.size and tuple(options.size),
        "spacing": options.spacing and tuple(options.spacing),
        "modalities": options.modalities and tuple(m for m in MODALITIES if m in options.modalities),
    }
    first = options.first_seed or 0
    request = {key: value for key, value in asked.items() if value is not None}
    return phantom_cohort(options.name, range(first, first + options.phantoms), **request)


def _label_values(texts: list[str] | None) -> dict[int, int] | None:
    values = {}
    for text in texts or ():
        old, _, new = text.partition("=")
        if not (old.strip().isdecimal() and new.strip() in ("0", "1", "2", "3") and int(old)):
            raise UsageError(text, "does not say what a label value becomes.", "Write 4=3 for a 4 that is ET.")
        values[int(old)] = int(new)
    return values or None


def run_list(options) -> Result:
    from MedSegLensLib.cohorts.cohort import Cohort
    from MedSegLensLib.cohorts.overview import counted
    from MedSegLensLib.cohorts.registry import default_folder, registered

    rows, text = [], []
    for name, path in registered().items():
        try:
            cohort = Cohort.load(path)
        except MedSegLensError as problem:
            rows.append({"name": name, "file": str(path), "problem": problem.cause})
            text.append(f"  {name:<24} cannot be read: {problem.cause}")
            continue
        kind = [word for word, holds in (("simulated", cohort.simulated), ("invented", cohort.invented)) if holds]
        rows.append(
            {
                "name": name,
                "file": str(path),
                "cases": len(cohort.cases),
                "modalities": list(cohort.modalities),
                "labelled": sum(case.labelled for case in cohort.cases),
                "simulated": cohort.simulated,
                "invented": cohort.invented,
                "source": cohort.source,
            }
        )
        text.append(f"  {name:<24} {counted(len(cohort.cases), 'case'):>10}  {' '.join([*kind, cohort.source])}")
    none = ["No cohort has a name yet: `medseglens cohort create NAME FOLDER` gives one."]
    return Result({"folder": str(default_folder()), "cohorts": rows}, text or none)


def run_show(options) -> Result:
    from MedSegLensLib.cohorts.cohort import find_cohort
    from MedSegLensLib.cohorts.overview import overview, overview_lines

    with progress_bar(options.json) as progress:
        cohort = find_cohort(options.cohort, progress)
    text = overview_lines(cohort)
    if options.cases:
        for case in cohort.cases:
            facts = ", ".join(f"{name} {value}" for name, value in case.facts.items() if value is not None)
            words = ["labels" if case.labelled else "no labels", *(["invented"] if case.invented else [])]
            text.append(f"    {case.name:<28} {' '.join(case.modalities)}; {', '.join(words)}; {facts}".rstrip("; "))
    return Result(overview(cohort) | {"case_list": [case.to_json() for case in cohort.cases]}, text)


def run_write(options) -> Result:
    from MedSegLensLib.cases.writing import check_folder
    from MedSegLensLib.cohorts.cohort import find_cohort
    from MedSegLensLib.cohorts.exporting import write_cohort_case
    from MedSegLensLib.cohorts.overview import counted

    cohort = find_cohort(options.cohort)
    cohort = cohort.of(options.only) if options.only else cohort
    check_folder(options.out)
    out, files = output_folder(options.out), []
    with progress_bar(options.json) as progress:
        for i, case in enumerate(cohort.cases):
            progress("writing the cases", i / len(cohort.cases))
            files += write_cohort_case(case, out)
    return Result({"files": [str(path) for path in files]}, [f"Written: {counted(len(cohort.cases), 'case')} to {out}"])


def run_remove(options) -> Result:
    from MedSegLensLib.cohorts.registry import registered

    path = registered().get(options.name)
    if path is None:
        known = ", ".join(registered()) or "none"
        raise UsageError(options.name, "there is no cohort of this name.", f"Registered are: {known}.")
    path.unlink()
    return Result({"removed": options.name}, [f"Forgotten: {options.name}"])
