"""What turns (seed, step, purpose) into random numbers that do not depend on what was drawn before."""

from __future__ import annotations

import hashlib


def derive_seed(*parts: int | str) -> int:
    """A seed in [0, 2^63) that depends on all of `parts`, e.g. (seed, step, "cameras").

    Drawing from generators seeded this way makes step k's random numbers a function of (seed, k), so that a
    resumed run draws what the uninterrupted one would.
    """
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
