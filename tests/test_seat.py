"""Agents in the learner's place, on both engines."""

import numpy as np
import pytest

from scml_marl_env.registry import config_of
from scml_marl_env.seat import mean_score, seat_scores


@pytest.mark.parametrize("env", ["std-mini", "oneshot-mini"])
def test_an_agent_earns_the_same_on_both_engines_where_nobody_draws(env):
    fast, real = (
        seat_scores(config_of(env, engine=engine, days=8, opponents="prudent"), "prudent", range(3))
        for engine in ("fast", "scml")
    )
    assert np.ptp(real) > 0 and fast == pytest.approx(real, rel=1e-12)


def test_on_scml_any_agent_takes_the_seat_on_the_fast_engine_a_compiled_one():
    agent, days = "tests.players.Patient", 5
    with pytest.raises(ValueError, match="fast"):
        seat_scores(config_of("std-mini", engine="fast", days=days), agent, [0])
    scores = seat_scores(config_of("std-mini", engine="scml", days=days), agent, [0, 1])
    assert scores.shape == (2, 1) and mean_score(config_of("std-mini", days=days), agent, 1) == scores[1, 0]


def test_a_mix_and_options_are_refused():
    config = config_of("std-mini", engine="scml", days=5)
    for agents in ("champions-cloned", "default"):
        with pytest.raises(ValueError, match="mix"):
            seat_scores(config, agents, [0])
    with pytest.raises(ValueError, match="variant"):
        seat_scores(config, "prudent", [0], {"theta": 1.0})
