"""Numbers of a network's config that its library reads in the first call alone, where a wrong one is a TypeError."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from .model_error import AGAIN, ModelError


def check_numbers(network: Any, config: Mapping[str, Any], origin: str) -> None:
    """Checks what building a network leaves unchecked.

    Args:
        network: The network, built.
        config: What config.json says.
        origin: The network's folder, for the sentence.

    Raises:
        ModelError: A text or a block stands in place of a number, or a layer has a number that it cannot use.
    """
    for name, parameter in inspect.signature(type(network).__init__).parameters.items():
        if type(parameter.default) in (int, float) and isinstance(config.get(name), (str, dict)):
            raise _wrong(origin, f"`{name}` is {config[name]!r}, which is no number")
    for name, layer in network.named_modules():
        if isinstance(layer, nn.GroupNorm):
            _whole(origin, f"groups of {name}", [layer.num_groups], 1)
        if isinstance(layer, (nn.GroupNorm, nn.LayerNorm)) and type(layer.eps) not in (int, float):
            raise _wrong(origin, f"the epsilon of {name} is {layer.eps!r}, which is no number")
        if isinstance(layer, (nn.Conv2d, nn.Conv3d)) and not isinstance(layer.padding, str):
            _whole(origin, f"padding of {name}", layer.padding, 0)


def _whole(origin: str, what: str, values: Sequence[Any], least: int) -> None:
    if not values or any(type(value) is not int or value < least for value in values):
        raise _wrong(origin, f"the {what} must be whole numbers of at least {least}, not {values}")


def _wrong(origin: str, fault: str) -> ModelError:
    return ModelError(f"{origin}/config.json does not fit its network ({fault}); {AGAIN}")
