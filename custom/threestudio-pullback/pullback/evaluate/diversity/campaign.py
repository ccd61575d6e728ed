"""The tasks of `pullback evaluate diversity`, and their rows."""

from __future__ import annotations

import functools
import re
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from ...models import LatentModel, group_of
from ...output.contact_sheet import grid
from ...output.file_names import earlier, slug
from ...output.pictures import save_png
from ..campaign import Results
from ..studio import around, groups, naming
from ..studio import field as studio
from ..studio.held_out import OBJECTS, held_out_buffers, held_out_cameras
from ..studio.model import load, pictures_from_all_round

FREE = {"a cube": "color", "a blue object": "shape"}
"""Partial prompts, and what they leave open."""
TWO_COLOURED = {obj.caption: obj for obj in OBJECTS if obj.front != obj.back}
GROUPS = {"partial": list(FREE), "two-coloured": list(TWO_COLOURED)}


@functools.cache
def _bank() -> naming.PictureBank:
    return naming.PictureBank()


@functools.cache
def _cameras() -> groups.Cameras:
    return groups.Cameras(studio.SIZE)


def flat_samples(path: str, prompt: str, count: int) -> list[str]:
    """Captions of what the model's own pictures of a prompt show, without guidance.

    The prompt of each picture ends in the word of a view, from a random camera like those of the NeRFs. A model of
    several views makes `count` groups of pictures, and a group has one caption.
    """
    model = load(path)
    if group_of(model) > 1:
        found = _cameras().name(groups.sample(model, [prompt] * count, _cameras(), 1.0, seed=0))
        return [match.obj.caption for match in found]
    views = studio.cameras(torch.Generator().manual_seed(0), count)
    return [obj.caption for obj in _bank().name(pictures_from_all_round(model, prompt, views, 1.0))]


def pictured(model: LatentModel, field: studio.StudioField, seed: int, generator: torch.Generator) -> str:
    """The caption of what a field shows in as many views as the model sees, named as the model's pictures are."""
    with torch.no_grad():
        if group_of(model) > 1:
            turn = seed % len(_cameras().c2w)
            return _cameras().banks[turn].name(field.render(_cameras().c2w[turn])).obj.caption
        return _bank().name(field.render(studio.cameras(generator, 1)))[0].caption


def run_one(path: str, prompt: str, text: str, seed: int, out: Path) -> dict[str, Any]:
    """Makes a NeRF, measures it and saves a picture of it.

    Returns:
        The row. nearest: the nearest of the 216 exact objects over 16 held-out views. psnr: to that object, in dB.
        pictured, for partial prompts: the object of the exact picture that is nearest to a single render from a random
        camera, or to a group of renders, which is how the model's own pictures get their names. seconds: processor
        time.
    """
    model, generator = load(path), torch.Generator().manual_seed(seed)
    start = time.process_time()
    method = studio.parse(text)
    field, result = studio.make(model, prompt, method, generator)
    seconds = time.process_time() - start
    c2w = held_out_cameras()
    with torch.no_grad():
        renders = field.render(c2w)
    background = around.backdrop(c2w, studio.SIZE, method.plain)
    match = naming.nearest_object(renders, c2w, held_out_buffers(studio.SIZE), background)
    file = picture_of(out, prompt, text, seed)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_png(file, grid(F.interpolate(renders[1::4], scale_factor=0.5, mode="area").split(2)))
    partly = {"pictured": pictured(model, field, seed, generator)} if prompt in FREE else {}
    return partly | {
        "prompt": prompt, "method": text, "seed": seed, "nearest": match.obj.caption, "psnr": round(match.psnr, 2),
        "consistency": round(result.consistency, 4), "threshold": round(result.threshold, 4),
        "nfe": result.nfe, "seconds": round(seconds, 1),
    }  # fmt: skip


def picture_of(out: Path, prompt: str, method: str, seed: int) -> Path:
    """Where a sample's picture lies."""
    return out / slug(f"{prompt}-{method}") / f"{seed}.png"


def saved_picture(out: Path, prompt: str, method: str, seed: int) -> Path:
    """The picture that a folder has, also one that an earlier version named."""
    old = re.sub(r"[^a-z0-9.]+", "-", f"{prompt}-{method}")
    return earlier(picture_of(out, prompt, method, seed), out / old / f"{seed}.png")


def results_of(out: Path, path: str) -> Results:
    """The results of a folder; `data["flat"]` has the captions of the model's own pictures.

    Raises:
        UserError: They are of another model.
    """
    results = Results(out / "diversity.json", ("prompt", "method", "seed"))
    results.match("model", value=Path(path).name)
    results.data.setdefault("flat", {})
    return results


def run(
    path: str, prompts: list[str], methods: list[str], seeds: list[int], pictures: int, out: Path, workers: int
) -> Results:
    """Makes what `out` lacks: the model's own pictures of the partial prompts, then the NeRFs.

    There is a NeRF for every prompt, method and seed, `workers` of them at a time.
    """
    results = results_of(out, path).claimed()
    flat = results.data["flat"]
    for prompt in prompts:
        if prompt in FREE and len(flat.get(prompt, [])) != pictures:
            print(f"{pictures} pictures of {prompt!r}", flush=True)
            results.data["views_at_once"] = group_of(load(path))
            flat[prompt] = flat_samples(path, prompt, pictures)
            results.save()
    tasks = {key: (path, *key, out) for key in ((p, m, s) for s in seeds for p in prompts for m in methods)}
    return results.run(run_one, tasks, workers, _sentence)


def _sentence(row: dict[str, Any]) -> str:
    return f"{row['prompt']}, {row['method']}, seed {row['seed']}: {row['nearest']}, {row['psnr']:.1f} dB"
