from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from pullback.errors import UserError
from pullback.host.scene.background import NeuralEnvironmentMapBackground, SolidColorBackground, TexturedBackground


def directions(n: int = 3) -> torch.Tensor:
    return F.normalize(torch.randn(n, 4, 5, 3, generator=torch.Generator().manual_seed(0)), dim=-1)


def test_a_solid_colour_is_the_same_everywhere_and_learned_only_if_asked():
    background = SolidColorBackground({"color": [0.1, 0.2, 0.3]})
    torch.testing.assert_close(background(directions()), torch.tensor([0.1, 0.2, 0.3]).expand(3, 4, 5, 3))
    assert not list(background.parameters())
    learned = SolidColorBackground({"learned": True})
    learned(directions()).sum().backward()
    torch.testing.assert_close(learned.env_color.grad, torch.full((3,), 60.0))


def test_an_environment_map_depends_on_the_direction_alone():
    torch.manual_seed(0)
    background = NeuralEnvironmentMapBackground({})
    dirs = directions()
    color = background(dirs)
    assert color.shape == (3, 4, 5, 3) and color.min() > 0 and color.max() < 1
    shuffled = torch.randperm(60)
    one_row = background(dirs.reshape(1, 1, 60, 3)[:, :, shuffled])
    torch.testing.assert_close(one_row.view(60, 3), color.view(60, 3)[shuffled])
    assert color.view(60, 3).std(0).min() > 1e-4


def test_an_environment_map_can_be_fitted_to_one():
    torch.manual_seed(0)
    background = NeuralEnvironmentMapBackground({})
    dirs = F.normalize(torch.randn(1, 1, 2000, 3), dim=-1)
    target = 0.5 + 0.3 * dirs
    optimizer = torch.optim.Adam(background.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        F.mse_loss(background(dirs), target).backward()
        optimizer.step()
    assert F.mse_loss(background(dirs), target).sqrt() < 0.02


def test_evaluation_colour_replaces_the_map_outside_training():
    background = NeuralEnvironmentMapBackground({"eval_color": [1.0, 0.5, 0.0]})
    expected = torch.tensor([1.0, 0.5, 0.0]).expand(3, 4, 5, 3)
    torch.testing.assert_close(background.eval()(directions()), expected)
    assert not torch.allclose(background.train()(directions()), expected)


@pytest.mark.parametrize("kind", [SolidColorBackground, NeuralEnvironmentMapBackground])
def test_random_colours_are_one_per_image_and_only_in_training(kind):
    background = kind({"random_aug": True, "random_aug_prob": 1.0})
    color = background.train()(directions())
    assert color.shape == (3, 4, 5, 3)
    flat = color.reshape(3, 20, 3)
    assert torch.equal(flat, flat[:, :1].expand_as(flat)) and len(flat[:, 0].unique(dim=0)) == 3
    torch.testing.assert_close(background.eval()(directions()), background.color(directions()))


def test_bad_values_are_named():
    with pytest.raises(UserError, match=r"color.*n_output_dims"):
        SolidColorBackground({"color": [1.0]})
    with pytest.raises(UserError, match="random_aug_prob"):
        SolidColorBackground({"random_aug_prob": 2.0})
    with pytest.raises(UserError, match=r"dir_encoding_config\.otype"):
        NeuralEnvironmentMapBackground({"dir_encoding_config": {"otype": "Harmonics"}})


def test_a_texture_is_looked_up_by_azimuth_and_by_the_angle_to_the_zenith():
    made = TexturedBackground({"height": 8, "width": 6, "n_output_dims": 2, "color_activation": "none"})
    centres = [(2 * torch.arange(n) + 1) / n - 1 for n in (8, 6)]  # from −1 to 1 across the picture
    with torch.no_grad():
        made.texture.copy_(torch.stack(torch.meshgrid(*centres, indexing="ij"))[None])
    azimuth, tilt = (
        torch.tensor([-150.0, -10.0, 45.0, 150.0]).deg2rad(),
        torch.tensor([20.0, 90.0, 110.0, 160.0]).deg2rad(),
    )
    flat = torch.stack([azimuth.cos(), azimuth.sin()], -1) * tilt.sin()[:, None]
    dirs = torch.cat([flat, tilt.cos()[:, None]], -1).view(2, 2, 1, 3)
    # linear between the centres, so it gives back the coordinates
    expected = torch.stack([azimuth / torch.pi, tilt / torch.pi * 2 - 1], -1)
    assert torch.allclose(made(dirs=dirs).view(4, 2), expected, atol=1e-5)
    assert made.texture.requires_grad
