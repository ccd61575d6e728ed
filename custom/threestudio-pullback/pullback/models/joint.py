"""What a model that denoises groups of views together takes beside the text: cameras, group by group."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from .protocol import Conditioning

NO_PERP_NEG = "is true, but the model sees several views at once and needs no words for them; set it to false"
"""Completes a sentence that begins with the key."""
TOLERANCE = 20
"""Degrees by which a camera's direction may be off its place in the group, for perturbed cameras."""


def grouped(views: Any, group: int) -> Tensor:
    """The poses [V,4,4] of views that come in groups, spread evenly round the z axis.

    Args:
        views: Poses, or a dict with them as c2w.
        group: Views in a group.

    Raises:
        UserError: There are no poses, or they are no such groups.
    """
    c2w = views.get("c2w") if isinstance(views, Mapping) else views
    if not isinstance(c2w, Tensor) or c2w.ndim != 3:
        raise UserError("a model of several views needs their cameras; hand in poses [V,4,4], or a dict with c2w")
    if len(c2w) % group:
        raise UserError(f"the model sees {group} views at a time; use a multiple of it, not {len(c2w)}")
    back = c2w[:, :3, 2].unflatten(0, (-1, group))
    turn = torch.atan2(back[..., 1], back[..., 0]).diff(dim=1) - 2 * math.pi / group
    off = torch.rad2deg(torch.atan2(turn.sin(), turn.cos()).abs())
    if bool((off > TOLERANCE).any()) or bool((back[..., 2] - back[:, :1, 2]).abs().gt(0.3).any()):
        raise UserError(
            f"the cameras are no groups of {group} at one elevation, {360 / group:g}° apart; take "
            f"`data_type: pullback-multiview-datamodule` with `data.n_view: {group}`"
        )
    return c2w


def with_cameras(model: Any, text: Any, views: Any) -> Any:
    """The prompts that a model takes: for one of several views with the cameras, else the text itself.

    Args:
        model: Of single views or of several.
        text: `Prompts` of V views.
        views: For a model of several, poses [V,4,4] group by group, or a dict with them as c2w; see `views.cameras`.

    Raises:
        UserError: The views are no groups as the model sees them.
    """
    if group_of(model) == 1:
        return text
    from .multi_view import camera_numbers

    return Conditioning({"text": text, "camera": camera_numbers(grouped(views, group_of(model))).to(text)})


def group_of(model: Any) -> int:
    """How many views a model sees at once."""
    return getattr(model, "group_size", 1)
