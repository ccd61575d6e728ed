"""Panoramas in real threestudio: the tiny config made small, fitted, resumed and saved whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from checkpoints import same
from conftest import REPOSITORY, TINY_SD, Threestudio
from PIL import Image
from scenes import checkpoint, column, picture, start


def scene() -> dict[str, Any]:
    """Two levels of two crops of 16 px."""
    config = yaml.safe_load((REPOSITORY / "configs" / "pullback-panorama-tiny.yaml").read_text())
    config["data"] |= {
        "batch_size": 2, "width": 16, "height": 16, "eval_width": 16, "eval_height": 16, "n_val_views": 1,
        "n_test_views": 2,
    }  # fmt: skip
    config["trainer"]["val_check_interval"] = 2
    config["checkpoint"]["every_n_train_steps"] = 1
    system = config["system"]
    system["geometry"] |= {"hidden": 16, "layers": 2, "omega": 8.0, "equirect_height": 16}
    system["prompt_processor"] |= {"prompt": "a red cube", "pretrained_model_name_or_path": TINY_SD}
    system["guidance"] |= {"levels": 2, "cycles": 1, "fit_steps": 20, "fit_rays": 256, "sigma_min": 0.5}
    return config


def test_a_panorama_is_fitted_shown_and_resumed(threestudio: Threestudio, tmp_path: Path) -> None:
    run = start(threestudio, tmp_path, scene(), "--train")
    first, last = checkpoint(run, 1), checkpoint(run)
    assert last["global_step"] == 2
    moved = [name for name, value in last["state_dict"].items() if not same(value, first["state_dict"][name])]
    assert moved and all(name.startswith("geometry.") for name in moved)
    assert column(run, "residual")[0] < 0.95 * column(run, "residual_before")[0]
    for view in range(2):
        assert picture(run, f"it2-test/{view}.png").shape == (16, 16, 3)
    with Image.open(run.trial / "save" / "it2-whole" / "panorama.png") as whole:
        assert whole.size == (32, 16) and "equirectangular" in whole.info["XML:com.adobe.xmp"]

    # the crops of a step depend on the seed and the step alone
    again = tmp_path / "again"
    again.mkdir()
    resume = f"resume={run.trial / 'ckpts' / 'epoch=0-step=1.ckpt'}"
    resumed = start(threestudio, again, scene(), "--train", resume)
    assert same(checkpoint(resumed)["state_dict"], last["state_dict"])
