"""What threestudio's own guidances answer, run as a program: python reference.py CHECKOUT REQUEST ANSWER.

REQUEST: {"cases": {name: {module, guidance, step, latents, batch, perp_neg, spread}}, "model": folder}, written by
torch.save; ANSWER: for each case the losses, their gradients with respect to the latents, and all that was drawn on the
way, so that another implementation can be given the same. Everything runs in double precision.
"""

from __future__ import annotations

import importlib
import random
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from omegaconf import OmegaConf

CLASSES = {
    "stable_diffusion_guidance": "StableDiffusionGuidance",
    "stable_diffusion_vsd_guidance": "StableDiffusionVSDGuidance",
    "stable_diffusion_sdi_guidance": "StableDiffusionSDIGuidance",
}


class Patched:
    """A module with some of its functions replaced."""

    def __init__(self, module: Any, **functions: Any) -> None:
        self.__dict__ = {**vars(module), **functions}


def recorded(function: Callable[..., Any], into: list[Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        out = function(*args, **kwargs)
        into.append(out.clone() if isinstance(out, torch.Tensor) else out)
        return out

    return call


def main(root: str, request: str, answer: str) -> None:
    sys.path.insert(0, root)
    from pullback.cuda_standins.install import install

    install()
    asked = torch.load(request, weights_only=True)
    done = {name: run(case, asked["model"]) for name, case in asked["cases"].items()}
    torch.save(done, answer)


def prompts(model: str, perp_neg: bool) -> Any:
    module = importlib.import_module("threestudio.models.prompt_processors.stable_diffusion_prompt_processor")
    made = module.StableDiffusionPromptProcessor(
        {
            "pretrained_model_name_or_path": model,
            "prompt": "a red cube",
            "negative_prompt": "a ball",
            "spawn": False,
            "use_perp_neg": perp_neg,
            "use_cache": True,
        }
    )()
    for name in ("text_embeddings", "uncond_text_embeddings", "text_embeddings_vd", "uncond_text_embeddings_vd"):
        setattr(made, name, getattr(made, name).double())
    return made


def run(case: dict[str, Any], model: str) -> dict[str, Any]:
    module: Any = importlib.import_module(f"threestudio.models.guidance.{case['module']}")
    draws: dict[str, list[Any]] = {"times": [], "noise": [], "share": []}
    functional = torch.nn.functional
    # latents of any size are taken as they are; theirs are made 64 × 64
    module.F = Patched(functional, interpolate=lambda x, *_, **__: x)
    if hasattr(module, "TimestepEmbedding"):
        width = 4 * case["width"]  # theirs is 1280, that of Stable Diffusion
        embedding = importlib.import_module("diffusers.models.embeddings").TimestepEmbedding
        module.TimestepEmbedding = lambda numbers, _: embedding(numbers, width)
    made = getattr(module, CLASSES[case["module"]])(OmegaConf.create(case["guidance"]))  # schedules need its lists
    given = doubled(made, case)
    made.update_step(0, case["step"])

    latents = case["latents"].clone().requires_grad_()
    as_rgb = latents if case["module"].startswith("stable_diffusion_sdi") else latents.movedim(1, -1)
    module.torch = Patched(
        torch,
        randint=recorded(torch.randint, draws["times"]),
        randn_like=recorded(torch.randn_like, draws["noise"]),
    )
    module.random = SimpleNamespace(random=recorded(random.random, draws["share"]))
    torch.manual_seed(7)
    random.seed(7)
    try:
        utils = prompts(model, case["perp_neg"])
        out = made(as_rgb, utils, **case["batch"], rgb_as_latents=True)
    finally:
        module.torch, module.random, module.F = torch, random, functional
    losses = {name: value for name, value in out.items() if name.startswith("loss_")}
    (gradient,) = torch.autograd.grad(next(iter(losses.values())), latents)
    if "loss_lora" in losses:
        camera = made.camera_embedding.module
        parts = {name: getattr(camera, name).weight for name in ("linear_1", "linear_2")}
        parts |= {name: layers[1] for name, layers in projections(made)}
        grads = torch.autograd.grad(losses["loss_lora"], list(parts.values()))
        given["lora_grads"] = dict(zip(parts, grads, strict=True))
    return {
        "losses": {name: value.detach() for name, value in losses.items()},
        "gradient": gradient,
        "min_step": out["min_step"],
        "max_step": out["max_step"],
        "texts": {name: getattr(utils, name) for name in (
            "text_embeddings", "uncond_text_embeddings", "text_embeddings_vd", "uncond_text_embeddings_vd",
        )},
        "prompts_vd": list(utils.prompts_vd),
        **draws,
        **given,
    }  # fmt: skip


def doubled(made: Any, case: dict[str, Any]) -> dict[str, Any]:
    """Double precision everywhere; of VSD, an adapter whose every part has an effect, which is returned."""
    made.weights_dtype = torch.float64
    made.unet.double()
    made.vae.double()
    if not hasattr(made, "lora_layers"):
        return {}
    made.unet_lora.double()
    made.lora_layers.double()
    made.camera_embedding.double()
    made.camera_embedding.dtype = torch.float64
    torch.manual_seed(3)
    with torch.no_grad():
        for _, (_, up) in projections(made):
            up.normal_(0, case["spread"])
    return {
        "lora": {name: (down.detach(), up.detach()) for name, (down, up) in projections(made)},
        "camera": {name: value.detach() for name, value in made.camera_embedding.module.state_dict().items()},
    }


def projections(made: Any) -> list[tuple[str, tuple[torch.Tensor, torch.Tensor]]]:
    """Path of each adapted projection, and its down and up weights."""
    found = []
    for path, processor in made.unet_lora.attn_processors.items():
        for name, ending in (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("out", "to_out.0")):
            layer = getattr(processor, f"to_{name}_lora")
            found.append((path.removesuffix("processor") + ending, (layer.down.weight, layer.up.weight)))
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
