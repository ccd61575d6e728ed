"""The results of `pullback evaluate images`: rows in OUT/images.json and pictures in OUT/samples."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import campaign
from .samples import Settings


def file_of(out: Path, method: str, scale: float, start: int, count: int) -> Path:
    """Where a task's pictures lie."""
    return out / "samples" / f"{method}-{scale:g}-{start}-{count}.safetensors"


class Results(campaign.Results):
    """The rows of a folder, but for those whose pictures are missing.

    Raises:
        UserError: The folder has results of another model, seed or other settings.
    """

    def __init__(self, out: Path, path: str, settings: Settings, seed: int) -> None:
        super().__init__(out / "images.json", ("method", "scale", "start", "count"))
        self.match("model", value=Path(path).name)
        self.match("seed", value=seed)
        self.match("settings", value=dataclasses.asdict(settings))
        self.rows = [row for row in self.rows if file_of(out, *self.key_of(row)).exists()]
        self.seed = seed

    def batches(self, method: str, scale: float) -> list[dict[str, Any]]:
        """The rows of a method at a scale, in the order of their samples.

        A folder that was begun with fewer samples has a short last batch, and later the whole one, which counts.
        """
        return list({row["start"]: row for row in self.of(method, scale)}.values())

    def pictures(self, method: str, scale: float, name: str = "pictures") -> Tensor:
        """All of a method's pictures at a scale, sample 0 first; empty where there are none."""
        from safetensors.torch import load_file

        parts = [load_file(file_of(self.out, *self.key_of(row)))[name] for row in self.batches(method, scale)]
        return torch.cat(parts) if parts else torch.empty(0)
