"""The model that a guidance's config block describes with threestudio's keys."""

from __future__ import annotations

from typing import Any

import torch

from ..resources import find
from . import kept
from .loading import half_precision, load
from .model_error import config_key
from .protocol import LatentModel

ARGUMENTS = (
    "vae", "single_file_config", "lora", "textual_inversion", "memory", "enable_layerwise_casting",
    "enable_group_offload", "enable_4bit_weights",
)  # fmt: skip
"""Keys that are arguments of `load`; a block may lack some."""
MEMORY = (
    "enable_memory_efficient_attention", "enable_sequential_cpu_offload", "enable_attention_slicing",
    "enable_channels_last_format", "enable_vae_tiling", "token_merging", "token_merging_params",
)  # fmt: skip
"""Keys that trade speed for memory, see `LatentModel.save_memory`; a block may lack some."""


def load_configured(cfg: Any, key: str, config_path: str, device: torch.device) -> LatentModel:
    """The frozen model that cfg[key] names, in half precision on a GPU if `half_precision_weights` is set.

    Args:
        cfg: The config block.
        key: The key of the model's name or path.
        config_path: That key's place in the whole config, for errors.
        device: The device of the networks.

    Raises:
        UserError: The model cannot be loaded; the message names the key, or the option of `save_memory` at fault.
    """
    with config_key(config_path):
        half = cfg["half_precision_weights"] and device.type == "cuda"
        arguments = {name: cfg[name] for name in ARGUMENTS if name in cfg}
        configs = arguments.get("single_file_config")
        dtype = half_precision(cfg[key], single_file_config=configs) if half else torch.float32
        memory = {name: cfg[name] for name in MEMORY if name in cfg}

        def loaded() -> LatentModel:
            model = load(cfg[key], device=device, dtype=dtype, **arguments)
            model.save_memory(**memory)
            return model

        return kept.get({"model": find(str(cfg[key])), "at": (device, dtype), **arguments, **memory}, loaded)
