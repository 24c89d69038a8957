"""L1 after acting: makes the answers of one window jointly safe, by changing as few of them as little as possible.

Partners answer independently, so every part of our pending offers and of the offers made now may come true. `settle`
walks the purchases, then the sales; on each side the acceptances first (by descending priority, then by slot), then the
offers by slot. It keeps what is reserved so far and changes an answer only if it does not fit any more:

    an offer       keeps its price and day with a smaller quantity; else moves to the nearest day with room (the later one
                   of two), with the largest quantity that fits there up to its own; else becomes END
    an acceptance  becomes such an offer at the partner's day and price

Purchases come first because sales depend on them and never the other way round: a sale for today may count on inputs
that the same window asks for (feasible), and its room must not count on a supplier whose negotiation the same window
ends, or settles on another day. A buy thread that is offered q items for today therefore counts with q, one that is
offered another day with 0, and in the last round with 0 too: any part of the offers may be accepted.
"""

import numpy as np
from numba import njit

from scml_marl_env.actions import ACCEPT, BEST_PRICE, CAN_ACCEPT, END, LAST_LEAD, N_PRICES, OFFER, PRICE_SIGN, QUANTITY, WAIT
from scml_marl_env.layers.l1_bounds import price_offset
from scml_marl_env.layers.l1_rooms import NO_LIMIT, OFF, allows_today, hope, write_budgets, write_sale_rooms

REASONS = ("ok", "illegal", "shrunk", "moved", "countered", "ended")
OK, ILLEGAL, SHRUNK, MOVED, COUNTERED, ENDED = range(6)
"""Why an executed answer is what it is.

OK: as chosen. ILLEGAL: the mask forbids the chosen one; the executed one is what settle makes of it. The others: legal
alone, but not together with the rest of the window. SHRUNK: less quantity. MOVED: another day. COUNTERED: an acceptance
became an offer. ENDED: nothing fits.
"""

# Columns of `purse`: the lots for today that may be added by this window and by pending offers.
N_NEW, PAID, LARGEST_LOT, SOLD_TODAY = range(4)


@njit(cache=True)
def settle(view, b, shield, useful, quantities, n_price_levels, bounds, action, priority, executed, reason) -> None:
    """Writes the answers that are given instead of the chosen ones; the same where they are legal and fit together.

    An active thread always answers: `wait`, or an index outside the grid, becomes END.

    Args:
        view: `FactoryView`.
        b: which factory of it.
        shield: index into `SHIELDS`.
        useful: as for `write_bounds`; it acts through `bounds` only (waste is no matter of safety).
        quantities: int64 (Q,), of the action grid.
        n_price_levels: P of it.
        bounds: int32 (K, M), of `write_bounds` with the same view.
        action: int64 (K,), chosen.
        priority: float64 (K,), higher acceptances are settled first.
        executed: int64 (K,), written.
        reason: int64 (K,), written, see `REASONS`.
    """
    n_slots, n_leads = action.shape[0], view.signed_in.shape[1]
    no_limit, purse = np.full(n_leads, NO_LIMIT, np.int64), np.zeros(4, np.int64)
    for k in range(n_slots):
        executed[k] = WAIT
        if view.alive[b, k] and view.on_turn[b, k]:
            executed[k] = fit(view, b, k, quantities, n_price_levels, bounds[k], action[k], no_limit, no_limit, purse)
        reason[k] = OK if executed[k] == action[k] else ILLEGAL
    if shield == OFF:
        return
    _settle_purchases(view, b, shield, quantities, n_price_levels, bounds, priority, executed, reason)
    _settle_sales(view, b, shield, quantities, n_price_levels, bounds, priority, executed, reason)


@njit(cache=True)
def _settle_purchases(view, b, shield, quantities, n_price_levels, bounds, priority, executed, reason) -> None:
    """Reserves money by the day of delivery; today's lots have SCML's own test besides (see `cap_together`)."""
    order = _order(view, b, True, executed, priority)
    if order.size == 0:
        return
    n_leads = view.signed_in.shape[1]
    no_limit, budgets = np.full(n_leads, NO_LIMIT, np.int64), np.empty(n_leads, np.int64)
    reserved, purse = np.zeros(n_leads, np.int64), np.zeros(4, np.int64)
    open_purse(view, b, purse, reserved)
    for k in range(executed.shape[0]):
        if not view.is_buy[b, k]:
            lead, quantity, _ = answer_of(view, b, k, quantities, n_price_levels, bounds[k], executed[k])
            purse[SOLD_TODAY] += quantity if lead == 0 else 0
    for k in order:
        write_budgets(view, b, shield, reserved, budgets)
        chosen = executed[k]
        executed[k] = fit(view, b, k, quantities, n_price_levels, bounds[k], chosen, no_limit, budgets, purse)
        _mark(k, chosen, executed[k], quantities, n_price_levels, reason)
        lead, quantity, price = answer_of(view, b, k, quantities, n_price_levels, bounds[k], executed[k])
        if quantity > 0:
            reserve_purchase(lead, quantity, price, purse, reserved)


@njit(cache=True)
def _settle_sales(view, b, shield, quantities, n_price_levels, bounds, priority, executed, reason) -> None:
    """Reserves items by the day of delivery; today counts on the inputs that the settled purchases leave certain."""
    order = _order(view, b, False, executed, priority)
    if order.size == 0:
        return
    n_leads = view.signed_in.shape[1]
    no_limit, rooms = np.full(n_leads, NO_LIMIT, np.int64), np.empty(n_leads, np.int64)
    reserved, purse = np.zeros(n_leads, np.int64), np.zeros(4, np.int64)
    hoped = 0
    for k in range(executed.shape[0]):
        if is_pending(view, b, k) and not view.is_buy[b, k]:
            reserved[view.sent_lead[b, k]] += view.sent_quantity[b, k]
        hoped += hope_left(view, b, k, quantities, n_price_levels, bounds[k], executed[k])
    for k in order:
        write_sale_rooms(view, b, shield, hoped, reserved, rooms)
        chosen = executed[k]
        executed[k] = fit(view, b, k, quantities, n_price_levels, bounds[k], chosen, rooms, no_limit, purse)
        _mark(k, chosen, executed[k], quantities, n_price_levels, reason)
        lead, quantity, _ = answer_of(view, b, k, quantities, n_price_levels, bounds[k], executed[k])
        reserved[lead] += quantity


@njit(cache=True)
def _order(view, b, buying, executed, priority) -> np.ndarray:
    """Slots of the side's acceptances by descending priority (equals by slot), then of its offers by slot."""
    order, n = np.empty(executed.shape[0], np.int64), 0
    for k in range(executed.shape[0]):
        if executed[k] == ACCEPT and view.is_buy[b, k] == buying:
            j = n
            while j > 0 and priority[order[j - 1]] < priority[k]:
                order[j] = order[j - 1]
                j -= 1
            order[j] = k
            n += 1
    for k in range(executed.shape[0]):
        if executed[k] >= OFFER and view.is_buy[b, k] == buying:
            order[n] = k
            n += 1
    return order[:n]


@njit(cache=True)
def is_pending(view, b, k) -> bool:
    """Whether an offer of the factory may still be accepted: any answer given now takes back the one before."""
    return view.alive[b, k] and view.pending[b, k] and not view.on_turn[b, k]


@njit(cache=True)
def hope_left(view, b, k, quantities, n_price_levels, row, executed) -> int:
    """Items that buy thread `k` is sure to be able to bring today once the window is answered, however partners answer."""
    if not view.alive[b, k] or not view.is_buy[b, k]:
        return 0
    last_round = view.round[b, k] >= view.n_rounds[b] - 1
    if not view.on_turn[b, k]:
        if not view.pending[b, k]:
            return hope(view, b, k)
        return view.sent_quantity[b, k] if view.sent_lead[b, k] == 0 and not last_round else 0
    lead, quantity, _ = answer_of(view, b, k, quantities, n_price_levels, row, executed)
    if lead > 0 or (executed != ACCEPT and last_round):
        return 0
    return quantity


@njit(cache=True)
def open_purse(view, b, purse, reserved) -> None:
    """Puts what is signed and pending into the purse of today and the reservations (dollars by lead time)."""
    purse[PAID] = view.signed_cost[b, 0] + view.exogenous_in_cost[b]
    purse[SOLD_TODAY] = view.signed_out[b, 0] + view.exogenous_out[b]
    for i in range(view.n_lots[b]):
        purse[LARGEST_LOT] = max(purse[LARGEST_LOT], view.lot_quantity[b, i])
    if view.exogenous_in_cost[b] > 0:  # else stock is free, comes first in SCML's test, and no purchase changes its part
        purse[LARGEST_LOT] = max(purse[LARGEST_LOT], view.stock[b] + view.exogenous_in[b])
    for k in range(view.alive.shape[1]):
        if not is_pending(view, b, k):
            continue
        if view.is_buy[b, k]:
            reserve_purchase(view.sent_lead[b, k], view.sent_quantity[b, k], view.sent_price[b, k], purse, reserved)
        elif view.sent_lead[b, k] == 0:
            purse[SOLD_TODAY] += view.sent_quantity[b, k]


@njit(cache=True)
def reserve_purchase(lead, quantity, price, purse, reserved) -> None:
    reserved[lead] += quantity * price
    if lead == 0:
        purse[N_NEW] += 1
        purse[PAID] += quantity * price
        purse[LARGEST_LOT] = max(purse[LARGEST_LOT], quantity)


@njit(cache=True)
def cap_together(view, b, price, quantity, purse) -> int:
    """Largest purchase for today, up to `quantity`, that fits beside the other new lots for today.

    A first new lot has the exact test. Together with others it must satisfy a sufficient form of it, whatever the order
    of signing: all payments of the day, and the production cost of the largest lot, are within the balance.
    """
    if purse[N_NEW] == 0:
        while quantity > 0 and not allows_today(view, b, price, quantity, purse[SOLD_TODAY]):
            quantity -= 1
        return quantity
    money = int(np.floor(view.balance[b])) - purse[PAID]
    unit_cost = view.unit_cost[b]
    left = money - unit_cost * purse[LARGEST_LOT]
    if left < 0:
        return 0
    return min(quantity, money // (price + unit_cost), left // max(1, price))


@njit(cache=True)
def answer_of(view, b, k, quantities, n_price_levels, row, action) -> tuple[int, int, int]:
    """(lead, quantity, price) of the contract that the answer may bring; zeros if none."""
    if action == ACCEPT:
        return view.offer_lead[b, k], view.offer_quantity[b, k], view.offer_price[b, k]
    if action < OFFER:
        return 0, 0, 0
    cell, level = divmod(action - OFFER, n_price_levels)
    lead, index = divmod(cell, quantities.shape[0])
    return lead, quantities[index], row[BEST_PRICE] + row[PRICE_SIGN] * price_offset(level, row[N_PRICES], n_price_levels)


@njit(cache=True)
def fit(view, b, k, quantities, n_price_levels, row, action, rooms, dollars, purse) -> int:
    """The answer itself if its bounds and the limits beside them allow it, else the nearest one that they do.

    Args:
        row: int32 (M,), bounds of thread `k`.
        action: any integer.
        rooms: int64 (L,), items left for each lead time.
        dollars: int64 (L,), money left for each lead time.
        purse: see `open_purse`; all zeros switches its test off.
    """
    n_quantities, n_leads = quantities.shape[0], rooms.shape[0]
    together = view.is_buy[b, k] and purse.any()
    if action == ACCEPT:
        if not view.has_offer[b, k]:
            return END
        lead, wanted, price = view.offer_lead[b, k], view.offer_quantity[b, k], view.offer_price[b, k]
        if row[CAN_ACCEPT] == 1 and wanted <= rooms[lead] and wanted * price <= dollars[lead]:
            if not together or lead > 0 or cap_together(view, b, price, wanted, purse) == wanted:
                return ACCEPT
        level = nearest_level(price, row, n_price_levels)
    elif action < OFFER or action >= OFFER + n_leads * n_quantities * n_price_levels:
        return END
    else:
        cell, level = divmod(action - OFFER, n_price_levels)
        lead, index = divmod(cell, n_quantities)
        wanted = quantities[index]
    level = min(level, min(row[N_PRICES], n_price_levels) - 1)
    price = row[BEST_PRICE] + row[PRICE_SIGN] * price_offset(level, row[N_PRICES], n_price_levels)
    last = min(row[LAST_LEAD], n_leads - 1)
    lead = min(lead, last)
    for step in range(2 * n_leads):
        d = lead + (step + 1) // 2 * (1 if step % 2 == 1 else -1)
        if d < 0 or d > last:
            continue
        most = min(wanted, row[QUANTITY + d], row[QUANTITY + n_leads + d] // price, rooms[d], dollars[d] // price)
        if d == 0:
            most = min(most, row[QUANTITY + 2 * n_leads + level])
        index = np.searchsorted(quantities, most, side="right") - 1
        if index >= 0 and d == 0 and together:
            most = cap_together(view, b, price, quantities[index], purse)
            index = np.searchsorted(quantities, most, side="right") - 1
        if index >= 0:
            return OFFER + (d * n_quantities + index) * n_price_levels + level
    return END


@njit(cache=True)
def nearest_level(price, row, n_price_levels) -> int:
    """The price level nearest to `price`, the lower one on a tie; the same as `ActionGrid.nearest_level`."""
    offset = row[PRICE_SIGN] * (price - row[BEST_PRICE])
    n_levels = min(row[N_PRICES], n_price_levels)
    if row[N_PRICES] <= n_price_levels:
        return max(0, min(offset, n_levels - 1))
    best = 0
    for level in range(1, n_levels):
        if abs(price_offset(level, row[N_PRICES], n_price_levels) - offset) < abs(
            price_offset(best, row[N_PRICES], n_price_levels) - offset
        ):
            best = level
    return best


@njit(cache=True)
def _mark(k, chosen, executed, quantities, n_price_levels, reason) -> None:
    """Notes why the joint rule changed an answer; an illegal one stays ILLEGAL."""
    if executed == chosen or reason[k] == ILLEGAL:
        return
    if executed == END:
        reason[k] = ENDED
    elif chosen == ACCEPT:
        reason[k] = COUNTERED
    else:
        a_day = quantities.shape[0] * n_price_levels
        reason[k] = SHRUNK if (executed - OFFER) // a_day == (chosen - OFFER) // a_day else MOVED
