"""What `pullback evaluate images` has made: rows in OUT/images.json and pictures in OUT/samples."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import UserError
from ..campaign import write_json
from .samples import Settings


def file_of(out: Path, method: str, scale: float, numbers: range) -> Path:
    """Where a task's pictures lie."""
    return out / "samples" / f"{method}-{scale:g}-{numbers.start}-{len(numbers)}.safetensors"


class Results:
    """The rows of a folder, in OUT/images.json, and their pictures beside it.

    Raises UserError where the folder holds results of another model, seed or other settings.
    """

    def __init__(self, out: Path, path: str, settings: Settings, seed: int):
        self.out, self.file = out, out / "images.json"
        same = {"model": Path(path).name, "seed": seed, "settings": dataclasses.asdict(settings)}
        saved = json.loads(self.file.read_text()) if self.file.exists() else {**same, "rows": []}
        for key, value in same.items():
            if saved[key] != value:
                raise UserError(
                    f"--out {out} holds results with {key} {saved[key]}, not {value}; choose another folder."
                )
        self.saved: dict[str, Any] = saved
        self.rows: list[dict[str, Any]] = saved["rows"]
        self.settings, self.seed = settings, seed

    def has(self, method: str, scale: float, numbers: range) -> bool:
        """Whether the task is done."""
        key = (method, scale, numbers.start, len(numbers))
        found = any((r["method"], r["scale"], r["start"], r["count"]) == key for r in self.rows)
        return found and file_of(self.out, method, scale, numbers).exists()

    def add(self, row: dict[str, Any]) -> None:
        """Keeps a row."""
        self.rows.append(row)
        write_json(self.file, self.saved)

    def of(self, method: str, scale: float) -> list[dict[str, Any]]:
        """The rows of a method at a scale, by their samples' numbers.

        A folder that was begun with fewer samples has a short last batch, and later the whole one too.
        """
        mine = (row for row in self.rows if (row["method"], row["scale"]) == (method, scale))
        longest = {row["start"]: row for row in sorted(mine, key=lambda row: (row["start"], row["count"]))}
        return list(longest.values())

    def pictures(self, method: str, scale: float, name: str = "pictures") -> Tensor:
        """All of a method's pictures at a scale, sample 0 first; empty where there are none."""
        from safetensors.torch import load_file

        parts = [
            load_file(file_of(self.out, method, scale, range(r["start"], r["start"] + r["count"])))[name]
            for r in self.of(method, scale)
        ]
        return torch.cat(parts) if parts else torch.empty(0)
