"""How far a lens can be trusted: what it keeps of its tap, whether another seed finds its latents again, what they say
of the tumour, and whether an edit does more than a push of the same size anywhere. Each beside its null.

facts = examine(with_lens(pack, lens), tap, Cohort(seen, unseen), other_seeds)
facts["splice"]["share_recovered"], facts["verdict"]["word"]
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import torch

from MedSegLensLib.cases.case import Case, region_mask
from MedSegLensLib.editing.influence import Influence, attribute, dense_latents, suppress
from MedSegLensLib.editing.latent_edits import LatentEdits
from MedSegLensLib.editing.recipe import Edit
from MedSegLensLib.editing.session import Session, best_label
from MedSegLensLib.editing.splice import dice_by_region, labels_with, spliced_labels
from MedSegLensLib.editing.token_sample import TokenSample, sample_tokens
from MedSegLensLib.editing.verdict import verdict
from MedSegLensLib.errors import UsageError
from MedSegLensLib.lenses.lens import Lens
from MedSegLensLib.lenses.measures import explained_variance, measure_lens
from MedSegLensLib.lenses.nulls import (
    on_components,
    principal_components,
    random_decoder_lens,
    random_encoder_lens,
    stability_nulls,
    untrained_lens,
)
from MedSegLensLib.lenses.sampling import DEFAULT_SHARES, STRATA
from MedSegLensLib.lenses.stability import (
    activation_stability,
    decoder_stability,
    stable_share,
    substitution,
)
from MedSegLensLib.lenses.stable import STABLE
from MedSegLensLib.packs.info import LensInfo
from MedSegLensLib.packs.pack import LensPack
from MedSegLensLib.segmenters.engine import choose_engine
from MedSegLensLib.segmenters.replay import Steering
from MedSegLensLib.segmenters.sampling import trial_shape, union

Progress = Callable[[str, float], None]

ON_LESION = 0.01
"""A latent counts as one of the lesion's when it fires on more than this share of the lesion's tokens."""

LEAST_ML = 0.1
"""Regions smaller than this in a case are not edited: a few voxels say nothing of selectivity."""


@dataclass(frozen=True)
class Effort:
    """What a run takes its time for.

    tokens_per_case: drawn of each case. probe_tokens: of them at most for fitting and for scoring probes.
    null_steps: for the lens with a frozen random decoder; 0 leaves it out. spliced_cases, edited_cases: whole cases
    passed with the lens spliced in, and edited. latents: edited per region; directions: random ones beside each.
    seconds: after which no further edit is begun.
    """

    tokens_per_case: int = 40_000
    probe_tokens: int = 60_000
    null_steps: int = 600
    spliced_cases: int = 4
    edited_cases: int = 1
    latents: int = 5
    directions: int = 3
    seconds: float = 180.0


QUICK = Effort(10_000, 15_000, 0, 1, 1, 2, 1, 30.0)


@dataclass
class Cohort:
    """The cases a lens is judged on.

    fit: where probes and nulls are fitted: cases of the training. score: where everything is scored: unseen cases.
    notes: what of that could not be had.
    """

    fit: Sequence[Case]
    score: Sequence[Case]
    notes: list[str] = field(default_factory=list)


def with_lens(pack: LensPack, lens: Lens) -> LensPack:
    """The pack with this as its only lens. Raises UsageError where the segmenter has no such tap or another width."""
    from MedSegLensLib.segmenters.taps import list_taps

    config = pack.info.segmenter
    shape = trial_shape(config, pack.input_spec())
    taps = {t.name: t for t in list_taps(pack.network(), (len(pack.info.input["modalities"]), *shape))}
    if lens.tap not in taps:
        cause = f"the segmenter of {pack.info.name} has no tap of this name."
        raise UsageError(lens.tap or "lens", cause, "Name the pack or segmenter that the lens was trained at.")
    if taps[lens.tap].channels != lens.d_in:
        cause = f"the lens reads {lens.d_in} channels, and the tap has {taps[lens.tap].channels}."
        raise UsageError(lens.tap, cause, "Name the pack or segmenter that the lens was trained at.")
    info = LensInfo(lens.tap, "lenses/one", lens.d_in, lens.d_sae, lens.k, True)
    return replace(pack, info=replace(pack.info, lenses=(info,)), _lenses={lens.tap: lens})


def examine(
    pack: LensPack,
    tap: str,
    cohort: Cohort,
    others: Sequence[Lens] = (),
    effort: Effort | None = None,
    device: str | None = None,
    progress: Progress | None = None,
    tokens: tuple[TokenSample, TokenSample] | None = None,
) -> dict:
    """Every measure of the lens at `tap`, beside its nulls, as JSON values; what is not known is None and said why.

    `others`: lenses of the same tap with other seeds. `tokens`: those of the cases to fit and to score on, where they
    were drawn already. Raises CaseError for a case without labels or an empty cohort,
    UsageError for a lens of another width.
    """
    effort, say = effort or Effort(), progress or (lambda stage, share: None)
    lens = pack.lens(tap)
    network = pack.network()
    config, spec = pack.info.segmenter, pack.input_spec()
    shape = (len(spec.modalities), *trial_shape(config, spec))
    engine, _ = choose_engine(network, shape, device)
    prepared = engine.prepare(network, config.spatial_dims)

    def tokens_of(cases, seed):
        sampled = sample_tokens(
            cases, prepared, config, spec, [tap], engine, effort.tokens_per_case, seed, say, len(cases)
        )
        return sampled[tap]

    if tokens:
        fit, score = tokens
    else:
        score = tokens_of(cohort.score, 1)
        fit = tokens_of(cohort.fit, 2) if len(cohort.fit) else None
    everything = score if fit is None else TokenSample.joined([fit, score])
    learnt_on = score if fit is None else fit
    mixture = learnt_on.mixture(40_000, DEFAULT_SHARES)
    natural = learnt_on.some(16_384).tokens

    say("fitting the nulls", 0.0)
    nulls = {"random_encoder": random_encoder_lens(mixture, lens, natural)}
    if effort.null_steps:
        nulls["random_decoder"] = random_decoder_lens(mixture, lens, natural, effort.null_steps, progress=say)
    firing = _fires_share(lens, everything.tokens)
    on_lesion = _fires_share(lens, everything.lesion()) > ON_LESION

    facts = {
        "lens": _lens_facts(lens),
        "pack": f"{pack.info.name} {pack.info.version}",
        "tap": tap,
        "cases": {"fit": [] if fit is None else list(fit.cases), "score": list(score.cases)},
        "tokens": {"fit": 0 if fit is None else len(fit.tokens), "score": len(score.tokens), "there_are": score.total},
        "notes": list(cohort.notes),
        "reconstruction": reconstruction(lens, score, learnt_on, nulls),
        "activity": activity(lens, score, everything, firing, on_lesion),
        "stability": None,
        "probes": None,
        "training": {"log": lens.metadata.get("log") or []},
        "null_steps": effort.null_steps,
        "effort": asdict(effort),
    }
    if not effort.null_steps:
        facts["notes"].append(
            "No lens with a frozen random decoder was trained as a null: the explained variance stands beside a random "
            "encoder only, and is not called good."
        )
    if others:
        say("matching the seeds", 0.0)
        facts["stability"] = stability(lens, others, everything, mixture, natural, on_lesion)
    else:
        facts["notes"].append("No lens of another seed was given: whether a latent is found again is not known.")
    if fit is None:
        facts["notes"].append("No case to fit probes on: what latents say of regions on unseen cases is not known.")
    else:
        facts["probes"] = probes(lens, fit, score, nulls["random_encoder"], effort, say)
    facts |= on_whole_cases(pack, tap, cohort.score, engine, nulls["random_encoder"], others, effort, say)
    fired = facts.pop("fired")
    edits = facts["selectivity"] or {"edits": []}
    facts["cases"] |= {
        "spliced": list(facts["splice"]["cases"]),
        "edited": list(dict.fromkeys(e["case"] for e in edits["edits"])),
    }
    if facts["splice"]["cases"] and len(facts["splice"]["cases"]) < len(score.cases):
        facts["notes"].append(f"Dice was computed on {', '.join(facts['splice']['cases'])} only.")
    made, asked = len(edits["edits"]), facts.pop("edits_asked")
    if made < asked:
        facts["notes"].append(f"Time was up: {made} of {asked} edits were made.")
    facts["activity"]["dead_latents"] = dead = np.flatnonzero((firing == 0) & ~fired).tolist()
    facts["activity"]["dead_share"] = len(dead) / lens.d_sae
    facts = _plain(facts)
    facts["verdict"] = verdict(facts)
    return facts


# -- on tokens ------------------------------------------------------------------------------------------------------


def reconstruction(lens: Lens, score: TokenSample, learnt_on: TokenSample, nulls: dict[str, Lens]) -> dict:
    """Explained variance by tissue, of the lens and of its nulls: name -> {"all", "lesion", ...}.

    "pca": the projection on as many principal components as the lens has active latents, fitted on `learnt_on`.
    """
    mean, basis = principal_components(learnt_on.tokens, int(lens.k) or 32)
    makers = {"lens": _spliced(lens), "pca": lambda x: on_components(x, mean, basis)}
    makers |= {name: _spliced(null) for name, null in nulls.items()}
    found = {}
    for name, make in makers.items():
        rebuilt = torch.cat([make(x) for x in score.tokens.split(4096)])
        by = {"all": explained_variance(score.tokens, rebuilt)}
        for number, stratum in enumerate(STRATA):
            mine = torch.from_numpy(score.strata == number)
            if mine.sum() > 1:
                by[stratum] = explained_variance(score.tokens[mine], rebuilt[mine])
        found[name] = by
    return found


def _spliced(lens: Lens) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: lens.decode(lens.encode(x))


def activity(lens: Lens, score: TokenSample, everything: TokenSample, firing: np.ndarray, on_lesion) -> dict:
    """L0 by tissue on the cases scored, and how often each latent fires over all tokens drawn.

    dead: fires on none of them (nor, as `examine` sees to, anywhere in the whole cases that are passed); hyperactive:
    on more than 10 %; `histogram`: latents by the decade of their share.
    """
    measures = measure_lens(lens, [(score.tokens, score.strata)])
    decades = [0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0]
    counts, _ = np.histogram(firing[firing > 0], decades)
    return {
        "k": lens.k,
        "latents": lens.d_sae,
        "l0": measures.l0,
        "l0_by": measures.l0_by,
        "dead_share": float((firing == 0).mean()),
        "hyperactive_share": float((firing > 0.10).mean()),
        "tokens": len(everything.tokens),
        "histogram": {"edges": decades, "latents": counts.tolist()},
        "latents_on_lesion": int(on_lesion.sum()),
    }


def _fires_share(lens: Lens, tokens: torch.Tensor) -> np.ndarray:
    """Share of tokens on which each latent fires, (d_sae,); 0 of no tokens."""
    counts = torch.zeros(lens.d_sae)
    for x in tokens.split(4096):
        counts += (lens.encode(x) > 0).sum(0)
    return (counts / max(len(tokens), 1)).numpy()


def stability(
    lens: Lens,
    others: Sequence[Lens],
    everything: TokenSample,
    mixture: torch.Tensor,
    natural: torch.Tensor,
    on_lesion: np.ndarray,
) -> dict:
    """Share of latents found again in every other seed, among all and among the lesion's, by decoder and by code, with
    what dictionaries give in which nothing was learned; and the substitution test.

    `null_share` is that of the hardest null: random directions, directions of tokens, or the rows as the lens's own
    training started, with a tied encoder at L0 = k, as many lenses, chosen by the same rule (fires on over 1 % of the
    lesion's tokens). It can be stabler than any trained lens: two draws of the same clusters of tokens agree, and
    principal components are nearly the same in any sample. Its explained variance stands beside.
    """
    cosine = decoder_stability(lens, others)
    some = everything.some(20_000).tokens
    correlation = activation_stability(lens, others, some)
    training, nulls = lens.metadata.get("training") or {}, {}
    start = {"init": training.get("init", "tokens"), "noise": training.get("noise", 1.0)}
    for name, (rows, stable) in stability_nulls(mixture, lens.d_sae, 1 + len(others), **start).items():
        first, *rest = [untrained_lens(mixture, r, lens, natural) for r in rows]
        chosen = _fires_share(first, everything.lesion()) > ON_LESION
        again = activation_stability(first, rest, some)
        nulls[name] = {
            "share": stable_share(stable),
            "share_on_lesion": stable_share(stable, chosen),
            "activation_share": stable_share(again),
            "activation_share_on_lesion": stable_share(again, chosen),
            "median": float(np.median(stable)),
            "explained_variance": explained_variance(some, first.decode(first.encode(some))),
            "histogram": _cosine_histogram(stable[chosen]),
        }
    tests = [substitution(lens, other, some) for other in others]
    kept = np.fmin.reduce([np.where(on_lesion, t.kept(), np.nan) for t in tests])
    kept = kept[np.isfinite(kept)]
    return {
        "seeds": [_seed_of(other) for other in others],
        "at_least": STABLE,
        "latents_on_lesion": int(on_lesion.sum()),
        "share": stable_share(cosine),
        "share_on_lesion": stable_share(cosine, on_lesion),
        "activation_share": stable_share(correlation),
        "activation_share_on_lesion": stable_share(correlation, on_lesion),
        "median": float(np.median(cosine)),
        "median_on_lesion": float(np.median(cosine[on_lesion])) if on_lesion.any() else None,
        "histogram": _cosine_histogram(cosine[on_lesion]),
        "nulls": nulls,
        "null_share": max(null["share_on_lesion"] for null in nulls.values()),
        "substitution_kept": float(np.median(kept)) if len(kept) else None,
        "substitution_kept_half": float(np.mean(kept >= 0.5)) if len(kept) else None,
        "decoder_cosine": [round(float(c), 4) for c in cosine],
    }


def _cosine_histogram(values: np.ndarray) -> list[int]:
    """Counts in ten bins from 0 to 1; below 0 counts in the first."""
    return np.histogram(np.clip(values, 0, 1), np.linspace(0, 1, 11))[0].tolist()


def _seed_of(lens: Lens) -> int | None:
    return (lens.metadata.get("training") or {}).get("seed")


def probes(lens: Lens, fit: TokenSample, score: TokenSample, null: Lens, effort: Effort, say: Progress) -> dict:
    """See `lenses.probing.probe`; per region and tissue, as JSON values."""
    from MedSegLensLib.lenses.probing import probe

    parts = [s.some(effort.probe_tokens, seed=i) for i, s in enumerate((fit, score))]
    found = probe(lens, *((s.tokens, s.targets(), s.case) for s in parts), null=null, progress=say)
    return {
        name: {
            "tokens": [p.seen, p.unseen],
            "latent": p.latent.feature,
            "latent_sign": p.latent.sign,
            "best_latent": p.latent.unseen,
            "best_channel": p.channel.unseen,
            "best_component": p.component.unseen,
            "random_encoder": p.null.unseen,
            "random_direction": p.direction.unseen,
            "shuffled": p.shuffled.unseen,
            "sparse_1": p.sparse["latent"][1].unseen,
            "sparse_5": p.sparse["latent"][5].unseen,
            "sparse_5_latents": list(p.sparse["latent"][5].features),
            "sparse_5_channels": p.sparse["channel"][5].unseen,
            "sparse_5_components": p.sparse["component"][5].unseen,
            "sparse_5_random_encoder": p.sparse["null"][5].unseen,
            "sparse_5_shuffled": p.sparse_shuffled.unseen,
            "dense": p.dense.unseen,
        }
        for name, p in found.items()
    }


# -- on whole cases -------------------------------------------------------------------------------------------------


def on_whole_cases(
    pack: LensPack,
    tap: str,
    cases: Sequence[Case],
    engine,
    null: Lens,
    others: Sequence[Lens],
    effort: Effort,
    say: Progress,
) -> dict:
    """{"splice": ..., "selectivity": ..., "substituted": ..., "fired": bool (d_sae,), anywhere in these cases,
    "edits_asked": int}; one session in memory at a time."""
    passes, edits, replaced, asked = {}, [], [], 0
    fired = np.zeros(pack.lens(tap).d_sae, bool)
    wanted = min(len(cases), max(effort.spliced_cases, effort.edited_cases))
    for number in range(wanted):
        case = cases[number]
        session = Session(case, pack, engine=engine, progress=say)
        fired |= session.codes[tap].summary().count > 0
        if number < effort.spliced_cases:
            say("passing the case with the lens spliced in", number / wanted)
            passes[case.name] = spliced_dice(session, tap, {"random_encoder": null})
        if len({e.case for e in edits}) < effort.edited_cases:
            effects, wanted_edits = edit_effects(session, tap, effort, say)
            edits, asked = edits + effects, asked + wanted_edits
            if others and not replaced and effort.null_steps:
                replaced = substituted(session, tap, others[0], [e.latent for e in edits], say)
    return {
        "splice": splice_summary(passes),
        "selectivity": selectivity(edits, effort.directions),
        "substituted": replaced or None,
        "fired": fired,
        "edits_asked": asked,
    }


def spliced_dice(session: Session, tap: str, nulls: dict[str, Lens]) -> dict[str, dict[str, float | None]]:
    """Dice by region of a labelled case: "plain", "spliced", "zero" (the brain's tokens of the tap are 0), and with
    each null in the lens's place."""
    reference = session.conformed.labels(session.case.labels)
    labels = {
        "plain": session.labels,
        "spliced": spliced_labels(session, tap),
        "zero": labels_with(session, tap, torch.zeros_like),
    }
    for name, null in nulls.items():
        labels[name] = labels_with(session, tap, _spliced(null.to(session.engine.device)))
    return {name: dice_by_region(found, reference) for name, found in labels.items()}


def share_recovered(plain: float, spliced: float, zero: float) -> float:
    """(spliced - zero) / (plain - zero): the share of the Dice that hangs on the tap which the lens keeps. As "loss
    recovered" (Bricken et al. 2023, Towards Monosemanticity), with Dice for the loss.

    nan where zeroing the tap costs less than a point of Dice: then nothing hangs on it.
    """
    return (spliced - zero) / (plain - zero) if plain - zero >= 0.01 else float("nan")


def splice_summary(passes: dict[str, dict[str, dict[str, float | None]]]) -> dict:
    """Over cases and the regions that they have: the worst and the mean loss in percentage points, share recovered of
    the mean Dice, for the lens and for each null."""
    items = [(case, region) for case, by in passes.items() for region, v in by["plain"].items() if v is not None]
    if not items:
        return {"cases": passes, "loss_pp": None, "mean_loss_pp": None, "share_recovered": None, "nulls": {}}
    values = {kind: np.array([passes[c][kind][r] for c, r in items]) for kind in next(iter(passes.values()))}

    def of(kind: str) -> dict:
        lost = 100 * (values["plain"] - values[kind])
        share = share_recovered(values["plain"].mean(), values[kind].mean(), values["zero"].mean())
        return {
            "loss_pp": float(lost.max()),
            "mean_loss_pp": float(lost.mean()),
            "share_recovered": None if np.isnan(share) else float(share),
        }

    nulls = {kind: of(kind) for kind in values if kind not in ("plain", "spliced")}
    return {"cases": passes, "items": len(items), **of("spliced"), "nulls": nulls}


@dataclass(frozen=True)
class EditEffect:
    """What suppressing one latent did, and a push of the same size at the same tokens in a random direction.

    moved_ml: volume that entered or left the region. target_share: of all voxels whose label changed, those that did
    (nan where none changed). support_share: of them, those where the latent is active. random_*: means over directions.
    random_most_ml: the largest over directions.
    """

    case: str
    region: str
    latent: int
    moved_ml: float
    target_share: float
    support_share: float
    random_moved_ml: float
    random_most_ml: float
    random_target_share: float


def edit_effects(session: Session, tap: str, effort: Effort, say: Progress) -> tuple[list[EditEffect], int]:
    """The latents with the largest influence (by attribution, dense ones left out) on each region of the case that is
    there, suppressed one by one, beside random directions; and how many that would be in all. After `effort.seconds`
    no further edit is begun."""
    effects, started = [], time.perf_counter()
    generator = torch.Generator().manual_seed(0)
    dense = dense_latents(session, tap)
    d_in = session.lenses[tap].d_in
    chosen: dict[str, list[int]] = {}
    for region in ("WT", "TC", "ET"):
        if session.region_ml(session.labels, region) >= LEAST_ML:
            ranked = Influence(tap, region, attribute(session, tap, region, say), dense, {}).ranked()
            chosen[region] = ranked[: effort.latents].tolist()
    wanted = sum(len(latents) for latents in chosen.values())
    for region, latents in chosen.items():
        for i, latent in enumerate(latents):
            if effects and time.perf_counter() - started > effort.seconds:
                return effects, wanted
            say(f"editing latents of {region}", i / len(latents))
            maps = LatentEdits(session, tap, [Edit(tap, latent, "scale", 0.0)]).maps()
            support = session.activation_volume(tap, latent) > 0
            after = session.edit(suppress(session, tap, latent)).labels
            moved, target, inside = _change(session, after, region, support)
            pushed = []
            for _ in range(effort.directions):
                direction = torch.nn.functional.normalize(torch.randn(1, d_in, generator=generator), dim=1)
                pushed.append(_change(session, steered(session, tap, direction, maps), region, support))
            by = np.array(pushed)
            shares = by[:, 1][np.isfinite(by[:, 1])]
            effects.append(
                EditEffect(
                    session.case.name,
                    region,
                    latent,
                    moved,
                    target,
                    inside,
                    float(by[:, 0].mean()),
                    float(by[:, 0].max()),
                    float(shares.mean()) if len(shares) else float("nan"),
                )
            )
    return effects, wanted


def steered(session: Session, tap: str, directions: torch.Tensor, maps: dict[int, torch.Tensor]) -> np.ndarray:
    """Labels (Z, Y, X) with sum_j maps_j directions_j added at the tap; directions (J, d_in), maps as in `Steering`."""
    directions = directions.to(session.engine.device)
    labels, sampling = session.labels.copy(), session.sampling
    logits = session.replay.logits.clone() if sampling.overlapping else None
    boxes = []
    for sample, box, changed in session.replay.replay(Steering(tap, directions, maps), {}, None):
        place = sampling.place(sample, box)
        if logits is None:
            labels[place] = best_label(changed)
        else:
            boxes.append(place)
            logits[(sample, slice(None), *box)] = changed
    if boxes:
        labels[union(boxes)] = session.labels_of(logits, union(boxes))
    return labels


def _change(session: Session, after: np.ndarray, region: str, support: np.ndarray) -> tuple[float, float, float]:
    """mL that entered or left the region; of the changed voxels the share that did, and the share in the support."""
    changed = after != session.labels
    target = region_mask(after, region) != region_mask(session.labels, region)
    n = int(changed.sum())
    shares = [float((changed & part).sum() / n) if n else float("nan") for part in (target, support)]
    return float(target.sum()) * session.conformed.voxel_ml, *shares


def selectivity(effects: list[EditEffect], directions: int = 1) -> dict | None:
    """Medians over the edits, and the share of edits that move more of the region than any of the random pushes beside
    them; `by_chance`, that share of one random push more beside so many `directions`, is its null."""
    if not effects:
        return None

    def median(name: str) -> float | None:
        values = np.array([getattr(e, name) for e in effects])
        values = values[np.isfinite(values)]
        return float(np.median(values)) if len(values) else None

    names = ("moved_ml", "target_share", "support_share", "random_moved_ml", "random_target_share")
    beats = float(np.mean([e.moved_ml > e.random_most_ml for e in effects]))
    shares = {"beats_random": beats, "directions": directions, "by_chance": 1 / (1 + directions)}
    return {n: median(n) for n in names} | shares | {"edits": [vars(e) for e in effects]}


def substituted(session: Session, tap: str, other: Lens, latents: Sequence[int], say: Progress, most: int = 3) -> list:
    """For the first few latents: voxels whose label changes when the latent is removed, and when its partner of the
    other seed takes its place (see `stability.substitution`); full passes of the case."""
    lens, other = session.lenses[tap], other.to(session.engine.device)
    some: list[torch.Tensor] = []

    def note(x: torch.Tensor) -> torch.Tensor:
        some.append(x[:: max(len(x) // 500, 1)])
        return x

    labels_with(session, tap, note)
    match = substitution(lens.to("cpu"), other.to("cpu"), torch.cat(some).cpu())
    latents = [j for j in dict.fromkeys(latents) if match.partner[j] >= 0][:most]
    found = []
    for i, j in enumerate(latents):
        say("replacing latents by their partners", i / len(latents))
        partner, scale = int(match.partner[j]), float(match.scale[j])

        def replaced(x, j=j, partner=partner, scale=scale):
            without = x - lens.encode(x)[:, j : j + 1] * lens.W_dec[j]
            return without + scale * other.encode(x)[:, partner : partner + 1] * other.W_dec[partner]

        removed = session.edit(suppress(session, tap, j)).labels != session.labels
        instead = labels_with(session, tap, replaced) != session.labels
        found.append(
            {
                "latent": j,
                "partner": partner,
                "cosine": float(lens.W_dec[j] @ other.W_dec[partner]),
                "removed_ml": float(removed.sum()) * session.conformed.voxel_ml,
                "replaced_ml": float(instead.sum()) * session.conformed.voxel_ml,
            }
        )
    return found


def _lens_facts(lens: Lens) -> dict:
    training = lens.metadata.get("training") or {}
    return {
        "latents": lens.d_sae,
        "channels": lens.d_in,
        "k": lens.k,
        "steps": training.get("steps"),
        "seed": training.get("seed"),
        "seconds": training.get("seconds"),
    }


def _plain(value):
    """JSON has no nan: what could not be measured is None."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
