"""One level's fit, two ways at a time.

    python benchmarks/fit.py solvers   # FirstOrder (Adam) against GaussNewton: residual against seconds
    python benchmarks/fit.py fields    # volume-grid against implicit-volume: fit step, render, peak memory
    python benchmarks/fit.py memory    # freed memory kept against given back: the same figures
    python benchmarks/fit.py renderers # fused kernels against PyTorch, or with --old FOLDER an earlier checkout
    python benchmarks/fit.py sizes     # fused kernels: pictures of 64, 128 and 256 px, 8 and 16 views

Times are min/median/max over --repeats interleaved runs; on a shared machine only the ratios mean something.
OMP_NUM_THREADS sets the number of threads. All but `solvers` measure every run in a process of its own. An earlier
checkout is made by `git worktree add FOLDER 36797cc`.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from compare import by_turns, ratio, spread

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"
# the geometry blocks compared are those of the two configs; everything else is that of pullback-nerf-tiny.yaml
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
    from pullback.output.markdown import print_table

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


def _module(*names: str) -> Any:
    """The first module there is; earlier checkouts have other names."""
    for name in names:
        with contextlib.suppress(ModuleNotFoundError):
            return importlib.import_module(f"pullback.{name}")
    raise ModuleNotFoundError(names[0])


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Seconds of a fit step, of a render of all views and of a turntable, and the process's peak memory in MB."""
    if args.keep:
        _module("host.training.memory", "host.memory").keep_freed_memory()
    import torch

    from pullback.host import config, registry  # isort: skip

    _module("host.parts", "host.launch").load_parts()
    torch.manual_seed(0)
    prompt = ["system.prompt_processor.prompt=a red cube"]
    cfg = config.load_config(str(GEOMETRY_FROM["volume-grid"]), cli_args=prompt)
    other = config.load_config(str(GEOMETRY_FROM[args.geometry]), cli_args=prompt)
    blocks = config.config_to_primitive(cfg.system)
    blocks |= {key: config.config_to_primitive(other.system)[key] for key in ("geometry_type", "geometry")}
    blocks["geometry"]["radius"] = blocks["renderer"]["radius"]
    pruned = config.config_to_primitive(other.system)["renderer"]["grid_prune"]
    blocks["renderer"] |= {"num_samples_per_ray": SAMPLES, "grid_prune": pruned}
    if args.backend:
        blocks["renderer"]["backend"] = args.backend
    base = {**config.config_to_primitive(cfg.data), "camera_distance_range": [2.4, 2.4]}
    system: Any = registry.find(cfg.system_type)(blocks)
    optimizers = _module("host.training.optimisers", "host.systems")
    optimizer = optimizers.parse_optimizer(blocks["optimizer"], system, "system.optimizer")
    adapter = _module("adapters.rendered_field", "adapters.field")
    rays = RAYS * args.views // VIEWS * (args.size // SIZE) ** 2 if args.all_rays else RAYS
    field = adapter.RenderedField(system.renderer, system.geometry, [system.material, system.background], rays)

    def cameras(count: int, size: int) -> Any:
        block = {**base, "batch_size": count, "height": size, "width": size}
        kind = registry.find(cfg.data_type).Config
        return _module("host.data.cameras", "host.cameras").RandomCameras(config.parse_structured(kind, block)).draw(0)

    views = cameras(args.views, args.size)
    target, generator = torch.zeros(args.views, 3, args.size, args.size), torch.Generator().manual_seed(0)

    def step() -> None:
        optimizer.zero_grad()
        field.residual(views, target, generator).square().mean().backward()
        optimizer.step()

    def timed(work: Callable[[], Any], times: int) -> float:
        work()  # the first one also sets memory up
        seconds = []
        for _ in range(times):
            begin = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - begin)
        return statistics.median(seconds)

    results = {"step": timed(step, args.steps)}
    with torch.no_grad():
        results["render"] = timed(lambda: field.render(views), 1)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
        if args.turntable:
            each = cameras(1, 128)
            begin = time.perf_counter()
            for _ in range(60):
                field.render(each)
            results["turntable"] = time.perf_counter() - begin
    return results | {"peak": peak}


def in_processes(
    ways: dict[str, list[str]], args: argparse.Namespace, keys: tuple[str, ...] = ("step", "render", "peak")
) -> None:
    """`measure` with each way's arguments, each run in a fresh process; the first way is the base of the ratios."""
    from pullback.output.markdown import print_table

    def run(arguments: list[str]) -> dict[str, float]:
        where = Path(arguments[-1]) if "--checkout" in arguments else ROOT
        paths = os.pathsep.join([str(where / "custom" / "threestudio-pullback"), str(Path(__file__).parent)])
        environment = {"OMP_WAIT_POLICY": "passive", **os.environ, "PYTHONPATH": paths}  # as the commands set it
        command = [sys.executable, __file__, "measure", "--steps", str(args.steps), *arguments]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
        return json.loads(done.stdout.splitlines()[-1])

    results = by_turns({name: partial(run, arguments) for name, arguments in ways.items()}, args.repeats)
    base = next(iter(results.values()))
    rows = []
    for name, runs in results.items():
        row = [name]
        for key in keys:
            values = [r[key] for r in runs]
            row += [spread(values), ratio(values, [r[key] for r in base])]
        rows.append(row)
    print(f"{SAMPLES} samples a ray; a fit step has {RAYS} rays, a render {VIEWS} views of {SIZE} px; min/median/max")
    units = {"step": "s / fit step", "render": "s / render", "turntable": "s / turntable", "peak": "peak MB"}
    print_table(["way", *(word for key in keys for word in (units[key], "ratio"))], rows)


def renderers(args: argparse.Namespace) -> None:
    """Fused kernels against PyTorch and against an earlier checkout, for both geometries."""
    for geometry in GEOMETRY_FROM:
        fixed = ["--geometry", geometry, "--turntable"]
        ways = {"fused": [*fixed, "--backend", "fused"], "PyTorch": [*fixed, "--backend", "torch"]}
        if args.old:
            ways = {"fused": ways["fused"], "earlier checkout": [*fixed, "--checkout", str(args.old.resolve())]}
        print(f"\n{geometry}")
        in_processes(ways, args, ("step", "render", "turntable", "peak"))


def sizes(args: argparse.Namespace) -> None:
    """Larger pictures, all of whose rays are in a step, and more views."""
    ways = {f"{size} px, {VIEWS} views": ["--size", str(size), "--all-rays"] for size in (64, 128, 256)}
    ways |= {"64 px, 16 views": ["--views", "16", "--all-rays"], "64 px, 16 views, rays as for 8": ["--views", "16"]}
    in_processes(ways, args)


def main() -> None:
    """Measures what the command line names, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["solvers", "fields", "memory", "renderers", "sizes", "measure"])
    parser.add_argument("--repeats", type=int, default=3, help="runs of each way (default 3)")
    parser.add_argument("--steps", type=int, default=3, help="fit steps a run averages over (default 3)")
    parser.add_argument("--geometry", choices=list(GEOMETRY_FROM), default="volume-grid", help="`memory`, `measure`")
    parser.add_argument("--keep", action=argparse.BooleanOptionalAction, default=True, help="`measure`: freed memory")
    parser.add_argument("--old", type=Path, help="`renderers`: an earlier checkout instead of PyTorch")
    one = parser.add_argument_group("measure", "one run, as JSON")
    one.add_argument("--backend", help="system.renderer.backend")
    one.add_argument("--size", type=int, default=SIZE, help="of a picture, px")
    one.add_argument("--views", type=int, default=VIEWS)
    one.add_argument("--all-rays", action="store_true", help="a step's rays grow with size and views")
    one.add_argument("--turntable", action="store_true", help="also 60 views of 128 px")
    one.add_argument("--checkout", type=Path, default=ROOT)
    args = parser.parse_args()
    if min(args.repeats, args.steps) < 1:
        parser.error("--repeats and --steps must be at least 1")
    if args.what == "solvers":
        solvers(args.repeats)
    elif args.what == "fields":
        in_processes({name: ["--geometry", name] for name in GEOMETRY_FROM}, args)
    elif args.what == "memory":
        fixed = ["--geometry", args.geometry]
        ways = {"freed memory kept": [*fixed, "--keep"], "given back": [*fixed, "--no-keep"]}
        in_processes(ways, args)
    elif args.what == "renderers":
        renderers(args)
    elif args.what == "sizes":
        sizes(args)
    else:
        print(json.dumps(measure(args)))


if __name__ == "__main__":
    main()
