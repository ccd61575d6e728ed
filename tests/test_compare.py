"""pullback compare: what is compared, on what terms, and a whole comparison of two methods."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from pullback import cli
from pullback.errors import UserError
from pullback.evaluate import trial
from pullback.evaluate.compare import plan, runner, summary, tune
from pullback.evaluate.compare.judge import Judging, judge
from pullback.evaluate.studio.model import is_of_the_studio
from pullback.resources import TINY_CONFIG, TINY_MODEL, TINY_MV

SMALL = [
    "data.batch_size=2", "data.width=16", "data.height=16", "data.eval_width=16", "data.eval_height=16",
    "system.geometry.grid_size=[8,8,8]", "system.renderer.num_samples_per_ray=8", "system.guidance.guidance_scale=2.5",
]  # fmt: skip


@pytest.mark.parametrize("text", ["nfe", "nfe=", "nfe=-1", "nfe=nan", "minutes=3", "seconds=inf", ""])
def test_a_budget_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="nfe=2000"):
        plan.Budget.parse(text)


def test_methods_share_all_but_what_is_their_own(tmp_path: Path) -> None:
    untuned = tmp_path / "settings.yaml"
    untuned.write_text("all: {}")
    methods = {m.name: m for m in plan.load_methods(TINY_CONFIG, ["pullback", "sds", "sjc", "vsd", "sdi"], untuned)}
    pullback = OmegaConf.to_container(methods["pullback"].config, resolve=False)
    for name, method in methods.items():
        own = OmegaConf.to_container(method.config, resolve=False)
        assert isinstance(own, dict) and isinstance(pullback, dict)
        for key in ("data_type", "data"):
            assert own[key] == pullback[key]
        for key in ("geometry_type", "material", "background", "renderer", "renderer_type", "prompt_processor"):
            assert own["system"][key] == pullback["system"][key], (name, key)
    assert "levels" not in methods["sds"].config.system.guidance  # another guidance's keys are not carried over
    assert methods["pullback"].config.system.guidance.constraint == "repaint"  # the base's own block stays
    assert methods["vsd"].config.system.optimizer.params.guidance.lr == 0.0001


@pytest.mark.parametrize(
    ("names", "settings", "said"),
    [
        (["sdss"], None, "did you mean `sds`"),
        (["nothing.yaml"], None, "is not there"),
        (["sds"], "sdss: {a.b: 1}", "names no method; did you mean `sds`"),
        (["sds"], "sds: 3", "should be a block"),
        (["sds"], "sds: {system.guidance: {a: ]", "not valid YAML"),
    ],
)
def test_wrong_methods_and_settings_are_one_sentence(
    names: list[str], settings: str | None, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "settings.yaml"
    if settings is not None:
        file.write_text(settings)
    with pytest.raises(UserError, match=said) as caught:
        plan.load_methods(TINY_CONFIG, names, file if settings is not None else None)
    assert "\n" not in str(caught.value)


def test_a_key_that_a_method_file_may_not_have_gets_the_nearest(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("titel: mine")
    with pytest.raises(UserError, match=r"unknown key `titel`.*did you mean `title`"):
        plan.load_methods(TINY_CONFIG, [str(file)], None)


def test_settings_reach_the_methods_they_name(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("all: {data.batch_size: 4}\nsds: {data.batch_size: 2, system.guidance.guidance_scale: 7.5}")
    sds, sjc = plan.load_methods(TINY_CONFIG, ["sds", "sjc"], file)
    assert (sds.config.data.batch_size, sjc.config.data.batch_size) == (2, 4)
    assert sds.config.system.guidance.guidance_scale == 7.5
    assert sds.settings == {"data.batch_size": 2, "system.guidance.guidance_scale": 7.5}


def test_overrides_are_settings_of_every_method() -> None:
    (sds,) = plan.load_methods(TINY_CONFIG, ["sds"], None)
    changed = plan.overridden(sds, ["system.geometry.grid_size=[8,8,8]", "data.width=32"])
    assert changed.config.system.geometry.grid_size == [8, 8, 8]
    assert json.loads(json.dumps(changed.settings)) == {**sds.settings, **changed.settings}
    assert changed.settings["data.width"] == 32
    with pytest.raises(UserError, match="key=value"):
        plan.overridden(sds, ["--lr"])


def test_threestudio_is_told_the_scale_in_its_own_way() -> None:
    sds, vsd = plan.load_methods(TINY_CONFIG, ["sds", "vsd"], None)
    theirs = plan.for_threestudio(sds).config.system.guidance
    assert "guidance_scale_plus_one" not in theirs
    assert theirs.guidance_scale == sds.config.system.guidance.guidance_scale - 1
    assert plan.for_threestudio(vsd).config == vsd.config  # it has diffusers' convention


def test_a_model_with_the_words_of_the_shipped_ones_is_judged_by_their_objects(tmp_path: Path) -> None:
    assert is_of_the_studio(str(TINY_MODEL)) and is_of_the_studio(str(TINY_MV))
    own = tmp_path / "retrained" / "tokenizer"
    shutil.copytree(TINY_MODEL / "tokenizer", own)
    assert is_of_the_studio(str(own.parent))
    (own / "vocab.json").write_text('{"a": 0, "corgi": 1}')
    assert not is_of_the_studio(str(own.parent)) and not is_of_the_studio("someone/stable-diffusion")


def test_prompts_come_from_a_file_or_the_text(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("# two\na red cube\n\n  a cube  \na red cube\n")
    assert plan.load_prompts(str(file)) == ["a red cube", "a cube"]
    assert plan.load_prompts("a red cube; a cube") == ["a red cube", "a cube"]
    for nothing in (" ; ", str(tmp_path / "none.txt")):
        with pytest.raises(UserError, match="--prompts"):
            plan.load_prompts(nothing)


def test_a_length_is_the_longest_within_the_budget() -> None:
    cost = runner.Cost(steps=(0.0, 2.0), nfe=(-16.0, 32.0), seconds=(1.0, 0.5))
    for kind, amount in (("nfe", 960.0), ("seconds", 20.0), ("steps", 7.0)):
        length = cost.length(plan.Budget(kind, amount))
        assert cost.at(length)[kind] <= amount + 1e-6 < cost.at(length + 1)[kind]
    assert cost.length(plan.Budget("nfe", 1.0)) == 1


def test_runs_on_other_terms_are_other_units(tmp_path: Path) -> None:
    sds = plan.load_methods(TINY_CONFIG, ["sds"], None)[0]
    judging = Judging(True, None, ("a red cube",))
    comparison = runner.Comparison(tmp_path, TINY_CONFIG, [sds], ["a red cube"], [0], plan.Budget("nfe", 16), judging)
    there = dataclasses.replace(comparison, threestudio=tmp_path)
    names = {
        runner.variant(one, sds, {"trainer.max_steps": steps}).name for one in (comparison, there) for steps in (3, 4)
    }
    assert len(names) == 4


def test_a_folder_of_an_earlier_version_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "state.json").write_text("{}")
    assert cli.main(["compare", "--methods", "sds", "--prompts", "a red cube", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert f"--out {tmp_path} holds a comparison of an earlier version" in said and said.count("\n") == 1


def test_a_grid_treats_all_methods_alike() -> None:
    sds, vsd = plan.load_methods(TINY_CONFIG, ["sds", "vsd"], None)
    grid = tune.parse(["lr=0.01,0.1", "system.guidance.weighting_strategy=sds,uniform"])
    found = {m.name: m for m in tune.variants(sds, grid)}
    assert len(found) == 4 and len(tune.variants(vsd, grid)) == 2  # VSD has one weighting
    for method in found.values():
        lr = method.config.system.optimizer.params.geometry.lr
        assert f"lr-{lr}" in method.name and lr in (0.01, 0.1)
    for text in ("lr", "lr=", "=3", "lr=[1"):
        with pytest.raises(UserError, match="--tune is written"):
            tune.parse([text])


def test_the_course_of_an_interrupted_run_leaves_out_the_pause(tmp_path: Path) -> None:
    from torch.utils.tensorboard.writer import SummaryWriter

    for version, (steps, start) in enumerate([(range(3), 100.0), (range(3, 5), 1000.0)]):
        with SummaryWriter(str(tmp_path / "tb_logs" / f"version_{version}")) as writer:
            for step in steps:
                writer.add_scalar("nfe", 8 * (step + 1), step, walltime=start + 2 * step)
    course = trial.read_course(tmp_path, 100)
    assert course.steps == [1, 2, 3, 4, 5] and course.nfe == [8, 16, 24, 32, 40]
    assert course.seconds == pytest.approx([2, 4, 6, 8, 10])
    assert course.at(3) == (24, pytest.approx(6))


def test_calls_that_a_run_does_not_log_are_counted_by_its_steps(tmp_path: Path) -> None:
    from torch.utils.tensorboard.writer import SummaryWriter

    with SummaryWriter(str(tmp_path / "tb_logs" / "version_0")) as writer:
        for step in range(3):
            writer.add_scalar("train/loss_sds", 0.5, step, walltime=10.0 + step)
    assert trial.read_course(tmp_path, 16).nfe == [16, 32, 48]


def test_a_step_that_a_killed_run_has_half_logged_does_not_change_how_calls_are_counted(tmp_path: Path) -> None:
    from torch.utils.tensorboard.writer import SummaryWriter

    for version, steps in enumerate((range(3), range(2, 4))):
        with SummaryWriter(str(tmp_path / "tb_logs" / f"version_{version}")) as writer:
            for step in steps:
                writer.add_scalar("train/residual", 0.5, step, walltime=10.0 + step)
                if (version, step) != (0, 2):
                    writer.add_scalar("nfe", 24 * (step + 1), step, walltime=10.0 + step)
        killed = trial.read_course(tmp_path, 16)
        assert killed.nfe == [24 * step for step in killed.steps]
    assert killed.steps == [1, 2, 3, 4]


def test_what_is_logged_is_on_the_disk_when_a_checkpoint_is(tmp_path: Path) -> None:
    from types import SimpleNamespace

    from pullback.host.training.callbacks import SafeStop
    from pullback.host.training.checkpoint import AtomicCheckpointIO
    from pytorch_lightning.loggers import TensorBoardLogger

    logger = TensorBoardLogger(str(tmp_path), name="tb_logs", version="version_0")
    logger.log_metrics({"nfe": 24.0}, step=0)
    SafeStop(AtomicCheckpointIO(), "", {}).on_save_checkpoint(SimpleNamespace(loggers=[logger]), None, {})
    assert trial.read_course(tmp_path, 16).nfe == [24]  # the writer is still open, as in a run that is killed now


def test_two_methods_compared_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(summary, "PICTURES", 8)
    words = [
        "compare", "--methods", "pullback,sds", "--prompts", "a red cube", "--seeds", "0", "--budget", "nfe=24",
        "--workers", "1", "--out", str(tmp_path),
    ]  # fmt: skip
    assert cli.main([*words, *SMALL]) == 0
    data = json.loads((tmp_path / "compare.json").read_text())
    assert [row["method"] for row in data["runs"]] == ["pullback", "sds"]
    for row in data["runs"]:
        assert row["status"] in ("done", "diverged") and row["measures"]["nfe"] <= 24
        assert (tmp_path / row["turntable"]).is_file() and row["curve"][-1]["nfe"] == row["measures"]["nfe"]
    assert {"right", "psnr", "nfe", "seconds", "agreement"} <= {m["name"] for m in data["measures"]}
    assert (tmp_path / "report.html").is_file() and (tmp_path / "runs.csv").is_file()

    # again: nothing is run twice, and the page can be made from the data alone
    capsys.readouterr()
    monkeypatch.setattr("pullback.sweep.engines.local.Engine.start", None)
    assert cli.main([*words, *SMALL]) == 0
    assert "2 of 2 runs are there already" in capsys.readouterr().out
    assert cli.main(["sweep", "status", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("6 runs: 6 done, 0 running, 0 failed, 0 to do")
    (tmp_path / "report.html").unlink()
    assert cli.main(["report", str(tmp_path)]) == 0
    assert (tmp_path / "report.html").is_file()

    # a scene with a NaN is a run without output, and the reason says since when
    method = plan.load_methods(TINY_CONFIG, ["sds"], None)[0]
    (log,) = (tmp_path / "runs").glob("sds-[!s]*/*.log")
    one = trial.Trial(tmp_path, log.parent.name, "a red cube", 0, log.stem)
    saved = torch.load(one.checkpoint, weights_only=True)
    saved["state_dict"]["geometry.grid"].fill_(torch.nan)
    saved["global_step"] += 1
    torch.save(saved, one.checkpoint)
    row = judge(Judging(True, None, ("a red cube",)), method, one, None, 0)
    assert row["status"] == "diverged" and "psnr" not in row["measures"] and row["curve"]
    assert row["reason"] == f"The render after step {saved['global_step']} has a NaN or infinity in view 0"


def test_a_run_that_cannot_start_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", "--methods", "sds", "--prompts", "a red cube", "--workers", "1", "--out", str(tmp_path)]
    assert cli.main([*words, "system.guidance.guidance_scal=3"]) == 2
    said = capsys.readouterr().err
    assert "error: sds, short run of length 4 does not run: " in said and "did you mean `guidance_scale`" in said


def test_methods_compared_on_an_exact_world(tmp_path: Path) -> None:
    words = ["compare", "--world", "shapes", "--methods", "pullback,sds", "--seeds", "0,1", "--budget", "nfe=64"]
    assert cli.main([*words, "--workers", "1", "--out", str(tmp_path)]) == 0
    data = json.loads((tmp_path / "compare.json").read_text())
    assert len(data["runs"]) == 4 and all(run["measures"]["nfe"] <= 64 for run in data["runs"])
    means = {(s["method"], s["measure"]): s["mean"] for s in data["summary"]}
    assert means["sds", "blend"] == 1  # 8 steps of SDS settle nowhere: rms 0.2 and more
    assert means["sds", "histogram"] >= 1 - 2 / 16  # two samples can show two of sixteen scenes
    assert (tmp_path / "report.html").is_file()


def test_a_dry_run_says_what_it_would_cost_and_runs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", "--config", str(TINY_CONFIG.with_name("pullback-nerf.yaml")), "--methods", "sds,sdi,pullback"]
    prompts = str(plan.METHODS / "sdi-43.txt")
    words += ["--prompts", prompts, "--seeds", "0", "--budget", "nfe=20000", "--dry-run", "--out", str(tmp_path / "o")]
    assert cli.main(words) == 0
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()}
    batch = plan.load_methods(TINY_CONFIG.with_name("pullback-nerf.yaml"), ["sds"], None)[0].config.data.batch_size
    assert lines["sds"][1:4] == [str(20000 // (2 * batch)), "20000", "66.0"]  # as published for as many calls
    assert lines["pullback"][3] == "?"
    assert not (tmp_path / "o").exists()


def test_the_published_prompts_are_43_and_the_subset_is_of_them() -> None:
    whole, part = (plan.load_prompts(str(plan.METHODS / f"sdi-{count}.txt")) for count in (43, 10))
    assert len(whole) == 43 and len(part) == 10 and set(part) <= set(whole)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--world", "shapes", "--methods", "dsd"], "dsd has no form for exact worlds"),
        (["--world", "rings"], "rings has no views"),
        (["--world", "shapes", "--methods", "sds", "sjc.lr=3"], "names none of the methods"),
        (["--world", "shapes", "--methods", "sds", "sds.lrr=3"], "'lrr=3' is no option"),
        ([], "--prompts is missing"),
        (["--prompts", "a", "--methods", "sds,sds"], "one method twice"),
        (["--prompts", "a", "--workers", "0"], "--workers must be at least 1"),
    ],
)
def test_wrong_words_are_one_sentence(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["compare", *words, "--out", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1


def test_seeds_are_parsed_for_compare_too() -> None:
    args = cli.build_parser().parse_args(["compare", "--prompts", "a", "--seeds", "2-4"])
    assert isinstance(args, argparse.Namespace) and args.seeds == [2, 3, 4]
