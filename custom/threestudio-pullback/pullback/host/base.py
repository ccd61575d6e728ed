"""Base classes of everything a config can name, and reading of checkpoints."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..errors import UserError, is_out_of_memory
from .config import config_path, parse_structured
from .scene.encoders import OLD_LAYOUT, old_layout


def get_rank() -> int:
    """This process's rank; 0 outside distributed runs."""
    for key in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK"):
        if key in os.environ:
            return int(os.environ[key])
    return 0


_chosen: list[torch.device] = []


def use_device(device: torch.device) -> None:
    """Has `get_device` return this device from now on."""
    _chosen[:] = [device]


def get_device() -> torch.device:
    """Where parts are built: the run's device; before a run, the first CUDA device, or the CPU where there is none."""
    if _chosen:
        return _chosen[0]
    return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


class Updateable:
    """A part whose `update_step` runs before every batch, after those of the parts among its public attributes.

    It runs in training, validation, test and export, and may run twice for one batch: it must be idempotent.
    """

    def do_update_step(self, epoch: int, global_step: int, on_load_weights: bool = False) -> None:
        """Updates the parts, then this one, before a batch."""
        for part in _updateable_parts(self):
            part.do_update_step(epoch, global_step, on_load_weights=on_load_weights)
        self.update_step(epoch, global_step, on_load_weights=on_load_weights)

    def do_update_step_end(self, epoch: int, global_step: int) -> None:
        """Updates the parts, then this one, after a batch."""
        for part in _updateable_parts(self):
            part.do_update_step_end(epoch, global_step)
        self.update_step_end(epoch, global_step)

    def update_step(self, epoch: int, global_step: int, on_load_weights: bool = False) -> None:
        """Override: react to the step; with `on_load_weights`, tensors may still lie on different devices."""

    def update_step_end(self, epoch: int, global_step: int) -> None:
        """Override: react to the end of a batch."""


def _updateable_parts(owner: Any) -> Iterator[Updateable]:
    attributes = {**vars(owner), **(owner._modules if isinstance(owner, nn.Module) else {})}
    for name, part in attributes.items():
        if not name.startswith("_") and isinstance(part, Updateable):
            yield part


class BaseObject(Updateable):
    """A part without parameters: `cfg` is the block parsed by `Config`, then `configure(...)` runs."""

    @dataclass
    class Config:
        pass

    cfg: Any

    def __init__(self, cfg: Any = None, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.cfg = parse_structured(self.Config, cfg)
        self.device = get_device()
        self.configure(*args, **kwargs)

    def configure(self, *args: Any, **kwargs: Any) -> None:
        """Override: build the part."""


class BaseModule(BaseObject, nn.Module):
    """A part with parameters; `weights` ("file.ckpt:module") is a module of a checkpoint to start from."""

    @dataclass
    class Config:
        weights: str | None = None

    def __init__(self, cfg: Any = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(cfg, *args, **kwargs)
        if self.cfg.weights is not None:
            where = config_path(self.cfg, "weights")
            path, colon, name = self.cfg.weights.rpartition(":")
            if not colon:
                raise UserError(f"`{where}` should be written file.ckpt:module, but is '{self.cfg.weights}'")
            state, epoch, step = load_module_weights(path, module_name=name, where=where)
            load_state(self, state, f"`{where}` ({path})")
            self.do_update_step(epoch, step, on_load_weights=True)


def read_checkpoint(path: str, where: str) -> dict[str, Any]:
    """A checkpoint's content on the CPU: tensors and plain values only; nothing in it is executed.

    Args:
        path: the file.
        where: config path that names the file, for errors.

    Raises:
        UserError: there is no such file, it is no checkpoint, or it holds a hash grid in the layout of version 0.1.
    """
    if os.path.exists(path) and not os.path.isfile(path):  # a device may have no end
        raise UserError(f"`{where}`: {path} is no file; give a checkpoint, such as RUN/ckpts/last.ckpt")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as e:
        raise UserError(f"`{where}`: cannot read the checkpoint {path}: {e.strerror or e}") from e
    except Exception as e:  # whatever the unpickler makes of a file that is something else
        if is_out_of_memory(e):
            raise
        raise UserError(f"`{where}`: {path} is not a checkpoint, or is damaged") from e
    if not isinstance(content, dict) or not {"state_dict", "epoch", "global_step"} <= content.keys():
        raise UserError(f"`{where}`: {path} is not a checkpoint of a run: it lacks the state and the step")
    state, numbers = content["state_dict"], (content["epoch"], content["global_step"])
    tensors = isinstance(state, dict) and all(isinstance(value, torch.Tensor) for value in state.values())
    if not tensors or not all(type(number) is int and number >= 0 for number in numbers):
        raise UserError(f"`{where}`: {path} is damaged: it holds no tensors by name, or no number of steps")
    if old_layout(content["state_dict"]):
        raise UserError(f"`{where}` ({path}): {OLD_LAYOUT}")
    return content


def load_module_weights(
    path: str, module_name: str | None = None, ignore_modules: Sequence[str] | None = None, where: str = "weights"
) -> tuple[dict[str, torch.Tensor], int, int]:
    """State dict, epoch and global step of a checkpoint, for one module of it or for all but some.

    Args:
        path: the file.
        module_name: the module, whose tensors then have their names in it; None takes all modules.
        ignore_modules: names of modules to leave out.
        where: config path that names the file, for errors.

    Raises:
        UserError: the file is no checkpoint, or holds no such module.
    """
    content = read_checkpoint(path, where)
    state: dict[str, torch.Tensor] = content["state_dict"]
    if module_name is not None:
        state = {k[len(module_name) + 1 :]: v for k, v in state.items() if k.startswith(f"{module_name}.")}
        if not state:
            raise UserError(f"`{where}`: {path} holds no module '{module_name}'")
    if ignore_modules:
        state = {k: v for k, v in state.items() if not any(k.startswith(f"{m}.") for m in ignore_modules)}
    return state, content["epoch"], content["global_step"]


def load_state(module: nn.Module, state: dict[str, torch.Tensor], what: str, strict: bool = True) -> None:
    """Loads a state dict.

    Args:
        module: what to load it into.
        state: tensors by name.
        what: subject of the error's sentence.
        strict: whether both must have the same names.

    Raises:
        UserError: the state does not fit; the sentence names the first tensor concerned.
    """
    try:
        module.load_state_dict(state, strict=strict)
    except RuntimeError as e:
        if is_out_of_memory(e):
            raise
        detail = re.sub(r"\s+", " ", " ".join(str(e).splitlines()[1:2])).strip(" .")
        raise UserError(f"{what} does not fit this config: {detail}; use the config it was made with") from e
