"""`pullback-image-guidance`: `pullback-guidance` for pictures, with targets that the autoencoder does not change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pullback import models
from pullback.errors import ConfigError

from .._framework import register
from .guidance import PullbackGuidance
from .options import Options


@dataclass
class ImageOptions(Options):
    """The options of `pullback-guidance`, and `decode_rounds`: the rounds of a `models.RoundTrip`."""

    decode_rounds: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.decode_rounds, bool) or not isinstance(self.decode_rounds, int) or self.decode_rounds < 0:
            raise ConfigError("decode_rounds", f"must be a whole number of at least 0, not {self.decode_rounds!r}")


@register("pullback-image-guidance")
class ImageGuidance(PullbackGuidance):
    """`pullback-guidance` with `models.RoundTrip`; the autoencoder is the largest error of an exact fit."""

    Config = ImageOptions

    cfg: ImageOptions

    def denoiser(self, prompt_utils: Any) -> models.AnySize:
        """The guided denoiser, whose decoded targets encode to their own latents."""
        denoise = super().denoiser(prompt_utils).denoise
        return models.AnySize(models.RoundTrip(denoise, self.cfg.decode_rounds))
