"""What is done to the networks of a folder as they are read, and how they are kept then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch


class Change(Protocol):
    """A file that changes the networks of a folder as they are read, such as a LoRA's."""

    def fingerprint(self) -> str:
        """Changes with what the file does."""
        ...

    def check(self, folder: Any, parts: Mapping[str, Any]) -> None:
        """Raises ModelError where it cannot change a model of these parts."""
        ...

    def apply(self, folder: Any, part: str, network: Any) -> None:
        """Changes the network of a part in place, if the file concerns it."""
        ...


class Kept:
    """How a model's networks are kept: whole, on their device. `memory.Thrift` is another way."""

    def options(self, part: str, dtype: torch.dtype) -> dict[str, Any]:
        """Options of diffusers' `from_pretrained` for a part's weights."""
        return {}

    def place(self, network: Any, device: torch.device) -> Any:
        """The network that predicts, ready for calls on a device."""
        return network.to(device)

    def text_device(self, device: torch.device) -> torch.device:
        """Where the text encoders of such a model run."""
        return device
