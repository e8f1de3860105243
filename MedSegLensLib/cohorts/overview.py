"""What a cohort is, in numbers and in lines that a person reads."""

import statistics
from collections import Counter

from MedSegLensLib.cases.case import MODALITIES
from MedSegLensLib.cohorts.cohort import Cohort

MOST_VALUES = 6
"""Of a fact in words the most frequent values are listed; of more different ones, only their number."""


def overview(cohort: Cohort) -> dict:
    """Counts, modalities and a summary of each fact, as JSON takes them."""
    return {
        "name": cohort.name,
        "source": cohort.source,
        "licence": cohort.licence,
        "cases": len(cohort.cases),
        "subjects": len(cohort.subjects),
        "labelled": sum(case.labelled for case in cohort.cases),
        "healthy": sum(case.healthy for case in cohort.cases),
        "simulated": cohort.simulated,
        "invented": cohort.invented,
        "modalities": list(cohort.modalities),
        "modality_counts": {m: sum(m in case.modalities for case in cohort.cases) for m in MODALITIES},
        "facts": {fact: _summary(cohort, fact) for fact in _facts(cohort)},
        "notes": list(cohort.notes),
    }


def counted(number: int, what: str) -> str:
    """'1 case', '2 cases'."""
    return f"{number} {what}{'s' * (number != 1)}"


def overview_lines(cohort: Cohort) -> list[str]:
    facts = overview(cohort)
    kind = " ".join(word for word in ("simulated", "invented") if facts[word])
    number = f"{counted(facts['cases'], 'case')} of {counted(facts['subjects'], 'subject')}"
    lines = [
        f"{cohort.name}: {number}" + (f" ({kind})" if kind else ""),
        f"  source      {cohort.source}",
        f"  licence     {cohort.licence}",
        f"  modalities  {', '.join(cohort.modalities) or 'none that every case has'}"
        + "".join(
            f"; {m} in {n} of {facts['cases']}" for m, n in facts["modality_counts"].items() if 0 < n < facts["cases"]
        ),
        f"  labels      {facts['labelled']} of {facts['cases']}"
        + (f", {facts['healthy']} of them known to be healthy" if facts["healthy"] else ""),
    ]
    width = max((11, *map(len, facts["facts"])))
    lines += [f"  {name:<{width}} {_in_words(fact)}" for name, fact in facts["facts"].items()]
    return [*lines, *(f"  note: {note}" for note in cohort.notes)]


def _facts(cohort: Cohort) -> list[str]:
    return list(dict.fromkeys(name for case in cohort.cases for name in case.facts))


def _summary(cohort: Cohort, name: str) -> dict:
    values = [case.facts.get(name) for case in cohort.cases]
    known = [value for value in values if value is not None]
    summary: dict = {"unknown": len(values) - len(known)}
    if known and all(isinstance(value, int | float) for value in known):
        return summary | {"median": statistics.median(known), "least": min(known), "most": max(known)}
    counts = Counter(str(value) for value in known).most_common()
    return summary | {"different": len(counts), "values": dict(counts[:MOST_VALUES])}


def _in_words(fact: dict) -> str:
    if "median" in fact:
        said = f"median {fact['median']:g} ({fact['least']:g} to {fact['most']:g})"
        said = f"{fact['median']:g}" if fact["least"] == fact["most"] else said
    elif fact["different"] > MOST_VALUES:
        said = f"{fact['different']} different values"
    else:
        said = ", ".join(f"{value} ({count})" for value, count in fact["values"].items())
    return said + (f"; unknown in {fact['unknown']}" if fact["unknown"] else "")
