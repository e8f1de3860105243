import sys
from pathlib import Path

import pytest

pytest.importorskip("slicer", reason="needs slicer-core: pip install medseglens[host]")
pytest.importorskip("PySide6", reason="needs PySide6: pip install medseglens[host]")

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # Testing, where slicerhost lies
from slicerhost.fixture import host  # noqa: E402, F401

SAMPLE = Path(__file__).parent / "SampleModule" / "SampleModule.py"


@pytest.fixture
def sample(host):  # noqa: F811
    """The sample module's widget, loaded with one volume "brain" in the scene and shown."""
    import numpy as np
    import slicer

    slicer.util.addVolumeFromArray(np.arange(60, dtype=np.float32).reshape(3, 4, 5) * 10, None, "brain")
    widget = host.load_module(SAMPLE)
    host.show()
    return widget
