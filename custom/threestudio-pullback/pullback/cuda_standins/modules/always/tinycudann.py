"""Stand-in for tiny-cuda-nn's Python module: the same constructors, in PyTorch, on any device, single precision.

Encodings and networks are the host's, which compute what tiny-cuda-nn does. An encoding's parameters are in its order,
so that checkpoints go from one to the other; a network's are a matrix per layer here and one padded vector there.
Everything is differentiable any number of times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pullback.errors import UserError
from pullback.host.scene.encoders import OLD_LAYOUT, Frequency, HashGrid, Identity, SphericalHarmonics, old_layout
from pullback.host.scene.networks import get_mlp
from torch import Tensor, nn

_GRID = ("n_levels", "n_features_per_level", "log2_hashmap_size", "base_resolution", "per_level_scale")
# otype: the class, the options it takes, and the values of other options under which it is the same function
_ENCODINGS: dict[str, tuple[Callable[..., nn.Module], tuple[str, ...], dict[str, Any]]] = {
    "HashGrid": (HashGrid, _GRID, {"type": "Hash", "interpolation": "Linear"}),
    "Grid": (HashGrid, _GRID, {"type": "Hash", "interpolation": "Linear"}),
    "Frequency": (Frequency, ("n_frequencies",), {}),
    "SphericalHarmonics": (SphericalHarmonics, ("degree",), {}),
    "Identity": (Identity, (), {"scale": 1.0, "offset": 0.0}),
}


def _drawn(seed: int, build: Callable[[], nn.Module]) -> nn.Module:
    # tiny-cuda-nn draws its initial parameters from a generator of its own
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


class Encoding(nn.Module):
    """An encoding of tiny-cuda-nn, by the same config.

    `encoding_config` holds otype (HashGrid, or Grid of type Hash; Frequency; SphericalHarmonics; Identity) and its
    options; options that tiny-cuda-nn does not have are ignored, as there.

    Raises:
        UserError: another otype, or a kind of grid or interpolation that is not here.
    """

    def __init__(
        self, n_input_dims: int, encoding_config: Mapping[str, Any], seed: int = 1337, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        otype = encoding_config.get("otype")
        if otype not in _ENCODINGS:
            names = ", ".join(_ENCODINGS)
            raise UserError(f"`otype` is '{otype}', but the stand-in for tinycudann has only {names}; set one of these")
        build, options, same = _ENCODINGS[otype]
        for name, value in same.items():
            if encoding_config.get(name, value) != value:
                raise UserError(
                    f"`{name}` of {otype} is {encoding_config[name]!r}, but the stand-in for tinycudann has only "
                    f"{value!r}; set that, or leave `{name}` out"
                )
        arguments = {k: encoding_config[k] for k in options if k in encoding_config}
        self.encoding: Any = _drawn(seed, lambda: build(n_input_dims, **arguments))
        self.n_input_dims, self.n_output_dims = n_input_dims, self.encoding.n_output_dims
        self.to(dtype or torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        """[N, n_input_dims] in [0, 1] → [N, n_output_dims]."""
        return self.encoding(x)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The flat `params`, as tiny-cuda-nn has it."""
        return self.encoding.state_dict(*args, **kwargs)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        if old_layout(state_dict):
            raise UserError(OLD_LAYOUT)
        name = f"{prefix}params"
        if name in state_dict:
            state_dict[f"{prefix}encoding.params"] = state_dict.pop(name)
        elif not isinstance(self.encoding, (HashGrid, Frequency)):  # version 0.1 saved none, but had the same outputs
            state_dict[f"{prefix}encoding.params"] = torch.empty(0)
        super()._load_from_state_dict(state_dict, prefix, *rest)


class Network(nn.Module):
    """A multilayer perceptron without biases."""

    def __init__(
        self, n_input_dims: int, n_output_dims: int, network_config: Mapping[str, Any], seed: int = 1337
    ) -> None:
        super().__init__()
        self.n_input_dims, self.n_output_dims = n_input_dims, n_output_dims
        self.network = _drawn(seed, lambda: get_mlp(n_input_dims, n_output_dims, network_config, "network_config"))

    def forward(self, x: Tensor) -> Tensor:
        """[N, n_input_dims] → [N, n_output_dims]."""
        return self.network(x)


class NetworkWithInputEncoding(nn.Module):
    """A network after an encoding."""

    def __init__(
        self,
        n_input_dims: int,
        n_output_dims: int,
        encoding_config: Mapping[str, Any],
        network_config: Mapping[str, Any],
        seed: int = 1337,
    ) -> None:
        super().__init__()
        self.n_input_dims, self.n_output_dims = n_input_dims, n_output_dims
        self.encoding = Encoding(n_input_dims, encoding_config, seed)
        self.network = Network(self.encoding.n_output_dims, n_output_dims, network_config, seed)

    def forward(self, x: Tensor) -> Tensor:
        """[N, n_input_dims] in [0, 1] → [N, n_output_dims]."""
        return self.network(self.encoding(x))


def free_temporary_memory() -> None:
    """Does nothing: there is no such memory here."""
