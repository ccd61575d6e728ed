"""MVDream's UNet from the names and shapes of its published state dict.

The published networks have the names of Stable Diffusion's first implementation, which diffusers converts, and two
layers more for the camera.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .model_error import AGAIN, ModelError
from .reading import ModelFolder

CAMERA_LAYERS = {"camera_embed.0": "label_emb.0.0", "camera_embed.2": "label_emb.0.2"}
"""The camera's layers, and those of a label that diffusers' conversion turns into an embedding added to the time's."""


def config_of(published: Mapping[str, Any], linear: bool = True, group: int = 4) -> dict[str, Any]:
    """Arguments of `MultiViewUNet2DConditionModel`.

    Args:
        published: The UNet's block of the published config, such as `model_channels` and `channel_mult`.
        linear: Whether the projections round the attention are linear layers and no 1×1 convolutions.
        group: Views in a group.

    Raises:
        ModelError: The network is another one, such as ImageDream's, which takes a picture too.
    """
    if published.get("ip_dim"):
        raise ModelError("the UNet takes a picture beside the text, as ImageDream's does; use a model of text alone")
    if not published.get("camera_dim"):
        raise ModelError("the UNet takes no camera; use a Stable Diffusion model for single views")
    base, depth = int(published["model_channels"]), published.get("transformer_depth", 1)
    widths = [base * int(factor) for factor in published["channel_mult"]]
    attends = [2**level in published["attention_resolutions"] for level in range(len(widths))]
    per_head = published.get("num_head_channels", -1)
    heads = [width // per_head for width in widths] if per_head > 0 else published["num_heads"]
    return {
        "group": group,
        "sample_size": published.get("image_size", 32),
        "in_channels": published["in_channels"],
        "out_channels": published["out_channels"],
        "layers_per_block": published["num_res_blocks"],
        "block_out_channels": tuple(widths),
        "down_block_types": tuple("CrossAttnDownBlock2D" if attention else "DownBlock2D" for attention in attends),
        "up_block_types": tuple("CrossAttnUpBlock2D" if attention else "UpBlock2D" for attention in attends[::-1]),
        "transformer_layers_per_block": depth,
        "cross_attention_dim": published["context_dim"],
        "attention_head_dim": heads,  # diffusers' name of the number of heads
        "use_linear_projection": linear,
        "class_embed_type": "projection",
        "projection_class_embeddings_input_dim": published["camera_dim"],
    }


def convert(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict of `MultiViewUNet2DConditionModel` with these arguments, from a published one.

    Args:
        state: Tensors by names such as "input_blocks.0.0.weight", with or without "model.diffusion_model." in front.
        config: See `config_of`.
    """
    from diffusers.loaders.single_file_utils import LDM_UNET_KEY, convert_ldm_unet_checkpoint

    renamed = {}
    for name, tensor in state.items():
        name = name.removeprefix(LDM_UNET_KEY)
        for own, other in CAMERA_LAYERS.items():
            name = name.replace(own, other)
        renamed[LDM_UNET_KEY + name] = tensor
    return convert_ldm_unet_checkpoint(renamed, config)


def load_unet(folder: ModelFolder, dtype: torch.dtype) -> Any:
    """The frozen UNet of a published folder, on the CPU.

    Raises:
        ModelError: Files or weights are missing or do not fit.
    """
    published = folder.json("unet/config.json")
    weights = folder.weights("unet")
    with folder.reading("unet"):
        from .multi_view import MultiViewUNet2DConditionModel

        linear = all(tensor.ndim == 2 for name, tensor in weights.items() if name.endswith("proj_in.weight"))
        config = config_of(published, linear)
        with torch.device("meta"):
            unet = MultiViewUNet2DConditionModel(**config)
        found = convert(weights, config)
        missing = sorted(unet.state_dict().keys() - found.keys())
        if missing:
            raise ModelError(
                f"{folder.place('unet')} lacks {len(missing)} weights (the first is {missing[0]}); {AGAIN}"
            )
        unet.load_state_dict({name: tensor.to(dtype) for name, tensor in found.items()}, assign=True)
    return unet.eval().requires_grad_(False)
