"""A small network that recognises what a picture of the studio shows; its features compare sets of pictures."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import UserError, check_finite
from ...resources import STUDIO_CLASSIFIER
from .world import COLORS, SHAPES

FOLDER = STUDIO_CLASSIFIER
SIZE = 64  # pixels a side that the network sees
WIDTH = 96  # of the features
OUTPUTS = {"shape": len(SHAPES) + 1, "colours": len(COLORS)}
"""Logits of each head: one choice of a shape or none; each colour, visible or not."""
VISIBLE, HIDDEN = 0.05, 0.01
"""A colour is visible from the first share of the object's visible part on, and hidden up to the second."""
UNCLEAR = -1
"""The label of a colour between the two."""


class Contents(NamedTuple):
    """What a picture shows: a shape, or None for no object, and the visible colours, in the order of COLORS."""

    shape: str | None
    colours: tuple[str, ...]


def labels(shape: Tensor, front: Tensor, back: Tensor, buffers: Tensor) -> tuple[Tensor, Tensor]:
    """Labels of pictures: shapes [B], and for each colour [B,6] 1 (visible), 0 (hidden) or UNCLEAR.

    The labels do not say on which side a colour is, so that features are equal for both sides of a one-coloured object.

    Args:
        shape: Indices of the shapes [B].
        front: Indices of the front colours [B].
        back: Indices of the back colours [B].
        buffers: The pictures' `worlds.shading_buffers` [B,3,H,W].
    """
    light = buffers[:, :2].sum((2, 3))
    sides = F.one_hot(torch.stack([front, back], 1), len(COLORS)) * (light / light.sum(1, keepdim=True))[..., None]
    share = sides.sum(1)
    return shape, torch.where(share >= VISIBLE, 1, torch.where(share <= HIDDEN, 0, UNCLEAR))


class Network(nn.Module):
    """[B,3,64,64] in [-1,1] → features [B,96] of mean 0 and mean square 1 each; heads on top of them."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 48, 64, 96)
        blocks = []
        for i, (a, b) in enumerate(itertools.pairwise(widths)):
            kernel = 5 if i == 0 else 3
            blocks += [nn.Conv2d(a, b, kernel, 2, kernel // 2, bias=False), nn.BatchNorm2d(b), nn.SiLU()]
        self.body = nn.Sequential(*blocks, nn.Flatten(), nn.Linear(widths[-1] * 16, WIDTH))
        self.heads = nn.ModuleDict({name: nn.Linear(WIDTH, count) for name, count in OUTPUTS.items()})

    def forward(self, pictures: Tensor) -> Tensor:
        """The features [B,96] of pictures [B,3,64,64] in [-1,1]."""
        # a fixed length keeps KID's cubic kernel from being ruled by a few large features
        return F.layer_norm(self.body(pictures), (WIDTH,))


class StudioClassifier:
    """Features of pictures of the studio, and their names: `Features` without texts."""

    name = "studio classifier"

    def __init__(self, network: Network) -> None:
        self.network = network.eval().requires_grad_(False)

    @torch.no_grad()
    def images(self, pictures: Tensor) -> Tensor:
        """The features [B,96] of pictures [B,3,H,W] in [-1,1], on their device; sizes other than 64 are resampled.

        Raises:
            NonFiniteError: A picture has a NaN or infinity.
        """
        check_finite(pictures, "the picture")
        network = self.network.to(pictures.device)
        return torch.cat([network(_fitted(part)) for part in pictures.split(256)])

    @torch.no_grad()
    def see(self, pictures: Tensor) -> list[Contents]:
        """The likeliest shape and the colours more likely than not, of each picture of [B,3,H,W] in [-1,1]."""
        features = self.images(pictures)
        shapes = self.network.heads["shape"](features).argmax(1).tolist()
        colours = (self.network.heads["colours"](features) > 0).tolist()
        return [
            Contents((*SHAPES, None)[shape], tuple(name for name, visible in zip(COLORS, row, strict=True) if visible))
            for shape, row in zip(shapes, colours, strict=True)
        ]


def _fitted(pictures: Tensor) -> Tensor:
    pictures = pictures.float().clamp(-1, 1)
    if pictures.shape[-2:] == (SIZE, SIZE):
        return pictures
    if min(pictures.shape[-2:]) >= SIZE:
        return F.interpolate(pictures, (SIZE, SIZE), mode="area")
    return F.interpolate(pictures, (SIZE, SIZE), mode="bilinear", align_corners=False)


@functools.cache
def load_studio(folder: Path = FOLDER) -> StudioClassifier:
    """The shipped classifier; raises UserError if its weights are missing or do not fit."""
    from safetensors.torch import load_file

    file = Path(folder) / "model.safetensors"
    network = Network()
    try:
        network.load_state_dict(load_file(file))
    except Exception as error:  # safetensors and PyTorch raise their own
        raise UserError(
            f"the studio classifier cannot be read from {file} ({type(error).__name__}); restore the file from the "
            "repository or make it with tools/train_studio_classifier.py"
        ) from error
    return StudioClassifier(network)
