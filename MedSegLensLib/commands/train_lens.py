"""`medseglens train lens`: one lens or many, from tokens harvested once."""

import itertools
import json
import re
from dataclasses import dataclass, fields
from pathlib import Path

from MedSegLensLib.cohorts.cohort import Cohort, CohortCase
from MedSegLensLib.cohorts.mapping import Failure, failure_of
from MedSegLensLib.cohorts.origin import origin_notes
from MedSegLensLib.commands.cohort_cases import add_cases, cohort_given, failure_notes
from MedSegLensLib.commands.common import Result, add_command, output_folder, progress_bar
from MedSegLensLib.errors import CaseError, UsageError

FINETUNE_CASES = 16
"""Of a larger cohort, the last steps of a lens use the first so many: they are kept in memory, 50 MB a case."""

HELD_OUT_TOKENS = 16_384
AXES = ("tap", "kind", "width", "k", "seed")
"""What a configuration may give several of: every combination becomes a lens."""

DESCRIPTION = """train lenses at taps of a segmenter, on one case or ten thousand

The activations are harvested once, into --store (or a folder that is removed in the end), and streamed from there.
Where several taps, kinds, widths, k or seeds are given, each combination becomes a lens in a folder of its own, all
trained side by side in one pass:

  medseglens train lens --pack glioma-unet --tap model.1 --seed 0 1 2 --cases cases --out lenses

Kinds: batch_topk (default), topk, matryoshka, archetypal. With `pip install "medseglens[train]"` also those that
sae-lens trains: jumprelu, gated, standard, matching_pursuit."""


def add_lens_parser(actions) -> None:
    lens = add_command(actions, "lens", "train lenses at taps of a segmenter", run_lens, DESCRIPTION)
    lens.add_argument("--config", type=Path, help="JSON, as in Resources/Configurations; flags go before it")
    source = lens.add_mutually_exclusive_group(required=True)
    source.add_argument("--segmenter", type=Path, help="folder written by `train segmenter`")
    source.add_argument("--pack", help="lens pack whose segmenter to use: a name, a folder or a .zip")
    add_cases(lens, "cases to train on")
    lens.add_argument("--out", type=Path, required=True, help="folder for the lens, in SAELens' layout")
    lens.add_argument("--tap", nargs="+", action="extend", help="module (see `pack show PACK --taps`); one or several")
    lens.add_argument("--kind", nargs="+", help="one or several kinds (default batch_topk)")
    lens.add_argument("--width", nargs="+", type=int, help="number of latents, one or several (default 1024)")
    lens.add_argument("--k", nargs="+", type=int, help="active latents a token, one or several (default 32)")
    lens.add_argument("--seed", nargs="+", type=int, help="one or several (default 0)")
    lens.add_argument("--steps", type=int, help="steps of the optimiser (default 6000)")
    lens.add_argument("--batch", type=int, help="tokens a step (default 2048)")
    lens.add_argument("--lr", type=float, help="learning rate (default 0.001)")
    lens.add_argument(
        "--init", choices=("tokens", "centroids", "components"), help="how the decoder starts (default tokens)"
    )
    lens.add_argument("--tokens", type=int, help="tokens to keep for training, of all cases together (default 400000)")
    lens.add_argument(
        "--held-out", type=int, help="cases to measure on, not trained on (default one in ten from four on)"
    )
    lens.add_argument("--finetune", type=int, metavar="STEPS", help="closing steps on the spliced segmentation")
    lens.add_argument("--store", type=Path, help="folder for the harvested tokens, kept for further trainings")
    lens.add_argument(
        "--dtype", choices=("float32", "float16"), default="float32", help="of the files (default float32)"
    )
    lens.add_argument("--checkpoint-every", type=int, default=500, metavar="STEPS", help="(default 500)")
    lens.add_argument("--resume", action="store_true", help="go on with a training that was stopped")
    lens.add_argument("--device", help="cpu, cuda or mps (default: the best there is)")


@dataclass(frozen=True)
class Order:
    """What is to be trained: a configuration for each lens, and what they share."""

    lenses: list
    cases: list[str]
    tokens: int
    shares: dict[str, float] | None
    held_out: int | None
    finetune: dict


def read_order(options, device: str) -> Order:
    """From the file and the flags, which go before it. Raises UsageError."""
    from MedSegLensLib.commands.train import read_config
    from MedSegLensLib.lenses.lens_config import LensConfig

    values = read_config(options.config) if options.config else {}
    flags = (*AXES, "steps", "batch", "lr", "init", "tokens", "held_out")
    values |= {name: getattr(options, name) for name in flags if getattr(options, name) is not None}
    if options.finetune is not None:
        values["finetune"] = {"steps": options.finetune}
    values["device"] = options.device or values.get("device") or device
    cases, tokens = values.pop("cases", []), values.pop("tokens", 400_000)
    shares, held_out = values.pop("shares", None), values.pop("held_out", None)
    finetune, sweep = values.pop("finetune", {}), values.pop("sweep", [{}])
    subject = options.config or "train lens"
    _check_shared(subject, cases, tokens, shares, held_out, finetune)
    finetune = {"steps": 0} | finetune
    if not isinstance(sweep, list) or not all(isinstance(entry, dict) for entry in sweep) or not sweep:
        raise UsageError(subject, "its sweep is not a list of configurations.", "See docs/training.md.")
    if not all((values | entry).get("tap") for entry in sweep):
        raise UsageError(subject, "no tap was given.", "Give --tap; `medseglens pack show PACK --taps` lists them.")
    unknown = sorted({n for entry in (values, *sweep) for n in entry} - {f.name for f in fields(LensConfig)})
    if unknown:
        raise UsageError(subject, f"does not describe a lens ({', '.join(unknown)}).", "See docs/training.md.")
    lenses = []
    for entry in sweep:
        one = values | entry
        axes = [one[name] if isinstance(one.get(name), list) else [one.get(name)] for name in AXES]
        for combination in itertools.product(*axes):
            chosen = {name: value for name, value in zip(AXES, combination, strict=True) if value is not None}
            try:
                lenses.append(LensConfig(**(one | chosen)))
            except TypeError as problem:
                raise UsageError(subject, f"does not describe a lens ({problem}).", "See docs/training.md.") from None
    return Order(lenses, cases, tokens, shares, held_out, finetune)


def _check_shared(subject, cases, tokens, shares, held_out, finetune) -> None:
    """What the lenses of a configuration share. Raises UsageError: before the minutes of a harvest, not after them."""

    def is_number(value, least: float) -> bool:
        return type(value) in (int, float) and value >= least

    names = isinstance(cases, list) and all(isinstance(name, str) for name in cases)
    fitting = isinstance(finetune, dict) and not set(finetune) - {"steps", "lr"}
    fitting = fitting and type(finetune.get("steps", 0)) is int and finetune.get("steps", 0) >= 0
    fitting = fitting and is_number(finetune.get("lr", 1e-4), 1e-12)
    sound = {
        "cases": names,
        "tokens": type(tokens) is int and tokens > 0,
        "shares": shares is None or (isinstance(shares, dict) and all(is_number(v, 0) for v in shares.values())),
        "held_out": held_out is None or (type(held_out) is int and held_out >= 0),
        "finetune": fitting,
    }
    wrong = [name for name, right in sound.items() if not right]
    if wrong:
        raise UsageError(subject, f"its {wrong[0]} cannot be used.", "See docs/training.md.")


def folders_of(lenses: list, out: Path) -> list[Path]:
    """Where each lens goes: `out` itself for one, else `out/<tap>/<kind>-<width>-k<k>-seed-<seed>`."""
    if len(lenses) == 1:
        return [out]
    folders: list[Path] = []
    for lens in lenses:
        tap = re.sub(r"[^A-Za-z0-9._-]+", "_", lens.tap)
        name = f"{lens.kind}-{lens.width}-k{lens.k}-seed-{lens.seed}"
        same = sum(folder.parent.name == tap and folder.name.split("+")[0] == name for folder in folders)
        folders.append(out / tap / (f"{name}+{same + 1}" if same else name))
    return folders


def cases_to_train_on(cohort: Cohort, names: list[str], left_out: tuple[str, ...]) -> dict[str, CohortCase]:
    """By name: those named, or all of the cohort but `left_out`. Raises CaseError for one that is not there."""
    there = {case.name: case for case in cohort.cases}
    missing = [name for name in names if name not in there]
    if missing:
        cause = f"is named by the configuration and is not there: {cohort.source}."
        raise CaseError(missing[0], cause, "Correct --cases or --cohort.")
    if names:
        return {name: there[name] for name in names}
    found = {name: case for name, case in there.items() if name not in left_out}
    if not found:
        raise CaseError(cohort.name, "the pack holds out all of its cases.", "Give others to train on.")
    return found


def without_unseen(
    cases: dict[str, CohortCase], named: bool, segmenter: "Segmenter"
) -> tuple[dict[str, CohortCase], list[str]]:
    """The cases that a lens may be trained on, and what has to be said of it.

    A pack names its held-out cases: none of them is taken, and one that was asked for is refused. A folder of `train
    segmenter` names only what it was trained on: the other cases are left out where the order names none, since they
    are what can be measured on later. named: whether the configuration names its cases. Raises UsageError.
    """
    forbidden = [name for name in cases if name in segmenter.held_out]
    if forbidden:
        cause = "the pack holds it out, so a lens for this pack is not trained on it."
        raise UsageError(forbidden[0], cause, "Leave it out, or give another case.")
    unseen = [name for name in cases if segmenter.trained_on and name not in segmenter.trained_on]
    if not unseen:
        return cases, []
    listed = ", ".join(unseen[:5]) + (f" and {len(unseen) - 5} more" if len(unseen) > 5 else "")
    if named or len(unseen) == len(cases):
        said = f"Not unseen any more: the segmenter was not trained on {listed}, and the lens is. "
        return cases, [f"{said}A pack that holds one of them out will refuse this lens."]
    said = f"Left out, since the segmenter was not trained on them: {listed}. "
    said += "They can be measured on; name them as `cases` in a configuration to train on them."
    return {name: case for name, case in cases.items() if name not in unseen}, [said]


def run_lens(options) -> Result:
    import shutil

    from MedSegLensLib.cases.writing import check_folder
    from MedSegLensLib.lenses.by_sae_lens import check_sae_lens, train_by_sae_lens
    from MedSegLensLib.lenses.checkpoint import CHECKPOINT_NAME, LossIsNoNumber, forget_failure
    from MedSegLensLib.lenses.files import save_lens
    from MedSegLensLib.lenses.lens_config import KINDS
    from MedSegLensLib.lenses.ranks import device_of, ranks_of_environment
    from MedSegLensLib.lenses.training import Training, train_lenses
    from MedSegLensLib.reports.training_page import write_training_page
    from MedSegLensLib.segmenters.engine import best_device, check_device

    check_folder(options.out)
    if options.checkpoint_every < 1:
        cause = "there is no such number of steps."
        raise UsageError(f"--checkpoint-every {options.checkpoint_every}", cause, "Give 1 or more.")
    device = options.device or best_device()
    check_device(device)
    order = read_order(options, device)
    for kind in {lens.kind for lens in order.lenses} - set(KINDS):
        check_sae_lens(kind)
    device = device_of(order.lenses[0].device)
    folders = folders_of(order.lenses, options.out)
    checkpoints = [folder / CHECKPOINT_NAME for folder in folders]
    stopped = next((path for path in checkpoints if path.exists()), None)
    if stopped and not options.resume:
        remedy = "Add --resume to go on with it, or remove the file to start anew."
        raise UsageError(stopped, "a training that was stopped is there.", remedy)
    segmenter = Segmenter.of(options)
    cohort = cohort_given(options)
    cases = cases_to_train_on(cohort, order.cases, segmenter.held_out)
    cases, notes = without_unseen(cases, bool(order.cases), segmenter)
    notes += origin_notes(cohort)
    store_folder = options.store or options.out / ".harvested"
    ranks = ranks_of_environment(device)
    with progress_bar(options.json or not ranks.first) as progress:
        engine, network = segmenter.prepare(device)
        try:
            store, failures = _harvested(store_folder, order, cases, segmenter, network, engine, ranks, progress)
        except BaseException:
            # A folder of no case yet would only refuse the next try, with another tap say.
            if ranks.first and not options.store and not any(store_folder.glob("cases/*.safetensors")):
                shutil.rmtree(store_folder, ignore_errors=True)
            raise
        notes += failure_notes(failures)
        cases = {name: case for name, case in cases.items() if store.has(name)}
        taps = list(dict.fromkeys(lens.tap for lens in order.lenses))
        memory = max(64, 1024 // len(taps))
        sources = {tap: store.tokens(tap, held_out=order.held_out, memory_mb=memory) for tap in taps}
        for folder, checkpoint in zip(folders, checkpoints, strict=True):
            output_folder(folder)
            if not options.resume:
                forget_failure(checkpoint)
        trainings = {
            i: Training(sources[config.tap], config, checkpoints[i], ranks)
            for i, config in enumerate(order.lenses)
            if config.kind in KINDS
        }
        if options.resume:
            for training in trainings.values():
                training.resume()
        trained = train_lenses(list(trainings.values()), progress, options.checkpoint_every) if trainings else []
        lenses = dict(zip(trainings, trained, strict=True))
        if not ranks.first:
            return Result({"rank": ranks.rank})
        done, failed = [], []
        for i, (config, folder) in enumerate(zip(order.lenses, folders, strict=True)):
            source = sources[config.tap]
            name = config.tap if len(folders) == 1 else str(folder.relative_to(options.out))
            try:
                if i not in trainings:
                    every = options.checkpoint_every
                    lens = train_by_sae_lens(source, config, progress, checkpoints[i], options.resume, every)
                elif trainings[i].failed:
                    raise trainings[i].failed
                else:
                    lens = lenses.pop(i)
                if order.finetune["steps"]:
                    lens = _finetuned(lens, source, order, config.seed, cases, segmenter, network, engine, progress)
            except LossIsNoNumber as problem:
                if len(folders) == 1:
                    raise
                failed.append((name, folder, problem))
                continue
            lens.metadata |= {"cases": list(cases), "held_out_tokens": source.held_out_said}
            save_lens(lens, folder, options.dtype)
            forget_failure(checkpoints[i])
            write_training_page([(name, lens.metadata)], folder / "training.html")
            done.append((name, folder, lens))
        if not done:
            subject = f"all {len(failed)} lenses"
            raise LossIsNoNumber(subject, f"none could be trained; {failed[0][2]}", "Train them with a lower lr.")
    if len(done) > 1:
        write_training_page([(name, lens.metadata) for name, _, lens in done], options.out / "training.html")
    for checkpoint in checkpoints:
        checkpoint.unlink(missing_ok=True)
    if not options.store:
        shutil.rmtree(store_folder, ignore_errors=True)
    text = list(notes)
    text += [f"Stopped, not written: {name}: {problem}" for name, _, problem in failed]
    text += [f"Measured on {done[0][2].metadata['held_out_tokens']}."]
    for name, folder, lens in done:
        text += [f"Lens at {name}: {json.dumps(lens.metadata['held_out'])}", f"Written: {folder}"]
    said = {"folder": str(options.out), "notes": notes}
    if len(folders) == 1:
        lens = done[0][2]
        return Result(said | {"tap": lens.tap, "held_out": lens.metadata["held_out"]}, text)
    entries = [
        {"folder": str(folder), "held_out": lens.metadata["held_out"], **_axes(lens)} for _, folder, lens in done
    ]
    accounts = [{"folder": str(folder), "cause": p.cause, "remedy": p.remedy} for _, folder, p in failed]
    return Result(said | {"lenses": entries, "failed": accounts}, text)


def _axes(lens) -> dict:
    return {name: lens.metadata["training"][name] for name in AXES}


@dataclass(frozen=True)
class Segmenter:
    """What tokens are harvested from, out of a training folder or a pack."""

    network: object
    config: object
    spec: object
    held_out: tuple[str, ...]  # cases that must not be trained on
    trained_on: tuple[str, ...]  # those of the segmenter; none where it is not known

    @staticmethod
    def of(options) -> "Segmenter":
        if options.pack:
            from MedSegLensLib.packs.pack import load_pack

            pack = load_pack(options.pack)
            held_out = tuple(pack.info.trained_on.held_out)
            return Segmenter(pack.network(), pack.info.segmenter, pack.input_spec(), held_out, ())
        from MedSegLensLib.commands.train import trained_segmenter

        network, config, spec, record = trained_segmenter(options.segmenter)
        return Segmenter(network, config, spec, (), tuple(record.get("cases") or ()))

    def prepare(self, device: str):
        from MedSegLensLib.segmenters.engine import choose_engine
        from MedSegLensLib.segmenters.sampling import trial_shape

        shape = trial_shape(self.config, self.spec)
        engine, _ = choose_engine(self.network, (len(self.spec.modalities), *shape), device)
        return engine, engine.prepare(self.network, self.config.spatial_dims)

    def hash(self) -> str:
        import hashlib

        digest = hashlib.sha256()
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).numpy().tobytes())
        return digest.hexdigest()[:16]


def _harvested(
    folder, order: Order, cases: dict[str, CohortCase], segmenter: Segmenter, network, engine, ranks, progress
):
    """The store with every case that can be used in it, and the failures of the others; cases that are there already
    are not harvested again. Raises CaseError where none can be used."""
    import math

    from MedSegLensLib.editing.harvest import harvest_taps
    from MedSegLensLib.lenses.token_store import HarvestPlan, TokenStore

    plan = HarvestPlan(
        taps=tuple(dict.fromkeys(lens.tap for lens in order.lenses)),
        segmenter=segmenter.hash() + _simulation(cases),
        per_case=math.ceil(order.tokens / len(cases)),
        natural=max(64, math.ceil(HELD_OUT_TOKENS / len(cases))),
        seed=0,
        shares=order.shares,
    )
    if ranks.first:
        store = TokenStore.create(folder, plan)
    ranks.wait()
    store = TokenStore.create(folder, plan)
    # A lens is trained on all that its store holds; what its files say it was trained on must be true.
    alien = [case.name for case in store.cases() if case.name not in cases]
    if alien:
        more = f" and {len(alien) - 3} more" if len(alien) > 3 else ""
        cause = f"it holds tokens of cases that are not of this training: {', '.join(alien[:3])}{more}."
        raise UsageError(folder, cause, "Give those cases too, or another --store.")
    failed: dict[str, Failure] = {}
    for i, (name, case) in enumerate(cases.items()):
        if i % ranks.size == ranks.rank and not store.has(name):
            progress(f"reading tokens, {name}", i / len(cases))
            try:
                read = case.read()
                store.add(name, harvest_taps(read, network, segmenter.config, segmenter.spec, plan.taps, engine))
            except CaseError as problem:
                failed[name] = failure_of(name, problem)
    ranks.wait()
    elsewhere = "it could not be used by another of the processes."
    failures = [
        failed.get(name) or Failure(name, elsewhere, "See what that one says.") for name in cases if not store.has(name)
    ]
    if len(failures) == len(cases):
        first = next(iter(failed.values()), failures[0])
        raise CaseError(first.case, first.cause, first.remedy)
    return store, failures


def _simulation(cases: dict[str, CohortCase]) -> str:
    """Nothing for cases as they are. A simulated case has the name of the one that it is made from: its tokens must
    not be found in a store of that one's."""
    import hashlib

    acquired = {name: case.acquisition.to_json() for name, case in cases.items() if case.acquisition}
    digest = hashlib.sha256(json.dumps(acquired, sort_keys=True).encode()).hexdigest()
    return f", simulated {digest[:8]}" if acquired else ""


def _finetuned(lens, source, order: Order, seed: int, cases, segmenter: Segmenter, network, engine, progress):
    from MedSegLensLib.editing.finetuning import finetune
    from MedSegLensLib.lenses.training import calibrate

    trained_on = [name for name in cases if name not in source.held_out_cases][:FINETUNE_CASES]
    some = [cases[name].read() for name in trained_on]
    lens = finetune(
        lens, some, network, segmenter.config, segmenter.spec, engine, **order.finetune, seed=seed, progress=progress
    )
    lens = calibrate(lens, source)
    lens.metadata["finetuned"] = order.finetune
    return lens
