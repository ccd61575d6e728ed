"""tiny-cuda-nn's hash grid in the place of `HashGrid`, where it is installed and works.

It is tried once in a process, on a small grid against `HashGrid`: its bindings are built for one GPU and one PyTorch,
and whether they fit shows only when they run.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import torch
from torch import nn

from ...errors import first_line
from .encoders import HashGrid


def tiny_cuda_grid(n_input_dims: int, **options: Any) -> nn.Module:
    """tiny-cuda-nn's hash grid in single precision, with the options and the attributes of `HashGrid`.

    It has first derivatives in everything, and second ones in the positions; it has none in forward mode.
    """
    import tinycudann  # type: ignore[import-not-found]

    bound = inspect.signature(HashGrid).bind(n_input_dims, **options)
    bound.apply_defaults()
    config = {"otype": "HashGrid", **{key: v for key, v in bound.arguments.items() if key != "n_input_dims"}}
    grid: Any = tinycudann.Encoding(n_input_dims, config, dtype=torch.float32)
    grid.active_levels = config["n_levels"]
    return grid


@functools.cache
def trouble(device: torch.device) -> str | None:
    """Why tiny-cuda-nn cannot be used on a device; None where it can."""
    # the finest of these levels is hashed, the others are not
    options: dict[str, Any] = {"n_levels": 4, "log2_hashmap_size": 10, "base_resolution": 4, "per_level_scale": 1.5}
    try:
        theirs, ours = tiny_cuda_grid(3, **options).to(device), HashGrid(3, **options).to(device)
        random = torch.Generator().manual_seed(0)
        x = torch.rand(256, 3, generator=random).to(device)
        values = torch.randn(ours.params.shape, generator=random).to(device)
        results = []
        for grid in (theirs, ours):
            (params,) = grid.parameters()
            params.data.copy_(values)
            out = grid(x)
            results.append((out.detach(), *torch.autograd.grad(out.square().sum(), params)))
        for a, b in zip(*results, strict=True):
            if not torch.allclose(a, b, rtol=1e-3, atol=1e-3):
                return "its values differ from those of its published layout"
    except ModuleNotFoundError as e:
        return f"the package '{e.name}' is not installed"
    except Exception as e:  # whatever a binary of another PyTorch, another GPU or no GPU raises
        return f"{type(e).__name__}: {first_line(e)}"
    return None
