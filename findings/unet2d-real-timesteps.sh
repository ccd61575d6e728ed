#!/usr/bin/env bash
# diffusers 0.42.1: UNet2DModel cuts a timestep given as a Python float to a whole number, silently; given as a tensor it is
# taken as it is. UNet2DConditionModel takes both as they are. So a sampler that visits real-valued times gets those of the
# model's own whole steps from UNet2DModel, unless it hands tensors over.
# Seen: 395.95 as a float gives the same answer as 395, and another than torch.tensor([395.95]). Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check diffusers==0.42.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import diffusers
import torch
from diffusers import UNet2DConditionModel, UNet2DModel

torch.manual_seed(0)
small = dict(sample_size=8, block_out_channels=(32,), layers_per_block=1, norm_num_groups=8)
plain = UNet2DModel(in_channels=3, out_channels=3, down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), **small)
conditioned = UNet2DConditionModel(
    in_channels=3, out_channels=3, down_block_types=("CrossAttnDownBlock2D",), up_block_types=("CrossAttnUpBlock2D",),
    cross_attention_dim=8, attention_head_dim=8, **small,
)
images, text = torch.randn(1, 3, 8, 8), torch.randn(1, 4, 8)


@torch.no_grad()
def distance(network, a, b, *more):
    return float((network(images, a, *more).sample - network(images, b, *more).sample).abs().max())


rows = {
    "UNet2DModel, 395.95 against 395": distance(plain.eval(), 395.95, 395),
    "UNet2DModel, 395.95 against tensor([395.95])": distance(plain, 395.95, torch.tensor([395.95])),
    "UNet2DConditionModel, 395.95 against 395": distance(conditioned.eval(), 395.95, 395, text),
    "UNet2DConditionModel, 395.95 against tensor([395.95])": distance(conditioned, 395.95, torch.tensor([395.95]), text),
}
print(f"diffusers {diffusers.__version__}, torch {torch.__version__}; largest difference of the answers:")
for name, value in rows.items():
    print(f"  {name}: {value:.3g}")
a, b, c, d = rows.values()
assert a == 0 and b > 1e-6, "UNet2DModel takes a float as it is now"
assert c > 1e-6 and d < 1e-6, "UNet2DConditionModel no longer takes a float as it is"
PY
