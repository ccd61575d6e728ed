"""Known-answer worlds seen through other representations and views, for ablation.py; added to known.WORLDS.

    mixture      points of the plane                          one view    8 Gaussians, weights 1 … 8
    line         a line in the plane, off one of two modes    one view    the law restricted to the line, closed form
    gauss-*      θ ↦ Aθ, A square or tall                     one view    closed form
    picture-*    16 scenes from one camera                    one view    1/16 each
    *-voxel-*    16 scenes, a voxel grid                      8 views     1/16 each
    *-hash-*     16 scenes, a hash grid and a small network   8 views     1/16 each

-fixed: the same 8 cameras all along; -fresh: 8 of 32 at every visit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from pullback.diffreps import Linear, Pixels, SirenImage, VoxelField
from pullback.evaluate import exact_worlds
from pullback.evaluate.exact_worlds import scenes, statistics
from pullback.evaluate.exact_worlds.gauss import LinearBatch
from pullback.evaluate.exact_worlds.rings import PlaneWorld
from pullback.evaluate.exact_worlds.sceneworld import SceneWorld
from pullback.host.scene.encoders import HashGrid
from torch import Tensor, nn

EXACT = {"solver": "gauss-newton", "iterations": 1, "cg": 1, "damping": 0.0}
"""One iteration fits a representation whose columns are orthonormal."""


class HashField(nn.Module):
    """Density and RGB by a hash grid of 6, 12 and 24 cells a side and a network, rendered as VoxelField is.

    Levels of more than 4096 vertices are hashed. Starts as a faint grey fog; the weights are the same every time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.frame = VoxelField(2, samples=24).requires_grad_(False)  # of which only rays and compositing are used
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.grid = HashGrid(3, n_levels=3, n_features_per_level=4, log2_hashmap_size=12, base_resolution=6)
            self.head = nn.Sequential(nn.Linear(self.grid.n_output_dims, 16), nn.ReLU(), nn.Linear(16, 4))
        with torch.no_grad():
            self.head[-1].get_parameter("bias").copy_(torch.tensor([-2.0, 0.0, 0.0, 0.0]))

    def render(self, views: Tensor) -> Tensor:
        """[V,3,24,24] in [−1, 1] for poses [V,4,4]."""
        points, pieces = self.frame._points(views)
        raw = self.head(self.grid((points.reshape(-1, 3) + 1) / 2))
        return self.frame._composite(raw.view(*points.shape[:-1], 4), pieces)


class Variant(SceneWorld):
    """The scenes of another world with another representation.

    Args:
        name: As on the command line.
        base: The other world.
        make: Makes the representation; None for the other world's.
        views: Fixed poses [V,4,4]; a single one is also the pose that is judged. None for 8 of the 32 cameras at every
            visit.
        defaults: Options of `pullback` whose values in this world differ from the usual ones.
    """

    def __init__(
        self, name: str, base: str, make: Callable[[], nn.Module] | None, views: Tensor | None, **defaults: Any
    ):
        self.base = cast(SceneWorld, exact_worlds.world(base))
        super().__init__(name, self.base.labels, self.base.weights.tolist())
        self.make, self.defaults = make or self.base.diffrep, defaults
        if views is not None:
            self.views = views  # pyright: ignore
            if len(views) == 1:
                self.held_out = views

    def diffrep(self) -> Any:
        """A new representation in its start state."""
        return self.make()

    def images(self, views: Tensor) -> Tensor:
        """Every scene's exact image, as the other world has it."""
        return self.base.images(views)

    def prepare(self) -> None:
        """Renders what the other world renders once in a process."""
        self.base.prepare()

    def picture(self, diffrep: Any) -> None:
        """None: the tables are what counts."""


class LineWorld(PlaneWorld):
    """Two modes of width 0.3, at (−1, 0) and (1, 0.5), and f(θ) = (θ, 0), which misses the second.

    Restricted to the line both stay Gaussians of width 0.3, the second one weighted down by exp(−0.5²/(2·0.3²)).
    """

    def __init__(self) -> None:
        width, miss = 0.3, 0.5
        means, equal = torch.tensor([[-1.0, 0.0], [1.0, miss]]), torch.tensor([0.5, 0.5])
        super().__init__("line", means, equal, torch.arange(2), width)
        self.odds = math.exp(-(miss**2) / (2 * width**2))

    def diffrep(self) -> LinearBatch:  # pyright: ignore
        """All samples' parameters, at 0."""
        return LinearBatch(torch.tensor([[1.0], [0.0]]), self.samples)

    def judge(self, diffrep: Any) -> dict[str, Any]:
        """How many samples are on the left and on the right of 0."""
        left = int((diffrep.theta < 0).sum())
        return {"counts": [left, self.samples - left]}

    def picture(self, diffrep: Any) -> None:
        """None: the share says it all."""

    def verdict(self, row: dict[str, Any]) -> str:
        """The share of the mode on the line."""
        return f"{row['counts'][0] / self.samples:.3f} in the mode on the line"

    def measures(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """The shares, and their total variation from the exact ones; the overlap at 0 (0.1 %) is neglected."""
        counts = torch.tensor([row["counts"] for row in rows]).sum(0)
        exact = torch.tensor([1.0, self.odds]) / (1 + self.odds)
        share = float(counts[0] / counts.sum())
        return {
            "samples": int(counts.sum()), "modes TV": statistics.total_variation(counts, exact), "share": share,
            "share, exact": float(exact[0]),
        }  # fmt: skip


def _siren() -> SirenImage:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return SirenImage(3, 24, 24, hidden=32, layers=2)


def _span() -> Linear:
    """An orthonormal basis of the span of the 16 scenes' pictures [3,24,24,n]."""
    images = cast(SceneWorld, exact_worlds.world("shapes")).images(CAMERA)[:, 0]
    _, values, directions = torch.linalg.svd(images.flatten(1), full_matrices=False)
    return Linear(directions[values > 1e-4 * values[0]].T.reshape(*images.shape[1:], -1))


CAMERA, EIGHT = scenes.cameras()[5:6], scenes.cameras()[::4]

exact_worlds.WORLDS.update({
    "line": LineWorld,
    "picture-pixels": lambda: Variant("picture-pixels", "shapes", lambda: Pixels(3, 24, 24), CAMERA, **EXACT),
    "picture-linear": lambda: Variant("picture-linear", "shapes", _span, CAMERA, **EXACT),
    "picture-siren": lambda: Variant("picture-siren", "shapes", _siren, CAMERA, lr=0.003, steps=20),
})  # fmt: skip
for _base in ("shapes", "two-tone"):
    for _kind, _views in (("fixed", EIGHT), ("fresh", None)):
        exact_worlds.WORLDS[f"{_base}-voxel-{_kind}"] = partial(Variant, f"{_base}-voxel-{_kind}", _base, None, _views)
        exact_worlds.WORLDS[f"{_base}-hash-{_kind}"] = partial(
            Variant, f"{_base}-hash-{_kind}", _base, HashField, _views, lr=0.02, steps=5
        )
