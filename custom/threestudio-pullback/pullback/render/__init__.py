"""Volume rendering: samples along rays in plain PyTorch, and fused kernels for a CPU and for CUDA (`render.fused`)."""
