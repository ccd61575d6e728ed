"""nerfacc's functions in PyTorch against loops and dense evaluation, and its estimators on top of them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import nerfacc
import pytest
import torch
from nerfacc.data_specs import RayIntervals
from pullback.cuda_standins import grids, install, segments


@pytest.fixture
def on_cpu() -> Iterator[None]:
    """nerfacc with its functions replaced, and as it was afterwards."""
    names = [name for names in install.NERFACC.values() for name in names]
    before = {name: getattr(nerfacc, name) for name in names}
    install.stand_in_nerfacc()
    yield
    for name in names:
        install.replace(getattr(nerfacc, name), before[name], "nerfacc")


def rays(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Origins around the box [-1, 1]³ and inside it; directions towards it, past it and away from it."""
    origins = torch.randn(n, 3) * 1.5
    return origins, torch.nn.functional.normalize(torch.randn(n, 3) - origins * torch.rand(n, 1), dim=-1)


BOXES = torch.tensor([[-1.0, -1, -1, 1, 1, 1], [-2, -2, -2, 2, 2, 2]])


def brute_force(o: Any, d: Any, cells: Any, near: float, far: float, step: float, most: int) -> list[int]:
    """k of the intervals near + [k, k+1]·step of one ray whose middles are before far and in an occupied cell."""
    places = []
    for k in range(int(8 / step)):
        t = near + (k + 0.5) * step
        point = o + t * d
        for grid, box in zip(cells, BOXES[: len(cells)], strict=True):
            if bool((point >= box[:3]).all()) and bool((point < box[3:]).all()):
                place = ((point - box[:3]) / (box[3:] - box[:3]) * torch.tensor(grid.shape)).long()
                if t < far and len(places) < most and grid[tuple(place)]:
                    places.append(k)
                break
    return places


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("limit", [None, 4])
@pytest.mark.parametrize("filled", [0.0, 0.3, 1.0])
def test_the_march_is_that_of_a_loop(levels: int, limit: int | None, filled: float) -> None:
    torch.manual_seed(0)
    (o, d), step = rays(40), 0.11
    cells = torch.rand(levels, 4, 5, 6) < filled
    near, far = torch.rand(40) * 0.4, 1.0 + torch.rand(40) * 4
    out = grids.traverse_grids(o, d, cells, BOXES[:levels], near, far, step, traverse_steps_limit=limit)
    intervals, samples = out[:2]
    left, right = intervals.vals[intervals.is_left], intervals.vals[intervals.is_right]
    for ray in range(40):
        expected = brute_force(o[ray], d[ray], cells, float(near[ray]), float(far[ray]), step, limit or 10**9)
        mine = samples.ray_indices == ray
        start = near[ray] + torch.tensor(expected) * step
        assert torch.allclose(left[mine], start, atol=1e-4) and torch.allclose(right[mine], start + step, atol=1e-4)
        first, count = samples.packed_info[ray].tolist()
        assert count == len(expected) and bool(mine[first : first + count].all())
        first, count = intervals.packed_info[ray].tolist()
        gaps = sum(b - a > 1 for a, b in pairwise(expected))
        assert count == (len(expected) + 1 + gaps if expected else 0)
        assert bool((intervals.ray_indices[first : first + count] == ray).all())
    assert torch.allclose(samples.vals, (left + right) / 2)


def test_a_march_says_where_it_ended_and_skips_masked_rays() -> None:
    o, d = torch.tensor([[-3.0, 0.1, 0.1]] * 3), torch.tensor([[1.0, 0, 0]] * 3)
    cells, mask = torch.ones(1, 2, 2, 2, dtype=torch.bool), torch.tensor([True, True, False])
    far = torch.tensor([9.0, 3.0, 9.0])
    _, samples, ends = grids.traverse_grids(o, d, cells, BOXES[:1], far_planes=far, step_size=0.5, rays_mask=mask)
    assert samples.packed_info[:, 1].tolist() == [4, 2, 0]  # the box is 2 long, and half of it before the far plane
    assert torch.allclose(ends[:2], torch.tensor([4.0, 3.0]))
    _, samples, ends = grids.traverse_grids(o, d, cells, BOXES[:1], step_size=0.5, traverse_steps_limit=3)
    assert samples.packed_info[:, 1].tolist() == [3] * 3 and torch.allclose(ends, torch.tensor(3.5))


@pytest.mark.usefixtures("on_cpu")
def test_the_occupancy_grid_fills_and_skips_the_empty_half() -> None:
    torch.manual_seed(0)
    estimator = nerfacc.OccGridEstimator(BOXES[0], resolution=8)
    o, d = torch.tensor([[-3.0, 0.3, 0.1], [-3.0, 9, 9]]), torch.tensor([[1.0, 0, 0]] * 2)
    assert len(estimator.sampling(o, d, render_step_size=0.01)[0]) == 0
    estimator.train()
    estimator.update_every_n_steps(0, lambda x: (x[:, :1] > 0).float())
    ray, starts, ends = estimator.sampling(o, d, render_step_size=0.01, stratified=True)
    assert bool((ray == 0).all()) and abs(float((ends - starts).sum()) - 1) < 0.02
    assert float(starts.min()) > 2.98 and float(ends.max()) < 4.02
    # light that comes through 0.2 of density 50 is e^-10 of it, below the 1e-4 at which a march may stop
    _, starts, _ = estimator.sampling(o, d, render_step_size=0.01, sigma_fn=lambda s, e, r: torch.full_like(s, 50.0))
    assert 0.15 < float(starts.max()) - 3 < 0.2


COUNTS = [3, 0, 5, 1, 4]


def packed(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The first COUNTS[r] values of each row of [R, S], one after the other, and their rows."""
    there = torch.arange(values.shape[1]) < torch.tensor(COUNTS)[:, None]
    return values[there], there.nonzero()[:, 0]


def test_packing_counts_the_samples_of_every_ray() -> None:
    _, ray = packed(torch.zeros(5, 5))
    assert segments.pack_info(ray, 6).tolist() == [[0, 3], [3, 0], [3, 5], [8, 1], [9, 4], [13, 0]]
    assert segments.pack_info(ray).shape == (5, 2)
    assert segments.pack_info(ray[:0], 2).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("name", ["inclusive_sum", "exclusive_sum", "inclusive_prod", "exclusive_prod"])
def test_scans_are_those_of_each_ray_alone_and_twice_differentiable(name: str) -> None:
    torch.manual_seed(0)
    values = torch.rand(5, 5, dtype=torch.float64)
    flat, ray = packed(values)
    info, scan = segments.pack_info(ray, 5), getattr(segments, name)
    loop = torch.cumsum if name.endswith("sum") else torch.cumprod
    for (first, count), row in zip(info.tolist(), values, strict=True):
        expected = loop(row[:count], 0)
        if name.startswith("exclusive") and count:
            expected = torch.cat([torch.tensor([0.0 if name.endswith("sum") else 1.0]), expected[:-1]])
        assert torch.allclose(scan(flat, info)[first : first + count], expected)
    flat.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: scan(x, info), flat)
    assert torch.autograd.gradgradcheck(lambda x: scan(x, info), flat)
    assert len(scan(flat[:0], info[:0])) == 0


def test_an_infinite_sample_stays_on_its_ray() -> None:
    flat, ray = packed(torch.ones(5, 5))
    flat[0] = torch.inf
    total = segments.inclusive_sum(flat, segments.pack_info(ray, 5))
    assert bool(total[:3].isinf().all()) and bool(total[3:].isfinite().all())


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("kind", ["density", "alpha"])
def test_rendering_packed_rays_is_rendering_dense_ones_with_empty_ends(kind: str) -> None:
    torch.manual_seed(0)
    there = torch.arange(5) < torch.tensor(COUNTS)[:, None]
    edges = torch.rand(5, 6, dtype=torch.float64).cumsum(1)
    value = (torch.rand(5, 5, dtype=torch.float64) * there).requires_grad_()
    colour = torch.rand(5, 5, 3, dtype=torch.float64)
    if kind == "alpha":
        value.data[2, 1] = 1.0  # an opaque sample: behind it nothing is seen, and gradients are finite
    flat, ray = packed(value)
    starts, ends = packed(edges[:, :-1])[0], packed(edges[:, 1:])[0]
    if kind == "density":
        dense = nerfacc.render_weight_from_density(edges[:, :-1], edges[:, 1:], value)[0]
        thin = nerfacc.render_weight_from_density(starts, ends, flat, ray_indices=ray, n_rays=5)[0]
    else:
        dense = nerfacc.render_weight_from_alpha(value)[0]
        thin = nerfacc.render_weight_from_alpha(flat, ray_indices=ray, n_rays=5)[0]
    assert torch.allclose(thin, packed(dense)[0])
    whole = nerfacc.accumulate_along_rays(dense, colour)
    sums = nerfacc.accumulate_along_rays(thin, packed(colour)[0], ray, 5)
    assert torch.allclose(sums, whole)
    target = torch.rand_like(whole)
    gradients = [torch.autograd.grad(((x - target) ** 2).sum(), value, retain_graph=True)[0] for x in (sums, whole)]
    assert torch.allclose(gradients[0][there], gradients[1][there]) and bool(gradients[0].isfinite().all())
    if kind == "alpha":
        visible = nerfacc.render_visibility_from_alpha(flat, ray_indices=ray, n_rays=5, alpha_thre=0.2)
        through = nerfacc.render_transmittance_from_alpha(flat, ray_indices=ray, n_rays=5)
        assert torch.equal(visible, (through >= 1e-4) & (flat >= 0.2)) and not visible.all()


def test_importance_sampling_inverts_the_cdf() -> None:
    torch.manual_seed(0)
    edges = torch.rand(3, 7, dtype=torch.float64).cumsum(1)
    cdfs = torch.cat([torch.zeros(3, 1), torch.rand(3, 6).cumsum(1)], 1).double()
    intervals, samples = segments.importance_sampling(RayIntervals(vals=edges), cdfs, 5)
    for row in range(3):
        u = (torch.arange(5) + 0.5) / 5 * cdfs[row, -1]
        for value, level in zip(samples.vals[row], u, strict=True):
            i = int((cdfs[row] <= level).sum()) - 1
            part = (level - cdfs[row, i]) / (cdfs[row, i + 1] - cdfs[row, i])
            assert torch.isclose(value, edges[row, i] + part * (edges[row, i + 1] - edges[row, i]))
    middles = (samples.vals[:, 1:] + samples.vals[:, :-1]) / 2
    assert torch.allclose(intervals.vals[:, 1:-1], middles)
    assert bool((intervals.vals[:, 0] >= edges[:, 0]).all()) and bool((intervals.vals[:, -1] <= edges[:, -1]).all())
    assert bool((intervals.vals.diff(dim=1) > 0).all())


def test_importance_sampling_shifts_a_rays_samples_together_and_bears_a_flat_cdf() -> None:
    torch.manual_seed(0)
    unit = torch.tensor([[0.0, 1.0]]).expand(1000, 2)
    _, samples = segments.importance_sampling(RayIntervals(vals=unit), unit, 4, stratified=True)
    assert torch.allclose(samples.vals.diff(dim=1), torch.tensor(0.25), atol=1e-6)
    assert 0 <= float(samples.vals.min()) < 0.01 and 0.99 < float(samples.vals.max()) <= 1
    edges, nothing = torch.tensor([[0.0, 1.0, 2.0]]), torch.zeros(1, 3)
    intervals, _ = segments.importance_sampling(RayIntervals(vals=edges), nothing, 1)
    assert intervals.vals.tolist() == [[0.0, 2.0]]
    assert bool(segments.importance_sampling(RayIntervals(vals=edges), nothing, 4)[0].vals.isfinite().all())


def test_search_finds_both_neighbours() -> None:
    edges, values = torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[-1.0, 0.0, 0.5, 1.0, 2.0, 3.0]])
    left, right = segments.searchsorted(RayIntervals(vals=edges), RayIntervals(vals=values))
    assert left.tolist() == [[0, 0, 0, 1, 2, 2]] and right.tolist() == [[0, 1, 1, 2, 2, 2]]


@pytest.mark.usefixtures("on_cpu")
def test_a_proposal_estimator_learns_where_the_wall_is() -> None:
    torch.manual_seed(0)
    height = torch.nn.Parameter(torch.full((16,), 0.1))  # density of 16 equal stretches of the ray from 1 to 3
    estimator = nerfacc.PropNetEstimator(torch.optim.Adam([height], 0.1))

    def wall(starts: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
        return 20.0 * ((starts + ends) / 2 > 2)

    def proposal(starts: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
        return height.clamp(min=0)[(((starts + ends) / 2 - 1) * 8).long().clamp(0, 15)]

    def near_the_wall() -> float:
        sampling = estimator.sampling(
            [proposal], [32], 16, 64, 1.0, 3.0, "uniform", stratified=True, requires_grad=True
        )
        trans, _ = nerfacc.render_transmittance_from_density(*sampling, wall(*sampling))
        estimator.update_every_n_steps(trans, requires_grad=True)
        middles = (sampling[0] + sampling[1]) / 2
        return float(((middles > 1.9) & (middles < 2.2)).float().mean())

    before = near_the_wall()
    for _ in range(150):
        after = near_the_wall()
    assert before < 0.25 and after > 0.5
