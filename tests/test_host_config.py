"""The host's registry and config: known values of schedules and resolvers, paths in every error."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass, field
from typing import Any

import host_toy
import pytest
from omegaconf import OmegaConf
from pullback.errors import ConfigError, UserError
from pullback.host import find, only_threestudio, register
from pullback.host.base import BaseModule, BaseObject, Updateable
from pullback.host.config import (
    C,
    C_max,
    ExperimentConfig,
    check_parts,
    config_path,
    dump_config,
    load_config,
    parse_structured,
)
from pullback.host.parts import load_parts
from pullback.host.registry import is_registered
from pullback.seeding import derive_seed

TOY = host_toy.CONFIG.format(root="outputs")


def load(*overrides: str, text: str = TOY) -> Any:
    return load_config(text, from_string=True, cli_args=overrides)


@pytest.mark.parametrize(
    ("value", "epoch", "step", "expected"),
    [
        (2.5, 7, 700, 2.5),
        ([100, 1.0, 3.0, 200], 0, 50, 1.0),
        ([100, 1.0, 3.0, 200], 0, 150, 2.0),
        ([100, 1.0, 3.0, 200], 0, 999, 3.0),
        ([1.0, 3.0, 200], 0, 50, 1.5),  # starts at step 0
        ([0, 1.0, 3.0, 4.0], 1, 999, 1.5),  # a float end counts epochs
        ([0, 0.0, 10.0, 100, 30.0, 200], 0, 50, 5.0),  # several pieces
        ([0, 0.0, 10.0, 100, 30.0, 200], 0, 150, 20.0),
        ([0, 0.0, 10.0, 100, 30.0, 200], 0, 500, 30.0),
    ],
)
def test_schedule(value: Any, epoch: int, step: int, expected: float) -> None:
    assert C(value, epoch, step) == pytest.approx(expected, abs=1e-12)


def test_schedule_in_the_logarithm_and_its_largest_value() -> None:
    assert C([0, 1.0, 100.0, 10], 0, 5, interpolation="exp") == pytest.approx(10.0)
    assert C_max([0, 4.0, 1.0, 10]) == 4.0
    assert C_max([0, 0.0, 10.0, 100, 3.0, 200]) == 10.0
    with pytest.raises(UserError, match=r"\[start, v0, v1, end\]"):
        C([1.0, 2.0], 0, 0)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("${add:2,3}", 5), ("${sub:2,3}", -1), ("${mul:2,3}", 6), ("${div:3,2}", 1.5), ("${idiv:7,2}", 3),
        ("${basename:a/b/c}", "c"), ("${rmspace:a b c,_}", "a_b_c"), ("${tuple2:3}", [3.0, 3.0]),
        ("${gt0:0}", False), ("${cmaxgt0:[0,0.0,1.0,5]}", True), ("${not:true}", False),
        ("${cmaxgt0orcmaxgt0:0,[0,0.0,0.0,5]}", False), ("${calc_exp_lr_decay_rate:0.01,2}", 0.1),
    ],
)  # fmt: skip
def test_resolvers(expression: str, expected: Any) -> None:
    cfg = load_config(f"tag: t\ntrainer: {{x: '{expression}'}}", from_string=True)
    assert cfg.trainer.x == pytest.approx(expected) if isinstance(expected, float) else cfg.trainer.x == expected


def test_output_tree_and_timestamp() -> None:
    cfg = load("system.prompt=x", "exp_root_dir=/a", "name=b", "tag=c")
    assert (cfg.exp_dir, cfg.trial_dir) == ("/a/b", "/a/b/c")
    stamped = load("system.prompt=x", "use_timestamp=true", "tag=c")
    assert stamped.trial_name.startswith("c@20") and len(stamped.trial_name) == len("c@20260101-000000")


def test_any_prompt_makes_one_folder_name() -> None:
    prompt = "a cat/dog: " + "very " * 100 + "big"
    cfg = load(f"system.prompt={prompt}", "tag=${rmspace:${system.prompt},_}")
    assert cfg.system.prompt == prompt
    assert "/" not in cfg.trial_name and 100 < len(cfg.trial_name.encode()) <= 200


@pytest.mark.parametrize(
    "prompt",
    ["a cube: red [big]", "[a", "{a: b}", "yes", "3", "a # b", "- x", "*", "'tis a cube", 'the "red" one', "a=b", "%"],
)
def test_text_is_taken_as_it_stands(prompt: str) -> None:
    assert load(f"system.prompt={prompt}").system.prompt == prompt


def test_a_block_of_null_leaves_out_the_keys_of_the_file() -> None:
    text = "tag: t\nsystem: {geometry_type: a, geometry: {hidden: 64, layers: 3}}"
    changed = ["system.geometry_type=b", "system.geometry=null", "system.geometry.frequencies=12"]
    cfg = load_config(text, from_string=True, cli_args=changed)
    assert cfg.system == {"geometry_type": "b", "geometry": {"frequencies": 12}}


def test_quoted_text_is_unquoted_and_other_values_are_yaml() -> None:
    cfg = load("system.prompt='a: b'", "data.size=3", "trainer.limits=[1, 2.5, null]", "trainer.fast=true")
    assert cfg.system.prompt == "a: b" and cfg.data.size == 3
    assert list(cfg.trainer.limits) == [1, 2.5, None] and cfg.trainer.fast is True
    assert cfg.system.geometry.size == 3  # follows data.size


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("system.geometry.grid_siz=3", "unknown key `system.geometry.grid_siz`; did you mean `grid_size`?"),
        ("sede=1", "unknown key `sede`; did you mean `seed`?"),
        ("data.sizes=1", "unknown key `data.sizes`; did you mean `size`?"),
        ("system.geometry.grid_size=big", "`system.geometry.grid_size` should be an integer, but is 'big' (text)"),
        ("system.geometry.radius=[1]", "`system.geometry.radius` should be a number, but is [1] (a list)"),
        ("system.geometry.axis_range=[1, a]", "`system.geometry.axis_range` should be a list of numbers"),
        ("system.geometry.axis_range=[1]", "`system.geometry.axis_range` should be a list of 2 values"),
        ("system.geometry=null", "`system.geometry` should be a block of keys, but is None (null)"),
        ("seed=x", "`seed` should be an integer, but is 'x' (text)"),
        ("data.n_test_views=0", "`data.n_test_views` must be at least 1, not 0"),
        ("system.geometry_type=toy-geometri", "`system.geometry_type` names 'toy-geometri'"),
        ("system.geometry_type=toy-geometri", "did you mean `toy-geometry`?"),
        ("trainer.max_steps=${nothing}", "'nothing' not found"),
        ("data.size={1", "cannot read the value of `data.size`"),
        ("--fast", "cannot read `--fast` on the command line"),
    ],
)
def test_errors_name_the_path(override: str, sentence: str) -> None:
    with pytest.raises(UserError) as e:
        check_parts(ExperimentConfig, load("system.prompt=x", override))
    assert sentence in str(e.value) and "\n" not in str(e.value)


def test_missing_value_alone_and_reached_through_an_interpolation() -> None:
    with pytest.raises(UserError, match=r"^`system.prompt` must be given"):
        check_parts(ExperimentConfig, load())
    with pytest.raises(UserError, match=r"^`system.prompt` must be given"):
        load("tag=${rmspace:${system.prompt},_}")
    with pytest.raises(
        UserError, match=r"`system.prompt` must be given.*; `prompt` of the command line is another key"
    ):
        load("tag=${rmspace:${system.prompt},_}", "prompt=a red cube")


def test_a_part_knows_its_path_and_its_defaults() -> None:
    cfg = load("system.prompt=x")
    geometry = find("toy-geometry")(cfg.system.geometry)
    assert config_path(cfg.system) == "system"
    assert config_path(geometry.cfg, "radius") == "system.geometry.radius"
    assert (geometry.cfg.size, geometry.cfg.radius) == (4, 1.0)
    full = check_parts(ExperimentConfig, cfg)
    assert full["system"]["geometry"]["grid_size"] == 8 and full["system"]["optimizer"]["name"] == "Adam"


def test_a_block_given_replaces_the_default_block_and_is_struct() -> None:
    @dataclass
    class Config:
        options: dict = field(default_factory=lambda: {"a": 1})

    cfg = parse_structured(Config, {"options": {"b": 2}})
    assert dict(cfg.options) == {"b": 2} and dict(parse_structured(Config).options) == {"a": 1}
    with pytest.raises(AttributeError):
        cfg.nothing  # noqa: B018


def test_a_dumped_config_loads_to_the_same_run(tmp_path: Any) -> None:
    cfg = load("system.prompt=a: [b", "use_timestamp=true")
    dump_config(str(tmp_path / "parsed.yaml"), cfg)
    assert load_config(str(tmp_path / "parsed.yaml")) == cfg


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: 1\nb: [1\nc: 2", "line 3"),
        ("prompt: a: b", "quotes"),
        ("- a", "top level"),
        ("a: 1\na: 2", "duplicate key"),
    ],
)
def test_files_that_are_no_config(text: str, sentence: str, tmp_path: Any) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UserError, match=sentence) as e:
        load_config(str(tmp_path / "c.yaml"))
    assert str(tmp_path / "c.yaml") in str(e.value)


def test_registry() -> None:
    with pytest.raises(ValueError, match="'toy-data' is registered twice: by host_toy and by test_host_config"):
        register("toy-data")(type("Other", (), {"__module__": "test_host_config"}))
    with pytest.raises(UserError, match=r"`data_type` names 'toy-dat', .* did you mean `toy-data`"):
        find("toy-dat", "data_type")


@pytest.mark.parametrize("name", ["magic3d-system", "deep-floyd-guidance", "eff-random-camera-datamodule"])
def test_a_part_that_only_threestudio_has_is_no_misspelling(name: str) -> None:
    with pytest.raises(UserError) as e:
        find(name, "system.part_type")
    assert str(e.value) == (
        f"`system.part_type` names '{name}', which is threestudio's and not in the bundled host; "
        "run it there with --threestudio DIR"
    )


def test_what_only_threestudio_has_is_not_in_the_host() -> None:
    load_parts()
    assert not [name for name in only_threestudio.NAMES if is_registered(name)]


@dataclass
class Checked:
    radius: float = 1.0
    grid: dict = field(default_factory=dict)
    must: str = ""

    def __post_init__(self) -> None:
        if self.radius <= 0:
            raise ConfigError("radius", f"must be above 0, not {self.radius}")
        if "size" in self.grid:
            raise ConfigError("grid.size", "must be left out")
        if self.must:
            raise ValueError("must and radius do not go together")


@pytest.mark.parametrize(
    ("block", "sentence"),
    [
        ({"radius": -1.0}, "`system.geometry.radius` must be above 0, not -1.0"),
        ({"grid": {"size": 3}}, "`system.geometry.grid.size` must be left out"),
        ({"must": "x"}, "`system.geometry`: must and radius do not go together"),  # its first word is no path
    ],
)
def test_a_blocks_own_check_is_read_with_the_path(block: dict[str, Any], sentence: str) -> None:
    cfg = OmegaConf.create({"system": {"geometry": block}})
    with pytest.raises(UserError) as e:
        parse_structured(Checked, cfg.system.geometry)
    assert str(e.value) == sentence


def test_a_config_error_is_readable_without_the_host_and_passes_between_processes() -> None:
    with pytest.raises(ValueError, match=r"^`radius` must be above 0, not -1$") as e:
        Checked(radius=-1)
    copy = pickle.loads(pickle.dumps(e.value))
    assert (str(copy), copy.key) == ("`radius` must be above 0, not -1", "radius")


def test_update_step_reaches_every_public_part_once() -> None:
    calls: list[tuple[str, int]] = []

    class Leaf(BaseModule):
        def update_step(self, epoch: int, global_step: int, on_load_weights: bool = False) -> None:
            calls.append((type(self).__name__, global_step))

    class Branch(BaseObject):
        def configure(self) -> None:
            self.leaf, self._hidden, self.text = Leaf(), Leaf(), "not a part"

        def update_step(self, epoch: int, global_step: int, on_load_weights: bool = False) -> None:
            calls.append((type(self).__name__, global_step))

    branch = Branch()
    assert isinstance(branch, Updateable)
    branch.do_update_step(0, 5)
    assert calls == [("Leaf", 5), ("Branch", 5)]


def test_seeds_differ_in_every_part_and_repeat() -> None:
    seeds = {derive_seed(s, k, w) for s in range(10) for k in range(10) for w in ("step", "cameras")}
    assert len(seeds) == 200 and all(0 <= s < 2**63 for s in seeds)
    assert derive_seed(1, 2, "step") == derive_seed(1, 2, "step")


def test_importing_the_host_imports_neither_lightning_nor_a_renderer() -> None:
    import subprocess
    import sys

    code = "import pullback.host, sys; print({'pytorch_lightning', 'nerfacc', 'omegaconf'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert out.stdout.strip() == "set()", out.stderr
