"""`pullback-guidance`: the sampler's options as one config block, and what is built from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pullback
import torch
from pullback import models
from pullback.errors import UserError
from pullback.models.guided import FIT_SPACES
from pullback.noise import COUPLINGS
from torch import nn

from ._framework import BaseObject, register

CONSTRAINTS = {
    "none": lambda cfg: None,
    "repaint": lambda cfg: pullback.Repaint(cycles=int(cfg.cycles)),
    "projection": lambda cfg: pullback.Projection(),
}


def _at_least(name: str, value: float, low: float, strict: bool = False) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"`{name}` must be a number, not {value!r}")
    if not value >= low or (strict and value == low):
        raise ValueError(f"`{name}` must be {'above' if strict else 'at least'} {low}, not {value}")


class AnySize:
    """A latent denoiser for renders of any size: resized to the model's on the way in, and back on the way out."""

    def __init__(self, denoise: models.GuidedDenoiser) -> None:
        self.denoise = denoise
        self.fit_space, self.nfe_per_view = denoise.fit_space, denoise.nfe_per_view
        self.model_size = (denoise.model.image_size, denoise.model.image_size)
        self.render_size = self.model_size

    def __call__(self, noisy: torch.Tensor, sigma: float, views: Any) -> torch.Tensor:
        return self.denoise(noisy, sigma, views)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        # a visit encodes its renders before it decodes its targets, so the size to go back to is known
        self.render_size = (images.shape[-2], images.shape[-1])
        return self.denoise.encode(_resize(images, self.model_size))

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return _resize(self.denoise.decode(latents), self.render_size)


def _resize(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    if images.shape[-2:] == size:
        return images
    return torch.nn.functional.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)


@register("pullback-guidance")
class PullbackGuidance(BaseObject):
    """Loads the diffusion model and builds schedule, noise, constraint and sampler for a system.

    `guidance_scale` s is diffusers': x̂0 = uncond + s (cond − uncond); 1 means no guidance.
    """

    @dataclass
    class Config(BaseObject.Config):
        pretrained_model_name_or_path: str = "stable-diffusion-v1-5/stable-diffusion-v1-5"
        guidance_scale: float = 7.5
        half_precision_weights: bool = True
        view_dependent_prompting: bool = True
        enable_memory_efficient_attention: bool = False
        enable_sequential_cpu_offload: bool = False
        enable_attention_slicing: bool = False
        enable_channels_last_format: bool = False
        token_merging: bool = False
        # noise levels, in VE coordinates (σ); null: the model's own range
        levels: int = 50
        sigma_max: Any = None
        sigma_min: Any = None
        rho: float = 7.0
        # how views share noise (shared, independent, fresh), and what keeps renders in the field's range
        noise: str = "shared"
        constraint: str = "repaint"
        cycles: int = 2
        order: int = 1
        # the fit of one level: optimiser steps, rays of one step (all views together), and its space
        fit_space: str = "image"
        fit_steps: int = 100
        fit_rays: int = 8192
        views_per_call: int = 8

        def __post_init__(self) -> None:
            for name in ("levels", "cycles", "fit_steps", "fit_rays", "views_per_call"):
                _at_least(name, getattr(self, name), 1)
            _at_least("rho", self.rho, 1)
            for name in ("sigma_min", "sigma_max"):
                if getattr(self, name) is not None:
                    _at_least(name, getattr(self, name), 0, strict=True)
            choices = {
                "constraint": tuple(CONSTRAINTS),
                "noise": tuple(COUPLINGS),
                "fit_space": FIT_SPACES,
                "order": (1, 2),
            }
            for name, allowed in choices.items():
                if getattr(self, name) not in allowed:
                    listed = ", ".join(map(str, allowed))
                    raise ValueError(f"`{name}` must be one of {listed}, not {getattr(self, name)!r}")
            if self.constraint == "projection" and self.noise != "independent":
                raise ValueError(f"`noise` must be independent where constraint is projection, not {self.noise!r}")
            if self.constraint == "projection" and self.order != 1:
                raise ValueError(f"`order` must be 1 where constraint is projection, not {self.order}")

    cfg: Config

    def configure(self) -> None:
        self.model = models.load(
            self.cfg.pretrained_model_name_or_path,
            config_path="system.guidance.pretrained_model_name_or_path",
            device=self.device,
            dtype=torch.float16 if self.cfg.half_precision_weights and self.device.type == "cuda" else torch.float32,
        )
        names = (
            "enable_memory_efficient_attention", "enable_sequential_cpu_offload",
            "enable_attention_slicing", "enable_channels_last_format", "token_merging",
        )  # fmt: skip
        self.model.save_memory(**{name: getattr(self.cfg, name) for name in names})

    def sigmas(self) -> torch.Tensor:
        """The noise levels, [levels + 1], decreasing to 0."""
        low, high = self.model.sigma_min, self.model.sigma_max
        top = high if self.cfg.sigma_max is None else float(self.cfg.sigma_max)
        bottom = low if self.cfg.sigma_min is None else float(self.cfg.sigma_min)
        for name, value in (("sigma_max", top), ("sigma_min", bottom)):
            if not low * (1 - 1e-6) <= value <= high * (1 + 1e-6):
                raise UserError(
                    f"`system.guidance.{name}` is {value:g}, outside the model's range {low:.4g} to {high:.4g}; "
                    "choose a value within it, or null for the model's own"
                )
        if bottom >= top:
            raise UserError(
                f"`system.guidance.sigma_min` ({bottom:g}) must be below `system.guidance.sigma_max` ({top:g}); "
                "swap them"
            )
        return pullback.karras_sigmas(self.cfg.levels, bottom, top, rho=self.cfg.rho)

    def denoiser(self, text: Callable[[Any], tuple[torch.Tensor, torch.Tensor]]) -> AnySize:
        """The guided denoiser; `text(views)` gives conditional and unconditional embeddings, each [V,T,D]."""
        return AnySize(
            models.GuidedDenoiser(
                self.model, text, self.cfg.guidance_scale, self.cfg.fit_space, chunk=self.cfg.views_per_call
            )
        )

    def sampler(
        self,
        diffrep: nn.Module,
        views: Callable,
        denoise: Callable,
        optimizer: torch.optim.Optimizer,
        seed: int,
    ) -> pullback.Sampler:
        """The sampler of method and options; its solver steps the given optimiser."""
        return pullback.Sampler(
            diffrep,
            views,
            denoise,
            self.sigmas(),
            noise=self.cfg.noise,
            constraint=CONSTRAINTS[self.cfg.constraint](self.cfg),
            solver=pullback.FirstOrder(steps=self.cfg.fit_steps, optimizer=optimizer),
            order=self.cfg.order,
            generator=torch.Generator().manual_seed(seed),
        )
