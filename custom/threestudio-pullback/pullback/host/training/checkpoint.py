"""Checkpoints that are never half written, and that say which config they belong to."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import torch
from pytorch_lightning.plugins.io import CheckpointIO

from ...errors import UserError
from ...output.whole import replacing
from ..base import read_checkpoint
from ..folders import lies_in

EARLIER = "take an earlier checkpoint"
KEY = "pullback_host"  # what the host adds to a checkpoint

# a run can continue although these have changed, and although another backend computes the same; the last four lines
# are what a run that ran out of memory has to change
_FREE = (
    "exporter", "loggers", "cleanup_after", "weights", "geometry.isosurface",
    "guidance.fit_rays", "guidance.views_per_call", "renderer.eval_chunk_size",
    "guidance.enable_attention_slicing", "guidance.enable_sequential_cpu_offload",
    "guidance.enable_memory_efficient_attention", "guidance.memory", "guidance.enable_vae_tiling",
    "guidance.enable_layerwise_casting", "guidance.enable_group_offload", "guidance.enable_4bit_weights",
)  # fmt: skip


class AtomicCheckpointIO(CheckpointIO):
    """Writes beside the target and renames, so that the target is the old checkpoint or the new one, whole.

    Saving to `MEMORY` sets `copy` and writes no file. `newest` is the path of the last file. With a `folder`, nothing
    outside of it is deleted: Lightning has the names of old checkpoints from the one that a run resumes.
    """

    MEMORY = "memory"

    def __init__(self, folder: str | None = None) -> None:
        self.folder = folder
        self.copy: dict[str, Any] | None = None
        self.newest: str | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes a checkpoint; raises UserError where the disk refuses, and leaves an earlier one whole."""
        if path == self.MEMORY:
            self.copy = _copy(checkpoint)
            return
        path = os.fspath(path)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with replacing(path) as part, open(part, "wb") as f:
                torch.save(checkpoint, f)
        except (OSError, RuntimeError) as e:
            # torch's zip writer reports the disk's refusal as its own RuntimeError, with the cause attached
            cause = next((c for c in (e, e.__context__, e.__cause__) if isinstance(c, OSError)), None)
            if cause is None and "PytorchStreamWriter" not in str(e):
                raise
            reason = cause.strerror if cause is not None else "the disk refused the data"
            last = f"the last good checkpoint is {self.newest}" if self.newest else "there is no earlier one"
            raise UserError(
                f"cannot write the checkpoint {path}: {reason}; {last}; free space or set `exp_root_dir`, then resume"
            ) from e
        self.newest = path

    def write_copy(self, path: str) -> None:
        """Writes the copy in memory to a file."""
        assert self.copy is not None
        self.save_checkpoint(self.copy, path)

    def load_checkpoint(self, path: Any, map_location: Callable | None = None, weights_only: Any = None) -> Any:
        """The content on the CPU; raises UserError where the file is no checkpoint."""
        return read_checkpoint(os.fspath(path), "resume")

    def remove_checkpoint(self, path: Any) -> None:
        """Deletes the file, where it is there and lies in the folder."""
        if os.path.exists(path) and (self.folder is None or lies_in(os.fspath(path), self.folder)):
            os.remove(path)


def _copy(tree: Any) -> Any:
    if isinstance(tree, torch.Tensor):
        return tree.detach().clone()
    if isinstance(tree, dict):
        return type(tree)((k, _copy(v)) for k, v in tree.items())
    if isinstance(tree, (list, tuple)) and type(tree) in (list, tuple):
        return type(tree)(_copy(v) for v in tree)
    return tree


def signature(system_type: str, system: dict[str, Any]) -> str:
    """What a checkpoint says of its config, as JSON: the system's blocks with all defaults filled in."""
    return json.dumps({"system_type": system_type, "system": system}, default=str, sort_keys=True)


def check_belongs(content: dict[str, Any], path: str, mine: str, training: bool) -> None:
    """Checks that a checkpoint was made with this config; one without a signature passes.

    To go on with training, all of `system` must agree, except for what concerns results only. To validate, test or
    export, the types of the parts and the prompt must.

    Args:
        content: the checkpoint.
        path: its file, for the error.
        mine: `signature` of this config.
        training: whether the run goes on with training.

    Raises:
        UserError: the two differ; the message names up to three keys.
    """
    if KEY not in content:
        return
    try:
        theirs = dict(_leaves(json.loads(content[KEY]["config"])))
    except (TypeError, KeyError, ValueError) as e:
        raise UserError(f"`resume`: {path} is damaged: what it says of its config cannot be read; {EARLIER}") from e
    ours = dict(_leaves(json.loads(mine)))
    differ = [k for k in sorted(theirs.keys() | ours.keys()) if theirs.get(k) != ours.get(k)]
    if training:
        free = tuple(f"system.{key}" for key in _FREE)
        differ = [k for k in differ if not k.startswith(free) and not k.endswith(".backend")]
    else:
        differ = [k for k in differ if k.endswith(("_type", ".prompt")) and not k.startswith("system.exporter")]
    if not differ:
        return
    listed = ", ".join(f"`{k}` is {theirs.get(k)!r} there and {ours.get(k)!r} here" for k in differ[:3])
    more = f", and {len(differ) - 3} more" if len(differ) > 3 else ""
    config = os.path.join(os.path.dirname(os.path.dirname(path)), "configs", "parsed.yaml")
    raise UserError(
        f"`resume`: {path} belongs to another config: {listed}{more}; resume with its own, --config {config}"
    )


def _leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, tree
