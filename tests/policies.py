"""Policies without torch, for the tests of agents that play them."""

import numpy as np

from scml_marl_env.array_env import Layout
from scml_marl_env.registry import config_of

SAVED = ("track", "observation", "shield", "history", "processes", "factories_per_level")


class RandomPolicy:
    """Draws among the legal actions, mostly offers."""

    def __init__(self, env_id, **options):
        config = config_of(env_id, **options)
        self.layout = Layout(config)
        self.observation_names = self.layout.observation_names
        self.config = {"env": {name: getattr(config, name) for name in SAVED}}
        self.seen = []

    def act(self, observation, bounds, rng, greedy=False):
        self.seen.append((observation.copy(), bounds.copy()))
        mask = self.layout.grid.mask(bounds)
        legal = [np.flatnonzero(row) for row in mask]  # END first
        actions = [rng.choice(row[1:] if len(row) > 1 and rng.random() < 0.9 else row) for row in legal]
        return np.array(actions, np.int64)


class Broken(RandomPolicy):
    """Fails in one way; `path` says in which."""

    def __init__(self, how):
        super().__init__("std-mini")
        self.how = how

    def act(self, observation, bounds, rng, greedy=False):
        actions = super().act(observation, bounds, rng, greedy)
        return {
            "raises": lambda: 1 // 0,
            "shape": lambda: actions[:-1],
            "dtype": lambda: actions * 1.0,
            "nan": lambda: np.full(len(actions), np.nan),
            "negative": lambda: actions - 10_000,
            "large": lambda: actions + 10_000,
            "wait": lambda: np.zeros(len(actions), np.int64),
        }[self.how]()


def random_std(path=None):
    return RandomPolicy("std-mini")


def random_oneshot(path=None):
    return RandomPolicy("oneshot-mini")


def broken(path):
    return Broken(path)


def other_columns(path=None):
    return RandomPolicy("std-mini", history=2) if path else _Renamed("std-mini")


def no_policy(path=None):
    return "no policy"


class _Renamed(RandomPolicy):
    def __init__(self, env_id):
        super().__init__(env_id)
        self.observation_names = ["other", *self.observation_names[1:]]
