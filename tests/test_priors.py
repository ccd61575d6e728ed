"""Exact denoisers against definitions: Bayes by quadrature or sampling, limits, and Tweedie's formula."""

from __future__ import annotations

import pytest
import torch
from pullback import priors
from pullback.errors import UserError

D = torch.float64


def gaussian() -> priors.GaussianPrior:
    generator = torch.Generator().manual_seed(1)
    root = torch.randn(6, 6, generator=generator, dtype=D)
    return priors.GaussianPrior(torch.randn(1, 2, 3, generator=generator, dtype=D), root @ root.T)


def test_gaussian_posterior_mean_is_the_linear_regression():
    prior, sigma = gaussian(), 0.7
    cov = prior.directions @ prior.variances.diag() @ prior.directions.T
    noisy = torch.randn(5, 1, 2, 3, dtype=D, generator=torch.Generator().manual_seed(2))
    gain = cov @ torch.linalg.inv(cov + sigma**2 * torch.eye(6, dtype=D))
    expected = prior.mean.flatten() + (noisy - prior.mean).flatten(1) @ gain.T
    assert torch.allclose(prior.denoise(noisy, sigma).flatten(1), expected, atol=1e-12)


def test_gaussian_flow_solves_the_probability_flow_ode():
    prior, sigma, step = gaussian(), 1.3, 1e-5
    noisy = 2 * torch.randn(1, 1, 2, 3, dtype=D, generator=torch.Generator().manual_seed(3))
    slope = (prior.flow(noisy, sigma, sigma + step) - prior.flow(noisy, sigma, sigma - step)) / (2 * step)
    assert torch.allclose(slope, (noisy - prior.denoise(noisy, sigma)) / sigma, atol=1e-8)
    there = prior.flow(noisy, 5.0, 0.2)
    assert torch.allclose(prior.flow(there, 0.2, 5.0), noisy, atol=1e-12)


def test_gaussian_of_lower_rank_flows_to_its_plane():
    root = torch.randn(12, 2, generator=torch.Generator().manual_seed(4), dtype=D)
    prior = priors.GaussianPrior(torch.zeros(1, 3, 4, dtype=D), root @ root.T)
    end = prior.flow(torch.randn(3, 1, 3, 4, dtype=D, generator=torch.Generator().manual_seed(5)), 1.0, 0.0)
    outside = torch.eye(12, dtype=D) - root @ torch.linalg.pinv(root)
    assert torch.allclose(end.flatten(1) @ outside, torch.zeros(3, 12, dtype=D), atol=1e-6)


def test_gaussian_refuses_what_is_no_covariance():
    with pytest.raises(UserError, match="2 by 2"):
        priors.GaussianPrior(torch.zeros(1, 1, 2), torch.eye(3))
    with pytest.raises(UserError, match="negative eigenvalue"):
        priors.GaussianPrior(torch.zeros(1, 1, 2), torch.diag(torch.tensor([1.0, -1.0])))


@pytest.mark.parametrize("smoothing", [0.3, 1.0])
def test_mixture_posterior_mean_by_quadrature(smoothing):
    means = torch.tensor([-1.0, 0.5, 2.0], dtype=D).view(3, 1, 1, 1)
    weights, sigma, y = torch.tensor([1.0, 2.0, 5.0], dtype=D), 0.8, 0.4
    prior = priors.MixturePrior(means, smoothing, weights)
    x = torch.linspace(-15, 15, 200_001, dtype=D)
    density = sum(w * torch.exp(-((x - m) ** 2) / (2 * smoothing**2)) for w, m in zip(weights, means, strict=True))
    joint = density.flatten() * torch.exp(-((y - x) ** 2) / (2 * sigma**2))
    expected = float((x * joint).sum() / joint.sum())
    found = prior.denoise(torch.full((1, 1, 1, 1), y, dtype=D), sigma, [0])
    assert float(found) == pytest.approx(expected, abs=1e-9)


def test_one_component_is_the_gaussian():
    mean = torch.randn(1, 2, 3, dtype=D, generator=torch.Generator().manual_seed(4))
    noisy = torch.randn(4, 1, 2, 3, dtype=D, generator=torch.Generator().manual_seed(5))
    single = priors.MixturePrior(mean[None], 0.6).denoise(noisy, 0.9, range(4))
    exact = priors.GaussianPrior(mean, 0.36 * torch.eye(6, dtype=D)).denoise(noisy, 0.9)
    assert torch.allclose(single, exact, atol=1e-13)


def scenes(views) -> torch.Tensor:
    """Three scenes whose look turns with the view's angle: [3,V,1,2,2]."""
    corner = torch.arange(4, dtype=D).view(1, 1, 1, 2, 2)
    angle = views.view(1, -1, 1, 1, 1)
    return torch.sin(angle * torch.arange(1, 4, dtype=D).view(3, 1, 1, 1, 1) + corner)


def test_scene_mixture_knows_each_view():
    views = torch.tensor([0.2, 1.7, 3.0], dtype=D)
    prior = priors.SceneMixture(scenes, 0.0)
    for k in range(3):
        truth = scenes(views)[k]
        assert torch.allclose(prior.denoise(truth, 0.02, views), truth, atol=1e-12)
        assert prior.nearest(truth, views) == (k, 0.0)
    far = prior.denoise(torch.zeros_like(scenes(views)[0]), 1e6, views)
    assert torch.allclose(far, scenes(views).mean(0), atol=1e-9)


def test_scene_weights_rule_where_noise_hides_the_scene():
    views = torch.tensor([0.2, 1.7], dtype=D)
    prior = priors.SceneMixture(scenes, 0.1, torch.tensor([6.0, 3.0, 1.0], dtype=D))
    odds = prior.responsibilities(torch.zeros(2, 1, 2, 2, dtype=D), 1e5, views)
    assert torch.allclose(odds, torch.tensor([0.6, 0.3, 0.1], dtype=D)[:, None].expand(3, 2), atol=1e-8)


def test_a_group_of_views_votes_once_by_bayes_rule():
    views = torch.tensor([0.2, 1.7, 0.9, 2.4], dtype=D)
    weights = torch.tensor([6.0, 3.0, 1.0], dtype=D)
    prior, sigma = priors.SceneMixture(scenes, 0.1, weights, group=2), 0.8
    noisy = torch.randn(4, 1, 2, 2, dtype=D, generator=torch.Generator().manual_seed(0))
    odds = prior.responsibilities(noisy, sigma, views)
    normal = torch.distributions.Normal(scenes(views), (sigma**2 + 0.1**2) ** 0.5)
    likelihood = normal.log_prob(noisy).sum((2, 3, 4)).exp()
    for first in (0, 2):
        joint = weights * likelihood[:, first] * likelihood[:, first + 1]
        for view in (first, first + 1):
            assert torch.allclose(odds[:, view], joint / joint.sum(), atol=1e-12)
    alone = priors.SceneMixture(scenes, 0.1, weights).denoise(noisy, sigma, views)
    assert not torch.allclose(prior.denoise(noisy, sigma, views), alone, atol=1e-3)
    with pytest.raises(UserError, match="at least 1 view"):
        priors.SceneMixture(scenes, 0.1, weights, group=0)


@pytest.mark.parametrize("smoothing,weights", [(-0.1, None), (0.1, torch.tensor([1.0, 0.0])), (0.1, torch.ones(1, 2))])
def test_impossible_mixtures_are_refused(smoothing, weights):
    with pytest.raises(UserError):
        priors.SceneMixture(scenes, smoothing, weights)


def test_a_weight_for_every_scene():
    prior = priors.SceneMixture(scenes, 0.1, torch.ones(2))
    with pytest.raises(UserError, match="3 scenes"):
        prior.denoise(torch.zeros(1, 1, 2, 2, dtype=D), 1.0, torch.zeros(1, dtype=D))
