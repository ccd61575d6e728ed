"""Emission and absorption in one kernel, forward and backward, for a CPU and for CUDA, compiled by Warp.

The same source, in Python and a little C++, becomes machine code by the LLVM that Warp brings along for a CPU, and by
its NVRTC for CUDA; no compiler has to be there. The reference, which also has second derivatives, is `render.samples`.
"""
