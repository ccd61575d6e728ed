"""A copy of a run's scene, which is drawn while the run goes on with its own."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...views.cameras import camera_batch

MOST = 512 * 2**20
"""Bytes of all finished levels that are kept."""
_PARTS = ("geometry", "material", "background", "renderer")

State = dict[str, Tensor]


class SceneCopy:
    """Geometry, material, background and renderer of a system, apart from it; not shared between threads.

    Args:
        system: Has these four.
    """

    def __init__(self, system: Any) -> None:
        parts = {name: getattr(system, name) for name in _PARTS}
        self._parts: dict[str, Any] = copy.deepcopy(parts)  # together: what the renderer holds is copied once
        for part in self._parts.values():
            part.eval()

    def load(self, state: State) -> None:
        """Takes over what `state_of` gave."""
        for name, part in self._parts.items():
            own = {k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")}
            part.load_state_dict(own)

    @torch.no_grad()
    def draw(self, c2w: Tensor, fovy: float, height: int, width: int) -> np.ndarray:
        """What a camera sees, as bytes [height, width, 3]; see `server.Draw`."""
        device = next((p.device for p in self._parts["geometry"].parameters()), torch.device("cpu"))
        batch = camera_batch(c2w[None].to(device), torch.tensor([fovy], device=device), height, width)
        lights = {"light_positions": batch["camera_positions"], "height": height, "width": width}
        rgb = self._parts["renderer"](**batch, **lights)["comp_rgb"][0]
        return (rgb.clamp(0, 1) * 255).round().byte().cpu().numpy()


def state_of(system: Any) -> State:
    """A copy of the scene's parameters and buffers, for `SceneCopy.load`."""
    return {
        f"{name}.{key}": value.detach().clone()
        for name in _PARTS
        for key, value in getattr(system, name).state_dict().items()
    }


class Levels:
    """The scene at the end of each finished level, in half precision; every other one where they take too much.

    Args:
        most: Bytes of all.
    """

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self._states: dict[int, State] = {}

    def add(self, level: int, state: State) -> None:
        """Keeps the scene of a level."""
        small = {k: v.to("cpu", torch.float16) if v.is_floating_point() else v.cpu() for k, v in state.items()}
        self._states[level] = small
        size = sum(v.numel() * v.element_size() for v in small.values())
        while len(self._states) > 1 and size * len(self._states) > self.most:
            for old in sorted(self._states)[:-1][1::2] or sorted(self._states)[:-1]:
                del self._states[old]

    def at(self, level: int) -> tuple[int, State] | None:
        """The kept level that is nearest to one, and its scene; None before the first."""
        if not self._states:
            return None
        found = min(self._states, key=lambda kept: abs(kept - level))
        return found, {k: v.float() if v.is_floating_point() else v for k, v in self._states[found].items()}

    def __len__(self) -> int:
        return len(self._states)
