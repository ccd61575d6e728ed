"""The measures of a comparison, each with its source: of features or pictures of samples.

Features [.., D] are those of `..features`: CLIP's or the studio classifier's. Sums are in float64. Higher is better for
`clip_score`, `r_precision`, `clip_iqa`, `diversity` and `agreement`, lower for `kid` and `janus`.
"""

from .clip import GOOD_AND_BAD, clip_iqa, clip_score, r_precision
from .intervals import Interval, difference_interval, mean_interval, ratio_interval
from .sets import Kid, Modes, diversity, kid, modes
from .views import Janus, Majority, agreement, diverged, janus, majority

__all__ = [
    "GOOD_AND_BAD", "Interval", "Janus", "Kid", "Majority", "Modes", "agreement", "clip_iqa", "clip_score",
    "difference_interval", "diverged", "diversity", "janus", "kid", "majority", "mean_interval", "modes",
    "r_precision", "ratio_interval",
]  # fmt: skip
