"""`pullback evaluate model`: how well a text-to-image model pictures the studio."""

from __future__ import annotations

import functools
import json
import math
import random
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ... import models
from ...output import whole
from ...output.contact_sheet import grid
from ...output.pictures import psnr, save_png
from ...resources import TINY_MODEL
from ...sampling import schedule
from . import captions, groups, naming
from . import world as worlds
from .ddim import ddim
from .field import view_words
from .world import COLORS, StudioObject

SHEET = [StudioObject(*words.split()) for words in (
    "cube red red", "torus blue blue", "cone yellow purple", "cylinder cyan red", "diamond green blue",
    "sphere purple yellow",
)]  # fmt: skip


@functools.cache
def load(path: str) -> models.LatentModel:
    """The model of --model, loaded once in a process."""
    with models.config_key("--model"):
        return models.load(path)


def is_of_the_studio(model: str) -> bool:
    """Whether a model's words are those of the shipped ones, so that its prompts name exact objects.

    Args:
        model: A folder or hub id.
    """
    words = Path("tokenizer") / "vocab.json"
    own = Path(model) / words
    return own.is_file() and own.read_bytes() == (TINY_MODEL / words).read_bytes()


def reconstruction_psnr(model: models.LatentModel, count: int, seed: int) -> list[float]:
    """PSNR in dB of decode(encode(x)) for `count` exact pictures, which the model's training did not have."""
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    values = []
    for _ in range(count):
        obj = captions.random_object(rng)
        u = torch.rand(2, generator=generator)
        picture = worlds.render(obj, worlds.look_at(u[:1] * 60, u[1:] * 360))
        with torch.no_grad():
            values.append(psnr(model.decode(model.encode(picture)), picture))
    return values


@torch.no_grad()
def sample_pictures(model: models.LatentModel, prompts: list[str], scale: float, seed: int, levels: int = 30) -> Tensor:
    """Samples one picture for each of B prompts by `ddim`, 32 at a time: [B,3,H,W]."""
    generator = torch.Generator().manual_seed(seed)
    sigmas = schedule.karras_sigmas(levels, 0.05, model.sigma_max, rho=5.0).tolist()
    pictures = []
    for start in range(0, len(prompts), 32):
        batch = prompts[start : start + 32]
        both = model.encode_prompt([*batch, *[""] * len(batch)])
        cond, uncond = both.chunk(2)
        denoise = models.GuidedDenoiser(model, lambda views, c=cond, u=uncond: (c, u), scale)
        shape = (len(batch), model.latent_channels, model.sample_size, model.sample_size)
        noisy = sigmas[0] * torch.randn(shape, generator=generator)
        pictures.append(model.decode(ddim(denoise, noisy, sigmas, None)))
    return torch.cat(pictures)


def pictures_from_all_round(model: models.LatentModel, prompt: str, views: Tensor, scale: float) -> Tensor:
    """As many of the model's own pictures of a prompt as there are poses: [V,3,H,W].

    Prompts end in the words of the views [V,4,4]. A model of several views takes no words; it pictures whole groups,
    from the cameras of its card.
    """
    if (several := models.group_of(model)) > 1:
        prompts = [prompt] * -(-len(views) // several)
        cameras = groups.Cameras(model.image_size)
        return groups.sample(model, prompts, cameras, scale, seed=0).flatten(0, 1)[: len(views)]
    return sample_pictures(model, [f"{prompt}, {word} view" for word in view_words(views)], scale, seed=0)


def right_share(
    model: models.LatentModel, bank: naming.PictureBank, count: int, scale: float, seed: int
) -> dict[str, Any]:
    """Among `count` samples of full captions, the share whose nearest exact picture is of the caption's object.

    A picture with both right colours, each on the other's side, is wrong; it counts in "sides_swapped".
    """
    rng = random.Random(seed)
    objects = [captions.random_object(rng) for _ in range(count)]
    # from the side both colours are visible, from the front the back's is not; hence side views
    nearest = bank.name(sample_pictures(model, [f"{o.caption}, side view" for o in objects], scale, seed))
    pairs = list(zip(nearest, objects, strict=True))
    swapped = [f != o and f == StudioObject(o.shape, o.back, o.front) for f, o in pairs]
    return {
        "samples": count, "guidance_scale": scale, "right": sum(f == o for f, o in pairs) / count,
        "sides_swapped": sum(swapped) / count, "shape_right": sum(f.shape == o.shape for f, o in pairs) / count,
        "wrong": [f"{o.caption} -> {f.caption}" for f, o in pairs if f != o],
    }  # fmt: skip


def free_histogram(
    model: models.LatentModel, bank: naming.PictureBank, prompt: str, free: str, count: int, seed: int
) -> dict[str, Any]:
    """How often each value of the attribute that a partial prompt leaves open comes up, without guidance."""
    from scipy.stats import chisquare

    nearest = bank.name(sample_pictures(model, [prompt] * count, 1.0, seed))
    values = list(COLORS) if free == "color" else list(worlds.SHAPES)
    counter = Counter(f.front if free == "color" else f.shape for f in nearest if f.front == f.back)
    counts = [counter[v] for v in values]
    return {
        "prompt": prompt, "samples": count, "counts": dict(zip(values, counts, strict=True)),
        "expected": count / len(values), "two_coloured": count - sum(counts),
        "chi_square_p": chisquare(counts).pvalue if sum(counts) else math.nan,
    }  # fmt: skip


class SingleViews:
    """The figures of a model of single views; `groups.GroupsOfViews` has those of a model of several.

    Args:
        model: The model.
        seed: Of all samples.
    """

    free_captions = (("a cube", "color"), ("a cone", "color"), ("a blue object", "shape"))

    def __init__(self, model: models.LatentModel, seed: int) -> None:
        self.model, self.seed, self.bank = model, seed, naming.PictureBank()

    def full(self, count: int, scale: float) -> dict[str, Any]:
        """A row of full captions."""
        return right_share(self.model, self.bank, count, scale, self.seed)

    def free(self, prompt: str, free: str) -> dict[str, Any]:
        """A row of a partial caption."""
        return free_histogram(self.model, self.bank, prompt, free, 120, self.seed)

    def sheet(self) -> Tensor:
        """Samples to look at: [3,H,W]."""
        return contact_sheet(self.model, SHEET, 2.5, self.seed)


def evaluate(path: str, scales: list[float], samples: int, seed: int, out: Path) -> dict[str, Any]:
    """Measures the figures of the model card; writes them to out/model.json, and samples to out/sheet.png."""
    model = load(path)
    torch.manual_seed(seed)
    print("autoencoder", flush=True)
    values = sorted(reconstruction_psnr(model, 128, seed + 1))
    report: dict[str, Any] = {
        "vae_psnr_db": {"median": round(values[64], 2), "lowest": round(values[0], 2), "pictures": 128},
        "full_captions": [],
        "partial_captions": [],
    }
    several = models.group_of(model) > 1
    card = groups.GroupsOfViews(model, seed) if several else SingleViews(model, seed)
    for scale in scales:
        row = card.full(samples, scale)
        report["full_captions"].append(row)
        shares = ", ".join(f"{name} {v:.3f}" for name, v in row.items() if isinstance(v, float) and v != scale)
        print(f"guidance {scale}: {shares}", flush=True)
    for prompt, free in card.free_captions:
        row = card.free(prompt, free)
        report["partial_captions"].append(row)
        found = ", ".join(f"{name} {v}" for name, v in row.items() if name not in ("prompt", "samples", "expected"))
        print(f"{prompt}: {found}", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    save_png(out / "sheet.png", card.sheet())
    whole.write(out / "model.json", json.dumps(report, indent=2) + "\n")
    return report


def contact_sheet(model: models.LatentModel, objects: list[StudioObject], scale: float, seed: int) -> Tensor:
    """Four views of each object side by side, an object a row: [3, rows·H, 4·W] in [-1,1]."""
    views = [[f"{obj.caption}, {d} view" for d in ("front", "side", "back", "overhead")] for obj in objects]
    return grid([sample_pictures(model, prompts, scale, seed) for prompts in views])
