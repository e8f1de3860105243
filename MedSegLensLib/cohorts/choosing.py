"""A part of a cohort: by name, by what a case has, or by its facts."""

import operator
import re
from collections.abc import Sequence
from dataclasses import replace

from MedSegLensLib.cases.case import MODALITIES
from MedSegLensLib.cohorts.checks import labelled_part
from MedSegLensLib.cohorts.cohort import Cohort, CohortCase
from MedSegLensLib.cohorts.found import several
from MedSegLensLib.errors import CaseError, UsageError

CONDITION = re.compile(r"\s*([^<>=!]+?)\s*(<=|>=|!=|<|>|=)\s*(.+?)\s*")
COMPARE = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "!=": operator.ne,
}


def chosen(
    cohort: Cohort,
    *,
    only: Sequence[str] = (),
    where: Sequence[str] = (),
    require: Sequence[str] = (),
    labelled: bool = False,
    limit: int | None = None,
) -> Cohort:
    """The cohort with only the cases that fulfil all of it; its notes say what was left out.

    only: names. where: conditions on facts, such as 'age<18' or 'site=north'; a case whose fact is unknown does not
    fulfil one. require: modalities. labelled: with labels. limit: the first so many of what is left.

    Raises UsageError for a name, fact or modality that the cohort does not have, CaseError where no case is left.
    """
    if only:
        cohort = cohort.of(only)
    for condition in where:
        cohort = _kept(cohort, [case for case in cohort.cases if _holds(cohort, condition, case)], condition)
    if strange := [m for m in require if m not in MODALITIES]:
        raise UsageError(strange[0], "is not a modality.", f"Modalities are {', '.join(MODALITIES)}.")
    if require:
        having = [case for case in cohort.cases if set(require) <= set(case.modalities)]
        cohort = _kept(cohort, having, f"having {', '.join(require)}")
    if labelled:
        cohort, notes = labelled_part(cohort, "as was asked for")
        cohort = replace(cohort, notes=(*cohort.notes, *notes))
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit}", "leaves no case.", "Give 1 or more.")
    if limit is not None and limit < len(cohort.cases):
        note = f"The first {limit} of {len(cohort.cases)} cases."
        cohort = replace(cohort, cases=cohort.cases[:limit], notes=(*cohort.notes, note))
    return cohort


def _kept(cohort: Cohort, cases: list[CohortCase], condition: str) -> Cohort:
    if not cases:
        raise CaseError(f"cohort {cohort.name}", f"no case fulfils '{condition}'.", "Ask for less.")
    names = {case.name for case in cases}
    left = [case.name for case in cohort.cases if case.name not in names]
    note = (f"Left out, since not {condition}: {several(left)}.",) if left else ()
    return replace(cohort, cases=tuple(cases), notes=(*cohort.notes, *note))


def _holds(cohort: Cohort, condition: str, case: CohortCase) -> bool:
    parts = CONDITION.fullmatch(condition)
    if not parts:
        cause = "is no condition on a fact."
        raise UsageError(condition, cause, f"Write it as 'age<18', with one of {' '.join(COMPARE)}.")
    name, sign, wanted = parts.groups()
    known = list(dict.fromkeys(fact for one in cohort.cases for fact in one.facts))
    if name not in known:
        cause = f"the cohort {cohort.name} has no such fact."
        raise UsageError(name, cause, f"Its facts are: {', '.join(known) or 'none'}.")
    value = case.facts.get(name)
    if value is None:
        return False
    if isinstance(value, str):
        if sign not in ("=", "!="):
            cause = f"{name} is no number in {case.name} ({value!r})."
            raise UsageError(condition, cause, "Compare it by = or !=.")
        return COMPARE[sign](value, wanted)
    try:
        return COMPARE[sign](float(value), float(wanted))
    except ValueError:
        raise UsageError(condition, f"{name} is a number and {wanted!r} is none.", "Compare it to a number.") from None
