"""Where the time of a level visit goes, and what fitting in latent space costs against image space.

    python benchmarks/visit.py                  # the shipped model
    python benchmarks/visit.py --model FOLDER   # another one

Visits of configs/pullback-nerf-tiny.yaml, by turns in image and in latent space: rendering, encoding, denoiser,
decoding and steps of the fit. Seconds are min/median/max over --repeats visits of each; shares are of medians, with the
config's number of fit steps. A latent step renders whole pictures and goes backward through the encoder, so that only
--latent-steps of them are run and their mean stands for the rest.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from compare import by_turns, ratio, spread
from pullback.output.markdown import print_table

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs" / "pullback-nerf-tiny.yaml"
PHASES = ("render", "encode", "denoiser", "decode", "fit step", "other")


class Clock:
    """Seconds by phase; what runs inside a phase counts for that phase alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._open: list[tuple[str, float]] = []

    def during(self, phase: str, work: Callable[..., Any], within: str | None = None) -> Callable[..., Any]:
        """`work`, timed as `phase`: outside all phases, or inside the phase `within`, which it interrupts."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            outer = self._open[-1][0] if self._open else None
            if outer != within:
                return work(*args, **kwargs)
            begin = time.perf_counter()
            self._open.append((phase, begin))
            try:
                return work(*args, **kwargs)
            finally:
                self._open.pop()
                passed = time.perf_counter() - begin
                self.seconds[phase] += passed
                if outer is not None:
                    self.seconds[outer] -= passed

        return timed


def build(model: Path, space: str, fit_steps: int) -> tuple[Any, Any, Clock]:
    """The sampler of `pullback-nerf-tiny.yaml`, its state before the first visit, and the clock its parts report to."""
    import torch
    from pullback.adapters.rendered_field import RenderedField
    from pullback.host import config, parts, registry
    from pullback.host.data.cameras import RandomCameras
    from pullback.host.training.optimisers import parse_optimizer

    overrides = [
        "system.prompt_processor.prompt=a cube with a red front and a blue back",
        f"system.prompt_processor.pretrained_model_name_or_path={model}",
        f"system.guidance.fit_space={space}", f"system.guidance.fit_steps={fit_steps}",
    ]  # fmt: skip
    parts.load_parts()
    cfg = config.load_config(str(CONFIG), cli_args=overrides)
    torch.manual_seed(0)
    system: Any = registry.find(cfg.system_type)(cfg.system)
    guidance = registry.find(system.cfg.guidance_type)(system.cfg.guidance)
    prompts = registry.find(system.cfg.prompt_processor_type)(system.cfg.prompt_processor)()
    cameras = RandomCameras(config.parse_structured(registry.find(cfg.data_type).Config, cfg.data))
    batches = iter(cameras.draw(k) for k in range(10**6))

    clock = Clock()
    surroundings = [system.material, system.background]
    field: Any = RenderedField(system.renderer, system.geometry, surroundings, guidance.cfg.fit_rays)
    denoise = guidance.denoiser(prompts)
    predict = denoise.denoise.model.predict_x0
    field.render = clock.during("render", field.render)
    denoise.encode = clock.during("encode", denoise.encode)
    denoise.denoise.model.predict_x0 = clock.during("denoiser", predict)
    denoise.decode = clock.during("decode", denoise.decode)
    optimizer = parse_optimizer(config.config_to_primitive(cfg.system.optimizer), system, "system.optimizer")
    sampler = guidance.sampler(field, lambda generator: next(batches), denoise, optimizer, seed=0)
    sampler.solver.solve = clock.during("fit step", sampler.solver.solve)
    return sampler, sampler.initial(), clock


def main() -> None:
    """Measures visits in both spaces, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = ROOT / "custom" / "threestudio-pullback" / "assets" / "tiny-sd"
    parser.add_argument("--model", type=Path, default=default, help="a diffusers folder (default: the shipped model)")
    parser.add_argument("--repeats", type=int, default=3, help="visits in each space (default 3)")
    parser.add_argument("--latent-steps", type=int, default=2, help="fit steps of a visit in latent space (default 2)")
    args = parser.parse_args()
    if min(args.repeats, args.latent_steps) < 1:
        parser.error("--repeats and --latent-steps must be at least 1")

    from pullback.errors import UserError
    from pullback.host.config import load_config
    from pullback.host.training.memory import keep_freed_memory

    keep_freed_memory()
    planned = int(load_config(str(CONFIG), cli_args=["system.prompt_processor.prompt=x"]).system.guidance.fit_steps)
    steps = {"image": planned, "latent": min(args.latent_steps, planned)}
    try:
        samplers = {space: build(args.model.resolve(), space, steps[space]) for space in steps}
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    states = {space: state for space, (_, state, _) in samplers.items()}

    def visit(space: str) -> dict[str, float]:
        sampler, _, clock = samplers[space]
        clock.seconds.clear()
        begin = time.perf_counter()
        states[space] = sampler.visit(states[space])
        passed = dict.fromkeys(PHASES, 0.0) | clock.seconds
        passed["other"] = time.perf_counter() - begin - sum(passed.values())
        passed["fit step"] /= steps[space]
        return passed

    for space in samplers:
        visit(space)  # the first one also sets memory up
    results = by_turns({space: partial(visit, space) for space in samplers}, args.repeats)

    weight = dict.fromkeys(PHASES, 1) | {"fit step": planned}
    median = {s: {p: weight[p] * statistics.median(r[p] for r in runs) for p in PHASES} for s, runs in results.items()}
    totals = {space: sum(phases.values()) for space, phases in median.items()}
    rows = []
    for phase in PHASES:
        image, latent = ([run[phase] for run in results[space]] for space in ("image", "latent"))
        shares = [f"{100 * median[space][phase] / totals[space]:.0f} %" for space in ("image", "latent")]
        rows.append([phase, spread(image), shares[0], spread(latent), shares[1], ratio(latent, image)])
    seconds = [f"{totals['image']:.3g}", "100 %", f"{totals['latent']:.3g}", "100 %"]
    rows.append([f"visit of {planned} fit steps", *seconds, f"{totals['latent'] / totals['image']:.2f}"])
    header = ["phase", "image s", "share", "latent s", "share", "latent / image"]
    print_table(header, rows)


if __name__ == "__main__":
    main()
