"""The sampler against DDIM, exact flows, invariances, known mixtures; resume, counts and failures."""

from __future__ import annotations

import copy
import io
import math
from itertools import pairwise

import pullback
import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from pullback import denoiser, diffreps, priors
from pullback.errors import NonFiniteError, UserError
from torch import nn

D = torch.float64
EXACT = pullback.GaussNewton(iterations=4, cg_iterations=60, tolerance=1e-13)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian(d: int, seed: int = 0) -> priors.GaussianPrior:
    generator = seeded(seed)
    root = torch.randn(d, d, generator=generator, dtype=D)
    return priors.GaussianPrior(torch.randn(1, 1, d, generator=generator, dtype=D), root @ root.T / d)


# ---- the identity is DDIM


class Network(nn.Module):
    """A small smooth network net(z, t), the same for both samplers."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, z: torch.Tensor, t: float) -> torch.Tensor:
        hidden = torch.tanh(self.first(z) + torch.sin(torch.arange(8.0, dtype=D) * t / 300).view(1, 8, 1, 1))
        return self.last(hidden) + 0.5 * z


@pytest.mark.parametrize("prediction_type", denoiser.PREDICTION_TYPES)
@pytest.mark.parametrize("count", [10, 50])
def test_identity_equals_the_reference_ddim(prediction_type, count):
    net = Network().double()
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        set_alpha_to_one=True, prediction_type=prediction_type, timestep_spacing="leading",
    )  # fmt: skip
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=D) ** 2
    scheduler.alphas_cumprod = torch.cumprod(1 - betas, 0)
    scheduler.final_alpha_cumprod = torch.tensor(1.0, dtype=D)
    scheduler.set_timesteps(count)
    schedule = denoiser.VPSchedule(scheduler.alphas_cumprod)
    sigmas = torch.cat([schedule.sigmas[scheduler.timesteps], torch.zeros(1, dtype=D)])

    rep = diffreps.Pixels(3, 8, 8).double()
    states = list(pullback.steps(
        rep, [0], lambda y, sigma, views: denoiser.vp_x0(net, schedule, y, sigma, prediction_type), sigmas,
        solver=pullback.GaussNewton(), generator=seeded(7),
    ))  # fmt: skip

    sigma = float(sigmas[0])
    z = sigma / math.sqrt(1 + sigma**2) * states[0].noise
    with torch.no_grad():
        for t in scheduler.timesteps:
            z = scheduler.step(net(z, int(t)), t, z, eta=0.0).prev_sample
    assert z.abs().max() > 0.1
    assert torch.allclose(rep.render([0]), z, atol=1e-10, rtol=0)


# ---- order of integration


class Bent(diffreps.Pixels):
    """An invertible, nonlinear picture of θ: every image is in its range."""

    def render(self, views):
        values = super().render(views)
        return values + values**3 / 3


@pytest.mark.parametrize("make", [diffreps.Pixels, Bent])
@pytest.mark.parametrize("order", [1, 2, "multistep"])
def test_measured_order_against_the_exact_gaussian_flow(make, order):
    prior, errors = gaussian(4), []
    counts = (25, 50, 100)
    for count in counts:
        # the last step, from sigma_min to 0, is Euler's: the order shows at sigma_min
        sigmas = pullback.karras_sigmas(count + 1, 0.3, 8.0, rho=3.0)
        rep = make(1, 1, 4).double()
        for state in pullback.steps(rep, [0], prior.denoise, sigmas, solver=EXACT, order=order, generator=seeded(5)):
            if state.level == count:
                exact = prior.flow(8.0 * state.noise, 8.0, 0.3)
                errors.append((rep.render([0]) + 0.3 * state.noise - exact).norm().item())
    slopes = [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]
    assert slopes == pytest.approx([1 if order == 1 else 2] * 2, abs=0.12)


class Turned:
    """Noise of a view is the source, turned as the view turns θ; so all views follow one and the same flow."""

    kept = True

    def draw(self, white, shape):
        return white((1, *shape[1:]))

    def at(self, source, views, shape):
        return source @ views.mT


@pytest.mark.parametrize("order", [1, 2, "multistep"])
def test_measured_order_with_a_fresh_view_at_every_visit(order):
    # views are rotations Q of the picture, and the model of a view is that of θ, rotated: y = Q (θ + σ ε) for all Q
    prior, errors = gaussian(4), []

    class Rotated(diffreps.Pixels):
        def render(self, views):
            return super().render([0]) @ views.mT

    def view(generator):
        square = torch.randn(4, 4, generator=generator, dtype=D)
        return torch.linalg.qr(square).Q[None, None]

    def denoise(noisy, sigma, views):
        return prior.denoise(noisy @ views, sigma) @ views.mT

    for count in (25, 50, 100):
        sigmas, rep = pullback.karras_sigmas(count + 1, 0.3, 8.0, rho=3.0), Rotated(1, 1, 4).double()
        run = pullback.steps(rep, view, denoise, sigmas, Turned(), solver=EXACT, order=order, generator=seeded(5))
        for state in run:
            if state.level == count:
                exact = prior.flow(8.0 * state.noise, 8.0, 0.3)
                errors.append((rep.values + 0.3 * state.noise - exact).norm().item())
    slopes = [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]
    assert slopes == pytest.approx([1 if order == 1 else 2] * 2, abs=0.12)


def test_multistep_forgets_the_error_of_a_fit():
    # every fit leaves white noise of 0.02 in θ; the end has less of it than with Euler's steps
    prior, sigmas = gaussian(4), pullback.karras_sigmas(41, 0.3, 8.0, rho=3.0)

    class Careless(pullback.GaussNewton):
        def solve(self, fit):
            solution = super().solve(fit)
            with torch.no_grad():
                fit.diffrep.values += self.size * torch.randn(1, 1, 4, generator=self.generator, dtype=D)
            return solution

    def end(order, size, seed):
        rep, solver = diffreps.Pixels(1, 1, 4).double(), Careless()
        solver.size, solver.generator = size, seeded(seed)
        run = pullback.steps(rep, [0], prior.denoise, sigmas, solver=solver, order=order, generator=seeded(5))
        for state in run:
            if state.level == 40:
                return rep.render([0]).detach()

    def spread(order):
        right = end(order, 0.0, 0)
        return math.sqrt(sum((end(order, 0.02, seed) - right).square().mean().item() for seed in range(20)) / 20)

    assert spread("multistep") < 0.8 * spread(1)


def test_multistep_takes_eulers_step_where_noise_is_new():
    def run(order, sigma):
        constraint = pullback.FreshBelow(sigma)
        return resumable("shared", "gauss-newton", constraint, seeded(1)) | {"order": order}

    runs = [[s.residual for s in pullback.steps(**run(order, math.inf))] for order in (1, "multistep")]
    assert runs[0] == runs[1]
    states = list(pullback.steps(**run("multistep", 0.5)))
    assert [len(state.past) for state in states] == [1, 0, 0] and states[0].sigma > 0.5 > states[1].sigma


@pytest.mark.parametrize("constraint", ["projection", "langevin", pullback.Repaint(2)])
def test_multistep_is_refused_where_a_visit_leaves_the_path(constraint):
    arguments = resumable("independent", "adam", constraint, seeded(1))
    with pytest.raises(UserError, match=r"^order must be 1( or 2)? with .*, not 'multistep'$"):
        pullback.sample(**arguments, order="multistep")
    assert pullback.Sampler(**{**arguments, "constraint": pullback.Repaint(1)}, order="multistep")
    fresh = resumable("fresh", "adam", None, seeded(1))
    with pytest.raises(UserError, match=r"^order multistep follows noise that is kept, and noise='fresh' is new"):
        pullback.Sampler(**fresh, order="multistep")


# ---- linear representations


def test_square_linear_follows_the_exact_flow_of_the_images():
    prior, sigmas = gaussian(5), pullback.karras_sigmas(15, 0.05, 10.0)
    matrix = torch.randn(5, 5, generator=seeded(2), dtype=D)
    rep, pixels = diffreps.Linear(matrix), diffreps.Pixels(1, 1, 5).double()
    runs = [pullback.steps(r, [0], prior.denoise, sigmas, solver=EXACT, generator=seeded(3)) for r in (rep, pixels)]
    for _ in zip(*runs, strict=True):
        assert torch.allclose(rep.render([0]), pixels.render([0]), atol=1e-8)
        assert torch.allclose(rep.theta, torch.linalg.solve(matrix, pixels.values.flatten()), atol=1e-7)


def test_square_linear_samples_have_the_exact_law():
    # 3 000 runs in one: A θ_i for slot i. The law of θ is N(A⁻¹μ, A⁻¹ΣA⁻ᵀ); bounds are 5 standard errors.
    prior, count = gaussian(3), 3000
    matrix = torch.randn(3, 3, generator=seeded(4), dtype=D)

    class Many(nn.Module):
        def __init__(self):
            super().__init__()
            self.theta = nn.Parameter(torch.zeros(count, 3, dtype=D))

        def render(self, views):
            return (self.theta @ matrix.T)[:, None, None]

    rep = Many()
    pullback.sample(
        rep, range(count), prior.denoise, pullback.karras_sigmas(60, 0.005, 60.0), noise="independent", order=2,
        solver=pullback.GaussNewton(iterations=1, cg_iterations=3), generator=seeded(5),
    )  # fmt: skip
    inverse = torch.linalg.inv(matrix)
    cov = prior.directions @ prior.variances.diag() @ prior.directions.T
    mean, cov = inverse @ prior.mean.flatten(), inverse @ cov @ inverse.T
    white = torch.linalg.solve(torch.linalg.cholesky(cov), (rep.theta.detach() - mean).T)
    assert white.mean(1).abs().max() < 5 / math.sqrt(count)
    assert (white @ white.T / count - torch.eye(3, dtype=D)).abs().max() < 5 * math.sqrt(2 / count)


def test_tall_linear_follows_the_closed_form_where_range_and_prior_share_axes():
    # A's columns span two eigenvectors of Σ: in the range the flow is the exact Gaussian one, outside nothing moves
    prior, count = gaussian(6), 400
    axes = prior.directions[:, [1, 4]]
    rep = diffreps.Linear(axes @ torch.tensor([[2.0, 1.0], [0.0, 0.5]], dtype=D))
    sigmas = pullback.karras_sigmas(count, 0.01, 20.0, rho=3.0)
    for state in pullback.steps(rep, [0], prior.denoise, sigmas, solver=EXACT, order=2, generator=seeded(6)):
        if state.level == count - 1:
            exact = prior.flow(20.0 * state.noise, 20.0, 0.01)
            reached = rep.render([0]) + 0.01 * state.noise
    assert torch.allclose(reached.flatten() @ axes, exact.flatten() @ axes, atol=1e-3)
    outside = torch.eye(6, dtype=D) - axes @ axes.T
    assert (outside @ rep.render([0]).flatten()).abs().max() < 1e-9


@pytest.mark.parametrize("order", [1, 2])
def test_tall_linear_converges_to_the_pulled_back_ode(order):
    # dθ/dσ = A⁺(Aθ − x̂0(Aθ + σε))/σ, integrated in θ by Runge–Kutta with the pseudo-inverse written out
    prior, matrix = gaussian(7), torch.randn(7, 3, generator=seeded(8), dtype=D)
    inverse, high, low = torch.linalg.pinv(matrix), 8.0, 0.3

    def slope(theta, sigma, eps):
        u = (matrix @ theta).view(1, 1, 1, 7)
        return inverse @ ((u - prior.denoise(u + sigma * eps, sigma)) / sigma).flatten()

    errors = []
    for count in (40, 80):
        rep = diffreps.Linear(matrix)
        sigmas = pullback.karras_sigmas(count + 1, low, high, rho=3.0)
        for state in pullback.steps(rep, [0], prior.denoise, sigmas, solver=EXACT, order=order, generator=seeded(9)):
            if state.level == count:
                break
        theta, grid, eps = torch.zeros(3, dtype=D), torch.linspace(high, low, 801, dtype=D).tolist(), state.noise
        for a, b in pairwise(grid):
            h, mid = b - a, (a + b) / 2
            k1 = slope(theta, a, eps)
            k2 = slope(theta + h / 2 * k1, mid, eps)
            k3 = slope(theta + h / 2 * k2, mid, eps)
            theta = theta + h / 6 * (k1 + 2 * k2 + 2 * k3 + slope(theta + h * k3, b, eps))
        errors.append((rep.theta - theta).norm().item())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)


# ---- the path of images does not depend on the parametrisation


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("rows", [4, 9])
def test_invertible_maps_of_the_parameters_leave_the_images_alone(order, rows):
    prior, sigmas = gaussian(rows), pullback.karras_sigmas(12, 0.05, 10.0)
    matrix = torch.randn(rows, 4, generator=seeded(10), dtype=D)
    change = torch.randn(4, 4, generator=seeded(11), dtype=D) + 3 * torch.diag(torch.tensor([1, 2, 5, 9.0], dtype=D))
    reps = [diffreps.Linear(matrix), diffreps.Linear(matrix @ change), diffreps.Linear(2 * matrix)]
    runs = [pullback.steps(r, [0], prior.denoise, sigmas, solver=EXACT, order=order, generator=seeded(1)) for r in reps]
    for _ in zip(*runs, strict=True):
        first, *others = [r.render([0]) for r in reps]
        for other in others:
            assert torch.allclose(first, other, atol=1e-8)


def test_nonlinear_reparametrisation_leaves_the_images_alone():
    prior, sigmas = gaussian(4), pullback.karras_sigmas(12, 0.05, 10.0)
    reps = [diffreps.Pixels(1, 1, 4).double(), Bent(1, 1, 4).double()]
    solver = pullback.GaussNewton(iterations=30, cg_iterations=20, tolerance=1e-13)
    runs = [pullback.steps(r, [0], prior.denoise, sigmas, solver=solver, generator=seeded(1)) for r in reps]
    for _ in zip(*runs, strict=True):
        assert torch.allclose(reps[0].render([0]), reps[1].render([0]), atol=1e-9)


# ---- known mixtures


def test_one_view_reproduces_unequal_weights():
    weights, count = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=D), 4000
    means = torch.randn(4, 1, 1, 8, generator=seeded(12), dtype=D)
    rep = diffreps.Pixels(count, 1, 1, 8).double()
    prior = priors.MixturePrior(means, 0.05, weights)
    pullback.sample(
        rep, range(count), prior.denoise, pullback.karras_sigmas(40, 0.03, 40.0), noise="independent", order=2,
        solver=pullback.GaussNewton(iterations=1, cg_iterations=1), generator=seeded(13),
    )  # fmt: skip
    distance = (rep.values.detach()[None] - means[:, None]).square().mean((2, 3, 4)).sqrt()
    assert (distance.amin(0) < 0.15).double().mean() > 0.99
    found = torch.bincount(distance.argmin(0), minlength=4).double()
    chi_square = ((found - weights * count) ** 2 / (weights * count)).sum()
    assert chi_square < 16.27  # three degrees of freedom, exceeded once in 1 000


def test_many_views_find_every_scene_about_equally_often():
    # four scenes in the range of a linear field of five parameters, alike from all sides up to a third: the world
    # that shared noise is right for. Four of eight views a visit, RePaint.
    generator = seeded(14)
    common = torch.randn(1, 1, 3, 3, 5, generator=generator, dtype=D)
    matrix = common + 0.3 * torch.randn(8, 1, 3, 3, 5, generator=generator, dtype=D)
    thetas = torch.tensor([[1, 1, 1, 1, 1], [1, -1, 1, -1, 1], [-1, 1, 1, -1, -1], [-1, -1, 1, 1, 1.0]], dtype=D)
    prior = priors.SceneMixture(lambda views: torch.einsum("vchwn,mn->mvchw", matrix[views], thetas), 0.05)
    sigmas, counts, seeds = pullback.karras_sigmas(12, 0.1, 40.0, rho=3.0), torch.zeros(4), 60
    for seed in range(seeds):
        rep = diffreps.Linear(matrix)
        result = pullback.sample(
            rep, lambda g: torch.randperm(8, generator=g)[:4], prior.denoise, sigmas,
            constraint=pullback.Repaint(3), solver=pullback.GaussNewton(iterations=1), generator=seeded(seed),
        )  # fmt: skip
        scene, rms = prior.nearest(rep.render(range(8)).detach(), list(range(8)))
        assert rms < 0.1 and result.consistency < 0.1
        counts[scene] += 1
    assert ((counts - seeds / 4) ** 2 / (seeds / 4)).sum() < 16.27  # as above


def test_a_voxel_field_becomes_one_of_the_scenes():
    poses = diffreps.orbit(torch.tensor([15.0]).expand(12), torch.arange(12) * 30.0)

    def scene(k: int) -> diffreps.VoxelField:
        field = diffreps.VoxelField(10, 12, 12, samples=20)
        x = torch.linspace(-1, 1, 10)
        a, b, c = torch.meshgrid(x, x, x, indexing="ij")
        solid = (a**2 + b**2 + c**2 < 0.5) if k else (torch.maximum(a.abs(), b.abs()) < 0.5) & (c.abs() < 0.8)
        field.density.data.copy_(torch.where(solid, 3.0, -10.0).reshape(-1, 1))
        field.colour.data.copy_(torch.tensor([2.0, -2.0, -2.0] if k else [-2.0, -2.0, 2.0]).expand(1000, 3))
        return field

    with torch.no_grad():
        pictures = torch.stack([scene(k).render(poses) for k in range(2)])
    prior = priors.SceneMixture(lambda views: pictures[:, views[1]], 0.02)

    class Numbered(diffreps.VoxelField):
        def render(self, views):
            return super().render(views[0])

    def views(generator):
        pick = torch.randperm(12, generator=generator)[:4]
        return poses[pick], pick

    found = set()
    for seed in range(4):
        rep = Numbered(10, 12, 12, samples=20)
        result = pullback.sample(
            rep, views, prior.denoise, pullback.karras_sigmas(8, 0.1, 30.0, rho=3.0),
            constraint=pullback.Repaint(2), solver=pullback.FirstOrder(lr=0.2, steps=12), generator=seeded(seed),
        )  # fmt: skip
        with torch.no_grad():
            index, rms = prior.nearest(rep.render((poses, None)), (poses, torch.arange(12)))
        assert rms < 0.15 and result.consistency < 0.15  # the two scenes lie 1.0 apart
        found.add(index)
    assert found == {0, 1}


# ---- resume


def poses(generator: torch.Generator) -> torch.Tensor:
    angles = 360 * torch.rand(2, generator=generator, dtype=D)
    return diffreps.orbit(torch.full_like(angles, 20.0), angles)


def resumable(noise: str, solver: str, constraint, generator: torch.Generator):
    """A fresh run's arguments: a voxel field whose start doesn't matter once it is resumed."""
    rep = diffreps.VoxelField(3, 4, 4, samples=4).double()
    rep.colour.data += torch.linspace(-1, 1, 81, dtype=D).view(27, 3)
    solvers = {
        "adam": lambda: pullback.FirstOrder(lr=0.05, steps=2),
        "kept adam": lambda: pullback.FirstOrder(steps=2, optimizer=torch.optim.Adam(rep.parameters(), lr=0.05)),
        "gauss-newton": lambda: pullback.GaussNewton(iterations=1, cg_iterations=2, damping=1e-3),
    }
    prior = priors.GaussianPrior(torch.zeros(3, 4, 4, dtype=D), 0.2 * torch.eye(48, dtype=D))
    return {
        "diffrep": rep, "views": poses, "denoise": prior.denoise, "sigmas": pullback.karras_sigmas(3, 0.1, 5.0),
        "noise": noise, "constraint": constraint, "solver": solvers[solver](), "generator": generator,
    }  # fmt: skip


@pytest.mark.parametrize("constraint", [None, pullback.Repaint(2), pullback.Projection(fresh=1.0)])
@pytest.mark.parametrize("solver", ["adam", "kept adam", "gauss-newton"])
@pytest.mark.parametrize("noise", ["shared", "independent", "fresh"])
def test_resume_is_bit_for_bit_at_every_visit(noise, solver, constraint):
    whole = resumable(noise, solver, constraint, seeded(1))
    states, saved, fields = [], [], []
    for state in pullback.steps(**whole):
        file = io.BytesIO()
        torch.save(state.state_dict(), file)
        states.append(state)
        saved.append(file)
        fields.append(whole["diffrep"].density.detach().clone())
    assert len(states) == 3 * (constraint.cycles if constraint else 1)

    for position, file in enumerate(saved[:-1]):
        file.seek(0)
        other = resumable(noise, solver, constraint, seeded(99))
        other["diffrep"].density.data += 1.0
        resumed = pullback.steps(**other, resume=torch.load(file, weights_only=True))
        for later, state in enumerate(resumed, position + 1):
            old = states[later]
            assert (state.level, state.cycle, state.sigma, state.nfe) == (old.level, old.cycle, old.sigma, old.nfe)
            assert state.residual == old.residual and state.record == old.record
            assert torch.equal(state.noise, old.noise) and torch.equal(state.rng, old.rng)
            assert torch.equal(other["diffrep"].density, fields[later])
        assert later == len(states) - 1
    assert list(pullback.steps(**resumable(noise, solver, constraint, seeded(2)), resume=states[-1].state_dict())) == []


def test_multistep_resumes_bit_for_bit_and_older_states_go_on():
    whole = {**resumable("shared", "adam", None, seeded(1)), "sigmas": pullback.karras_sigmas(5, 0.1, 5.0)}
    whole["order"] = "multistep"
    saved, fields = [], []
    for state in pullback.steps(**whole):
        file = io.BytesIO()
        torch.save(state.state_dict(), file)
        saved.append(file)
        fields.append(whole["diffrep"].density.detach().clone())
    for file in saved[:-1]:
        file.seek(0)
        other = {**resumable("shared", "adam", None, seeded(99)), "sigmas": whole["sigmas"], "order": "multistep"}
        for _ in pullback.steps(**other, resume=torch.load(file, weights_only=True)):
            pass
        assert torch.equal(other["diffrep"].density, fields[-1])
    plain = resumable("shared", "adam", None, seeded(1))
    old = next(pullback.steps(**plain)).state_dict()
    for new in ("denoiser", "past"):
        del old[new]
    assert len(list(pullback.steps(**resumable("shared", "adam", None, seeded(9)), resume=old))) == 2


def test_a_visit_is_a_function_of_state_parameters_and_the_solvers_memory():
    arguments = resumable("shared", "adam", pullback.Repaint(2), seeded(1))
    sampler, rep = pullback.Sampler(**arguments), arguments["diffrep"]
    state = sampler.visit(sampler.initial())
    start, memory = copy.deepcopy((rep.state_dict(), sampler.solver.state_dict()))
    first = sampler.visit(state)
    moved = rep.density.detach().clone()
    torch.randn(10, generator=sampler.generator)
    rep.load_state_dict(start)
    sampler.solver.load_state_dict(memory)
    second = sampler.visit(state)
    assert torch.equal(moved, rep.density)
    assert torch.equal(first.noise, second.noise) and first.residual == second.residual


def test_state_without_parameters_is_for_frameworks():
    arguments = resumable("shared", "adam", None, seeded(1))
    sampler = pullback.Sampler(**arguments)
    state = sampler.visit(sampler.initial())
    saved = state.state_dict(with_params=False)
    assert "params" not in saved and "solver" not in saved
    before = arguments["diffrep"].density.detach().clone()
    assert sampler.restore(saved).level == 1
    assert torch.equal(arguments["diffrep"].density, before)


def test_a_state_of_other_levels_is_refused():
    arguments = resumable("shared", "adam", None, seeded(1))
    saved = next(pullback.steps(**arguments)).state_dict()
    with pytest.raises(UserError, match="other sigmas"):
        next(pullback.steps(**{**arguments, "sigmas": pullback.karras_sigmas(4, 0.1, 5.0)}, resume=saved))
    with pytest.raises(UserError, match="cycles"):
        next(pullback.steps(**{**arguments, "constraint": pullback.Repaint(2)}, resume=saved))


def test_one_seed_is_one_result():
    ends = []
    for seed in (4, 4, 5):
        arguments = resumable("shared", "adam", None, seeded(seed))
        ends.append(pullback.sample(**arguments).renders)
    assert torch.equal(ends[0], ends[1]) and not torch.equal(ends[0], ends[2])
    ends = []
    for _ in range(2):
        torch.manual_seed(3)
        ends.append(pullback.sample(**{**resumable("shared", "adam", None, seeded()), "generator": None}).renders)
    assert torch.equal(*ends)


# ---- what is reported


@pytest.mark.parametrize("order,cycles,guided,expected", [
    (1, 1, 1, 5 * 3), (2, 1, 1, 9 * 3), ("multistep", 1, 2, 5 * 3 * 2), (1, 4, 1, 20 * 3),
    (2, 2, 2, (2 * 8 + 2) * 3 * 2),
])  # fmt: skip
def test_denoiser_calls_are_counted_by_view(order, cycles, guided, expected):
    prior, calls = gaussian(4), []

    class Counting:
        nfe_per_view = guided

        def __call__(self, noisy, sigma, views):
            calls.append(len(noisy) * guided)
            return prior.denoise(noisy, sigma)

    result = pullback.sample(
        diffreps.Pixels(3, 1, 1, 4).double(), [0, 1, 2], Counting(), pullback.karras_sigmas(5, 0.1, 5.0),
        constraint=pullback.Repaint(cycles), order=order, solver=pullback.GaussNewton(),
    )  # fmt: skip
    assert result.nfe == expected == sum(calls[:-2])  # the last two are the self-consistency check
    assert result.history[-1]["nfe"] == expected
    assert [(h["level"], h["cycle"]) for h in result.history] == [(i, c) for i in range(5) for c in range(cycles)]


def test_history_is_plain_and_residuals_are_what_was_achieved():
    prior, rep = gaussian(6), diffreps.Linear(torch.randn(6, 2, generator=seeded(1), dtype=D))
    targets = []

    def denoise(noisy, sigma, views):
        targets.append(prior.denoise(noisy, sigma))
        return targets[-1]

    seen = []
    sigmas = pullback.karras_sigmas(4, 0.1, 5.0)
    result = pullback.sample(rep, [0], denoise, sigmas, solver=EXACT, generator=seeded(), callback=seen.append)
    assert [s.level for s in seen] == [1, 2, 3, 4] and seen[-1].sigma == 0
    for record in result.history:
        assert all(type(value) in (int, float, str) for value in record.values())
        assert record["outcome"] == "CONVERGED"
    final = (result.renders - targets[-3]).square().mean().sqrt()  # at the end x̂0 itself is asked for
    assert result.history[-1]["residual"] == pytest.approx(float(final), rel=1e-9)


# ---- latent denoisers


class Latent:
    """A denoiser on 2×2 blocks as channels: an encoder that only rearranges, so both spaces are one."""

    def __init__(self, prior, fit_space):
        self.prior, self.fit_space, self.decoded = prior, fit_space, 0

    def encode(self, images):
        return 2 * F.pixel_unshuffle(images, 2)

    def decode(self, latents):
        self.decoded += 1
        return F.pixel_shuffle(latents / 2, 2)

    def __call__(self, noisy, sigma, views):
        return self.prior.denoise(noisy, sigma)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("fit_space", ["image", "latent"])
def test_latents_are_sampled_through_either_fit(fit_space, order):
    prior = priors.GaussianPrior(torch.zeros(12, 2, 2, dtype=D), torch.diag(torch.linspace(0.1, 3, 48, dtype=D)))
    denoise = Latent(prior, fit_space)
    outer, inner = diffreps.Pixels(3, 4, 4).double(), diffreps.Pixels(12, 2, 2).double()
    sigmas = pullback.karras_sigmas(6, 0.1, 5.0)
    pullback.sample(outer, [0], denoise, sigmas, solver=EXACT, order=order, generator=seeded(2))
    pullback.sample(inner, [0], prior.denoise, sigmas, solver=EXACT, order=order, generator=seeded(2))
    assert torch.allclose(denoise.encode(outer.render([0])), inner.render([0]), atol=1e-9)
    fits = 6 if order == 1 else 11
    assert denoise.decoded == (fits if fit_space == "image" else 0)


# ---- failures


@pytest.mark.parametrize("solver", [pullback.FirstOrder(steps=3), pullback.GaussNewton()])
def test_nan_from_the_denoiser_names_level_sigma_and_view_and_undoes_nothing_good(solver):
    prior, sigmas = gaussian(4), torch.tensor([4.0, 2.0, 1.0, 0.0])

    def denoise(noisy, sigma, views):
        x0 = prior.denoise(noisy, sigma)
        if sigma == 2.0:
            x0[2, 0, 0, 1] = math.nan
        return x0

    rep, good = diffreps.Pixels(3, 1, 1, 4).double(), None
    with pytest.raises(NonFiniteError, match=r"level 1, cycle 0, sigma 2: the denoiser's answer .* view 2"):
        for _ in pullback.steps(rep, [0, 1, 2], denoise, sigmas, solver=solver, generator=seeded()):
            good = rep.values.detach().clone()
    assert torch.equal(rep.values, good)


def test_nan_in_the_midst_of_a_fit_leaves_the_parameters_of_the_last_good_visit():
    class Brittle(diffreps.Pixels):
        def render(self, views):
            values = super().render(views)
            return torch.where(values > 0.5, math.nan, values)

    rep = Brittle(2, 1, 2, 2).double()
    sampler = pullback.Sampler(
        rep, [0, 1], lambda y, s, v: torch.ones_like(y), torch.tensor([4.0, 0.0]), solver=pullback.FirstOrder(0.2, 20)
    )
    with pytest.raises(NonFiniteError, match=r"level 0.*the fit .* view 0"):
        sampler.visit(sampler.initial())
    assert torch.equal(rep.values, torch.zeros_like(rep.values))


def test_a_denoiser_may_leave_the_graph_of_its_own_gradients():
    def guided(noisy, sigma, views):
        with torch.enable_grad():
            noisy = noisy.detach().requires_grad_()
            x0 = noisy / (1 + sigma**2)
            (slope,) = torch.autograd.grad(x0.square().sum(), noisy, create_graph=True)
            return x0 - 0.1 * slope

    def plain(*given):
        return guided(*given).detach()

    results = []
    for denoise in (guided, plain):
        torch.manual_seed(0)
        rep = diffreps.Pixels(1, 4, 4)
        results.append(pullback.sample(rep, [0], denoise, pullback.karras_sigmas(3, 0.1, 5.0)).renders)
    assert torch.equal(*results)


def test_bad_arguments_are_refused():
    rep, prior, sigmas = diffreps.Pixels(1, 1, 4).double(), gaussian(4), pullback.karras_sigmas(3, 0.1, 5.0)
    with pytest.raises(UserError, match="order must be 1 or 2"):
        pullback.sample(rep, [0], prior.denoise, sigmas, order=3)
    with pytest.raises(UserError, match=r"^order must be 1 or 2 or 'multistep' with the plain flow, not '2'$"):
        pullback.sample(rep, [0], prior.denoise, sigmas, order="2")
    with pytest.raises(UserError, match="noise 'pink'"):
        pullback.sample(rep, [0], prior.denoise, sigmas, noise="pink")
    with pytest.raises(UserError, match="end in 0"):
        pullback.sample(rep, [0], prior.denoise, sigmas[:-1])
    with pytest.raises(UserError, match="keep the shape"):
        pullback.sample(rep, [0], lambda y, s, v: y[:, :, :, :2], sigmas)
    with pytest.raises(UserError, match="at least one view"):
        pullback.sample(rep, [], prior.denoise, sigmas)
    with pytest.raises(UserError, match="fit_space"):
        pullback.sample(rep, [0], Latent(prior, "pixels"), sigmas)
