"""Which way to render: fused kernels, plain PyTorch, or nerfacc's kernels. What cannot be had is found before a run."""

from __future__ import annotations

import functools
import importlib.util
import re

import torch

from ..errors import UserError, first_line

BACKENDS = ("auto", "fused", "torch", "nerfacc")


def choose(name: str, device: torch.device, kind: str | None, key: str) -> tuple[str, str | None]:
    """The way to render.

    Args:
        name: One of BACKENDS. `auto` is fused where that works, else torch.
        device: Where the rays are.
        kind: The field's kernels; None where it has none.
        key: The config path of `name`, for the error.

    Returns:
        fused, torch or nerfacc; and why it is not fused although `auto` was asked for and the field has kernels.

    Raises:
        UserError: No such way, or one that was asked for by name cannot be had.
    """
    if name not in BACKENDS:
        raise UserError(f"`{key}` is '{name}', but should be one of {', '.join(BACKENDS)}")
    if name == "torch" or (name == "auto" and kind is None):
        return "torch", None
    reason = nerfacc_trouble(device) if name == "nerfacc" else fused_trouble(device, kind)
    if reason is None:
        return ("fused" if name == "auto" else name), None
    if name != "auto":
        raise UserError(f"`{key}` is {name}, which cannot be used on {device}: {reason}; set it to auto")
    return "torch", reason


@functools.cache
def fused_trouble(device: torch.device, kind: str | None) -> str | None:
    """Why the fused kernels cannot be used; None where they can, and then they are compiled."""
    if importlib.util.find_spec("warp") is None:
        return "the package warp-lang is not installed (pip install warp-lang)"
    if tuple(int(n) for n in re.findall(r"\d+", torch.__version__)[:2]) < (2, 4):
        return f"it needs PyTorch 2.4 or newer, not {torch.__version__}"
    if device.type not in ("cpu", "cuda"):
        return "it is made for the CPU and for CUDA"
    try:
        from .fused.operators import load

        load(kind or "voxels", device)
    except Exception as e:  # a driver or a compiler that fails in a way of its own
        return f"its kernels cannot be compiled ({first_line(e)})"
    return None


@functools.cache
def nerfacc_trouble(device: torch.device) -> str | None:
    """Why nerfacc's kernels cannot be used; None where they can, and then they are compiled."""
    if device.type != "cuda":
        return "nerfacc's kernels are for CUDA"
    try:
        import nerfacc

        rays = torch.ones(1, 3, device=device)
        nerfacc.ray_aabb_intersect(rays, rays, torch.ones(1, 6, device=device))
    except Exception as e:  # it has several ways to say that nvcc, ninja or a header is missing
        return (
            f"nerfacc's kernels cannot be compiled ({first_line(e)}); they need nvcc, ninja and PyTorch 2.11 or older"
        )
    return None


def is_transformed() -> bool:
    """Whether a transform of torch.func runs, such as jvp, which only the PyTorch path can be taken through."""
    from torch._C._functorch import peek_interpreter_stack

    return peek_interpreter_stack() is not None
