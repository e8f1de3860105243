"""A comparison's findings kept where the panel finds them: one file a pack, see `packs.comparisons`."""

import datetime
from pathlib import Path

from MedSegLensLib.diffing.comparison import CohortSide, Comparison, LatentFinding, PackSide
from MedSegLensLib.packs.comparisons import ComparedCohort, PackComparison, PackFinding, PartnerPack, save_comparison

MAX_EVIDENCE, MAX_NOTE = 2000, 2000


def keep_findings(comparison: Comparison, folder: Path | None = None) -> list[Path]:
    """Write the findings into the user's folder of data (or `folder`), one file for each pack that was compared, in
    place of those of an earlier comparison of the same things; the files. Raises OutputError."""
    return [save_comparison(part, folder) for part in pack_comparisons(comparison)]


def pack_comparisons(comparison: Comparison) -> list[PackComparison]:
    """The comparison as far as it is about each pack's own lenses.

    Latents that never fire are left out. Of cohorts with a lens each, nothing is kept: those lenses are in no pack.
    """
    if comparison.kind == "models":
        return [_of_pack(comparison, "a"), _of_pack(comparison, "b")]
    if comparison.findings_of("b"):
        return []
    return [_of_pack(comparison, "a")]


def _of_pack(comparison: Comparison, side: str) -> PackComparison:
    own: PackSide = comparison.pack_of(side)
    if comparison.kind == "models":
        other = comparison.pack_of("b" if side == "a" else "a")
        against, partner = (other.name,), PartnerPack(other.name, other.version, dict(other.lens_hashes))
    else:
        against, partner = (comparison.a.name, comparison.b.name), None
    return PackComparison(
        pack=own.name,
        kind=comparison.kind,
        against=against,
        cohorts=tuple(_cohort(cohort) for cohort in comparison.cohorts),
        partner=partner,
        created=datetime.date.today().isoformat(),
        notes=tuple(note[:MAX_NOTE] for note in comparison.notes),
        findings=tuple(
            _finding(finding, own.lens_hashes[finding.tap])
            for finding in comparison.findings_of(side)
            if finding.category != "never fires" and finding.tap in own.lens_hashes
        ),
    )


def _cohort(cohort: CohortSide) -> ComparedCohort:
    return ComparedCohort(cohort.name, cohort.n_cases, cohort.simulated, cohort.invented)


def _finding(finding: LatentFinding, lens: str) -> PackFinding:
    return PackFinding(
        lens=lens,
        tap=finding.tap,
        latent=finding.latent,
        category=finding.category,
        evidence=finding.evidence[:MAX_EVIDENCE],
        specific_to=finding.specific_to,
        partner_tap=finding.partner_tap,
        partner_latent=finding.partner_latent,
        measure=finding.measure,
        interval=finding.interval,
        null=finding.null,
        p_adjusted=finding.p_adjusted,
    )
