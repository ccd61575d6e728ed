"""Small runs in processes of their own, forked from one that has done the imports; and what they must leave."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from checkpoints import same  # pyright: ignore[reportMissingImports]
from pullback.sweep.process import PRELOADED
from tiny_pipeline import build  # pyright: ignore[reportMissingImports]

ROOT = Path(__file__).resolve().parents[2]
SIZES = [
    "data.width=16", "data.height=16", "data.eval_width=24", "data.eval_height=24", "data.n_test_views=3",
    "system.guidance.levels=5", "system.guidance.fit_steps=4", "system.guidance.fit_rays=64",
    "system.guidance.sigma_min=0.5", "trainer.val_check_interval=2", "checkpoint.every_n_train_steps=1",
]  # fmt: skip
VOLUME = [
    "data.batch_size=2", "data.n_val_views=2", "system.geometry.grid_size=[20,20,20]",
    "system.renderer.num_samples_per_ray=16", "system.geometry.isosurface_resolution=12",
]  # fmt: skip
PLANE = ["system.geometry.hidden=24", "system.geometry.layers=2"]
CONFIGS: dict[str, tuple[str, list[str]]] = {
    "nerf": ("configs/pullback-nerf-tiny.yaml", [*SIZES, *VOLUME]),
    "image": ("configs/pullback-image-tiny.yaml", [*SIZES, *PLANE, "system.guidance.levels=10"]),
    "panorama": (
        "configs/pullback-panorama-tiny.yaml",
        [*SIZES, *PLANE, "data.batch_size=2", "data.n_val_views=1", "system.geometry.equirect_height=16"],
    ),
}


def preload() -> None:
    """One thread, and the imports that take seconds: children that are forked need neither."""
    torch.set_num_threads(1)
    for name in ("pullback.cli", "pullback.host.launch", "pullback.host.parts", *PRELOADED):
        importlib.import_module(name)
    importlib.import_module("pullback.host.parts").load_parts()


def model(folder: Path) -> Path:
    """The folder of a small random model, made once."""
    if not (folder / "sd" / "model_index.json").exists():
        build(folder / "sd")
    return folder / "sd"


def words(kind: str, sd: Path, out: Path, *more: str) -> list[str]:
    """The command line of launch.py for a run of a kind, into OUT/r/t."""
    config, small = CONFIGS[kind]
    return [
        "--config", config, "--train", f"exp_root_dir={out}", "name=r", "tag=t", "use_timestamp=false",
        "system.prompt_processor.prompt=a red cube", f"system.prompt_processor.pretrained_model_name_or_path={sd}",
        *small, *more,
    ]  # fmt: skip


def folder(out: Path) -> Path:
    return out / "r" / "t"


KEEPERS: dict[int, subprocess.Popen[bytes]] = {}
"""What writes the log of each process."""


def fork(command: list[str], log: Path, before: Callable[[], None] | None = None) -> int:
    """Starts `pullback COMMAND` in a forked process, whose output is added to a log; returns its id.

    Args:
        command: The words.
        log: The file.
        before: Called in the new process first.
    """
    with log.open("ab") as stream:  # by way of a pipe, since the process may not be able to write to files
        keeper = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=stream)
    assert keeper.stdin is not None
    pid = os.fork()
    if pid:
        keeper.stdin.close()
        KEEPERS[pid] = keeper
        return pid
    status = 70
    try:
        for number in (1, 2):
            os.dup2(keeper.stdin.fileno(), number)
        keeper.stdin.close()
        sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1)
        sys.argv = ["pullback", *command]
        if before is not None:
            before()
        status = importlib.import_module("pullback.cli").main(command)
    finally:
        sys.stdout.flush()
        os._exit(status)


def finish(pid: int, seconds: float = 1800) -> int:
    """The exit status of a process; one that takes longer is killed, and has the status -9."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            with contextlib.suppress(subprocess.TimeoutExpired):
                KEEPERS.pop(pid).wait(10)
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -9


def broken(top: Path) -> list[str]:
    """The files below a folder that cannot be read whole; logs that grow, and what has no final name, do not count."""
    found = []
    for file in sorted(top.rglob("*")):
        if file.is_dir() or file.suffix in (".part", ".log", ".lock", ".csv") or "events.out" in file.name:
            continue
        if file.name == ".lock" or file.suffix == ".tmp" or "claims" in file.parts:  # an empty claim is nobody's
            continue
        try:
            read_whole(file)
        except Exception as error:
            found.append(f"{file.relative_to(top)} ({type(error).__name__})")
    return found


def read_whole(file: Path) -> None:
    """Reads a file to its end as what its ending says; raises where that fails."""
    content = file.read_bytes()
    if not content:
        raise ValueError("empty")
    if file.suffix in (".png", ".jpg", ".webp"):
        from PIL import Image

        with Image.open(file) as picture:
            picture.load()
    elif file.suffix == ".mp4":
        from imageio_ffmpeg import count_frames_and_secs

        if not count_frames_and_secs(str(file))[0]:
            raise ValueError("no frames")
    elif file.suffix == ".json":
        json.loads(content)
    elif file.suffix == ".yaml":
        if not isinstance(yaml.safe_load(content), dict):
            raise ValueError("no block")
    elif file.suffix == ".ckpt":
        torch.load(file, weights_only=True)
    elif file.suffix == ".safetensors":
        from safetensors.torch import load

        load(content)
    elif file.suffix in (".glb", ".ply"):
        import trimesh

        if file.suffix == ".glb" and int.from_bytes(content[8:12], "little") != len(content):
            raise ValueError("shorter than it says")
        trimesh.load(file, process=False)
    elif file.suffix == ".html":
        if not content.rstrip().endswith(b"</html>"):
            raise ValueError("no end")
    elif file.suffix in (".obj", ".mtl", ".md", ".txt") and not content.endswith(b"\n"):
        raise ValueError("no end of the last line")


def ends(top: Path) -> dict[str, Any]:
    """What a run leaves that must be the same in every run of it: its state, and the bytes of what it saved."""
    state = torch.load(top / "ckpts" / "last.ckpt", weights_only=True)
    kept = {name: state.get(name) for name in ("state_dict", "optimizer_states", "pullback", "global_step")}
    saved = {str(f.relative_to(top)): f.read_bytes() for f in sorted((top / "save").rglob("*")) if f.is_file()}
    return {**kept, **{name: content for name, content in saved.items() if not name.endswith(".part")}}


def difference(one: dict[str, Any], two: dict[str, Any]) -> list[str]:
    """The names in which two ends differ."""
    return sorted(name for name in {*one, *two} if name not in one or name not in two or not same(one[name], two[name]))
