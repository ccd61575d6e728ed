"""The output of a prompt processor (threestudio's prompt_utils) as the text of a denoiser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from .guided import TextOf
from .perp_neg import PerpNegText


def text_of(prompt_utils: Any, view_dependent: bool) -> TextOf:
    """The `text` of a `GuidedDenoiser` whose views are dicts.

    Args:
        prompt_utils: The prompt processor's output.
        view_dependent: Whether the prompt depends on the view.

    Returns:
        Views with elevation and azimuth [V] in degrees and camera_distances [V] -> (cond, uncond) [V,T,D].
    """

    def text(views: dict[str, Any]) -> tuple[Tensor, Tensor]:
        cond, uncond = prompt_utils.get_text_embeddings(*_angles(views), view_dependent).chunk(2)
        return cond, uncond

    return text


def perp_neg_text_of(prompt_utils: Any, view_dependent: bool) -> Callable[[Any], PerpNegText]:
    """The `text` of a `PerpNegDenoiser`, with the views' negatives and their weights; arguments as for `text_of`."""

    def text(views: dict[str, Any]) -> PerpNegText:
        texts, weights = prompt_utils.get_text_embeddings_perp_neg(*_angles(views), view_dependent)
        cond, uncond, negatives = texts.split([len(weights), len(weights), weights.numel()])
        return cond, uncond, negatives.unflatten(0, tuple(weights.shape)), weights

    return text


def _angles(views: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(views[name] for name in ("elevation", "azimuth", "camera_distances"))
