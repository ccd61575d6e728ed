"""A Stable Diffusion model that sees a picture of the shape beside the text, by a ControlNet (Zhang et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from .families._latent_unet import DiffusionModel
from .model_error import ModelError
from .protocol import Conditioning, LatentModel
from .reading import ModelFolder

PICTURE = "control"
"""The key of what a ControlNet sees of views, [V,3,H,W] in [0, 1]; for depth, near is 1 and the background 0."""


class Controlled(DiffusionModel):
    """A model whose UNet gets the residuals of a ControlNet, in both calls of guidance, as in diffusers' pipeline.

    Its prompts are `Conditioning`s of "text" and "picture"; `with_picture` makes them.

    Args:
        model: The model.
        controlnet: Diffusers' ControlNetModel.
        scale: What the residuals are multiplied with.
    """

    def __init__(self, model: DiffusionModel, controlnet: Any, scale: float = 1.0):
        self.__dict__.update(vars(model))
        self.controlnet, self.scale = controlnet, float(scale)

    def evaluate(self, z: Tensor, times: Tensor, inputs: dict[str, Any]) -> Tensor:
        """The UNet's output [V,c,h,w] with the ControlNet's residuals."""
        text, picture = inputs["encoder_hidden_states"], inputs["picture"]
        down, middle = self.controlnet(
            z,
            times,
            encoder_hidden_states=text,
            controlnet_cond=picture,
            conditioning_scale=self.scale,
            return_dict=False,
        )
        more = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        return self.unet(z, times, encoder_hidden_states=text, **more).sample

    def network_inputs(self, text: Any) -> dict[str, Any]:
        """Text and picture."""
        return {"encoder_hidden_states": text.tensors["text"], "picture": text.tensors["picture"]}


def controlled(model: LatentModel, folder: str | Path, scale: float = 1.0) -> Controlled:
    """A model with the ControlNet of a folder in diffusers' format.

    Args:
        model: One of Stable Diffusion's format, from `load`.
        folder: What save_pretrained of a ControlNetModel wrote.
        scale: See `Controlled`.

    Raises:
        ModelError: The folder cannot be read, or the two do not belong together.
    """
    path = Path(folder)
    if not isinstance(model, DiffusionModel) or isinstance(model, Controlled):
        raise ModelError(
            "is for models of Stable Diffusion's format, which this one is not; leave it out", "controlnet"
        )
    if not path.is_dir():
        raise ModelError(
            f"is {str(folder)!r}, which is no folder; give the one that save_pretrained wrote", "controlnet"
        )
    network = ModelFolder(path.parent, other={"controlnet": path}).network(
        "controlnet", "diffusers.ControlNetModel", model.dtype
    )
    ours, theirs = model.unet.config, network.config
    for key in ("in_channels", "cross_attention_dim", "block_out_channels", "layers_per_block"):
        if tuple_of(ours[key]) != tuple_of(theirs[key]):
            raise ModelError(
                f"is {str(folder)!r}, a ControlNet for another model: its {key} is {theirs[key]}, the model's "
                f"{ours[key]}; give one that was trained for this model",
                "controlnet",
            )
    return Controlled(model, network.to(model.device), scale)


def tuple_of(value: Any) -> Any:
    """A list of a config as a tuple."""
    return tuple(value) if isinstance(value, list) else value


def with_picture(model: Any, text: Any, views: Any) -> Any:
    """The prompts that a model takes: for one with a ControlNet with the views' pictures, else the text itself.

    Args:
        model: Any.
        text: `Prompts` of V views.
        views: A dict with PICTURE for a model with a ControlNet.

    Raises:
        UserError: There are no pictures.
    """
    if not isinstance(model, Controlled):
        return text
    picture = views.get(PICTURE) if isinstance(views, Mapping) else None
    if not isinstance(picture, Tensor) or picture.ndim != 4 or picture.shape[1] != 3:
        raise UserError(f"a model with a ControlNet needs what it is shown; hand in views with {PICTURE!r} [V,3,H,W]")
    size = (model.image_size,) * 2
    if picture.shape[-2:] != size:
        picture = torch.nn.functional.interpolate(picture, size, mode="bilinear", antialias=True, align_corners=False)
    return Conditioning({"text": text, "picture": picture.to(text)})
