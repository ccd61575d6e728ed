"""Seeds from (seed, step, purpose), so that random numbers do not depend on earlier draws."""

from __future__ import annotations

import hashlib


def derive_seed(*parts: int | str) -> int:
    """A seed in [0, 2^63) that depends on all of `parts`, such as (seed, step, "cameras").

    A generator with this seed makes the random numbers of step k a function of (seed, k). A resumed run then draws the
    same numbers as one that was not interrupted.
    """
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
