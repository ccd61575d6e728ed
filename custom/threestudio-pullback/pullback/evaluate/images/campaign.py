"""The tasks of `pullback evaluate images`, and their rows."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...output import whole
from ..studio.model import load
from . import methods
from .results import Results, file_of
from .samples import Settings, batch

BATCH = 16  # samples of one task; prompt, noise and weights of each depend on its number alone
LARGE = 4  # how much larger the large picture of a SIREN is


def run_one(path: str, settings: Settings, seed: int, method: str, scale: float, numbers: range, out: Path) -> Any:
    """Makes one task's pictures, saves them and returns its row; `seconds` is processor time."""
    from safetensors.torch import save

    inputs, start = batch(path, settings, seed, scale, numbers), time.process_time()
    pictures, nfe, extra = methods.METHODS[method](inputs)
    seconds = time.process_time() - start
    tensors = {"pictures": pictures.contiguous()}
    if method == "ours":
        height, width = (LARGE * side for side in inputs.sirens.size)
        with torch.no_grad():
            tensors["large"] = inputs.sirens.images(height, width)[:4].contiguous()
    file = file_of(out, method, scale, numbers.start, len(numbers))
    file.parent.mkdir(parents=True, exist_ok=True)
    whole.write(file, save(tensors))
    return {
        "method": method, "scale": scale, "start": numbers.start, "count": len(numbers),
        "nfe": nfe, "seconds": round(seconds, 2), **extra,
    }  # fmt: skip


@dataclass(frozen=True)
class Extent:
    """How many samples are made at which guidance scales.

    Attributes:
        samples: Samples of ours and of the reference, at each of `scales`.
        few: Samples of every method, at each of `curve`.
        ablated: Samples of each ablation, at guidance 1.
    """

    samples: int
    scales: list[float]
    few: int
    curve: list[float]
    ablated: int


def tasks(extent: Extent) -> list[tuple[str, float, range]]:
    """Method, scale and sample numbers of every task."""
    scales, curve, ablated = extent.scales, extent.curve, extent.ablated
    todo: dict[tuple[str, float, range], None] = {}

    def add(method: str, scale: float, count: int, size: int = BATCH) -> None:
        todo.update({(method, scale, range(i, min(i + size, count))): None for i in range(0, count, size)})

    for scale in scales:
        for method in ("ours", "reference"):
            add(method, scale, extent.samples)
    for method in methods.ABLATION:
        add(method, 1.0, ablated, 1 if method in methods.SINGLE else BATCH)
    if ablated and 1.0 not in (*scales, *curve):
        for method in ("ours", "reference"):
            add(method, 1.0, ablated)
    for scale in curve:
        for method in ("ours", "reference", "sds", "sjc"):
            if not (scale in scales and method in ("ours", "reference")):
                add(method, scale, extent.few)
    return list(todo)


def run(path: str, settings: Settings, seed: int, extent: Extent, out: Path, workers: int) -> Results:
    """Makes the samples that `out` lacks, `workers` tasks at a time."""
    todo = {
        (method, scale, numbers.start, len(numbers)): (path, settings, seed, method, scale, numbers, out)
        for method, scale, numbers in tasks(extent)
    }
    load(path)  # refused here, before a worker starts
    results = Results(out, path, settings, seed)
    results.claimed()
    results.run(run_one, todo, workers, _sentence)
    return results


def _sentence(row: dict[str, Any]) -> str:
    return f"{row['method']} at guidance {row['scale']:g}, samples {row['start']} and on: {row['seconds']:.0f} s"
