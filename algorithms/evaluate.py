"""Returns of a policy on held-out worlds, with intervals, and paired differences between policies."""

from typing import Any

import numpy as np
from scipy import stats

from algorithms.interface import VectorEnv
from algorithms.policy import Policy


def evaluate(env: VectorEnv, policy: Policy, seed: int, episodes: int, greedy: bool = False) -> list[dict[str, Any]]:
    """Plays the first episodes of `seed` and returns their statistics, ordered by world and episode.

    Every world plays the same number of episodes, so that short ones are not favoured; two policies evaluated with the
    same arguments play the same worlds in the same order, so that their returns can be compared in pairs.

    Args:
        env: its `reset(seed)` fixes the episodes of every world.
        policy: chooses the actions of all agents.
        seed: held out: not the training seed.
        episodes: rounded up to a multiple of the number of worlds.
        greedy: see `Policy.act`.
    """
    per_world = -(-episodes // env.n_worlds)
    finished: list[list[dict[str, Any]]] = [[] for _ in range(env.n_worlds)]
    rng = np.random.default_rng(seed)
    env.reset(seed)
    env.episodes.clear()
    while any(len(done) < per_world for done in finished):
        env.step(policy.act_all(env, rng, greedy))
        for episode in env.episodes:
            finished[episode["world"]].append(episode)
        env.episodes.clear()
    return [episode for done in finished for episode in done[:per_world]]


def returns_of(episodes: list[dict[str, Any]]) -> np.ndarray:
    """Returns float64 (n,): the undiscounted return of each episode, averaged over its teams."""
    return np.array([np.mean(episode["return"]) for episode in episodes])


def paired(trained: np.ndarray, random: np.ndarray) -> dict[str, dict[str, float]]:
    """Returns mean, low and high of both policies' returns (n,) in the same worlds, and of the gain in each."""
    return {
        name: dict(zip(("mean", "low", "high"), interval(values), strict=True))
        for name, values in (("trained", trained), ("random", random), ("gain", trained - random))
    }


def interval(values: np.ndarray, confidence: float = 0.95) -> tuple[float, float, float]:
    """Returns (mean, low, high) with a BCa bootstrap interval of the mean (Efron, 1987); equal if all values are."""
    values = np.asarray(values, np.float64)
    mean = float(values.mean())
    if len(values) < 2 or np.ptp(values) == 0:
        return mean, mean, mean
    method = "BCa" if len(values) > 4 else "percentile"
    rng = np.random.default_rng(0)
    found = stats.bootstrap((values,), np.mean, confidence_level=confidence, method=method, rng=rng)
    return mean, float(found.confidence_interval.low), float(found.confidence_interval.high)
