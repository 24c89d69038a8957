"""Scores of an agent in the learner's place, on either engine: the yardstick of a policy, on the very same worlds."""

from collections.abc import Iterable, Mapping

import numpy as np

from scml_marl_env import opponents
from scml_marl_env.config import EnvConfig
from scml_marl_env.world.draw import draw
from scml_marl_env.world.fast import columns as at
from scml_marl_env.world.fast.fleet import Fleet
from scml_marl_env.world.official import build_with, opponent
from scml_marl_env.world.rng import GlobalRandomness


def seat_scores(config: EnvConfig, agent: str, seeds: Iterable[int], options: Mapping[str, float] = {}) -> np.ndarray:
    """Plays worlds with `agent` in place of the environment's policy.

    Args:
        config: of the worlds, and of their engine.
        agent: an opponent ("greedy", "prudent", ...); the fast engine plays those that have a compiled twin.
        seeds: of the episodes, as `VectorEnv` and `ArrayEnv` take them.
        options: in which a `PrudentAgent` differs from the one of that name.

    Returns:
        float64 (n, F), SCML's score of each controlled factory: its return with reward="profit" is the score minus 1.

    Raises:
        ValueError: for a mix of agents, and on the fast engine for an agent without a compiled twin.
    """
    members = list(opponents.pool(agent, config.track, config.year))
    if len(members) != 1 or members == [opponents.DEFAULT]:
        raise ValueError(f"{agent!r} is a mix of agents; name one.")
    (path,) = members
    if config.engine == "scml":
        if options:
            raise ValueError(f"Options of {agent!r} are for the fast engine: name a variant of it instead.")
        return np.array([_by_scml(config, path, int(seed)) for seed in seeds])
    opponents.check_compiled([path], config)
    policy = opponents.compiled_policy(path, config.track)
    if policy is None:
        raise ValueError(f"{agent!r} is a policy; name an agent that is compiled.")
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


def mean_score(config: EnvConfig, agent: str, seed: int) -> float:
    """The mean of `seat_scores` over the controlled factories of one world, for calls in other processes."""
    return float(seat_scores(config, agent, [seed]).mean())


def _by_scml(config: EnvConfig, path: str, seed: int) -> list[float]:
    """The scores in the world that `ScmlEngine` makes of a seed."""
    drawn = draw(config, seed)
    players = [opponent(path if there is None else there, seed, f) for f, there in enumerate(drawn.agent_types)]
    with GlobalRandomness(drawn.world_seed + 1):
        world = build_with(drawn.params, config, players, name=f"world-{seed}")
    with GlobalRandomness(seed + 1):
        while world.step():
            pass
    ids, scores = list(world.agents), world.scores()
    return [float(scores[ids[f]]) for f in drawn.controlled]
