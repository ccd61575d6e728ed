"""Checkpoints that are never half written, and that know which config they belong to."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import torch
from pytorch_lightning.plugins.io import CheckpointIO

from ...errors import UserError
from ..base import read_checkpoint

KEY = "pullback_host"  # what the host adds to a checkpoint

# changing these goes along with continuing a run
_FREE = ("exporter", "loggers", "cleanup_after", "weights", "geometry.isosurface")


class AtomicCheckpointIO(CheckpointIO):
    """Writes beside the target and renames, so that the target is the old checkpoint or the new one, whole.

    Saving to `MEMORY` keeps a copy in `held` in place of a file.
    """

    MEMORY = "memory"

    def __init__(self) -> None:
        self.held: dict[str, Any] | None = None
        self.newest: str | None = None  # the last file written

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Raises UserError where the disk refuses; a checkpoint that was there before is still whole."""
        if path == self.MEMORY:
            self.held = _copy(checkpoint)
            return
        path = os.fspath(path)
        part = f"{path}.part"
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(part, "wb") as f:
                torch.save(checkpoint, f)
                f.flush()
                os.fsync(f.fileno())
            os.replace(part, path)
        except (OSError, RuntimeError) as e:
            if os.path.lexists(part):
                os.unlink(part)
            # torch's zip writer reports the disk's refusal as its own RuntimeError, with the cause attached
            cause = next((c for c in (e, e.__context__, e.__cause__) if isinstance(c, OSError)), None)
            if cause is None and "PytorchStreamWriter" not in str(e):
                raise
            reason = cause.strerror if cause is not None else "the disk refused the data"
            kept = f"the last good checkpoint is {self.newest}" if self.newest else "there is no earlier one"
            raise UserError(
                f"cannot write the checkpoint {path}: {reason}; {kept}; free space or set `exp_root_dir`, then resume"
            ) from e
        self.newest = path

    def write_held(self, path: str) -> None:
        """Writes the copy in memory to a file."""
        assert self.held is not None
        self.save_checkpoint(self.held, path)

    def load_checkpoint(self, path: Any, map_location: Callable | None = None, weights_only: Any = None) -> Any:
        return read_checkpoint(os.fspath(path), "resume")

    def remove_checkpoint(self, path: Any) -> None:
        if os.path.exists(path):
            os.remove(path)


def _copy(tree: Any) -> Any:
    if isinstance(tree, torch.Tensor):
        return tree.detach().clone()
    if isinstance(tree, dict):
        return (
            type(tree)((k, _copy(v)) for k, v in tree.items())
            if type(tree) is not dict
            else {k: _copy(v) for k, v in tree.items()}
        )
    if isinstance(tree, (list, tuple)) and type(tree) in (list, tuple):
        return type(tree)(_copy(v) for v in tree)
    return tree


def signature(system_type: str, system: dict[str, Any]) -> str:
    """What a checkpoint remembers of its config, as JSON: the system's blocks with all defaults filled in."""
    return json.dumps({"system_type": system_type, "system": system}, default=str, sort_keys=True)


def check_belongs(content: dict[str, Any], path: str, mine: str, training: bool) -> None:
    """Raises UserError where a checkpoint was made with another config than `mine` (a `signature`).

    To go on training all of `system` must agree, but for what only concerns results; to validate, test or
    export only the types of the parts and their prompt.
    """
    if KEY not in content:
        return
    theirs = dict(_leaves(json.loads(content[KEY]["config"])))
    ours = dict(_leaves(json.loads(mine)))
    differ = [k for k in sorted(theirs.keys() | ours.keys()) if theirs.get(k) != ours.get(k)]
    if training:
        differ = [k for k in differ if not k.startswith(tuple(f"system.{free}" for free in _FREE))]
    else:
        differ = [k for k in differ if k.endswith(("_type", ".prompt")) and not k.startswith("system.exporter")]
    if not differ:
        return
    told = ", ".join(f"`{k}` is {theirs.get(k)!r} there and {ours.get(k)!r} here" for k in differ[:3])
    more = f", and {len(differ) - 3} more" if len(differ) > 3 else ""
    config = os.path.join(os.path.dirname(os.path.dirname(path)), "configs", "parsed.yaml")
    raise UserError(f"`resume`: {path} belongs to another config: {told}{more}; resume with its own, --config {config}")


def _leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, tree
