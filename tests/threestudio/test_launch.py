"""The real framework on a CPU: its own pipelines, and ours, start to end."""

from __future__ import annotations

from collections.abc import Callable

from conftest import Run, Threestudio


def test_sds_trains_and_tests(launch: Callable[..., Run], threestudio: Threestudio) -> None:
    run = launch("configs/dreamfusion-sd.yaml", "--train", *threestudio.small_hash_grid)
    assert run.checkpoint.is_file()
    assert len(list((run.trial / "save" / "it2-test").glob("*.png"))) == 2


def test_our_own_config_trains_unchanged(launch: Callable[..., Run]) -> None:
    config = "custom/threestudio-pullback/configs/pullback-nerf-tiny.yaml"
    short = ("system.guidance.levels=3", "system.guidance.fit_steps=2", "trainer.max_steps=-1")
    run = launch(config, "--train", *short, "checkpoint.every_n_train_steps=1")
    assert run.checkpoint.is_file()
    # a field of one value would be one colour
    steps = 3 * 2 - 1
