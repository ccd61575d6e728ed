"""Images in real threestudio: the tiny config made small, with each of the geometries that the renderer shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from checkpoints import same
from conftest import REPOSITORY, TINY_SD, Threestudio
from scenes import checkpoint, column, picture, start

GEOMETRIES: dict[str, dict[str, Any]] = {
    "pullback-siren-image": {"hidden": 16, "layers": 2, "omega": 10.0},
    "pullback-fourier-image": {"features": 16, "hidden": 16, "layers": 1},
    "pullback-pixels": {"height": 16, "width": 16},
}


def scene(geometry: str) -> dict[str, Any]:
    """Two levels of 16 px pictures, saved at 24 × 32."""
    config = yaml.safe_load((REPOSITORY / "configs" / "pullback-image-tiny.yaml").read_text())
    config["data"] |= {"width": 16, "height": 16, "eval_width": 32, "eval_height": 24}
    config["trainer"]["val_check_interval"] = 2
    config["checkpoint"]["every_n_train_steps"] = 1
    system = config["system"]
    system |= {"geometry_type": geometry, "geometry": GEOMETRIES[geometry]}
    system["prompt_processor"] |= {"prompt": "a red cube, front view", "pretrained_model_name_or_path": TINY_SD}
    system["guidance"] |= {"levels": 2, "fit_steps": 20, "fit_rays": 256, "sigma_min": 0.5, "decode_rounds": 1}
    return config


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_each_image_is_fitted_and_shown(geometry: str, threestudio: Threestudio, tmp_path: Path) -> None:
    run = start(threestudio, tmp_path, scene(geometry), "--train")
    first, last = checkpoint(run, 1), checkpoint(run)
    assert last["global_step"] == 2
    moved = [name for name, value in last["state_dict"].items() if not same(value, first["state_dict"][name])]
    assert moved and all(name.startswith("geometry.") for name in moved)
    assert column(run, "residual")[0] < 0.95 * column(run, "residual_before")[0]
    assert picture(run, "it2-test/0.png").shape == (24, 32, 3)
