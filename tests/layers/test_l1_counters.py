"""U1, U2 and U3: zero for what L1 lets through, and equal to the twin and to hand-made cases for what it does not."""

import numpy as np
import pytest

from scml_marl_env.actions import ACCEPT, END, OFFER, WAIT
from scml_marl_env.layers.l1_shield import COUNTS, SHIELDS, attribute_shortfall, count_unsafe, decode_answers
from tests.layers.test_l1_bounds import bounds_of
from tests.layers.test_l1_settle import choose, run, window
from tests.twins import oracle
from tests.twins.shield import FEASIBLE, Slow, contract, hope_after


def counts_of(view, grid, shield, action):
    counts = np.zeros(len(COUNTS), np.int64)
    bounds = bounds_of(view, grid, 0)
    answers = decode_answers(view, 0, grid.quantity_array, grid.n_price_levels, bounds, action)
    count_unsafe(view, 0, shield, answers, counts)
    return dict(zip(COUNTS, counts.tolist(), strict=True))


@pytest.mark.parametrize("kind", ["random", "greedy"])
@pytest.mark.parametrize("shield", [1, 2], ids=SHIELDS[1:])
@pytest.mark.parametrize("seed", range(90))
def test_what_settle_lets_through_is_safe_alone_and_together(seed, shield, kind):
    view, grid, rng = window(seed, kind)
    action = choose(kind, grid.mask(bounds_of(view, grid, 0)), grid, rng)
    executed, _, _ = run(view, grid, shield, False, action, np.zeros(action.size))
    counts = counts_of(view, grid, shield, executed)
    assert sum(counts[name] for name in COUNTS if name.startswith("u")) == 0


@pytest.mark.parametrize("shield", [1, 2], ids=SHIELDS[1:])
@pytest.mark.parametrize("seed", range(90))
def test_u1_counts_the_answers_that_the_twin_finds_unsafe(seed, shield):
    view, grid, rng = window(seed, "greedy")
    action = choose("greedy", grid.mask(bounds_of(view, grid, 0)), grid, rng)
    counts, slow = counts_of(view, grid, shield, action), Slow(view)
    truth = dict.fromkeys(COUNTS, 0)
    for k in range(action.size):
        if not slow.active(k) or action[k] < ACCEPT:
            continue
        name = ("buy_" if slow.is_buy[k] else "sell_") + ("accepts" if action[k] == ACCEPT else "offers")
        truth[name] += 1
        if not slow.offer_ok(k, shield, False, *contract(slow, grid, k, action[k])):
            truth[f"u1_{name}"] += 1
    names = [name for name in COUNTS if name.endswith(("accepts", "offers")) and name != "u2_accepts"]
    assert [counts[name] for name in names] == [truth[name] for name in names]


@pytest.mark.parametrize("shield", [1, 2], ids=SHIELDS[1:])
@pytest.mark.parametrize("seed", range(90))
def test_u2_counts_windows_of_sales_some_part_of_which_is_too_much(seed, shield):
    view, grid, rng = window(seed, "greedy")
    if view.pending.any():
        return
    action = choose("greedy", grid.mask(bounds_of(view, grid, shield * (seed % 2))), grid, rng)
    action = np.where(view.is_buy[0] & (action != WAIT), END, action)
    counts, slow = counts_of(view, grid, shield, action), Slow(view)
    for name, operations in (("u2_accepts", {ACCEPT}), ("u2_windows", {ACCEPT, OFFER})):
        sales = [contract(slow, grid, k, a)[:2] for k, a in enumerate(action) if min(a, OFFER) in operations]
        hoped = sum(hope_after(slow, grid, k, action[k]) for k in range(slow.slots))
        alone = sum(slow.hope(k) for k in range(slow.slots))
        unsafe = any(not slow.sale_ok(shield, *sale, hoped=alone) for sale in sales)
        for part in oracle.subsets(sales):
            unsafe |= any(not slow.sale_ok(shield, *part[i], part[:i] + part[i + 1 :], hoped) for i in range(len(part)))
        assert counts[name] == unsafe


def test_an_end_that_makes_a_shortfall_certain_is_counted_apart():
    view, grid, _ = window(0, "random")
    for seed in range(200):
        view, grid, _ = window(seed, "random")
        if view.is_buy[0].sum() == 1 and (view.alive & view.on_turn)[0, 0] and view.level[0] == 1:
            break
    view.round[:] = 0
    view.n_rounds[:] = 5
    view.stock[:] = view.signed_in[:] = view.n_lots[:] = view.exogenous_out[:] = view.exogenous_in[:] = 0
    view.signed_out[0, 0] = 1
    action = np.where((view.alive & view.on_turn)[0], END, WAIT)
    assert counts_of(view, grid, FEASIBLE, action)["ends_short"] == 1
    view.stock[:] = 1
    assert counts_of(view, grid, FEASIBLE, action)["ends_short"] == 0


@pytest.mark.parametrize(
    ("negotiated", "exogenous", "inputs", "produced", "lost", "expected"),
    [
        (8, 0, 10, 8, 0, (0, 0, 0, 0)),
        (8, 0, 5, 5, 0, (3, 0, 0, 0)),
        (0, 8, 5, 5, 0, (0, 3, 0, 0)),
        (4, 8, 5, 5, 0, (0, 7, 0, 0)),
        (6, 2, 5, 5, 0, (1, 2, 0, 0)),
        (8, 0, 10, 3, 0, (0, 0, 5, 0)),
        (8, 0, 5, 5, 2, (1, 0, 0, 2)),
        (8, 0, 5, 4, 9, (0, 0, 1, 3)),
        (12, 0, 20, 10, 5, (2, 0, 0, 0)),
    ],
)
def test_a_shortfall_is_split_by_cause(negotiated, exogenous, inputs, produced, lost, expected):
    causes = attribute_shortfall(negotiated, exogenous, inputs, produced, 10, lost)
    assert tuple(causes) == expected
    assert sum(causes) == negotiated + exogenous - produced
