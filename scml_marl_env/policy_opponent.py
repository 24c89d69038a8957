"""PolicyOpponent: a policy as an opponent on the real engine, which draws what it would draw on the fast one."""

from typing import Any

import numpy as np

from scml_marl_env.awi_view import AwiView
from scml_marl_env.policy import N_DRAWS, answers_by_row
from scml_marl_env.policy_agent import PolicyAgent
from scml_marl_env.world.fast.chance import fill


class PolicyOpponent(PolicyAgent):
    """A `PolicyAgent` with the random stream that its factory has on the fast engine, if its policy answers row by row;
    one that cannot is asked as `PolicyAgent` asks it.

    Args:
        stream: first state of it, see `world.rng.stream_of`.
    """

    def __init__(self, *args: Any, stream: int, **kwargs: Any) -> None:
        super().__init__(*args, seed=stream, **kwargs)
        self._stream = np.array([stream], np.uint64)

    def open_book(self) -> AwiView:
        book = super().open_book()
        policy, widths = self.policy, (self._observation.shape[1], self._bounds.shape[1])
        self._row_policy = policy if answers_by_row(policy, *widths) else None
        return book

    def _ask(self, observation: np.ndarray, bounds: np.ndarray) -> Any:
        if self._row_policy is None:
            return super()._ask(observation, bounds)
        uniform = np.empty((len(bounds), N_DRAWS), np.float32)
        fill(self._stream, 0, uniform)
        return self._row_policy.act_rows(observation, bounds, uniform)
