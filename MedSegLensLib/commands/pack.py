"""`medseglens pack`: build, show and verify lens packs, and put lenses into them."""

import json
from dataclasses import replace
from pathlib import Path

from MedSegLensLib.commands.common import Result, add_command, progress_bar
from MedSegLensLib.commands.pack_reference import add_reference_parser
from MedSegLensLib.errors import CaseError, UsageError


def add_parser(commands) -> None:
    group = commands.add_parser("pack", help="build, show or verify a lens pack")
    actions = group.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = add_command(actions, "show", "what is in a pack: model card, taps, quality", run_show)
    show.add_argument("pack", nargs="?", help="name, folder or .zip; without it, the packs found are listed")
    show.add_argument("--taps", action="store_true", help="list every module that could be a tap, with shape and cost")
    verify = add_command(actions, "verify", "check a pack's format, hashes and safety", run_verify)
    verify.add_argument("pack", help="name, folder or .zip")
    build = add_command(actions, "build", "make a pack from a segmenter and its lenses", run_build, BUILD)
    source = build.add_mutually_exclusive_group(required=True)
    source.add_argument("--segmenter", type=Path, help="folder written by `train segmenter`")
    source.add_argument("--torch", metavar="MODULE:FACTORY", help="your own network: a function of your Python module")
    source.add_argument("--monai-bundle", type=Path, metavar="FOLDER", help="a MONAI bundle, with configs and models")
    build.add_argument("--weights", type=Path, help="of --torch: a .safetensors file")
    build.add_argument("--taps", nargs="+", default=[], metavar="MODULE", help="modules to propose for lenses")
    build.add_argument(
        "--about", type=Path, help="JSON: name, version, licence, citation, texts; what a segmenter's files do not say"
    )
    _add_lenses(build, required=False)
    lens = add_command(actions, "add-lens", "put lenses into a pack, as a new pack", run_add_lens)
    lens.add_argument("pack", help="name, folder or .zip")
    _add_lenses(lens, required=True)
    compared = add_command(
        actions,
        "add-comparisons",
        "ship a pack with what `diff` found of its latents, as a new pack",
        run_add_comparisons,
        "ship a pack with what `diff` found of its latents, as a new pack: whoever opens it sees the badges\n\n"
        "  medseglens pack add-comparisons glioma-unet --comparison unet-segformer --out glioma-unet-compared",
    )
    compared.add_argument("pack", help="name, folder or .zip")
    compared.add_argument(
        "--comparison",
        type=Path,
        action="append",
        default=[],
        required=True,
        metavar="FOLDER",
        help="folder written by `diff models` or `diff cohorts`; can be given several times",
    )
    _add_output(compared)
    add_reference_parser(actions)


BUILD = """make a pack from a segmenter and its lenses

  medseglens pack build --segmenter TRAINED --lens LENS --about about.json --cases CASES --out PACK
  medseglens pack build --monai-bundle BUNDLE --taps up_layers.0 --about about.json --out PACK
  medseglens pack build --torch mylab.nets:make --trust-module mylab --weights W.safetensors --about A.json --out PACK

and then, for a segmenter from elsewhere:

  medseglens train lens --pack PACK --tap up_layers.0 --cases CASES --out LENS
  medseglens pack add-lens PACK --lens LENS --out PACK-WITH-LENS

No code is taken from a file: docs/your-segmenter.md says what is read and what is refused."""


def _add_lenses(command, required: bool) -> None:
    command.add_argument(
        "--lens",
        type=Path,
        action="append",
        default=[],
        required=required,
        help="folder written by `train lens`; the first is the default",
    )
    command.add_argument(
        "--cases", type=Path, help="folder of the cases: training ones for the catalogue, held-out ones for the quality"
    )
    _add_output(command)


def _add_output(command) -> None:
    command.add_argument("--out", type=Path, required=True, help="folder to write")
    command.add_argument("--zip", type=Path, help="also as one file (.mslp)")
    command.add_argument("--replace", action="store_true", help="replace a pack that is already there")


def run_show(options) -> Result:
    from MedSegLensLib.packs.installed import list_packs
    from MedSegLensLib.packs.pack import load_pack

    if not options.pack:
        found = {name: str(path) for name, path in list_packs().items()}
        return Result({"packs": found}, [f"{name}  {path}" for name, path in found.items()] or ["No packs found."])
    pack = load_pack(options.pack)
    data = pack.info.to_json() | {"hash": pack.hash, "edits_hash": pack.edits_hash, "folder": str(pack.folder)}
    text = [pack.model_card.rstrip(), "", f"hash {pack.hash}", f"hash that recipes name {pack.edits_hash}", "lenses:"]
    for lens in pack.info.lenses:
        mark = " (default)" if lens.default else ""
        text.append(f"  {lens.tap}: {lens.d_sae} latents over {lens.d_in} channels, k = {lens.k:g}{mark}")
    config = pack.info.segmenter
    if options.taps:
        from MedSegLensLib.segmenters.sampling import trial_shape
        from MedSegLensLib.segmenters.taps import list_taps

        shape = trial_shape(config, pack.input_spec())
        taps = list_taps(pack.network(), (len(pack.info.input["modalities"]), *shape))
        data["taps"] = [vars(t) for t in taps]
        text += ["", f"modules that can be taps, for an input of {' x '.join(map(str, shape))}:"]
        text += [f"  {'tail':>5}  {'channels':>8}  {'grid':<14} module"]
        for tap in taps:
            grid = " x ".join(map(str, tap.grid))
            text.append(f"  {tap.tail_share:5.2f}  {tap.channels:>8}  {grid:<14} {tap.name} ({tap.kind})")
        text.append("tail: the share of the operations that come after the tap, at most what an edit there costs.")
    if config.taps:
        text.append(f"proposed taps: {', '.join(config.taps)}")
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


def run_add_comparisons(options) -> Result:
    from MedSegLensLib.cases.writing import check_file
    from MedSegLensLib.diffing.comparison import Comparison
    from MedSegLensLib.diffing.kept import pack_comparisons
    from MedSegLensLib.packs.build import zip_pack
    from MedSegLensLib.packs.notes import lens_hash
    from MedSegLensLib.packs.pack import load_pack
    from MedSegLensLib.packs.shipped_comparisons import with_comparisons

    if options.zip:
        check_file(options.zip)
    pack = load_pack(options.pack)
    lenses = {lens_hash(pack.info, tap) for tap in pack.taps}
    added = []
    for folder in options.comparison:
        parts = pack_comparisons(Comparison.load(folder))
        mine = [part for part in parts if part.findings and {finding.lens for finding in part.findings} <= lenses]
        if not mine:
            cause = f"it is not about the lenses that {pack.info.name} has now."
            raise UsageError(folder, cause, "Compare this very pack with `medseglens diff`.")
        added += mine
    there = [one for one in pack.comparisons() if one.key not in {part.key for part in added}]
    info = with_comparisons(pack, [*there, *added], options.out, options.replace)
    if options.zip:
        zip_pack(options.out, options.zip)
    new = load_pack(options.out)
    data = {"name": info.name, "folder": str(options.out), "hash": new.hash, "comparisons": len(there) + len(added)}
    count = len(there) + len(added)
    text = [f"{options.out}: {info.name} with {count} comparison{'s' * (count != 1)}."]
    return Result(data, [*text, "Recipes made with the former pack stay good."])


def run_build(options) -> Result:
    from MedSegLensLib.commands.train import read_config
    from MedSegLensLib.packs.about import pack_info

    if options.zip:
        from MedSegLensLib.cases.writing import check_file

        check_file(options.zip)
    if options.weights and not options.torch:
        raise UsageError("--weights", "it belongs to --torch.", "Leave it out, or give --torch module:factory.")
    about = read_config(options.about) if options.about else {}
    text, data = [], {}
    if options.segmenter:
        from MedSegLensLib.commands.train import trained_segmenter
        from MedSegLensLib.segmenters.sampling import trial_shape

        if not options.about:
            raise UsageError("--about", "it is needed.", "See Resources/Configurations for an example.")
        network, segmenter, spec, record = trained_segmenter(options.segmenter)
        info = pack_info(about, segmenter, spec, record["cases"], options.about)
        if options.taps:
            info = replace(info, segmenter=replace(segmenter, taps=tuple(options.taps)))
        shape = trial_shape(segmenter, spec)
    else:
        network, info, shape = foreign_segmenter(options, about)
        data["input"] = info.input
        data["outputs"] = info.segmenter.outputs
    if options.taps:
        from MedSegLensLib.segmenters.fitness import check_taps

        found = check_taps(network, info.segmenter, len(info.input["modalities"]), shape, options.taps)
        data["taps"] = [vars(tap) for tap in found]
        text += [f"tap {t.name}: {t.channels} channels, grid {' x '.join(map(str, t.grid))}" for t in found]
    lenses = read_lenses(options.lens)
    result = write_and_measure(options, info, network.state_dict(), lenses)
    return Result(data | result.data, text + result.text)


def foreign_segmenter(options, about: dict):
    """(network with its weights, PackInfo, shape of a sample) of --torch or --monai-bundle."""
    from MedSegLensLib.cases.conform import InputSpec
    from MedSegLensLib.packs.about import check_complete, completed, foreign_config, pack_info
    from MedSegLensLib.segmenters.architectures import build_network
    from MedSegLensLib.segmenters.fitness import check_segmenter, smallest_divisor
    from MedSegLensLib.segmenters.sampling import trial_shape
    from MedSegLensLib.segmenters.weights import fit_weights, read_checkpoint, read_safetensors

    subject, unread = options.about or "--about", {}
    if options.monai_bundle:
        from MedSegLensLib.packs.monai_bundle import read_bundle

        bundle = read_bundle(options.monai_bundle)
        about, unread, weights = completed(about, bundle.found), bundle.unread, bundle.weights
        subject = options.monai_bundle
    else:
        if not options.weights:
            raise UsageError("--weights", "the network's weights are missing.", "Give a .safetensors file.")
        named = {**about.get("segmenter", {}), "architecture": f"torch:{options.torch}"}
        about = {**about, "segmenter": named}
        weights = options.weights
        if "modalities" not in about.get("input", {}):
            unread = {"input.modalities": 'the channels in order, such as ["t1n", "t1c", "t2w", "t2f"]'}
    check_complete(about, subject, unread)
    config, given = foreign_config(about, subject)
    try:
        spec = InputSpec(**given)
    except TypeError as problem:
        cause = f"has an input that is not as it must be ({problem})."
        raise UsageError(subject, cause, "See docs/pack-format.md.") from None
    checkpoint = options.monai_bundle and weights.suffix != ".safetensors"
    tensors = read_checkpoint(weights) if checkpoint else read_safetensors(weights)
    network = build_network(config, max(2**24, 4 * sum(t.numel() for t in tensors.values()))).eval()
    fit_weights(network, tensors, weights)
    if config.sampling == "slices" and "size_divisor" not in given:
        divisor = smallest_divisor(network, len(spec.modalities))
        spec = replace(spec, size_divisor=(divisor, divisor, 1))
    shape = trial_shape(config, spec)
    check_segmenter(network, len(spec.modalities), shape)
    config = replace(config, taps=tuple(options.taps))
    return network, pack_info(about, config, spec, about.get("cases", []), subject), shape


def run_add_lens(options) -> Result:
    from MedSegLensLib.cases.writing import check_file, check_folder
    from MedSegLensLib.packs.pack import load_pack
    from MedSegLensLib.segmenters.fitness import check_taps
    from MedSegLensLib.segmenters.sampling import trial_shape

    check_folder(options.out)
    if options.zip:
        check_file(options.zip)
    pack = load_pack(options.pack)
    added = read_lenses(options.lens)
    config, spec = pack.info.segmenter, pack.input_spec()
    channels, network = len(spec.modalities), pack.network()
    found = check_taps(network, config, channels, trial_shape(config, spec), [lens.tap for lens in added])
    for lens, tap, folder in zip(added, found, options.lens, strict=True):
        if lens.d_in != tap.channels:
            cause = f"it takes {lens.d_in} channels; the pack's tap {lens.tap} has {tap.channels}."
            raise UsageError(folder, cause, "Give a lens that was trained at this segmenter.")
    taken = {lens.tap for lens in added}
    kept = [pack.lens(tap) for tap in pack.taps if tap not in taken]
    default = next((lens.tap for lens in kept if pack.lens_info(lens.tap).default), added[0].tap)
    catalogue = pack.catalogue()
    if catalogue is not None:
        import pyarrow as pa

        rows = pa.array([tap not in taken for tap in catalogue.column("tap").to_pylist()], pa.bool_())
        catalogue = catalogue.filter(rows)
    old = {"default": default, "card": pack.model_card, "catalogue": catalogue}
    return write_and_measure(options, pack.info, pack.state_dict(), kept + added, **old)


def read_lenses(folders: list[Path]) -> list:
    from MedSegLensLib.lenses.files import load_lens

    lenses = [load_lens(folder) for folder in folders]
    twice = [lens.tap for i, lens in enumerate(lenses) if lens.tap in {other.tap for other in lenses[:i]}]
    if twice:
        raise UsageError(twice[0], "two lenses are for this tap.", "Give one lens for each tap.")
    return lenses


def write_and_measure(options, info, state_dict, lenses, default=None, card=None, catalogue=None) -> Result:
    """Write the pack. Where cases are given, it is measured as written (float16 weights and all), and written again."""
    from MedSegLensLib.cases.reading import read_case
    from MedSegLensLib.commands.train import read_cases
    from MedSegLensLib.editing.cataloguing import catalogue_table_of
    from MedSegLensLib.packs.build import write_pack, zip_pack
    from MedSegLensLib.packs.pack import load_pack

    default = default or (lenses[0].tap if lenses else None)
    for lens in lenses:
        seen = sorted(set(lens.metadata.get("cases") or ()) & set(info.trained_on.held_out))
        if seen:
            cause = f"it was trained on {seen[0]}, which the pack says was held out."
            raise UsageError(lens.tap, cause, "Train it on other cases, or correct held_out.")

    def write(info, catalogue, card, replacing):
        return write_pack(
            options.out, info, state_dict, lenses, catalogue, card, default_tap=default, replace_existing=replacing
        )

    with progress_bar(options.json) as progress:
        info = write(info, catalogue, card or model_card(info, info.quality), options.replace)
        if options.cases:
            unseen = read_cases(options.cases, list(info.trained_on.held_out))
            info = replace(info, quality=measure_quality(load_pack(options.out), unseen, progress))
            if lenses:
                cases = (read_case(options.cases / name) for name in catalogued_cases(info, lenses, options.cases))
                catalogue = catalogue_table_of(load_pack(options.out), cases, unseen, progress)
            info = write(info, catalogue, model_card(info, info.quality), True)
    if options.zip:
        zip_pack(options.out, options.zip)
    size = sum(file.bytes for file in info.files.values())
    data = {"pack": str(options.out), "bytes": size, "quality": info.quality, "lenses": [lens.tap for lens in lenses]}
    text = [f"Pack {info.name} {info.version}: {size / 1e6:.1f} MB. Written: {options.out}", json.dumps(info.quality)]
    if not lenses:
        text.append(
            f"It has no lens yet: medseglens train lens --pack {options.out} --tap TAP --cases CASES --out LENS"
        )
    return Result(data, text)


def catalogued_cases(info, lenses, folder: Path) -> list[str]:
    """The cases that the catalogue is computed on: the segmenter's own training cases, else those of the lenses."""
    if info.trained_on.cases:
        return list(info.trained_on.cases)
    named = list(dict.fromkeys(name for lens in lenses for name in lens.metadata.get("cases", [])))
    return [name for name in named if (folder / name).is_dir()]


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
    lines += [f"- trained on: {', '.join(info.trained_on.cases) or 'not listed case by case'}"]
    lines += [f"- held out (never trained on): {', '.join(info.trained_on.held_out) or 'none named'}"]
    lines += [f"- {info.trained_on.split}"] if info.trained_on.split else []
    lines.append("")
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
