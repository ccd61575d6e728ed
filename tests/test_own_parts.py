"""Parts of users: by --import and by entry points, from outside the repository, in this process and in children."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import host_toy
import pytest
import torch
import yaml
from pullback import cli
from pullback.errors import UserError
from pullback.evaluate.compare import run as compare
from pullback.evaluate.compare import runner
from pullback.host import launch, parts
from pullback.host.registry import is_registered
from pullback.sweep.folder import Folder
from pullback.sweep.plan import Plan
from tiny_pipeline import build

ROOT = Path(__file__).resolve().parents[1]
SMALL = [
    "data.batch_size=2", "data.width=16", "data.height=16", "data.eval_width=16", "data.eval_height=16",
    "system.geometry.grid_size=[8,8,8]", "system.renderer.num_samples_per_ray=8", "system.guidance.guidance_scale=2.5",
]  # fmt: skip
OWN_GRID = """
from pullback.adapters import register
from pullback.host.scene.volume_grid import VolumeGrid

@register("own-{name}")
class OwnGrid(VolumeGrid):
    pass
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that modules are found in, here and in child processes."""
    path = tmp_path / "own"
    path.mkdir()
    monkeypatch.syspath_prepend(str(path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(path), *filter(None, [os.environ.get("PYTHONPATH")])]))
    return path


def install(folder: Path, module: str) -> None:
    """As pip leaves a package `own-package` whose entry point `mine` names the module."""
    info = folder / "own_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[pullback.parts]\nmine = {module}\n")


def test_the_example_of_the_documentation_runs_with_import(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.S) if '@register("my-image")' in block)
    (folder / "my_parts.py").write_text(code)
    model = tmp_path / "sd"
    build(model)
    config = yaml.safe_load((ROOT / "configs" / "pullback-image-tiny.yaml").read_text())
    config["system"] |= {"geometry_type": "my-image", "geometry": {"strokes": 8}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(tmp_path)
    words = [
        "launch", "--config", "mine.yaml", "--train",
        f"system.prompt_processor.pretrained_model_name_or_path={model}", "system.prompt_processor.prompt=a red cube",
        "data.width=16", "data.height=16", "data.eval_width=16", "data.eval_height=16", "system.guidance.levels=2",
        "system.guidance.fit_steps=3", "system.guidance.fit_rays=64", "system.guidance.sigma_min=0.5",
        f"exp_root_dir={tmp_path}", "name=t", "tag=t", "use_timestamp=false",
    ]  # fmt: skip
    assert cli.main(words) == 2
    assert "`system.geometry_type` names 'my-image', which is not registered" in capsys.readouterr().err
    assert cli.main([*words[:3], "--import", "my_parts", *words[3:]]) == 0
    state = torch.load(tmp_path / "t" / "t" / "ckpts" / "last.ckpt", weights_only=True)["state_dict"]
    assert state["geometry.network.0.weight"].shape == (8, 2)


def test_an_installed_package_is_found_by_its_entry_point(folder: Path) -> None:
    (folder / "own_installed.py").write_text(OWN_GRID.format(name="installed"))
    install(folder, "own_installed")
    assert not is_registered("own-installed")
    parts.load_parts()
    assert is_registered("own-installed")


def test_a_module_may_lie_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_here.py").write_text(OWN_GRID.format(name="here"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    parts.load_own(["own_here"])
    assert is_registered("own-here")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "ModuleNotFoundError: No module named 'own_broken'"),
        ("import surely_missing", "ModuleNotFoundError: No module named 'surely_missing'"),
        ("x = (", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("from pullback.adapters import register\nregister('pullback-pixels')(int)", "is registered twice"),
    ],
)
def test_what_cannot_be_imported_is_one_sentence(text: str | None, words: str, folder: Path, capsys: Any) -> None:
    if text is not None:
        (folder / "own_broken.py").write_text(text)
    argv = ["--config", "none.yaml", "--train", "--import", "own_broken"]
    assert launch.main(argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --import own_broken: cannot import own_broken: ") and words in line
    install(folder, "own_broken")
    with pytest.raises(UserError) as error:
        parts.load_parts()
    assert str(error.value).startswith("own-package, entry point 'mine' of pullback.parts: cannot import own_broken")
    assert words in str(error.value)


def test_the_command_that_resumes_a_run_imports_the_same(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (folder / "own_first.py").write_text("")
    (folder / "own_second.py").write_text("")
    config = tmp_path / "config.yaml"
    config.write_text(host_toy.CONFIG.format(root=tmp_path))
    monkeypatch.setenv("TOY_AT", "4:nan")
    imports = ["--import", "own_first", "--import", "own_second"]
    assert launch.main(["--config", str(config), *imports, "--train", "system.prompt=x"]) == 1
    command = shlex.split(next(line for line in capsys.readouterr().out.splitlines() if "resume=" in line))
    assert [command[i + 1] for i, word in enumerate(command) if word == "--import"] == ["own_first", "own_second"]
    monkeypatch.delenv("TOY_AT")
    assert launch.main(command[command.index("--config") :]) == 0


def test_compare_hands_the_parts_on_to_its_runs_and_their_measures(folder: Path, tmp_path: Path) -> None:
    (folder / "own_compared.py").write_text(OWN_GRID.format(name="compared"))
    overrides = [*SMALL, "system.geometry_type=own-compared", "trainer.max_steps=2"]
    options = ["--methods", "sds", "--prompts", "a red cube", "--seeds", "0", "--budget", "steps=2", "--workers", "1"]
    words = ["compare", *options, "--out", str(tmp_path), "--import", "own_compared", *overrides]
    comparison = compare.prepare(cli.build_parser().parse_args(words))
    (method,) = comparison.methods
    variant, swept = runner.variant(comparison, method, {}), Folder(tmp_path)
    swept.add(Plan((variant,), ("a red cube",), (0,)))
    row = runner.Making({variant.name: method}, comparison.judging)(swept, swept.units()[0]).values
    assert (tmp_path / row["turntable"]).is_file() and "--import own_compared" in row["command"], row["reason"]


def test_compare_refuses_what_it_cannot_import_before_any_run(tmp_path: Path, capsys: Any) -> None:
    words = ["compare", "--prompts", "a red cube", "--out", str(tmp_path / "out"), "--import", "own_missing"]
    assert cli.main(words) == 2
    assert "--import own_missing: cannot import own_missing" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert cli.main([*words, "--world", "shapes"]) == 2
    assert "--import has no use with --world" in capsys.readouterr().err
