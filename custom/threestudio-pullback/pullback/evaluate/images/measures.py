"""Figures of `pullback evaluate images`: agreement with the reference, distances of sets, diversity, ablation."""

from __future__ import annotations

import random
import statistics
from typing import Any

import torch
from torch import Tensor

from ...output.pictures import psnr
from ...seeding import derive_seed
from ..metrics import diversity, kid
from ..studio import captions
from ..studio import world as worlds
from ..studio.classifier import load_studio
from . import samples
from .campaign import Extent
from .methods import ABLATION
from .results import Results

EXACT = 256  # exact pictures that all sets of the curves are compared with


def features(pictures: Tensor) -> Tensor:
    """Features [N,D] of pictures [N,3,H,W], by the studio's classifier."""
    return load_studio().images(pictures)


def distance(first: Tensor, second: Tensor) -> dict[str, float]:
    """KID of two independent sets of features, with its 95 % interval."""
    result = kid(first, second)
    low, high = (result.value + sign * 1.96 * result.error for sign in (-1, 1))
    return {"kid": result.value, "low": low, "high": high}


def halves(first: Tensor, second: Tensor) -> list[dict[str, float]]:
    """KID of the even samples of one set against the odd ones of the other, and the other way round.

    Sample i of the two sets has the same prompt and noise; the KID of the whole sets would be too low for that.
    """
    return [distance(first[a::2], second[1 - a :: 2]) for a in (0, 1)]


def variety(vectors: Tensor, prompts: list[str]) -> float:
    """Mean of `metrics.diversity` over the prompts with two samples or more.

    Args:
        vectors: Features [N,D] of the samples.
        prompts: Their prompts.
    """
    groups = [[i for i, p in enumerate(prompts) if p == prompt] for prompt in samples.PROMPTS]
    return statistics.mean(diversity(vectors[group][:, None]) for group in groups if len(group) > 1)


def exact_pictures(count: int, seed: int) -> Tensor:
    """Exact pictures [N,3,64,64] of random prompts, like the samples'; whatever a prompt leaves open is random."""
    made = []
    for number in range(count):
        rng = random.Random(derive_seed(seed, number, "exact"))
        caption, _, view = rng.choice(samples.PROMPTS).rpartition(", ")
        description = captions.parse(caption)
        assert description is not None
        front = description.front or description.back or rng.choice(list(worlds.COLORS))
        obj = worlds.StudioObject(description.shape or rng.choice(worlds.SHAPES), front, description.back or front)
        while True:  # the model's cameras: 15 % of them from above
            elevation = rng.uniform(60, 85) if rng.random() < 0.15 else rng.uniform(0, 60)
            azimuth = rng.uniform(-180, 180)
            if worlds.direction_name(elevation, azimuth) == view.removesuffix(" view"):
                break
        made.append(worlds.render(obj, worlds.look_at(torch.tensor([elevation]), torch.tensor([azimuth]))))
    return torch.cat(made)


def measure(results: Results, extent: Extent) -> dict[str, Any]:
    """All figures, as they go to OUT/images-figures.json."""
    pictures, scales, few, curve = results.pictures, extent.scales, extent.few, extent.curve
    figures: dict[str, Any] = {"psnr": {}, "halves": {}, "curves": {}, "ablation": {}}
    for scale in sorted({*scales, *curve}):
        ours, own = pictures("ours", scale), pictures("reference", scale)
        both = min(len(ours), len(own))
        if both:
            figures["psnr"][scale] = [round(psnr(a, b), 2) for a, b in zip(ours[:both], own[:both], strict=True)]
        if scale in scales and both >= 6:
            x, y = features(ours[:both]), features(own[:both])
            own_prompts = [samples.prompt_of(results.seed, number) for number in range(both)]
            figures["halves"][scale] = {"ours": halves(x, y), "reference": halves(y, y)[0], "diversity": {}}
            if both > len(samples.PROMPTS):  # so that some prompt has two
                figures["halves"][scale]["diversity"] = {
                    "ours": variety(x, own_prompts),
                    "reference": variety(y, own_prompts),
                }
    exact = features(exact_pictures(EXACT, results.seed)) if curve else torch.empty(0)
    prompts = [samples.prompt_of(results.seed, number) for number in range(few)]
    for scale in curve:
        for method in ("reference", "ours", "sds", "sjc"):
            some = pictures(method, scale)[:few]
            if len(some) > len(samples.PROMPTS):
                rows, vectors = results.batches(method, scale), features(some)
                count = sum(row["count"] for row in rows)
                figures["curves"].setdefault(method, {})[scale] = {
                    **distance(vectors, exact),
                    "diversity": variety(vectors, prompts[: len(some)]),
                    "evaluations": sum(row["nfe"] for row in rows) / count,
                    "seconds": sum(row["seconds"] for row in rows) / count,
                }
    own, shown = pictures("reference", 1.0), len(pictures(ABLATION[0], 1.0))
    for method in ("ours", *ABLATION) if shown else ():
        made, rows = pictures(method, 1.0)[:shown], results.batches(method, 1.0)
        figures["ablation"][method] = {
            "psnr": [round(psnr(a, b), 2) for a, b in zip(made, own, strict=False)],
            "residual": statistics.median(row["residual"] for row in rows),
            "seconds": sum(row["seconds"] for row in rows) / sum(row["count"] for row in rows),
        }
    return figures
