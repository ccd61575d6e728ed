"""Real threestudio on a CPU: THREESTUDIO_ROOT names a checkout, which is read and never written to.

    THREESTUDIO_ROOT=~/threestudio .venv-threestudio/today/bin/python -m pytest tests/threestudio

Fixtures: `threestudio`, one private checkout for the session, and `launch(config, mode, *overrides)`, a run of
`launch.py --threestudio` in it, small enough for a smoke test.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
EXTENSION = REPOSITORY / "custom" / "threestudio-pullback"
TINY_SD = "custom/threestudio-pullback/assets/tiny-sd"  # relative to the checkout

# for any config with random cameras and a volume renderer; later values on the command line win
SMALL = (
    "data.batch_size=1", "data.width=16", "data.height=16",
    "data.eval_width=16", "data.eval_height=16", "data.n_val_views=1", "data.n_test_views=2",
    "system.renderer.num_samples_per_ray=16",
    f"system.prompt_processor.pretrained_model_name_or_path={TINY_SD}",
    f"system.guidance.pretrained_model_name_or_path={TINY_SD}",
    "system.prompt_processor.prompt=a red cube", "system.prompt_processor.spawn=false",
    "system.guidance.half_precision_weights=false",
    "trainer.max_steps=2", "trainer.precision=32",
)  # fmt: skip
# for geometries with a hash grid
SMALL_HASH_GRID = (
    "system.geometry.pos_encoding_config.log2_hashmap_size=12",
    "system.geometry.pos_encoding_config.n_levels=4",
)


@dataclass
class Run:
    """A finished run: exit status, everything it printed, and its folder (ckpts/, save/, configs/, csv_logs/)."""

    returncode: int
    output: str
    trial: Path

    @property
    def checkpoint(self) -> Path:
        return self.trial / "ckpts" / "last.ckpt"


@dataclass(frozen=True)
class Threestudio:
    """A private checkout: links to the user's files, its own custom/, outputs/ and caches."""

    root: Path
    small: tuple[str, ...] = SMALL
    small_hash_grid: tuple[str, ...] = SMALL_HASH_GRID
    tiny_sd: str = TINY_SD

    def run(self, *args: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """`launch.py --threestudio` with these arguments and no others; stdout and stderr together in .stdout."""
        return subprocess.run(
            [sys.executable, str(REPOSITORY / "launch.py"), "--threestudio", str(self.root), *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            cwd=self.root,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1"},
        )


@pytest.fixture(scope="session")
def threestudio(tmp_path_factory: pytest.TempPathFactory) -> Threestudio:
    given = os.environ.get("THREESTUDIO_ROOT")
    if not given:
        pytest.skip("THREESTUDIO_ROOT is not set: it names a checkout of threestudio (28d9d80) to run")
    source, root = Path(given).resolve(), tmp_path_factory.mktemp("threestudio")
    for entry in source.iterdir():
        if entry.name not in (".git", "custom", "outputs", ".threestudio_cache", "__pycache__"):
            (root / entry.name).symlink_to(entry)
    (root / "custom").mkdir()
    (root / "custom" / EXTENSION.name).symlink_to(EXTENSION)
    return Threestudio(root)


@pytest.fixture
def launch(threestudio: Threestudio, tmp_path: Path) -> Callable[..., Run]:
    """launch(config, mode, *overrides, expect=0): a small run into tmp_path; fails with its output on another status.

    config is relative to the checkout or absolute; mode is --train, --validate, --test or --export. Overrides come
    after the small settings and win. Runs of one test share the folder `.trial`, so a later one can resume from
    `.checkpoint` of an earlier.
    """

    def start(config: str | Path, mode: str, *overrides: str, expect: int | None = 0, timeout: float = 300) -> Run:
        where = (f"exp_root_dir={tmp_path}", "name=test", "tag=run", "use_timestamp=false")
        done = threestudio.run("--config", str(config), mode, *threestudio.small, *where, *overrides, timeout=timeout)
        assert expect is None or done.returncode == expect, done.stdout[-6000:]
        return Run(done.returncode, done.stdout, tmp_path / "test" / "run")

    return start
