"""The one device of a run: where its parts are built, what the trainer is told, and how the log names it."""

from __future__ import annotations

import os
from typing import Any

import torch

from ..errors import UserError, first_line
from ..output.words import counted
from .base import use_device
from .several import launched


def choose_device(accelerator: Any) -> tuple[torch.device, str]:
    """Chooses the device of this process by `trainer.accelerator`, and has `get_device` return it.

    `auto` takes a CUDA device that computes, else the CPU. With `cpu` no package sees a GPU.

    Args:
        accelerator: `trainer.accelerator`: auto, cpu, gpu or cuda.

    Returns:
        The device, and its name: "cuda:0 (NVIDIA H100)", or "the CPU (2 threads)" and, where a GPU is there, why it is
        not taken.

    Raises:
        UserError: another accelerator, or one that cannot be had.
    """
    if accelerator not in ("auto", "cpu", "gpu", "cuda"):
        raise UserError(
            f"`trainer.accelerator` is '{accelerator}', but a run takes a CUDA device or the CPU; set it to auto, gpu "
            "or cpu"
        )
    device, since = torch.device("cpu"), ""
    if accelerator == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before anything asks for it
    elif (reason := _trouble()) is None:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) if launched() > 1 else 0)
    elif accelerator != "auto":
        raise UserError(f"`trainer.accelerator` is {accelerator}, but {reason}; set it to auto or cpu")
    elif torch.cuda.is_available():
        since = f", since {reason}"
    elif torch.backends.mps.is_available():
        since = ", since the parts of a run are not made for Apple's GPU"
    use_device(device)
    if device.type == "cuda":
        return device, f"{device} ({torch.cuda.get_device_name(device)})"
    threads = torch.get_num_threads()
    return device, f"the CPU ({counted(threads, 'thread')}){since}"


def _trouble() -> str | None:
    """Why the CUDA device cannot be used; None where it can."""
    if not torch.cuda.is_available():
        return "no CUDA device is seen"
    try:  # a driver or a GPU that is too old for this PyTorch shows only now
        torch.ones(2, device="cuda:0").sum().item()
    except Exception as e:  # RuntimeError, or AssertionError where PyTorch is built without CUDA
        return f"the CUDA device does not compute ({first_line(e)})"
    return None
