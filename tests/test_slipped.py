"""Input that slipped past every check until `tools/campaign.py` drew it: a sentence that names the place, status 2."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import host_toy
import numpy as np
import pytest
import torch
from pullback import cli
from pullback.errors import UserError
from pullback.evaluate import campaign, trial
from pullback.evaluate.campaign import Results
from pullback.evaluate.compare import plan, runner
from pullback.evaluate.compare import run as compare
from pullback.evaluate.compare.judge import Judging
from pullback.evaluate.damaged import telling
from pullback.host import launch
from pullback.output import video
from pullback.resources import TINY_CONFIG
from pullback.sweep.folder import Folder
from pullback.sweep.plan import Plan, Variant

CONFIG = "configs/pullback-nerf-tiny.yaml"


def refused(capsys: Any, *args: str, main: Callable[[list[str]], int] = launch.main) -> str:
    capsys.readouterr()
    assert main(list(args)) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and len(err.splitlines()) == 1 and "Traceback" not in err, err
    return err


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("system.guidance.noise={type: [1]}", ["`system.guidance.noise` must be one of", "[1]"]),
        ("system.guidance.constraint={type: {a: 1}}", ["`system.guidance.constraint` must be one of", "{'a': 1}"]),
        ("system.guidance.guidance_policy=[[always]]", ["`system.guidance.guidance_policy` must be one of"]),
        ("data.light_distance_range=[[1], 2]", ["`data.light_distance_range[0]` should be a number, but is [1]"]),
        ("data.fovy_range=[20, {a: 1}]", ["`data.fovy_range[1]` should be a number"]),
        ("system.material_type=volume-grid", ["`system.material_type` names 'volume-grid'", "is for `geometry_type`"]),
        ("data_type=no-material", ["`data_type` names 'no-material', which is for `material_type`"]),
        ("system.loggers={wandb: 3}", ["`system.loggers.wandb.enable` must be false"]),
        ("name=/etc", ["`name` must be a folder below `exp_root_dir`"]),
        ("checkpoint.filename={a}", ["`checkpoint.filename` should be text or null, but is {'a': None}"]),
        ("checkpoint.filename=../../x", ["`checkpoint.filename` must name a file below the run's folder"]),
        ('name="a\\0b"', ["`name` has a zero byte"]),
        ('exp_root_dir="\\0"', ["`exp_root_dir` has a zero byte"]),
        ("tag=\udcff", ["the command line has 'tag=\\udcff', which is not UTF-8"]),
    ],
)
def test_values(override: str, words: list[str], tmp_path: Path, capsys: Any) -> None:
    where = [f"exp_root_dir={tmp_path}", "system.prompt_processor.prompt=a red cube", "trainer.max_steps=0"]
    sentence = refused(capsys, "--config", CONFIG, "--train", *where, override)
    assert all(word in sentence for word in words), sentence


def test_words_of_every_command_are_text(capsys: Any) -> None:
    said = refused(capsys, "demo", "--prompt", "a \udce9 cube", main=cli.main)
    assert "'a \\udce9 cube', which is not UTF-8" in said


def _set(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        *above, last = path.split("/")
        for name in above:
            content = content[name]
        content[last] = value

    return change


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("toy")
    (folder / "config.yaml").write_text(host_toy.CONFIG.format(root=folder / "out"))
    words = ["--config", str(folder / "config.yaml"), "--train", "system.prompt=x", "checkpoint.every_n_train_steps=1"]
    assert launch.main([*words, "trainer.max_steps=2"]) == 0
    return [*words, f"resume={folder}/out/toy/run/ckpts/last.ckpt"]


@pytest.mark.parametrize("action", ["--train", "--test"])
@pytest.mark.parametrize(
    "change",
    [
        _set("loops", {"fit_loop": 3}), _set("loops/fit_loop", {}), _set("optimizer_states", [3]), _set("callbacks", 3),
        _set("state_dict/geometry.value", "x"), _set("state_dict", []), _set("loops/fit_loop", 3),
        _set("epoch", "x"), _set("global_step", None), _set("pullback_host", {}), _set("pullback_host", {"config": 3}),
        _set("pytorch-lightning_version", 3),
    ],
)  # fmt: skip
def test_checkpoints(
    change: Callable[[dict[str, Any]], None], action: str, toy: list[str], tmp_path: Path, capsys: Any
) -> None:
    content = torch.load(toy[-1].removeprefix("resume="), weights_only=True)
    change(content)
    torch.save(content, tmp_path / "changed.ckpt")
    words = [*toy[:-1], f"resume={tmp_path}/changed.ckpt"]
    words[2] = action
    status = launch.main(words)
    err = capsys.readouterr().err
    assert status in (0, 2) and "Traceback" not in err, err
    if status:  # a test has no use for loops and optimisers
        assert len(err.splitlines()) == 1 and "`resume`" in err and "changed.ckpt" in err, err
    else:
        assert action == "--test"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "should hold rows"), ({"rows": 3}, "should hold rows"), ({"rows": [[1]]}, "should hold rows"),
        ({"rows": [{"other": 1}]}, "a row whose number is None"),
        ({"rows": [{"number": [1]}]}, r"a row whose number is \[1\]"),
    ],
)  # fmt: skip
def test_results(content: Any, words: str, tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps(content))
    with pytest.raises(
        UserError, match=rf"rows.json (.*{words}|{words}).*; remove it, or choose another folder by --out"
    ):
        Results(tmp_path / "rows.json", ("number",))


def test_settings_of_results_that_are_no_block(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps({"methods": 3}))
    with pytest.raises(UserError, match="has 3 for methods, which should be a block"):
        Results(tmp_path / "rows.json", ("number",)).match("methods", "sds", "config", value="x")


def test_a_worker_that_is_killed() -> None:
    with pytest.raises(UserError, match=r"a worker process was killed, .*; start the command again to go on"):
        list(campaign.each(os._exit, [(1,), (1,)], 2))


def test_a_run_that_is_killed_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = trial.Trial(tmp_path, "sds", "a red cube", 0, "t")
    monkeypatch.setattr(trial.Trial, "_in_host", lambda self, threads: (-9, 0))
    assert one.run(1) == ("killed by SIGKILL, perhaps for its memory", 0)
    method = plan.load_methods(TINY_CONFIG, ["sds"], None)[0]
    variant, folder = Variant("sds", "name: x"), Folder(tmp_path)
    folder.add(Plan((variant,), ("x",), (0,)))
    (unit,) = folder.units()
    outcome = runner.Making({variant.name: method}, Judging(True, None, ("x",)))(folder, unit)
    assert outcome.reason == "killed by SIGKILL, perhaps for its memory" and not outcome.values


def test_a_run_whose_log_the_disk_refused_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = trial.Trial(tmp_path, "sds", "a red cube", 0, "t")

    def end(self: trial.Trial, threads: int) -> tuple[int, int]:
        self.checkpoint.parent.mkdir(parents=True)
        self.checkpoint.touch()
        with self.log.open("a") as log:
            log.write("The log in tb_logs ends here: No space left on device; the run goes on\n" * refuses)
        return 0, 7

    monkeypatch.setattr(trial.Trial, "_in_host", end)
    refuses = True
    assert one.run(1) == ("its log could not be written, perhaps for a full disk", 7) and not one.folder.exists()
    refuses = False
    assert one.run(1) == (None, 7) and one.checkpoint.exists()


@pytest.mark.parametrize(
    "change",
    [lambda row: row.pop("nfe"), lambda row: row.update(seconds=None), lambda row: row.update(nfe="x")],
)
def test_rows_that_no_report_can_be_made_of(change: Callable[[Any], Any], tmp_path: Path, capsys: Any) -> None:
    words = [
        "evaluate",
        "worlds",
        "--world",
        "mixture",
        "--method",
        "pullback levels=3",
        "--seeds",
        "0",
        "--workers",
        "1",
    ]
    assert cli.main([*words, "--out", str(tmp_path)]) == 0
    saved = json.loads((tmp_path / "worlds.json").read_text())
    change(saved["rows"][0])
    (tmp_path / "worlds.json").write_text(json.dumps(saved))
    said = refused(capsys, *words, "--out", str(tmp_path), main=cli.main)
    assert "worlds.json has results that no report can be made of" in said and "choose another folder by --out" in said


def test_a_fault_in_a_report_of_new_rows_stays_one(tmp_path: Path) -> None:
    with pytest.raises(KeyError), telling(Results(tmp_path / "rows.json", ("number",))):
        raise KeyError("a fault of the program")


@pytest.mark.parametrize("cost", [3, {"steps": [1]}, {"steps": 1, "nfe": None, "seconds": 1}, {}])
def test_costs_of_a_comparison(cost: Any, tmp_path: Path, capsys: Any) -> None:
    words = ["compare", "--methods", "pullback", "--prompts", "a red cube", "--dry-run", "--out", str(tmp_path)]
    comparison = compare.prepare(cli.build_parser().parse_args(words))
    asked = Plan(tuple(runner.short_runs(comparison)), (runner.PROMPT,), (0,))
    folder = Folder(tmp_path)
    for number, unit in enumerate(asked.units(), 1):
        assert cli.main(words) == 0  # one of the two is not known yet
        folder.write(unit, {"status": "done", "cost": cost if number == 2 else dict.fromkeys(plan.BUDGETS, 4.0)})
    assert "results has results that no report can be made of" in refused(capsys, *words, main=cli.main)


def test_a_folder_that_is_no_threestudio(tmp_path: Path, capsys: Any) -> None:
    words = ["compare", "--prompts", "a red cube", "--threestudio", str(tmp_path), "--out", str(tmp_path / "out")]
    assert f"--threestudio {tmp_path} is no checkout of threestudio" in refused(capsys, *words, main=cli.main)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("word", ["system.guidance=3", "data=x", "system.geometry=[1]"])
def test_a_value_in_place_of_a_block_of_a_comparison(word: str, tmp_path: Path, capsys: Any) -> None:
    key = word.partition("=")[0]
    words = ["compare", "--methods", "pullback", "--prompts", "x", "--out", str(tmp_path / "out"), word]
    assert f"`{key}` should be a block of keys, but is " in refused(capsys, *words, main=cli.main)
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_not_there_starts_no_worker(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(campaign, "ProcessPoolExecutor", None)
    for kind in ("images", "diversity", "model"):
        words = ["evaluate", kind, "--model", "none", "--out", str(tmp_path / "out")]
        assert "the path 'none' does not exist" in refused(capsys, *words, main=cli.main)


@pytest.mark.parametrize(
    "line",
    [
        "evaluate images levels=-1", "evaluate images lr=nan", "evaluate images --scales nan",
        "evaluate model --scales 1,inf", "evaluate images --seed -1", "evaluate model --seed 99999999999999999999999",
        "evaluate worlds --seeds 99999999999999999999999", "evaluate worlds --seeds 0-4000000000",
        "compare --prompts x --seeds 4294967296",
    ],
)  # fmt: skip
def test_numbers_that_no_evaluation_can_use(line: str, tmp_path: Path, capsys: Any) -> None:
    try:
        status = cli.main([*line.split(), "--out", str(tmp_path / "out")])
    except SystemExit as end:
        status = end.code
    said = capsys.readouterr().err
    assert status == 2 and "Traceback" not in said and line.split()[-1].partition("=")[0][:40] in said
    assert not (tmp_path / "out").exists()


def test_a_prompt_that_no_command_could_have_is_the_title_of_a_video(tmp_path: Path) -> None:
    """The encoder is a process: a zero byte in its words was a traceback, 128 KiB a full disk."""
    frames = [np.zeros((16, 16, 3), np.uint8)] * 2
    video.save_video(tmp_path / "a.mp4", frames, 8, {"prompt": "a\0cube " + "word " * 50000, "seed": "\0"})
    content = (tmp_path / "a.mp4").read_bytes()
    assert b"a cube word" in content and len(content) < 10**4
