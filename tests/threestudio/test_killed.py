"""A run of real threestudio that is killed, with no chance to clean up, and goes on to the same end."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import same

CONFIG = "custom/threestudio-pullback/configs/pullback-nerf-tiny.yaml"
# 16 visits with validation in between, jittered samples and an occupancy grid that is learned on the way
SCENE = (
    "trainer.max_steps=-1", "trainer.val_check_interval=3", "checkpoint.every_n_train_steps=1",
    "checkpoint.save_top_k=1", "data.batch_size=4", "system.geometry.grid_size=[24,24,24]",
    "system.renderer.grid_prune=true", "system.guidance.levels=8",
    "system.guidance.constraint=repaint", "system.guidance.cycles=2",
    "system.guidance.fit_steps=20", "system.guidance.fit_rays=512", "name=test", "tag=run", "use_timestamp=false",
)  # fmt: skip
KILLS, SEED = 5, 11


def start(threestudio: Any, out: Path, *more: str) -> subprocess.Popen[bytes]:
    overrides = [o for o in threestudio.small if not o.startswith("trainer.max_steps")]
    command = [
        sys.executable, str(Path(__file__).parents[2] / "launch.py"), "--threestudio", str(threestudio.root),
        "--config", CONFIG, "--train", *overrides, f"exp_root_dir={out}", *SCENE, *more,
    ]  # fmt: skip
    with (out / "log.txt").open("ab") as log:
        return subprocess.Popen(
            command, stdout=log, stderr=log, cwd=threestudio.root, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )


def finish(process: subprocess.Popen[bytes], out: Path) -> dict[str, Any]:
    assert process.wait(timeout=300) == 0, (out / "log.txt").read_text()[-4000:]
    return torch.load(last(out), weights_only=True)


def last(out: Path) -> Path:
    return out / "test" / "run" / "ckpts" / "last.ckpt"


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> float:
    while not path.exists():
        assert process.poll() is None, "the run ended too early"
        time.sleep(0.01)
    return time.time()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_killed_at_random_points_and_resumed_it_ends_with_the_same_parameters(threestudio: Any, tmp_path: Path):
    whole = tmp_path / "whole"
    whole.mkdir()
    process = start(threestudio, whole)
    began = wait_for(last(whole), process)
    wanted = finish(process, whole)
    spent = last(whole).stat().st_mtime - began  # from the first checkpoint to the last
    draw, steps = random.Random(SEED), []
    for k in range(KILLS):
        out = tmp_path / f"killed{k}"
        out.mkdir()
        process = start(threestudio, out)
        wait_for(last(out), process)
        time.sleep(draw.uniform(0, spent))
        process.send_signal(signal.SIGKILL)
        process.wait()
        steps.append(torch.load(last(out), weights_only=True)["global_step"])
        found = finish(start(threestudio, out, f"resume={last(out)}"), out)
        assert found["global_step"] == wanted["global_step"] == 16
        for part in ("state_dict", "optimizer_states", "pullback"):
            assert same(found[part], wanted[part]), f"{part} differs after a kill at step {steps[-1]}"
    print(f"killed after steps {steps}")
    assert min(steps) < 16
