"""Self-consistency against closed forms, and restarts: what they keep, count and give up."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from itertools import pairwise

import pullback
import pytest
import torch
from pullback import diffreps, priors
from pullback.diffreps import orbit
from pullback.errors import UserError
from pullback.noise import Surface
from pullback.sampling import consistency
from pullback.sampling.restart import Restart
from pullback.sampling.state import State
from torch import Tensor, nn

D = torch.float64


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("sigmas,sigma", [([5.0, 0.5, 0.0], 1.0), ([5.0, 2.0, 0.0], 2.0), ([0.7, 0.5, 0.0], 0.7)])
def test_consistency_and_the_models_floor_for_a_gaussian(sigmas: list[float], sigma: float):
    prior = priors.GaussianPrior(torch.zeros(1, 30, 30, dtype=D), torch.eye(900, dtype=D))
    rep = diffreps.Pixels(1, 30, 30).double()
    rep.values.data.fill_(3.0)
    judged = pullback.Sampler(rep, [0], prior.denoise, torch.tensor(sigmas), generator=seeded()).check(draws=4)
    # z = x̂0 = (u + σε)/(1 + σ²), so that z − u = (σε − σ²u)/(1 + σ²), and x̂0(z + σε') − z = (σε' − σ²z)/(1 + σ²)
    shrink = 1 / (1 + sigma**2)
    z2 = shrink**2 * (9 + sigma**2)
    expected = shrink * sigma * math.sqrt(1 + 9 * sigma**2)
    assert judged.consistency == pytest.approx(expected, rel=0.06)  # the worst of 4 draws
    floor = shrink**2 * (sigma**2 + sigma**4 * z2)
    assert judged.threshold == pytest.approx(math.sqrt(floor + 4 * sigma**2 / 900), rel=0.03)
    assert judged.calls == 8
    assert judged.floor == pytest.approx(math.sqrt(floor), rel=0.03)
    assert judged.tells == (floor <= 4 * sigma**2 / 900)


# A world of two scenes, 12×12 pixels all +1 or all −1, seen alike from both views, on one set of pixels.

MEANS = torch.tensor([1.0, -1.0], dtype=D)[:, None, None, None].expand(2, 1, 12, 12)
PRIOR = priors.MixturePrior(MEANS, 0.01)
SIGMAS = pullback.karras_sigmas(12, 0.05, 40.0, rho=3.0)


class Both(nn.Module):
    """One image, seen by every view."""

    def __init__(self) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(1, 12, 12, dtype=D))

    def render(self, views: Tensor) -> Tensor:
        return self.values.expand(len(views), 1, 12, 12)


@dataclass(frozen=True)
class Opposed:
    """The second view sees the first one's noise with its sign turned: the two never agree."""

    kept: bool = True

    def draw(self, white, shape):
        return white((1, *shape[1:]))

    def at(self, source, views, shape):
        return torch.cat([source, -source])


def sampler(noises: tuple, seed: int = 0, **options) -> tuple[pullback.Sampler, Both]:
    rep = Both()
    restart = Restart(noises=noises, **{"sigma": 20.0, "apart": math.inf, **options})
    made = pullback.Sampler(
        rep, torch.arange(2), PRIOR.denoise, SIGMAS, restart=restart, solver=pullback.GaussNewton(),
        generator=seeded(seed),
    )  # fmt: skip
    return made, rep


def run(made: pullback.Sampler) -> list[State]:
    states = [made.initial()]
    while states[-1].sigma > 0:
        states.append(made.visit(states[-1]))
    return states[1:]


def test_one_view_that_disagrees_is_enough():
    prior = priors.GaussianPrior(torch.zeros(1, 6, 6, dtype=D), 1e-4 * torch.eye(36, dtype=D))
    rep = diffreps.Pixels(16, 1, 6, 6).double()
    rep.values.data.zero_()
    made = pullback.Sampler(rep, torch.arange(16), prior.denoise, SIGMAS, generator=seeded())
    assert made.check().passed
    rep.values.data[3] = 1.0  # the rms over views is then 1/√16 = 0.25, below the threshold 2/√36
    judged = made.check()
    assert judged.consistency == pytest.approx(1, rel=0.01) and not judged.passed


def test_views_that_agree_need_one_try():
    made, rep = sampler(("shared",))
    last = run(made)[-1]
    assert last.attempt == 0 and last.verdict.passed
    assert rep.values.abs().mean().item() == pytest.approx(1, abs=0.02)
    assert last.nfe == 12 * 2 + 8  # twelve visits of two views, and the check


def test_a_blend_goes_back_up_and_takes_the_next_noise():
    made, rep = sampler((Opposed(), Opposed(), "shared"))
    states = run(made)
    failed = [s for s in states if s.record.get("consistency", 0) > s.record.get("threshold", 1)]
    assert [s.attempt for s in failed] == [1, 2] and states[-1].attempt == 2
    assert states[-1].verdict.passed
    assert rep.values.abs().mean().item() == pytest.approx(1, abs=0.02)
    level = next(i for i, s in enumerate(SIGMAS.tolist()) if s <= 20.0)
    assert all((s.level, s.cycle, s.noise) == (level, 0, None) for s in failed)
    assert states[-1].nfe == 2 * (12 + 2 * (12 - level)) + 3 * 8


def test_a_try_that_stays_behind_fails_before_its_end():
    """Views that vote against each other hold u at 0, 12 from either image, which is more than 3σ below σ = 4."""
    made, rep = sampler((Opposed(), Opposed(), "shared"), apart=3.0)
    states = run(made)
    failed = [b for a, b in pairwise(states) if b.attempt > a.attempt]
    assert [s.attempt for s in failed] == [1, 2] and states[-1].verdict.passed
    assert rep.values.abs().mean().item() == pytest.approx(1, abs=0.02)
    assert all(s.record["apart"] > 3 and "consistency" not in s.record for s in failed)
    assert all(1 <= s.record["sigma"] < 4 for s in failed)
    visits = [s.record["level"] + 1 for s in failed]
    anchor = next(i for i, s in enumerate(SIGMAS.tolist()) if s <= 20.0)
    # visits of two views: the first try, the second, the third; one short check of the model, and the one at the end
    assert states[-1].nfe == 2 * (visits[0] + (visits[1] - anchor) + (12 - anchor)) + 4 + 8


@pytest.mark.parametrize("seed", range(4))
def test_renders_that_follow_their_votes_stay_as_many_sigma_apart(seed: int):
    """Once all views have voted alike, an exact step multiplies u − x̂0 by σ'/σ."""
    made, _ = sampler(("shared",), seed=seed, apart=3.0)
    states = run(made)
    assert states[-1].attempt == 0
    apart = [s.record["apart"] for s in states if 1 <= s.record["sigma"] < 4]
    assert len(apart) == 2 and apart == pytest.approx([apart[0]] * 2, rel=0.01)


def test_a_model_that_cannot_tell_has_one_try():
    """The Gaussian's answers move by more than 2σ/√d, so that every picture of its own would fail."""
    prior = priors.GaussianPrior(torch.zeros(1, 12, 12, dtype=D), torch.eye(144, dtype=D))
    for apart in (3.0, math.inf):
        restart = Restart(noises=("shared",), tries=3, apart=apart)
        made = pullback.Sampler(
            diffreps.Pixels(1, 12, 12).double(), [0], prior.denoise, SIGMAS, restart=restart, generator=seeded(),
            solver=pullback.FirstOrder(lr=1e-9, steps=1),
        )  # fmt: skip
        last = run(made)[-1]
        assert last.attempt == 0 and not last.verdict.tells


def test_a_try_begins_where_images_far_apart_have_not_parted():
    made, _ = sampler((Opposed(), "shared"), sigma=None)
    anchor = next(s.anchor for s in run(made) if s.anchor is not None)
    assert anchor["level"] == next(i for i, s in enumerate(SIGMAS.tolist()) if s <= 0.4 * math.sqrt(144))


def test_every_try_begins_with_the_parameters_the_first_had_there():
    made, rep = sampler((Opposed(), "shared"))
    state, at_sigma = made.initial(), None
    while state.sigma > 0:
        before = state
        state = made.visit(state)
        if at_sigma is None and state.sigma <= 20.0:
            at_sigma = rep.values.detach().clone()
        if state.attempt > before.attempt:
            assert torch.equal(rep.values, at_sigma)
            return
    pytest.fail("no try failed")


def test_the_last_try_is_kept_as_it_is():
    made, rep = sampler((Opposed(),), tries=3)
    last = run(made)[-1]
    assert last.attempt == 2 and not last.verdict.passed
    assert rep.values.abs().mean().item() < 0.9
    result = pullback.sample(
        Both(), torch.arange(2), PRIOR.denoise, SIGMAS, restart=Restart(noises=(Opposed(),), tries=1),
        generator=seeded(),
    )  # fmt: skip
    assert result.consistency > result.threshold


@pytest.mark.parametrize("stop", [3, 11, 12, 15, 20])
def test_a_run_saved_before_or_after_a_restart_goes_on_bit_for_bit(stop: int):
    whole, rep = sampler((Opposed(), "shared"))
    states = run(whole)
    first, _ = sampler((Opposed(), "shared"))
    state = first.initial()
    for _ in range(min(stop, len(states) - 1)):
        state = first.visit(state)
    saved = state.state_dict()
    second, other = sampler((Opposed(), "shared"), seed=99)
    state = second.restore(saved)
    while state.sigma > 0:
        state = second.visit(state)
    assert torch.equal(other.values, rep.values) and state.nfe == states[-1].nfe


def test_both_scenes_come_up_as_often():
    """40 runs; with both equally likely a count outside 8 … 32 has a chance below 0.0002."""
    counts = [0, 0]
    for seed in range(40):
        made, rep = sampler((Opposed(), "shared"), seed=seed)
        run(made)
        counts[int(rep.values.mean() > 0)] += 1
    assert min(counts) >= 8


class TwoSides(nn.Module):
    """A front and a back image, each seen by its own two cameras."""

    def __init__(self) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(2, 1, 12, 12, dtype=D))

    def render(self, views: Tensor) -> Tensor:
        return self.values[(views[:, 0, 3] < 0).long()]


SIDES = orbit(torch.zeros(4), torch.tensor([-10.0, 10.0, 170.0, 190.0])).double()  # front and back share no point


def voting(*votes: float):
    """A denoiser that is always sure of these images, one for each view."""
    answers = torch.tensor(votes, dtype=D)[:, None, None, None].expand(-1, 1, 12, 12)
    return lambda noisy, sigma, views: answers


def two_sides(votes: tuple[float, ...], apart: float, seed: int = 0) -> pullback.Sampler:
    return pullback.Sampler(
        TwoSides(), SIDES, voting(*votes), SIGMAS,
        restart=Restart(noises=(Surface(points=4096), "shared"), sigma=20.0, apart=apart),
        solver=pullback.GaussNewton(), generator=seeded(seed),
    )  # fmt: skip


def until_it_fails(votes: tuple[float, ...], apart: float) -> tuple[State, State, pullback.Sampler]:
    """The states before and after a first try fails."""
    made = two_sides(votes, apart)
    return next((a, b, made) for a, b in pairwise([made.initial(), *run(made)]) if b.attempt)


@pytest.mark.parametrize("apart", [3.0, math.inf], ids=["on the way", "at the end"])
def test_where_one_side_disagrees_that_side_alone_gets_new_noise(apart: float):
    votes = (1.0, -1.0, 1.0, 1.0)
    before, after, made = until_it_fails(votes, apart)
    assert after.coupling == before.coupling == 0
    assert before.noise is not None and after.noise is not None
    kept, new = (made.coupling(state).at(state.noise, SIDES, (4, 1, 12, 12)) for state in (before, after))
    assert torch.equal(kept[2:], new[2:])  # the back, and the outline of all
    changed = (kept != new)[:2].double().mean((1, 2, 3))
    assert (changed > 0.9 * math.pi * 2.5**2 / 144).all()  # the sphere has a radius of 3.35 pixels in these images
    other = two_sides(votes, apart, seed=9)
    again = other.visit(other.restore(after.state_dict()))
    made.restore(after.state_dict())
    assert torch.equal(again.noise, made.visit(after).noise)


@pytest.mark.parametrize("apart", [3.0, math.inf], ids=["on the way", "at the end"])
def test_where_all_sides_disagree_all_noise_is_new_and_of_the_next_coupling(apart: float):
    before, after, _ = until_it_fails((1.0, -1.0, 1.0, -1.0), apart)
    assert (before.coupling, after.coupling, after.noise) == (0, 1, None)


def test_a_try_is_kept_up_to_three_sigma():
    """A view between 2σ and 3σ from the model's image fails the check, and no try is spent on it."""
    for off, tries in ((2.9, 0), (3.1, 1)):
        rep = diffreps.Pixels(1, 12, 12).double()
        votes = torch.full((1, 1, 12, 12), off / 12, dtype=D)
        made = pullback.Sampler(
            rep, [0], lambda noisy, sigma, views, votes=votes: votes, SIGMAS, generator=seeded(),
            solver=pullback.FirstOrder(lr=1e-12, steps=1), restart=Restart(noises=("shared",), apart=math.inf, tries=2),
        )  # fmt: skip
        rep.values.data.zero_()
        last = run(made)[-1]
        assert last.attempt == tries and not last.verdict.passed


def test_a_limit_takes_the_place_of_the_threshold():
    made, _ = sampler((Opposed(),), tries=3, limit=10.0)
    last = run(made)[-1]
    assert last.attempt == 0 and last.verdict.passed and last.verdict.threshold == 10.0


def test_bad_options():
    for options in ({"limit": 0.0}, {"tries": 0}, {"sigma": 0.0}, {"checks": 0}, {"apart": 0.0}):
        with pytest.raises(UserError, match="Restart needs"):
            Restart(**options)
    with pytest.raises(UserError, match="not known"):
        sampler(("sharde",))


def test_as_a_constraint_it_still_works_with_a_warning():
    options = {"noises": (Opposed(), "shared"), "sigma": 20.0}
    results = []
    for given in (
        {"restart": Restart(**options), "constraint": pullback.Repaint(2)},
        {"constraint": Restart(pullback.Repaint(2), **options)},
    ):
        rep = Both()
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            pullback.sample(
                rep, torch.arange(2), PRIOR.denoise, SIGMAS, solver=pullback.GaussNewton(), generator=seeded(), **given
            )  # fmt: skip
        results.append((rep.values.detach(), [str(w.message) for w in said]))
    assert torch.equal(results[0][0], results[1][0])
    assert results[0][1] == [] and results[1][1] == ["constraint=Restart(…) is now restart=Restart(…)"]


class RightForOneBatch(nn.Module):
    """The first scene in the views it was fitted to, grey everywhere else: a field right only for its last batch."""

    def __init__(self) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.ones(1, dtype=D))
        self.known: Tensor | None = None

    def render(self, views: Tensor) -> Tensor:
        seen = torch.zeros(len(views), dtype=torch.bool) if self.known is None else torch.isin(views, self.known)
        return torch.where(seen, self.values, 0.0)[:, None, None, None].expand(-1, 1, 12, 12)


def test_a_field_that_is_right_only_for_its_last_batch_fails_the_check():
    """The framework hands the batch in; the check draws views of its own."""
    rep = RightForOneBatch()
    made = pullback.Sampler(
        rep, lambda generator: torch.rand(2, generator=generator, dtype=D), PRIOR.denoise, SIGMAS, generator=seeded(),
        solver=pullback.FirstOrder(lr=1e-9, steps=1), restart=Restart(tries=1, noises=("shared",)),
    )  # fmt: skip
    state = made.initial()
    while state.sigma > 0:
        rep.known = torch.rand(2, generator=seeded(state.level), dtype=D)
        state = made.visit(state, rep.known)
    assert not state.verdict.passed
    by_the_last_batch = consistency.check(made.space, lambda: rep.known, made.sigmas, made.generator)
    assert by_the_last_batch.passed
