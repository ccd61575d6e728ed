#!/usr/bin/env bash
# nerfacc 0.5.3, nvcc 13.0.88, torch 2.13.0: PyTorch has extensions compiled as C++20, whose <cmath> brings a function lerp of three
# floats into the global namespace; nerfacc's utils_math.cuh defines one there itself, so that its kernels, which it compiles at its
# first call, do not compile. As C++17 they do. Compiles that header alone; needs g++, and no GPU.
# Seen with g++ 12: C++17 compiles, C++20 is "'float lerp(float, float, float)' conflicts with a previous declaration".
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
install=("$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check)
"${install[@]}" nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-runtime==13.0.96
"${install[@]}" --no-deps nerfacc==0.5.3 torch==2.13.0
cd "$folder"
packages=$("$folder/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
printf '#include "utils_math.cuh"\n' > kernel.cu
compile() {
    LC_ALL=C "$packages/nvidia/cu13/bin/nvcc" -arch=sm_80 -I "$packages/nerfacc/cuda/csrc/include" -std="$1" -c kernel.cu -o kernel.o
}
asked=$(grep -o "'-std=c++[0-9]*'" "$packages/torch/utils/cpp_extension.py" | sort -u | tr -d "'" | paste -sd ' ')
echo "PyTorch asks for: $asked"
compile c++17 && echo "C++17: compiles"
if compile c++20 2> errors; then echo "C++20: compiles: this finding has changed"; exit 1; fi
echo "C++20: $(grep -m 1 'error:' errors | sed 's/.*error: //')"
grep -q 'lerp(float, float, float).* conflicts with a previous declaration' errors
test "$asked" = -std=c++20
