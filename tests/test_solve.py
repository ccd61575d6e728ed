"""Fits against the least-squares answer, minimum-norm and damped; outcomes and failures."""

from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
from pullback import FirstOrder, GaussNewton, Outcome, diffreps
from pullback.errors import NonFiniteError, UserError
from pullback.fitting.linearise import conjugate_gradients
from pullback.fitting.solvers import Fit
from torch import nn

D = torch.float64


def problem(
    rows: int, columns: int, seed: int = 0, device: torch.device | str = "cpu"
) -> tuple[Fit, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(rows, columns, generator=generator, dtype=D).to(device)
    target = torch.randn(1, 1, 1, rows, generator=generator, dtype=D).to(device)
    return Fit(diffreps.Linear(matrix), [0], target, None, generator), matrix, target.flatten()


def rms(x: torch.Tensor) -> float:
    return float(x.square().mean().sqrt())


@pytest.mark.parametrize("rows,columns", [(6, 6), (12, 5), (5, 12)])
def test_gauss_newton_is_the_pseudo_inverse(rows, columns, device):
    fit, matrix, target = problem(rows, columns, device=device)
    solution = GaussNewton(iterations=3, cg_iterations=20, tolerance=1e-12).solve(fit)
    expected = torch.linalg.pinv(matrix) @ target
    assert torch.allclose(fit.diffrep.theta, expected, atol=1e-9)
    assert solution.residual == pytest.approx(rms(matrix @ expected - target), abs=1e-9)
    assert solution.start == pytest.approx(rms(target))
    assert solution.outcome is Outcome.CONVERGED


def test_damping_is_ridge_regression_towards_the_start(device):
    fit, matrix, target = problem(8, 8, device=device)
    begin = torch.linspace(-1, 1, 8, dtype=D, device=device)
    fit.diffrep.theta.data.copy_(begin)
    GaussNewton(iterations=1, cg_iterations=20, damping=0.7, tolerance=1e-14).solve(fit)
    normal = matrix.T @ matrix + 0.7 * torch.eye(8, dtype=D, device=device)
    expected = begin + torch.linalg.solve(normal, matrix.T @ (target - matrix @ begin))
    assert torch.allclose(fit.diffrep.theta, expected, atol=1e-9)


def test_conjugate_gradients_are_exact_after_as_many_steps_as_eigenvalues():
    matrix = torch.diag(torch.tensor([1.0, 1.0, 5.0, 5.0, 5.0], dtype=D))
    right = torch.arange(1.0, 6.0, dtype=D)
    assert torch.allclose(conjugate_gradients(lambda v: matrix @ v, right, 2, 0.0), right / matrix.diag(), atol=1e-12)


def test_gauss_newton_solves_a_curved_problem_quadratically():
    class Cubic(diffreps.Pixels):
        def render(self, views):
            x = super().render(views)
            return x + x**3

    rep = Cubic(1, 4, 4).double()
    target = torch.linspace(-2, 2, 16, dtype=D).view(1, 1, 4, 4)
    fit = Fit(rep, [0], target, None, torch.Generator())
    residuals = [GaussNewton(iterations=1, cg_iterations=50, tolerance=1e-14).solve(fit).residual for _ in range(8)]
    assert residuals[-1] < 1e-14
    falling = [r for r in residuals if 1e-9 < r < 1e-1]
    assert all(after < 10 * before**2 for before, after in itertools.pairwise(falling))
    assert len(falling) >= 2


def test_first_order_reaches_the_target_and_reports_what_it_achieved(device):
    fit, matrix, target = problem(6, 6, device=device)
    solution = FirstOrder(lr=0.05, steps=3000).solve(fit)
    assert solution.residual == pytest.approx(rms(matrix @ fit.diffrep.theta - target), rel=1e-9)
    assert solution.residual < 1e-3 * solution.start
    assert (solution.steps, solution.outcome) == (3000, Outcome.STEPS_EXHAUSTED)


def test_a_wild_learning_rate_is_called_divergence():
    assert FirstOrder(lr=1e3, steps=3).solve(problem(6, 6)[0]).outcome is Outcome.DIVERGED


def test_a_fit_that_cannot_improve_is_called_stalled():
    class Kink(diffreps.Pixels):
        def render(self, views):
            return torch.sin(1e9 * super().render(views)) + 1e3 * super().render(views).abs()

    fit = Fit(Kink(1, 1, 1).double(), [0], torch.full((1, 1, 1, 1), -5.0, dtype=D), None, torch.Generator())
    before = fit.rms()
    solution = GaussNewton(iterations=200, tolerance=1e-9).solve(fit)
    assert solution.outcome is Outcome.STALLED
    assert fit.rms() == solution.residual <= before


def test_enough_is_said_with_the_outcome():
    fit, _, _ = problem(30, 30)
    solution = GaussNewton(iterations=1, cg_iterations=3).solve(fit)
    assert solution.outcome is Outcome.STEPS_EXHAUSTED and solution.steps == 1
    assert all(len(outcome.value) > 20 for outcome in Outcome)


def test_only_trainable_parameters_move():
    fit, _, _ = problem(6, 6)
    fit.diffrep.theta.requires_grad_(False)
    with pytest.raises(UserError, match="nothing to sample"):
        GaussNewton().solve(fit)
    with pytest.raises(UserError, match="nothing to sample"):
        FirstOrder().solve(fit)


def test_a_subset_of_the_residual_is_unbiased_enough_to_fit():
    class Some(diffreps.Pixels):
        asked = 0

        def residual(self, views, target, generator):
            self.asked += 1
            pick = torch.randint(16, (4,), generator=generator)
            return (self.render(views) - target).flatten()[pick]

    rep = Some(1, 4, 4).double()
    target = torch.linspace(-1, 1, 16, dtype=D).view(1, 1, 4, 4)
    solution = FirstOrder(lr=0.05, steps=400).solve(Fit(rep, [0], target, None, torch.Generator().manual_seed(0)))
    assert rep.asked == 401  # one more to say how well it fits, on a subset too
    assert rms(rep.values - target) < 0.01 and solution.residual < 0.01


def test_latent_fits_compare_behind_the_encoder():
    fit, matrix, target = problem(6, 6)
    latent = Fit(fit.diffrep, [0], 2 * fit.target, lambda images: 2 * images, fit.generator)
    solution = GaussNewton(cg_iterations=30).solve(latent)
    assert torch.allclose(fit.diffrep.theta, torch.linalg.solve(matrix, target), atol=1e-5)
    assert solution.start == pytest.approx(2 * rms(target))


def test_a_passed_optimizer_keeps_its_memory_and_the_default_forgets():
    fit, _, _ = problem(6, 6)
    kept = torch.optim.Adam(fit.diffrep.parameters(), lr=0.01)
    solver = FirstOrder(steps=5, optimizer=kept)
    solver.solve(fit)
    solver.solve(fit)
    assert int(kept.state[fit.diffrep.theta]["step"]) == 10
    saved = copy.deepcopy(solver.state_dict())  # it shares memory with the solver
    solver.solve(fit)
    assert int(saved["state"][0]["step"]) == 10
    solver.load_state_dict(saved)
    assert int(kept.state[fit.diffrep.theta]["step"]) == 10
    assert FirstOrder(steps=5).state_dict() == {}


@pytest.mark.parametrize("solver", [FirstOrder(steps=3), GaussNewton()])
def test_nan_in_the_render_names_the_view(solver):
    rep = diffreps.Pixels(3, 1, 2, 2).double()
    rep.values.data[1, 0, 0, 1] = math.nan
    with pytest.raises(NonFiniteError, match="view 1"):
        solver.solve(Fit(rep, [0, 1, 2], torch.zeros(3, 1, 2, 2, dtype=D), None, torch.Generator()))


@pytest.mark.parametrize("solver", [FirstOrder(steps=3), GaussNewton()])
def test_nan_in_the_gradient_stops_before_the_step(solver):
    class Root(diffreps.Pixels):
        def render(self, views):
            return super().render(views).abs().sqrt()

    rep = Root(1, 2, 2).double()  # √|x| has an infinite slope at 0
    with pytest.raises(NonFiniteError, match="gradient"):
        solver.solve(Fit(rep, [0], torch.ones(1, 1, 2, 2, dtype=D), None, torch.Generator()))
    assert torch.equal(rep.values, torch.zeros(1, 2, 2, dtype=D))


def test_a_step_out_of_the_range_of_numbers_is_halved():
    class Exponential(diffreps.Pixels):
        def render(self, views):
            return super().render(views).exp()

    rep, target = Exponential(1, 2, 2), torch.full((1, 1, 2, 2), 500.0)  # the first step leads to e^499
    solution = GaussNewton(iterations=20).solve(Fit(rep, [0], target, None, torch.Generator()))
    assert solution.outcome is Outcome.CONVERGED
    assert torch.allclose(rep.render([0]), target, rtol=1e-4)


def test_nan_in_the_derivative_alone_is_no_stall():
    class Jump(torch.autograd.Function):
        generate_vmap_rule = False

        @staticmethod
        def forward(x):
            return x.clone()

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def backward(ctx, gradient):
            return gradient

        @staticmethod
        def jvp(ctx, tangent):
            return tangent * math.nan

    class Jumping(diffreps.Pixels):
        def render(self, views):
            return Jump.apply(super().render(views))

    with pytest.raises(NonFiniteError, match="derivative of the render"):
        GaussNewton().solve(Fit(Jumping(1, 2, 2), [0], torch.ones(1, 1, 2, 2), None, torch.Generator()))


class Parts(nn.Module):
    """Two numbers, of which a part of the residual may need one alone."""

    def __init__(self, part):
        super().__init__()
        self.values = nn.ParameterList([nn.Parameter(torch.full((1,), 0.5)) for _ in range(2)])
        self.part, self.parts = part, 0

    def render(self, views):
        return torch.stack(list(self.values)).view(1, 1, 1, 2)

    def residual(self, views, target, generator):
        self.parts += 1
        return self.part(self, target.flatten())


def test_nan_in_a_late_gradient_is_found_where_parts_need_other_parameters():
    def part(rep, target):
        first, second = (value - aim for value, aim in zip(rep.values, target, strict=True))
        if rep.parts == 1 or rep.parts > 4:  # the first step, and what is measured after the last one
            return first
        return first + (0 * second).abs().sqrt() if rep.parts == 4 else first + second  # √|x| at 0 in step 3

    fit = Fit(Parts(part), [0], torch.zeros(1, 1, 1, 2), None, torch.Generator())
    with pytest.raises(NonFiniteError, match=r"gradient of the fit .* optimiser step 3$"):
        FirstOrder(steps=4).solve(fit)
    assert all(float(value) == 0.5 for value in fit.diffrep.values)


def test_a_part_may_be_one_number_but_not_none():
    target = torch.zeros(1, 1, 1, 2)
    one = Parts(lambda rep, target: rep.values[0].sum())
    assert FirstOrder(steps=5).solve(Fit(one, [0], target, None, torch.Generator())).residual < 0.5
    none = Parts(lambda rep, target: rep.values[0][:0])
    with pytest.raises(UserError, match="no entries"):
        FirstOrder(steps=5).solve(Fit(none, [0], target, None, torch.Generator()))


def test_a_render_without_forward_derivatives_is_sent_to_first_order():
    class Double(torch.autograd.Function):
        generate_vmap_rule = False

        @staticmethod
        def forward(x):
            return 2 * x

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def backward(ctx, gradient):
            return 2 * gradient

    class Backward(diffreps.Pixels):
        def render(self, views):
            return Double.apply(super().render(views))

    with pytest.raises(UserError, match="FirstOrder"):
        GaussNewton().solve(Fit(Backward(1, 2, 2), [0], torch.ones(1, 1, 2, 2), None, torch.Generator()))


@pytest.mark.parametrize("make", [
    lambda: FirstOrder(steps=0), lambda: FirstOrder(lr=0.0), lambda: FirstOrder(lr=math.nan),
    lambda: GaussNewton(iterations=0), lambda: GaussNewton(cg_iterations=0), lambda: GaussNewton(damping=-1.0),
    lambda: GaussNewton(damping=math.nan), lambda: GaussNewton(tolerance=math.inf),
])  # fmt: skip
def test_impossible_settings_are_refused(make):
    with pytest.raises(UserError):
        make()


def test_modules_without_parameters_have_nothing_to_sample():
    with pytest.raises(UserError, match="nothing to sample"):
        FirstOrder().solve(Fit(nn.Identity(), [0], torch.ones(1, 1, 2, 2), None, torch.Generator()))


def test_the_residual_before_and_after_is_the_root_mean_square_of_parts_of_any_size():
    class Growing(nn.Module):
        """A residual of −3 in every entry, of which each part has one more."""

        def __init__(self) -> None:
            super().__init__()
            self.theta, self.asked = nn.Parameter(torch.zeros(1, dtype=D)), 0

        def render(self, views):
            raise AssertionError("a part is asked for, not all")

        def residual(self, views, target, generator):
            self.asked += 1
            return (0 * self.theta - 3).expand(1, self.asked)

    solution = FirstOrder(steps=3).solve(Fit(Growing(), [0], torch.zeros(1, dtype=D), None, torch.Generator()))
    assert solution.start == pytest.approx(3) and solution.residual == pytest.approx(3)
