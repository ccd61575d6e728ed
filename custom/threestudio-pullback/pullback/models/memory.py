"""How a model is kept where the memory of a GPU is small; diffusers' hooks do it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from .libraries import quiet
from .model_error import ModelError
from .reading import Kept, ModelFolder

SIZES = (8, 12, 16, 24)
"""Memories of cards, in GB, that a preset is for."""
VIEWS = {8: 1, 12: 2, 16: 4, 24: 8}
"""The views that share a call of the network, by the memory."""
TILED = 12
"""The largest memory at which the autoencoder works tile by tile."""
OTHERS = 4
"""GB that are left to everything but the network."""
NETWORKS = ("unet", "transformer")
HALF = 2  # bytes


@dataclass(frozen=True)
class Thrift(Kept):
    """How the network's weights are kept between its calls, and where prompts are embedded.

    Attributes:
        casting: As float8; each layer's are cast to the network's dtype when it is called. It costs accuracy.
        offload: In the CPU's memory; each layer's are brought to the GPU when it is called. It costs time.
        text_on_cpu: Whether the text encoders run on the CPU. They run once a prompt.
    """

    casting: bool = False
    offload: bool = False
    text_on_cpu: bool = False

    def place(self, network: Any, device: torch.device) -> Any:
        """The network, ready for calls on a device.

        Raises:
            ModelError: Its class has no such hooks.
        """
        if (self.casting or self.offload) and not hasattr(network, "enable_layerwise_casting"):
            raise ModelError(f"is set, but a {type(network).__name__} cannot be kept so; leave it out", "memory")
        with quiet():
            if self.casting:
                network.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=network.dtype)
            if self.offload:
                network.enable_group_offload(onload_device=device, offload_type="leaf_level")
                return network
            return network.to(device)

    def text_device(self, device: torch.device) -> torch.device:
        """Where the text encoders run."""
        return torch.device("cpu") if self.text_on_cpu else device

    def weights(self, network: float) -> float:
        """Bytes of the network's weights on the GPU, of as many in half precision."""
        return 0.0 if self.offload else network / 2 if self.casting else network


def fitting(memory: int, network: float, text: float) -> Thrift:
    """The least thrift that leaves `OTHERS` GB of a card to all but the network.

    Args:
        memory: Of the card, in GB, one of `SIZES`.
        network: Bytes of the network's weights in half precision.
        text: Bytes of the text encoders' weights in half precision.
    """
    room = (memory - OTHERS) * 2**30
    casting = network > room >= network / 2
    return Thrift(casting, network / 2 > room, text > room)


def chosen(memory: int | None, casting: bool | None, offload: bool | None, network: float, text: float) -> Thrift:
    """How a model is kept: as in `fitting`, but for what was chosen.

    Args:
        memory: Of the card, in GB, or None for one that is large enough.
        casting: See `Thrift`; None leaves it to `memory`, unless `offload` is chosen.
        offload: See `Thrift`; None leaves it to `memory`, unless `casting` is chosen.
        network: See `fitting`.
        text: See `fitting`.
    """
    usual = Thrift() if memory is None else fitting(memory, network, text)
    own = usual.casting and not offload, usual.offload and not casting
    casting, offload = own[0] if casting is None else casting, own[1] if offload is None else offload
    return Thrift(casting, offload, usual.text_on_cpu)


def thrift(
    folder: ModelFolder, parts: Iterable[str], memory: int | None, casting: bool | None, offload: bool | None
) -> Thrift:
    """How a folder's model is kept.

    Args:
        folder: The model's.
        parts: Its parts.
        memory: See `chosen`.
        casting: See `chosen`.
        offload: See `chosen`.

    Raises:
        ModelError: `memory` is none of `SIZES`, or weights cannot be read.
    """
    if memory is None:
        return chosen(None, casting, offload, 0, 0)
    if memory not in SIZES:
        raise ModelError(f"must be one of {', '.join(map(str, SIZES))} (GB), not {memory!r}", "memory")
    sizes = {part: HALF * sum(map(math.prod, folder.shapes(part).values())) for part in parts}
    text = sum(size for part, size in sizes.items() if part.startswith("text_encoder"))
    return chosen(memory, casting, offload, sum(sizes.get(part, 0) for part in NETWORKS), text)
