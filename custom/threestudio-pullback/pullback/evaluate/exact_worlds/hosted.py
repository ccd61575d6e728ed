"""Geometry and renderer of the bundled host, by their names in configs, as a representation of the worlds of scenes."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ...adapters.rendered_field import RenderedField
from ...host.parts import load_parts
from ...host.registry import find
from ...views.cameras import camera_batch


class Hosted(nn.Module):
    """f(θ, poses): the host's renderer before white, with colours that need no light.

    Args:
        geometry: Registered name and config.
        renderer: Registered name and config.
        size: Rows and columns of a render.
        rays: Of a step of a fit, all views together; 0 for whole pictures in every step.
        fovy: Vertical angle of view in radians.
    """

    def __init__(
        self, geometry: tuple[str, dict[str, Any]], renderer: tuple[str, dict[str, Any]], size: int = 24,
        rays: int = 0, fovy: float = 0.7,
    ) -> None:  # fmt: skip
        super().__init__()
        load_parts()
        parts = {
            "geometry": find(geometry[0])(geometry[1]),
            "material": find("no-material")({"n_output_dims": 3, "color_activation": "sigmoid"}),
            "background": find("solid-color-background")({"color": [1.0, 1.0, 1.0]}),
        }
        drawn = find(renderer[0])(renderer[1], **parts)
        self.field = RenderedField(drawn, parts["geometry"], [parts["material"], parts["background"]], rays)
        self.size, self.fovy = size, fovy
        if rays:
            self.residuals = lambda views, *rest: self.field.residuals(self._batch(views), *rest)
            self.residual = lambda views, *rest: self.field.residual(self._batch(views), *rest)
        if hasattr(parts["geometry"], "initialize_shape"):
            parts["geometry"].initialize_shape()

    def render(self, views: Tensor) -> Tensor:
        """Images [V,3,H,W] in [−1, 1] for poses [V,4,4]."""
        return self.field.render(self._batch(views))

    def _batch(self, views: Tensor) -> dict[str, Any]:
        views = views.to(next(self.parameters()))
        batch: dict[str, Any] = camera_batch(views, views.new_full((len(views),), self.fovy), self.size, self.size)
        lights = {"light_positions": batch["camera_positions"]}
        return {**batch, **lights, "height": self.size, "width": self.size}
