"""The figures that are drawn from kept results."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pullback.errors import UserError
from pullback.output import chart

_spec = importlib.util.spec_from_file_location("figures", Path(__file__).parents[1] / "experiments" / "figures.py")
assert _spec is not None and _spec.loader is not None
figures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(figures)


@pytest.fixture
def folder(tmp_path):
    def row(seed, scene, blend):
        return {"world": "shapes", "method": "sds", "seed": seed, "judged": {"scene": scene, "blend": blend}}

    rows = [row(seed, seed % 4, seed >= 12) for seed in range(16)]
    failed = {"world": "shapes", "method": "sds", "seed": 16, "failed": "infinite"}
    (tmp_path / "worlds.json").write_text(json.dumps({"settings": {}, "rows": [*rows, failed]}))
    return tmp_path


def test_a_histogram_shows_shares_and_blends(folder):
    figures.histogram("shapes", [("SDS", folder, "sds")], folder / "made" / "histogram.png")
    with Image.open(folder / "made" / "histogram.png") as picture:
        columns = [[picture.getpixel((40 * k + 20, y)) for y in range(18, 108)] for k in range(16)]
    for k, column in enumerate(columns):
        blue, red = column.count(chart.BAR), column.count(chart.MARK)
        if k < 4:  # 4 of 16 samples each, one of them a blend: the highest bars there are
            assert blue + red >= 88 and red / (blue + red) == pytest.approx(1 / 4, abs=0.03)
        else:
            assert blue + red <= 1


def test_a_histogram_of_nothing_is_refused_in_a_sentence(folder):
    with pytest.raises(UserError, match="it has 'sds'"):
        figures.rows_of(folder, "shapes", "sjc")
    with pytest.raises(UserError, match="does not exist"):
        figures.rows_of(folder / "elsewhere", "shapes", "sds")
    with pytest.raises(UserError, match="two-tone"):
        figures.histogram("rings", [("SDS", folder, "sds")], folder / "histogram.png")


@pytest.mark.parametrize("log", [False, True])
def test_a_curve_is_drawn_where_its_points_are(tmp_path, monkeypatch, log):
    """The second curve has one tenth of the first one's values, and the first an interval at its last point."""
    first = [(1, 1.0, 1.0, 1.0), (10, 1.0, 1.0, 1.0), (100, 1.0, 0.5, 1.5)]
    curves = {"first": first, "second": [(x, y / 10) for x, y, *_ in first]}
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)  # other tests' packages import it
    chart.lines(tmp_path / "chart.png", [chart.Panel("both", "x", curves)], log)
    with Image.open(tmp_path / "chart.png") as picture:
        assert picture.mode == "RGB" and "matplotlib.pyplot" not in sys.modules
        pixels = np.asarray(picture).astype(int)
    places = []
    for colour, _ in chart.STYLES[:2]:
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        y, x = np.nonzero((pixels == rgb).all(-1))
        below = y > 120  # the legend is above
        places.append((x[below], y[below]))
    (x, y), (_, lower) = places
    level, tenth = np.median(y), np.median(lower)
    assert level < tenth
    reach = [
        np.ptp(y[(x > left) & (x <= right)]) for left, right in ((x.min() + 12, x.max() - 12), (x.max() - 12, 9999))
    ]
    assert reach[0] <= 20 < 100 < reach[1]
    # half up and half down are alike on a straight axis; on a logarithmic one a half is farther than three halves
    up, down = level - y.min(), y.max() - level
    wanted = np.log(2) / np.log(1.5) if log else 1.0
    assert down / up == pytest.approx(wanted, rel=0.05)


def test_more_curves_than_styles_are_refused(tmp_path):
    curves = {str(i): [(1, 1)] for i in range(len(chart.STYLES) + 1)}
    with pytest.raises(ValueError, match="shorter"):
        chart.lines(tmp_path / "chart.png", [chart.Panel("", "", curves)])
