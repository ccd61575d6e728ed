"""SIGKILL at random points of small runs; each is then gone on with and must end as the run that was left alone."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import random
import select
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from pullback.sampling.sampler import Sampler

from . import runs
from .results import Results, Row, workplace

# of each kind of run: how often at a random time, while a checkpoint is written, while a picture is, at a visit
MOMENTS = {"time": 5, "checkpoint": 4, "picture": 2, "visit": 3}
COMPARISONS = {"time": 4, "worker": 4}
"""Kills of a comparison: of its driver, and of a worker."""
ENDINGS = {"checkpoint": ".ckpt.part", "picture": (".png.part", ".mp4.part", ".html.part")}


def run(results: Results, args: Any) -> None:
    runs.preload()
    with workplace(args.work, "kills") as work:
        sd = runs.model(work)
        cases = {}
        for kind in runs.CONFIGS:
            for moment, count in MOMENTS.items():
                for number in range(count):
                    name = f"{kind} {moment} {number}"
                    cases[name] = functools.partial(one, work, sd, kind, moment, f"{args.seed} {name}")
        for moment, count in COMPARISONS.items():
            for number in range(count):
                name = f"compare {moment} {number}"
                cases[name] = functools.partial(comparison, work, sd, moment, f"{args.seed} {name}")
        results.run(cases, args.only)


@functools.cache
def undisturbed(work: Path, sd: Path, kind: str) -> tuple[dict[str, Any], float]:
    """The end of a run that is left alone, and its seconds."""
    out = work / f"{kind}-whole"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    start = time.monotonic()
    status = runs.finish(runs.fork(["launch", *runs.words(kind, sd, out)], out / "log"))
    assert status == 0, (out / "log").read_text()
    return runs.ends(runs.folder(out)), time.monotonic() - start


def one(work: Path, sd: Path, kind: str, moment: str, seed: str) -> Row:
    wanted, seconds = undisturbed(work, sd, kind)
    draw, out = random.Random(seed), work / f"{kind}-killed"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    command, top = ["launch", *runs.words(kind, sd, out)], runs.folder(out)
    if moment == "time":
        pid = runs.fork(command, out / "log")
        time.sleep(draw.uniform(0.1, 1) * seconds)
    else:
        reader, writer = os.pipe()
        number = draw.randrange(30 if moment == "checkpoint" else 10)
        pid = runs.fork(command, out / "log", functools.partial(announce, writer, moment, number))
        os.close(writer)
        select.select([reader], [], [], 300)  # also where the run ends first
        os.close(reader)
        time.sleep(draw.choice([0, draw.uniform(0, 0.004), draw.uniform(0, 0.02)]))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    last = top / "ckpts" / "last.ckpt"
    row = {
        "step": torch.load(last, weights_only=True)["global_step"] if last.exists() else 0,
        "unfinished": sorted(file.name for file in top.rglob("*.part")),
    }
    faults = runs.broken(top)
    if last.exists():
        command = ["launch", "--config", str(top / "configs" / "parsed.yaml"), "--train", f"resume={last}"]
    if status := runs.finish(runs.fork(command, out / "log")):
        return {**row, "verdict": f"status {status}: {(out / 'log').read_text()[-300:]}"}
    end = runs.ends(top)
    faults += differ(end, wanted) + runs.broken(top) + [f"{file.name} is left" for file in top.rglob("*.part")]
    return {**row, "verdict": "; ".join(faults) or "ok"}


def differ(end: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    return [f"{name} differs" for name in runs.difference(end, wanted)]


def announce(writer: int, moment: str, number: int) -> None:
    """Has this process write a byte when a file of a kind is opened for the n-th time, or a visit begins or ends."""
    left = [number]

    def count() -> None:
        left[0] -= 1
        if left[0] == -1:
            os.write(writer, b"x")

    if moment == "visit":
        visit = Sampler.visit

        def announced(*args: Any, **kwargs: Any) -> Any:
            count()
            state = visit(*args, **kwargs)
            count()
            return state

        Sampler.visit = announced
    else:
        ending = ENDINGS[moment]
        sys.addaudithook(lambda event, args: count() if event == "open" and str(args[0]).endswith(ending) else None)


COMPARED = ["compare", "--methods", "pullback,sds", "--prompts", "a red cube;a blue ball", "--seeds", "0"]


def compared(sd: Path, out: Path) -> list[str]:
    small = [word for word in (*runs.SIZES, *runs.VOLUME) if not word.startswith(("trainer", "checkpoint"))]
    small = [word for word in small if not word.startswith("system.guidance")]
    settings = out.parent / "compare.yaml"
    ours = {"system.guidance.fit_steps": 4, "system.guidance.fit_rays": 64, "system.guidance.sigma_min": 0.5}
    settings.write_text(json.dumps({"pullback": ours}))
    return [
        *COMPARED, "--budget", "nfe=80", "--workers", "1", "--out", str(out), "--settings", str(settings),
        f"system.prompt_processor.pretrained_model_name_or_path={sd}", *small,
    ]  # fmt: skip


def comparison_end(out: Path) -> dict[str, Any]:
    """The states of all runs, their turntables, and the rows but for what was measured by a clock."""
    end: dict[str, Any] = {}
    for top in sorted(top for top in (out / "runs").glob("*/*/") if "-short-run-" not in top.parent.name):
        end |= {f"{top.name} {name}": value for name, value in runs.ends(top).items()}
    end |= {str(file.relative_to(out)): file.read_bytes() for file in (out / "turntables").rglob("*.webp")}
    for row in json.loads((out / "compare.json").read_text())["runs"]:
        measures = {k: v for k, v in row["measures"].items() if k not in ("seconds", "memory")}
        end[f"{row['method']} {row['tag']}"] = {"status": row["status"], "reason": row["reason"], **measures}
    return end


@functools.cache
def undisturbed_comparison(work: Path, sd: Path) -> tuple[dict[str, Any], float]:
    out = work / "compare-whole"
    shutil.rmtree(out, ignore_errors=True)
    start = time.monotonic()
    status = runs.finish(runs.fork(compared(sd, out), work / "compare-whole.log"))
    assert status == 0, (work / "compare-whole.log").read_text()
    return comparison_end(out), time.monotonic() - start


def comparison(work: Path, sd: Path, moment: str, seed: str) -> Row:
    wanted, seconds = undisturbed_comparison(work, sd)
    out, log = work / "compare-killed", work / "compare-killed.log"
    wait = random.Random(seed).uniform(0.25, 1) * seconds
    while True:
        shutil.rmtree(out, ignore_errors=True)
        log.unlink(missing_ok=True)
        pid = runs.fork(compared(sd, out), log)
        time.sleep(wait)
        if moment == "time":
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            break
        killed = kill_leaf(pid)
        runs.finish(pid)
        if killed:
            break
        wait /= 2  # the machine is faster than when the undisturbed one was measured
    faults = runs.broken(out)
    rows = len(list(out.glob("results/*/*.json")))
    if status := runs.finish(runs.fork(compared(sd, out), log)):
        return {"step": rows, "verdict": f"status {status}: {log.read_text()[-300:]}"}
    faults += [f"{name} differs" for name in runs.difference(comparison_end(out), wanted)] + runs.broken(out)
    return {"step": rows, "verdict": "; ".join(faults) or "ok"}


def kill_leaf(pid: int) -> bool:
    """Kills a worker of a comparison, as soon as there is one; False where the comparison ends before."""
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        if workers := leaves(pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(workers[-1], signal.SIGKILL)
                return True
        time.sleep(0.01)
    return False


def leaves(pid: int) -> list[int]:
    """The workers of a comparison, which its server has forked: grandchildren, oldest first."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().rpartition(")")
        except OSError:
            continue
        parents[int(name.split()[0])] = int(rest.split()[1])
    return sorted(child for child, parent in parents.items() if parents.get(parent) == pid)
