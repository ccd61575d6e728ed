"""Keys of other guidances, which a config may keep where `pullback-guidance` replaces them."""

from __future__ import annotations

import dataclasses
from typing import Any

from .._framework import registered

THREESTUDIO = {
    "cache_dir", "camera_condition_type", "canny_lower_bound", "canny_upper_bound", "cond_azimuth_deg",
    "cond_camera_distance", "cond_elevation_deg", "cond_image_path", "condition_scale", "control_scale",
    "control_type", "controlnet_model_name_or_path", "ddim_scheduler_name_or_path", "diffusion_steps",
    "enable_attention_slicing", "enable_channels_last_format", "enable_memory_efficient_attention", "enable_sdi",
    "enable_sequential_cpu_offload", "fixed_size", "grad_clip", "guidance_scale", "guidance_scale_lora",
    "guidance_type", "half_precision_weights", "inversion_eta", "inversion_guidance_scale", "inversion_n_steps",
    "ip2p_name_or_path", "lora_cfg_training", "lora_model_name_or_path", "lora_n_timestamp_samples",
    "max_items_eval", "max_step_percent", "min_step_percent", "n_ddim_steps", "n_rgb_multistep_orig_steps",
    "preprocessor", "pretrained_config", "pretrained_model_name_or_path", "pretrained_model_name_or_path_lora",
    "return_rgb_1step_orig", "return_rgb_multistep_orig", "sqrt_anneal", "t_anneal", "token_merging",
    "token_merging_params", "trainer_max_steps", "use_img_loss", "use_sds", "use_sjc", "var_red",
    "view_dependent_prompting", "vram_O", "vsd_camera_condition_type", "vsd_guidance_scale_phi",
    "vsd_lora_cfg_training", "vsd_lora_n_timestamp_samples", "vsd_phi_model_name_or_path",
    "vsd_use_camera_condition", "vsd_use_lora", "weighting_strategy",
}  # fmt: skip
"""Keys of all guidances of threestudio 0.2.3 (28d9d80)."""


def is_foreign(key: str) -> bool:
    """Whether one of threestudio's guidances, or another registered one, has the key."""
    blocks = (getattr(cls, "Config", None) for name, cls in registered.items() if name.endswith("-guidance"))
    keys = (f.name for block in blocks if dataclasses.is_dataclass(block) for f in dataclasses.fields(block))
    return key in THREESTUDIO or key in keys


def split(block: Any, config: type) -> tuple[Any, list[str]]:
    """Splits a config block.

    Args:
        block: The block.
        config: Its dataclass.

    Returns:
        The block without the foreign keys that the dataclass lacks, and these keys.
    """
    mine = {f.name for f in dataclasses.fields(config)}
    foreign = [key for key in block or {} if key not in mine and is_foreign(key)]
    return ({key: value for key, value in block.items() if key not in foreign} if foreign else block), foreign
