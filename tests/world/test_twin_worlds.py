"""Whole worlds of SCML's default agents against the fast engine, without re-syncing: every profit and every draw."""

import numpy as np
import pytest

from scml_marl_env.view import empty_view
from scml_marl_env.world.fast import columns as at
from scml_marl_env.world.fast.play import IS_OVER, advance, begin
from scml_marl_env.world.fast.tables import static_of, tables_of
from scml_marl_env.world.fast.talks import no_tape
from tests.world import originals
from tests.world.test_twins import ONESHOT, STD


def play_fast(tables, classes, streams):
    """The `State` of the fast engine after the whole world, with its diary."""
    n_factories = len(classes)
    state = at.empty_state(1, tables, int(tables.world[0, at.N_DAYS]))
    view = empty_view(1, tables.slot.shape[2], int(tables.world[0, at.HORIZON]) + 1, 1)
    policy = np.array([there.policy for there in classes], np.int64)
    nobody = np.full(n_factories, -1, np.int64)
    begin(tables, state, view, 0, 0, policy, nobody, np.array(streams.initial, np.uint64), False)
    assert advance(tables, state, view, no_tape(), 0) == IS_OVER
    return state


class Deals:
    """A listener that counts contracts; both partners hear of each."""

    heard = 0

    def before(self, agent, kind, *args):
        self.heard += kind == "deal"

    def after(self, *args):
        pass


def compare_worlds(monkeypatch, env_id, agents, seed, **options):
    """Plays a world in both ways and compares them; the contracts that were made."""
    with originals.original_world(monkeypatch, env_id, seed, agents, **options) as (world, config, classes, streams):
        tables = tables_of(static_of(world))
        streams.listener = deals = Deals()
        while world.step():
            pass
    assert streams.errors == []
    state, ids = play_fast(tables, classes, streams), list(world.agent_profiles)
    profits = np.array([world._profits[agent] for agent in ids]).T
    assert profits.shape == (config.days_range[0], len(ids))
    assert state.diary[0, :, : len(ids), at.DIARY.index("profit")].tolist() == profits.tolist()
    assert state.random[0, : len(ids)].tolist() == [stream.state for stream in streams.streams]
    assert state.price[0, : world.n_products, at.TRADING_PRICE].tolist() == world.trading_prices.tolist()
    return deals.heard // 2


TRACKS = [("std-2025", STD, p) for p in (2, 3, 4)] + [("oneshot-2025", ONESHOT, 2)]


@pytest.mark.parametrize(("env_id", "agents", "processes"), TRACKS, ids=["std2", "std3", "std4", "oneshot"])
def test_a_whole_world_of_twins_is_that_of_the_originals(monkeypatch, env_id, agents, processes):
    options = {"days": 20, "processes": processes, "factories_per_level": (2, 4)}
    assert sum(compare_worlds(monkeypatch, env_id, agents, seed, **options) for seed in range(100, 104)) > 100


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200, 206))
@pytest.mark.parametrize(("env_id", "agents", "processes"), TRACKS, ids=["std2", "std3", "std4", "oneshot"])
def test_a_long_world_of_twins_is_that_of_the_originals(monkeypatch, env_id, agents, processes, seed):
    options = {"days": 100, "processes": processes, "factories_per_level": (3, 4)}
    assert compare_worlds(monkeypatch, env_id, agents, seed, **options) > 100
