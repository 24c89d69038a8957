"""Fleet: the arrays of E worlds of one config, and how a world enters one of its places."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from scml_marl_env import opponents
from scml_marl_env.config import EnvConfig
from scml_marl_env.handles import handle, together
from scml_marl_env.view import empty_view
from scml_marl_env.world.bank import open_bank, prepare
from scml_marl_env.world.draw import Casting
from scml_marl_env.world.fast import columns as at
from scml_marl_env.world.fast import prudence
from scml_marl_env.world.fast.networks import Networks
from scml_marl_env.world.fast.play import IS_SEAT, advance, begin
from scml_marl_env.world.fast.tables import tables_for, write
from scml_marl_env.world.fast.talks import no_tape
from scml_marl_env.world.rng import stream_of

_FIRST = np.zeros(1, np.int64)


class Cast(NamedTuple):
    """Who plays in a world: `WorldDraw` without SCML's parameters."""

    seed: int
    levels: tuple[int, ...]
    agent_types: tuple[str | None, ...]
    controlled: tuple[int, ...]


class Fleet:
    """E places in which worlds of one config are played.

    Attributes:
        tables: of the worlds: one for each place, or those of the bank, which are not the fleet's own.
        state, view: what changes. Row e * V + v of the view is team v of place e; the rows of opponents that decide by
            a view follow the teams'.
        arrays: handles of tables, state, view and tape, as kernels take them.
        n_views: V.
    """

    def __init__(self, config: EnvConfig, n_places: int, n_diary_days: int = 0) -> None:
        self.config = config
        self._library = None if config.bank is None else open_bank(config).library(config)
        self.tables = tables_for(config, n_places) if self._library is None else self._library.tables
        self._casting = Casting(config)
        self.state = at.empty_state(n_places, self.tables, n_diary_days)
        members = opponents.pool(config.opponents, config.track, config.year)
        self._policies = {path: self._policy(path, i) for i, path in enumerate(members) if path != opponents.DEFAULT}
        needs_view = any(_has_view(policy) for policy in self._policies.values())
        self.n_views = config.n_controlled + (self.tables.factory.shape[1] if needs_view else 0)
        view = empty_view(n_places * self.n_views, config.n_slots, config.horizon + 1, config.history)
        self.state, self.view = together(self.state, view)
        self.arrays = handle(self.tables), handle(self.state), handle(self.view), handle(no_tape())

    def networks(self) -> Networks | None:
        """What answers for the policies that play as opponents, one for each thread; None if there are none."""
        folders = {number: opponents.checkpoint_of(path) for path, number in self._policies.items()}
        policies = {number: folder for number, folder in folders.items() if folder is not None}
        return Networks(self.arrays[:3], policies, self.config) if policies else None

    def begin(self, e: int, seed: int, in_seat: int | None = None) -> Cast:
        """Puts the world of `seed` at its beginning into place `e`.

        Args:
            e: the place.
            seed: of the episode.
            in_seat: who decides for the controlled factories (`columns.POLICY`), None for decisions from outside.
        """
        config, row = self.config, e
        if self._library is None:
            prepared = prepare(config, seed)
            write(self.tables, row, prepared.tables)
        else:
            row = self._library.bank.row_of(seed)
            prepared = self._library.prepared(row)
        roles = self._casting.roles(prepared.levels, prepared.defaults, seed)
        policy = np.zeros(len(prepared.levels), np.int64)
        views = np.full(len(prepared.levels), -1, np.int64)
        n_extra = config.n_controlled
        for f, path in enumerate(roles.agent_types):
            policy[f] = at.EXTERNAL if path is None else self._number(path)
            if path is not None and _has_view(policy[f]):
                views[f] = e * self.n_views + n_extra
                n_extra += 1
        for team, f in enumerate(roles.controlled):
            views[f] = e * self.n_views + team
            policy[f] = policy[f] if in_seat is None else in_seat
        streams = np.array([stream_of(seed, f) for f in range(len(policy))], np.uint64)
        conserving = config.inventory == "conserving"
        tables, state, view, _ = self.arrays
        begin(tables, state, view, e, row, policy, views, streams, conserving)
        for f, path in enumerate(roles.agent_types):
            self.set_options(e, f, opponents.variant_of(path))
        return Cast(seed, prepared.levels, roles.agent_types, roles.controlled)

    def set_options(self, e: int, f: int, options: Mapping[str, float]) -> None:
        """Changes options of a factory that plays Prudent, by the names that `PrudentAgent` gives them."""
        for name, value in options.items():
            self.state.agent[e, f, getattr(prudence, name.upper())] = value

    def advance(self, networks: Networks | None) -> int:
        """Plays the world in place 0 to its next stop but those that `networks` answer, see `play.advance`."""
        event = advance(*self.arrays, 0)
        while event == IS_SEAT:
            assert networks is not None
            networks.answer(_FIRST)
            event = advance(*self.arrays, 0)
        return event

    def _number(self, path: str) -> int:
        """Value of `columns.POLICY` of an opponent; the default agents need not be in the pool."""
        if path not in self._policies:
            self._policies[path] = self._policy(path, 0)
        return self._policies[path]

    def _policy(self, path: str, i: int) -> int:
        if opponents.checkpoint_of(path) is not None:
            return at.SEATED + i
        policy = opponents.compiled_policy(path, self.config.track)
        assert policy is not None  # `registry.config_of` has refused it
        return policy


def _has_view(policy: int) -> bool:
    return policy == at.PRUDENT or policy >= at.SEATED
