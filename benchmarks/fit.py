"""One level's fit, two ways at a time.

    python benchmarks/fit.py solvers   # FirstOrder (Adam) against GaussNewton: residual against seconds
    python benchmarks/fit.py fields    # volume-grid against implicit-volume: fit step, render, peak memory
    python benchmarks/fit.py memory    # freed memory kept against given back: the same figures

Times are min/median/max over --repeats interleaved runs; on a shared machine only the ratios mean something.
OMP_NUM_THREADS sets the number of threads. `fields` and `memory` measure every run in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from compare import by_turns, ratio, spread
from pullback.output.markdown import print_table

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
# the geometry blocks compared are those of the two configs; everything else is the demo's
GEOMETRY_FROM = {"volume-grid": CONFIGS / "pullback-nerf-tiny.yaml", "implicit-volume": CONFIGS / "pullback-nerf.yaml"}
RAYS, SAMPLES, VIEWS, SIZE = 4096, 64, 8, 64


def solvers(repeats: int) -> None:
    """A 24³ voxel field, 8 views of 24 px: early (fog, a quarter of the way to an object), late (a blend to one).

    The objects are voxel fields of twice the resolution, so that the field fitted cannot hold them exactly.
    """
    import torch
    from pullback.diffreps import VoxelField, orbit
    from pullback.evaluate.studio.world import signed_distance
    from pullback.fitting import FirstOrder, Fit, GaussNewton, Solver

    views = orbit(torch.linspace(0, 50, VIEWS), torch.arange(VIEWS) * 360 / VIEWS)
    axis = torch.linspace(-1, 1, 48)
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).view(-1, 3)
    red, blue = torch.tensor([2.0, -2, -2]), torch.tensor([-2.0, -2, 2])

    @torch.no_grad()
    def pictures(shape: str) -> torch.Tensor:
        truth = VoxelField(48)
        truth.density.copy_(3 - 40 * signed_distance(shape, points)[:, None].clamp(min=-0.05))
        truth.colour.copy_(torch.where(points[:, :1] > 0, red, blue))
        return truth.render(views)

    sphere, between = pictures("sphere"), (pictures("sphere") + pictures("torus")) / 2
    field = VoxelField()

    def fit(solver: Solver, target: torch.Tensor, start: dict[str, torch.Tensor]) -> tuple[float, float, float]:
        field.load_state_dict(start)
        begin = time.perf_counter()
        solution = solver.solve(Fit(field, views, target, None, torch.Generator().manual_seed(0)))
        return time.perf_counter() - begin, solution.residual, solution.start

    def state() -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in field.state_dict().items()}

    fog = state()
    with torch.no_grad():
        quarter = 0.75 * field.render(views) + 0.25 * sphere
    fit(FirstOrder(lr=0.03, steps=60), between, fog)
    blend = state()

    base_name = "Adam(0.03), 20 steps"
    ways: dict[str, Solver] = {f"Adam(0.03), {n} steps": FirstOrder(lr=0.03, steps=n) for n in (10, 20, 40)}
    for outer, inner in ((2, 5), (4, 5), (2, 10)):
        ways[f"Gauss-Newton, {outer} x {inner} CG, damping 0.1"] = GaussNewton(outer, inner, damping=0.1)
    for title, target, start in (("early", quarter, fog), ("late", sphere, blend)):
        results = by_turns({name: partial(fit, solver, target, start) for name, solver in ways.items()}, repeats)
        base = [seconds for seconds, _, _ in results[base_name]]
        rows = []
        for name, runs in results.items():
            seconds = [r[0] for r in runs]
            rows.append([name, f"{runs[0][1]:.4f}", spread(seconds), ratio(seconds, base)])
        print(f"{title}: rms {results[base_name][0][2]:.4f} before the fit; seconds are min/median/max")
        print_table(["solver", "rms after", "seconds", "ratio to Adam 20"], rows)


def measure(geometry: str, keep: bool, steps: int) -> dict[str, float]:
    """Seconds of a fit step and of a render of all views, and the process's peak memory in MB."""
    from pullback.host.training.memory import keep_freed_memory

    if keep:
        keep_freed_memory()
    import torch
    from pullback.adapters.rendered_field import RenderedField
    from pullback.host import config, parts, registry
    from pullback.host.data.cameras import RandomCameras
    from pullback.host.training.optimisers import parse_optimizer

    parts.load_parts()
    torch.manual_seed(0)
    prompt = ["system.prompt_processor.prompt=a red cube"]
    cfg = config.load_config(str(GEOMETRY_FROM["volume-grid"]), cli_args=prompt)
    other = config.load_config(str(GEOMETRY_FROM[geometry]), cli_args=prompt)
    blocks = config.config_to_primitive(cfg.system)
    blocks |= {key: config.config_to_primitive(other.system)[key] for key in ("geometry_type", "geometry")}
    blocks["renderer"]["num_samples_per_ray"] = SAMPLES
    cameras = {**config.config_to_primitive(cfg.data), "batch_size": VIEWS, "height": SIZE, "width": SIZE}
    system: Any = registry.find(cfg.system_type)(blocks)
    optimizer = parse_optimizer(blocks["optimizer"], system, "system.optimizer")
    field = RenderedField(system.renderer, system.geometry, [system.material, system.background], RAYS)
    views = RandomCameras(config.parse_structured(registry.find(cfg.data_type).Config, cameras)).draw(0)
    target, generator = torch.zeros(VIEWS, 3, SIZE, SIZE), torch.Generator().manual_seed(0)

    def step() -> None:
        optimizer.zero_grad()
        field.residual(views, target, generator).square().mean().backward()
        optimizer.step()

    def timed(work: Callable[[], Any], times: int) -> float:
        work()  # the first one also sets memory up
        begin = time.perf_counter()
        for _ in range(times):
            work()
        return (time.perf_counter() - begin) / times

    step_seconds = timed(step, steps)
    with torch.no_grad():
        render_seconds = timed(lambda: field.render(views), 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return {"step": step_seconds, "render": render_seconds, "peak": peak}


def in_processes(ways: dict[str, list[str]], repeats: int, steps: int) -> None:
    """`measure` with each way's arguments, each run in a fresh process; the first way is the base of the ratios."""

    def run(arguments: list[str]) -> dict[str, float]:
        command = [sys.executable, __file__, "measure", "--steps", str(steps), *arguments]
        return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)

    results = by_turns({name: partial(run, arguments) for name, arguments in ways.items()}, repeats)
    base = next(iter(results.values()))
    rows = []
    for name, runs in results.items():
        row = [name]
        for key in ("step", "render", "peak"):
            values = [r[key] for r in runs]
            row += [spread(values), ratio(values, [r[key] for r in base])]
        rows.append(row)
    print(f"fit step: {RAYS} rays x {SAMPLES} samples; render: {VIEWS} views of {SIZE} px; min/median/max")
    print_table(["way", "s / fit step", "ratio", "s / render", "ratio", "peak MB", "ratio"], rows)


def main() -> None:
    """Measures what the command line names, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["solvers", "fields", "memory", "measure"], help="measure: one run, as JSON")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each way (default 3)")
    parser.add_argument("--steps", type=int, default=3, help="fit steps a run averages over (default 3)")
    parser.add_argument("--geometry", choices=list(GEOMETRY_FROM), default="volume-grid", help="`memory`, `measure`")
    parser.add_argument("--keep", action=argparse.BooleanOptionalAction, default=True, help="`measure`: freed memory")
    args = parser.parse_args()
    if min(args.repeats, args.steps) < 1:
        parser.error("--repeats and --steps must be at least 1")
    if args.what == "solvers":
        solvers(args.repeats)
    elif args.what == "fields":
        in_processes({name: ["--geometry", name] for name in GEOMETRY_FROM}, args.repeats, args.steps)
    elif args.what == "memory":
        fixed = ["--geometry", args.geometry]
        ways = {"freed memory kept": [*fixed, "--keep"], "given back": [*fixed, "--no-keep"]}
        in_processes(ways, args.repeats, args.steps)
    else:
        print(json.dumps(measure(args.geometry, args.keep, args.steps)))


if __name__ == "__main__":
    main()
