"""What the samples of all methods share in `pullback evaluate images`: settings, prompts, noise, networks."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from ... import models
from ...diffreps import SirenImages
from ...sampling import schedule
from ...seeding import derive_seed
from ..studio.model import load

PROMPTS = (
    "a cube, front view",
    "a cone, side view",
    "a torus, overhead view",
    "a red object, front view",
    "a blue object, side view",
    "a yellow object, back view",
    "a cube with a red front and a blue back, side view",
    "a cylinder with a green front and a purple back, side view",
)
"""Each sample has a random one: they leave open the colour, or the shape, or nothing."""


@dataclass(frozen=True)
class Settings:
    """Settings of all methods.

    Attributes:
        hidden: Width of the SIREN.
        layers: Its hidden layers.
        omega: Its frequency.
        rays: Pixels of a step of a fit.
        steps: Adam's steps at each level.
        lr: Adam's rate at the first level.
        lr_end: Adam's rate at the last level.
        levels: How many noise levels ours and the reference have.
        sigma_min: The last of them.
        rho: Their spacing, as in `karras_sigmas`.
        rounds: See `models.RoundTrip`.
        distil_steps: Steps of SDS and SJC.
        distil_lr: Learning rate of SDS and SJC.
    """

    hidden: int = 64
    layers: int = 3
    omega: float = 20.0
    rays: int = 1024
    steps: int = 40
    lr: float = 0.003
    lr_end: float = 0.0005
    levels: int = 20
    sigma_min: float = 0.1
    rho: float = 3.0
    rounds: int = 4
    distil_steps: int = 300
    distil_lr: float = 0.002


@dataclass(frozen=True)
class Batch:
    """What some samples share, whatever the method.

    Attributes:
        model: The model.
        sigmas: Noise levels.
        noise: ε [N,c,h,w].
        sirens: The samples' networks at their start.
        denoise: The model as a denoiser, for fits in the space of images.
        with_gradients: The model as a denoiser, with gradients through the encoder.
        settings: The settings of all methods.
        generator: For the random numbers of a run.
    """

    model: models.LatentModel
    sigmas: Tensor
    noise: Tensor
    sirens: SirenImages
    denoise: models.GuidedDenoiser
    with_gradients: models.GuidedDenoiser
    settings: Settings
    generator: torch.Generator


def prompt_of(seed: int, number: int) -> str:
    """The prompt of a sample; prompts are independent, so that any two sets of numbers have one distribution."""
    return random.Random(derive_seed(seed, number, "prompt")).choice(PROMPTS)


def noise_of(seed: int, number: int, shape: tuple[int, ...]) -> Tensor:
    """The white noise of a sample, which depends on seed and number alone."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(derive_seed(seed, number, "noise")))


def _sirens(settings: Settings, seed: int, numbers: range, size: int) -> SirenImages:
    rays = min(settings.rays, size**2)
    shape = (3, size, size, settings.hidden, settings.layers, settings.omega, rays)
    with torch.random.fork_rng(), torch.no_grad():
        sirens, single = SirenImages(len(numbers), *shape), []
        for number in numbers:
            torch.manual_seed(derive_seed(seed, number, "weights"))
            single.append(SirenImages(1, *shape))
        for parameter, parts in zip(
            sirens.parameters(), zip(*(s.parameters() for s in single), strict=True), strict=True
        ):
            parameter.copy_(torch.cat(parts))
    return sirens


def batch(path: str, settings: Settings, seed: int, scale: float, numbers: range) -> Batch:
    """The batch of the samples with these numbers, at a guidance scale."""
    model = load(path)
    latent = (model.latent_channels, model.sample_size, model.sample_size)
    sigmas = schedule.karras_sigmas(settings.levels, settings.sigma_min, model.sigma_max, settings.rho)
    prompts = [prompt_of(seed, number) for number in numbers]
    cond, uncond = model.encode_prompt([*prompts, *[""] * len(prompts)]).chunk(2)
    sirens = _sirens(settings, seed, numbers, model.image_size)
    image, latents = (
        models.GuidedDenoiser(model, lambda views: (cond[views], uncond[views]), scale, space)
        for space in ("image", "latent")
    )
    noise = torch.stack([noise_of(seed, number, latent) for number in numbers])
    generator = torch.Generator().manual_seed(derive_seed(seed, numbers.start, len(numbers), "run"))
    return Batch(model, sigmas, noise, sirens, image, latents, settings, generator)
