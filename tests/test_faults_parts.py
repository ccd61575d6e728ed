"""Faults that users met with the parts of a run: sizes, milestones, weights, parts that replace others, models."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import ListConfig, OmegaConf
from pullback import models
from pullback.errors import ConfigError, UserError, unfit_package
from pullback.evaluate.compare import plan
from pullback.host import launch, prompts
from pullback.host.config import load_config
from pullback.host.data.cameras import RandomCameras
from pullback.host.parts import load_parts
from pullback.models.any_size import AnySize
from pullback.resources import CONFIGS, TINY_CONFIG, TINY_MODEL
from test_family_stable_diffusion_3 import build as build_3
from test_system import arguments, folder
from tiny_pipeline import build

BACKDROP = ("system.background_type=solid-color-background", "system.background.color=[0.1,0.2,0.3]")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("model") / "sd")


@pytest.fixture(scope="module")
def trained(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    assert launch.main(arguments(model, out, *BACKDROP, "trainer.max_steps=1", "data.n_test_views=1")) == 0
    return out


def refused(capsys: Any, *args: str) -> str:
    assert launch.main(list(args)) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and len(err.splitlines()) == 1, err
    return err


def without(start: str, words: list[str]) -> list[str]:
    return [word for word in words if not word.startswith(start)]


# ---- pictures that are not square


@pytest.mark.parametrize(
    "sizes", [("data.height=64", "data.width=128"), ("data.height=[64,32]", "data.width=[64,48]", "data.batch_size=1")]
)
@pytest.mark.parametrize("config", ["pullback-nerf-tiny", "pullback-image-tiny", "pullback-panorama-tiny"])
def test_pictures_that_the_model_would_squeeze_are_refused(
    config: str, sizes: tuple[str, ...], tmp_path: Path, capsys: Any
) -> None:
    if "[" in sizes[0]:
        if config != "pullback-nerf-tiny":
            pytest.skip("one size")
        sizes = (*sizes, "data.resolution_milestones=[2]")
    words = ["--config", str(CONFIGS / f"{config}.yaml"), "--train", f"exp_root_dir={tmp_path}"]
    said = refused(capsys, *words, "system.prompt_processor.prompt=a red cube", *sizes)
    assert "`data.height` is" in said and "`data.width`" in said and "data.eval_width" in said


def test_score_distillation_squeezes_none_either(tmp_path: Path, capsys: Any) -> None:
    words = without("system.guidance.", arguments(TINY_MODEL, tmp_path, "system_type=dreamfusion-system"))
    words += ["system.guidance_type=stable-diffusion-guidance", "system.loss={lambda_sds: 1}", "data.width=32"]
    assert "`data.height` is 16 and `data.width` 32" in refused(capsys, *words)


def test_renders_that_are_not_square_do_not_reach_the_model() -> None:
    size = SimpleNamespace(model=SimpleNamespace(image_size=64, sample_size=8), fit_space="image")
    squeezed = AnySize(size)  # type: ignore[arg-type]
    for call in (squeezed.encode, squeezed.fit_latents):
        with pytest.raises(UserError, match="64 pixels high and 128 wide"):
            call(torch.zeros(1, 3, 64, 128))


def test_a_size_for_each_resolution_counts_with_its_own() -> None:
    models.check_square(SimpleNamespace(height=[16, 32], width=[16, 32]))
    models.check_square(SimpleNamespace(height=ListConfig([16, 16]), width=16))
    models.check_square(SimpleNamespace(batch_size=1))  # a datamodule of a user's
    with pytest.raises(UserError, match="is 32 and"):
        models.check_square(SimpleNamespace(height=[16, 32], width=16))


# ---- milestones count steps of the optimiser, as in threestudio, where a visit has many


def cameras(updates: int, **cfg: Any) -> RandomCameras:
    from pullback.host.data.cameras import RandomCameraDataModule

    data = RandomCameraDataModule({"height": [4, 8], "width": [4, 8], "resolution_milestones": [60], **cfg})
    data.setup("fit")
    data.train_dataset.updates = updates
    return data.train_dataset


def test_a_milestone_of_60_comes_with_the_second_visit_of_30_steps() -> None:
    for updates, first in ((1, 60), (30, 2), (7, 9)):
        source = cameras(updates)
        assert source.draw(first - 1)["height"] == 4 and source.draw(first)["height"] == 8
    wide = cameras(30, progressive_until=59)
    narrow = [float(wide.draw(step)["azimuth"].abs().max()) for step in (0, 1, 2)]
    assert narrow[0] == 0 and 0 < narrow[1] <= 90 + 1e-3  # half of the way to ±180


def test_a_run_changes_its_resolution_where_threestudio_does(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pullback.adapters.systems.sampling import PullbackSystem

    seen: list[int] = []
    whole = PullbackSystem.training_step

    def step(self: Any, batch: Any, batch_idx: int) -> None:
        seen.append(batch["height"])
        whole(self, batch, batch_idx)

    monkeypatch.setattr(PullbackSystem, "training_step", step)
    # three steps of the optimiser a visit
    sizes = ("data.height=[8,16]", "data.width=[8,16]", "data.batch_size=[2,2]", "data.resolution_milestones=[6]")
    words = arguments(model, tmp_path, *sizes, "data.n_test_views=1")
    assert launch.main([*words, "trainer.max_steps=3"]) == 0
    assert seen == [8, 8, 16]
    resume = f"resume={folder(tmp_path)}/ckpts/epoch=0-step=1.ckpt"
    assert launch.main([*words, "trainer.max_steps=4", resume]) == 0
    assert seen[3:] == [8, 16, 16]


# ---- threestudio's library of prompts


def test_prompts_of_threestudios_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    said = refused(capsys, *arguments(TINY_MODEL, tmp_path / "out", "system.prompt_processor.prompt=lib:cowboy_boots"))
    assert "`system.prompt_processor.prompt` is 'lib:cowboy_boots'" in said and "load/prompt_library.json" in said
    with pytest.raises(UserError, match="--prompts"):
        plan.load_prompts("lib:cowboy_boots")
    texts = ["a pair of brown Cowboy boots", "a pair of red boots", "a cowboy hat"]
    prompts.LIBRARY.parent.mkdir()
    prompts.LIBRARY.write_text(json.dumps({"dreamfusion": texts}))
    block = {"pretrained_model_name_or_path": str(TINY_MODEL), "use_cache": False}
    one = prompts.StableDiffusionPromptProcessor({"prompt": "lib:cowboy_boots", **block})
    assert one.prompt == texts[0] and one.prompts_vd[0].startswith(texts[0])
    assert plan.load_prompts("lib:red_boots; a cube") == [texts[1], "a cube"]
    for wrong, words in (("lib:boots", "2 prompts"), ("lib:shoes", "no prompts")):
        with pytest.raises(ConfigError, match=words):
            prompts.looked_up(wrong)
    for content in ("{", "[]", '{"dreamfusion": [1]}', "{}"):
        prompts.LIBRARY.write_text(content)
        with pytest.raises(ConfigError, match="cannot be read"):
            prompts.looked_up("lib:boots")


# ---- weights of another run


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (("system.geometry.grid_size=[8,8,8]",), ["does not fit this config", "geometry.grid"]),
        (("system.geometry_type=implicit-volume",), ["none of this run's", "geometry.encoding", "but background"]),
    ],
)
def test_weights_that_do_not_fit(
    override: tuple[str, ...], words: list[str], trained: Path, model: Path, tmp_path: Path, capsys: Any
) -> None:
    weights = f"system.weights={folder(trained)}/ckpts/last.ckpt"
    base = without("system.geometry.grid_size", arguments(model, tmp_path))
    said = refused(capsys, *base, weights, *BACKDROP, *override)
    assert "`system.weights`" in said and all(word in said for word in words), said


def test_weights_of_another_kind_of_run(trained: Path, tmp_path: Path, capsys: Any) -> None:
    words = ["--config", str(CONFIGS / "pullback-image-tiny.yaml"), "--train", f"exp_root_dir={tmp_path}"]
    weights = f"system.weights={folder(trained)}/ckpts/last.ckpt"
    said = refused(capsys, *words, "system.prompt_processor.prompt=a red cube", weights)
    assert "`system.weights`" in said and "none of this run's" in said and "geometry.network" in said, said


def test_weights_that_fit_in_part_say_how_many(
    trained: Path, model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = f"system.weights={folder(trained)}/ckpts/last.ckpt"
    with caplog.at_level("INFO", logger="pullback"):
        more = ("system.background_type=neural-environment-map-background", "data.n_test_views=1")
        assert launch.main(arguments(model, tmp_path, weights, *more, "trainer.max_steps=1")) == 0
    (line,) = (r.getMessage() for r in caplog.records if "parameters" in r.getMessage())
    assert " gives 2 of 5 parameters; background.network." in line and line.endswith(" start anew"), line


# ---- a part that the command line replaces


def loaded(*words: str, say: Any = None) -> Any:
    load_parts()
    return load_config(str(TINY_CONFIG), cli_args=["system.prompt_processor.prompt=a red cube", *words], say=say)


def test_a_part_that_replaces_another_starts_with_its_own_keys() -> None:
    said: list[str] = []
    cfg = loaded("system.background_type=solid-color-background", say=said.append)
    assert cfg.system.background == {}
    (line,) = said
    assert "in place of pullback-gradient-background" in line
    assert "left out: base, gradient_x, gradient_y, gradient_z of system.background" in line
    cfg = loaded("system.background.color=[0.1,0.2,0.3]", "system.background_type=solid-color-background")
    assert cfg.system.background == {"color": [0.1, 0.2, 0.3]}
    # what both have stays
    cfg = loaded("system.geometry_type=implicit-volume")
    assert cfg.system.geometry.radius == 0.75 and "grid_size" not in cfg.system.geometry
    cfg = loaded("data_type=pullback-image-datamodule")
    assert cfg.data.width == 64 and "fovy_range" not in cfg.data


def test_keys_of_no_part_are_still_refused(capsys: Any, tmp_path: Path) -> None:
    base = arguments(TINY_MODEL, tmp_path, "system.background_type=solid-color-background")
    assert "`system.background.base`" in refused(capsys, *base, "system.background.base=[0,0,0]")
    config: Any = OmegaConf.load(TINY_CONFIG)
    config.system.background.bass = 1
    OmegaConf.save(config, tmp_path / "c.yaml")
    base[base.index("--config") + 1] = str(tmp_path / "c.yaml")
    assert "unknown key `system.background.bass`" in refused(capsys, *base)
    assert "'solid'" in refused(capsys, *base, "system.background_type=solid")


def test_a_comparison_replaces_parts_too() -> None:
    (sds,) = plan.load_methods(TINY_CONFIG, ["sds"], None)
    changed = plan.overridden(sds, ["system.background.color=[0,0,0]", "system.background_type=solid-color-background"])
    assert changed.config.system.background == {"color": [0, 0, 0]}
    assert "base" in sds.config.system.background  # the method itself is not changed


# ---- models and packages


def test_a_vocabulary_larger_than_the_table(model: Path, tmp_path: Path, capsys: Any) -> None:
    shutil.copytree(model, tmp_path / "sd")
    file = tmp_path / "sd" / "tokenizer" / "vocab.json"
    vocabulary = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**vocabulary, "cube</w>": len(vocabulary) + 7}), encoding="utf-8")
    for load in (models.load, models.load_text_encoder):
        with pytest.raises(
            models.ModelError, match=rf"a token numbered {len(vocabulary) + 7}.*has {len(vocabulary)} emb"
        ):
            load(tmp_path / "sd")
    said = refused(capsys, *arguments(tmp_path / "sd", tmp_path / "out"))
    assert "`system." in said and "pretrained_model_name_or_path`" in said and "embeddings" in said


def test_a_vocabulary_larger_than_the_table_of_one_of_several_encoders(tmp_path: Path) -> None:
    folder = build_3(tmp_path)
    file = folder / "tokenizer_2" / "vocab.json"
    vocabulary = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**vocabulary, "cube</w>": len(vocabulary) + 7}), encoding="utf-8")
    model = models.load(folder)
    assert len(model.encode_prompt(["a red ball"])) == 1
    wrong = rf"tokenizer_2 has a token numbered {len(vocabulary) + 7}.*has {len(vocabulary)} emb"
    with pytest.raises(models.ModelError, match=wrong):
        model.encode_prompt(["a ball", "a red cube"])


def test_a_package_for_another_pytorch_is_named() -> None:
    try:
        try:
            raise RuntimeError("operator torchvision::nms does not exist")
        except RuntimeError as error:
            raise ModuleNotFoundError("Could not import module 'CLIPTextModel'.") from error
    except ModuleNotFoundError as error:
        said = unfit_package(error)
    assert said is not None and "'torchvision'" in said and torch.__version__ in said and "pip uninstall torch" in said
    library = "/v/lib/python3.11/site-packages/torchaudio/lib/libtorchaudio.so: undefined symbol: _ZNK5torch"
    assert "'torchaudio'" in str(unfit_package(OSError(library)))
    assert unfit_package(RuntimeError("shape mismatch")) is None


def test_torchvision_for_another_pytorch(tmp_path: Path) -> None:
    package, described = tmp_path / "torchvision", tmp_path / "torchvision-0.20.0.dist-info"
    package.mkdir()
    described.mkdir()
    (package / "__init__.py").write_text('raise RuntimeError("operator torchvision::nms does not exist")\n')
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: torchvision\nVersion: 0.20.0\n")
    (described / "RECORD").touch()
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    code = "from pullback import models, resources; models.load(resources.TINY_MODEL)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 1 and "UserError: the package 'torchvision' was built for another" in done.stderr
