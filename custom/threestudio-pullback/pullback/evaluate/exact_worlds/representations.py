"""What the worlds of scenes can sample in place of the voxel field that the scenes are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn

from ...diffreps import PointSet
from ...errors import UserError
from ...host.scene.networks import one_hidden_layer
from .hosted import Hosted


@dataclass(frozen=True)
class Representation:
    """A way to show an object.

    Attributes:
        make: One in its start state, whose renders of poses [V,4,4] are [V,3,24,24].
        defaults: Options of the method `pullback` that suit it.
    """

    make: Callable[[], nn.Module]
    defaults: dict[str, Any] = field(default_factory=dict)


HASH = {
    "otype": "HashGrid", "n_levels": 4, "n_features_per_level": 2, "log2_hashmap_size": 15, "base_resolution": 6,
    "per_level_scale": 1.6,
}  # fmt: skip
WAVES = {"otype": "Frequency", "n_frequencies": 3}
NETWORK = {**one_hidden_layer(), "n_neurons": 32}


def implicit_sdf() -> Hosted:
    """A signed distance that starts as a grey ball, its surface soft."""
    ball = {"sdf_bias": "sphere", "sdf_bias_params": 0.5}
    sizes = {"radius": 1.0, "pos_encoding_config": HASH, "mlp_network_config": NETWORK}
    renderer = {"radius": 1.0, "num_samples_per_ray": 32, "grid_prune": False}
    return Hosted(("implicit-sdf", {**sizes, **ball}), ("neus-volume-renderer", renderer), rays=1024)


def tetrahedra_sdf_grid() -> Hosted:
    """A surface of triangles that starts as a grey ball."""
    ball = {"shape_init": "sphere", "shape_init_params": 0.35, "isosurface_resolution": 32}
    sizes = {"radius": 1.0, "pos_encoding_config": WAVES, "mlp_network_config": NETWORK}
    return Hosted(("tetrahedra-sdf-grid", {**sizes, **ball}), ("nvdiff-rasterizer", {"samples": 3}))


REPRESENTATIONS = {
    "implicit-sdf": Representation(implicit_sdf, {"lr": 0.02, "last": 0.002, "steps": 12}),
    "point-set": Representation(partial(PointSet, 512, radius=0.65), {"lr": 0.2, "last": 0.03, "steps": 16}),
    "tetrahedra-sdf-grid": Representation(tetrahedra_sdf_grid, {"lr": 0.04, "last": 0.004, "steps": 14}),
}


def find(name: str) -> Representation:
    """The representation of a name; raises UserError where there is none."""
    if name not in REPRESENTATIONS:
        raise UserError(f"--diffrep {name} is not known; use {', '.join(REPRESENTATIONS)}")
    return REPRESENTATIONS[name]
