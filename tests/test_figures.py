"""The figures that are drawn from kept results."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from PIL import Image
from pullback.errors import UserError
from pullback.evaluate.exact_worlds import pictures

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
        blue, red = column.count(pictures.BAR), column.count(pictures.MARK)
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
