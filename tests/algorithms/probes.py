"""Environments with known answers: each needs exactly one ability of a learner, and is solved in seconds."""

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv


class Probe(ParallelEnv[str, Any, int]):
    """Agents see `look()`, choose one of `n_actions`, and earn `pay(actions)`; ends after `length` steps."""

    metadata = {"name": "probe"}
    n_agents, n_actions, n_columns, length, ends_by_itself = 1, 2, 1, 1, True

    def __init__(self) -> None:
        self.possible_agents = [f"agent_{i}" for i in range(self.n_agents)]
        self._observation = {a: spaces.Box(-1, 1, (self.n_columns,), np.float32) for a in self.possible_agents}
        self._action = {a: spaces.Discrete(self.n_actions) for a in self.possible_agents}

    def observation_space(self, agent):
        return self._observation[agent]

    def action_space(self, agent):
        return self._action[agent]

    def reset(self, seed=None, options=None):
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        self.agents, self.t = self.possible_agents[:], 0
        self.begin()
        return self._views(), {a: self.info() for a in self.agents}

    def step(self, actions):
        rewards = self.pay([actions[a] for a in self.possible_agents])
        self.t += 1
        over, live = self.t >= self.length, self.agents
        views, infos = self._views(), {a: self.info() for a in live}
        self.agents = [] if over else live
        ended = dict.fromkeys(live, over and self.ends_by_itself)
        stopped = dict.fromkeys(live, over and not self.ends_by_itself)
        return views, dict(zip(live, rewards, strict=True)), ended, stopped, infos

    def _views(self):
        return {a: np.asarray(self.look(i), np.float32) for i, a in enumerate(self.possible_agents)}

    def begin(self):
        self.seen = self.rng.choice([-1.0, 1.0])

    def look(self, i):
        return [0.0]

    def info(self):
        return {}

    def pay(self, actions):
        return [1.0] * self.n_agents


class ConstantReward(Probe):
    """Pays 1 whatever is done, for one step: V = 1."""


class EndlessReward(Probe):
    """Pays 1 each step and is cut off after 5: V = 1 / (1 - gamma) if truncation is bootstrapped, far less if not."""

    length, ends_by_itself = 5, False


class RewardIsObservation(Probe):
    """Shows +1 or -1 and pays it: V(o) = o."""

    def look(self, i):
        return [self.seen]

    def pay(self, actions):
        return [self.seen]


class RewardOneStepLater(Probe):
    """Two steps; 1 is paid after the second only: V = gamma, then 1. The observation tells the step."""

    length = 2

    def look(self, i):
        return [float(self.t)]

    def pay(self, actions):
        return [float(self.t == 1)]


class RightAction(Probe):
    """Pays 1 for action 1 if +1 is shown and for action 0 if -1 is shown, else 0."""

    def look(self, i):
        return [self.seen]

    def pay(self, actions):
        return [float(actions[0] == (self.seen > 0))]


class OnlyTheMaskTells(Probe):
    """Of four actions one is legal at random, and pays 1; any other pays -1. The observation says nothing."""

    n_actions = 4

    def observation_space(self, agent):
        box, mask = spaces.Box(-1, 1, (1,), np.float32), spaces.Box(0, 1, (self.n_actions,), np.int8)
        return spaces.Dict({"observation": box, "action_mask": mask})

    def begin(self):
        self.good = int(self.rng.integers(self.n_actions))

    def _views(self):
        mask = np.zeros(self.n_actions, np.int8)
        mask[self.good] = 1
        return {a: {"observation": np.zeros(1, np.float32), "action_mask": mask} for a in self.possible_agents}

    def pay(self, actions):
        return [1.0 if actions[0] == self.good else -1.0]


class MaskInInfo(OnlyTheMaskTells):
    """The same with the mask in info."""

    observation_space = Probe.observation_space
    _views = Probe._views

    def info(self):
        return {"action_mask": (np.arange(self.n_actions) == self.good).astype(np.int8)}


class TeamMustDiffer(Probe):
    """Two agents are paid 1 each if they act differently, else 0; each sees which of the two it is."""

    n_agents = 2

    def look(self, i):
        return [2.0 * i - 1]

    def pay(self, actions):
        return [float(actions[0] != actions[1])] * 2


class LeavesEarly(Probe):
    """The second agent ends after step 1 of 3; the first earns 1 a step and goes on."""

    n_agents, length = 2, 3

    def step(self, actions):
        assert set(actions) == set(self.agents), "an action for an agent that is gone"
        live = self.agents
        self.t += 1
        gone = {a: self.t >= self.length or (a == "agent_1") for a in live}
        self.agents = [a for a in live if not gone[a]]
        views = {a: np.full(1, self.t / 10, np.float32) for a in live}
        return views, dict.fromkeys(live, 1.0), gone, dict.fromkeys(live, False), {a: {} for a in live}


def constructors(probe: Callable[[], Probe], n: int = 8) -> list[Callable[[], Probe]]:
    return [probe] * n
