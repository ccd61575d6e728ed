"""The pictures of a run's field: a grid of views at validation, a turntable and a grid at the end."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import NonFiniteError


class Pictures:
    """Validation and test steps of a system whose `forward(batch)` renders: a mixin, named before the base system."""

    def configure(self: Any) -> None:
        """Starts without pictures."""
        super().configure()  # type: ignore[misc]
        self._pictures: list[tuple[int, Tensor, Tensor]] = []

    def _look(self: Any, batch: dict[str, Any]) -> tuple[int, Tensor, Tensor]:
        """Index, colours [H,W,3] and opacity [H,W] of an evaluation view, for `_save_grid`."""
        out, view = self(batch), int(batch["index"][0])
        if not bool(out["comp_rgb"].isfinite().all()):
            raise NonFiniteError(f"at step {self.true_global_step} the render has a NaN in evaluation view {view}")
        return view, out["comp_rgb"][0], out["opacity"][0, ..., 0]

    def validation_step(self: Any, batch: dict[str, Any], batch_idx: int) -> None:
        """Renders a view."""
        self._pictures.append(self._look(batch))

    def on_validation_epoch_end(self: Any) -> None:
        """Saves the grid."""
        self._save_grid(f"it{self.true_global_step}-val.png", "validation_step")

    def test_step(self: Any, batch: dict[str, Any], batch_idx: int) -> None:
        """Renders a view and saves its picture."""
        view, rgb, opacity = self._look(batch)
        self._pictures.append((view, rgb, opacity))
        self.save_image_grid(
            f"it{self.true_global_step}-test/{view}.png",
            [{"type": "rgb", "img": rgb, "kwargs": {"data_format": "HWC"}}],
            name="test_step",
            step=self.true_global_step,
        )

    def on_test_epoch_end(self: Any) -> None:
        """Saves the turntable, a grid of at most 8 views, and what the geometry saves of itself."""
        folder = f"it{self.true_global_step}-test"
        self.save_img_sequence(
            folder, folder, r"(\d+)\.png", save_format="mp4", fps=30, name="test", step=self.true_global_step
        )
        every = max(1, len(self._pictures) // 8)
        self._pictures = self._pictures[::every][:8]
        self._save_grid(f"it{self.true_global_step}-grid.png", "test")
        if hasattr(self.geometry, "save_whole"):  # what no single view shows
            about = self.origin() if hasattr(self, "origin") else {}  # threestudio's systems have none
            self.geometry.save_whole(self.get_save_path(f"it{self.true_global_step}-whole"), about)

    def _save_grid(self: Any, filename: str, name: str) -> None:
        """One picture of all collected views: colours above, opacity below, where there is anything to see through."""
        if not self._pictures:
            return
        views = sorted(self._pictures, key=lambda p: p[0])
        self._pictures = []
        colours, opacity = (torch.cat(parts, 1) for parts in ([v[1] for v in views], [v[2] for v in views]))
        rows = [[{"type": "rgb", "img": colours, "kwargs": {"data_format": "HWC"}}]]
        if bool((opacity < 1).any()):
            grey = {"cmap": None, "data_range": (0, 1)}
            rows.append([{"type": "grayscale", "img": opacity, "kwargs": grey}])
        self.save_image_grid(filename, rows, name=name, step=self.true_global_step)
