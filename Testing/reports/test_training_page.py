"""The page of a training: curves that follow the log, and names that cannot break out of it."""

import re

from MedSegLensLib.reports.training_page import CURVES, training_page, write_training_page


def metadata(steps=5, name="held-out case: x"):
    log = [
        {"step": 10 * i, "loss": 1 / (i + 1), "l0": 8.0, "dead_share": 0.0, "explained_variance": i / steps}
        for i in range(steps)
    ]
    held_out = {"explained_variance": 0.91234, "explained_variance_by": {"lesion": None}, "l0": 8.0, "dead_share": 0.02}
    training = {"width": 64, "k": 8, "seed": 3, "steps": 50, "tokens_per_second": 1234}
    return {"log": log, "held_out": held_out, "training": training, "held_out_tokens": name}


def test_each_lens_has_a_line_in_each_chart_and_a_row_in_the_table():
    page = training_page([("a", metadata()), ("b", metadata(8))])
    assert page.count("<polyline") == 2 * len(CURVES) and page.count("<tr>") == 3
    assert "0.9123" in page and "1234" in page and "Training of 2 lenses" in page
    rising = re.search(r'points="([^"]+)"', page).group(1).split()
    heights = [float(point.split(",")[1]) for point in rising]
    assert len(rising) == 5 and heights == sorted(heights, reverse=True)  # SVG counts downwards


def test_the_page_is_whole_without_a_net_and_what_it_names_stays_text(tmp_path):
    write_training_page([("<script>alert(1)</script>", metadata(1, "<b>"))], tmp_path / "training.html")
    page = (tmp_path / "training.html").read_text(encoding="utf-8")
    assert "<script" not in page and "<b>" not in page and "http" not in page and ">nan<" not in page
    assert "Nothing was logged" in training_page([("empty", {"log": []})])
