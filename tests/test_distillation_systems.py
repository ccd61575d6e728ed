"""threestudio's systems of score distillation in the host: a few steps with a small random model, and resumed ones."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from checkpoints import same
from pullback.host import launch
from tiny_pipeline import build

HASH_GRID = {
    "otype": "HashGrid", "n_levels": 4, "n_features_per_level": 2, "log2_hashmap_size": 10,
    "base_resolution": 4, "per_level_scale": 1.5,
}  # fmt: skip
GUIDANCE: dict[str, dict[str, Any]] = {
    "dreamfusion-system": {
        "guidance_type": "stable-diffusion-guidance",
        "guidance": {"guidance_scale": 20.0},
        "loss": {"lambda_sds": 1.0, "lambda_orient": [0, 0.1, 1.0, 2], "lambda_sparsity": 1.0, "lambda_opaque": 0.1},
    },
    "sdi-system": {
        "guidance_type": "stable-diffusion-sdi-guidance",
        "guidance": {"guidance_scale": 7.5, "trainer_max_steps": 3, "min_step_percent": 0.25, "inversion_n_steps": 5},
        "loss": {
            "lambda_sdi": 1.0, "lambda_orient": 0.1, "lambda_opaque": 0.1, "lambda_convex": [0, 1.0, 0.1, 4],
            "lambda_z_variance": 1.0,
        },
    },
    "prolificdreamer-system": {
        "guidance_type": "stable-diffusion-vsd-guidance",
        "guidance": {"max_step_percent": [1, 0.98, 0.5, 2], "lora_n_timestamp_samples": 2},
        "loss": {"lambda_vsd": 1.0, "lambda_lora": 1.0, "lambda_sparsity": 10.0, "lambda_z_variance": 1.0},
        "params": {"guidance": {"lr": 0.0001}},
    },
    "sjc-system": {
        "geometry_type": "volume-grid",
        "geometry": {"grid_size": [8, 8, 8], "density_bias": -1.0, "n_feature_dims": 4, "normal_type": None},
        "material_type": "no-material",
        "material": {"n_output_dims": 4, "color_activation": "none"},
        "background_type": "textured-background",
        "background": {"n_output_dims": 4, "color_activation": "none", "height": 4, "width": 4},
        "renderer": {"num_samples_per_ray": 16, "grid_prune": False},
        "guidance_type": "stable-diffusion-guidance",
        "guidance": {"guidance_scale": 20.0, "use_sjc": True},
        "loss": {"lambda_sds": 1.0, "lambda_emptiness": [5, 1.0, 2.0, 6], "lambda_depth": 0, "emptiness_scale": 10},
    },
}  # fmt: skip
# loss names, and network evaluations of a step of two views
EXPECTED = {
    "dreamfusion-system": (["sds", "orient", "sparsity", "opaque"], [4, 8, 12]),
    # t is 980, 736 and 493: the inversion takes 0, 1, 201, 401 (, 601 (, 801)) of five evenly spaced times, then t + δ
    "sdi-system": (["sdi", "orient", "opaque", "convex", "z_variance"], [28, 52, 72]),
    "prolificdreamer-system": (["vsd", "lora", "sparsity", "z_variance"], [10, 20, 30]),
    "sjc-system": (["sds", "emptiness"], [4, 8, 12]),
}
SYSTEMS = list(GUIDANCE)


def config(kind: str, model: Path) -> dict[str, Any]:
    parts = GUIDANCE[kind]
    return {
        "name": "t",
        "tag": "run",
        "use_timestamp": False,
        "seed": 3,
        "data_type": "random-camera-datamodule",
        "data": {
            "batch_size": 2, "width": 12, "height": 12, "eval_width": 12, "eval_height": 12, "n_val_views": 2,
            "n_test_views": 2,
        },
        "system_type": kind,
        "system": {
            "geometry_type": "implicit-volume",
            "geometry": {
                "radius": 2.0, "normal_type": "analytic", "pos_encoding_config": HASH_GRID,
                "density_bias": "blob_magic3d", "density_activation": "softplus",
            },
            "material_type": "diffuse-with-point-light-material",
            "material": {"ambient_only_steps": 2},
            "background_type": "neural-environment-map-background",
            "background": {"random_aug": True},
            "renderer_type": "nerf-volume-renderer",
            "renderer": {"radius": 2.0, "num_samples_per_ray": 16, "return_comp_normal": True},
            "prompt_processor_type": "stable-diffusion-prompt-processor",
            "prompt_processor": {"prompt": "a red cube", "pretrained_model_name_or_path": str(model)},
            **{key: value for key, value in parts.items() if key != "params"},
            "guidance": {
                "pretrained_model_name_or_path": str(model), **parts["guidance"],
                **({"pretrained_model_name_or_path_lora": str(model)} if "vsd" in parts["guidance_type"] else {}),
            },
            "optimizer": {
                "name": "Adam",
                "args": {"lr": 0.01},
                "params": {"geometry": {}, "background": {"lr": 0.001}, **parts.get("params", {})},
            },
        },
        "trainer": {"max_steps": 3, "log_every_n_steps": 1, "num_sanity_val_steps": 0, "val_check_interval": 2},
        "checkpoint": {"save_last": True, "save_top_k": -1, "every_n_train_steps": 1},
    }  # fmt: skip


def start(kind: str, model: Path, out: Path, *more: str, mode: str = "--train") -> int:
    out.mkdir(exist_ok=True)
    path, made = out / "config.yaml", config(kind, model)
    for key in [o.removeprefix("~system.loss.") for o in more if o.startswith("~")]:
        del made["system"]["loss"][key]
    path.write_text(yaml.safe_dump(made))
    more = tuple(o for o in more if not o.startswith("~"))
    return launch.main(["--config", str(path), mode, f"exp_root_dir={out}", *more])


def checkpoint(out: Path, name: str = "last.ckpt") -> dict[str, Any]:
    return torch.load(out / "t" / "run" / "ckpts" / name, weights_only=True)


def column(out: Path, name: str) -> list[float]:
    with next((out / "t" / "run" / "csv_logs").rglob("metrics.csv")).open() as f:
        return [float(row[name]) for row in csv.DictReader(f) if row.get(name)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("model") / "sd")


@pytest.fixture(scope="module", params=SYSTEMS)
def trained(request: pytest.FixtureRequest, model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    out = tmp_path_factory.mktemp(request.param)
    assert start(request.param, model, out) == 0
    return request.param, out


def test_a_step_moves_the_field_and_logs_losses_and_calls(trained: tuple[str, Path]):
    kind, out = trained
    losses, calls = EXPECTED[kind]
    for name in losses:
        assert len(column(out, f"train/loss_{name}")) == 3, name
        assert len(column(out, f"train_params/lambda_{name}")) == 3
    assert column(out, "train/nfe") == calls
    assert checkpoint(out)["nfe"] == calls[-1]
    first, last = (checkpoint(out, name)["state_dict"] for name in ("epoch=0-step=1.ckpt", "last.ckpt"))
    networks = ("encoding", "density_network", "feature_network")
    parts = ["geometry.grid"] if kind == "sjc-system" else [f"geometry.{name}" for name in networks]
    for part in (*parts, "background"):
        assert any(not torch.equal(first[k], last[k]) for k in first if k.startswith(part)), part
    assert not any("unet" in key or "vae" in key for key in last)
    trained_too = {k for k in last if k.startswith("guidance.") and not torch.equal(first[k], last[k])}
    assert bool(trained_too) == (kind == "prolificdreamer-system")


def test_pictures_are_there(trained: tuple[str, Path]):
    saved = trained[1] / "t" / "run" / "save"
    assert (saved / "it2-val.png").stat().st_size > 0
    assert (saved / "it3-grid.png").stat().st_size > 0 and (saved / "it3-test.mp4").stat().st_size > 0


def test_a_resumed_run_ends_bit_for_bit_the_same_and_is_tested(trained: tuple[str, Path], model: Path, tmp_path: Path):
    kind, out = trained
    ckpts = out / "t" / "run" / "ckpts"
    assert start(kind, model, tmp_path, f"resume={ckpts / 'epoch=0-step=1.ckpt'}") == 0
    whole, resumed = checkpoint(out), checkpoint(tmp_path)
    for key in ("state_dict", "optimizer_states", "nfe", "global_step"):
        assert same(whole[key], resumed[key]), key
    assert column(tmp_path, "train/nfe") == EXPECTED[kind][1][1:]
    if kind == "prolificdreamer-system":  # whose guidance has a state too
        assert start(kind, model, tmp_path, f"resume={ckpts / 'last.ckpt'}", mode="--test") == 0


def test_the_first_steps_loss_is_that_of_its_terms(trained: tuple[str, Path]):
    """Nothing is weighed twice or left out: Lightning's own loss is the weighted sum of what is logged."""
    kind, out = trained
    terms = {name: column(out, f"train/loss_{name}") for name in EXPECTED[kind][0]}
    weights = {name: column(out, f"train_params/lambda_{name}") for name in terms}
    total = column(out, "train/loss")
    last = sum(weights[name][-1] * terms[name][-1] for name in terms)
    assert total[-1] == pytest.approx(last, rel=1e-5)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("system.loss.lambda_sparcity=1", ["`system.loss.lambda_sparcity`", "lambda_sparsity"]),
        ("~system.loss.lambda_sds", ["`system.loss.lambda_sds` is missing"]),
        ("system.guidance.use_img_loss=true", ["`system.guidance.use_img_loss` must be false"]),
        ("system.guidance.weighting_strategy=pink", ["`system.guidance.weighting_strategy`", "fantasia3d"]),
        ("system.guidance.max_step_percent=1.5", ["`system.guidance.max_step_percent`", "between 0 and 1"]),
        ("system.guidance.min_step_percent=0.99", ["min_step_percent", "swap"]),
        ("system.guidance.guidance_scal=1", ["`system.guidance.guidance_scal`", "guidance_scale"]),
        ("system.guidance.pretrained_model_name_or_path=/nowhere/m", ["system.guidance.pretrained", "/nowhere"]),
    ],
)
def test_bad_values_get_one_sentence(override: str, words: list[str], model: Path, tmp_path: Path, capsys):
    assert start("dreamfusion-system", model, tmp_path, override) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and all(word in error[0] for word in words), error


# threestudio's own YAML files

TINY_SD = "custom/threestudio-pullback/assets/tiny-sd"
SMALL = [
    "data.batch_size=1", "data.width=16", "data.height=16", "data.resolution_milestones=[]", "data.eval_width=16",
    "data.eval_height=16", "data.n_val_views=1", "data.n_test_views=2", "system.renderer.num_samples_per_ray=16",
    f"system.prompt_processor.pretrained_model_name_or_path={TINY_SD}", "system.prompt_processor.prompt=a red cube",
    f"system.guidance.pretrained_model_name_or_path={TINY_SD}", "trainer.max_steps=2", "trainer.precision=32",
    "name=t", "tag=run", "use_timestamp=false",
]  # fmt: skip
HASH = ["system.geometry.pos_encoding_config.log2_hashmap_size=12", "system.geometry.pos_encoding_config.n_levels=4"]
THEIRS = {
    "dreamfusion-sd": ("sds", HASH),
    "prolificdreamer": ("vsd", [*HASH, f"system.guidance.pretrained_model_name_or_path_lora={TINY_SD}"]),
    "sdi": ("sdi", HASH),
    "sjc": ("sds", ["system.geometry.grid_size=[12,12,12]"]),
}


DROP_IN = [
    "system.guidance_type=pullback-guidance", "system.loss.lambda_pullback=1", "system.guidance.guidance_scale=7.5",
]  # fmt: skip
UNUSED = {
    "sdi-system": ("inversion_n_steps",), "sjc-system": ("use_sjc",), "dreamfusion-system": (),
    "prolificdreamer-system": ("lora_n_timestamp_samples", "pretrained_model_name_or_path_lora"),
}  # fmt: skip


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=pytest.mark.slow if kind in ("dreamfusion-system", "sdi-system") else ())
        for kind in SYSTEMS
    ],
)
def test_the_drop_in_leaves_the_keys_of_the_guidance_before(kind: str, model: Path, tmp_path: Path, capsys):
    more = [*DROP_IN, "system.guidance.vram_O=true", "trainer.max_steps=2"]  # zero123-guidance's, not in the host
    assert start(kind, model, tmp_path, *more) == 0, capsys.readouterr().err
    assert len(column(tmp_path, "train/loss_pullback")) == 2
    out = capsys.readouterr().out
    (line,) = (line for line in out.splitlines() if line.startswith("pullback-guidance has no use for "))
    assert all(key in line for key in ("vram_O", *UNUSED[kind]))
    assert ("`system.optimizer.params.guidance` has no effect" in out) == ("params" in GUIDANCE[kind])
    assert start(kind, model, tmp_path, *DROP_IN, "system.guidance.guidance_scal=1") == 2
    assert "did you mean `guidance_scale`" in capsys.readouterr().err


@pytest.mark.skipif("THREESTUDIO_ROOT" not in os.environ, reason="THREESTUDIO_ROOT is not set: a checkout (28d9d80)")
@pytest.mark.parametrize("drop_in", [False, True])
@pytest.mark.parametrize("name", THEIRS)
def test_threestudios_own_file_runs(name: str, drop_in: bool, tmp_path: Path):
    loss, more = THEIRS[name]
    loss, more = ("pullback", [*more, *DROP_IN]) if drop_in else (loss, more)
    file = Path(os.environ["THREESTUDIO_ROOT"]) / "configs" / f"{name}.yaml"
    assert launch.main(["--config", str(file), "--train", f"exp_root_dir={tmp_path}", *SMALL, *more]) == 0
    assert len(column(tmp_path, f"train/loss_{loss}")) == 2
    assert (tmp_path / "t" / "run" / "save" / "it2-test.mp4").stat().st_size > 0
