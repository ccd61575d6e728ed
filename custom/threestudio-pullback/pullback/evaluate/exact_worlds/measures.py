"""The figures of a scene world's table, from its judge's verdicts."""

from __future__ import annotations

import statistics as middle
from typing import Any

import torch
from torch import Tensor

from . import statistics


def of_scenes(rows: list[dict[str, Any]], labels: list[dict[str, Any]], weights: Tensor) -> dict[str, Any]:
    """The measures of one method, by column of the table.

    A blend counts as the scene nearest to it. χ² and total variation (TV) compare the scenes, and each attribute that
    has names, with the weights; Kolmogorov–Smirnov (KS) compares each attribute that has numbers. "distinct, perfect"
    is what a perfect sampler has on average (and in 95 % of cases) at as many samples. "symmetric" is the share of
    scenes with one colour on both sides.

    Args:
        rows: Verdicts of SceneWorld.judge.
        labels: The attributes of every scene.
        weights: The weight of every scene [M].
    """
    count, rms = len(rows), sorted(row["rms"] for row in rows)
    scenes = torch.tensor([row["scene"] for row in rows])
    counts = torch.bincount(scenes, minlength=len(labels))
    low, high = statistics.distinct_band(count, weights)
    measures: dict[str, Any] = {
        "samples": count,
        "blends": sum(row["blend"] for row in rows),
        "consistent": sum(row["consistent"] for row in rows),
        "rms median": middle.median(rms),
        "rms max": rms[-1],
        "distinct": int((counts > 0).sum()),
        "distinct, perfect": f"{statistics.expected_distinct(count, weights):.1f} ({low}–{high})",
        "scenes χ² p": statistics.chi_square(counts, weights).p,
        "scenes TV": statistics.total_variation(counts, weights),
    }
    for key in labels[0]:
        values = [label[key] for label in labels]
        if isinstance(values[0], str):
            names = list(dict.fromkeys(values))
            if len(names) == 1:
                continue
            member = torch.tensor([[value == name for value in values] for name in names]).double()
            shares, right = member @ counts.double(), member @ weights.double()
            measures[f"{key} shares"] = " ".join(
                f"{name} {share:.2f}" for name, share in zip(names, shares / count, strict=True)
            )
            measures[f"{key} χ² p"] = statistics.chi_square(shares, right).p
            measures[f"{key} TV"] = statistics.total_variation(shares, right)
        else:
            low, high = min(values), max(values)
            edge = (high - low) / (len(values) - 1) / 2  # the values stand in the middle of equal cells
            spread = torch.tensor([(values[i] - low + edge) / (high - low + 2 * edge) for i in scenes.tolist()])
            measures[f"{key} KS p"] = statistics.kolmogorov_smirnov(spread)[1]
    if "front" in labels[0]:
        same = [labels[i]["front"] == labels[i]["back"] for i in scenes.tolist()]
        measures["symmetric"] = sum(same) / count
    return measures
