"""A diffusion model as a guidance's config block describes it, by threestudio's keys."""

from __future__ import annotations

from typing import Any

import torch

from .diffusion import DiffusionModel
from .load import load

MEMORY = (
    "enable_memory_efficient_attention", "enable_sequential_cpu_offload", "enable_attention_slicing",
    "enable_channels_last_format", "token_merging", "token_merging_params",
)  # fmt: skip
"""Keys that trade speed for memory, see `DiffusionModel.save_memory`; a block may lack some."""


def load_configured(cfg: Any, key: str, config_path: str, device: torch.device) -> DiffusionModel:
    """The frozen model that cfg[key] names, in half precision on a GPU where cfg asks for it.

    config_path: of that key, for errors, which are those of `load` and `save_memory`.
    """
    dtype = torch.float16 if cfg["half_precision_weights"] and device.type == "cuda" else torch.float32
    model = load(cfg[key], config_path=config_path, device=device, dtype=dtype)
    model.save_memory(**{name: cfg[name] for name in MEMORY if name in cfg})
    return model
