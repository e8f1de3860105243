"""Fixtures of the reports room."""

import pytest
from small_report import small_report

from MedSegLensLib.reports.run_report import RunReport, render_run_report


@pytest.fixture(scope="session")
def report() -> RunReport:
    return small_report()


@pytest.fixture(scope="session")
def page(report) -> str:
    return render_run_report(report)
