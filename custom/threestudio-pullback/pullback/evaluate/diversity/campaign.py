"""`pullback evaluate diversity`: does it sample with the shipped model, where a prompt leaves something open?"""

from __future__ import annotations

import functools
import json
import re
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ... import models
from ...errors import UserError
from ...output.pictures import save_png
from ...version import commit
from ..campaign import each, told, write_json
from ..prompts import OBJECTS, held_out_cameras
from ..studio import field as studio
from ..studio import naming
from ..studio.model import sample_pictures

FREE = {"a cube": "color", "a blue object": "shape"}
"""Partial prompts, and what they leave open."""
TWO_COLOURED = {obj.caption: obj for obj in OBJECTS if obj.front != obj.back}
GROUPS = {"partial": list(FREE), "two-coloured": list(TWO_COLOURED)}


@functools.cache
def _bank() -> naming.PictureBank:
    return naming.PictureBank()


@functools.cache
def _held_out() -> tuple[Tensor, dict[str, Tensor]]:
    c2w = held_out_cameras()
    return c2w, naming.exact_buffers(c2w, studio.SIZE)


@functools.cache
def _model(path: str) -> models.DiffusionModel:
    return models.load(path, config_path="--model")


def flat_samples(path: str, prompt: str, count: int) -> list[str]:
    """What the model's own pictures of a prompt, without guidance, show: captions of the nearest exact pictures.

    Each picture is told the word of a camera drawn like those of the NeRFs.
    """
    words = studio.view_words(studio.cameras(torch.Generator().manual_seed(0), count))
    pictures = sample_pictures(_model(path), [f"{prompt}, {word} view" for word in words], 1.0, seed=0)
    return [found.caption for found in _bank().name(pictures)]


def run_one(path: str, prompt: str, text: str, seed: int, out: Path) -> dict[str, Any]:
    """One NeRF, judged and pictured.

    nearest, psnr: of the 216 exact objects, over 16 held-out views. pictured: the object of the nearest exact picture
    to a single render from a random camera, as pictures of the model itself are named; of partial prompts.
    seconds: of the processor.
    """
    model, generator = _model(path), torch.Generator().manual_seed(seed)
    start = time.process_time()
    field, result = studio.make(model, prompt, studio.parse(text), generator)
    seconds = time.process_time() - start
    c2w, buffers = _held_out()
    with torch.no_grad():
        renders, single = field.render(c2w), field.render(studio.cameras(generator, 1))
    match = naming.nearest_object(renders, c2w, buffers)
    file = picture_of(out, prompt, text, seed)
    file.parent.mkdir(parents=True, exist_ok=True)
    first, second, third, fourth = F.interpolate(renders[1::4], scale_factor=0.5, mode="area")
    picture = torch.cat([torch.cat([first, second], -1), torch.cat([third, fourth], -1)], -2)
    save_png(file, picture)
    pictured = {"pictured": _bank().name(single)[0].caption} if prompt in FREE else {}
    return pictured | {
        "prompt": prompt, "method": text, "seed": seed, "nearest": match.found.caption, "psnr": round(match.psnr, 2),
        "consistency": round(result.consistency, 4), "threshold": round(result.threshold, 4),
        "nfe": result.nfe, "seconds": round(seconds, 1),
    }  # fmt: skip


def picture_of(out: Path, prompt: str, method: str, seed: int) -> Path:
    """Where a sample's picture lies."""
    folder = re.sub(r"[^a-z0-9.]+", "-", f"{prompt}-{method}")
    return out / folder / f"{seed}.png"


class Results:
    """The rows of a folder, in OUT/diversity.json: kept after every sample, and found again.

    Raises UserError where the folder holds results of another model.
    """

    def __init__(self, out: Path, path: str):
        self.file = out / "diversity.json"
        known = {"model": Path(path).name, "flat": {}, "rows": []}
        saved = json.loads(self.file.read_text()) if self.file.exists() else known
        if saved["model"] != known["model"]:
            raise UserError(f"--out {out} holds results of the model {saved['model']}; choose another folder.")
        self.saved: dict[str, Any] = saved
        self.rows: list[dict[str, Any]] = saved["rows"]
        self.flat: dict[str, list[str]] = saved["flat"]

    def write(self) -> None:
        write_json(self.file, self.saved)

    def of(self, prompt: str, method: str) -> list[dict[str, Any]]:
        """The rows of one prompt and method, by seed."""
        found = [r for r in self.rows if (r["prompt"], r["method"]) == (prompt, method)]
        return sorted(found, key=lambda r: r["seed"])


def run(
    path: str, prompts: list[str], methods: list[str], seeds: list[int], pictures: int, out: Path, workers: int
) -> Results:
    """The model's own pictures of the partial prompts, then every prompt by every method with every seed.

    Goes on from what `out` holds; `workers` NeRFs at a time.
    """
    results = Results(out, path)
    for prompt in prompts:
        if prompt in FREE and len(results.flat.get(prompt, [])) != pictures:
            print(f"{pictures} pictures of {prompt!r}", flush=True)
            results.flat[prompt] = flat_samples(path, prompt, pictures)
            results.write()
    known = {(r["prompt"], r["method"], r["seed"]) for r in results.rows}
    todo = [t for s in seeds for p in prompts for m in methods if (t := (p, m, s)) not in known]
    for row in told(each(run_one, ((path, *task, out) for task in todo), workers), len(todo), _said):
        results.rows.append(row | {"commit": commit()})
        results.write()
    return results


def _said(row: dict[str, Any]) -> str:
    return f"{row['prompt']}, {row['method']}, seed {row['seed']}: {row['nearest']}, {row['psnr']:.1f} dB"
