"""Policies without torch, and players that write down what they answer."""

import numpy as np

from scml_marl_env.layout import Layout
from scml_marl_env.policy_agent import PolicyAgent
from scml_marl_env.registry import config_of
from scml_marl_env.vector import describe
from scml_marl_env.world.rng import GlobalRandomness


class RandomMasked:
    """Draws any legal action, seldom an END; a heuristic as PolicyAgent takes it."""

    def __init__(self, env_id="std-mini", **options):
        layout = Layout(config_of(env_id, **options))
        self.config = {"env": describe(layout.config)}
        self.observation_names = layout.observation_names
        self.grid = layout.grid

    def act(self, observation, bounds, rng, greedy=False):
        masks = self.grid.mask(bounds)
        if masks.shape[1] > 2:
            masks[masks[:, 2:].any(1) & (rng.random(len(masks)) < 0.95), 1] = False
        noise = rng.random(masks.shape)
        return np.where(masks, noise, -1.0).argmax(1)


class Broken(RandomMasked):
    """Answers wrongly in the way of `kind`, always or in every third window."""

    def __init__(self, kind, env_id="std-mini", every=1):
        super().__init__(env_id)
        self.kind, self.every, self.calls = kind, every, 0

    def act(self, observation, bounds, rng, greedy=False):
        actions = super().act(observation, bounds, rng, greedy)
        self.calls += 1
        if self.calls % self.every:
            return actions
        if self.kind == "exception":
            raise ArithmeticError("a policy's bug")
        if self.kind == "masked":
            actions[0] = (~self.grid.mask(bounds[:1])).argmax()
        wrong = {
            "shape": actions[:, None],
            "type": np.where(actions > 0, np.nan, 0.0),
            "range": np.full_like(actions, self.grid.n_actions),
            "masked": actions,
        }
        return wrong[self.kind]


class Recorder(PolicyAgent):
    """Keeps the observations and the answers of every window, and the balance at the start of every day.

    It answers outside of the world's randomness, as an environment does: numpy's generator forgets the second half of
    a pair of normal numbers there (see `GlobalRandomness`), which some opponents would have drawn next.
    """

    randomness: GlobalRandomness

    def init(self):
        self.windows, self.balances = [], []
        super().init()

    def before_step(self):
        self.balances.append(self.awi.current_balance)
        super().before_step()

    def decide(self):
        self.randomness.__exit__(None, None, None)
        answers = super().decide()
        self.randomness.__enter__()
        rows = np.flatnonzero(self.book.view.on_turn[0])
        self.windows.append((self._observation[rows].copy(), self._bounds[rows].copy(), dict(answers)))
        return answers


Recorder.__name__ = "_BridgeAgent"  # SCML makes ids of class names, and opponents iterate over sets of ids
