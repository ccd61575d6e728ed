"""Trains the shipped model of four views (assets/tiny-mv) on the studio seen all round, from tiny-sd.

    python tools/train_tiny_mv.py --out custom/threestudio-pullback/assets/tiny-mv --work .cache/tiny-mv

Tokenizer and autoencoder are tiny-sd's; the UNet and the text encoder start from its weights. Stages (each resumes from
--work): latents of groups of views → UNet + text encoder → export. Settings are the SETTINGS below.
"""

from __future__ import annotations

import copy
import random
import shutil
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import train_tiny_sd as single
from pullback import models, resources
from pullback.evaluate.studio import around
from pullback.evaluate.studio import world as worlds
from pullback.models.libraries import dtype_option
from pullback.models.multi_view import CAMERA_NUMBERS, MultiViewUNet2DConditionModel, camera_numbers
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

SETTINGS = {
    "seed": 11,
    "views": 4,
    "cameras_per_shape": 600,
    "colourings": 4,
    # one backdrop: no caption names it, so a NeRF before one could be pictured before the other, and grow a shell
    "plain_backdrop_share": 1.0,
    # of four views together, colours are decided at σ of 40, above the 14.6 at which Stable Diffusion's levels end
    "beta_end": 0.022,
    "unet": {"steps": 15000, "groups": 8, "lr": 5e-4, "ema": 0.998, "caption_dropout": 0.1, "fall": 0.3},
}
START = resources.TINY_MODEL
KINDS = worlds.StudioObject, around.FourSided, around.Marked
NOISY = 650  # of 1000: half of the steps are above it, where four views agree on what they are of
SHARD = 50


@torch.no_grad()
def make_latents(work: Path) -> tuple[Tensor, Tensor, list[around.AnyObject]]:
    """Latents [G,4,c,h,w] (half precision) of groups of views, their cameras' numbers and objects; kept in `work`."""
    folder, model = work / "latents", models.load(START)
    folder.mkdir(exist_ok=True)
    shards = []
    for start in range(0, SETTINGS["cameras_per_shape"], SHARD):
        for shape in worlds.SHAPES:
            path = folder / f"{start:05d}-{shape}.pt"
            if not path.exists():
                single.save_state(path, **_shard(model, shape, start))
                print("latents", path.stem, flush=True)
            shards.append(torch.load(path, weights_only=True))
    kinds = {kind.__name__: kind for kind in KINDS}
    objects = [kinds[name](*words) for shard in shards for name, *words in shard["objects"]]
    return torch.cat([s["latents"] for s in shards]), torch.cat([s["cameras"] for s in shards]), objects


def _shard(model: Any, shape: str, start: int) -> dict[str, Any]:
    seed = SETTINGS["seed"] + 1000 * start + worlds.SHAPES.index(shape)
    generator, rng = torch.Generator().manual_seed(seed), random.Random(seed)
    elevation, azimuth = single.random_cameras(SHARD, generator)
    parts = {"latents": [], "cameras": [], "objects": []}
    for i in range(SHARD):
        where = elevation[i : i + 1], azimuth[i : i + 1]
        c2w = around.group_of(*where)
        seen = around.group_patches(shape, *where)
        pictures = []
        for _ in range(SETTINGS["colourings"]):
            obj = around.random_object(rng, shape)
            background = around.backdrop(c2w, 64, rng.random() < SETTINGS["plain_backdrop_share"])
            pictures.append(around.paint(*seen, around.patch_colours(obj), background))
            parts["cameras"].append(camera_numbers(c2w))
            parts["objects"].append([type(obj).__name__, *vars(obj).values()])
        with torch.autocast("cpu", torch.bfloat16):
            latents = model.encode(torch.cat(pictures))
        parts["latents"].append(latents.half().unflatten(0, (-1, SETTINGS["views"])))
    return {
        "latents": torch.cat(parts["latents"]),
        "cameras": torch.stack(parts["cameras"]),
        "objects": parts["objects"],
    }


def new_networks(tokenizer: Any) -> torch.nn.ModuleDict:
    """UNet and text encoder with tiny-sd's weights; the camera's embedding starts at zero."""
    from diffusers import UNet2DConditionModel

    start = UNet2DConditionModel.from_pretrained(str(START / "unet"), **dtype_option(torch.float32))
    config = {name: value for name, value in start.config.items() if not name.startswith("_")}
    config |= {"class_embed_type": "projection", "projection_class_embeddings_input_dim": CAMERA_NUMBERS}
    unet = MultiViewUNet2DConditionModel(group=SETTINGS["views"], **config)
    unet.load_state_dict(start.state_dict(), strict=False)
    last: Any = getattr(unet.class_embedding, "linear_2")  # noqa: B009 (it is an optional of several kinds)
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.zeros_(last.bias)
    text = single.new_text_encoder(tokenizer)
    text.load_state_dict(type(text).from_pretrained(str(START / "text_encoder")).state_dict())
    return torch.nn.ModuleDict({"unet": unet, "text": text})


def trapezoid(step: int, steps: int, warm: int = 200) -> float:
    """The share of the learning rate: a warm-up, a plateau, which a resumed run may lengthen, and a straight fall."""
    return min(1.0, (step + 1) / warm, max(0.01, (steps - step) / (SETTINGS["unet"]["fall"] * steps)))


def train_unet(work: Path, log: single.Log) -> tuple[Any, torch.nn.ModuleDict]:
    """UNet and text encoder; returns the tokenizer and their slow copy."""
    from transformers import CLIPTokenizer

    cfg, bars, views = SETTINGS["unet"], single.noise_levels(SETTINGS["beta_end"]), SETTINGS["views"]
    seed = SETTINGS["seed"] + 3
    torch.manual_seed(seed)
    tokenizer: Any = CLIPTokenizer.from_pretrained(str(START), subfolder="tokenizer", local_files_only=True)
    nets = new_networks(tokenizer)
    ema = copy.deepcopy(nets).requires_grad_(False)
    if start := single.steps_of(work, "unet"):
        torch.manual_seed(seed + start)  # after a restart noise and captions are new
    rng = random.Random(seed + start)
    latents, cameras, objects = make_latents(work)
    print(f"{len(objects)} groups", flush=True)
    # each kind a quarter of the time, or marks, which are small, are learned last
    groups: dict[Any, list[int]] = {}
    for i, obj in enumerate(objects):
        one_coloured = isinstance(obj, worlds.StudioObject) and obj.front == obj.back
        groups.setdefault((type(obj), one_coloured), []).append(i)
    kinds = list(groups.values())

    def loss_of() -> tuple[Tensor, Tensor]:
        index = [rng.choice(rng.choice(kinds)) for _ in range(cfg["groups"])]
        lines = ["" if rng.random() < cfg["caption_dropout"] else around.random_caption(objects[i], rng) for i in index]
        words = {"padding": "max_length", "truncation": True, "max_length": 24, "return_tensors": "pt"}
        clean = latents[index].flatten(0, 1).float()
        noise = torch.randn_like(clean)
        low = torch.where(torch.rand(cfg["groups"]) < 0.5, NOISY, 0)
        t = (low + torch.rand(cfg["groups"]) * (1000 - low)).long().repeat_interleave(views)
        a, b = bars[t].sqrt()[:, None, None, None], (1 - bars[t]).sqrt()[:, None, None, None]
        # for so few tokens plain attention is faster than the fused one, backward
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            text = nets["text"](tokenizer(lines, **words).input_ids).last_hidden_state.repeat_interleave(views, 0)
            out = nets["unet"](a * clean + b * noise, t, text, class_labels=cameras[index].flatten(0, 1)).sample
        loss = F.mse_loss(out.float(), a * noise - b * clean)
        return loss, loss

    single.train(
        "unet", cfg, {"nets": nets, "ema": ema}, loss_of, work, log, 50, 0.99, ema, trapezoid, weight_decay=1e-2,
        betas=(0.9, 0.99),
    )  # fmt: skip
    return tokenizer, ema


def export(out: Path, work: Path, tokenizer: Any, ema: torch.nn.ModuleDict) -> None:
    """Writes the folder: what tiny-sd has of its own, copied, and the UNet, in half precision, for size."""
    for part in ("vae", "tokenizer"):
        shutil.copytree(START / part, out / part, dirs_exist_ok=True)
    names = ["MVDreamPipeline", "pullback", "MultiViewUNet2DConditionModel"]
    single.save_networks(out, ema, SETTINGS["beta_end"], names)
    single.save_record(out, work, SETTINGS)


def main() -> None:
    """Makes all stages that the work folder lacks, and writes the model."""
    args = single.begin(__doc__, steps=True)
    if args.steps:
        SETTINGS["unet"]["steps"] = args.steps
    if args.export_now:
        SETTINGS["unet"]["steps"] = single.steps_of(args.work, "unet")
    tokenizer, ema = train_unet(args.work, single.Log(args.work / "curves.csv"))
    export(args.out, args.work, tokenizer, ema)


if __name__ == "__main__":
    main()
