"""Bad values in every block of the demo's config: exit status 2, one line that names place and remedy, no run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pullback.host import launch
from test_system import arguments
from tiny_pipeline import build


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "sd"
    build(path)
    return path


def refused(capsys: Any, *args: str) -> str:
    """Runs a command line that must be refused; returns the sentence."""
    assert launch.main(list(args)) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and len(err.splitlines()) == 1 and "Traceback" not in err, err
    return err


@pytest.mark.parametrize(
    ("override", "words"),
    [
        # not finite, wherever it stands
        ("data.camera_perturb=nan", ["`data.camera_perturb` must be a finite number"]),
        ("data.camera_distance_range=[1,inf]", ["`data.camera_distance_range[1]` must be a finite number"]),
        ("system.geometry.density_blob_scale=.inf", ["`system.geometry.density_blob_scale`", "finite"]),
        ("system.background.base=[.nan,0,0]", ["`system.background.base[0]`", "finite"]),
        ("system.guidance.guidance_scale=nan", ["`system.guidance.guidance_scale`", "finite"]),
        ("system.guidance.sigma_min=.nan", ["`system.guidance.sigma_min`", "finite"]),
        ("system.optimizer.params.geometry.lr=.nan", ["`system.optimizer.params.geometry.lr`", "finite"]),
        # the run as a whole
        ("seed=-1", ["`seed`", "between 0 and 4294967295"]),
        ("seed=4294967296", ["`seed`", "between 0 and 4294967295"]),
        ("name=", ["`name` is empty"]),
        ("name=../x", ["`name`", "`exp_root_dir`"]),
        ("tag=..", ["tag", "`exp_root_dir`"]),
        ("exp_root_dir=", ["`exp_root_dir` is empty"]),
        ("system.geometry=[1]", ["`system.geometry`", "'[1]'"]),
        ("system.prompt_processor.prompt=a ${ cube", ["`system.prompt_processor.prompt`", "${", "leave it out"]),
        # cameras
        ("data.camera_perturb=-1", ["`data.camera_perturb` must be at least 0"]),
        ("data.eval_fovy_deg=180", ["`data.eval_fovy_deg` must be below 180"]),
        ("data.fovy_range=[20,180]", ["`data.fovy_range` must be below 180"]),
        # the scene
        ("system.geometry.n_feature_dims=0", ["`system.geometry.n_feature_dims` is 0", "set it to 3"]),
        ("system.geometry.isosurface_chunk=-1", ["`system.geometry.isosurface_chunk` must be at least 0"]),
        ("system.background.base=[1,2]", ["`system.background.base`", "three numbers"]),
        ("system.background.gradient_x=3", ["`system.background.gradient_x`", "three numbers"]),
        ("system.background.gradient_y=[a,b,c]", ["`system.background.gradient_y`", "three numbers"]),
        ("system.background.gradient_z=null", ["`system.background.gradient_z`", "three numbers"]),
        # sampling
        ("system.guidance.levels=0", ["`system.guidance.levels` must be at least 1"]),
        ("system.guidance.rho=0.5", ["`system.guidance.rho` must be at least 1"]),
        ("system.guidance.sigma_min=abc", ["`system.guidance.sigma_min` must be a number", "'abc'"]),
        ("system.guidance.sigma_max=[1,2]", ["`system.guidance.sigma_max` must be a number"]),
        ("system.guidance.constraint=projection", ["`system.guidance.noise` must be independent"]),
        # the optimiser, group by group
        ("system.optimizer.nam=Adam", ["`system.optimizer.nam`", "did you mean `name`?"]),
        ("system.optimizer.name=LBFGS", ["`system.optimizer.name`", "`Adam`"]),
        ("system.optimizer.name=Optimizer", ["`system.optimizer.name`", "`Adam`"]),
        ("system.optimizer.args=3", ["`system.optimizer.args` should be a block"]),
        ("system.optimizer.args.betas=[0.9]", ["`system.optimizer.args`"]),
        ("system.optimizer.params=3", ["`system.optimizer.params` should be a block"]),
        ("system.optimizer.params.geometry=3", ["`system.optimizer.params.geometry` should be a block"]),
        ("system.optimizer.params.geometry.lr=-1", ["`system.optimizer.params.geometry`", "-1"]),
        ("system.optimizer.params.geometry.lr=abc", ["`system.optimizer.params.geometry`"]),
        ("system.optimizer.params.geometry.lrr=1", ["`system.optimizer.params.geometry.lrr`", "`lr`"]),
        ("system.scheduler={name: Counter}", ["`system.scheduler.name`", "`ExponentialLR`"]),
        # Lightning's keywords
        ("trainer.devices=2", ["`trainer.devices` must be 1"]),
        ("trainer.val_check_interval=0", ["`trainer.val_check_interval` must be above 0", "limit_val_batches"]),
        ("trainer.check_val_every_n_epoch=0", ["`trainer.check_val_every_n_epoch` must be above 0"]),
        ("trainer.log_every_n_steps=abc", ["`trainer.log_every_n_steps` should be an integer", "'abc'"]),
        ("trainer.num_sanity_val_steps=abc", ["`trainer.num_sanity_val_steps` should be an integer"]),
        ("trainer.max_steps=1.5", ["`trainer.max_steps` should be an integer", "1.5"]),
        ("trainer.enable_progress_bar=abc", ["`trainer.enable_progress_bar` should be true or false"]),
    ],
)
def test_values(override: str, words: list[str], model: Path, tmp_path: Path, capsys: Any) -> None:
    sentence = refused(capsys, *arguments(model, tmp_path, override))
    assert all(word in sentence for word in words), sentence


def test_a_far_off_key_gets_the_known_ones_instead_of_a_guess(model: Path, tmp_path: Path, capsys: Any) -> None:
    sentence = refused(capsys, *arguments(model, tmp_path, "bogus=1"))
    assert "`bogus`; known are " in sentence and "`exp_root_dir`" in sentence
