"""`implicit-volume`: density and features from a positional encoding and small networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ...errors import ConfigError
from ...render.field import MOST_INPUTS
from ..config import config_path
from ..registry import register
from .encoders import HashGrid
from .encoding import get_encoding, hash_grid
from .geometry import DensityField
from .networks import get_mlp, one_hidden_layer


@register("implicit-volume")
class ImplicitVolume(DensityField):
    """A multiresolution hash grid with one small network for the density and one for the features."""

    @dataclass
    class Config(DensityField.Config):
        n_input_dims: int = 3
        pos_encoding_config: dict = field(default_factory=hash_grid)
        mlp_network_config: dict = field(default_factory=one_hidden_layer)
        # min_anneal_step, max_anneal_step, start_val, end_val: density_blob_std over the steps
        anneal_density_blob_std_config: Any = None

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.n_input_dims != 3:
                raise ConfigError("n_input_dims", f"must be 3, not {self.n_input_dims}")
            anneal = self.anneal_density_blob_std_config
            if anneal is not None:
                keys = "min_anneal_step", "max_anneal_step", "start_val", "end_val"
                values: list[Any] = [anneal.get(key) if isinstance(anneal, Mapping) else None for key in keys]
                if any(type(v) not in (int, float) for v in values) or not values[0] < values[1]:
                    what = f"must give {', '.join(keys)}, numbers, the first below the second, not {anneal!r}"
                    raise ConfigError("anneal_density_blob_std_config", what)

    def configure(self) -> None:
        """Builds the encoding and the networks."""
        super().configure()
        self.encoding = get_encoding(3, self.cfg.pos_encoding_config, config_path(self.cfg, "pos_encoding_config"))

        def network(n_output_dims: int):
            path = config_path(self.cfg, "mlp_network_config")
            return get_mlp(self.encoding.n_output_dims, n_output_dims, self.cfg.mlp_network_config, path)

        self.density_network = network(1)
        if self.cfg.n_feature_dims > 0:
            self.feature_network = network(self.cfg.n_feature_dims)
        if self.cfg.normal_type == "pred":
            self.normal_network = network(3)

    def raw(self, points: Tensor, features: bool, normal: bool) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """See `DensityField.raw`."""
        encoded = self.encoding(points)
        return (
            self.density_network(encoded),
            self.feature_network(encoded) if features else None,
            self.normal_network(encoded) if normal else None,
        )

    def _kernel(self) -> tuple[str, list[Tensor], list[float]] | str:
        """See `DensityField._kernel`."""
        grids = [m for m in self.encoding.modules() if isinstance(m, HashGrid)]
        if len(grids) != 1 or self.encoding.include_xyz or grids[0].n_features != 2:
            return "the fused kernels have no other encoding than a hash grid in PyTorch with two features a level"
        grid: Any = grids[0]
        networks: list[Any] = [self.density_network, self.feature_network]
        if grid.n_output_dims > MOST_INPUTS:
            return f"the fused kernels have at most {MOST_INPUTS} numbers of a hash grid, not {grid.n_output_dims}"
        options = self.cfg.mlp_network_config
        plain = (str(options.get(key)).lower() for key in ("activation", "output_activation"))
        width = next(iter(networks[0].layers.values())).weight.shape[0]
        if len(networks[0].layers) != 2 or tuple(plain) != ("relu", "none") or width % 4:
            return "the fused kernels have networks of one hidden layer of ReLUs, a multiple of 4 wide, and no others"
        weights = [layer.weight for network in networks for layer in network.layers.values()]
        levels = [float(n) for level in grid.levels for n in level]
        return "hashgrid", [grid.params.view(-1, 2), *weights], [float(grid.active_levels), *levels]

    def update_step(self, epoch: int, global_step: int, on_load_weights: bool = False) -> None:
        """Sets the width of the blob for this step, with `anneal_density_blob_std_config`."""
        anneal = self.cfg.anneal_density_blob_std_config
        if anneal is not None:
            first, last = anneal["min_anneal_step"], anneal["max_anneal_step"]
            t = min(max((global_step - first) / (last - first), 0.0), 1.0)
            self.density_blob_std = anneal["start_val"] + t * (anneal["end_val"] - anneal["start_val"])
