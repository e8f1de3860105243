"""The catalogue of a pack from a cohort: evidence case after case, names from it, and names tested on unseen cases."""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from MedSegLensLib.cases.case import Case
from MedSegLensLib.editing.code_histograms import CodeBins
from MedSegLensLib.editing.evidence import SHARES as TISSUES
from MedSegLensLib.editing.evidence import Evidence
from MedSegLensLib.editing.influence import attribute_log_odds
from MedSegLensLib.editing.name_tests import Firing, effect_by_class, intervened, predicted
from MedSegLensLib.editing.session import Session
from MedSegLensLib.editing.strongest_places import strongest_places
from MedSegLensLib.editing.token_facts import CaseFacts, TokenFacts
from MedSegLensLib.errors import CaseError
from MedSegLensLib.lenses.stable import STABLE
from MedSegLensLib.packs import naming
from MedSegLensLib.packs.catalogue import catalogue_table
from MedSegLensLib.packs.pack import LensPack

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["TISSUES", "Cataloguing", "Summary", "catalogue_table_of", "summary_of"]

INFLUENCE_CASES = 20
INTERVENTIONS = 24
INTERVENTION_CASES = 2
REGION_NAMES = ("WT", "TC", "ET")
SUMMARY_KEY = b"medseglens_catalogue"
GOOD = 0.75
"""Balanced accuracy from which a name is said to predict firing (issue C)."""

Progress = Callable[[str, float], None]


@dataclass
class Summary:
    """What was found at one tap; shares are of the latents that fire. None: nothing to measure it on.

    predicted: of the names that could be tested on unseen cases; predicting: those at a balanced accuracy of at least
    0.75; null_*: the same of names shuffled among the named latents.
    """

    tap: str
    latents: int
    fires: int
    stable: int | None
    named: int
    predicted: int = 0
    accuracy: float | None = None
    null_accuracy: float | None = None
    predicting: int | None = None
    null_predicting: int | None = None
    intervened: int = 0
    intervention: float | None = None


def catalogue_table_of(
    pack: LensPack,
    cases: Iterable[Case],
    unseen_cases: Iterable[Case] = (),
    progress: Progress | None = None,
    **options,
) -> "pa.Table":
    """The catalogue of every lens of a pack (columns: `packs.catalogue.CATALOGUE_SCHEMA`).

    cases: those it is made from; one is in memory at a time. unseen_cases: labelled cases that neither the pack nor the
    names were made from, for the two scores of names. options: of `Cataloguing`. What was found is kept in the table's
    metadata, see `summary_of`.

    Raises CaseError where no case has labels, or an unseen one has none.
    """
    work = Cataloguing(pack, progress=progress, **options)
    for case in cases:
        work.add(case)
    work.name()
    for case in unseen_cases:
        work.test(case)
    return work.table()


def summary_of(table: "pa.Table") -> list[Summary]:
    """What the cataloguing found, by tap; empty where the table does not say."""
    found = (table.schema.metadata or {}).get(SUMMARY_KEY)
    return [Summary(**one) for one in json.loads(found)] if found else []


@dataclass
class Cataloguing:
    """The work, case after case: `add` each case, `name` once, `test` each unseen case, then `table`.

    influence_cases: influence on regions is measured on the first this many cases. interventions: how many named
    latents of each lens are suppressed on each of the first `INTERVENTION_CASES` unseen cases, most influential first.
    atlas: tissue labels, see `editing.tissues`. assume_stable: name latents whose stability is not known (for work on
    the rules; never for a pack). seconds: what each case cost, by step.
    """

    pack: LensPack
    device: str | None = None
    progress: Progress | None = None
    influence_cases: int = INFLUENCE_CASES
    interventions: int = INTERVENTIONS
    atlas: sitk.Image | None = None
    assume_stable: bool = False
    evidence: dict[str, Evidence] = field(default_factory=dict)
    names: dict[str, list[naming.Name]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self):
        self._engine = None
        self._labelled = self._cases = self._tested = 0
        self._firing: dict[str, Firing] = {}
        self._effects: dict[str, dict[int, np.ndarray]] = {tap: {} for tap in self.pack.taps}

    def add(self, case: Case) -> None:
        """Take a case's evidence. Without labels it tells how latents fire, and nothing of regions and names."""
        seconds: dict[str, float] = {}
        with _timed(seconds, "segment"):
            session = self._session(case)
        with _timed(seconds, "facts"):
            facts, expert = self._facts(session, case)
        if expert is None:
            self.notes.append(f"{case.name} has no labels: it tells nothing of regions, borders and names.")
        elif not all(all(f.present) and (f.classes >= 0).any() for f in facts.values()):
            self.notes.append(f"{case.name} lacks a modality: it tells nothing of names.")
        self._cases += 1
        self._labelled += expert is not None
        for i, (tap, codes) in enumerate(session.codes.items()):
            self._say(f"counting {case.name}", i / len(session.codes))
            if tap not in self.evidence:
                largest = float(codes.values.max(initial=0.0))
                threshold = session.lenses[tap].threshold.cpu().numpy()
                self.evidence[tap] = Evidence(CodeBins.of(threshold, largest))
            with _timed(seconds, "count"):
                ml = session.conformed.voxel_ml * session.labels.size / codes.n_tokens
                self.evidence[tap].add(codes, facts[tap], ml)
            with _timed(seconds, "examples"):
                spacing = session.conformed.reference.GetSpacing()[2]
                self.evidence[tap].add_examples(case.name, strongest_places(session, tap), spacing)
            if self._cases <= self.influence_cases:
                with _timed(seconds, "influence"):
                    changes = attribute_log_odds(session, tap, REGION_NAMES, self.progress)
                for region, change in changes.items():
                    self.evidence[tap].add_influence(REGION_NAMES.index(region), change)
        self.seconds.append(seconds)

    def name(self) -> None:
        """Name the latents from the evidence. Raises CaseError where no case had labels."""
        if not self._labelled:
            remedy = "Add the segmentation of at least one to its folder."
            raise CaseError("cases", "none has labels, so latents cannot be told by region.", remedy)
        for tap, evidence in self.evidence.items():
            self._say("naming", 0.0)
            self.names[tap] = naming.names_of(self._evidence_of_names(tap, evidence))
            self._firing[tap] = Firing.of(evidence.strong_from())

    def test(self, case: Case) -> None:
        """Put the names to one unseen case. Raises CaseError for a case without labels."""
        if case.labels is None:
            raise CaseError(case.name, "has no labels to test names on.", "Add its segmentation, or leave it out.")
        session = self._session(case)
        facts, _ = self._facts(session, case)
        self._tested += 1
        for tap, codes in session.codes.items():
            self._firing[tap].add(codes, facts[tap])
            if self._tested > INTERVENTION_CASES:
                continue
            chosen = self._to_suppress(tap, codes.summary().count)
            for i, latent in enumerate(chosen):
                self._say("suppressing named latents", i / len(chosen))
                effect = effect_by_class(session, tap, latent, facts[tap])
                # Each case counts alike, however strongly the latent fires on it.
                if effect.sum() > 0:
                    sums = self._effects[tap]
                    sums[latent] = sums.get(latent, 0.0) + effect / effect.sum()

    def table(self) -> "pa.Table":
        """The catalogue."""
        rows, summaries = [], []
        for tap, evidence in self.evidence.items():
            decoder, stability = self._decoder(tap), self._stability(tap)
            of_tap = evidence.rows(tap, decoder, stability)
            names = self.names[tap]
            named = [j for j, name in enumerate(names) if name.rule is not None]
            masks = {j: naming.holds(names[j].rule) for j in named}
            own, null = predicted(self._firing[tap], named, np.array([masks[j] for j in named]))
            effects = intervened(self._effects[tap], masks)
            for row, name in zip(of_tap, names, strict=True):
                row |= {"name": name.words, "name_score": name.score, "name_evidence": name.evidence}
                if name.rule is not None:
                    row["name_rule"] = name.rule_json
            for j, value in zip(named, own, strict=True):
                if np.isfinite(value):
                    of_tap[j]["name_prediction"] = float(value)
            for j, value in effects.items():
                of_tap[j]["name_intervention"] = value
            rows += of_tap
            tested = np.isfinite(own)
            summary = Summary(
                tap,
                len(names),
                int(np.count_nonzero(evidence.count)),
                None if stability is None else int(np.count_nonzero(stability >= STABLE)),
                len(named),
                int(tested.sum()),
            )
            if tested.any():
                summary.accuracy, summary.predicting = float(np.mean(own[tested])), int((own[tested] >= GOOD).sum())
            against = tested & np.isfinite(null)
            if against.any():
                summary.null_accuracy = float(np.mean(null[against]))
                summary.null_predicting = int((null[against] >= GOOD).sum())
            if effects:
                summary.intervened, summary.intervention = len(effects), float(np.mean(list(effects.values())))
            summaries.append(summary)
        table = catalogue_table(rows)
        found = json.dumps([asdict(summary) for summary in summaries])
        return table.replace_schema_metadata({**(table.schema.metadata or {}), SUMMARY_KEY: found})

    # -- parts ------------------------------------------------------------------------------------------------------

    def _say(self, stage: str, share: float) -> None:
        if self.progress:
            self.progress(stage, share)

    def _session(self, case: Case) -> Session:
        session = Session(case, self.pack, self.device, self._engine, self.progress)
        self._engine = session.engine
        return session

    def _facts(self, session: Session, case: Case) -> tuple[dict[str, TokenFacts], np.ndarray | None]:
        self._say(f"looking at {case.name}", 0.0)
        expert = session.conformed.labels(case.labels) if case.labels is not None else None
        facts = CaseFacts(session.conformed, self.pack.input_spec().modalities, expert, session.labels, self.atlas)
        return {
            tap: facts.at(session.sampling, codes.grid[1:], session.brain_tokens[tap])
            for tap, codes in session.codes.items()
        }, expert

    def _evidence_of_names(self, tap: str, evidence: Evidence) -> list[naming.Evidence]:
        effective, cases, lateral = evidence.effective_tokens(), evidence.effective_cases(), evidence.laterality()
        measured, intensity = evidence.auroc_of_parts(), evidence.intensity()
        stability = self._stability(tap)
        if stability is None and self.assume_stable:
            stability = np.ones(evidence.n_latents)
        return [
            naming.Evidence(
                evidence.energy[j],
                evidence.classes,
                float(effective[j]),
                int(evidence.labelled_cases[j]),
                float(cases[j]),
                None if stability is None else float(stability[j]),
                float(lateral[j]) if np.isfinite(lateral[j]) else None,
                _in_words({name: values[j] for name, values in measured.items()}, intensity[j]),
            )
            for j in range(evidence.n_latents)
        ]

    def _stability(self, tap: str) -> np.ndarray | None:
        """Worst decoder cosine over the other seeds, as recorded with the lens; None for fewer than two of them."""
        recorded = self.pack.lens(tap).metadata.get("stability", {})
        known = recorded.get("decoder_cosine")
        if known is None or len(known) != self.pack.lens_info(tap).d_sae or len(recorded.get("seeds") or ()) < 2:
            return None
        return np.array(known, np.float32)

    def _decoder(self, tap: str) -> np.ndarray:
        return self.pack.lens(tap).W_dec.float().cpu().numpy()

    def _to_suppress(self, tap: str, count: np.ndarray) -> list[int]:
        """The named latents that fire on this case, most influential first, those already suppressed before others."""
        evidence = self.evidence[tap]
        size = np.abs(evidence.influence / np.maximum(evidence.influence_cases, 1)).max(1)
        named = [j for j, name in enumerate(self.names[tap]) if name.rule is not None and count[j]]
        named.sort(key=lambda j: (j not in self._effects[tap], -size[j]))
        return named[: self.interventions]


class _timed:
    def __init__(self, seconds: dict[str, float], step: str):
        self.seconds, self.step = seconds, step

    def __enter__(self):
        self.started = time.perf_counter()

    def __exit__(self, *_):
        self.seconds[self.step] = self.seconds.get(self.step, 0.0) + time.perf_counter() - self.started


def _in_words(measured: dict[str, float], intensity: np.ndarray) -> str:
    """The best region's AUROC, and the modality that it stands out in most."""
    aurocs = {n.removeprefix("auroc_").upper(): v for n, v in measured.items() if n[0] == "a" and np.isfinite(v)}
    parts = []
    if aurocs:
        region = max(aurocs, key=lambda r: aurocs[r])
        parts.append(f"AUROC {aurocs[region]:.2f} for {region}")
    if np.isfinite(intensity).any():
        i = int(np.nanargmax(np.abs(intensity)))
        parts.append(f"{naming.SHORT[naming.MODALITIES[i]]} {intensity[i]:+.1f} sd")
    return ", ".join(parts)
