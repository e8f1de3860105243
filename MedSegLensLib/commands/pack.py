"""`medseglens pack`: build, show and verify lens packs."""

import json
from pathlib import Path

from MedSegLensLib.commands.common import Result, add_command, progress_bar
from MedSegLensLib.errors import CaseError, UsageError


def add_parser(commands) -> None:
    group = commands.add_parser("pack", help="build, show or verify a lens pack")
    actions = group.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = add_command(actions, "show", "what is in a pack: model card, taps, quality", run_show)
    show.add_argument("pack", nargs="?", help="name, folder or .zip; without it, the packs found are listed")
    show.add_argument("--taps", action="store_true", help="list every module that could be a tap, with shape and cost")
    verify = add_command(actions, "verify", "check a pack's format, hashes and safety", run_verify)
    verify.add_argument("pack", help="name, folder or .zip")
    build = add_command(actions, "build", "make a pack from a trained segmenter and its lenses", run_build)
    build.add_argument("--segmenter", type=Path, required=True, help="folder written by `train segmenter`")
    build.add_argument(
        "--lens",
        type=Path,
        action="append",
        default=[],
        help="folder written by `train lens`; the first is the default",
    )
    build.add_argument("--about", type=Path, required=True, help="JSON: name, version, licence, citation, texts")
    build.add_argument(
        "--cases", type=Path, help="folder of the cases: training ones for the catalogue, held-out ones for the quality"
    )
    build.add_argument("--out", type=Path, required=True, help="folder to write")
    build.add_argument("--zip", type=Path, help="also as one file (.mslp)")
    build.add_argument("--replace", action="store_true", help="replace a pack that is already there")


def run_show(options) -> Result:
    from MedSegLensLib.packs.installed import list_packs
    from MedSegLensLib.packs.pack import load_pack

    if not options.pack:
        found = {name: str(path) for name, path in list_packs().items()}
        return Result({"packs": found}, [f"{name}  {path}" for name, path in found.items()] or ["No packs found."])
    pack = load_pack(options.pack)
    data = pack.info.to_json() | {"hash": pack.hash, "folder": str(pack.folder)}
    text = [pack.model_card.rstrip(), "", f"hash {pack.hash}", "lenses:"]
    for lens in pack.info.lenses:
        mark = " (default)" if lens.default else ""
        text.append(f"  {lens.tap}: {lens.d_sae} latents over {lens.d_in} channels, k = {lens.k:g}{mark}")
    if options.taps:
        from MedSegLensLib.segmenters.taps import list_taps

        config = pack.info.segmenter
        shape = (160, 192) if config.sampling == "slices" else config.patch_size
        taps = list_taps(pack.network(), (len(pack.info.input["modalities"]), *shape))
        data["taps"] = [vars(t) for t in taps]
        text += ["", f"modules that can be taps, for an input of {' x '.join(map(str, shape))}:"]
        text += [f"  {'tail':>5}  {'channels':>8}  {'grid':<14} module"]
        for tap in taps:
            grid = " x ".join(map(str, tap.grid))
            text.append(f"  {tap.tail_share:5.2f}  {tap.channels:>8}  {grid:<14} {tap.name} ({tap.kind})")
        text.append("tail: the share of the operations that come after the tap, at most what an edit there costs.")
    return Result(data, text)


def run_verify(options) -> Result:
    from MedSegLensLib.errors import PackError
    from MedSegLensLib.packs.installed import list_packs
    from MedSegLensLib.packs.verify import verify

    path = list_packs().get(options.pack, Path(options.pack))
    findings = verify(path)
    text = [f"{f.severity}: {f.file}: {f.cause} {f.remedy}" for f in findings]
    errors = [f for f in findings if f.severity == "error"]
    data = {"ok": not errors, "findings": [vars(f) for f in findings]}
    return Result(data, text or [f"{path}: in order."], PackError.exit_code if errors else 0)


def run_build(options) -> Result:
    from datetime import date

    from MedSegLensLib.cases.reading import read_case
    from MedSegLensLib.cases.writing import check_file
    from MedSegLensLib.commands.train import read_cases, read_config, trained_segmenter
    from MedSegLensLib.editing.cataloguing import catalogue_rows
    from MedSegLensLib.lenses.files import load_lens
    from MedSegLensLib.packs.build import write_pack, zip_pack
    from MedSegLensLib.packs.catalogue import catalogue_table
    from MedSegLensLib.packs.info import Code, Label, PackInfo, TrainedOn
    from MedSegLensLib.packs.pack import load_pack

    if options.zip:
        check_file(options.zip)
    about = read_config(options.about)
    network, segmenter, spec, record = trained_segmenter(options.segmenter)
    try:
        labels = tuple(
            Label(
                **{**entry, "code": Code(**entry["code"]) if entry["code"] else None, "colour": tuple(entry["colour"])}
            )
            for entry in about["labels"]
        )
        info = PackInfo(
            name=about["name"],
            version=about["version"],
            licence=about["licence"],
            created=about.get("created", date.today().isoformat()),
            description=about["description"],
            trained_on=TrainedOn(about["trained_on"], tuple(record["cases"]), tuple(about["held_out"]), about["split"]),
            input=spec.to_json(),
            labels=labels,
            segmenter=segmenter,
            citation=tuple(about["citation"]),
            limits=tuple(about["limits"]),
        )
    except KeyError as problem:
        raise UsageError(options.about, f"has no {problem}.", "See Resources/Configurations for an example.") from None
    lenses = [load_lens(folder) for folder in options.lens]
    default = lenses[0].tap if lenses else None

    def write(info, catalogue, card, replace):
        return write_pack(
            options.out,
            info,
            network.state_dict(),
            lenses,
            catalogue,
            card,
            default_tap=default,
            replace_existing=replace,
        )

    with progress_bar(options.json) as progress:
        info = write(info, None, model_card(info, {}), options.replace)
        quality = {}
        if options.cases:  # measured with the pack as it was written: float16 weights and all
            from dataclasses import replace

            quality = measure_quality(
                load_pack(options.out), read_cases(options.cases, list(info.trained_on.held_out)), progress
            )
            cases = (read_case(options.cases / name) for name in record["cases"])
            rows = catalogue_rows(load_pack(options.out), cases, progress)
            info = replace(info, quality=quality)
            info = write(info, catalogue_table(rows), model_card(info, quality), True)
    if options.zip:
        zip_pack(options.out, options.zip)
    size = sum(file.bytes for file in info.files.values())
    data = {"pack": str(options.out), "bytes": size, "quality": quality}
    return Result(
        data, [f"Pack {info.name} {info.version}: {size / 1e6:.1f} MB. Written: {options.out}", json.dumps(quality)]
    )


def measure_quality(pack, cases, progress=None) -> dict:
    """Dice per held-out case and region, and what each lens costs when it is spliced in. None: the region is absent."""
    from MedSegLensLib.editing.session import Session
    from MedSegLensLib.editing.splice import dice_by_region, spliced_labels

    quality: dict = {"dice": {}, "spliced_dice": {}}
    engine = None
    for case in cases:
        if case.labels is None:
            raise CaseError(case.name, "has no labels to measure quality by.", "Add its segmentation to its folder.")
        session = Session(case, pack, engine=engine, progress=progress)
        engine = session.engine
        reference = session.conformed.labels(case.labels)
        quality["dice"][case.name] = _rounded(dice_by_region(session.labels, reference))
        for tap in pack.taps:
            spliced = dice_by_region(spliced_labels(session, tap), reference)
            quality["spliced_dice"].setdefault(tap, {})[case.name] = _rounded(spliced)
    return quality


def _rounded(values: dict) -> dict:
    return {k: None if v is None else round(v, 4) for k, v in values.items()}


def model_card(info, quality: dict) -> str:
    """MODEL_CARD.md from what the pack says of itself and what was measured."""
    lines = [f"# {info.name} {info.version}", "", info.description, "", "Research software, not a medical device.", ""]
    lines += ["## Data", "", info.trained_on.text, ""]
    lines += [f"- trained on: {', '.join(info.trained_on.cases) or 'phantoms only'}"]
    lines += [f"- held out (never trained on): {', '.join(info.trained_on.held_out)}", f"- {info.trained_on.split}", ""]
    lines += ["## Measured quality", ""]
    if quality.get("dice"):
        lines += ["Dice on the held-out cases, per case; a region that a case does not have is absent.", ""]
        lines += ["| case | WT | TC | ET |", "| --- | --- | --- | --- |"]
        for case, values in quality["dice"].items():
            cells = ["absent" if values[r] is None else f"{values[r]:.3f}" for r in ("WT", "TC", "ET")]
            lines.append(f"| {case} | {' | '.join(cells)} |")
        lines.append("")
        for tap, by_case in quality["spliced_dice"].items():
            for case, values in by_case.items():
                cells = ", ".join(f"{r} {'absent' if v is None else f'{v:.3f}'}" for r, v in values.items())
                lines.append(f"- with the lens at `{tap}` spliced in, {case}: {cells}")
    else:
        lines.append("Not measured.")
    lines += ["", "## Limits", "", *(f"- {limit}" for limit in info.limits)]
    lines += ["", "## Licence and citation", "", f"Licence of the weights: {info.licence}.", ""]
    lines += [f"- {entry}" for entry in info.citation]
    return "\n".join(lines) + "\n"
