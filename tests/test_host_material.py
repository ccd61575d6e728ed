from __future__ import annotations

import math

import pytest
import torch
from pullback.errors import UserError
from pullback.host.scene.material import DiffuseWithPointLightMaterial, NoMaterial


def lit(**cfg) -> DiffuseWithPointLightMaterial:
    cfg = {"albedo_activation": "none", "ambient_only_steps": 10, **cfg}
    material = DiffuseWithPointLightMaterial(cfg)
    material.update_step(0, 10)
    return material.eval()


def patch(angle: float = 60.0):
    """A surface at the origin that faces +z, a light 2 away at `angle` degrees from its normal."""
    a = math.radians(angle)
    return {
        "features": torch.tensor([[0.2, 0.5, 1.0]]),
        "positions": torch.zeros(1, 3),
        "shading_normal": torch.tensor([[0.0, 0.0, 1.0]]),
        "light_positions": 2 * torch.tensor([[math.sin(a), 0.0, math.cos(a)]]),
    }


def test_features_are_colours_after_the_activation():
    features = torch.randn(4, 5, 3)
    torch.testing.assert_close(NoMaterial({})(features), features.sigmoid())
    torch.testing.assert_close(NoMaterial({"color_activation": "scale_-11_01"})(features), features / 2 + 0.5)
    albedo = NoMaterial({"color_activation": "none"}).export(features)["albedo"]
    torch.testing.assert_close(albedo, features.clamp(0, 1))


def test_a_network_turns_features_into_colours():
    network = {"otype": "VanillaMLP", "n_neurons": 8, "n_hidden_layers": 1}
    material = NoMaterial({"input_feature_dims": 7, "mlp_network_config": network})
    out = material(torch.randn(4, 5, 7))
    assert out.shape == (4, 5, 3) and material.network is not None
    assert out.min() > 0 and out.max() < 1


def test_a_lambertian_patch_under_a_known_light():
    albedo = torch.tensor([[0.2, 0.5, 1.0]])
    torch.testing.assert_close(lit()(**patch(60)), albedo * (0.1 + 0.9 * 0.5))
    torch.testing.assert_close(lit()(**patch(0)), albedo)
    torch.testing.assert_close(lit()(**patch(120)), albedo * 0.1)  # from behind: ambient light alone
    colored = lit(ambient_light_color=[0.3, 0.0, 0.0], diffuse_light_color=[0.0, 0.0, 0.8])
    torch.testing.assert_close(colored(**patch(60)), albedo * torch.tensor([[0.3, 0.0, 0.4]]))


def test_shading_can_be_asked_for():
    material = lit()
    torch.testing.assert_close(material(**patch(), shading="albedo"), patch()["features"])
    torch.testing.assert_close(material(**patch(), shading="textureless"), torch.full((1, 3), 0.55))
    half = material(**patch(), ambient_ratio=0.2, shading="textureless")
    torch.testing.assert_close(half, torch.full((1, 3), 0.2 + 0.8 * 0.5))
    with pytest.raises(ValueError, match="shading"):
        material(**patch(), shading="shiny")


def test_training_shows_each_kind_of_shading_as_often_as_the_config_says():
    import random

    random.seed(0)
    material = lit(diffuse_prob=0.8, textureless_prob=0.25).train()
    shown = [tuple(material(**patch())[0].tolist()) for _ in range(2000)]
    kinds = {k: tuple(lit()(**patch(), shading=k)[0].tolist()) for k in ("albedo", "textureless", "diffuse")}
    share = {k: shown.count(v) / 2000 for k, v in kinds.items()}
    assert sum(share.values()) == 1
    # four standard deviations of 2000 draws are at most 0.045
    assert share == pytest.approx({"albedo": 0.2, "textureless": 0.2, "diffuse": 0.6}, abs=0.045)


def test_the_albedo_comes_first_and_is_what_evaluation_shows_when_asked():
    material = lit(diffuse_prob=1.0).train()
    material.update_step(0, 9)
    torch.testing.assert_close(material(**patch()), patch()["features"])
    torch.testing.assert_close(lit(ambient_only_on_test=True)(**patch()), patch()["features"])


def test_soft_shading_divides_the_light_at_random():
    material = lit(soft_shading=True, diffuse_prob=1.0, textureless_prob=1.0).train()
    light = torch.cat([material(**patch(60)) for _ in range(50)])[:, 0]
    # 1 − d + d cos 60° for d in [0, 1]
    assert light.min() >= 0.5 and light.max() <= 1 and light.max() - light.min() > 0.3


def test_albedo_of_a_mesh_lies_in_range():
    out = lit().export(torch.tensor([[-1.0, 0.5, 2.0, 9.0]]), points=None)
    torch.testing.assert_close(out["albedo"], torch.tensor([[0.0, 0.5, 1.0]]))


def test_misfits_are_named():
    with pytest.raises(UserError, match="n_output_dims"):
        NoMaterial({"n_output_dims": 4})(torch.zeros(1, 3))
    with pytest.raises(UserError, match="input_feature_dims"):
        NoMaterial({"input_feature_dims": 4})
    with pytest.raises(UserError, match="color_activation"):
        NoMaterial({"color_activation": "sigmoyd"})
    with pytest.raises(UserError, match="diffuse_prob"):
        lit(diffuse_prob=1.5)
