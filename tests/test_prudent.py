"""The Prudent policy: what it answers is legal, covered and affordable, whatever the view; and it trades well."""

import os
import subprocess
import sys

import numpy as np
import pytest

from scml_marl_env import opponents
from scml_marl_env.actions import ACCEPT, END, OFFER
from scml_marl_env.agent import WindowAgent
from scml_marl_env.prudent import PrudentAgent
from scml_marl_env.registry import config_of
from scml_marl_env.view import empty_view
from scml_marl_env.world.draw import draw
from scml_marl_env.world.fast import columns, prudence
from scml_marl_env.world.fast.fleet import Fleet
from scml_marl_env.world.fast.play import IS_OVER, advance
from scml_marl_env.world.official import build
from scml_marl_env.world.rng import GlobalRandomness
from tests.layers.views import random_view
from tests.twins import shield as twin

PATH = "scml_marl_env.prudent:PrudentAgent"


def answers_to(view, **options):
    """{slot: (operation, quantity, lead, price)} of the threads on turn, with `options` by name of column."""
    numbers = np.zeros(prudence.N_OPTIONS)
    prudence.write_options(numbers)
    for name, value in options.items():
        numbers[getattr(prudence, name.upper())] = value
    answers = np.full((view.exists.shape[1], 4), -7, np.int64)
    prudence.prudent_answers(view, 0, numbers, answers)
    return {k: tuple(answers[k].tolist()) for k in np.flatnonzero(view.on_turn[0])}


def promised(view, answers, buys):
    """[(items, lead, price)] of all that may become a deal on one side: accepted, now offered, still pending."""
    deals = []
    for k, (operation, *offer) in answers.items():
        if operation in (ACCEPT, OFFER) and view.is_buy[0, k] == buys:
            deals.append(tuple(offer))
    for k in np.flatnonzero(view.pending[0] & ~view.on_turn[0]):
        if view.is_buy[0, k] == buys:
            deals.append(tuple(int(x[0, k]) for x in (view.sent_quantity, view.sent_lead, view.sent_price)))
    return deals


@pytest.mark.parametrize("seed", range(400))
def test_answers_are_legal_and_change_nothing_else(seed):
    view = random_view(seed, pending=bool(seed % 2))
    before = view.copy()
    for options in ({}, {"theta": 3, "over_buy": 2, "over_sell": 2, "exponent": 0, "accept_buy": 0, "accept_sell": 0}):
        answers = answers_to(view, **options)
        for k, (operation, quantity, lead, price) in answers.items():
            side = 0 if view.is_buy[0, k] else 1
            assert operation in (END, ACCEPT, OFFER)
            if operation == ACCEPT:
                assert view.has_offer[0, k]
                on_table = view.offer_quantity[0, k], view.offer_lead[0, k], view.offer_price[0, k]
                assert (quantity, lead, price) == on_table
            if operation == OFFER:
                assert 1 <= quantity <= view.max_quantity[0]
                assert 0 <= lead <= view.last_lead[0]
                assert view.price_low[0, side] <= price <= view.price_high[0, side]
        assert answers == answers_to(view, **options), "deterministic"
    for array, same in zip(view, before, strict=True):
        np.testing.assert_array_equal(array, same)


def test_sales_are_covered_together():
    """Each with all others that may come true, by L1's slow twin; and the rooms are used up where there is demand."""
    n_sales = n_full = 0
    for seed in range(1500):
        view = random_view(seed, pending=bool(seed % 3 == 0), rich=True)
        slow, answers = twin.Slow(view), answers_to(view)
        everything = [(lead, quantity) for quantity, lead, _ in promised(view, answers, buys=False)]
        for k, (operation, quantity, lead, _) in answers.items():
            if operation == END or view.is_buy[0, k]:
                continue
            others = list(everything)
            others.remove((lead, quantity))
            assert slow.sale_ok(twin.COVERED, lead, quantity, others), (seed, k)
            n_sales += 1
            n_full += not slow.sale_ok(twin.COVERED, lead, quantity + 1, others)
    assert n_sales > 400 and n_full > 200


def test_purchases_are_affordable_together():
    """All of them, with what is signed, are paid from the balance alone, today's production included."""
    bought = binding = 0
    for seed in range(1500):
        view = random_view(seed, rich=False, pending=bool(seed % 3 == 0))
        view.balance[0] += seed % 400
        answers = answers_to(view, over_buy=1)
        if not any(operation != END and view.is_buy[0, k] for k, (operation, *_) in answers.items()):
            continue
        cost = sum(quantity * price for quantity, _, price in promised(view, answers, buys=True))
        paid = cost + view.signed_cost[0].sum() + view.exogenous_in_cost[0]
        left = view.balance[0] - paid - view.unit_cost[0] * view.n_lines[0]
        assert left >= 0, seed
        bought += 1
        binding += left < 2 * view.price_high[0, 0]
    assert bought > 100 and binding > 10


def test_accepts_the_best_prices_within_the_need_and_asks_for_the_rest():
    view = _middle_factory(conserving=1)
    answers = answers_to(view, over_buy=0, theta=0.75)
    assert answers[0] == (ACCEPT, 4, 0, 9)  # 2 * 7.5 - 5 are needed
    assert answers[1] == (OFFER, 3, 0, 9)  # 12 would be too many: it asks for half of the other 6, at the best price
    assert answers[2] == (OFFER, 3, 0, 9)
    assert answers[3] == (ACCEPT, 5, 3, 19)  # from stock
    assert answers[4][0] == answers[5][0] == END  # which then is gone


def test_stock_that_lasts_is_bought_at_once_and_not_sold_meanwhile():
    """Where production does not consume stock: what arrives while it sells nothing stays for ever."""
    view = _middle_factory()
    answers = answers_to(view, theta=1.5)
    assert answers[0] == (ACCEPT, 4, 0, 9)  # 15 - 5 are missing
    assert answers[1] == answers[2] == (OFFER, 3, 0, 11)  # for the others it offers the highest price at once
    assert answers[3] == (ACCEPT, 5, 3, 19)  # from stock, in three days, which the simulator does not consume
    assert answers[4] == (OFFER, 3, 1, 19)  # and the same stock is offered for tomorrow, in even parts
    assert answers[5] == (OFFER, 2, 1, 19)
    view.stock[0] = 15
    answers = answers_to(view, theta=1.5)
    assert answers[0][0] == answers[1][0] == answers[2][0] == END
    assert answers[4] == (OFFER, 5, 0, 19)  # all is there: it sells for today too
    view.stock[0], view.day[0] = 5, view.n_days[0] - 2
    assert answers_to(view, theta=1.5)[0][0] == END, "one day more does not pay for it"


def test_the_last_level_buys_its_stock_on_top_of_what_it_sells_today():
    view = _middle_factory(level=2, exogenous_out=7, stock=0)
    view.exists[0, 3:] = view.alive[0, 3:] = view.on_turn[0, 3:] = view.has_offer[0, 3:] = False
    answers = answers_to(view, theta=1.0)
    assert answers[0] == (ACCEPT, 4, 0, 9) and answers[1] == (ACCEPT, 12, 0, 9)
    assert answers[2] == (OFFER, 1, 0, 11)  # 7 + 10 in all: of 17 that arrive 7 are used up
    view.signed_in[0, 0] = 17
    assert {operation for operation, *_ in answers_to(view, theta=1.0).values()} == {END}
    view.signed_in[0, 0], view.stock[0] = 0, 10
    assert {operation for operation, *_ in answers_to(view, theta=1.0).values()} == {END}, "free for ever"


def _middle_factory(**changes):
    view = empty_view(1, 6, 11, 0)
    numbers = {
        "n_days": 50, "n_rounds": 20, "level": 1, "n_levels": 3, "n_lines": 10, "unit_cost": 2, "n_suppliers": 3,
        "n_consumers": 3, "max_quantity": 30, "first_mover": 1, "day": 10, "last_lead": 10, "stock": 5,
        "balance": 5000.0,
    }  # fmt: skip
    for name, value in (numbers | changes).items():
        getattr(view, name)[0] = value
    view.price_low[0], view.price_high[0], view.trading_price[0] = (9, 17), (11, 19), (10, 18)
    view.exists[0] = view.alive[0] = view.on_turn[0] = True
    view.is_buy[0, :3] = True
    for k, offer in {0: (4, 0, 9), 1: (12, 0, 9), 3: (5, 3, 19)}.items():
        view.has_offer[0, k] = True
        view.offer_quantity[0, k], view.offer_lead[0, k], view.offer_price[0, k] = offer
    return view


def play(config, seed, controlled=PrudentAgent):
    with GlobalRandomness(seed):
        world = build(draw(config, seed), config, controlled)
        while world.step():
            pass
    return world


def ours(world):
    return [name for name, agent in world.agents.items() if isinstance(agent.adapted_object, PrudentAgent)]


def check(world):
    """No exception, no bankruptcy, and no shortfall except of the last level's exogenous sales; levels by name."""
    assert not any(world.agent_exceptions.values()) and world.n_failed_negotiations == 0
    levels = {name: world.agents[name].awi.level for name in ours(world)}
    for name, level in levels.items():
        assert not world.is_bankrupt[name]
        if level < world.n_processes - 1:
            assert sum(world.stats[f"shortfall_quantity_{name}"]) == 0, (name, level)
    return levels


@pytest.mark.parametrize("inventory", ["simulator", "conserving"])
@pytest.mark.parametrize("processes", [2, 3, 4])
def test_alone_and_among_others_it_never_falls_short(monkeypatch, inventory, processes):
    """As the only kind of agent, and with one factory on every level of a mixed field."""
    _check_wire(monkeypatch)
    options = {"processes": processes, "days": 15, "inventory": inventory}
    alone = config_of("std-mini", controlled="all", **options)
    mixed = config_of("std-mini", controlled=processes, level=tuple(range(processes)), opponents="default", **options)
    for config in (alone, mixed):
        world = play(config, 3)
        assert set(check(world).values()) == set(range(processes))
        assert sum(len(world.agent_contracts[name]) for name in ours(world)) > 20


def test_oneshot_covers_its_needs(monkeypatch):
    _check_wire(monkeypatch)
    for options in ({"controlled": "all"}, {"controlled": 2, "level": (0, 1), "opponents": "default"}):
        world = play(config_of("oneshot-mini", days=20, **options), 2)
        assert set(check(world).values()) == {0, 1}


def test_it_is_an_opponent_by_its_path():
    world = play(config_of("std-mini", processes=2, days=8, opponents=PATH), 1)
    assert len(ours(world)) == len(world.agents) - 2  # without the system's two


def test_the_same_world_twice_is_the_same_world():
    config = config_of("std-mini", processes=3, days=8, controlled="all")
    assert play(config, 4).scores() == play(config, 4).scores()


@pytest.mark.parametrize("name", opponents.VARIANTS)
def test_a_variant_differs_in_its_options_alone(name):
    """By its name in a real world; the caller's own options come first."""
    options = opponents.VARIANTS[name]
    assert opponents.variant_of(opponents.BUILT_IN["std"][name]) == options
    world = play(config_of("std-mini", processes=2, days=3, opponents=name), 1)
    kind = opponents.load(opponents.BUILT_IN["std"][name])
    agents = [agent.adapted_object for agent in world.agents.values() if type(agent.adapted_object) is kind]
    assert len(agents) >= len(world.agents) - 3
    expected = np.zeros(prudence.N_OPTIONS)
    prudence.write_options(expected)
    for option, value in options.items():
        expected[getattr(prudence, option.upper())] = value
    assert agents[0]._options.tolist() == expected.tolist()
    assert kind(theta=7.0)._options[prudence.THETA] == 7.0


@pytest.mark.parametrize(
    ("track", "processes", "inventory", "others"),
    [
        ("std", 3, "conserving", "prudent"),
        ("std", 3, "simulator", {"prudent-eager": 1, "prudent-stocked": 1, "prudent-bold": 1}),
        ("oneshot", 2, "simulator", "prudent"),
    ],
)
def test_both_engines_play_it_alike(track, processes, inventory, others):
    options = {"processes": processes, "inventory": inventory, "days": 10, "opponents": others}
    config = config_of(f"{track}-mini", **options)
    drawn = draw(config, 5)
    with GlobalRandomness(drawn.world_seed + 1):
        world = build(drawn, config, PrudentAgent)
        while world.step():
            pass
    fleet = Fleet(config_of(f"{track}-mini", engine="fast", **options), 1, 10)
    cast = fleet.begin(0, 5)
    for f in cast.controlled:
        fleet.state.factory[0, f, columns.POLICY] = columns.PRUDENT
        prudence.write_options(fleet.state.agent[0, f])
    assert advance(*fleet.arrays, 0) == IS_OVER
    n = len(cast.levels)
    balance = fleet.state.diary[0, 9, :n, columns.DIARY.index("balance")]
    scores = balance / fleet.tables.factory[0, :n, columns.INITIAL_BALANCE]
    assert scores.tolist() == list(world.scores().values())


def _check_wire(monkeypatch):
    """Checks every offer against the live agenda of its negotiation."""
    outcome = WindowAgent._outcome

    def spy(self, partner, answer):
        offer = outcome(self, partner, answer)
        if offer is not None:
            issues = self.get_nmi(partner).issues
            assert all(issue.is_valid(value) for issue, value in zip(issues, offer, strict=True)), (offer, issues)
        return offer

    monkeypatch.setattr(WindowAgent, "_outcome", spy)


@pytest.mark.slow
@pytest.mark.parametrize("track", ["std", "oneshot"])
def test_it_beats_the_default_agents_in_the_same_seats(track):
    levels = 3 if track == "std" else 2
    config = config_of(
        f"{track}-mini",
        processes=levels,
        factories_per_level=4,
        days=30,
        controlled=levels,
        level=tuple(range(levels)),
        opponents="default",
    )
    rivals = {"std": ("greedy", "sync-random"), "oneshot": ("greedy", "equal-dist")}[track]

    def score(agent):
        totals = []
        for seed in range(6):
            drawn, world = draw(config, seed), play(config, seed, agent)
            totals.append([list(world.scores().values())[f] for f in drawn.controlled])
        return np.mean(totals)

    prudent = score(PrudentAgent)
    for rival in rivals:
        assert prudent > score(opponents.load(opponents.BUILT_IN[track][rival])) + 0.02


_WITHOUT_JIT = """
from tests.test_prudent import answers_to, random_view
print([sorted(answers_to(random_view(seed, pending=True)).items()) for seed in range(60)])
"""


def test_plain_python_answers_alike():
    """NUMBA_DISABLE_JIT=1: the kernel as ordinary Python, in a process of its own."""
    run = subprocess.run(
        [sys.executable, "-c", _WITHOUT_JIT],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
    )
    compiled = [sorted(answers_to(random_view(seed, pending=True)).items()) for seed in range(60)]
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == str(compiled)
