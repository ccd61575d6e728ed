"""Faults that users met: texts as file names, prompt files in other encodings, colours as bytes, unused options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from pullback import cli
from pullback.adapters.guidance.options import Options
from pullback.errors import ConfigError, UserError, check_schedule
from pullback.evaluate.compare import plan, summary, tune
from pullback.host.config import ExperimentConfig, parse_structured
from pullback.host.prompts import StableDiffusionPromptProcessor
from pullback.output import arrays, file_names
from pullback.resources import CONFIGS, TINY_CONFIG, TINY_MODEL, find

ALIKE = [
    "красный куб",
    "синий шар",
    "a red cube",
    "A red cube",
    "a red cube!",
    "a-red-cube",
    "",
    "🙂",
    "x" * 80,
    "x" * 90,
]


def test_alike_prompts_have_other_names_that_every_file_system_takes() -> None:
    names = [file_names.slug(text) for text in ALIKE]
    assert len({name.lower() for name in names}) == len(ALIKE)
    assert all(len(name) <= 69 and name.isascii() and "/" not in name for name in names)
    assert file_names.slug("a red cube").startswith("a-red-cube-")


def test_a_tag_stays_as_it_is_where_a_folder_can_have_it() -> None:
    def folder(tag: str) -> str:
        return parse_structured(ExperimentConfig, {"tag": tag, "use_timestamp": False}).trial_name

    assert [folder(tag) for tag in ("a_red_cube", "красный куб")] == ["a_red_cube", "красный куб"]
    others = ["a/b", "a_b", "a\nb", "x" * 201, "x" * 202, "ж" * 300, "ж" * 301]
    names = [folder(tag) for tag in others]
    assert len(set(names)) == len(others)
    assert all(len(name.encode()) <= 200 and "/" not in name and "\n" not in name for name in names)


def test_each_prompt_has_pictures_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Extractor:
        def images(self, pictures: torch.Tensor) -> torch.Tensor:
            return pictures

    asked: list[str] = []

    def pictures(model: Any, prompt: str, views: torch.Tensor, scale: float) -> torch.Tensor:
        asked.append(prompt)
        return torch.full((1, 1), float(len(asked)))

    monkeypatch.setattr(summary, "pictures_from_all_round", pictures)
    reference = summary.Reference(tmp_path, str(TINY_MODEL), 2.5, Extractor())
    reference.model = object()
    texts = ["красный куб", "синий шар", "x" * 80 + " red", "x" * 80 + " blue", "a cube!", "a cube?"]
    assert [float(reference.of(text)) for text in [*texts, *texts]] == [1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6]


def test_the_demo_of_another_prompt_goes_to_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folders: list[str] = []

    def launch(words: list[str]) -> int:
        folders.append(next(word for word in words if word.startswith("tag=")))
        return 3

    monkeypatch.setattr("pullback.host.launch.main", launch)
    for prompt in ALIKE[:5]:
        assert cli.main(["demo", "--prompt", prompt, "--out", str(tmp_path)]) == 3
    assert len(set(folders)) == 5


def test_points_of_a_grid_that_differ_in_punctuation_stay_apart() -> None:
    (sds,) = plan.load_methods(TINY_CONFIG, ["sds"], None)
    grid = {"system.prompt_processor.prompt": ["a b", "a/b", "a:b", "ж", "ш", "x" * 300]}
    names = [variant.name for variant in tune.variants(sds.with_settings(dict.fromkeys(grid, "a")), grid)]
    assert len(set(names)) == 6 and all(len(name) <= 120 and name.isascii() for name in names)


def test_a_text_is_a_text_however_long() -> None:
    twelve = [f"a photograph of a cube, number {i}, on a wooden table" for i in range(12)]
    assert plan.load_prompts(";".join(twelve)) == twelve
    for long in ("x" * 455, "x" * 5000, "x/" * 3000):
        assert plan.load_prompts(long) == [long]
    with pytest.raises(UserError, match="is not there"):
        plan.load_prompts("x" * 455 + ".txt")
    assert find("x" * 5000) == Path("x" * 5000)


def test_a_shipped_config_goes_by_its_stem() -> None:
    assert find("pullback-nerf-tiny") == find("pullback-nerf-tiny.yaml") == CONFIGS / "pullback-nerf-tiny.yaml"
    assert find("configs/pullback-nerf-tiny") == Path("configs/pullback-nerf-tiny")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["compare", "--prompts", "a", "--methods", "m" * 300], "--methods"),
        (["compare", "--prompts", "a", "--methods", "m" * 300 + ".yaml"], "--methods"),
        (["compare", "--prompts", "a", "--settings", "s" * 300], "--settings"),
        (["compare", "--prompts", "a", "--config", "c" * 300], "--config"),
        (["evaluate", "prompts", "--config", "c" * 300], "--config"),
        (["launch", "--config", "c" * 300, "--train"], "--config"),
        (["plan", "--config", str(TINY_CONFIG), "--model-config", "c" * 300], "--model-config"),
    ],
)
def test_long_names_of_other_options(words: list[str], named: str, capsys: Any) -> None:
    assert cli.main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert named in line and "check --out" not in line


def embedding(prompt: str) -> torch.Tensor:
    block = {"prompt": prompt, "pretrained_model_name_or_path": str(TINY_MODEL), "use_cache": False}
    return StableDiffusionPromptProcessor(block)().text_embeddings


def test_a_byte_order_mark_is_no_word(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("a red cube\na blue cone\n", encoding="utf-8-sig")
    assert plan.load_prompts(str(file)) == plan.load_prompts("\ufeffa red cube; a blue cone")
    assert plan.load_prompts(str(file)) == ["a red cube", "a blue cone"]
    file.write_text("# a comment\na red cube\n", encoding="utf-8-sig")
    assert plan.load_prompts(str(file)) == ["a red cube"]
    assert torch.equal(embedding("\ufeffa red cube"), embedding("a red cube"))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1", "cp1251"])
def test_a_prompt_file_in_another_encoding_is_one_sentence(encoding: str, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "prompts.txt").write_bytes("un cube é".encode(encoding) if encoding != "cp1251" else b"\xea\xf3\xe1")
    words = ["compare", "--prompts", str(tmp_path / "prompts.txt"), "--out", str(tmp_path / "out")]
    assert cli.main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--prompts" in line and "UTF-8" in line and not (tmp_path / "out").exists()


def test_a_config_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    from pullback.host.config import read_yaml

    (tmp_path / "c.yaml").write_text("name: x\n", encoding="utf-8-sig")
    assert dict(read_yaml(str(tmp_path / "c.yaml"))) == {"name": "x"}
    (tmp_path / "c.yaml").write_text("name: é\n", encoding="utf-16")
    with pytest.raises(UserError, match="UTF-8"):
        read_yaml(str(tmp_path / "c.yaml"))


def test_bytes_are_the_nearest() -> None:
    values = np.linspace(-0.2, 1.2, 4001)
    error = arrays.to_bytes(values, (0, 1)) / 255 - values.clip(0, 1)
    assert np.abs(error).max() <= 0.5 / 255 + 1e-9 and abs(error.mean()) < 1e-4
    assert arrays.to_bytes(np.array([0.0, 0.5, 1.0]), (0, 1)).tolist() == [0, 128, 255]
    assert arrays.to_bytes(np.array([-1.0, 0.0, 1.0]), (-1, 1)).tolist() == [0, 128, 255]


@pytest.mark.parametrize("value", [0.5, 1, [0, 0.1, 0.9, 100], [0.1, 0.9, 100], [0, 0.1, 0.9, 10, 0.5, 20]])
def test_schedules_that_are_some(value: Any) -> None:
    check_schedule("x", value, 0, 1)
    check_schedule("x", OmegaConf.create({"x": value}).x, 0, 1)


@pytest.mark.parametrize("value", ["abc", True, None, 1.7, -0.1, [], [0.1], [0, 0.1, 1.9, 5], [0, "a", 0.5, 5], {}])
def test_schedules_that_are_none(value: Any) -> None:
    with pytest.raises(ConfigError, match="`x` must lie between 0 and 1, or be a schedule"):
        check_schedule("x", value, 0, 1)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("system.guidance.min_step_percent=abc", "`system.guidance.min_step_percent` must lie between 0 and 1"),
        ("system.guidance.max_step_percent=1.7", "`system.guidance.max_step_percent` must lie between 0 and 1"),
        ("system.guidance.grad_clip=abc", "`system.guidance.grad_clip` must be a number of at least 0"),
        ("system.guidance.grad_clip=[0,1]", "`system.guidance.grad_clip`"),
        ("system.guidance.trainer_max_steps=abc", "`system.guidance.trainer_max_steps` must be a number"),
        ("system.loss.lambda_sds=abc", "`system.loss.lambda_sds` must be a number"),
    ],
)
def test_options_are_checked_where_they_have_no_use(override: str, words: str, tmp_path: Path, capsys: Any) -> None:
    from pullback.host import launch

    args = [
        "--config",
        str(TINY_CONFIG),
        "--train",
        "system.prompt_processor.prompt=a cube",
        f"exp_root_dir={tmp_path}",
    ]
    assert launch.main([*args, override]) == 2
    assert words in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_options_of_the_scene_that_are_of_no_type() -> None:
    from pullback.host.scene import background, implicit_volume, networks

    for color in (5, "abc", ["a", "b", "c"], None):
        with pytest.raises(UserError, match=r"`color` (must have n_output_dims = 3 numbers|should be a list)"):
            background.SolidColorBackground({"color": color})
    for anneal in (3, "abc", {"min_anneal_step": 5}, [1, 2]):
        with pytest.raises(UserError, match="anneal_density_blob_std_config"):
            implicit_volume.ImplicitVolume({"anneal_density_blob_std_config": anneal})
    with pytest.raises(UserError, match="should be a block of keys"):
        networks.get_mlp(3, 3, "abc")  # type: ignore[arg-type]


def test_bounds_of_the_time_in_the_wrong_order() -> None:
    from pullback.host.distillation.sds import StableDiffusionGuidance

    with pytest.raises(ConfigError, match=r"`min_step_percent` must be at most max_step_percent, 0\.5, not 0\.9"):
        StableDiffusionGuidance.Config(min_step_percent=0.9, max_step_percent=0.5)
    assert Options(min_step_percent=0.02, max_step_percent=[0, 0.98, 0.5, 100]).grad_clip is None
