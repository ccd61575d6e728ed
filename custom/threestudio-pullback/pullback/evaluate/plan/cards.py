"""Graphics cards: memory, bandwidth, and the rate of dense products that accumulate in single precision."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """A card's figures, from its maker's data sheet.

    Attributes:
        memory: GiB.
        half: TFLOP/s in fp16 and bf16, dense (data sheets of recent cards print twice that, for sparse matrices).
        single: TFLOP/s in fp32, without TF32.
        bandwidth: GB/s of the memory.
    """

    memory: float
    half: float
    single: float
    bandwidth: float


CARDS = {
    "t4": Card(16, 65, 8.1, 320),  # NVIDIA T4 data sheet; no bf16
    "rtx3070": Card(8, 40.6, 20.3, 448),  # NVIDIA Ampere GA102 whitepaper, appendix A
    "rtx3080": Card(10, 59.5, 29.8, 760),  # the same
    "rtx3090": Card(24, 71, 35.6, 936),  # the same
    "rtx4070ti": Card(12, 80.2, 40.1, 504),  # NVIDIA Ada whitepaper, appendix A
    "rtx4080": Card(16, 97.5, 48.7, 717),  # the same
    "rtx4090": Card(24, 165.2, 82.6, 1008),  # the same
    "a10": Card(24, 125, 31.2, 600),  # NVIDIA A10 data sheet
    "l4": Card(24, 121, 30.3, 300),  # NVIDIA L4 data sheet, half of its sparse 242
    "l40s": Card(48, 362, 91.6, 864),  # NVIDIA L40S data sheet
    "a100-40": Card(40, 312, 19.5, 1555),  # NVIDIA A100 data sheet, 40 GB
    "a100-80": Card(80, 312, 19.5, 2039),  # the same, 80 GB SXM
    "h100": Card(80, 989, 67, 3350),  # NVIDIA H100 data sheet, SXM, half of its sparse 1,979
    "h200": Card(141, 989, 67, 4800),  # NVIDIA H200 data sheet
}

SHARE = 0.4
"""The share of a card's rate that networks of this kind reach; a plan says that it assumes it."""

LAUNCH = 5e-6
"""Seconds of a launch that PyTorch makes by itself, on a CUDA device: the least time of a kernel."""

RESERVED = 0.75
"""GiB that CUDA's context and the libraries' workspaces take besides what a plan counts; an assumption too."""
