"""Fleet: the arrays of E worlds of one config, and how a world enters one of its places."""

from typing import NamedTuple

import numpy as np

from scml_marl_env import opponents
from scml_marl_env.config import EnvConfig
from scml_marl_env.handles import handle, together
from scml_marl_env.view import empty_view
from scml_marl_env.world.bank import open_bank, prepare
from scml_marl_env.world.draw import Casting
from scml_marl_env.world.fast import columns as at
from scml_marl_env.world.fast.play import begin
from scml_marl_env.world.fast.tables import tables_for, write
from scml_marl_env.world.fast.talks import no_tape

_MASK = (1 << 64) - 1


class Cast(NamedTuple):
    """Who plays in a world: `WorldDraw` without SCML's parameters."""

    seed: int
    levels: tuple[int, ...]
    agent_types: tuple[str | None, ...]
    controlled: tuple[int, ...]


class Fleet:
    """E places in which worlds of one config are played.

    Attributes:
        tables, state, view: the arrays of the fast engine. Row e * V + v of the view is team v of place e; the rows of
            compiled opponents that decide by a view follow the teams'.
        arrays: handles of tables, state, view and tape, as kernels take them.
        n_views: V.
    """

    def __init__(self, config: EnvConfig, n_places: int, n_diary_days: int = 0) -> None:
        self.config = config
        self.tables = tables_for(config, n_places)
        self._casting = Casting(config)
        self._policies: dict[str, int] = {}
        self.state = at.empty_state(n_places, self.tables, n_diary_days)
        members = opponents.pool(config.opponents, config.track, config.year)
        needs_view = opponents.PRUDENT in members
        self.n_views = config.n_controlled + (self.tables.factory.shape[1] if needs_view else 0)
        view = empty_view(n_places * self.n_views, config.n_slots, config.horizon + 1, config.history)
        horizons = self.tables.world.copy()
        self.tables, self.state, self.view = together(self.tables, self.state, view)
        self.tables.world[:] = horizons
        self.arrays = handle(self.tables), handle(self.state), handle(self.view), handle(no_tape())

    def begin(self, e: int, seed: int, in_seat: int | None = None) -> Cast:
        """Puts the world of `seed` at its beginning into place `e`.

        Args:
            e: the place.
            seed: of the episode.
            in_seat: who decides for the controlled factories (`columns.POLICY`), None for decisions from outside.
        """
        config = self.config
        if config.bank is None:
            prepared = prepare(config, seed)
        else:
            bank = open_bank(config)
            prepared = bank.prepared(bank.row_of(seed))
        write(self.tables, e, prepared.tables)
        roles = self._casting.roles(prepared.levels, prepared.defaults, seed)
        policy = np.zeros(len(prepared.levels), np.int64)
        views = np.full(len(prepared.levels), -1, np.int64)
        n_extra = config.n_controlled
        for f, path in enumerate(roles.agent_types):
            policy[f] = at.EXTERNAL if path is None else self._policy(path)
            if path is not None and policy[f] == at.PRUDENT:
                views[f] = e * self.n_views + n_extra
                n_extra += 1
        for team, f in enumerate(roles.controlled):
            views[f] = e * self.n_views + team
            policy[f] = policy[f] if in_seat is None else in_seat
        streams = np.array([_stream(seed, f) for f in range(len(policy))], np.uint64)
        conserving = config.inventory == "conserving"
        tables, state, view, _ = self.arrays
        begin(tables, state, view, e, e, policy, views, streams, conserving)
        return Cast(seed, prepared.levels, roles.agent_types, roles.controlled)

    def _policy(self, path: str) -> int:
        if path not in self._policies:
            policy = opponents.compiled_policy(path, self.config.track)
            assert policy is not None  # `registry.config_of` has refused it
            self._policies[path] = policy
        return self._policies[path]


def _stream(seed: int, f: int) -> int:
    """The first state of a factory's random stream: well mixed (splitmix64's finaliser), a function of both numbers."""
    z = (seed * 0x9E3779B97F4A7C15 + (f + 1) * 0xD1342543DE82EF95) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)
