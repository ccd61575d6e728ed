"""Small configs of `pullback-system` made of threestudio's own parts, and their runs of seconds on a CPU."""

from __future__ import annotations

import copy
import csv
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from conftest import TINY_SD, Run, Threestudio
from PIL import Image

HASH_GRID = {
    "otype": "HashGrid", "n_levels": 4, "n_features_per_level": 2, "log2_hashmap_size": 12,
    "base_resolution": 4, "per_level_scale": 1.5,
}  # fmt: skip
NETWORK = {
    "otype": "VanillaMLP", "activation": "ReLU", "output_activation": "none", "n_neurons": 8, "n_hidden_layers": 1,
}  # fmt: skip
PARTS: dict[str, dict[str, Any]] = {
    "implicit-volume": {"pos_encoding_config": HASH_GRID, "mlp_network_config": NETWORK},
    "volume-grid": {"grid_size": [12, 12, 12], "density_bias": -1.0},
    "implicit-sdf": {
        "pos_encoding_config": HASH_GRID, "mlp_network_config": NETWORK, "sdf_bias": "sphere", "sdf_bias_params": 0.5,
    },
    "tetrahedra-sdf-grid": {
        "pos_encoding_config": HASH_GRID, "mlp_network_config": NETWORK, "shape_init": "sphere",
        "shape_init_params": 0.5, "isosurface_resolution": 32,
    },
    "custom-mesh": {
        "pos_encoding_config": HASH_GRID, "mlp_network_config": NETWORK,
        "shape_init": "mesh:load/shapes/hand_prismatic.obj",
        "shape_init_params": 0.6, "shape_init_mesh_up": "+y", "shape_init_mesh_front": "+z",
    },
    "nvdiff-rasterizer": {},
    "nerf-volume-renderer": {"num_samples_per_ray": 16, "grid_prune": False},
    "neus-volume-renderer": {"num_samples_per_ray": 16, "grid_prune": False},
    "no-material": {},
    # in threestudio's own training these draw a light's strength or a backdrop's colour at every step
    "diffuse-with-point-light-material": {"ambient_only_steps": 2, "soft_shading": True},
    "neural-radiance-material": {"input_feature_dims": 3, "mlp_network_config": NETWORK},
    "solid-color-background": {"learned": True, "random_aug": True},
    "neural-environment-map-background": {"random_aug": True},
    "textured-background": {"height": 4, "width": 4},
    "pullback-gradient-background": {"gradient_z": [0.2, 0.1, 0.0]},
}  # fmt: skip
FIXED = (
    "nerf-volume-renderer",
    "nvdiff-rasterizer",
    "no-material",
    "diffuse-with-point-light-material",
    "pullback-gradient-background",
)
# for the estimators that sample without a box
NEAR_FAR = {"near_plane": 0.1, "far_plane": 4.0}


def scene(*names: str, **more: dict[str, Any]) -> dict[str, Any]:
    """A config of these parts, of two visits.

    names: geometry, renderer, material and background, those that are not the defaults. more: settings by block,
    `renderer={"estimator": …}`; of the system's blocks, or of the config's.
    """
    parts = {
        "geometry": "volume-grid",
        "renderer": "nerf-volume-renderer",
        "material": "no-material",
        "background": "pullback-gradient-background",
    }
    for name in names:
        kind = name.rpartition("-")[2].replace("rasterizer", "renderer")
        parts[kind if kind in parts else "geometry"] = name
    system: dict[str, Any] = {}
    for part, name in parts.items():
        system[f"{part}_type"], system[part] = name, PARTS[name]
    system |= {
        "prompt_processor_type": "stable-diffusion-prompt-processor",
        "prompt_processor": {"prompt": "a red cube", "pretrained_model_name_or_path": TINY_SD, "spawn": False},
        "guidance_type": "pullback-guidance",
        "guidance": {
            "pretrained_model_name_or_path": TINY_SD, "half_precision_weights": False, "guidance_scale": 2.5,
            "levels": 2, "cycles": 1, "fit_steps": 20, "fit_rays": 256, "sigma_min": 0.5,
        },
        "optimizer": {
            "name": "Adam",
            "args": {"lr": 0.01},
            "params": {part: {} for part, name in parts.items() if name not in FIXED},
        },
    }  # fmt: skip
    config = {
        "name": "test",
        "tag": "run",
        "use_timestamp": False,
        "data_type": "random-camera-datamodule",
        "data": {
            "batch_size": 1, "width": 16, "height": 16, "eval_width": 16, "eval_height": 16,
            "n_val_views": 1, "n_test_views": 2,
        },
        "system_type": "pullback-system",
        "system": system,
        "trainer": {"max_steps": -1, "log_every_n_steps": 1, "num_sanity_val_steps": 0, "val_check_interval": 2},
        "checkpoint": {"save_last": True, "save_top_k": -1, "every_n_train_steps": 1},
    }  # fmt: skip
    config = copy.deepcopy(config)
    for block, settings in more.items():
        target = config if block in config else config["system"]
        target[block] = {**target.get(block, {}), **settings}
    return config


def start(
    threestudio: Threestudio, folder: Path, config: dict[str, Any] | str, mode: str, *overrides: str, expect: int = 0
) -> Run:
    """A run into the folder; fails with its output on another status.

    config: a scene, or a file relative to the checkout, which is made small. overrides win.
    """
    if isinstance(config, dict):
        path = folder / "scene.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        config, small = str(path), ()
    else:
        small = tuple(o for o in threestudio.small if not o.startswith("system.renderer."))  # there may be no rays
    where = (f"exp_root_dir={folder}", "name=test", "tag=run", "use_timestamp=false")
    done = threestudio.run("--config", config, mode, *small, *where, *overrides)
    assert done.returncode == expect, done.stdout[-6000:]
    return Run(done.returncode, done.stdout, folder / "test" / "run")


def error(run: Run) -> str:
    """What a refused run says, in the line that its progress bar may have begun."""
    assert run.output.count("error: ") == 1 and "Traceback" not in run.output, run.output[-6000:]
    return run.output.rpartition("error: ")[2]


def checkpoint(run: Run, step: int | None = None) -> dict[str, Any]:
    """What a run saved after a step, or last; of tensors and plain values alone, or it would not be read."""
    name = "last" if step is None else f"epoch=0-step={step}"
    return torch.load(run.trial / "ckpts" / f"{name}.ckpt", weights_only=True)


def column(run: Run, name: str) -> list[float]:
    """What the run logged under a name."""
    (table,) = run.trial.glob("csv_logs/version_0/metrics.csv")
    with open(table) as f:
        return [float(row[name]) for row in csv.DictReader(f) if row[name]]


def mesh(run: Run, step: int) -> tuple[np.ndarray, list[str]]:
    """The exported mesh: positions and colours [N,6], or positions alone [N,3], and the lines of its faces."""
    lines = (run.trial / "save" / f"it{step}-export" / "model.obj").read_text().splitlines()
    vertices = np.array([line.split()[1:] for line in lines if line.startswith("v ")], dtype=float)
    return vertices, [line for line in lines if line.startswith("f ")]


def picture(run: Run, name: str) -> np.ndarray:
    """[H,W,3] uint8, from the run's save/ folder."""
    return np.asarray(Image.open(run.trial / "save" / name))
