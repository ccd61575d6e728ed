"""Guidance for a model that denoises groups of views together."""

from __future__ import annotations

from typing import Any

from ..errors import UserError
from ..named import Choice
from .guidance_policy import GuidancePolicy
from .guided import GuidedDenoiser, TextOf
from .protocol import Conditioning, LatentModel


class JointGuidedDenoiser(GuidedDenoiser):
    """A `GuidedDenoiser` of groups of views; a `JointDenoiser` of the core.

    The views come group by group, and are dicts with c2w [V,4,4], see `pullback.views.cameras`. The text of a view is
    that of a single-view model; its camera is added here, with guidance and without. A call that `chunk` makes takes
    whole groups.

    Args:
        model: A model with `group_size`.
        text: See `TextOf`.
        guidance_scale: As for `GuidedDenoiser`.
        fit_space: As for `GuidedDenoiser`.
        chunk: As for `GuidedDenoiser`; rounded down to whole groups, but to one at least.
        policy: As for `GuidedDenoiser`.
    """

    def __init__(
        self,
        model: Any,
        text: TextOf,
        guidance_scale: float,
        fit_space: str = "image",
        chunk: int | None = None,
        policy: Choice[GuidancePolicy] = "always",
    ):
        group: int = model.group_size
        super().__init__(model, text, guidance_scale, fit_space, chunk and max(group, chunk // group * group), policy)
        self.group_size = group

    def _texts(self, views: Any, count: int) -> tuple[Any, ...]:
        from .multi_view import camera_numbers

        if not isinstance(views, dict) or "c2w" not in views:
            raise UserError("a model of several views needs their cameras; hand in views with c2w [V,4,4]")
        camera = camera_numbers(views["c2w"])
        return tuple(Conditioning({"text": text, "camera": camera.to(text)}) for text in super()._texts(views, count))


def guided(
    model: LatentModel,
    text: TextOf,
    guidance_scale: float,
    fit_space: str = "image",
    chunk: int | None = None,
    policy: Choice[GuidancePolicy] = "always",
) -> GuidedDenoiser:
    """The guided denoiser of a model of single views or of several; arguments as for `GuidedDenoiser`."""
    kind = JointGuidedDenoiser if getattr(model, "group_size", 1) > 1 else GuidedDenoiser
    return kind(model, text, guidance_scale, fit_space, chunk, policy)
