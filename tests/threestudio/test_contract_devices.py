"""One sample of `pullback-system` in threestudio by two processes: that of one, resumed by the other number too."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import Threestudio
from pullback.evaluate.saved_run import SavedRun
from pullback.evaluate.studio import world
from scenes import scene, start


def renders(folder: Path) -> torch.Tensor:
    """Four views of a run's end, in [-1, 1], by the bundled host."""
    run = SavedRun(folder / "test" / "run")
    return run.render(world.look_at(torch.full((4,), 20.0), torch.arange(4) * 90.0, run.distance), 32)


@pytest.mark.slow
def test_the_sample_does_not_depend_on_the_number_of_devices(threestudio: Threestudio, tmp_path: Path) -> None:
    # threestudio's renderer draws its jitter for the rays that it gets
    config = scene(renderer={"randomized": False}, data={"batch_size": 2})
    for name in ("alone", "two"):
        (tmp_path / name).mkdir()
    start(threestudio, tmp_path / "alone", config, "--train")
    words = ["--config", str(tmp_path / "alone" / "scene.yaml"), "--train", "--gpu", "0,1"]
    run = threestudio.run(*words, f"exp_root_dir={tmp_path / 'two'}")
    assert run.returncode == 0, run.stdout[-6000:]
    wanted = renders(tmp_path / "alone")
    assert wanted.std() > 0.02
    assert (renders(tmp_path / "two") - wanted).abs().max() < 1e-5
