"""SDS, SJC, VSD, SDI against closed forms: fixed points, expectations, inversion of an exact flow; and their loop."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import pullback
import pytest
import torch
import torch.nn.functional as F
from pullback import diffreps, priors
from pullback.baselines import sdi, sds, sjc, vsd
from pullback.baselines.distil import Step
from pullback.errors import NonFiniteError, UserError

D = torch.float64
SIGMAS = torch.tensor([3.0, 1.0, 0.3, 0.0])
METHODS = pytest.mark.parametrize("method", [sds, sjc, vsd, sdi])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian(d: int, seed: int = 0) -> priors.GaussianPrior:
    generator = seeded(seed)
    root = torch.randn(d, d, generator=generator, dtype=D)
    mean = torch.randn(1, 1, d, generator=generator, dtype=D)
    return priors.GaussianPrior(mean, root @ root.T / d + 0.1 * torch.eye(d, dtype=D))


def covariance(prior: priors.GaussianPrior) -> torch.Tensor:
    return prior.directions @ prior.variances.diag() @ prior.directions.T


def a_step(clean: torch.Tensor, prior, levels: list[float], done: float = 0.0, seed: int = 0) -> Step:
    return Step(clean, done, levels, seeded(seed), prior.denoise)


# ---- the gradients


@pytest.mark.parametrize("weight,of", [("sds", lambda s: s**2 / (1 + s**2)), ("uniform", lambda s: 1.0)])
def test_sds_is_the_weighted_error_of_the_predicted_noise(weight, of):
    prior, clean = gaussian(4), torch.randn(5, 1, 1, 4, generator=seeded(1), dtype=D)
    generator = seeded(7)
    torch.randint(1, (), generator=generator)  # the choice among one level
    noise = torch.randn(5, 1, 1, 4, generator=generator, dtype=D)
    noisy = clean + 2.0 * noise
    expected = of(2.0) * ((noisy - prior.denoise(noisy, 2.0)) / 2.0 - noise)
    assert torch.allclose(sds.gradient(a_step(clean, prior, [2.0], seed=7), weight), expected, atol=1e-12)


def test_sjc_is_minus_sigma_times_the_score_and_in_the_mean_sds():
    prior, count = gaussian(4), 40_000
    clean = torch.randn(1, 1, 1, 4, generator=seeded(1), dtype=D).expand(count, 1, 1, 4)
    whole, reduced = (sjc.gradient(a_step(clean, prior, [2.0]), reduce) for reduce in (False, True))
    noise = whole - reduced
    score = torch.linalg.solve(
        covariance(prior) + 4 * torch.eye(4, dtype=D), -(clean + 2 * noise - prior.mean)[..., None]
    )
    assert torch.allclose(whole, -2.0 * score[..., 0], atol=1e-9)
    assert float(noise.std()) == pytest.approx(1, abs=0.02)
    assert torch.equal(reduced, sds.gradient(a_step(clean, prior, [2.0]), "uniform"))
    # without variance reduction it agrees in the mean, within 5 standard errors of unit noise
    assert (whole.mean(0) - reduced.mean(0)).abs().max() < 5 / math.sqrt(count)


def test_each_view_may_have_a_level_of_its_own():
    prior, clean = gaussian(4), torch.randn(3, 1, 1, 4, generator=seeded(1), dtype=D)
    levels = torch.tensor([0.3, 2.0, 5.0], dtype=D)

    @dataclass(frozen=True)
    class StepEach(Step):
        def random_level(self):
            return levels

    def denoise(noisy, sigma):
        return torch.cat([prior.denoise(y[None], float(s)) for y, s in zip(noisy, sigma, strict=True)])

    def other(noisy, sigma):
        return 0.5 * noisy

    noise = torch.randn(3, 1, 1, 4, generator=seeded(7), dtype=D)
    x0 = [prior.denoise((u + s * e)[None], float(s)) for u, s, e in zip(clean, levels, noise, strict=True)]
    score = (clean - torch.cat(x0)) / levels.view(-1, 1, 1, 1)
    share = (levels**2 / (1 + levels**2)).view(-1, 1, 1, 1)

    def step() -> StepEach:
        return StepEach(clean, 0.0, levels.tolist(), seeded(7), denoise, other)

    assert torch.allclose(sds.gradient(step(), "sds"), share * score, atol=1e-12)
    assert torch.allclose(sjc.gradient(step(), True), score, atol=1e-12)
    own = (0.5 * (clean + levels.view(-1, 1, 1, 1) * noise) - clean) / levels.view(-1, 1, 1, 1)
    assert torch.allclose(vsd.gradient(step(), "uniform"), score + own, atol=1e-12)


def test_one_particle_of_vsd_is_sds_whose_noise_stays_at_the_denoiser():
    """φ of one picture is the picture: (x̂0_φ − x̂0)/σ = (u − x̂0)/σ, the same gradient for any weight."""
    prior, rep = gaussian(4), diffreps.Pixels(3, 1, 1, 4).double()
    ends = [run(m, copy.deepcopy(rep), range(3), prior, steps=7, weight="uniform").renders for m in (sds, vsd)]
    assert torch.equal(*ends)


def test_the_exact_second_model_is_the_mean_of_the_renders_that_the_noise_lets_be():
    clean = torch.tensor([0.0, 10.0, 1.0, 10.5], dtype=D).view(4, 1, 1, 1)  # two particles of two views
    phi = vsd.Exact(2)
    assert phi.learn(clean, None, seeded()) == 0
    noisy = torch.tensor([0.2, 10.0, 2.0, 99.0], dtype=D).view(4, 1, 1, 1)
    odds = [math.exp(-(y - a) ** 2 / 2) / (math.exp(-(y - a) ** 2 / 2) + math.exp(-(y - b) ** 2 / 2))
            for y, a, b in ((0.2, 1, 0), (10.0, 10.5, 10.0), (2.0, 1, 0))]  # fmt: skip
    expected = [odds[0], 10 + 0.5 * odds[1], odds[2], 10.5]
    assert torch.allclose(phi(noisy, 1.0, None).flatten(), torch.tensor(expected, dtype=D), atol=1e-9)


def test_particles_of_vsd_spread_like_the_prior_where_sds_gathers_at_its_mode():
    """50 particles of N(0.5, 1), whose own spread has a standard error of 10 %; 4 of them are allowed."""
    prior, count = priors.GaussianPrior(torch.full((1, 1, 1), 0.5, dtype=D), torch.ones(1, 1, dtype=D)), 50
    levels = torch.cat([torch.logspace(0.5, -0.7, 20, dtype=D), torch.zeros(1)])
    spreads = {}
    for method in (sds, vsd):
        particles: list[Any] = [diffreps.Pixels(1, 1, 1, 1).double() for _ in range(count)]
        for particle, at in zip(particles, torch.randn(count, generator=seeded(1), dtype=D), strict=True):
            torch.nn.init.constant_(particle.values, 3 + 0.2 * float(at))
        whole = vsd.Particles(particles)
        # one step of every particle is J^T g / (particles · views)
        descent = torch.optim.SGD(whole.parameters(), lr=0.1 * count)
        if method is vsd:
            rest = {"steps": 400, "weight": "uniform", "optimizer": descent, "generator": seeded()}
            result = vsd.sample(particles, [0], prior.denoise, levels, **rest)
            assert result.nfe == 400 * count
        else:
            sds.sample(
                whole, [0], vsd.ForEach(prior.denoise, count), levels, steps=400, optimizer=descent, generator=seeded()
            )
        at = torch.stack([p.values.detach().flatten() for p in particles])
        spreads[method] = float(at.std())
        assert float(at.mean()) == pytest.approx(0.5, abs=0.4)
    assert spreads[vsd] == pytest.approx(1, abs=4 * 0.1)
    assert spreads[sds] < 0.5


def test_inversion_recovers_the_noise_of_an_exact_flow():
    prior, clean = gaussian(5), torch.randn(3, 1, 1, 5, generator=seeded(2), dtype=D)
    exact = (prior.flow(clean, 0.1, 4.0) - clean) / 4.0
    errors = []
    for count in (100, 200):
        levels = torch.logspace(-1, math.log10(4.0), count, dtype=D).tolist()
        errors.append((sdi.invert(clean, levels, prior.denoise) - exact).abs().max().item())
    assert errors[1] < 0.02 < exact.abs().max() / 10
    assert math.log2(errors[0] / errors[1]) == pytest.approx(1, abs=0.1)  # Euler


def test_sdi_has_its_closed_form_for_a_gaussian():
    # along e_k, d = ⟨u − μ, e_k⟩ and a = √((λ + σ²)/(λ + σ_min²)): y − μ = a d, ε̂ = σ a d/(λ + σ²), ε = (a − 1) d/σ
    prior, clean = gaussian(5), torch.randn(3, 1, 1, 5, generator=seeded(2), dtype=D)
    levels = torch.logspace(math.log10(2.0), -1, 1500, dtype=D).tolist()
    step = a_step(clean, prior, levels)
    found = sdi.gradient(step, *sdi.annealed(step, 1500, False), "uniform")
    parts, variances = (clean - prior.mean).flatten(1) @ prior.directions, prior.variances
    a = ((variances + 4) / (variances + 0.01)).sqrt()
    expected = (2.0 * a / (variances + 4) - (a - 1) / 2.0) * parts
    assert torch.allclose(found.flatten(1) @ prior.directions, expected, atol=3e-3)
    assert expected.abs().max() > 0.1


def test_noise_of_the_inversion_has_ddims_deviation_in_the_variance_preserving_state():
    """σ_t² = (1 − ᾱ_s)/(1 − ᾱ_t) (1 − ᾱ_t/ᾱ_s) from s to t > s (Song et al. 2021, eq. 16); 5 standard errors."""
    low, high, count = 0.4, 1.5, 100_000
    clean, generator = torch.zeros(count, 1, 1, 1, dtype=D), seeded(3)

    def white():
        return torch.randn(clean.shape, generator=generator, dtype=D)

    found = sdi.invert(clean, [low, high], lambda noisy, sigma: noisy, eta=0.3, white=white)
    state = found * high / math.sqrt(1 + high**2)  # y = σ ε here, z = √ᾱ y
    a, b = 1 / (1 + low**2), 1 / (1 + high**2)
    expected = 0.3 * math.sqrt((1 - a) / (1 - b) * (1 - b / a))
    assert float(state.std()) == pytest.approx(expected, rel=5 / math.sqrt(2 * count))


def test_an_inversion_that_ends_higher_is_remapped_or_not():
    prior, clean = gaussian(4), torch.randn(2, 1, 1, 4, generator=seeded(2), dtype=D)
    step, path = a_step(clean, prior, [2.0, 1.0]), [0.5, 1.0, 1.3]
    noise = sdi.invert(clean, path, prior.denoise)
    remapped = prior.denoise(clean + 1.1 * noise, 1.1)
    state = (clean + 1.3 * noise) / math.sqrt(1 + 1.3**2)  # z at the path's end, shown as if it were of σ = 1.1
    shown = prior.denoise(state * math.sqrt(1 + 1.1**2), 1.1)
    for remap, x0 in ((True, remapped), (False, shown)):
        assert torch.allclose(sdi.gradient(step, path, 1.1, "x0", remap=remap), clean - x0, atol=1e-12)


def test_the_overshoot_ends_at_most_one_step_of_the_path_above():
    levels, ends = torch.logspace(1, -1, 21, dtype=D).tolist(), set()
    for seed in range(200):
        path, sigma = sdi.annealed(Step(torch.zeros(1), 0.5, levels, seeded(seed), lambda y, s: y), 5, True)
        assert sigma == levels[10] and path[:-1] == sorted(path[:-1]) and len(path) == 6
        ends.add(path[-1])
    assert ends == set(levels[8:11])  # ten levels below in five steps: two levels each


def test_the_inversion_may_have_a_denoiser_of_its_own():
    prior, calls = gaussian(4), []

    class Guided:
        nfe_per_view = 2

        def __call__(self, noisy, sigma, views):
            calls.append(sigma)
            return prior.denoise(noisy, sigma)

    rep, options = diffreps.Pixels(1, 1, 4).double(), {"inversion_steps": 1, "invert_denoise": Guided()}
    result = run(sdi, rep, [0], prior, steps=3, **options)
    # at the last level there is nothing to invert
    assert calls == pytest.approx([0.3, 0.3]) and result.nfe == 3 + 2 * 2


def test_sdi_goes_through_the_levels_once_and_inverts_over_those_below():
    prior, clean, levels = gaussian(3), torch.zeros(1, 1, 1, 3, dtype=D), [8.0, 4.0, 2.0, 1.0, 0.5]
    paths = []
    for done in (0.0, 0.39, 0.4, 0.99):
        seen = []

        def denoise(noisy, sigma, seen=seen):
            seen.append(sigma)
            return prior.denoise(noisy, sigma)

        step = Step(clean, done, levels, seeded(), denoise)
        sdi.gradient(step, *sdi.annealed(step, 2, False), "sds")
        paths.append(seen)
    assert paths == [[0.5, 2.0, 8.0], [0.5, 2.0, 4.0], [0.5, 1.0, 2.0], [0.5]]


# ---- where they end


def run(method, rep, views, prior, sigmas=SIGMAS, rate: float = 0.1, steps: int = 200, seed: int = 0, **options):
    descent = torch.optim.SGD(rep.parameters(), lr=rate)
    return method.sample(
        rep, views, prior.denoise, sigmas, steps=steps, optimizer=descent, generator=seeded(seed), **options
    )


@pytest.mark.parametrize("method,weight", [(sds, "sds"), (sds, "uniform"), (sjc, None)])
def test_the_fixed_point_is_one_image_whatever_the_seed(method, weight):
    # the mean gradient Aᵀ Σ_σ w(σ) σ (Σ + σ²I)⁻¹ (Aθ − μ) vanishes at one θ; many views average the noise away
    prior, matrix = gaussian(6), torch.randn(6, 2, generator=seeded(3), dtype=D)
    levels = SIGMAS[:-1].tolist()
    cov, weigh = covariance(prior), sds.WEIGHTS[weight or "uniform"]
    metric = sum(weigh(s) * s * torch.linalg.inv(cov + s**2 * torch.eye(6, dtype=D)) for s in levels)
    expected = torch.linalg.solve(matrix.T @ metric @ matrix, matrix.T @ metric @ prior.mean.flatten())
    options = {} if weight is None else {"weight": weight}
    ends = []
    for seed in range(2):
        rep = diffreps.Linear(matrix)
        run(method, rep, range(2000), prior, rate=0.02, steps=600, seed=seed, **options)
        ends.append(rep.theta.detach())
    assert torch.allclose(ends[0], expected, atol=0.03) and torch.allclose(ends[1], expected, atol=0.03)
    assert expected.abs().max() > 0.3


def test_sdi_ends_at_the_mean_too():
    prior, rep = gaussian(4), diffreps.Pixels(1, 1, 4).double()
    levels = torch.cat([torch.logspace(0.5, -1, 60, dtype=D), torch.zeros(1)])
    run(sdi, rep, [0], prior, levels, rate=0.5, steps=300, inversion_steps=30)
    assert torch.allclose(rep.values.detach()[0], prior.mean, atol=0.05)
    assert prior.mean.abs().max() > 0.5


@METHODS
def test_of_two_modes_the_heavier_one_is_found_more_often_than_its_weight(method):
    # the pulled-back flow finds it in its two thirds of the runs (tests/test_sampler.py has unequal weights)
    means = torch.tensor([-1.0, 1.0], dtype=D).view(2, 1, 1, 1)
    prior, rep = priors.MixturePrior(means, 0.1, torch.tensor([2.0, 1.0])), diffreps.Pixels(400, 1, 1, 1).double()
    levels = pullback.karras_sigmas(100, 0.1, 10.0, rho=3.0)
    run(method, rep, range(400), prior, levels, rate=0.01 * 400, steps=1500)
    assert (rep.values < 0).double().mean() > 2 / 3 + 5 * math.sqrt(2 / 9 / 400)


@METHODS
def test_without_the_inverse_metric_the_path_depends_on_the_parametrisation(method):
    prior, matrix = gaussian(4), torch.randn(4, 2, generator=seeded(3), dtype=D)
    reps = [diffreps.Linear(matrix), diffreps.Linear(2 * matrix)]
    first, second = (run(method, rep, [0], prior, steps=10).renders for rep in reps)
    assert (first - second).abs().max() > 0.01


# ---- the loop


@METHODS
def test_calls_are_counted_and_every_step_recorded(method):
    calls, prior = [], gaussian(4)

    class Counting:
        nfe_per_view = 2

        def __call__(self, noisy, sigma, views):
            calls.append(2 * len(noisy))
            return prior.denoise(noisy, sigma)

    seen = []
    rep, fixed = diffreps.Pixels(3, 1, 1, 4).double(), {"inversion_steps": 1} if method is sdi else {}
    result = method.sample(
        rep, [0, 1, 2], Counting(), SIGMAS, steps=6, generator=seeded(), callback=seen.append, **fixed
    )
    assert result.nfe == sum(calls[:-2])  # the last two calls are the self-consistency check
    assert result.nfe == (10 if method is sdi else 6) * 6  # SDI inverts at the first two of three levels, 4 steps of 6
    assert seen == result.history and [h["step"] for h in seen] == list(range(6))
    assert all(type(value) in (int, float) for h in seen for value in h.values())
    assert {h["sigma"] for h in seen} <= set(SIGMAS[:-1].double().tolist())


def test_random_levels_are_equally_likely():
    result = run(sds, diffreps.Pixels(1, 1, 2).double(), [0], gaussian(2), steps=1500)
    for level in SIGMAS[:-1].double().tolist():
        share = sum(h["sigma"] == level for h in result.history) / 1500
        assert share == pytest.approx(1 / 3, abs=5 * math.sqrt(2 / 9 / 1500))


@METHODS
def test_one_seed_is_one_result_and_fresh_views_are_drawn(method):
    prior, ends, drawn = gaussian(4), [], []

    def views(generator):
        drawn.append(int(torch.randint(100, (), generator=generator)))
        return [0]

    for seed in (1, 1, 2):
        rep = diffreps.Pixels(1, 1, 4).double()
        ends.append(method.sample(rep, views, prior.denoise, SIGMAS, steps=5, generator=seeded(seed)).renders)
    assert torch.equal(ends[0], ends[1]) and not torch.equal(ends[0], ends[2])
    assert len(drawn) >= 15 and len(set(drawn)) > 3


@METHODS
def test_latents_are_reached_through_the_encoder(method):
    # z = 2 P x with a permutation P: a step of x with rate r is a step of z with rate 4 r
    prior = priors.GaussianPrior(torch.full((4, 2, 2), 0.5, dtype=D), torch.diag(torch.linspace(0.1, 3, 16, dtype=D)))

    class Latent:
        denoise = property(lambda self: self)

        def encode(self, images):
            return 2 * F.pixel_unshuffle(images, 2)

        def __call__(self, noisy, sigma, views):
            return prior.denoise(noisy, sigma)

    outer, inner = diffreps.Pixels(1, 4, 4).double(), diffreps.Pixels(4, 2, 2).double()
    run(method, outer, [0], Latent(), rate=0.1, steps=20)
    run(method, inner, [0], prior, rate=0.4, steps=20)
    assert torch.allclose(Latent().encode(outer.values), inner.values, atol=1e-12)
    assert inner.values.abs().max() > 0.1


@METHODS
def test_nan_names_step_and_sigma_and_leaves_the_last_good_parameters(method):
    prior, rep, calls, good = gaussian(4), diffreps.Pixels(2, 1, 1, 4).double(), [], []

    def denoise(noisy, sigma, views):
        calls.append(sigma)
        x0 = prior.denoise(noisy, sigma)
        if len(good) == 3:
            x0[1] = math.nan
        return x0

    with pytest.raises(NonFiniteError, match=r"step 3, sigma .*: the denoiser's answer .* view 1"):
        method.sample(
            rep,
            [0, 1],
            denoise,
            SIGMAS,
            steps=9,
            generator=seeded(),
            callback=lambda h: good.append(rep.values.clone()),
        )
    assert torch.equal(rep.values, good[-1])


@METHODS
def test_bad_arguments_are_refused(method):
    rep, prior = diffreps.Pixels(1, 1, 4).double(), gaussian(4)
    for options, match in (({"steps": 0}, "steps"), ({"lr": 0.0}, "lr"), ({"sigmas": SIGMAS[:-1]}, "end in 0")):
        with pytest.raises(UserError, match=match):
            method.sample(rep, [0], prior.denoise, **{"sigmas": SIGMAS, **options})
    if method is not sjc:
        with pytest.raises(UserError, match="weight 'pink'"):
            method.sample(rep, [0], prior.denoise, SIGMAS, weight="pink")
    if method is sdi:
        with pytest.raises(UserError, match="inversion step"):
            sdi.sample(rep, [0], prior.denoise, SIGMAS, inversion_steps=0)
