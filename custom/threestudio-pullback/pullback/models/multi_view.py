"""A UNet that denoises several views of one object together.

Source: MVDream (Shi et al. 2023, arXiv 2308.16512). Its network is Stable Diffusion's with two changes: self-attention
runs over the tokens of all views of a group, and a camera's 16 numbers, through two linear layers, are added to the
embedding of the time. So a text-to-image UNet is a start for its training: attention across views has no weights of
its own. The file imports diffusers; import it where a model is loaded.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor

CAMERA_NUMBERS = 16


class AcrossViews(AttnProcessor2_0):
    """Self-attention over the tokens of all views of a group; without weights.

    Args:
        group: Views in a group.
    """

    def __init__(self, group: int) -> None:
        super().__init__()
        self.group = group

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Tokens [G·V,N,C], the views of a group in a row, to tokens of the same shape."""
        views, tokens, width = hidden_states.shape
        joined = hidden_states.reshape(views // self.group, self.group * tokens, width)
        return super().__call__(attn, joined, *args, **kwargs).reshape(views, tokens, width)


class MultiViewUNet2DConditionModel(UNet2DConditionModel):
    """Diffusers' UNet with attention across the views of a group and an embedding of their cameras.

    The camera's layers are `class_embedding`, which diffusers adds to the embedding of the time; `class_labels` of a
    call are `camera_numbers` [G·V,16], the views of a group in a row.

    Args:
        group: Views in a group.
        **config: The arguments of UNet2DConditionModel, by name.
    """

    def __init__(self, *, group: int = 4, **config: Any) -> None:
        super().__init__(**config)
        self.register_to_config(group=group)
        joint = AcrossViews(group)
        self.set_attn_processor(
            {name: joint if name.endswith("attn1.processor") else own for name, own in self.attn_processors.items()}
        )


# diffusers takes from a config what the signature names
_own = inspect.signature(UNet2DConditionModel.__init__)
_group = inspect.Parameter("group", inspect.Parameter.KEYWORD_ONLY, default=4)
MultiViewUNet2DConditionModel.__init__.__signature__ = _own.replace(parameters=[*_own.parameters.values(), _group])


def camera_numbers(c2w: Tensor) -> Tensor:
    """What the network is told of cameras: poses [V,4,4] or [V,3,4] to [V,16].

    MVDream's convention: the camera-to-world matrix, row by row, with the position scaled to length 1. World z is up
    and camera axes are OpenGL's, as in `pullback.views.cameras`.
    """
    position = F.normalize(c2w[:, :3, 3:], dim=1)
    last = torch.tensor([0.0, 0.0, 0.0, 1.0]).to(c2w).expand(len(c2w), 1, 4)
    return torch.cat([torch.cat([c2w[:, :3, :3], position], -1), last], 1).flatten(1)
