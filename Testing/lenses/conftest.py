"""Fixtures of the lens room."""

import pytest
from lens_samples import random_lens

from MedSegLensLib.lenses.lens import Lens


@pytest.fixture
def lens() -> Lens:
    return random_lens()
