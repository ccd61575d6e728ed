"""`pullback plan`: what a run costs, how long a card takes, and which overrides make it fit."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ...host import config, parts
from ...models.memory import SIZES, VIEWS, fitting
from ...output.markdown import table
from .bill import EMBED, Bill, Phase
from .cards import CARDS, LAUNCH, RESERVED, SHARE
from .measure import check_samples, measure
from .networks import describe

NETWORKS = ("encode", "denoise", "decode")
MODEL = "pretrained_model_name_or_path"
PROMPT = "system.prompt_processor.prompt=an object"
GIB = 2**30

Measure = Callable[[Sequence[str], Sequence[str] | None], Bill]
"""(overrides, names of phases or None for all) -> the cost with them."""


def plan(args: argparse.Namespace) -> str:
    """The plan of a command line, as text.

    Args:
        args: `config`, `overrides`, `imports`, `model_config`, `card` and `tflops` of `pullback plan`.

    Raises:
        UserError: An argument, the config or the model's folder is wrong.
    """
    parts.load_parts(args.imports)

    def parse(overrides: Sequence[str]) -> tuple[Any, dict[str, Any]]:
        cfg = config.load_config(str(args.config), cli_args=[PROMPT, *args.overrides, *overrides])
        check_samples(cfg)
        return cfg, config.check_parts(config.ExperimentConfig, cfg)["system"]

    _, system = parse(())
    options = system["guidance"]
    where = f"system.guidance.{MODEL}"
    described = describe(str(options[MODEL]), args.model_config, where, options["vae"], options["single_file_config"])

    def cost(overrides: Sequence[str], only: Sequence[str] | None) -> Bill:
        changed, system = parse(overrides)
        return measure(changed, described, bool(system["guidance"]["half_precision_weights"]), only)

    bill = cost((), None)
    ways = list(cheaper(bill, options, cost))
    title = f"{args.config} with {described.title}, in {'half' if bill.half else 'single'} precision on a GPU"
    return "\n\n".join(
        [title, _costs(bill), _times(bill, args.card, args.tflops), _memory(bill, ways, options["views_per_call"])]
    )


def seconds(phase: Phase, card: str, tflops: float | None = None) -> float:
    """Seconds of one time of a phase: the longest of its sums, its traffic and its launches.

    Args:
        phase: The phase.
        card: A key of `CARDS`; its networks are assumed to reach `SHARE` of its rate.
        tflops: TFLOP/s that the networks reach, in place of that share.
    """
    figures = CARDS[card]
    rate = tflops or SHARE * (figures.half if phase.half else figures.single)
    return max(phase.flops / (rate * 1e12), phase.traffic / (figures.bandwidth * 1e9), phase.launches * LAUNCH)


def cheaper(bill: Bill, options: dict[str, Any], cost: Measure) -> Iterator[tuple[list[str], Bill]]:
    """Overrides that lower the peak one after the other, each list with its cost.

    Each step changes what the largest phase depends on, and keeps what was changed before.
    """
    chosen: dict[str, Any] = {}
    state = {**options}
    while True:
        if not state["half_precision_weights"]:
            change, only = {"half_precision_weights": True}, None
        elif bill.largest in NETWORKS and state["views_per_call"] > 1:
            views = min(state["views_per_call"], bill.views)
            change, only = {"views_per_call": max(1, views // 2)}, NETWORKS
        elif bill.largest == "fit step" and state["fit_rays"] > 512 and bill.samples_rays:
            change, only = {"fit_rays": state["fit_rays"] // 2}, ("fit step",)
        else:
            break
        state |= change
        chosen |= change
        overrides = [f"system.guidance.{key}={str(value).lower()}" for key, value in chosen.items()]
        new = cost(overrides, only)
        before, bill = bill, dataclasses.replace(new, phases={**bill.phases, **new.phases})
        if bill.peak < before.peak:
            yield overrides, bill
        elif bill.phases[before.largest].activations >= before.phases[before.largest].activations:
            break
    if not state["enable_sequential_cpu_offload"]:
        overrides = [f"system.guidance.{key}={str(value).lower()}" for key, value in chosen.items()]
        lighter = dataclasses.replace(bill, weights=bill.weights - bill.held, held=0)
        yield [*overrides, "system.guidance.enable_sequential_cpu_offload=true"], lighter


def _costs(bill: Bill) -> str:
    millions = ", ".join(
        f"{name} {count / 1e6:,.{'4g' if count < 1e10 else '0f'}} M" for name, count in bill.parameters.items()
    )
    rows = [
        [name, f"{p.times:g}", _digits(p.flops / 1e12), _digits(p.traffic / 1e9), f"{p.launches:,.0f}",
         f"{p.synchronisations:,.0f}", _digits(p.activations / GIB)]
        for name, p in bill.phases.items()
    ]  # fmt: skip
    header = ["part", "times", "TFLOP each", "GB moved", "launches", "waits", "GiB at its peak"]
    return (
        f"parameters: {millions}\n"
        f"run: {bill.visits} visits of {bill.views} views, {bill.calls:,} network evaluations, "
        f"{bill.flops / 1e15:.3g} PFLOP; pictures during and after it are not counted\n\n{table(header, rows)}"
    )


def _times(bill: Bill, card: str, tflops: float | None) -> str:
    each = {name: phase.times * seconds(phase, card, tflops) for name, phase in bill.phases.items()}
    shares = ", ".join(f"{name} {_duration(value)}" for name, value in each.items())
    assumed = f"{tflops:g} TFLOP/s" if tflops else f"{100 * SHARE:.0f} % of its rate"
    return f"time on {card} at least, where products reach {assumed}: {_duration(sum(each.values()))} ({shares})"


def _preset(bill: Bill, size: int, views: int) -> str:
    """What a preset of memory makes of a run in half precision, whose networks take so many views a call.

    Their activations are taken as proportional to the views, and tiles of the autoencoder as no smaller.
    """
    if not bill.half:
        return ""
    share = min(1.0, VIEWS[size] / min(views, bill.views))
    kept = fitting(size, bill.whole, 2 * bill.text, bill.quantised)
    here = {name: p.activations for name, p in bill.phases.items() if name != EMBED or not kept.text_on_cpu}
    largest = max(value * (share if name in NETWORKS else 1) for name, value in here.items())
    peak = bill.weights - bill.held + kept.weights(bill.whole) + bill.field + largest
    how = "on the CPU" if kept.offload else "in float8" if kept.casting else "whole"
    text = ", text encoders on the CPU" if kept.text_on_cpu else ""
    return f"; system.guidance.memory={size}: about {peak / GIB:.1f} GiB, the network {how}{text}"


def _memory(bill: Bill, ways: list[tuple[list[str], Bill]], views: int) -> str:
    parts = f"networks {bill.weights / GIB:.2f}, field {bill.field / GIB:.2f}, {bill.largest} "
    parts += f"{bill.phases[bill.largest].activations / GIB:.2f}"
    lines = [f"peak memory: {bill.peak / GIB:.2f} GiB ({parts}), and about {RESERVED} for CUDA itself"]
    for size in SIZES:
        room = (size - RESERVED) * GIB
        found = next((f"fits with {' '.join(o)}" for o, b in ways if b.peak <= room), "does not fit")
        best = min([bill, *(b for _, b in ways)], key=lambda b: b.peak)
        if found == "does not fit":
            found += f": the least found is {best.peak / GIB:.1f} GiB"
        lines.append(f"{size:4d} GB: {'fits' if bill.peak <= room else found}{_preset(bill, size, views)}")
    return "\n".join(lines)


def _digits(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def _duration(value: float) -> str:
    if value < 100:
        return f"{value:.2g} s"
    return f"{value / 60:.0f} min" if value < 100 * 60 else f"{value / 3600:.1f} h"
