#!/usr/bin/env bash
# Writes requirements/locked/*.txt anew: every package that the set-up commands install, in one version, with the hashes of its
# files for all platforms. Run it after a change of requirements.txt or requirements/. It needs uv (pip install uv==0.13.9).
# Not in there: PyTorch, which comes from another index with other files (TORCH_INDEX_URL), and the CUDA packages of its build.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
out=()
for name in torch triton cuda-bindings cuda-pathfinder cuda-toolkit nvidia-{cublas,cuda-cupti,cuda-nvrtc,cuda-runtime,cudnn-cu13} \
    nvidia-{cufft,cufile,curand,cusolver,cusparse,cusparselt-cu13,nccl-cu13,nvjitlink,nvshmem-cu13,nvtx}; do
    out+=(--no-emit-package "$name")
done
for source in requirements.txt requirements/scale.txt requirements/threestudio-today.txt requirements/threestudio-2023.txt; do
    echo "requirements/locked/$(basename "$source")"
    "${UV:-uv}" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url \
        --custom-compile-command tools/lock.sh "${out[@]}" "$source" -o "requirements/locked/$(basename "$source")" "$@"
done
