"""Small configs of `pullback-system` made of threestudio's own parts, for runs of seconds on a CPU."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml
from conftest import TINY_SD

HASH_GRID = {
    "otype": "HashGrid", "n_levels": 4, "n_features_per_level": 2, "log2_hashmap_size": 12,
    "base_resolution": 4, "per_level_scale": 1.5,
}  # fmt: skip
# bands open within a run of a few visits; a level's first step must not come early, nor late after a resume
PROGRESSIVE = {**HASH_GRID, "otype": "ProgressiveBandHashGrid", "start_level": 1, "start_step": 0, "update_steps": 9}
TINY_NET = {"otype": "VanillaMLP", "activation": "ReLU", "output_activation": "none", "n_neurons": 8}
TINY_NET["n_hidden_layers"] = 1

GEOMETRIES: dict[str, dict[str, Any]] = {
    "implicit-volume": {"pos_encoding_config": HASH_GRID, "mlp_network_config": TINY_NET},
    "volume-grid": {"grid_size": [12, 12, 12], "density_bias": -1.0},
    "implicit-sdf": {
        "pos_encoding_config": HASH_GRID, "mlp_network_config": TINY_NET, "sdf_bias": "sphere", "sdf_bias_params": 0.5,
    },
}  # fmt: skip
MATERIALS: dict[str, dict[str, Any]] = {
    "no-material": {},
    "diffuse-with-point-light-material": {"ambient_only_steps": 2, "soft_shading": True},
    "neural-radiance-material": {"input_feature_dims": 3, "mlp_network_config": TINY_NET},
}
BACKGROUNDS: dict[str, dict[str, Any]] = {
    "solid-color-background": {"learned": True, "random_aug": True},
    "neural-environment-map-background": {"random_aug": True},
    "textured-background": {"height": 4, "width": 4},
    "pullback-gradient-background": {"gradient_z": [0.2, 0.1, 0.0]},
}
LEARNED = ("implicit-volume", "volume-grid", "implicit-sdf", "neural-radiance-material", "neus-volume-renderer")
LEARNED += ("solid-color-background", "neural-environment-map-background", "textured-background")


def scene(
    geometry: str = "volume-grid",
    renderer: str = "nerf-volume-renderer",
    material: str = "no-material",
    background: str = "pullback-gradient-background",
    **settings: Any,
) -> dict[str, Any]:
    """A config of these parts. settings: dotted keys with two underscores, `renderer__estimator="importance"`."""
    parts = {"geometry": geometry, "renderer": renderer, "material": material, "background": background}
    blocks = [GEOMETRIES, {renderer: {"grid_prune": False}}, MATERIALS, BACKGROUNDS]
    system: dict[str, Any] = {}
    for (part, name), block in zip(parts.items(), blocks, strict=True):
        system[f"{part}_type"], system[part] = name, copy.deepcopy(block[name])
    system |= {
        "prompt_processor_type": "stable-diffusion-prompt-processor",
        "prompt_processor": {},
        "guidance_type": "pullback-guidance",
        "guidance": {
            "levels": 2, "cycles": 1, "fit_steps": 4, "fit_rays": 64, "sigma_min": 0.5, "guidance_scale": 2.5,
        },
        "optimizer": {
            "name": "Adam",
            "args": {"lr": 0.01},
            "params": {part: {} for part, name in parts.items() if name in LEARNED},
        },
    }  # fmt: skip
    config = {
        "name": "scene",
        "data_type": "random-camera-datamodule",
        "data": {},
        "system_type": "pullback-system",
        "system": system,
        "trainer": {"max_steps": -1, "log_every_n_steps": 1, "num_sanity_val_steps": 0, "val_check_interval": 2},
        "checkpoint": {"save_last": True, "save_top_k": -1, "every_n_train_steps": 1},
    }
    for key, value in settings.items():
        *path, last = ["system", *key.split("__")] if key.split("__")[0] in system else key.split("__")
        block = config
        for name in path:
            block = block.setdefault(name, {})
        block[last] = value
    return config


def write(folder: Path, config: dict[str, Any]) -> Path:
    """The config as a file in the folder."""
    path = folder / "scene.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path
