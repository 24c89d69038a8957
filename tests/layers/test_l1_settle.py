"""`settle`: equal to its slow twin, idempotent, changes nothing that fits, never raises, never leaves the agenda."""

import numpy as np
import pytest

from scml_marl_env.actions import ACCEPT, END, OFFER, WAIT, ActionGrid
from scml_marl_env.layers.l1_shield import REASONS, SHIELDS, settle
from scml_marl_env.view import empty_view
from tests.layers.test_l1_bounds import bounds_of
from tests.layers.views import grid_of, random_view, set_all, tight_view
from tests.twins.shield import Slow, contract, slow_settle

SEEDS = range(90)


def run(view, grid, shield, useful, action, priority):
    executed, reason = np.full(action.size, -7), np.full(action.size, -7)
    bounds = bounds_of(view, grid, shield, useful)
    settle(
        view, 0, shield, useful, grid.quantity_array, grid.n_price_levels, bounds, action, priority, executed, reason
    )
    return executed, reason, grid.mask(bounds)


def window(seed, kind):
    """A view, its grid, and answers: legal at random, greedy for quantity, or anything at all."""
    rng = np.random.default_rng(seed)
    view = tight_view(seed) if seed % 5 == 3 else random_view(seed, small=seed % 3 == 0, pending=seed % 4 == 1)
    grid = grid_of(view, rng)
    return view, grid, rng


def choose(kind, mask, grid, rng):
    if kind == "anything":
        return rng.integers(-2, grid.n_actions + 3, size=mask.shape[0])
    action = np.zeros(mask.shape[0], np.int64)
    for k, legal in enumerate(mask):
        legal = np.flatnonzero(legal)
        offers = legal[legal >= OFFER]
        if kind == "greedy" and ACCEPT in legal and rng.random() < 0.7:
            action[k] = ACCEPT
        elif kind == "greedy" and offers.size:
            largest = [a for a in offers if grid.decode(a)[2] >= max(grid.decode(b)[2] for b in offers) - 1]
            action[k] = rng.choice(largest)
        else:
            action[k] = rng.choice(legal)
    return action


@pytest.mark.parametrize("kind", ["random", "greedy", "anything"])
@pytest.mark.parametrize("shield", range(len(SHIELDS)), ids=SHIELDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_settle_equals_its_slow_twin_and_keeps_its_promises(seed, shield, kind):
    view, grid, rng = window(seed, kind)
    useful = seed % 5 == 0
    mask = grid.mask(bounds_of(view, grid, shield, useful))
    action = choose(kind, mask, grid, rng)
    priority = rng.integers(0, 3, size=action.size).astype(float)
    executed, reason, mask = run(view, grid, shield, useful, action, priority)
    slow = Slow(view)
    truth = slow_settle(slow, grid, shield, useful, action.tolist(), priority.tolist())
    assert executed.tolist() == truth[0]
    assert [REASONS[r] for r in reason] == truth[1]
    again, why, _ = run(view, grid, shield, useful, executed, priority)
    assert again.tolist() == executed.tolist()
    assert not why.any()
    for k in range(action.size):
        assert mask[k, executed[k]]
        assert (executed[k] == WAIT) == (not slow.active(k))
        assert (reason[k] == 0) == (executed[k] == action[k])
        was = contract(slow, grid, k, action[k]) if OFFER <= action[k] < grid.n_actions else None
        if action[k] == ACCEPT and slow.has_offer[k]:
            was = contract(slow, grid, k, ACCEPT)
        now = contract(slow, grid, k, executed[k])
        assert now is None or (was is not None and now[1] <= was[1])
    if shield == 0:
        assert all(reason[k] in (0, REASONS.index("illegal")) for k in range(action.size))


@pytest.mark.parametrize("shield", [1, 2], ids=SHIELDS[1:])
@pytest.mark.parametrize("seed", SEEDS)
def test_one_legal_answer_beside_ends_is_never_changed(seed, shield):
    view, grid, rng = window(seed, "one")
    if view.pending.any():
        return
    mask = grid.mask(bounds_of(view, grid, shield))
    for k in range(mask.shape[0]):
        if view.is_buy[0, k]:
            others = np.where(mask[:, END], END, WAIT)
            for chosen in rng.choice(np.flatnonzero(mask[k]), size=5):
                action = others.copy()
                action[k] = chosen
                assert run(view, grid, shield, False, action, np.zeros(action.size))[0].tolist() == action.tolist()


def test_a_purchase_for_today_gives_way_to_a_sale_of_today_that_the_money_could_still_serve():
    """Ten lots of 1 at 10 dollars and 100 dollars: 9 items can be made. A lot of 9 at 9 dollars would leave 5."""
    view = empty_view(1, 2, 2, 1)
    set_all(
        view, n_days=9, n_rounds=5, level=1, n_levels=3, n_lines=10, unit_cost=10, max_quantity=10, day=1, last_lead=1,
        balance=100.0, first_mover=1, n_suppliers=1, n_consumers=1,
    )  # fmt: skip
    view.trading_price[0], view.price_low[0], view.price_high[0] = (9.5, 20.0), (9, 19), (10, 21)
    lots = 10
    view = view._replace(lots=np.zeros((1, 2, lots), np.int32))
    view.lot_quantity[:], view.lot_price[:] = 1, 10
    view.n_lots[0], view.signed_in[0, 0], view.signed_cost[0, 0] = lots, 10, 100
    for name in ("exists", "alive", "on_turn"):
        getattr(view, name)[:] = True
    view.is_buy[0, 0] = view.has_offer[0, 1] = True
    view.round[:] = 1
    view.offer_quantity[0, 1], view.offer_price[0, 1] = 6, 20
    grid = ActionGrid.covering(1, 10, 10, 3)
    buy = grid.encode(OFFER, 0, 9, 0)
    idle, _, _ = run(view, grid, 1, False, np.array([buy, END]), np.zeros(2))
    assert idle.tolist() == [buy, END]
    busy, reason, _ = run(view, grid, 1, False, np.array([buy, ACCEPT]), np.zeros(2))
    assert busy[1] == ACCEPT
    assert REASONS[reason[0]] == "shrunk"
    assert (busy.tolist(), [REASONS[r] for r in reason]) == slow_settle(
        Slow(view), grid, 1, False, [buy, ACCEPT], [0, 0]
    )
