"""The view against SCML's own words about the same factory, and against the simulator's results of each day."""

import numpy as np
import pytest

from scml_marl_env import features
from scml_marl_env.agent import WindowAgent
from scml_marl_env.array_env import ArrayEnv
from scml_marl_env.registry import config_of
from scml_marl_env.view import empty_view
from tests.players import play, random_masked

WORLDS = [
    ("std-mini", {"processes": 4, "level": level, "opponents": opponents})
    for level in range(4)
    for opponents in ("default", "tests.players:Patient")
] + [("oneshot-mini", {"level": level}) for level in (0, 1)]


def compared(game, awi):
    """Compares the view of factory 0 with the AWI; returns how many numbers."""
    view, day, horizon = game.engine.view, awi.current_step, game.config.horizon
    pairs = {
        "day": (view.day[0], day),
        "n_days": (view.n_days[0], awi.n_steps),
        "balance": (view.balance[0], awi.current_balance),
        "stock": (view.stock[0], awi.current_inventory_input),
        "exogenous_in": (view.exogenous_in[0], awi.current_exogenous_input_quantity),
        "exogenous_out_revenue": (view.exogenous_out_revenue[0], awi.current_exogenous_output_price),
        "needed": (features.needed(view, 0)[0], _uncapped(awi)),
        "level": (view.level[0], awi.level),
        "unit_cost": (view.unit_cost[0], awi.profile.cost),
        "trading_price": (tuple(view.trading_price[0]), tuple(awi.trading_prices[awi.level : awi.level + 2])),
    }
    if not view.partner_bankrupt[0].any():  # the AWI keeps counting contracts that a bankruptcy has voided
        for d in range(horizon + 1):
            pairs[f"signed_in_{d}"] = (view.signed_in[0, d], awi.total_supplies_at(day + d))
            pairs[f"signed_out_{d}"] = (view.signed_out[0, d], awi.total_sales_at(day + d))
        pairs["cost"] = (view.signed_cost[0, 0], sum(awi.supplies_cost.values()))
        pairs["revenue"] = (view.signed_revenue[0, 0], sum(awi.sales_cost.values()))
        lots = view.lot_quantity[0, : view.n_lots[0]] * view.lot_price[0, : view.n_lots[0]]
        pairs["lots"] = (lots.sum(), view.signed_cost[0, 0])
    for side, issues in enumerate((awi.current_input_issues, awi.current_output_issues)):
        pairs[f"agenda_{side}"] = (
            (view.price_low[0, side], view.price_high[0, side]), (issues[2].min_value, issues[2].max_value),
        )  # fmt: skip
    pairs["last_lead"] = (day + view.last_lead[0], awi.current_output_issues[1].max_value)
    alive = {partner for partner, there in zip(game.engine.partners_of(0), view.alive[0], strict=False) if there}
    pairs["alive"] = (alive, {partner.plain for partner in awi.current_states})
    for name, (ours, theirs) in pairs.items():
        assert ours == theirs, name
    return len(pairs)


def _uncapped(awi):
    if awi.is_first_level:
        return 0
    return -(
        awi.current_exogenous_input_quantity + awi.current_inventory_input + awi.total_supplies - awi.total_sales
        - awi.current_exogenous_output_quantity
    )  # fmt: skip


@pytest.mark.parametrize(("env_id", "options"), WORLDS)
def test_the_view_is_what_the_awi_says_at_every_window(env_id, options):
    game = ArrayEnv(config_of(env_id, days=12, **options))
    rng = np.random.default_rng(0)
    game.reset(1)
    total = 0
    while game.window is not None:
        agent = game.engine.world.agents[game.engine._ids[0]]
        if not game.engine.view.partner_bankrupt[0].any():
            total += compared(game, agent.awi)
        day = int(game.engine.view.day[0])
        if day:
            yesterday = game.engine.results[0][day - 1]
            assert game.engine.view.produced_before[0] == yesterday.produced
            assert game.engine.view.shortfall_before[0] == yesterday.shortfall
            assert game.engine.view.balance[0] == yesterday.balance
        game.step(random_masked(game, rng))
    assert total > 200


def test_every_message_on_the_wire_is_in_the_view_and_the_history(monkeypatch):
    game = ArrayEnv(config_of("std-mini", days=6, opponents="tests.players:Patient", history=3))
    received, sent = {}, {}
    see, outcome = WindowAgent.counter_all, WindowAgent._outcome

    def counter_all(self, offers, states):
        received.clear()
        received.update({partner.plain: (offer, states[partner].step) for partner, offer in offers.items()})
        return see(self, offers, states)

    def spy(self, partner, answer):
        offer = outcome(self, partner, answer)
        sent[partner.plain] = offer
        return offer

    from scml_marl_env.world import scml_engine

    monkeypatch.setattr(scml_engine._BridgeAgent, "counter_all", scml_engine._guarded(counter_all))
    monkeypatch.setattr(scml_engine._BridgeAgent, "_outcome", spy)
    rng, checked = np.random.default_rng(2), 0
    game.reset(2)
    while game.window is not None:
        view, partners = game.engine.view, game.engine.partners_of(0)
        for k in np.flatnonzero(view.on_turn[0] & view.has_offer[0]):
            (quantity, time, price), step = received[partners[k]]
            assert (view.offer_quantity[0, k], view.offer_lead[0, k], view.offer_price[0, k]) == (
                quantity, time - view.day[0], price,
            )  # fmt: skip
            assert view.round[0, k] == step
            history = view.offers(0, k)
            assert history[-1].tolist() == [0, time - view.day[0], quantity, price, step]
            if view.sent[0, k]:
                mine = sent[partners[k]]
                assert history[-2, :4].tolist() == [1, mine[1] - view.day[0], mine[0], mine[2]]
                assert (view.sent_quantity[0, k], view.sent_price[0, k]) == (mine[0], mine[2])
                checked += 1
        game.step(random_masked(game, rng, p_end=0.0, p_accept=0.05))
    assert checked > 30


@pytest.mark.parametrize("level", [0, 2])
def test_a_view_knows_nothing_of_what_is_private_to_others(level):
    """Changing the private state of all other factories changes no number that our agents see."""
    parts = ("thread", "history", "broadcast", "macro")
    game = ArrayEnv(config_of("std-mini", days=8, processes=3, level=level, opponents="greedy", observation=parts))
    game.reset(5)
    world, mine = game.engine.world, game.engine._ids[0]
    before = [array.copy() for array in (game.arrays.observation, game.arrays.state, game.arrays.bounds)]
    for agent_id, profile in world.agent_profiles.items():
        if agent_id != mine:
            profile.cost += 7
            world._inventory_input[agent_id] += 50
            world._profits[agent_id].append(-1000.0)
            world.agent_storage_cost[agent_id][:] += 1
    book = world.agents[mine].adapted_object.book
    book.start_day()
    book.see({}, None, book.partners)  # a first mover's first window: nothing is on the table yet
    game.refresh()
    for array, then in zip((game.arrays.observation, game.arrays.state, game.arrays.bounds), before, strict=True):
        assert (array == then).all()


def test_privileged_columns_are_apart_and_only_there_on_request():
    plain = ArrayEnv(config_of("std-mini", days=6))
    told = ArrayEnv(config_of("std-mini", days=6, privileged_state=True))
    extra = told.layout.state_names[len(plain.layout.state_names) :]
    assert plain.layout.state_names == told.layout.state_names[: len(plain.layout.state_names)]
    assert extra and all(name.startswith("private_") for name in extra)
    plain.reset(1)
    told.reset(1)
    n = len(plain.layout.state_names)
    assert (plain.arrays.observation == told.arrays.observation).all()
    assert (plain.arrays.state[0] == told.arrays.state[0, :n]).all()
    there = told.arrays.state[0, n:].reshape(-1, 6)
    assert there[:, 0].sum() == 4 and (there[:4, 2] == 1.0).all()


def test_all_columns_are_named_finite_and_used():
    options = {"observation": ("thread", "history", "broadcast", "macro"), "days": 12, "processes": 3}
    seen_low, seen_high, rows = None, None, 0
    for seed, level in enumerate((0, 1, 2, 1, 1, 0)):
        opponents = "tests.players:Stubborn" if seed == 4 else "default"
        game = ArrayEnv(config_of("std-mini", level=level, opponents=opponents, **options))
        rng = np.random.default_rng(seed)
        game.reset(seed)
        while game.window is not None:
            seen = game.arrays.observation[game.arrays.active]
            assert np.isfinite(seen).all() and np.abs(seen).max() <= features.LIMIT
            low, high = seen.min(0), seen.max(0)
            seen_low = low if seen_low is None else np.minimum(seen_low, low)
            seen_high = high if seen_high is None else np.maximum(seen_high, high)
            rows += len(seen)
            game.step(random_masked(game, rng))
    names = np.array(game.layout.observation_names)
    assert len(names) == len(set(names)) == game.arrays.observation.shape[1] == 48 + 30 + 54 + 128
    constant = set(names[seen_low == seen_high])
    # what cannot vary in such worlds: active rows only, std only, 10 lines, and rare events
    fixed = {
        "exists", "alive", "on_turn", "deal_today", "bankrupt", "broadcast_pending_buy", "broadcast_pending_sell",
        "broadcast_disposal_rate", "macro_perishable", "macro_disposal_rate", "macro_n_lines", "macro_n_competitors",
        "macro_bankrupt_partners", "history_1_rounds_ago",
    }  # fmt: skip
    # whose turn it was follows from the position while offers alternate; a thread that waits for its partner differs
    fixed |= {name for name in constant if name.startswith("history") and name.endswith(("_there", "_by_me"))}
    assert constant <= fixed, constant - fixed
    assert rows > 300


def test_the_macro_state_has_128_columns_at_a_horizon_of_ten_days():
    assert len(features.macro_names(11)) == 128


def test_play_counts_windows():
    assert (
        play(ArrayEnv(config_of("std-mini", days=5)), 0, lambda game: random_masked(game, np.random.default_rng(0)))[0]
        > 5
    )


def test_offers_of_a_negotiation_are_told_oldest_first():
    for n_kept in (0, 1, 3):
        view = empty_view(2, 2, 1, n_kept)
        for n in range(7):
            told = list(range(max(0, n - n_kept), n)) if n_kept else []
            assert view.offers(1, 0)[:, 3].tolist() == told
            if n_kept:
                view.history[1, 0, n % n_kept, 3] = n
                view.n_history[1, 0] += 1
