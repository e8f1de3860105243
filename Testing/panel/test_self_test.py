"""The module's own test, which Slicer runs with Reload and Test, and the logic used from a script."""

import pytest
import slicer


@pytest.mark.slow
def test_reload_and_test_passes(host, widget):
    slicer.selfTests["MedSegLens"](msec=0)
    host.raise_errors()


def test_the_logic_segments_without_a_widget(host, widget, tiny_pack):
    from phantoms import SMALL

    import MedSegLens
    from MedSegLensLib.panel.study_files import addPhantom
    from MedSegLensLib.scene.study import guess_modalities

    logic = MedSegLens.MedSegLensLogic()
    volumes = guess_modalities(addPhantom(1, **SMALL).volumes)
    node = logic.process(volumes, tiny_pack)
    assert node.GetSegmentation().GetNumberOfSegments() >= 3
    logic.release()
