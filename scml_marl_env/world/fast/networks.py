"""Policies as opponents on the fast engine: one inference of each for all places that wait for it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scml_marl_env.checkpoints import load_checkpoint
from scml_marl_env.config import EnvConfig
from scml_marl_env.features import THREAD_FEATURES
from scml_marl_env.handles import handle
from scml_marl_env.layers.l1_factory import N_COLUMNS, N_LEAD_ROWS
from scml_marl_env.layout import Layout
from scml_marl_env.policy import N_DRAWS, check_columns, config_of_policy
from scml_marl_env.world.fast.seats import Seats, close_seats, open_seats


class Networks:
    """Answers the windows of policies that play as opponents, with memory of its own: one for each thread that plays.

    An answer draws from the stream of its factory (`State.random`), which follows from the seed of the episode, and is
    computed row by row: it does not depend on what other places do.
    """

    def __init__(self, arrays: tuple[Any, ...], policies: Mapping[int, Path], config: EnvConfig) -> None:
        """Loads the policies.

        Args:
            arrays: handles of tables, state and view of the fleet.
            policies: value of `columns.POLICY` -> folder of the checkpoint.
            config: of the worlds.
        """
        self._arrays, self._config = arrays, config
        self._policies = {number: load_checkpoint(folder) for number, folder in policies.items()}
        self._seats: list[tuple[Any, Seats, Any]] = []
        self._capacity = 0

    def answer(self, places: np.ndarray) -> None:
        """Answers int64 (n,) places that all wait for a policy."""
        if len(places) > self._capacity:
            self._make_room(len(places))
        for policy, seats, compiled in self._seats:
            n_windows, n = open_seats(compiled, places)
            if n_windows:
                actions = policy.act_rows(seats.observation[:n], seats.limits[:n], seats.uniform[:n])
                close_seats(compiled, n_windows, actions)

    def _make_room(self, n_places: int) -> None:
        self._capacity = n_places
        self._seats = []
        for number, policy in self._policies.items():
            layout = Layout(config_of_policy(policy, self._config.track))
            check_columns(policy, layout.observation_names)
            seats = _seats(self._arrays, layout, number, n_places, self._config.n_slots)
            self._seats.append((policy, seats, handle(seats)))


def _seats(arrays: tuple[Any, ...], layout: Layout, number: int, n_places: int, n_slots: int) -> Seats:
    n_columns, n_bounds, n_rows = len(layout.observation_names), layout.grid.n_bounds, n_places * n_slots
    tables, state, views = arrays
    return Seats(
        tables=tables,
        state=state,
        views=views,
        policy=number,
        rules=handle(layout.rules),
        columns=layout.columns,
        place=np.zeros(n_places, np.int64),
        first=np.zeros(n_places + 1, np.int64),
        bounds=np.zeros((n_rows, n_bounds), np.int32),
        chosen=np.zeros(n_rows, np.int64),
        row=np.zeros(n_rows, np.int64),
        observation=np.zeros((n_rows, n_columns), np.float32),
        limits=np.zeros((n_rows, n_bounds), np.int32),
        uniform=np.zeros((n_rows, N_DRAWS), np.float32),
        features=np.zeros((n_slots, n_columns), np.float32),
        threads=np.zeros((n_slots, len(THREAD_FEATURES)), np.float32),
        summary=np.zeros(len(layout.state_names), np.float32),
        priority=np.zeros(n_slots),
        settled=np.zeros(n_slots, np.int64),
        reason=np.zeros(n_slots, np.int64),
        scratch_threads=np.zeros((n_slots, N_COLUMNS), np.int64),
        scratch_leads=np.zeros((N_LEAD_ROWS, layout.config.horizon + 1), np.int64),
        scratch_lots=np.zeros(4, np.int64),
        scratch_order=np.zeros(n_slots, np.int64),
    )
