"""The tasks of `pullback evaluate diversity`, and their rows."""

from __future__ import annotations

import functools
import re
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from ...output.contact_sheet import grid
from ...output.file_names import earlier, slug
from ...output.pictures import save_png
from ..campaign import Results
from ..studio import field as studio
from ..studio import naming
from ..studio.held_out import OBJECTS, held_out_buffers, held_out_cameras
from ..studio.model import load, sample_pictures

FREE = {"a cube": "color", "a blue object": "shape"}
"""Partial prompts, and what they leave open."""
TWO_COLOURED = {obj.caption: obj for obj in OBJECTS if obj.front != obj.back}
GROUPS = {"partial": list(FREE), "two-coloured": list(TWO_COLOURED)}


@functools.cache
def _bank() -> naming.PictureBank:
    return naming.PictureBank()


def flat_samples(path: str, prompt: str, count: int) -> list[str]:
    """Captions of the exact pictures that are nearest to the model's own pictures of a prompt, without guidance.

    The prompt of each picture ends in the word of a view, from a random camera like those of the NeRFs.
    """
    words = studio.view_words(studio.cameras(torch.Generator().manual_seed(0), count))
    pictures = sample_pictures(load(path), [f"{prompt}, {word} view" for word in words], 1.0, seed=0)
    return [obj.caption for obj in _bank().name(pictures)]


def run_one(path: str, prompt: str, text: str, seed: int, out: Path) -> dict[str, Any]:
    """Makes a NeRF, measures it and saves a picture of it.

    Returns:
        The row. nearest: the nearest of the 216 exact objects over 16 held-out views. psnr: to that object, in dB.
        pictured, for partial prompts: the object of the exact picture that is nearest to a single render from a random
        camera, which is how the model's own pictures get their names. seconds: processor time.
    """
    model, generator = load(path), torch.Generator().manual_seed(seed)
    start = time.process_time()
    field, result = studio.make(model, prompt, studio.parse(text), generator)
    seconds = time.process_time() - start
    c2w = held_out_cameras()
    with torch.no_grad():
        renders, single = field.render(c2w), field.render(studio.cameras(generator, 1))
    match = naming.nearest_object(renders, c2w, held_out_buffers(studio.SIZE))
    file = picture_of(out, prompt, text, seed)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_png(file, grid(F.interpolate(renders[1::4], scale_factor=0.5, mode="area").split(2)))
    pictured = {"pictured": _bank().name(single)[0].caption} if prompt in FREE else {}
    return pictured | {
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
            flat[prompt] = flat_samples(path, prompt, pictures)
            results.save()
    tasks = {key: (path, *key, out) for key in ((p, m, s) for s in seeds for p in prompts for m in methods)}
    return results.run(run_one, tasks, workers, _sentence)


def _sentence(row: dict[str, Any]) -> str:
    return f"{row['prompt']}, {row['method']}, seed {row['seed']}: {row['nearest']}, {row['psnr']:.1f} dB"
