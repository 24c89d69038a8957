"""L1 against exhaustive search in small worlds, in both directions: what is allowed is safe, what is removed is not."""

from itertools import permutations, product

import numpy as np
import pytest

from scml_marl_env.actions import ACCEPT, LAST_LEAD, OFFER, QUANTITY
from scml_marl_env.layers.l1_shield import SHIELDS
from tests.layers.test_l1_bounds import bounds_of
from tests.layers.test_l1_settle import choose, run
from tests.layers.views import grid_of, random_view, tight_view
from tests.twins import oracle
from tests.twins.shield import COVERED, FEASIBLE, Slow, contract

FAST, ALL = range(30), range(30, 500)
SEEDS = [*FAST, *(pytest.param(seed, marks=pytest.mark.slow) for seed in ALL)]


def small_world(seed, pending=False, rich=True):
    """A toy view whose sell threads are active, so that its bounds can be read."""
    view = random_view(seed, small=True, pending=pending, rich=rich)
    sells = np.flatnonzero(view.exists[0] & ~view.is_buy[0])
    if not pending:
        view.alive[0, sells] = view.on_turn[0, sells] = True
    return view, grid_of(view, np.random.default_rng(seed)), sells


def rooms_in(bounds, k):
    """Largest sale of thread k for each lead time of its agenda."""
    return bounds[k, QUANTITY : QUANTITY + bounds[k, LAST_LEAD] + 1].tolist()


def shortfalls_with(slow, sales, outcomes, arrivals):
    return oracle.least_shortfalls(slow, plus(slow.due, sales), outcomes, arrivals)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_sale_is_feasible_if_and_only_if_some_continuation_has_no_further_shortfall(seed):
    view, grid, sells = small_world(seed)
    slow, rooms = Slow(view), rooms_in(bounds_of(view, grid, FEASIBLE), sells[0])
    every = oracle.deals(slow, len(rooms))
    outcomes = [oracle.outcomes_today(slow, k, every) for k in range(slow.slots)]
    before = shortfalls_with(slow, [], outcomes, slow.arrivals)
    for d, q in sorted(every):
        after = shortfalls_with(slow, [(d, q)], outcomes, slow.arrivals)
        assert (q <= rooms[d]) == (not oracle.raises_shortfall(before, after)), (d, q, before, after)


@pytest.mark.parametrize("kind", ["random", "greedy"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_window_is_left_alone_if_and_only_if_no_part_of_it_makes_a_shortfall_certain(seed, kind):
    view, grid, _ = small_world(seed, pending=seed % 2 == 1)
    rng = np.random.default_rng(seed)
    action = choose(kind, grid.mask(bounds_of(view, grid, FEASIBLE)), grid, rng)
    executed, _, _ = run(view, grid, FEASIBLE, False, action, np.zeros(action.size))
    slow = Slow(view)
    sells = [k for k in range(slow.slots) if not slow.is_buy[k]]
    assert [executed[k] for k in range(slow.slots) if k not in sells] == [
        action[k] for k in range(slow.slots) if k not in sells
    ]
    assert is_jointly_feasible(slow, grid, executed)
    changed = any(executed[k] != action[k] for k in sells)
    assert changed == (not is_jointly_feasible(slow, grid, action))


def is_jointly_feasible(slow, grid, action):
    """Whether, whichever of our offers are accepted, our sales leave a continuation that falls no shorter than
    without them. Acceptances are deals at once; the partner of an offer that is not accepted goes on as it can."""
    every = oracle.deals(slow, slow.last_lead + 1)
    certain_sales, open_sales, buys = [], [], []
    for k in range(slow.slots):
        if not slow.alive[k]:
            continue
        pending = (slow.sent_lead[k], slow.sent_quantity[k]) if slow.open_offer(k) else None
        answer = contract(slow, grid, k, action[k])[:2] if slow.active(k) and action[k] >= ACCEPT else None
        if slow.is_buy[k] and slow.active(k):
            if action[k] == ACCEPT:
                buys.append([{answer}])
            elif answer is None:
                buys.append([{None}])
            else:
                buys.append([{answer}, oracle.outcomes_after_refusal(slow, k, every)])
        elif slow.is_buy[k]:
            if pending:
                buys.append([{pending}, oracle.outcomes_after_refusal(slow, k, every)])
            else:
                buys.append([oracle.outcomes_today(slow, k, every)])
        elif action[k] == ACCEPT:
            certain_sales.append(answer)
        elif answer or pending:
            open_sales.append((answer or pending, answer is not None))
    arrivals = slow.arrivals[: slow.last_lead + 1]
    due = slow.due[: slow.last_lead + 1]
    for fate in product(*buys):
        for accepted in oracle.subsets(open_sales):
            of_before = [sale for sale, is_new in accepted if not is_new]
            of_window = certain_sales + [sale for sale, is_new in accepted if is_new]
            before = oracle.least_shortfalls(slow, plus(due, of_before), fate, arrivals)
            after = oracle.least_shortfalls(slow, plus(due, of_before + of_window), fate, arrivals)
            if oracle.raises_shortfall(before, after):
                return False
    return True


def plus(due, sales):
    return [items + sum(q for lead, q in sales if lead == d) for d, items in enumerate(due)]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_covered_sale_is_delivered_whatever_else_is_sold_and_a_removed_one_need_not_be(seed):
    view, grid, sells = small_world(seed)
    slow, rooms = Slow(view), rooms_in(bounds_of(view, grid, COVERED), sells[0])
    leads = len(rooms)
    base = slow.shortfalls(slow.due, 0)[:leads]
    for d, q in sorted(oracle.deals(slow, leads)):
        if slow.conserves:
            due = list(slow.due)
            due[d] += q
            fails = oracle.raises_shortfall(base, slow.shortfalls(due, 0)[:leads])
            if any(base):
                assert not (q <= rooms[d] and fails)
                continue
        else:
            fails = False
            for earlier in product(range(slow.n + 1), repeat=d):
                due = [x + y for x, y in zip(slow.due, [*earlier, q] + [0] * slow.leads, strict=False)]
                fails |= slow.shortfalls(due, 0)[d] > 0
        assert (q <= rooms[d]) == (not fails), (d, q)


@pytest.mark.parametrize("seed", SEEDS)
def test_covered_sales_that_follow_each_other_never_fall_short(seed):
    view, grid, sells = small_world(seed)
    rng = np.random.default_rng(seed)
    view.signed_out[:] = 0  # every sale so far was covered too
    base = Slow(view).shortfalls(Slow(view).due, 0)
    leads = int(view.last_lead[0]) + 1
    before = None
    for _ in range(6):
        rooms = rooms_in(bounds_of(view, grid, COVERED), sells[0])
        assert before is None or all(a <= b for a, b in zip(rooms, before, strict=True))  # they never grow
        before = rooms
        options = [(d, q) for d in range(leads) for q in range(1, rooms[d] + 1)]
        if not options:
            break
        d, q = options[rng.integers(len(options))]
        view.signed_out[0, d] += q
        assert not oracle.raises_shortfall(base, Slow(view).shortfalls(Slow(view).due, 0))


def purchases_of(slow, grid, executed):
    """The window's purchases: those that are certain, those that may come true (offers now and pending)."""
    certain, may = [], slow.pending_contracts(True)
    for k in range(slow.slots):
        if slow.active(k) and slow.is_buy[k] and executed[k] >= ACCEPT:
            (certain if executed[k] == ACCEPT else may).append(contract(slow, grid, k, executed[k]))
    return certain, may


@pytest.mark.parametrize("shield", [FEASIBLE, COVERED], ids=SHIELDS[1:])
@pytest.mark.parametrize("seed", range(100))
def test_no_part_of_a_window_in_no_order_of_signing_breaks_the_money_of_today(seed, shield):
    view = tight_view(seed) if seed % 2 else random_view(seed, rich=False, pending=False)
    rng = np.random.default_rng(seed)
    grid = grid_of(view, rng)
    view.offer_lead[:] = 0
    action = choose("greedy", grid.mask(bounds_of(view, grid, shield)), grid, rng)
    for k in np.flatnonzero(action >= OFFER):
        _, _, quantity, level = grid.decode(action[k])
        action[k] = grid.encode(OFFER, 0, quantity, level)
    executed, _, _ = run(view, grid, shield, False, action, np.zeros(action.size))
    slow = Slow(view)
    certain, may = purchases_of(slow, grid, executed)
    lots = [(p, q) for d, q, p in [*certain, *may] if d == 0]
    sales = [contract(slow, grid, k, executed[k]) for k in range(slow.slots) if not slow.is_buy[k]]
    _, usable, _, enough = slow.payment([])
    for sold in {slow.due[0], slow.due[0] + sum(c[1] for c in sales if c and c[0] == 0)}:
        limit = min(slow.n, sold)
        for part in oracle.subsets(lots):
            for order in permutations(part):
                _, then, _, enough_then = slow.payment(list(order))
                assert enough_then or not enough
                assert min(then, limit) >= min(usable, limit)


@pytest.mark.parametrize("seed", range(150))
def test_covered_purchases_are_paid_in_full_without_any_further_revenue(seed):
    view = random_view(seed, rich=False, pending=seed % 3 == 0)
    set_poor(view, seed)
    rng = np.random.default_rng(seed)
    grid = grid_of(view, rng)
    slow = Slow(view)
    if not pays(slow, []):
        return
    action = choose("greedy", grid.mask(bounds_of(view, grid, COVERED)), grid, rng)
    executed, _, _ = run(view, grid, COVERED, False, action, np.zeros(action.size))
    pending = slow.pending_contracts(True)
    certain, may = purchases_of(slow, grid, executed)
    for part in oracle.subsets(may):
        if pays(slow, [c for c in part if c in pending]):
            assert pays(slow, [*certain, *part])


@pytest.mark.parametrize("seed", range(100))
def test_a_purchase_that_covered_removes_could_not_be_paid_without_further_revenue(seed):
    view = random_view(seed, rich=False)
    set_poor(view, seed)
    view.storage_rate[0] = 0  # storage of the purchase itself is rounded up
    grid = grid_of(view, np.random.default_rng(seed))
    slow, bounds = Slow(view), bounds_of(view, grid, COVERED)
    for k in range(slow.slots):
        if not (slow.active(k) and slow.is_buy[k]):
            continue
        price, caps = slow.price_low[0], grid.caps(bounds[k])[:, 0]
        for d, q in product(range(slow.last_lead + 1), range(1, slow.max_quantity + 1)):
            fine = pays(slow, [(d, q, price)]) and (d > 0 or all(slow.today_ok(price, x) for x in range(1, q + 1)))
            assert (q <= caps[d]) == fine


def set_poor(view, seed):
    """Money of the order of a few purchases, so that every day can bind; no sales signed that production would pay."""
    rng = np.random.default_rng(seed)
    view.balance[0] = float(rng.integers(0, 400)) + view.signed_cost[0].sum()


def pays(slow, purchases):
    """Whether every day's payments, and production where anything is due, are within the balance it starts with.

    No revenue ever comes, every day costs full production and the storage of all that has arrived.
    """
    keep = slow.trading_price[0] * slow.storage_rate
    balance = slow.balance - slow.exogenous_in_cost
    held = slow.stock
    for d in range(slow.leads):
        mine = [(q, p) for lead, q, p in purchases if lead == d]
        balance -= slow.signed_cost[d] + sum(q * p for q, p in mine)
        production = slow.n * slow.unit_cost
        binds = mine or (d > 0 and slow.signed_cost[d] + slow.signed_out[d] > 0)
        if binds and balance - (production if d > 0 else 0) < -1e-9:
            return False
        held = (0 if slow.perishable and d > 0 else held) + slow.arrivals[d] + sum(q for q, _ in mine)
        balance -= production + keep * held
    return True


@pytest.mark.parametrize("seed", range(100))
def test_a_later_purchase_is_feasible_if_and_only_if_the_best_sales_could_pay_for_it(seed):
    view = random_view(seed, rich=False)
    set_poor(view, seed)
    view.balance[0] -= 300
    grid = grid_of(view, np.random.default_rng(seed))
    slow, bounds = Slow(view), bounds_of(view, grid, FEASIBLE)
    growth = max(1.0, (slow.price_high[1] + 1) / slow.trading_price[1])
    for k in range(slow.slots):
        if not (slow.active(k) and slow.is_buy[k]):
            continue
        caps = grid.caps(bounds[k])[:, 0]
        for d in range(1, slow.last_lead + 1):
            start = slow.balance - slow.exogenous_in_cost
            for t in range(d):
                start += slow.n * slow.price_high[1] * growth**t + slow.signed_revenue[t] - slow.signed_cost[t]
            for q in range(1, slow.max_quantity + 1):
                unpayable = slow.n_levels - 1 > slow.level and slow.signed_cost[d] + q * slow.price_low[0] > start
                assert (q <= caps[d]) == (not unpayable)
