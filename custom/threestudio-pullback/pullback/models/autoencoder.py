"""Diffusers' autoencoders of a latent model, each with its own conventions."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .model_error import ModelError
from .reading import ModelFolder

KINDS = ("AutoencoderKL", "AutoencoderTiny")
"""The classes that may replace a model's own. Both take and give images in [-1,1]; AutoencoderTiny maps them to [0,1]
inside."""


def encode(vae: Any, images: Tensor) -> Tensor:
    """Latents [V,c,h,w] as the network takes them, (z − shift) · scale, of images [V,3,H,W] in [-1,1].

    z is the mean of the posterior where there is one; AutoencoderTiny (TAESD) and AutoencoderDC have none. Where the
    statistics are those of a batch norm, a latent is a token of two by two. Arguments are cast to the networks' dtype
    and device; results have float32 at least.
    """
    x = images.to(vae.device, vae.dtype)
    output = vae.encode(x[:, :, None] if _of_videos(vae) else x)
    kinds = ("latents", "latent", "latent_dist")
    z = next(value for kind in kinds if (value := getattr(output, kind, None)) is not None)
    z = getattr(z, "mean", z) if not isinstance(z, Tensor) else z
    z = (z[:, :, 0] if _of_videos(vae) else z).to(_wide(images))
    shift, scale = statistics(vae, z)
    return ((F.pixel_unshuffle(z, 2) if _normed(vae) else z) - shift) * scale


def decode(vae: Any, latents: Tensor, chunk: int | None = None) -> Tensor:
    """Images [V,3,H,W], about [-1,1], of latents as the network takes them, at most `chunk` at a time."""
    shift, scale = statistics(vae, latents)
    z = latents / scale + shift
    z = (F.pixel_shuffle(z, 2) if _normed(vae) else z).to(vae.device, vae.dtype)
    if not _of_videos(vae):
        return torch.cat([vae.decode(part).sample for part in z.split(chunk or len(z))]).to(_wide(latents))
    parts = z[:, :, None].split(chunk or len(z))
    return torch.cat([vae.decode(part).sample[:, :, 0] for part in parts]).to(_wide(latents))


def statistics(vae: Any, like: Tensor) -> tuple[Any, Any]:
    """Shift and scale of latents, numbers or [c,1,1]: of all, of each channel, or of a batch norm.

    Args:
        vae: The autoencoder.
        like: A tensor of the dtype and device that they get.
    """
    config = vae.config
    if _normed(vae):
        deviation = (vae.bn.running_var.to(like) + config.batch_norm_eps).sqrt()
        return vae.bn.running_mean.to(like)[:, None, None], 1 / deviation[:, None, None]
    scale = float(config.get("scaling_factor") or 1.0)
    mean, deviation = config.get("latents_mean"), config.get("latents_std")
    if mean is not None and deviation is not None:
        columns = (torch.tensor(values, dtype=like.dtype, device=like.device) for values in (mean, deviation))
        mean, deviation = (values.flatten()[:, None, None] for values in columns)
        return mean, scale / deviation
    return float(config.get("shift_factor") or 0.0), scale


def factor(config: Any) -> int:
    """Pixels per latent along each side, of a class's config."""
    if "temperal_downsample" in config:
        return 2 ** len(config["temperal_downsample"])
    widths = config["encoder_block_out_channels" if "encoder_block_out_channels" in config else "block_out_channels"]
    return 2 ** (len(widths) - 1) * (2 if "batch_norm_eps" in config else 1)


def channels(config: Any) -> int:
    """Channels of the latents, of a class's config."""
    count = int(config["z_dim"] if "z_dim" in config else config.get("latent_channels", 4))
    return 4 * count if "batch_norm_eps" in config else count


def load(folder: ModelFolder, dtype: torch.dtype, kind: str = "AutoencoderKL", upcast: bool = False) -> Any:
    """The autoencoder of a model's folder, or the one that takes its place.

    Args:
        folder: The model's.
        dtype: Of the weights.
        kind: The class of the model's own in diffusers.
        upcast: Whether the config's force_upcast is obeyed: float32 in place of float16, which would overflow.

    Raises:
        ModelError: It cannot be read, or its latents are not those of the model.
    """
    if upcast and dtype == torch.float16 and folder.json("vae/config.json").get("force_upcast"):
        dtype = torch.float32
    if "vae" not in folder.other:
        return folder.network("vae", f"diffusers.{kind}", dtype)
    try:
        name = folder.json("vae/config.json").get("_class_name")
        if name not in KINDS:
            raise ModelError(f"{folder.place('vae')} holds a {name}; use an {' or '.join(KINDS)}")
        vae = folder.network("vae", f"diffusers.{name}", dtype)
        own = ModelFolder(folder.path).json("vae/config.json")
        sizes = {"channels of the latents": (channels(vae.config), channels(own))}
        sizes["pixels per latent"] = (factor(vae.config), factor(own))
        for what, (its, wanted) in sizes.items():
            if its != wanted:
                raise ModelError(f"{what}: {its}, but the model has {wanted}; use an autoencoder that was made for it")
    except ModelError as error:
        raise ModelError(f"cannot take the place of the model's autoencoder: {error.message}", "vae") from error
    return vae


def _of_videos(vae: Any) -> bool:
    return "temperal_downsample" in vae.config


def _normed(vae: Any) -> bool:
    return "batch_norm_eps" in vae.config


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)
