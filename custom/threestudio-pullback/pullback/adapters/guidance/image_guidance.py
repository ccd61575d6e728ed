"""`pullback-image-guidance`: `pullback-guidance` for pictures, whose targets survive the autoencoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from pullback import models
from pullback.errors import ConfigError

from .._framework import register
from .guidance import PullbackGuidance
from .options import Options


@dataclass
class ImageOptions(Options):
    # decoder and encoder calls with which a level's decoded target is made to encode to what was asked for
    decode_rounds: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.decode_rounds, bool) or not isinstance(self.decode_rounds, int) or self.decode_rounds < 0:
            raise ConfigError("decode_rounds", f"must be a whole number of at least 0, not {self.decode_rounds!r}")


@register("pullback-image-guidance")
class ImageGuidance(PullbackGuidance):
    """As `pullback-guidance`, with `models.RoundTrip`: an exact fit loses most to the autoencoder."""

    Config = ImageOptions

    cfg: ImageOptions

    def denoiser(self, prompt_utils: Any) -> models.AnySize:
        made = super().denoiser(prompt_utils)
        return models.AnySize(cast(Any, models.RoundTrip(made.denoise, self.cfg.decode_rounds)))
