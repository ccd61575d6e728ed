"""The named settings, in the core, in the system's options and in the worlds."""

from __future__ import annotations

import pullback
import pytest
from pullback.adapters.guidance.options import Options, make_restart
from pullback.errors import UserError
from pullback.evaluate.exact_worlds import methods
from pullback.sampling.presets import PRESETS, retried
from pullback.sampling.restart import LADDER, Restart


def test_a_preset_is_arguments_of_sample():
    assert pullback.preset("fast") == {"noise": "shared", "restart": None}
    faithful = pullback.preset("faithful")
    assert faithful["noise"] == "surface" and faithful["restart"].noises == LADDER
    with pytest.raises(UserError, match="use one of fast, faithful"):
        pullback.preset("fastest")


def test_tries_keep_the_noise_that_was_asked_for():
    assert retried("shared", 1) is None
    assert retried("shared", 3, 8.0, 0.2) == Restart(None, (), 8.0, 3, limit=0.2)


def test_failures_all_over_tie_a_surface_of_any_size_closer():
    noises = retried({"type": "surface", "radius": 0.3}, 16).noises
    assert [getattr(n, "share", n) for n in noises] == [0.0] * 3 + [0.5] * 3 + ["shared"]
    assert {n.radius for n in noises[:-1]} == {0.3}


@pytest.mark.parametrize("name", PRESETS)
def test_the_system_takes_from_the_preset_what_is_not_set(name: str):
    named, made = PRESETS[name], Options(preset=name)
    assert (made.noise, made.constraint, made.tries) == (named.noise, named.constraint, named.tries)
    assert isinstance(make_restart(made), Restart) == (named.tries > 1)
    mixed = Options(preset=name, noise="fresh", tries=2)
    assert (mixed.noise, mixed.constraint, mixed.tries) == ("fresh", named.constraint, 2)


def test_an_unknown_preset_is_one_sentence():
    with pytest.raises(ValueError, match="`preset` must be one of fast, faithful, not 'slow'"):
        Options(preset="slow")
    with pytest.raises(UserError, match="preset 'slow' is not known"):
        methods.pullback(None, 0, preset="slow")
