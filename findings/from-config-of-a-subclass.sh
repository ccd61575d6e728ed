#!/usr/bin/env bash
# diffusers 0.42.1: from_config of a subclass whose __init__ takes **kwargs and hands them on uses no key of the config: it looks
# at the names in the subclass's signature alone. The network has the class's defaults, while its `config` says what was asked
# for. There is a line of the logger, and no error.
# Seen: a UNet2DModel asked for with 5 channels and 32 wide has 274,056,163 parameters and takes 3 channels; its config says 5.
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check diffusers==0.42.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import diffusers
import torch
from diffusers import UNet2DModel


class Subclass(UNet2DModel):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)


asked = dict(
    in_channels=5, sample_size=8, block_out_channels=(32,), layers_per_block=1, norm_num_groups=8,
    down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
)
print(f"diffusers {diffusers.__version__}, asked for 5 channels:")
seen = {}
with torch.device("meta"):
    for name, network in {
        "UNet2DModel.from_config": UNet2DModel.from_config(asked),
        "Subclass(**config)": Subclass(**asked),
        "Subclass.from_config": Subclass.from_config(asked),
    }.items():
        seen[name] = network.config.in_channels, network.conv_in.in_channels, sum(p.numel() for p in network.parameters())
        print("  {}: config says {}, the first layer takes {}; {:,} parameters".format(name, *seen[name]))
plain, direct, lost = seen.values()
assert plain == direct and plain[:2] == (5, 5)
assert lost[:2] == (5, 3) and lost[2] > 100 * plain[2], "from_config uses the keys now"
PY
