"""A latent denoiser for renders of any size."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import torch

from ..errors import UserError
from .guided import GuidedDenoiser
from .wrapped import Wrapped

SQUEEZED = (
    "but the model sees squares, and what is round would become an ellipse in them; make the two equal, only "
    "data.eval_height and data.eval_width may differ"
)


def check_square(data: Any) -> None:
    """Checks the sizes of a datamodule's config before the model is loaded.

    Args:
        data: The config, with `height` and `width`, each a number or a list with one for each resolution.

    Raises:
        UserError: Pictures for the model are not square.
    """
    if not (hasattr(data, "height") and hasattr(data, "width")):
        return
    sizes = [list(v) if isinstance(v, Iterable) else [v] for v in (data.height, data.width)]
    for height, width in itertools.zip_longest(*sizes, fillvalue=None):
        height, width = (own[-1] if v is None else v for v, own in zip((height, width), sizes, strict=True))
        if height != width:
            raise UserError(f"`data.height` is {height} and `data.width` {width}, {SQUEEZED}")


class AnySize(Wrapped):
    """A latent denoiser for square renders of any size: it resizes them to the model's size and the answers back.

    Args:
        denoise: The denoiser, for images of the model's size.
    """

    def __init__(self, denoise: GuidedDenoiser | Wrapped) -> None:
        super().__init__(denoise)
        self.model_size = (denoise.model.image_size, denoise.model.image_size)
        self.render_size = self.model_size

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Images [V,3,N,N] of any size → latents [V,c,h,w] of the model's size; UserError where they are not square."""
        # a visit encodes its renders before it decodes its targets, which get the same size
        self.render_size = _square(images)
        return self.denoise.encode(_resize(images, self.model_size))

    def fit_latents(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents of any size, resized to the model's."""
        size = self.denoise.model.sample_size
        _square(latents)
        return _resize(latents, (size, size))

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents [V,c,h,w] → images of the size that `encode` had last."""
        return _resize(self.denoise.decode(latents), self.render_size)


def _square(images: torch.Tensor) -> tuple[int, int]:
    height, width = images.shape[-2:]
    if height != width:
        raise UserError(f"the renders are {height} pixels high and {width} wide, {SQUEEZED}")
    return height, width


def _resize(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    if images.shape[-2:] == size:
        return images
    return torch.nn.functional.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
