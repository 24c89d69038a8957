"""L1 in real worlds: every factory on every level plays by it, and the official simulator keeps the statistics."""

from collections import Counter, defaultdict
from typing import NamedTuple

import numpy as np
import pytest

from scml_marl_env.actions import ACCEPT, END, OFFER, WAIT
from scml_marl_env.array_env import ArrayEnv
from scml_marl_env.config import EnvConfig
from scml_marl_env.layers.l1_shield import (
    COUNTS,
    SHIELDS,
    attribute_shortfall,
    count_unsafe,
    decode_answers,
    settle,
)

LINES = 10
TRACK = {"std": {"processes": 3}, "oneshot": {"processes": 2, "track": "oneshot"}}
CASES = [
    (track, shield, inventory, policy)
    for track in ("std", "oneshot")
    for shield in SHIELDS
    for inventory in ("simulator", "conserving")
    for policy in ("random", "greedy")
    if not (track == "oneshot" and inventory == "conserving")
]


class Played(NamedTuple):
    """A world that was played: counters of (grade, chosen or executed), and a row for each factory and day."""

    counts: dict
    rows: list
    reasons: Counter


class Row(NamedTuple):
    level: int
    due: int  # negotiated sales
    shortfall: int
    negotiated: int
    exogenous: int
    money: int
    bankruptcy: int
    bill: int  # negotiated purchases, dollars
    opening: float  # balance at the start of the day
    is_bankrupt: bool


def play(config, seed, policy):
    env = ArrayEnv(config)
    env.reset(seed)
    rng = np.random.default_rng(seed)
    grid, view, shield = env.grid, env.engine.view, SHIELDS.index(config.shield)
    counts = {(grade, who): np.zeros(len(COUNTS), np.int64) for grade in (1, 2) for who in ("chosen", "executed")}
    reasons = Counter()
    n_slots = config.n_slots
    executed, reason = np.zeros(n_slots, np.int64), np.zeros(n_slots, np.int64)
    while env.window is not None:
        b = env.window
        rows = env.agents_of(b)
        bounds = env.arrays.bounds[rows].copy()
        actions = np.zeros(len(env.arrays.active), np.int64)
        actions[rows] = answer(policy, grid, bounds, rng)
        priority = rng.random(len(actions))
        settle(
            view, b, shield, config.useful, grid.quantity_array, grid.n_price_levels, bounds, actions[rows],
            priority[rows], executed, reason,
        )  # fmt: skip
        for who, chosen in (("chosen", actions[rows]), ("executed", executed)):
            answers = decode_answers(view, b, grid.quantity_array, grid.n_price_levels, bounds, chosen)
            for grade in (1, 2):
                count_unsafe(view, b, grade, answers, counts[grade, who])
        reasons.update(reason.tolist())
        env.step(actions, priority)
        assert env.arrays.executed[rows].tolist() == executed.tolist()
    assert env.world_error is None
    played = Played(counts, accounts(env), reasons)
    env.close()
    return played


def answer(policy, grid, bounds, rng):
    """Random: an operation, then anything in it. Greedy: every deal it may take, else as much as it may offer."""
    mask = grid.mask(bounds)
    action = np.zeros(len(mask), np.int64)
    for k, legal in enumerate(mask):
        if legal[WAIT]:
            continue
        offers = np.flatnonzero(legal[OFFER:]) + OFFER
        may_accept, luck = legal[ACCEPT], rng.random()
        if may_accept and luck < (0.9 if policy == "greedy" else 0.3):
            action[k] = ACCEPT
        elif not offers.size or luck > 0.98:
            action[k] = END
        elif policy == "random":
            action[k] = rng.choice(offers)
        else:
            lead = rng.choice(np.unique((offers - OFFER) // (len(grid.quantities) * grid.n_price_levels)))
            here = [a for a in offers if (a - OFFER) // (len(grid.quantities) * grid.n_price_levels) == lead]
            action[k] = max(here, key=lambda a: (grid.decode(int(a))[2], rng.random()))
    return action


def accounts(env):
    """A `Row` for every controlled factory and day, from the simulator's contracts and statistics."""
    world = env.engine.world
    rows = []
    for b in range(env.engine.n_factories):
        me = env.engine._ids[b]
        contracts = world._SCMLBaseWorld__contracts[me]
        due, forced, bill, void = defaultdict(int), defaultdict(int), defaultdict(int), defaultdict(int)
        for contract in contracts:
            day, quantity = contract.agreement["time"], contract.agreement["quantity"]
            sells, system = contract.annotation["seller"] == me, {"SELLER", "BUYER"} & set(contract.partners)
            if contract.executed_at >= 0 and sells:
                (forced if system else due)[day] += quantity
            elif contract.executed_at >= 0 and not system:
                bill[day] += quantity * contract.agreement["unit_price"]
            elif contract.executed_at < 0 and not sells:
                void[day] += quantity
        stock, balance, lost, bankrupt = 0, float(world.initial_balances[me]), 0, False
        for result in env.results(b):
            day = result.day
            lost += void[day]
            causes = attribute_shortfall(
                due[day], forced[day], stock + result.bought, result.produced, LINES, 0 if bankrupt else lost
            )
            assert result.sold == due[day] + forced[day]
            assert sum(causes) == result.shortfall
            assert min(causes) >= 0
            level = world.agents[me].awi.level
            rows.append(Row(level, due[day], result.shortfall, *causes, bill[day], balance, bankrupt))
            stock, balance = result.stock, result.balance
            bankrupt = bankrupt or balance < 0
    return rows


def unsafe(counts):
    return sum(int(n) for name, n in zip(COUNTS, counts, strict=True) if name.startswith("u"))


def check(shield, played):
    """The promises of a grade (SAFETY.md, section 2)."""
    grade = SHIELDS.index(shield)
    if grade >= 1:
        assert unsafe(played.counts[grade, "executed"]) == 0
    rows = [row for row in played.rows if not row.is_bankrupt]
    if grade >= 1:
        assert all(row.due <= LINES for row in rows)
    if shield == "covered":
        assert not any(row.negotiated for row in rows)
        assert all(row.bill <= max(0, row.opening) for row in rows)


def config_of(track, shield, inventory, days, **options):
    options = {**TRACK[track], "factories_per_level": 2, **options}
    return EnvConfig(controlled="all", days=days, shield=shield, inventory=inventory, **options)


@pytest.mark.parametrize(("track", "shield", "inventory", "policy"), CASES)
def test_a_short_world_keeps_the_promises_of_its_grade(track, shield, inventory, policy):
    played = play(config_of(track, shield, inventory, 5, rounds=4), 11, policy)
    check(shield, played)
    assert len(played.rows) == 5 * 2 * (3 if track == "std" else 2)
    assert sum(row.due for row in played.rows) > 0


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(("track", "shield", "inventory", "policy"), CASES)
def test_five_hundred_world_days_on_every_level(track, shield, inventory, policy):
    days = Counter()
    totals = Counter()
    for seed in range(25):
        rounds = 20 if seed % 5 == 0 else 6
        played = play(config_of(track, shield, inventory, 20, rounds=rounds), seed, policy)
        check(shield, played)
        for row in played.rows:
            days[row.level] += 1
            totals.update({"due": row.due, "shortfall": row.shortfall, "negotiated": row.negotiated})
            totals.update({"money": row.money, "exogenous": row.exogenous, "bankruptcy": row.bankruptcy})
            totals["bankrupt days"] += row.is_bankrupt
            totals["overdrawn"] += row.bill > max(0, row.opening) and not row.is_bankrupt
        for (grade, who), counts in played.counts.items():
            totals[f"unsafe {SHIELDS[grade]} {who}"] += unsafe(counts)
        totals.update({f"reason {r}": n for r, n in played.reasons.items()})
    print(track, shield, inventory, policy, dict(totals))
    assert all(count >= 1000 for count in days.values())
    assert totals["due"] > 1000
