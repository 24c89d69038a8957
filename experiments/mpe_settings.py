"""What both libraries of the MPE comparison share: settings, and one way to score a policy. numpy and mpe2 only."""

from collections.abc import Callable
from typing import Any

import numpy as np
from mpe2 import simple_spread_v3

SETTINGS: dict[str, Any] = {
    "max_cycles": 25,
    "hidden": [64, 64],
    "frames": 200_000,
    "n_worlds": 8,
    "n_steps": 125,
    "epochs": 4,
    "minibatches": 4,
    "lr": 7e-4,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "clip": 0.2,
    "entropy": 0.01,
    "max_grad_norm": 5.0,
    "eval_episodes": 200,
    "eval_seed": 1_000_000,
}
"""Equal for both: 3 agents, local_ratio 0.5, discrete actions, shared actor, tanh, Adam with a constant step."""


def play(act: Callable[[np.ndarray], list[int]], settings: dict[str, Any]) -> list[float]:
    """Returns the return of each held-out episode, averaged over the agents.

    Args:
        act: from the observations of all agents, float32 (3, 18), to their actions.
        settings: `eval_episodes` episodes; episode i begins with reset(seed=eval_seed + i).
    """
    env = simple_spread_v3.parallel_env(max_cycles=settings["max_cycles"], continuous_actions=False)
    returns = []
    for episode in range(settings["eval_episodes"]):
        observation, _ = env.reset(seed=settings["eval_seed"] + episode)
        total = 0.0
        while env.agents:
            rows = np.stack([observation[name] for name in env.possible_agents])
            observation, reward, _, _, _ = env.step(dict(zip(env.possible_agents, act(rows), strict=True)))
            total += sum(reward.values()) / len(reward)
        returns.append(total)
    return returns
