"""The real framework on a CPU: its own pipelines, and ours, start to end."""

from __future__ import annotations

from collections.abc import Callable

from conftest import Run, Threestudio


def test_sds_trains_and_tests(launch: Callable[..., Run], threestudio: Threestudio) -> None:
    run = launch("configs/dreamfusion-sd.yaml", "--train", *threestudio.small_hash_grid)
    assert run.checkpoint.is_file()
    assert len(list((run.trial / "save" / "it2-test").glob("*.png"))) == 2
