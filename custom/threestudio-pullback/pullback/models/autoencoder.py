"""Diffusers' autoencoders of a latent model, each with its own conventions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .reading import ModelError, ModelFolder

KINDS = ("AutoencoderKL", "AutoencoderTiny")
"""The classes in diffusers. Both take and give images in [-1,1]; AutoencoderTiny maps them to [0,1] inside."""


def encode(vae: Any, images: Tensor) -> Tensor:
    """Latents [V,c,h,w] as the network takes them, (z − shift) · scale, of images [V,3,H,W] in [-1,1].

    z is the mean of AutoencoderKL's posterior; AutoencoderTiny (TAESD) has no posterior. Its latents are scaled as the
    network takes them already, and its scale is 1, where that of Stable Diffusion's AutoencoderKL is 0.18215. Arguments
    are cast to the networks' dtype and device; results have float32 at least.
    """
    output = vae.encode(images.to(vae.device, vae.dtype))
    z = output.latents if hasattr(output, "latents") else output.latent_dist.mean
    scale, shift = _scale_and_shift(vae)
    return (z.to(_wide(images)) - shift) * scale


def decode(vae: Any, latents: Tensor, chunk: int | None = None) -> Tensor:
    """Images [V,3,H,W], about [-1,1], of latents as the network takes them, at most `chunk` at a time."""
    scale, shift = _scale_and_shift(vae)
    z = (latents / scale + shift).to(vae.device, vae.dtype)
    return torch.cat([vae.decode(part).sample for part in z.split(chunk or len(z))]).to(_wide(latents))


def factor(config: Any) -> int:
    """Pixels per latent along each side, of a class's config."""
    return 2 ** (len(config["block_out_channels"]) - 1)


def load(folder: ModelFolder, dtype: torch.dtype, channels: int) -> Any:
    """The autoencoder of a model's folder, or the one that takes its place.

    Args:
        folder: The model's.
        dtype: Of the weights.
        channels: Of the latents that the network takes.

    Raises:
        ModelError: It cannot be read, or its latents are not those of the model.
    """
    if "vae" not in folder.other:
        return folder.network("vae", "diffusers.AutoencoderKL", dtype)
    try:
        name = folder.json("vae/config.json").get("_class_name")
        if name not in KINDS:
            raise ModelError(f"{folder.place('vae')} holds a {name}; use an {' or '.join(KINDS)}")
        vae = folder.network("vae", f"diffusers.{name}", dtype)
        own = factor(ModelFolder(folder.path).json("vae/config.json"))
        sizes = {"channels of the latents": (vae.config.latent_channels, channels)}
        sizes["pixels per latent"] = (factor(vae.config), own)
        for what, (its, wanted) in sizes.items():
            if its != wanted:
                raise ModelError(f"{what}: {its}, but the model has {wanted}; use an autoencoder that was made for it")
    except ModelError as error:
        raise ModelError(f"cannot take the place of the model's autoencoder: {error.message}", "vae") from error
    return vae


def _scale_and_shift(vae: Any) -> tuple[float, float]:
    return float(vae.config.scaling_factor), float(getattr(vae.config, "shift_factor", None) or 0.0)


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)
