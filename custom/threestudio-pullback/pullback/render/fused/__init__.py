"""Emission and absorption in one kernel, forward and backward, for a CPU and for CUDA; compiled by Warp, without a compiler.

The same source, in Python and a little C++, becomes machine code by the LLVM that Warp brings along for a CPU, and by
its NVRTC for CUDA. The reference is `render.samples` in PyTorch, which also has second derivatives.
"""
