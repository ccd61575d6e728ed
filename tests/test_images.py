"""`pullback evaluate images`: what its samples have in common, its methods, its report."""

from __future__ import annotations

import json
import math
import shlex
from pathlib import Path

import pytest
import torch
from pullback import GaussNewton, cli, diffreps, models
from pullback.errors import UserError
from pullback.evaluate import images
from pullback.evaluate.images import campaign, samples
from pullback.evaluate.images import measures as images_measures
from pullback.evaluate.images import methods as images_methods
from pullback.evaluate.images import results as images_results
from pullback.evaluate.studio import captions
from pullback.fitting.problem import Fit
from tiny_pipeline import build

SMALL = samples.Settings(
    hidden=8, layers=1, rays=64, steps=2, levels=2, sigma_min=1.0, rounds=0, distil_steps=2
)  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("model") / "sd"
    build(path)
    return str(path)


def test_a_sample_is_the_same_in_any_batch(model: str):
    whole, part = samples.batch(model, SMALL, 7, 1.0, range(0, 5)), samples.batch(model, SMALL, 7, 1.0, range(3, 5))
    assert torch.equal(whole.noise[3:], part.noise)
    with torch.no_grad():
        assert torch.allclose(whole.sirens.render([3, 4]), part.sirens.render([0, 1]), atol=1e-6)
        first, second = part.sirens.render([0, 1])
        assert not torch.allclose(first, second, atol=1e-2)
    assert torch.allclose(images_methods.reference(whole)[0][3:], images_methods.reference(part)[0], atol=1e-5)
    assert not torch.equal(part.noise[0], part.noise[1])


def test_prompts_are_drawn_independently_and_ask_for_what_there_is():
    drawn = [samples.prompt_of(0, number) for number in range(400)]
    counts = [drawn.count(prompt) for prompt in samples.PROMPTS]
    # χ² with 7 degrees of freedom exceeds 29.9 once in 10,000
    assert sum((c - 50) ** 2 / 50 for c in counts) < 29.9
    assert all(captions.parse(prompt.rpartition(", ")[0]) is not None for prompt in samples.PROMPTS)


def test_ours_starts_from_the_very_state_of_the_reference(model: str, monkeypatch: pytest.MonkeyPatch):
    given = samples.batch(model, SMALL, 0, 1.0, range(2))
    seen: list[torch.Tensor] = []
    whole = models.GuidedDenoiser.__call__

    def recorded(self, noisy, sigma, views):
        seen.append(noisy)
        return whole(self, noisy, sigma, views)

    monkeypatch.setattr(models.GuidedDenoiser, "__call__", recorded)
    images_methods.reference(given)
    first = seen[0]
    seen.clear()
    images_methods.ours(given)
    assert torch.allclose(seen[0], first, atol=1e-5)
    assert torch.allclose(first, float(given.sigmas[0]) * given.noise, rtol=1e-6)


def test_with_an_exact_fit_and_a_faithful_autoencoder_ours_is_the_reference(model: str, monkeypatch):
    """The model's own autoencoder replaced by one without loss, the SIRENs by their pixels."""
    settings = samples.Settings(**{**vars(SMALL), "levels": 5})
    given = samples.batch(model, settings, 0, 2.5, range(3))
    monkeypatch.setattr(models.GuidedDenoiser, "encode", lambda self, x: x)
    monkeypatch.setattr(models.GuidedDenoiser, "decode", lambda self, z: z)
    monkeypatch.setattr(given.model, "decode", lambda z: z)
    exact = samples.Batch(**{**vars(given), "sirens": diffreps.Pixels(*given.noise.shape)})
    exact.sirens.get_parameter("values").data.normal_(generator=torch.Generator().manual_seed(0))
    pictures, nfe, _ = images_methods.pulled_back(exact, GaussNewton(iterations=1, cg_iterations=1))
    assert torch.allclose(pictures, images_methods.reference(given)[0], atol=1e-4)
    assert nfe == 5 * 3 * 2


def test_the_chain_rule_alone_is_a_step_along_the_gradient_and_no_solution():
    """On a linear map: θ moves by the multiple of Jᵀr that leaves the least, and the residual stays."""
    torch.manual_seed(0)
    matrix = torch.randn(6, 4, dtype=torch.float64) @ torch.diag(
        torch.tensor([1.0, 1.0, 0.1, 0.05], dtype=torch.float64)
    )
    target = (matrix @ torch.ones(4, dtype=torch.float64)).view(1, 1, 1, 6)
    ends = []
    for solver in (GaussNewton(1, 1), GaussNewton(1, 20)):
        rep = diffreps.Linear(matrix)
        solver.solve(Fit(rep, [0], target, None, torch.Generator()))
        ends.append(rep.theta.detach().clone())
    gradient = matrix.T @ target.flatten()
    length = gradient.dot(gradient) / (matrix @ gradient).square().sum()
    assert torch.allclose(ends[0], length * gradient, atol=1e-12)
    assert torch.allclose(ends[1], torch.ones(4, dtype=torch.float64), atol=1e-6)
    assert (matrix @ ends[0] - target.flatten()).norm() > 0.01 * target.norm()


class Autoencoder:
    """encode(decode(z)) = M z: 2 latents, 3 pixels."""

    model = None
    fit_space, nfe_per_view = "image", 1

    def __init__(self, matrix: torch.Tensor):
        self.matrix = matrix

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return torch.cat([latents, latents.sum(1, keepdim=True)], 1)

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        return torch.einsum("ij,vjhw->vihw", self.matrix, pictures[:, :2])


@pytest.mark.parametrize(("step", "factor"), [(1.0, 0.3), (0.5, (0.5**2 + 0.15**2) ** 0.5)])
def test_every_round_takes_the_autoencoders_error_down(step: float, factor: float):
    """M = I + 0.3 × a quarter turn: I − step·M shrinks every vector by √((1 − step)² + (0.3 step)²)."""
    torch.manual_seed(0)
    plain = Autoencoder(torch.eye(2) + 0.3 * torch.tensor([[0.0, 1.0], [-1.0, 0.0]]))
    latents = torch.randn(4, 2, 3, 3)
    for rounds in range(4):
        denoise = models.RoundTrip(plain, rounds, step)  # pyright: ignore[reportArgumentType]
        left = denoise.encode(denoise.decode(latents)) - latents
        assert float(left.norm() / latents.norm()) == pytest.approx(0.3 * factor**rounds, rel=1e-4)
    for rounds, wrong in ((-1, 0.5), (1, 0.0)):
        with pytest.raises(UserError, match="at least 0"):
            models.RoundTrip(plain, rounds, wrong)  # pyright: ignore[reportArgumentType]


def test_sets_are_compared_without_pairs_of_one_noise():
    """Equal sets: an even and an odd half are independent, so that the interval holds 0 (95 %; seeds fixed)."""
    torch.manual_seed(1)
    features = torch.randn(64, 8)
    for found in images_measures.halves(features, features):
        assert found["low"] < 0 < found["high"]
    shifted = images_measures.halves(features, features + 2)
    assert all(found["low"] > 0 for found in shifted)


def test_exact_pictures_are_what_the_prompts_ask_for():
    pictures = images_measures.exact_pictures(6, 0)
    assert pictures.shape == (6, 3, 64, 64) and bool(pictures.isfinite().all())
    assert torch.equal(pictures, images_measures.exact_pictures(6, 0))
    assert not torch.equal(pictures[0], pictures[1])


def test_the_report_is_made_and_a_second_call_makes_nothing_anew(model: str, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(campaign, "BATCH", 5)
    monkeypatch.setattr(images_measures, "EXACT", 4)
    arguments = (model, SMALL, 0, campaign.Extent(6, [1.0], 9, [0.0, 1.0], 1), tmp_path, 1)
    text = images.evaluate(*arguments)
    rows = json.loads((tmp_path / "images.json").read_text())["rows"]
    # 6 in batches of 5 for two methods, three ablations, 9 in batches of 5 for what the scales do not have yet
    assert len(rows) == 2 * 2 + 3 + 2 * (4 + 2)
    for name in ("guidance-1", "curve-0", "curve-1", "curves", "large", "ablation"):
        assert f"({name}.png)" in text and (tmp_path / f"{name}.png").stat().st_size > 0
    figures = json.loads((tmp_path / "images-figures.json").read_text())
    assert len(figures["psnr"]["1.0"]) == 6 and len(figures["halves"]["1.0"]["ours"]) == 2
    assert all(math.isfinite(v["kid"]) for line in figures["curves"].values() for v in line.values())
    # ours is not in the curve of guidance 1: 6 samples of 8 prompts need not hold two of a prompt
    assert set(figures["curves"]) == {"ours", "reference", "sds", "sjc"}
    assert set(figures["curves"]["ours"]) == {"0.0"} and set(figures["curves"]["sds"]) == {"0.0", "1.0"}
    assert "pullback evaluate images --samples 6" in text and "hidden=8" in text

    monkeypatch.setattr(campaign, "run_one", lambda *arguments: pytest.fail("made anew"))
    assert images.evaluate(*arguments) == text
    # the command in the report, run as it stands, is the same run
    (tmp_path / "images.md").unlink()
    assert cli.main(shlex.split(text.split("`")[1])[1:]) == 0
    assert (tmp_path / "images.md").read_text() == text
    with pytest.raises(UserError, match="seed 0, not 1"):
        images.evaluate(model, SMALL, 1, *arguments[3:])


def test_a_folder_begun_with_fewer_samples_goes_on(model: str, tmp_path: Path):
    for count in (3, 6):
        images.evaluate(model, SMALL, 0, campaign.Extent(count, [1.0], 0, [], 0), tmp_path, 1)
    results = images_results.Results(tmp_path, model, SMALL, 0)
    assert len(results.rows) == 4 and len(results.pictures("ours", 1.0)) == 6


def test_an_ablation_has_ours_and_the_reference_beside_it_at_any_scales():
    todo = campaign.tasks(campaign.Extent(3, [2.5], 0, [], 2))
    assert {m for m, scale, numbers in todo if scale == 1 and 0 in numbers} == {
        "ours",
        "reference",
        *images_methods.ABLATION,
    }
    assert [n for m, _, n in todo if m == "gauss-newton"] == [range(0, 1), range(1, 2)]
    # nothing twice where the scales have it
    assert [n for m, s, n in campaign.tasks(campaign.Extent(20, [1.0], 4, [1.0], 2)) if m == "ours"] == [
        range(0, 16),
        range(16, 20),
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["hiden=3"], "write key=value"),
        (["steps=many"], "steps must be a number"),
        (["--samples", "0"], "--samples and --workers"),
    ],
)
def test_bad_input_gets_one_sentence(arguments: list[str], words: str, tmp_path: Path, capsys):
    assert cli.main(["evaluate", "images", "--out", str(tmp_path), *arguments]) == 2
    assert words in capsys.readouterr().err
