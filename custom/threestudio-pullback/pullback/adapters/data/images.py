"""`pullback-image-datamodule`: the one view of an image, as a batch of cameras."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from pullback.diffreps.coordinates import pixel_centres
from pullback.errors import check_at_least
from torch import Tensor

from .._framework import register
from .views import SIZES, ShownViews, TrainingViews, ViewsDataModule


@dataclass
class ImageDataConfig:
    """Sizes of the views.

    Attributes:
        height: Rows of the pictures that the model sees.
        width: Their columns.
        batch_size: Copies of the view in a batch.
        eval_height: Rows of the pictures that are saved.
        eval_width: Their columns.
        n_val_views: Pictures at validation.
        n_test_views: Pictures at the end.
    """

    height: int = 64
    width: int = 64
    batch_size: int = 1
    eval_height: int = 512
    eval_width: int = 512
    n_val_views: int = 1
    n_test_views: int = 1

    def __post_init__(self) -> None:
        check_at_least(self, 1, *SIZES)


def flat_view(height: int, width: int, count: int = 1) -> dict[str, Any]:
    """A batch of `count` equal orthographic views of the square [−1, 1]² in the plane z = 0, with the host's keys.

    rays_o [B,H,W,3] is (x, y, −1) with x, y the pixel's centre in (−1, 1), x to the right and y down; rays_d is
    (0, 0, 1). So the camera c2w, of OpenGL axes, stands at z = −1 with its up at −y; mvp_mtx maps (x, y) to itself.
    fovy, elevation, azimuth and camera_distances have no meaning for such a view and are 0.
    """
    place = torch.cat([pixel_centres(height, width), torch.full((height, width, 1), -1.0)], -1)
    c2w = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    c2w[2, 3] = -1
    near, far = 0.0, 2.0
    proj = torch.diag(torch.tensor([1.0, -1.0, -2 / (far - near), 1.0]))
    proj[2, 3] = -(far + near) / (far - near)
    zero = torch.zeros(count)

    def repeated(one: Tensor) -> Tensor:
        return one.expand(count, *one.shape).clone()

    return {
        "rays_o": repeated(place), "rays_d": repeated(torch.tensor([0.0, 0.0, 1.0]).expand_as(place)),
        "mvp_mtx": repeated(proj @ torch.linalg.inv(c2w)), "proj_mtx": repeated(proj), "c2w": repeated(c2w),
        "camera_positions": repeated(c2w[:3, 3]), "light_positions": repeated(c2w[:3, 3]),
        "fovy": zero, "elevation": zero.clone(), "azimuth": zero.clone(), "camera_distances": zero.clone(),
        "height": height, "width": width,
    }  # fmt: skip


class TrainingView(TrainingViews):
    """The same batch without end."""

    def draw(self, step: int) -> dict[str, Any]:
        """The batch, the same at every step."""
        return flat_view(self.cfg.height, self.cfg.width, self.cfg.batch_size)


class EvaluationViews(ShownViews):
    """n_views equal views at the size of evaluation, one at a time, with their index [1]."""

    def collate(self, indices: list[int]) -> dict[str, Any]:
        """The views of these indices."""
        view = flat_view(self.cfg.eval_height, self.cfg.eval_width, len(indices))
        return {"index": torch.tensor(indices), **view}


@register("pullback-image-datamodule")
class ImageDataModule(ViewsDataModule):
    """One orthographic view of a picture to train with, and to look at."""

    Config = ImageDataConfig
    training = TrainingView
    evaluation = EvaluationViews
