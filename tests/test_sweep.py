"""Sweeps: who makes a unit, what a kill leaves, what is said of bad input; units here are made in milliseconds."""

from __future__ import annotations

import csv
import json
import os
import random
import resource
import signal
import socket
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pullback import cli
from pullback.errors import UserError
from pullback.sweep import drive, engines, plan
from pullback.sweep.claims import AGAIN, FAILED, HELD, RELEASED, Claims, hopeless, this_process
from pullback.sweep.folder import Folder
from pullback.sweep.making import Outcome, digest
from pullback.sweep.plan import Plan, Unit, Variant
from pullback.sweep.status import status, table
from pullback.sweep.worker import Job, work

CONFIG = Variant("tiny", "name: tiny\n", ("a=1",))


def begun(out: Path, prompts: int = 3, seeds: int = 2, **more: Any) -> tuple[Folder, Job]:
    folder = Folder(out, 60)
    folder.check()
    folder.add(Plan((CONFIG,), tuple(f"prompt {i}" for i in range(prompts)), tuple(range(seeds))))
    return folder, Job(str(folder.out), **{"expire": 60, "cwd": os.getcwd(), "making": easy, **more})


def easy(folder: Folder, unit: Unit) -> Outcome:
    """What a run gives, as a function of its unit; every making is a line in a file."""
    with (folder.out / "made").open("a") as file:
        file.write(f"{unit.name}\n")
    return Outcome({"steps": len(unit.prompt), "nfe": unit.seed, "parameters": digest({"x": torch.tensor(unit.seed)})})


def made(folder: Folder) -> Counter[str]:
    return Counter((folder.out / "made").read_text().split())


# ---- units


def test_a_unit_is_named_by_what_it_is_and_not_by_its_place() -> None:
    texts = ["a red cube", "A red cube!", "紅い立方体", "красный куб", "a" * 300 + " b", "a" * 300 + " c"]
    names = [unit.name for unit in Plan((CONFIG,), tuple(texts), (0, 1)).units()]
    assert len(set(names)) == 12 == len({name.lower() for name in names})
    assert sorted(unit.name for unit in Plan((CONFIG,), tuple(reversed(texts)), (1, 0)).units()) == sorted(names)
    assert all(len(part) < 100 and part.isascii() for name in names for part in name.split("/"))
    other = Variant("tiny", "name: tiny\n", ("a=2",)), Variant("tiny", "name: other\n", ("a=1",))
    assert len({CONFIG.name, *(variant.name for variant in other)}) == 3


def test_more_prompts_and_seeds_in_any_order_keep_what_is_there(tmp_path: Path) -> None:
    folder, job = begun(tmp_path)
    assert work(job) is None
    folder.add(Plan((CONFIG,), ("new", "prompt 2", "prompt 0"), (7, 1, 0)))
    assert work(job) is None
    assert set(made(folder).values()) == {1} and len(made(folder)) == 3 * 3 + 2
    assert len(folder.units()) == 11


def test_a_setting_with_commas_is_a_run_of_each_value() -> None:
    words = ["a.b=1,2", "c=[1,2],[3,4]", "d='x, y'", "e=z"]
    choices = list(plan.grid(words))
    assert len(choices) == 4 and choices[1] == ("a.b=1", "c=[3,4]", "d='x, y'", "e=z")
    assert plan.label("tiny", choices[1], ["a.b", "c"]) == "tiny b=1 c=[3,4]"
    assert list(plan.grid([])) == [()]
    for wrong in (["a"], ["=1"], ["a=1", "a=2"]):
        with pytest.raises(UserError):
            list(plan.grid(wrong))


def test_shards_are_all_units_once() -> None:
    units = list(Plan((CONFIG,), ("p", "q", "r"), (0, 1, 2)).units())
    parts = [plan.shard(units, f"{i}/4") for i in range(4)]
    assert sorted(unit.name for part in parts for unit in part) == sorted(unit.name for unit in units)
    for wrong in ("4/4", "1", "a/2", "-1/2", "0/0"):
        with pytest.raises(UserError, match="--shard is written i/n"):
            plan.shard(units, wrong)


# ---- claims


def test_a_claim_is_created_once_however_many_try(tmp_path: Path) -> None:
    claims, won, barrier = Claims(tmp_path, 60), [], threading.Barrier(8)

    def race() -> None:
        for number in range(1, 51):
            barrier.wait()
            if claims.take("v/u", number, None) is not None:
                won.append(number)

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == list(range(1, 51)) and claims.numbers() == {"v/u": 50}


@pytest.mark.parametrize("clock", [-3600, 0, 3600])
def test_a_claim_of_another_machine_expires_by_the_watch_of_who_looks(tmp_path: Path, clock: int) -> None:
    theirs = Claims(tmp_path, 60, {**this_process(), "machine": "another", "host": "other"})
    claim = theirs.take("v/u", 1, None)
    assert claim is not None
    path = theirs.path("v/u", 1)

    def beat(number: int) -> None:  # by a clock that is an hour off
        os.utime(path, (time.time() + clock + number,) * 2)

    mine = Claims(tmp_path, 0.2)
    for number in range(4):
        beat(number)
        assert mine.alive("v/u", 1, mine.read("v/u", 1))
        time.sleep(0.1)
    time.sleep(0.25)
    assert not mine.alive("v/u", 1, mine.read("v/u", 1))
    claim.say(RELEASED)
    assert not Claims(tmp_path, 60).alive("v/u", 1, mine.read("v/u", 1))


def test_a_claim_of_this_machine_is_free_as_soon_as_its_process_is_gone(tmp_path: Path) -> None:
    claims = Claims(tmp_path, 3600)
    pid = os.fork()
    if pid == 0:
        Claims(tmp_path, 3600).take("v/u", 1, None)
        signal.pause()
    while not claims.read("v/u", 1).get("pid"):
        time.sleep(0.01)
    assert claims.alive("v/u", 1, claims.read("v/u", 1))
    os.kill(pid, signal.SIGKILL)
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        time.sleep(0.01)
    assert not claims.alive("v/u", 1, claims.read("v/u", 1))


def test_who_slept_over_its_claim_ends_before_it_writes(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        claim = Claims(tmp_path, 0.3).take("v/u", 1, None)
        assert claim is not None
        with claim.beating():
            time.sleep(30)
        os._exit(0)
    claims = Claims(tmp_path, 60)
    while not claims.numbers():
        time.sleep(0.01)
    assert claims.take("v/u", 2, None) is not None
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 75


def test_deaths_count_where_no_checkpoint_was_saved_between_them() -> None:
    def history(*pairs: tuple[str, int | None]) -> list[dict[str, Any]]:
        return [{"state": state, "checkpoint": at, "reason": "why"} for state, at in pairs]

    assert hopeless(history((HELD, None), (HELD, None)), None, 2) is None
    assert "killed 3 times" in (hopeless(history((HELD, None), (HELD, None), (HELD, None)), None, 2) or "")
    assert hopeless(history((HELD, 1), (HELD, 2), (HELD, 3)), 3, 2) is None
    assert hopeless(history((HELD, 1), (HELD, 1), (HELD, 1)), 2, 2) is None
    assert hopeless(history((HELD, 1), (HELD, 1), (RELEASED, 1), (HELD, 1)), 1, 2) is None
    assert hopeless(history((FAILED, 1), (FAILED, 2), (FAILED, 3)), 3, 2) == "why"


# ---- workers


def test_kills_change_no_byte_of_the_table(tmp_path: Path) -> None:
    left_alone, job = begun(tmp_path / "whole", 6, 4)
    assert work(job) is None
    table(left_alone)
    folder, job = begun(tmp_path / "killed", 6, 4, retries=50)
    draw, killed, workers = random.Random(0), set(), set()
    fated = {unit.name for unit in draw.sample(folder.units(), 20)}

    def fatal(folder: Folder, unit: Unit) -> Outcome:
        mark = folder.out / f"{unit.tag}.pid"
        if unit.name in fated and not mark.exists():
            mark.write_text(str(os.getpid()))
            time.sleep(600)
        return easy(folder, unit)

    while len(folder.ended()) < 24:
        while len(workers) < 2:
            if (pid := os.fork()) == 0:
                os._exit(work(replace(job, making=fatal)) is not None)
            workers.add(pid)
        for mark in tmp_path.glob("killed/*.pid"):
            if mark not in killed and (victim := int(mark.read_text() or 0)):
                time.sleep(draw.uniform(0, 0.02))
                os.kill(victim, signal.SIGKILL)
                os.waitpid(victim, 0)
                workers.remove(victim)
                killed.add(mark)
        workers -= {pid for pid in workers if os.waitpid(pid, os.WNOHANG)[0]}
        time.sleep(0.005)
    for pid in workers:
        os.waitpid(pid, 0)
    table(folder)
    assert len(killed) == 20
    assert (folder.out / "table.csv").read_bytes() == (left_alone.out / "table.csv").read_bytes()


def test_a_unit_that_always_fails_is_a_row_with_its_reason_and_the_rest_goes_on(tmp_path: Path) -> None:
    folder, job = begun(tmp_path, retries=2)

    def picky(folder: Folder, unit: Unit) -> Outcome:
        good = easy(folder, unit)
        return Outcome({}, "`system.x` must be above 0, not -1") if unit.prompt == "prompt 1" else good

    assert work(replace(job, making=picky)) is None
    rows = {(unit.prompt, unit.seed): row for unit, row in folder.rows(folder.units())}
    assert Counter(row["status"] for row in rows.values()) == {"done": 4, "failed": 2}
    assert rows["prompt 1", 0]["reason"] == "`system.x` must be above 0, not -1"
    assert all(count == (3 if "prompt-1" in name else 1) for name, count in made(folder).items())
    assert "4 done, 0 running, 2 failed, 0 to do" in status(folder)
    assert "prompt 1 · seed 0: `system.x` must be above 0, not -1" in status(folder)
    assert folder.retry_failed(folder.units()) == 2 and work(job) is None
    assert {row["status"] for _, row in folder.rows(folder.units())} == {"done"}
    table(folder)
    lines = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert [(line["prompt"], int(line["seed"])) for line in lines] == sorted(rows)


def test_a_fault_in_a_unit_is_its_reason_and_the_rest_goes_on(tmp_path: Path, capsys: Any) -> None:
    def broken(folder: Folder, unit: Unit) -> Outcome:
        if unit.prompt == "prompt 1":
            raise KeyError("geometry")
        return easy(folder, unit)

    folder, job = begun(tmp_path, making=broken, retries=0)
    assert work(job) is None
    rows = {unit.prompt: row for unit, row in folder.rows(folder.units())}
    assert rows["prompt 1"]["reason"] == "KeyError: 'geometry'" and rows["prompt 2"]["status"] == "done"
    assert "Traceback" in capsys.readouterr().err


def test_a_worker_that_is_stopped_gives_its_unit_back(tmp_path: Path) -> None:
    folder, job = begun(tmp_path)
    pid = os.fork()
    if pid == 0:

        def wait(folder: Folder, unit: Unit) -> Outcome:
            (tmp_path / "waiting").touch()
            time.sleep(60)
            return easy(folder, unit)

        os._exit(work(replace(job, making=wait)) is not None)
    while not (tmp_path / "waiting").exists():
        time.sleep(0.01)
    assert "1 running" in status(folder)
    os.kill(pid, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    ((unit, number),) = folder.claims.numbers().items()
    assert folder.claims.read(unit, number)["state"] == RELEASED
    assert work(job) is None and len(folder.ended()) == 6


def test_mixed_versions_are_refused_by_name(tmp_path: Path) -> None:
    folder, job = begun(tmp_path, version="threestudio-pullback 9.9, commit abc, PyTorch 2.0")
    said = work(job) or ""
    assert "the sweep has threestudio-pullback 9.9, commit abc, PyTorch 2.0" in said and socket.gethostname() in said
    job = begun(tmp_path)[1]
    others = Claims(folder.out / "claims", 60, {**this_process(), "host": "old-one", "version": "older"})
    claim = others.take(folder.units()[0].name, 1, None)
    assert claim is not None and "a worker on old-one has older" in (work(job) or "")
    claim.say(AGAIN)
    assert work(job) is None


@pytest.mark.parametrize("reason", ["cannot write the checkpoint", None])
def test_a_folder_that_cannot_be_written_to_is_one_sentence(reason: str | None, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write to the sweep's folder .*: Not a directory; free space"):
        Folder(tmp_path / "file" / "out").check()
    folder, job = begun(tmp_path / "out")
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:  # a disk that takes small files alone, or none at all
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

        def fills(folder: Folder, unit: Unit) -> Outcome:
            limit = 4096 if reason else 0
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            return Outcome({}, reason)

        os.write(writer, (work(replace(job, making=fills)) or "").encode())
        os._exit(0)
    os.waitpid(pid, 0)
    said = os.read(reader, 1000).decode()
    assert "cannot write to the sweep's folder" in said and "File too large" in said
    assert not folder.ended()  # the unit is not at fault
    assert work(job) is None and len(folder.ended()) == 6


# ---- the driver


class Here:
    """An engine whose workers are threads of this process."""

    def __init__(self, job: Job, workers: int) -> None:
        self.job, self.workers = job, workers
        self.threads: list[threading.Thread] = []
        self.said: list[str | None] = []

    def start(self, count: int) -> None:
        new = [threading.Thread(target=lambda: self.said.append(work(self.job))) for _ in range(count)]
        self.threads += new
        for thread in new:
            thread.start()

    def alive(self) -> int:
        return sum(thread.is_alive() for thread in self.threads)

    def ended(self) -> list[str | None]:
        said, self.said = self.said, []
        return said

    def stop(self) -> None:
        pass

    def close(self) -> None:
        for thread in self.threads:
            thread.join()


def test_a_driver_tells_of_each_unit_that_its_plan_has(tmp_path: Path) -> None:
    folder, job = begun(tmp_path)
    lines: list[str] = []
    few = Plan((CONFIG,), ("prompt 0", "new"), (0,))
    folder.add(few)
    part = replace(job, plan=few.name)
    drive.drive(folder, part, lambda: Here(part, 2), lines.append)
    assert sorted(made(folder)) == sorted(unit.name for unit in few.units())
    assert len(lines) == 2 and lines[1].startswith("[2/2] tiny · ")
    drive.drive(folder, job, lambda: Here(job, 2), lines.append)
    assert lines[2] == "2 of 7 runs are there already" and lines[-1].startswith("[7/7] tiny · prompt")
    drive.drive(folder, job, lambda: pytest.fail("nothing is left to do"), lines.append)
    assert lines[-1] == "7 of 7 runs are there already" and set(made(folder).values()) == {1}


def test_two_drivers_on_one_folder_do_no_unit_twice(tmp_path: Path) -> None:
    def slow(folder: Folder, unit: Unit) -> Outcome:
        time.sleep(random.random() / 100)
        return easy(folder, unit)

    folder, job = begun(tmp_path, 20, 3, making=slow)
    pids = []
    for number in range(2):
        pids.append(os.fork())
        if pids[-1] == 0:
            status = 1
            try:
                drive.drive(folder, job, lambda: Here(job, 3), (tmp_path / f"{number}.said").open("a").write)
                table(folder)
                status = 0
            finally:
                os._exit(status)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0]
    assert len(made(folder)) == 60 and set(made(folder).values()) == {1}
    owners = {json.loads(file.read_text())["pid"] for file in tmp_path.glob("claims/*/*")}
    assert owners == set(pids)  # both had a share
    assert (tmp_path / "table.csv").read_text().count(",done,") == 60


def test_a_driver_whose_workers_all_refuse_says_why(tmp_path: Path) -> None:
    folder, job = begun(tmp_path, version="another")
    with pytest.raises(UserError, match="install one version everywhere"):
        drive.drive(folder, job, lambda: Here(job, 2), lambda line: None)


def test_a_driver_whose_workers_die_before_they_claim_gives_up(tmp_path: Path) -> None:
    class Dying(Here):
        def start(self, count: int) -> None:
            self.said += [engines.KILLED] * count

    folder, job = begun(tmp_path)
    with pytest.raises(UserError, match="workers in a row were killed before they could claim a run"):
        drive.drive(folder, job, lambda: Dying(job, 3), lambda line: None)


# ---- the command line


def command(*words: str) -> int:
    return cli.main(["sweep", *words])


def test_a_long_prompt_is_shown_by_its_beginning_and_kept_whole(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.add(Plan((CONFIG,), ("a red cube " * 90, "a blue ball"), (0,)))
    units = folder.units()
    for unit in units:
        folder.write(unit, {"status": "failed", "reason": "none"})
    lines = status(folder).splitlines()
    shown = "a red cube " * 7
    assert f"  tiny · {shown}a · seed 0: none" in [line.replace(" …", "") for line in lines]
    assert "  tiny · a blue ball · seed 0: none" in lines
    table(folder)
    assert units[0].prompt in (tmp_path / "table.csv").read_text()


def test_a_dry_run_counts_and_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--prompts", "a red cube;a blue ball", "--seeds", "0-3", "--out", str(tmp_path), "--dry-run"]
    assert command(*words, "system.guidance.levels=4,8", "seed=1") == 0
    assert capsys.readouterr().out == "16 runs of 2 variants, 0 of them there already\n"
    assert not list(tmp_path.iterdir()) and command("status", str(tmp_path)) == 2
    assert "is no folder of a sweep" in capsys.readouterr().err
    folder = Folder(tmp_path)
    variants = (CONFIG, replace(CONFIG, label="tiny levels=8", words=("system.guidance.levels=8",)))
    folder.add(Plan(variants, ("a red cube", "a blue ball"), (0, 1, 2, 3)))
    folder.write(folder.units()[0], {"status": "failed", "reason": "none"})
    assert command("status", str(tmp_path)) == 0
    assert capsys.readouterr().out.startswith("16 runs: 0 done, 0 running, 1 failed, 15 to do\n")
    assert command("--out", str(tmp_path), "--dry-run", "--shard", "1/3", "--retry-failed") == 0
    assert capsys.readouterr().out.startswith("5 runs") and len(folder.ended()) == 1
    assert command("--out", str(tmp_path), "--dry-run", "--shard", "3/16") == 0
    assert capsys.readouterr().out.startswith("1 run of 2 variants")
    assert command(*words, "--methods", "pullback,sds") == 0
    assert capsys.readouterr().out.startswith("32 runs of 4 variants")
    assert len(list((tmp_path / "plans").iterdir())) == 1


def test_a_plan_that_is_refused_stays_out_of_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every later command would make its runs too, and be refused for them."""

    def check(folder: Folder, missing: list[Unit]) -> None:
        if any("typo" in word for unit in missing for word in folder.variants[unit.variant].words):
            raise UserError("unknown key `typo`")

    monkeypatch.setattr("pullback.sweep.check.check", check)
    monkeypatch.setattr("pullback.sweep.drive.drive", lambda *_: None)
    words = ["--prompts", "a red cube", "--out", str(tmp_path)]
    for wrong in (["typo=1,2"], ["--on", "pbs"], ["--shard", "2/2"]):
        assert command(*words, *wrong) == 2
    assert capsys.readouterr().err.startswith("error: unknown key `typo`")
    assert command(*words) == 0 and command(*words, "--seeds", "1") == 0
    assert command("status", str(tmp_path)) == 0
    assert "2 runs: 0 done, 0 running, 0 failed, 2 to do\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["system.x=1"], "--prompts is missing"),
        (["status"], "takes one folder"),
        (["status", "nowhere"], "is no folder of a sweep"),
        (["--prompts", "a", "--on", "pbs"], "--on is 'pbs', but must be one of local, ray, slurm"),
        (["--prompts", "a", "--on", "ray", "--with", "port=1"], "--with of --on ray: 'port=1' is no option"),
        (["--prompts", "a", "--with", "x=1"], "it has no options"),
        (["--prompts", "a", "--shard", "3/3"], "--shard is written i/n"),
        (["--prompts", "a", "--expire", "0"], "must be seconds from 1 to 86400"),
        (["--prompts", "a", "--config", "nowhere.yaml"], "cannot read the config file nowhere.yaml"),
        (["--prompts", "nowhere.txt"], "nowhere.txt is not there"),
    ],
)
def test_wrong_words_are_one_sentence(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(*words) == 2
    printed = capsys.readouterr().err
    assert said in printed and printed.startswith("error: ") and printed.count("\n") == 1


def test_a_clock_that_is_off_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time
    monkeypatch.setattr("pullback.sweep.folder.time.time", lambda: now() + 3600)
    assert command("--prompts", "a", "--out", str(tmp_path), "--dry-run") == 0
    said = capsys.readouterr().err
    assert said.startswith("This machine's clock is 3600 s ahead of that of") and said.count("\n") == 1


@pytest.mark.parametrize(("engine", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_an_engine_whose_package_is_missing_is_one_sentence(
    engine: str, package: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # type: ignore[arg-type]
    monkeypatch.setattr("pullback.sweep.check.check", lambda *_: None)
    assert command("--prompts", "a", "--on", engine, "--workers", "1", "--out", str(tmp_path)) == 2
    assert capsys.readouterr().err == f"error: the package '{package}' is missing; install it: pip install {package}\n"


def test_an_address_where_no_cluster_answers_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pullback.sweep.check.check", lambda *_: None)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # nothing listens there
        address = f"127.0.0.1:{free.getsockname()[1]}"
        words = ["--prompts", "a", "--on", "ray", "--with", f"address={address}", "--out", str(tmp_path)]
        assert command(*words) == 2
    assert f"no Ray cluster answers at {address}" in capsys.readouterr().err
    monkeypatch.setattr("pullback.sweep.engines.ray.PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        assert command(*words[:-3], f"address={address}", "--out", str(tmp_path)) == 2
    assert f"no Ray cluster answers at {address}: silent for 0.2 s; check" in capsys.readouterr().err
    assert command(*words[:-3], "address=nonsense", "--out", str(tmp_path)) == 2
    assert "address is 'nonsense', but is written host:port" in capsys.readouterr().err


def test_damaged_files_are_named(tmp_path: Path) -> None:
    folder, job = begun(tmp_path)
    assert work(job) is None
    unit = folder.units()[0]
    folder.result(unit).write_text("{")
    with pytest.raises(UserError, match="is damaged; remove it, and its unit is made again"):
        folder.rows(folder.units())
    (tmp_path / "plans" / "0.json").write_text(json.dumps({"variants": 3}))
    with pytest.raises(UserError, match=r"0\.json is damaged and no plan"):
        Folder(tmp_path).units()
