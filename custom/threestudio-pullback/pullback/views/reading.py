"""The one reader of `views`: camera batches, poses and positions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeGuard

import torch
from torch import Tensor

from ..errors import UserError


def read_poses(views: Any, who: str, fovy: float | None = None) -> tuple[Tensor, Tensor]:
    """The poses and angles of view that `views` hold.

    Args:
        views: A camera batch with `c2w` [V,4,4] or [V,3,4] and `fovy` [V] in radians, or poses alone.
        who: The caller's name, for the error.
        fovy: The angle in radians where the views bring none; without it they must.

    Returns:
        Poses [V,4,4] or [V,3,4], and fovy [V] in radians.

    Raises:
        UserError: The views are something else, or an angle lies outside (0, π).
    """
    angle: Any = fovy
    if _is_batch(views):
        views, angle = views.get("c2w"), views.get("fovy", fovy)
    if not _are_poses(views) or angle is None:
        raise _unknown(who, "poses [V,4,4], or a camera batch with `c2w`" if fovy else "a camera batch with `c2w`")
    angle = torch.as_tensor(angle).to(views)
    if not bool(((angle > 0) & (angle < math.pi)).all()):
        raise UserError(f"{who} needs cameras with a `fovy` between 0 and pi radians")
    return views, angle.expand(len(views))


def read_positions(views: Any, who: str) -> Tensor:
    """Where the cameras of `views` stand [V,3].

    Args:
        views: Poses [V,4,4] or [V,3,4], positions [V,3], or a camera batch with either as `camera_positions` or `c2w`.
        who: The caller's name, for the error.

    Raises:
        UserError: The views are something else.
    """
    if _is_batch(views):
        views = views.get("camera_positions", views.get("c2w"))
    if _are_poses(views):
        return views[:, :3, 3]
    if isinstance(views, Tensor) and views.ndim == 2 and views.shape[1] == 3:
        return views
    raise _unknown(who, "poses [V,4,4], positions [V,3], or a camera batch with `c2w` or `camera_positions`")


def _is_batch(views: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(views, Mapping)


def _are_poses(views: Any) -> TypeGuard[Tensor]:
    return isinstance(views, Tensor) and views.ndim == 3 and tuple(views.shape[1:]) in ((4, 4), (3, 4))


def _unknown(who: str, what: str) -> UserError:
    return UserError(f"{who} needs to know the cameras; its views must be {what}")
