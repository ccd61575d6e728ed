"""The rasteriser against plain PyTorch that tries every triangle at every pixel.

    python benchmarks/rasterise.py

A ball of 20,000 triangles, seen by a pinhole, fills most of 512 × 512 pixels. Forward: what each pixel shows, three
attributes of the corners, and smooth silhouettes; backward: gradients of positions and attributes. Milliseconds are
min/median/max. PyTorch takes a minute or more, so it runs once, after the kernels. OMP_NUM_THREADS sets the number of
threads.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compare import spread
from pullback.output.markdown import print_table

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))  # where the reference is


def main() -> None:
    """Measures both, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=25, help="runs of the kernels (default 25)")
    parser.add_argument("--size", type=int, default=512, help="pixels a side (default 512)")
    parser.add_argument("--rings", type=int, default=71, help="of the ball, of 4 rings² triangles (default 71)")
    args = parser.parse_args()

    import brute_force  # pyright: ignore[reportMissingImports]
    import torch
    from meshes import ball, seen  # pyright: ignore[reportMissingImports]
    from pullback.host.training.memory import keep_freed_memory
    from pullback.render.rasterise import antialias, interpolate, opposite, rasterise

    keep_freed_memory()  # as every run does
    size = args.size
    points, tri = ball(args.rings)
    pos, attr = seen(points, focal=2.6).requires_grad_(), points.clone().requires_grad_()
    weights = torch.randn(size, size, 3, generator=torch.Generator().manual_seed(0))
    double = [x.detach().double().requires_grad_() for x in (pos, attr)]  # single precision leaves cracks
    clock: dict[str, list[float]] = {}

    def timed(what: str, work: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        result = work()
        clock.setdefault(what, []).append(1e3 * (time.perf_counter() - begin))
        return result

    def fused() -> tuple[torch.Tensor, ...]:
        rast, _ = timed("rasterise", lambda: rasterise(pos[None], tri, (size, size)))
        values, _ = timed("interpolate", lambda: interpolate(attr, rast, tri))
        others = timed("edges of the mesh", lambda: opposite(tri))
        picture = timed("smooth", lambda: antialias(values, rast, pos[None], tri, others))[0]
        loss = (picture * weights).sum()
        return picture, *timed("backward", lambda: torch.autograd.grad(loss, (pos, attr)))

    def plain() -> tuple[torch.Tensor, ...]:
        number, *_ = timed("rasterise, PyTorch", lambda: brute_force.visible(double[0], tri, size, size))
        others = brute_force.opposite(tri)

        def rest() -> tuple[torch.Tensor, ...]:
            rast, _ = brute_force.coordinates(double[0], tri, number, size, size)
            values = brute_force.blend(double[1], rast, tri).view(size, size, 3)
            picture = brute_force.smooth(values, rast.view(size, size, 4), double[0], tri, others)
            return picture, *torch.autograd.grad((picture * weights).sum(), double)

        return timed("all else, PyTorch", rest)

    results = [fused() for _ in range(args.repeats + 1)]  # the first one also sets memory up
    ours = [float(sum(each)) for each in zip(*clock.values(), strict=True)][1:]
    rows = [[what, spread(times[1:])] for what, times in clock.items()]
    clock.clear()
    theirs = plain()
    whole = sum(times[0] for times in clock.values())
    rows += [["forward and backward", spread(ours)]]
    rows += [[what, f"{times[0]:.0f}"] for what, times in clock.items()] + [["both, PyTorch", f"{whole:.0f}"]]
    seen_part = float((results[0][0].detach().abs().sum(-1) > 0).float().mean())
    print(f"{len(tri)} triangles, {size} × {size} pixels, {100 * seen_part:.0f} % of which show one, ", end="")
    print(f"{torch.get_num_threads()} threads")
    print_table(["what", "ms"], rows)
    print(f"{whole / statistics.median(ours):.0f} times faster")
    for name, a, b in zip(("picture", "gradient of positions", "of attributes"), results[0], theirs, strict=True):
        print(f"{name}: differs by {float((a - b).detach().norm() / b.detach().norm()):.1e} of its norm")


if __name__ == "__main__":
    main()
