"""Scores of a compiled agent in the learner's place: the yardstick of a trained policy, on the very same worlds."""

from collections.abc import Iterable, Mapping

import numpy as np

from scml_marl_env import opponents
from scml_marl_env.config import EnvConfig
from scml_marl_env.world.fast import columns as at
from scml_marl_env.world.fast.fleet import Fleet


def seat_scores(config: EnvConfig, agent: str, seeds: Iterable[int], options: Mapping[str, float] = {}) -> np.ndarray:
    """Plays worlds with `agent` in place of the environment's policy.

    Args:
        config: of the worlds, for the fast engine.
        agent: name of an opponent that has a compiled twin ("greedy", "prudent", ...).
        seeds: of the episodes, as `VectorEnv` and `ArrayEnv` take them.
        options: in which a `PrudentAgent` differs from the one of that name.

    Returns:
        float64 (n, F), SCML's score of each controlled factory: its return with reward="profit" is the score minus 1.

    Raises:
        ValueError: for an agent without a compiled twin.
    """
    (path,) = opponents.pool(agent, config.track, config.year)
    opponents.check_compiled([path], config)
    policy = opponents.compiled_policy(path, config.track)
    if policy is None:
        raise ValueError(f"{agent!r} is a mix of agents or a policy; name an agent that is compiled.")
    fleet, scores = Fleet(config, 1), []
    networks = fleet.networks()
    for seed in seeds:
        cast = fleet.begin(0, int(seed), in_seat=policy)
        for f in cast.controlled:
            fleet.set_options(0, f, opponents.variant_of(path) | dict(options))
        fleet.advance(networks)
        start = fleet.tables.factory[0, :, at.INITIAL_BALANCE]
        scores.append([1 + fleet.state.money[0, f, at.EARNED] / start[f] for f in cast.controlled])
    return np.array(scores)
