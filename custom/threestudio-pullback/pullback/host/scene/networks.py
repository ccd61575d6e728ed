"""Activations by name and small multilayer perceptrons, under tiny-cuda-nn's config keys, in PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import UserError

Activation = Callable[[Tensor], Tensor]


class _TruncExp(torch.autograd.Function):
    """exp whose gradient stops growing at e^15, so that one dense sample cannot spoil a whole field."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x)
        return x.exp()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return grad * x.clamp(max=15).exp()


def _srgb(x: Tensor) -> Tensor:
    curve = 1.055 * x.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(x > 0.0031308, curve, 12.92 * x).clamp(0, 1)


_ACTIVATIONS: dict[str, Activation] = {
    "none": lambda x: x,
    "linear": lambda x: x,
    "lin2srgb": _srgb,
    "exp": torch.exp,
    "shifted_exp": lambda x: torch.exp(x - 1),
    "trunc_exp": lambda x: _TruncExp.apply(x),  # type: ignore[return-value]
    "shifted_trunc_exp": lambda x: _TruncExp.apply(x - 1),  # type: ignore[return-value]
    "exponential": torch.exp,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "shifted_softplus": lambda x: F.softplus(x - 1),
    "scale_-11_01": lambda x: x * 0.5 + 0.5,
}
_TORCH = ("relu", "leaky_relu", "softplus", "silu", "gelu", "elu", "selu", "softsign", "hardtanh", "relu6", "mish")


def get_activation(name: str | None, path: str = "activation") -> Activation:
    """The elementwise function of that name; None and "none" are the identity.

    Args:
        name: threestudio's or tiny-cuda-nn's name, in any case, or one of torch.nn.functional's.
        path: config path that holds the name, for the error.

    Raises:
        UserError: no such activation.
    """
    key = "none" if name is None else name.lower()
    if key in _ACTIVATIONS:
        return _ACTIVATIONS[key]
    if key in _TORCH:
        return getattr(F, key)
    raise UserError(f"`{path}` is '{name}', but should be one of {', '.join((*_ACTIVATIONS, *_TORCH))}")


class MLP(nn.Module):
    """Linear layers without bias, an activation between them, another after the last.

    In a checkpoint they are named as threestudio's VanillaMLP names them: `layers.0`, `layers.2`, and so on.
    """

    def __init__(self, n_input_dims: int, n_output_dims: int, config: Mapping[str, Any], path: str) -> None:
        super().__init__()
        depth, width = int(config.get("n_hidden_layers", 1)), int(config.get("n_neurons", 64))
        if depth < 0 or width < 1:
            raise UserError(f"`{path}` should have n_hidden_layers of at least 0 and n_neurons of at least 1")
        widths = [n_input_dims, *[width] * depth, n_output_dims]
        self.layers = nn.ModuleDict(
            {f"{2 * i}": nn.Linear(a, b, bias=False) for i, (a, b) in enumerate(pairwise(widths))}
        )
        self.activation = get_activation(config.get("activation", "ReLU"), f"{path}.activation")
        self.output_activation = get_activation(config.get("output_activation", "none"), f"{path}.output_activation")

    def forward(self, x: Tensor) -> Tensor:
        """[N, n_input_dims] → [N, n_output_dims]."""
        *hidden, last = self.layers.values()
        for layer in hidden:
            x = self.activation(layer(x))
        return self.output_activation(last(x))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        if f"{prefix}layers.1.weight" in state_dict:  # version 0.1 counted the layers one by one
            for i in reversed(range(1, len(self.layers))):
                state_dict[f"{prefix}layers.{2 * i}.weight"] = state_dict.pop(f"{prefix}layers.{i}.weight")
        super()._load_from_state_dict(state_dict, prefix, *rest)


def one_hidden_layer() -> dict[str, Any]:
    """Threestudio's usual `mlp_network_config`."""
    return {
        "otype": "VanillaMLP", "activation": "ReLU", "output_activation": "none", "n_neurons": 64, "n_hidden_layers": 1,
    }  # fmt: skip


def get_mlp(n_input_dims: int, n_output_dims: int, config: Mapping[str, Any], path: str = "mlp_network_config") -> MLP:
    """The network a config block describes.

    Args:
        n_input_dims: its input is [N, n_input_dims].
        n_output_dims: its output is [N, n_output_dims].
        config: otype (VanillaMLP; FullyFusedMLP and CutlassMLP are the same function), n_neurons,
            n_hidden_layers, activation, output_activation.
        path: where the block is, for errors.

    Raises:
        UserError: another otype, or an unknown activation.
    """
    kinds = ("VanillaMLP", "FullyFusedMLP", "CutlassMLP")
    if not isinstance(config, Mapping):
        raise UserError(f"`{path}` should be a block of keys such as otype, not {config!r}")
    if config.get("otype") not in kinds:
        raise UserError(f"`{path}.otype` is '{config.get('otype')}', but should be one of {', '.join(kinds)}")
    return MLP(n_input_dims, n_output_dims, config, path)
