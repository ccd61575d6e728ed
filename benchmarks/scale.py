"""What `pullback sweep` holds and costs: the same bytes everywhere and after kills, throughput, memory, long lists.

    python benchmarks/scale.py same      # 24 small runs on 2 local workers and on a Ray cluster of 2: one table?
    python benchmarks/scale.py kills     # the same 24, with 20 SIGKILLs of workers and of the driver: that table?
    python benchmarks/scale.py speed     # runs of the demo's config: one process a run, or workers that keep the model
    python benchmarks/scale.py memory    # 100 small runs in one worker: its memory after each
    python benchmarks/scale.py long      # 10,000 units whose runs are simulated: planned and listed

Small runs have a random model of two layers, 4 levels and 16² pixels. Each part adds its figures to --out, as JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from spent import Spent, spent

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
PULLBACK = [sys.executable, "-m", "pullback"]
DEMO = "pullback-nerf-tiny-mv.yaml"
PROMPTS = "a red cube;a blue ball;a green cone;a yellow torus;a purple diamond;a cyan cylinder"
SMALL = [
    "data.width=16", "data.height=16", "data.eval_width=16", "data.eval_height=16", "data.n_test_views=2",
    "data.batch_size=2", "data.n_val_views=1", "system.guidance.levels=4", "system.guidance.fit_steps=2",
    "system.guidance.fit_rays=64", "system.guidance.sigma_min=0.5", "system.geometry.grid_size=[16,16,16]",
    "system.renderer.num_samples_per_ray=8", "system.geometry.isosurface_resolution=8",
    "trainer.limit_val_batches=0", "checkpoint.every_n_train_steps=2",
]  # fmt: skip


def small(work: Path) -> list[str]:
    """The settings of a small run, and its random model."""
    from tiny_pipeline import build  # pyright: ignore[reportMissingImports]

    if not (work / "sd" / "model_index.json").exists():
        build(work / "sd")
    return [*SMALL, f"system.prompt_processor.pretrained_model_name_or_path={work / 'sd'}"]


def sweep(out: Path, *words: str) -> list[str]:
    return [*PULLBACK, "sweep", "--out", str(out), *words]


def run(command: list[str], log: Path, **more: Any) -> float:
    """Runs a command; returns its seconds."""
    began = time.monotonic()
    with log.open("a") as stream:
        done = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, **more)
    if done.returncode:
        raise SystemExit(f"status {done.returncode}: {log.read_text()[-2000:]}")
    return time.monotonic() - began


def same(work: Path, args: Any) -> dict[str, Any]:
    words = ["--prompts", PROMPTS, "--seeds", "0-3", "--workers", "2", *small(work)]
    seconds = {name: run(sweep(work / name, "--on", name, *words), work / f"{name}.log") for name in ("local", "ray")}
    tables = [(work / name / "table.csv").read_bytes() for name in ("local", "ray")]
    rows = tables[0].decode().splitlines()[1:]
    return {
        "runs": len(rows), "done": sum(",done," in row for row in rows), "equal": tables[0] == tables[1],
        "different parameters": len({row.split(",")[-2] for row in rows}),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }  # fmt: skip


def workers(out: Path) -> list[int]:
    """The processes that hold a claim now."""
    found = []
    for file in out.glob("claims/*/*"):
        try:
            claim = json.loads(file.read_text())
        except (OSError, ValueError):
            continue
        if claim["state"] == "held" and not (out / "results" / f"{file.parent.name}/{file.stem}.json").exists():
            stat = Path(f"/proc/{claim['pid']}/stat")
            if stat.exists() and stat.read_text().rpartition(")")[2].split()[19] == claim["born"]:
                found.append(claim["pid"])
    return sorted(set(found))


def kills(work: Path, args: Any) -> dict[str, Any]:
    words = ["--prompts", PROMPTS, "--seeds", "0-3", "--workers", "2", "--retries", "9", *small(work)]
    whole, out, log = work / "local", work / "killed", work / "killed.log"
    if not (whole / "table.csv").exists():
        run(sweep(whole, *words), work / "local.log")
    draw, count = random.Random(args.seed), {"worker": 0, "driver": 0}
    stream = log.open("a")
    driver = subprocess.Popen(sweep(out, *words), stdout=stream, stderr=subprocess.STDOUT)
    while sum(count.values()) < args.kills and driver.poll() is None:
        alive = workers(out)
        if not alive:  # a kill while all processes begin would show nothing
            time.sleep(0.05)
            continue
        time.sleep(draw.uniform(0, args.pause))
        if draw.random() < 0.25:
            driver.kill()
            driver.wait()
            count["driver"] += 1
            driver = subprocess.Popen(sweep(out, *words), stdout=stream, stderr=subprocess.STDOUT)
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(draw.choice(alive), signal.SIGKILL)
                count["worker"] += 1
    status = driver.wait()
    attempts = [json.loads(file.read_text())["attempts"] for file in out.glob("results/*/*.json")]
    return {
        "kills": count, "status": status, "attempts": sum(attempts), "most attempts of a run": max(attempts),
        "equal": (out / "table.csv").read_bytes() == (whole / "table.csv").read_bytes(),
    }  # fmt: skip


def speed(work: Path, args: Any) -> dict[str, Any]:
    """Seconds a run of the demo's config, by rounds of three ways: with launch.py one run after the other, with two of
    them at a time, and with a sweep of two workers. What was measured while others used the machine does not count."""
    from pullback.evaluate.trial import read_course

    settings = [f"system.guidance.levels={args.visits}", *args.words]
    names = [prompt.strip() for prompt in PROMPTS.split(";")]
    prompts = [f"a {a} front and a {b} back" for a, b in itertools.permutations(("red", "green", "blue", "purple"), 2)]
    prompts = [f"{name} with {sides}" for sides in prompts for name in ("a cube", "a cone", "a cylinder")] + names
    rows: dict[str, list[tuple[int, Spent]]] = {"one after the other": [], "two at a time": [], "two workers": []}
    own: list[float] = []
    visits: list[float] = []

    def alone(count: int, threads: int) -> None:
        processes = [subprocess.Popen(
            [
                *PULLBACK, "launch", "--config", DEMO, "--train", f"system.prompt_processor.prompt={prompts.pop()}",
                f"exp_root_dir={work}", f"name=alone{count}", *settings,
            ],
            stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        ) for _ in range(count)]  # fmt: skip
        statuses = [one.wait() for one in processes]
        if any(statuses):
            raise SystemExit("a run failed")

    def swept() -> list[float]:
        chosen, out = ";".join(prompts.pop() for _ in range(args.runs)), work / f"speed{len(prompts)}"
        run(sweep(out, "--config", DEMO, "--prompts", chosen, "--workers", "2", *settings), work / "s.log")
        return [json.loads(file.read_text())["seconds"] for file in out.glob("results/*/*.json")]

    def pair() -> list[float]:
        before = set(work.glob("alone2/*"))
        alone(2, 1)
        return [read_course(folder, 0).seconds[-1] for folder in set(work.glob("alone2/*")) - before]

    for _ in range(args.rounds):
        for name, count, way in (
            ("one after the other", 1, lambda: alone(1, os.cpu_count() or 1)), ("two at a time", 2, pair),
            ("two workers", args.runs, swept),
        ):  # fmt: skip
            seconds, cost = spent(way)
            rows[name].append((count, cost))
            print(f"{name}, {count}: {cost}, {seconds}", flush=True)
            if cost.quiet:
                {"two at a time": visits, "two workers": own}.get(name, []).extend(seconds or [])
    good = {name: [(count, cost) for count, cost in found if cost.quiet] for name, found in rows.items()}
    if not all(good.values()):
        raise SystemExit("others used the machine in every round; run it again")
    wall = {name: statistics.median(cost.wall / count for count, cost in found) for name, found in good.items()}
    cpu = {name: statistics.median(cost.cpu / count for count, cost in found) for name, found in good.items()}
    best = wall["two workers"]
    each = {name: [round(cost.wall / count, 1) for count, cost in found] for name, found in good.items()}
    return {
        "visits": args.visits, "settings": args.words, "runs of a sweep": args.runs,
        "rounds that counted": each,
        "seconds a run": {name: round(value, 1) for name, value in wall.items()},
        "CPU seconds a run": {name: round(value, 1) for name, value in cpu.items()},
        "two workers, times faster than one after the other": round(wall["one after the other"] / best, 2),
        "than two at a time": round(wall["two at a time"] / best, 2),
        "of a worker's run, s": [round(value, 1) for value in own],
        "of the visits alone, two at a time, s": [round(value, 1) for value in visits],
        "over half of a worker's run": round(best / (statistics.mean(own) / 2) - 1, 3),
        "over half of the visits": round(best / (statistics.mean(visits) / 2) - 1, 3),
    }  # fmt: skip


def memory(work: Path, args: Any) -> dict[str, Any]:
    """Resident memory of a worker after each of its runs."""
    import torch
    from pullback.sweep import making, worker
    from pullback.sweep.folder import Folder
    from pullback.sweep.plan import Plan, Variant

    folder, sizes = Folder(work / "memory"), []
    folder.check()
    config = (ROOT / "configs" / "pullback-nerf-tiny.yaml").read_text()
    folder.add(Plan((Variant("tiny", config, tuple(small(work))),), ("a red cube",), tuple(range(args.runs))))

    def make(folder: Any, unit: Any) -> Any:
        outcome = making.make(folder, unit)
        sizes.append(int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20)
        return outcome

    torch.set_num_threads(1)
    assert worker.work(worker.Job(str(folder.out), cwd=os.getcwd(), making=make)) is None
    shown = [size for n, size in enumerate(sizes, 1) if n in (1, 2, 5, 10, 20, 50, args.runs)]
    return {"runs": len(sizes), "MB after 1, 2, 5, 10, 20, 50 and all runs": [round(size) for size in shown]}


def long(work: Path, args: Any) -> dict[str, Any]:
    """Seconds and peak memory of the commands that plan and list many units, whose runs are simulated."""
    from pullback.sweep.folder import Folder

    out, prompts = work / "long", work / "prompts.txt"
    prompts.write_text("".join(f"a red cube, number {i}\n" for i in range(args.units // 8)))
    words = ["--prompts", str(prompts), "--seeds", "0-7"]
    found: dict[str, Any] = {"units": args.units // 8 * 8}
    found["planned"] = measured(sweep(out, *words, "--dry-run"))
    found["listed, none made"] = measured([*PULLBACK, "sweep", "status", str(out)])
    folder = Folder(out)
    claims = folder.claims
    for unit in folder.units():  # as a worker leaves them
        claims.take(unit.name, 1, None)
        folder.write(unit, {"status": "done", "steps": 1, "seconds": 1.0, "parameters": unit.tag[-8:], "attempts": 1})
    found["listed, all made"] = measured([*PULLBACK, "sweep", "status", str(out)])
    found["gone on with: nothing to do, and the table"] = measured(sweep(out))
    return found


def measured(command: list[str]) -> dict[str, float]:
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    told = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(told)
    print(told[-300:])
    return {
        "seconds": round(time.monotonic() - began, 2), "CPU seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "MB": round(usage.ru_maxrss / 1024),
    }  # fmt: skip


PARTS = {"same": same, "kills": kills, "speed": speed, "memory": memory, "long": long}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("words", nargs="*", help="key=value for the runs of speed")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "scale.json")
    parser.add_argument("--work", type=Path, help="a folder for the runs; a temporary one by default")
    parser.add_argument("--seed", type=int, default=0, help="of the kills")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--pause", type=float, default=1.0, help="most seconds between a claim and a kill")
    parser.add_argument("--runs", type=int, default=6, help="of memory, and of a sweep of speed")
    parser.add_argument("--visits", type=int, default=60, help="of a run of speed")
    parser.add_argument("--rounds", type=int, default=3, help="of speed")
    parser.add_argument("--units", type=int, default=10_000, help="of long")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = (args.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        found = PARTS[args.part](work, args)
    data = json.loads(args.out.read_text()) if args.out.exists() else {}
    args.out.write_text(json.dumps({**data, args.part: found}, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
