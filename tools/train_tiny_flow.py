"""Retrains the shipped text-to-image model with flow matching, to show that such a model samples as well as it.

    python tools/train_tiny_flow.py --out outputs/tiny-flow --work .cache/tiny-flow

Tokenizer and autoencoder are tiny-sd's; the UNet and the text encoder start from its weights, of v-prediction, and
learn ε − x0 of z = (1 − t) x0 + t ε (Lipman et al. 2023). diffusers' StableDiffusionPipeline runs the folder, with a
solver in its mode for flow matching. Stages (each resumes from --work): pictures → latents → UNet + text encoder →
export. Settings are the SETTINGS below.
"""

from __future__ import annotations

import copy
import json
import random
import shutil
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import train_tiny_sd as single
from pullback import models, resources
from pullback.evaluate.studio import world as worlds
from pullback.models.libraries import dtype_option
from torch import Tensor

SETTINGS = {
    "seed": 21,
    "cameras_per_shape": 800,
    "colourings": 4,
    "unet": {"steps": 3000, "batch": 24, "lr": 4e-4, "ema": 0.998, "caption_dropout": 0.1},
}
START = resources.TINY_MODEL


@torch.no_grad()
def make_latents(work: Path) -> dict[str, Any]:
    """Latents [N,4,16,16] of tiny-sd's world, objects and words of the views; kept in `work`."""
    path, meta = work / "latents.pt", work / "captions.json"
    if path.exists() and meta.exists():
        return {**torch.load(path, weights_only=True), **json.loads(meta.read_text())}
    pictures, model = single.Pictures(single.make_pictures(work)), models.load(START)
    rng = random.Random(SETTINGS["seed"] + 2)
    latents, objects, directions = [], [], []
    for _ in range(SETTINGS["colourings"]):
        for i in range(0, len(pictures), 50):
            images, made, words = pictures.make(list(range(i, min(i + 50, len(pictures)))), rng)
            latents.append(model.encode(images))
            objects += [[x.shape, x.front, x.back] for x in made]
            directions += words
    single.save_state(path, latents=torch.cat(latents))
    meta.write_text(json.dumps({"objects": objects, "directions": directions}))
    return make_latents(work)


def train_unet(data: dict[str, Any], work: Path, log: single.Log) -> torch.nn.ModuleDict:
    """UNet and text encoder; returns their slow copy."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    cfg, seed = SETTINGS["unet"], SETTINGS["seed"] + 3
    torch.manual_seed(seed)
    tokenizer: Any = CLIPTokenizer.from_pretrained(str(START), subfolder="tokenizer", local_files_only=True)
    unet: Any = UNet2DConditionModel.from_pretrained(str(START / "unet"), **dtype_option(torch.float32))
    nets = torch.nn.ModuleDict({"unet": unet, "text": CLIPTextModel.from_pretrained(str(START / "text_encoder"))})
    nets.requires_grad_(True).train()
    ema = copy.deepcopy(nets).requires_grad_(False)
    if start := single.steps_of(work, "unet"):
        torch.manual_seed(seed + start)  # after a restart noise and captions are new
    rng = random.Random(seed + start)
    objects = [worlds.StudioObject(*o) for o in data["objects"]]

    def loss_of() -> tuple[Tensor, Tensor]:
        clean, ids = single.draw(data, objects, tokenizer, cfg, rng)
        clean, noise = clean.float(), torch.randn(cfg["batch"], 4, 16, 16)
        t = torch.randint(1, 1000, (cfg["batch"],))
        share = (t / 1000)[:, None, None, None]
        with torch.autocast("cpu", torch.bfloat16):
            text = nets["text"](ids).last_hidden_state
            out = nets["unet"]((1 - share) * clean + share * noise, t, text).sample
        loss = F.mse_loss(out.float(), noise - clean)
        return loss, loss

    single.train(
        "unet", cfg, {"nets": nets, "ema": ema}, loss_of, work, log, 250, 0.99, ema, weight_decay=1e-2,
        betas=(0.9, 0.99),
    )  # fmt: skip
    return ema


def export(out: Path, work: Path, ema: torch.nn.ModuleDict) -> None:
    """Writes Stable Diffusion's folder format with a scheduler for flow matching."""
    from diffusers import UniPCMultistepScheduler

    for part in ("vae", "tokenizer"):
        shutil.copytree(START / part, out / part, dirs_exist_ok=True)
    single.save_networks(out, ema, 0.012, ["StableDiffusionPipeline", "diffusers", "UNet2DConditionModel"])
    shutil.rmtree(out / "scheduler")
    UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True).save_pretrained(out / "scheduler")
    index = json.loads((out / "model_index.json").read_text()) | {"scheduler": ["diffusers", "UniPCMultistepScheduler"]}
    (out / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    single.save_record(out, work, SETTINGS)


def main() -> None:
    """Makes all stages that the work folder lacks, and writes the model."""
    args = single.begin(__doc__)
    single.SETTINGS |= {name: SETTINGS[name] for name in ("seed", "cameras_per_shape", "colourings")}
    if args.export_now:
        SETTINGS["unet"]["steps"] = single.steps_of(args.work, "unet")
    export(args.out, args.work, train_unet(make_latents(args.work), args.work, single.Log(args.work / "curves.csv")))


if __name__ == "__main__":
    main()
