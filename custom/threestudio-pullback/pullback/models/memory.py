"""How a model is kept where the memory of a GPU is small; diffusers' hooks do it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from . import quantised
from .libraries import quiet
from .model_error import ModelError
from .reading import ModelFolder
from .treatment import Kept

SIZES = (8, 12, 16, 24)
"""Memories of cards, in GB, that a preset is for."""
VIEWS = {8: 1, 12: 2, 16: 4, 24: 8}
"""The views that share a call of the network, by the memory."""
TILED = 12
"""The largest memory at which the autoencoder works tile by tile."""
OTHERS = 4
"""GB that are left to everything but the network."""
NETWORKS = ("unet", "transformer")
CASTING, QUANTISING = "enable_layerwise_casting", "enable_4bit_weights"
FOUR_BITS = (0.5 + 4 / 64) / 2
"""Bytes of weights of 4 bits, of which 64 share a float32, per byte of half precision."""


@dataclass(frozen=True)
class Thrift(Kept):
    """How the network's weights are kept between its calls, and where prompts are embedded.

    Attributes:
        casting: As float8; each layer's are cast to the network's dtype when it is called. It costs accuracy.
        offload: In the CPU's memory; each layer's are brought to the GPU when it is called. It costs time.
        text_on_cpu: Whether the text encoders run on the CPU. They run once a prompt.
        four_bits: Quantised by bitsandbytes (nf4) as they are read. It costs more accuracy.
    """

    casting: bool = False
    offload: bool = False
    text_on_cpu: bool = False
    four_bits: bool = False

    def options(self, part: str, dtype: torch.dtype) -> dict[str, Any]:
        """Options of diffusers' `from_pretrained` for a part's weights."""
        return quantised.four_bits(dtype) if self.four_bits and part in NETWORKS else {}

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
        """Bytes of the network's weights on the GPU, of as many in half precision, or as they are quantised."""
        share = 0.0 if self.offload else FOUR_BITS if self.four_bits else 0.5 if self.casting else 1.0
        return share * network


def fitting(memory: int, network: float, text: float, quantised: bool = False) -> Thrift:
    """The least thrift that leaves `OTHERS` GB of a card to all but the network.

    Args:
        memory: Of the card, in GB, one of `SIZES`.
        network: Bytes of the network's weights, in half precision or as they are quantised.
        text: Bytes of the text encoders' weights, likewise.
        quantised: Whether the network's weights are, and so cannot be float8.
    """
    room = (memory - OTHERS) * 2**30
    least = network if quantised else network / 2
    return Thrift(network > room >= least, least > room, text > room)


def chosen(
    memory: int | None,
    casting: bool | None,
    offload: bool | None,
    network: float,
    text: float,
    quantised: bool = False,
    four_bits: bool = False,
) -> Thrift:
    """How a model is kept: as in `fitting`, but for what was chosen.

    Args:
        memory: Of the card, in GB, or None for one that is large enough.
        casting: See `Thrift`; None leaves it to `memory`, unless `offload` is chosen.
        offload: See `Thrift`; None leaves it to `memory`, unless `casting` is chosen.
        network: See `fitting`.
        text: See `fitting`.
        quantised: See `fitting`.
        four_bits: See `Thrift`; no preset chooses it.
    """
    if four_bits:
        network, quantised, casting = FOUR_BITS * network, True, False
    usual = Thrift() if memory is None else fitting(memory, network, text, quantised)
    own = usual.casting and not offload, usual.offload and not casting
    casting, offload = own[0] if casting is None else casting, own[1] if offload is None else offload
    return Thrift(casting, offload, usual.text_on_cpu, four_bits)


def thrift(
    folder: ModelFolder,
    parts: Iterable[str],
    memory: int | None,
    casting: bool | None,
    offload: bool | None,
    four_bits: bool = False,
) -> Thrift:
    """How a folder's model is kept.

    Args:
        folder: The model's.
        parts: Its parts.
        memory: See `chosen`.
        casting: See `chosen`.
        offload: See `chosen`.
        four_bits: See `chosen`.

    Raises:
        ModelError: `memory` is none of `SIZES`, weights cannot be read, quantised ones are to be float8 or quantised
            again, or 4 bits cannot be had here.
    """
    networks = [part for part in NETWORKS if part in parts]
    for argument, wanted in ((CASTING, casting), (QUANTISING, four_bits)):
        if wanted and any(map(folder.quantised, networks)):
            raise ModelError("is set, but the model's weights are quantised already; leave it out", argument)
    if four_bits:
        if casting:
            raise ModelError(f"is set beside {CASTING}, and weights can be kept in one way; leave one out", QUANTISING)
        if folder.source.is_file():  # which diffusers takes as quantised already
            raise ModelError("is for folders, and the model is one file; leave it out, or use a GGUF file", QUANTISING)
        quantised.check_four_bits(QUANTISING)
    if memory is None:
        return chosen(None, casting, offload, 0, 0, four_bits=four_bits)
    if memory not in SIZES:
        raise ModelError(f"must be one of {', '.join(map(str, SIZES))} (GB), not {memory!r}", "memory")
    text = sum(folder.size(part) for part in parts if part.startswith("text_encoder"))
    small = any(map(folder.quantised, networks))
    return chosen(memory, casting, offload, sum(map(folder.size, networks)), text, small, four_bits)
