"""The configs that are shipped: every key is known, and the two of the main job differ in values only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pullback.host import parts
from pullback.host.config import ExperimentConfig, check_parts, load_config
from pullback.host.registry import find
from pullback.host.run import Run

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
PROMPT = ["system.prompt_processor.prompt=a red cube"]
every_config = pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda p: p.name)


def written(name: str) -> dict[str, Any]:
    return yaml.safe_load((CONFIGS / name).read_text())


@every_config
def test_every_key_is_known(path: Path):
    parts.load_parts()
    run = Run([])
    cfg = run.cfg = load_config(str(path), cli_args=PROMPT)
    blocks = check_parts(ExperimentConfig, cfg)
    run._check_keywords()
    # what the file says is what the parts get, beside their defaults
    given = yaml.safe_load(path.read_text())["system"]["guidance"]
    kept = {key: value for key, value in given.items() if not str(value).startswith("${")}
    assert kept.items() <= blocks["system"]["guidance"].items()


@every_config
def test_the_optimizer_names_parameters_there_are_and_leaves_none_out(path: Path):
    parts.load_parts()
    cfg = load_config(str(path), cli_args=PROMPT)
    system = find(cfg.system_type)(cfg.system)
    groups = system.configure_optimizers()["optimizer"].param_groups
    optimised = {id(p) for group in groups for p in group["params"]}
    assert optimised == {id(p) for p in system.parameters() if p.requires_grad}


def test_the_demo_and_the_full_config_differ_in_values_not_in_structure():
    demo, full = written("pullback-nerf-tiny.yaml"), written("pullback-nerf.yaml")
    assert demo.keys() == full.keys()
    assert demo["system"].keys() == full["system"].keys()
    for block in ("data", "trainer", "checkpoint"):
        assert demo[block].keys() == full[block].keys(), block
    for part in ("guidance", "prompt_processor", "renderer", "material", "optimizer"):
        assert demo["system"][part].keys() == full["system"][part].keys(), part
        if part != "optimizer":
            assert demo["system"][f"{part}_type"] == full["system"][f"{part}_type"]


def test_the_demo_runs_on_a_cpu_with_the_shipped_model():
    demo = written("pullback-nerf-tiny.yaml")
    model = demo["system"]["prompt_processor"]["pretrained_model_name_or_path"]
    assert model == "custom/threestudio-pullback/assets/tiny-sd"
    assert demo["system"]["guidance"]["half_precision_weights"] is False
    assert demo["data"]["width"] == demo["data"]["height"] == 64
