"""Sweeps of real runs: a model that is kept changes nothing; on Ray and by submitit comes what comes here."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
import torch
from pullback import models
from pullback.host import launch
from pullback.models import configured, kept
from pullback.resources import CONFIGS
from pullback.sweep import check, drive, engines, worker
from pullback.sweep.claims import version
from pullback.sweep.folder import Folder
from pullback.sweep.making import digest
from pullback.sweep.plan import Plan, Variant
from pullback.sweep.status import table
from tiny_pipeline import build

SMALL = (
    "data.width=16", "data.height=16", "data.eval_width=16", "data.eval_height=16", "data.n_test_views=2",
    "data.batch_size=2", "data.n_val_views=1", "system.guidance.levels=3", "system.guidance.fit_steps=2",
    "system.guidance.fit_rays=64", "system.guidance.sigma_min=0.5", "system.geometry.grid_size=[16,16,16]",
    "system.renderer.num_samples_per_ray=8", "system.geometry.isosurface_resolution=8",
    "trainer.limit_val_batches=0", "system.geometry.radius=0.5",
)  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    build(folder)
    return folder


def begun(out: Path, model: Path, seeds: tuple[int, ...]) -> tuple[Folder, worker.Job]:
    words = (*SMALL, f"system.prompt_processor.pretrained_model_name_or_path={model}")
    variant = Variant("tiny", (CONFIGS / "pullback-nerf-tiny.yaml").read_text(), words)
    folder = Folder(out)
    folder.check()
    folder.add(Plan((variant,), ("a red cube", "a blue ball"), seeds))
    return folder, worker.Job(str(out), version=version(), cwd=os.getcwd())


def test_a_worker_loads_a_model_once_and_its_runs_are_those_of_launch(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, job = begun(tmp_path / "sweep", model, (0,))
    loads, load = itertools.count(), configured.load

    def counted(*args: object, **kwargs: object) -> models.LatentModel:
        next(loads)
        return load(*args, **kwargs)

    monkeypatch.setattr(configured, "load", counted)
    check.check(folder, folder.units())
    assert worker.work(job) is None
    assert next(loads) == 1
    rows = dict(folder.rows(folder.units()))
    for unit, row in rows.items():
        words = [*SMALL, f"system.prompt_processor.pretrained_model_name_or_path={model}"]
        words += [f"system.prompt_processor.prompt={unit.prompt}", f"exp_root_dir={tmp_path}", f"tag={unit.tag}"]
        words += ["name=alone", "use_timestamp=false"]
        assert launch.main(["--config", "pullback-nerf-tiny.yaml", "--train", *words]) == 0
        alone = torch.load(tmp_path / "alone" / unit.tag / "ckpts" / "last.ckpt", weights_only=True)
        assert row["parameters"] == digest(alone["state_dict"]) and row["steps"] == 6
        assert row["consistency"] == alone["pullback"]["consistency"]
    assert len({row["parameters"] for row in rows.values()}) == 2


def test_what_is_kept_goes_by_content_and_is_let_go(tmp_path: Path) -> None:
    made: list[object] = []

    def load() -> object:
        made.append(object())
        return made[-1]

    file = tmp_path / "weights"
    file.write_text("a")
    described = {"model": file, "dtype": torch.float32}
    assert kept.get(described, load) is not kept.get(described, load)
    with models.keeping():
        first = kept.get(described, load)
        assert kept.get(described, load) is first
        file.write_text("other weights")
        assert kept.get(described, load) is not first
        for name in "bcd":
            kept.get({"model": name}, load)
        count = len(made)
        kept.get({"model": "d"}, load)
        kept.get({"model": "c"}, load)
        assert len(made) == count
        kept.get({"model": "b"}, load)
        assert len(made) == count + 1


def test_contexts_that_overlap_keep_until_the_last_ends() -> None:
    """As those of workers in threads do, which do not end in the order of their beginning."""
    one, two = models.keeping(), models.keeping()
    one.__enter__()
    first = kept.get({"model": "x"}, object)
    two.__enter__()
    one.__exit__(None, None, None)
    assert kept.get({"model": "x"}, object) is first
    two.__exit__(None, None, None)
    assert kept.get({"model": "x"}, object) is not kept.get({"model": "x"}, object)


def test_a_wrong_key_is_said_before_a_worker_begins(model: Path, tmp_path: Path) -> None:
    folder, _ = begun(tmp_path, model, (0,))
    wrong = Variant("tiny", (CONFIGS / "pullback-nerf-tiny.yaml").read_text(), ("system.guidance.level=3",))
    folder.add(Plan((wrong,), ("a red cube",), (0,)))
    with pytest.raises(Exception, match=r"level"):
        check.check(folder, folder.units())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_every_engine_gives_the_table_of_this_machine(name: str, package: str, model: Path, tmp_path: Path) -> None:
    pytest.importorskip(package)
    tables = []
    for engine in ("local", name):
        folder, job = begun(tmp_path / engine, model, (0, 1))
        kind = engines.find(engine)
        options = kind.Options(**({"executor": "local"} if engine == "slurm" else {}))
        drive.drive(folder, job, lambda kind=kind, job=job, options=options: kind(job, options, 2), print)
        table(folder)
        tables.append((folder.out / "table.csv").read_bytes())
    assert tables[0] == tables[1] and tables[0].count(b",done,") == 4
