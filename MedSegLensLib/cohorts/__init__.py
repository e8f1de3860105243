"""Cohorts: sets of cases with a name and a source; making them, and working over them."""
