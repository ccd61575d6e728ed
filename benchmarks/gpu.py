"""Everything that only a GPU can say, in one command of under 8 minutes on an H100.

    python benchmarks/gpu.py

It runs the tests marked `device` with their tensors on CUDA, the demo, a visit of a Stable Diffusion 1.5 and of an
SDXL of real size with random weights, and the fit with each renderer. It needs no network, no weights but the shipped
model's, and no package beyond requirements.txt. Each part runs in a process of its own, with a time of its own: one
that fails is reported, and the others go on. The results, with the device and versions, go to docs/results/gpu.md.
Without a GPU it says so and exits with 2.

--smoke runs the same code at small sizes, with --device cpu anywhere; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pullback.output.markdown import table
from pullback.version import describe as describe_version

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"
TOTAL = 470
"""Seconds for all parts."""

Result = dict[str, Any]
"""`header` and `rows` of a table, and `notes`, sentences below it."""


def run_tests(device: torch.device, smoke: bool) -> Result:
    """Every test marked `device`, with its tensors there."""
    only = ["tests/test_noise.py", "-x"] if smoke else ["tests"]
    command = [sys.executable, "-m", "pytest", "-m", "device", "--device", device.type, "-rf", "--tb=line", *only]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    last = next((line for line in reversed(lines) if " passed" in line or " failed" in line), "no test ran")
    counts = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|skipped|error)", last)}
    if not counts.get("passed"):
        raise RuntimeError(f"pytest: {last}: {done.stdout[-500:]}{done.stderr[-500:]}")
    row = [counts.get(word, 0) for word in ("passed", "failed", "skipped")]
    return {"header": ["passed", "failed", "skipped"], "rows": [row], "notes": failed}


def run_demo(device: torch.device, smoke: bool) -> Result:
    """`pullback demo`, with pictures, turntable and mesh."""
    with tempfile.TemporaryDirectory() as out:
        small = ["system.guidance.levels=2", "system.guidance.fit_steps=2", "data.n_test_views=2", "data.eval_width=32",
                 "data.eval_height=32", "system.geometry.isosurface_resolution=16"]  # fmt: skip
        choice = ["trainer.accelerator=cpu"] if device.type == "cpu" else []
        command = [sys.executable, "-m", "pullback", "demo", "--out", out, *choice, *(small if smoke else [])]
        begin = time.perf_counter()
        done = subprocess.run(command, cwd=out, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - begin
        if done.returncode:
            raise RuntimeError(f"exit {done.returncode}: {done.stderr[-700:] or done.stdout[-700:]}")
        named = re.search(r"device[^\n]*", done.stdout)
        made = sorted(file.suffix for file in Path(out).rglob("save/**/*") if file.suffix in (".mp4", ".glb", ".png"))
    kinds = ", ".join(f"{made.count(kind)} {kind[1:]}" for kind in dict.fromkeys(made))
    notes = [named[0]] if named else []
    return {"header": ["seconds", "files"], "rows": [[f"{seconds:.1f}", kinds]], "notes": notes}


def run_visit(known: str, device: torch.device, smoke: bool) -> Result:
    """A visit of 8 views with random weights, half precision on CUDA: where its time and memory go."""
    from pullback.evaluate.plan.measure import Run
    from pullback.evaluate.plan.networks import describe
    from pullback.evaluate.plan.report import PROMPT
    from pullback.host import config, parts
    from pullback.resources import TINY_MODEL

    parts.load_parts()
    torch.manual_seed(0)
    small = ["system.guidance.fit_steps=2", "data.batch_size=2"] if smoke else []
    file = "pullback-nerf-tiny.yaml" if smoke else "pullback-nerf.yaml"
    cfg = config.load_config(str(CONFIGS / file), cli_args=[PROMPT, *small])
    described = describe(str(TINY_MODEL), None, "x") if smoke else describe("", known, "x")
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    run = Run(cfg, described.model(device, dtype), described, device)
    seconds = {"render": 0.0, "encode": 0.0, "denoise": 0.0, "decode": 0.0, "fit": 0.0}
    for owner, name in ((run.field, "render"), (run.denoise, "encode"), (run.denoise, "decode")):
        setattr(owner, name, timed(seconds, name, getattr(owner, name), device))
    model = run.denoise.model
    model.predict_x0 = timed(seconds, "denoise", model.predict_x0, device)
    sampler = run.guidance.sampler(run.field, lambda generator: run.views, run.denoise, run.optimizer, 0)
    sampler.solver.solve = timed(seconds, "fit", sampler.solver.solve, device)
    state = sampler.visit(sampler.initial(), run.views)  # the first one also sets up memory and kernels
    reset_peak(device)
    visits = []
    for _ in range(2):
        seconds.update(dict.fromkeys(seconds, 0.0))
        begin = now(device)
        state = sampler.visit(state, run.views)
        visits.append({"visit": now(device) - begin, **seconds})
    middle = {name: statistics.median(v[name] for v in visits) for name in visits[0]}
    peak = peak_memory(device)
    sampler.solver.steps = 2  # the profile of a fit's many steps would be long
    kernels = launches(lambda: sampler.visit(state, run.views), device)
    networks = sum(middle[name] for name in ("encode", "denoise", "decode"))
    rows = [[name, f"{value:.3f}", f"{100 * value / middle['visit']:.0f} %"] for name, value in middle.items()]
    share = 100 * networks / middle["visit"]
    notes = [
        f"{run.count} views, {run.fit_steps} fit steps of {run.rays:,} rays; {share:.0f} % of the visit is in networks",
        f"peak memory: {peak}; {kernels:,} launches in a visit of two fit steps",
        f"parameters: UNet {millions(model.unet):.0f} M, autoencoder {millions(model.vae):.0f} M, in {dtype}",
    ]
    return {"header": ["part", "seconds", "share"], "rows": rows, "notes": notes}


def run_fit(device: torch.device, smoke: bool) -> Result:
    """Fit steps and renders of both geometries with each renderer."""
    from pullback.evaluate.plan.counting import count

    rows: list[list[Any]] = []
    trouble: list[str] = []
    for geometry in ("volume-grid", "implicit-volume"):
        base = None
        for backend in ("fused", "torch"):
            for side in (8, 16) if smoke else (64, 128, 256):
                rays = side**2  # an eighth of the rays of 8 views
                with reporting(trouble, f"{geometry}, {backend}, {rays:,} rays"):
                    fit, render = scene(geometry, backend, device, rays, side)
                    fit(1)  # the first one sets up memory and kernels
                    reset_peak(device)
                    # a fit's own work, before its steps and after them, is in both
                    one, more = partial(fit, 1), partial(fit, 3 if smoke else 11)
                    few, many = (median_seconds(work, device, 2 if smoke else 5) for work in (one, more))
                    took = max(many - few, 0.0) / (2 if smoke else 10)
                    peak, kernels = peak_memory(device), launches(partial(fit, 2), device) - launches(one, device)
                    waits = 0
                    for steps, sign in ((2, 1), (1, -1)):
                        with count() as cost:
                            fit(steps)
                        waits += sign * cost.synchronisations
                    base = base or took
                    shown = f"{median_seconds(render, device, 1):.3f}" if side in (8, 64) else ""
                    ratio = f"{took / base:.2f}" if base else ""
                    rows.append([geometry, backend, side, f"{rays:,}", f"{1000 * took:.2f}", ratio, kernels,
                                 waits, peak, shown])  # fmt: skip
    if not rows:
        raise RuntimeError("; ".join(trouble))
    header = ["geometry", "renderer", "px", "rays", "ms a step", "ratio", "launches", "waits", "peak", "s for 60 views"]
    notes = ["8 views, 64 samples a ray; the ratio is to the geometry's first line; 60 views at 128 px"]
    return {"header": header, "rows": rows, "notes": [*notes, *trouble]}


def scene(geometry: str, backend: str, device: torch.device, rays: int, size: int) -> tuple[Callable[..., Any], ...]:
    """A fit of 8 views in so many steps, and a render of 60 at 128 px (or as small as they are fitted).

    Args:
        geometry: The registered name.
        backend: Of the renderer.
        device: Of all tensors.
        rays: Of a step.
        size: Height and width of the fitted views.
    """
    from pullback.adapters.rendered_field import RenderedField
    from pullback.evaluate.plan.report import PROMPT
    from pullback.fitting import FirstOrder, Fit
    from pullback.host import config, parts, registry
    from pullback.host.data.cameras import RandomCameras
    from pullback.host.training.optimisers import parse_optimizer

    parts.load_parts()
    torch.manual_seed(0)
    files = {"volume-grid": "pullback-nerf-tiny.yaml", "implicit-volume": "pullback-nerf.yaml"}
    tiny, other = (
        config.load_config(str(CONFIGS / f), cli_args=[PROMPT]) for f in ("pullback-nerf-tiny.yaml", files[geometry])
    )
    blocks = config.config_to_primitive(tiny.system)
    blocks |= {key: config.config_to_primitive(other.system)[key] for key in ("geometry_type", "geometry")}
    blocks["renderer"] |= {"num_samples_per_ray": 64, "backend": backend}
    blocks["renderer"]["radius"] = blocks["geometry"]["radius"]
    if geometry == "implicit-volume" and backend == "torch":
        blocks["geometry"]["pos_encoding_config"]["backend"] = backend
    system: Any = registry.find(tiny.system_type)(blocks)
    if system.renderer.backend != backend:
        raise RuntimeError(f"there are no fused kernels for {geometry}; it is rendered by {system.renderer.backend}")
    system = system.to(device).train()
    optimizer = parse_optimizer(blocks["optimizer"], system, "system.optimizer")
    field: Any = RenderedField(system.renderer, system.geometry, [system.material, system.background], rays)
    kind = config.parse_structured
    small = size < 64

    def views(count: int, side: int) -> dict[str, Any]:
        block = {**config.config_to_primitive(tiny.data), "batch_size": count, "height": side, "width": side}
        drawn = RandomCameras(kind(registry.find(tiny.data_type).Config, block)).draw(0)
        return {key: v.to(device) if isinstance(v, torch.Tensor) else v for key, v in drawn.items()}

    fitted, shown = views(8, size), views(2 if small else 60, 16 if small else 128)
    fit = Fit(field, fitted, torch.zeros(8, 3, size, size, device=device), None, torch.Generator().manual_seed(0))

    def take(steps: int) -> None:
        FirstOrder(steps=steps, optimizer=optimizer).solve(fit)

    def render() -> None:
        with torch.no_grad():
            field.render(shown)

    return take, render


PARTS: dict[str, tuple[str, int, Callable[[torch.device, bool], Result]]] = {
    "tests": ("Tests marked `device`", 120, run_tests),
    "demo": ("`pullback demo`", 100, run_demo),
    "sd-1.5": ("A visit with a model of Stable Diffusion 1.5's size, random weights", 80, partial(run_visit, "sd-1.5")),
    "sdxl": ("The same with SDXL's size, 1024 px", 120, partial(run_visit, "sdxl")),
    "fit": ("Fit steps and renders", 90, run_fit),
}
"""Title, seconds at most and function of each part, in the order in which they run."""


@contextlib.contextmanager
def reporting(trouble: list[str], what: str) -> Iterator[None]:
    """Notes what cannot be measured, and goes on."""
    try:
        yield
    except Exception as error:
        text = str(error).strip() or type(error).__name__
        trouble.append(f"{what}: {type(error).__name__}: {text.splitlines()[0][:200]}")


def now(device: torch.device) -> float:
    """The time when all work so far is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def timed(seconds: dict[str, float], name: str, work: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """`work`, whose seconds are added up under `name`; what `fit` calls counts for the fit."""

    def run(*args: Any, **kwargs: Any) -> Any:
        begin = now(device)
        try:
            return work(*args, **kwargs)
        finally:
            seconds[name] += now(device) - begin

    return run


def median_seconds(work: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Median of the seconds of `work`, after one more time that is not counted."""
    work()
    taken = []
    for _ in range(repeats):
        begin = now(device)
        work()
        taken.append(now(device) - begin)
    return statistics.median(taken)


def reset_peak(device: torch.device) -> None:
    """Begins a new peak of memory."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> str:
    """The most memory of tensors since `reset_peak`."""
    if device.type != "cuda":
        return "not measured on a CPU"
    return f"{torch.cuda.max_memory_allocated(device) / 2**30:.2f} GiB"


def launches(work: Callable[[], Any], device: torch.device) -> int:
    """Kernels that `work` launches, by PyTorch's profiler; operators on a CPU."""
    from torch.profiler import ProfilerActivity, profile

    kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
    with profile(activities=kinds) as profiled:
        work()
        now(device)
    names = ("cudaLaunchKernel", "cuLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernelEx")
    wanted = names if device.type == "cuda" else None
    return sum(event.count for event in profiled.key_averages() if wanted is None or event.key in wanted)


def millions(module: Any) -> float:
    """Millions of parameters."""
    return sum(p.numel() for p in module.parameters()) / 1e6


def machine(device: torch.device) -> list[str]:
    """Device and versions, a line each."""
    lines = [
        f"{describe_version()}, {datetime.date.today()}",
        f"Python {platform.python_version()}, {platform.machine()}",
    ]
    lines.append(f"PyTorch {torch.__version__}, CUDA {torch.version.cuda}")
    with contextlib.suppress(ImportError):
        import warp

        lines.append(f"Warp {warp.__version__}")
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        lines.append(f"{card.name}, {card.total_memory / 2**30:.0f} GiB, {card.multi_processor_count} multiprocessors")
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
            told = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20).stdout
            lines.append(f"driver {told.splitlines()[0]}")
    return lines


def page(machine: list[str], results: dict[str, Result], seconds: dict[str, float], smoke: bool) -> str:
    """The report.

    Args:
        machine: Lines on the device and versions.
        results: By part; `error` in place of a table where it failed.
        seconds: That each part took.
        smoke: Whether sizes were small.
    """
    head = "# On a GPU\n\nMade by `python benchmarks/gpu.py`. "
    head += "**At small sizes, for a test of the program: the figures mean nothing.**" if smoke else ""
    blocks = [head.strip(), "\n".join(f"- {line}" for line in machine)]
    for name, result in results.items():
        title, _, work = PARTS[name]
        what = getattr(work, "func", work).__doc__ or ""
        blocks.append(f"## {title}\n\n{what.strip()} ({seconds[name]:.0f} s)")
        if "error" in result:
            blocks.append(f"**Failed**: {result['error']}")
            continue
        blocks.append(table(result["header"], result["rows"]).strip())
        if result["notes"]:
            blocks.append("\n".join(f"- {note}" for note in result["notes"]))
    return "\n\n".join(blocks) + "\n"


def in_a_process(name: str, device: torch.device, smoke: bool, limit: float) -> Result:
    """A part's result, or `error` where it fails or takes longer than `limit` seconds."""
    command = [sys.executable, __file__, "--part", name, "--device", str(device), *(["--smoke"] if smoke else [])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit)
    except subprocess.TimeoutExpired:
        return {"error": f"took longer than {limit:.0f} s"}
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        return {"error": lines[-1][:1000] if lines else f"exit {done.returncode}"}
    return json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    """Runs all parts and writes the page; returns 2 where there is no such device, 1 where a part failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, …; with --smoke also cpu")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "gpu.md")
    parser.add_argument("--only", help=f"parts, commas between: {', '.join(PARTS)}")
    parser.add_argument("--smoke", action="store_true", help="the same code at small sizes")
    parser.add_argument("--part", choices=list(PARTS), help="one part in this process, as JSON")
    args = parser.parse_args()
    try:
        device = torch.device(args.device)
    except RuntimeError:
        parser.error(f"--device {args.device} is no device")
    names = args.only.split(",") if args.only else list(PARTS)
    if unknown := [name for name in names if name not in PARTS]:
        parser.error(f"--only {unknown[0]} is no part; use {', '.join(PARTS)}")
    if device.type == "cuda" and not torch.cuda.is_available():
        print("error: no CUDA device is here, or this PyTorch cannot use it; see docs/running.md", file=sys.stderr)
        return 2
    if device.type != "cuda" and not args.smoke:
        parser.error("--device cpu is for --smoke alone; benchmarks/fit.py and visit.py measure on a CPU")
    if args.part:
        print(json.dumps(PARTS[args.part][2](device, args.smoke)))
        return 0
    results: dict[str, Result] = {}
    seconds: dict[str, float] = {}
    begin = time.perf_counter()
    for name in names:
        start = time.perf_counter()
        limit = min(PARTS[name][1], max(1.0, TOTAL - (start - begin)))
        results[name] = in_a_process(name, device, args.smoke, limit)
        seconds[name] = time.perf_counter() - start
        print(f"{name}: {results[name].get('error', 'done')} ({seconds[name]:.0f} s)", flush=True)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(page(machine(device), results, seconds, args.smoke), encoding="utf-8")
    print(f"The results are in {args.out}")
    return int(any("error" in result for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
