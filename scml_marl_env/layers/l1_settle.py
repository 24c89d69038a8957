"""L1 after acting: makes the answers of one window jointly safe, by changing as few of them as little as possible.

Partners answer independently, so every part of our pending offers and of the offers made now may come true. `settle`
walks the purchases, then the sales; on each side the acceptances first (by descending priority, then by slot), then the
offers by slot. It keeps what is reserved so far and changes an answer only if it does not fit any more:

    an offer       keeps its price and day with a smaller quantity; else moves to the nearest day with room (the later
                   one of two), with the largest quantity that fits there up to its own; else becomes END
    an acceptance  becomes such an offer at the partner's day and price

Purchases come first because sales depend on them and never the other way round: a sale for today may count on inputs
that the same window asks for (feasible), and its room must not count on a supplier whose negotiation the same window
ends, or settles on another day. A buy thread that is offered q items for today therefore counts with q, one that is
offered another day with 0, and in the last round with 0 too: any part of the offers may be accepted.
"""

from typing import NamedTuple

import numpy as np

from scml_marl_env.actions import (
    ACCEPT,
    BEST_PRICE,
    CAN_ACCEPT,
    END,
    LAST_LEAD,
    N_PRICES,
    OFFER,
    PRICE_SIGN,
    QUANTITY,
    WAIT,
)
from scml_marl_env.kernels import kernel
from scml_marl_env.layers.l1_bounds import price_offset
from scml_marl_env.layers.l1_factory import (
    ACTIVE,
    BUYS,
    COST,
    GOES_ON,
    HAS_OFFER,
    HOPE,
    OFFER_LEAD,
    OFFER_PRICE,
    OFFER_QUANTITY,
    OUT,
    PENDING,
    SENT_LEAD,
    SENT_PRICE,
    SENT_QUANTITY,
    Factory,
    look,
)
from scml_marl_env.layers.l1_rooms import (
    NO_LIMIT,
    OFF,
    allows_today,
    inputs_today,
    money_of,
    whole,
    write_budgets,
    write_sale_rooms,
)

REASONS = ("ok", "illegal", "shrunk", "moved", "countered", "ended")
OK, ILLEGAL, SHRUNK, MOVED, COUNTERED, ENDED = range(6)
"""Why an executed answer is what it is.

OK: as chosen. ILLEGAL: the mask forbids the chosen one; the executed one is what settle makes of it. The others are
legal alone, but not together with the rest of the window. SHRUNK: less quantity. MOVED: another day. COUNTERED: an
acceptance became an offer. ENDED: nothing fits.
"""


class Grid(NamedTuple):
    """What decodes the actions of a window (see `ActionGrid`)."""

    quantities: np.ndarray  # int64 (Q,)
    n_price_levels: int  # P
    bounds: np.ndarray  # int32 (K, M)


class Limits(NamedTuple):
    """What the answers settled so far leave to the next one.

    `lots` holds the lots for today that are new (pending or answered in this window), see N_NEW..SOLD.
    """

    rooms: np.ndarray  # int64 (L,), items to sell
    dollars: np.ndarray  # int64 (L,), dollars to spend
    lots: np.ndarray  # int64 (4,)


N_NEW, PAID, LARGEST, SOLD = range(4)  # lots; dollars, signed and new; items of the largest; items sold today at most


@kernel
def settle(
    view,
    b: int,
    shield: int,
    useful: bool,
    quantities: np.ndarray,
    n_price_levels: int,
    bounds: np.ndarray,
    action: np.ndarray,
    priority: np.ndarray,
    executed: np.ndarray,
    reason: np.ndarray,
) -> None:
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
    f = look(view, b)
    grid = Grid(quantities, n_price_levels, bounds)
    limits = no_limits(f)
    for k in range(action.shape[0]):
        executed[k] = fit(f, k, grid, action[k], limits) if f.threads[k, ACTIVE] else WAIT
        reason[k] = OK if executed[k] == action[k] else ILLEGAL
    if shield != OFF:
        _settle_purchases(f, shield, grid, priority, executed, reason)
        _settle_sales(f, shield, grid, priority, executed, reason)


@kernel
def no_limits(f: Factory) -> Limits:
    n_leads = f.signed.shape[1]
    return Limits(np.full(n_leads, NO_LIMIT, np.int64), np.full(n_leads, NO_LIMIT, np.int64), np.zeros(4, np.int64))


@kernel
def _settle_purchases(
    f: Factory, shield: int, grid: Grid, priority: np.ndarray, executed: np.ndarray, reason: np.ndarray
) -> None:
    """Reserves money by the day of delivery; today's lots have SCML's own test besides (see `cap_together`)."""
    order = in_order(f, True, executed, priority)
    if order.size == 0:
        return
    limits, reserved = no_limits(f), np.zeros(f.signed.shape[1], np.int64)
    open_lots(f, limits.lots, reserved)
    for k in range(executed.shape[0]):
        if not f.threads[k, BUYS]:
            lead, quantity, _ = contract_of(f, k, grid, executed[k])
            limits.lots[SOLD] += quantity if lead == 0 else 0
    money = money_of(f, shield)
    for k in order:
        write_budgets(money, reserved, limits.dollars)
        chosen = executed[k]
        executed[k] = fit(f, k, grid, chosen, limits)
        _mark(k, chosen, executed[k], grid, reason)
        lead, quantity, price = contract_of(f, k, grid, executed[k])
        reserve_purchase(lead, quantity, price, limits.lots, reserved)


@kernel
def _settle_sales(
    f: Factory, shield: int, grid: Grid, priority: np.ndarray, executed: np.ndarray, reason: np.ndarray
) -> None:
    """Reserves items by the day of delivery; today counts on the inputs that the settled purchases leave possible."""
    order = in_order(f, False, executed, priority)
    if order.size == 0:
        return
    limits, reserved = no_limits(f), np.zeros(f.signed.shape[1], np.int64)
    hoped = 0
    for k in range(executed.shape[0]):
        if f.threads[k, PENDING] and not f.threads[k, BUYS]:
            reserved[f.threads[k, SENT_LEAD]] += f.threads[k, SENT_QUANTITY]
        lead, quantity, _ = contract_of(f, k, grid, executed[k])
        hoped += hope_after(f, k, executed[k], lead, quantity)
    inputs = inputs_today(f, shield, hoped)
    for k in order:
        write_sale_rooms(f, shield, inputs, reserved, limits.rooms)
        chosen = executed[k]
        executed[k] = fit(f, k, grid, chosen, limits)
        _mark(k, chosen, executed[k], grid, reason)
        lead, quantity, _ = contract_of(f, k, grid, executed[k])
        reserved[lead] += quantity


@kernel
def in_order(f: Factory, buying: bool, executed: np.ndarray, priority: np.ndarray) -> np.ndarray:
    """Slots of the side's acceptances by descending priority (equals by slot), then of its offers by slot."""
    order, n = np.empty(executed.shape[0], np.int64), 0
    for k in range(executed.shape[0]):
        if executed[k] == ACCEPT and f.threads[k, BUYS] == buying:
            j = n
            while j > 0 and priority[order[j - 1]] < priority[k]:
                order[j] = order[j - 1]
                j -= 1
            order[j] = k
            n += 1
    for k in range(executed.shape[0]):
        if executed[k] >= OFFER and f.threads[k, BUYS] == buying:
            order[n] = k
            n += 1
    return order[:n]


@kernel
def contract_of(f: Factory, k: int, grid: Grid, action: int) -> tuple[int, int, int]:
    """(lead, quantity, price) of the contract that an answer may bring; zeros if none."""
    if action == ACCEPT:
        return f.threads[k, OFFER_LEAD], f.threads[k, OFFER_QUANTITY], f.threads[k, OFFER_PRICE]
    if action < OFFER:
        return 0, 0, 0
    cell, level = divmod(action - OFFER, grid.n_price_levels)
    lead, index = divmod(cell, grid.quantities.shape[0])
    return lead, grid.quantities[index], price_at(grid, k, level)


@kernel
def price_at(grid: Grid, k: int, level: int) -> int:
    """Dollars of a price level of thread `k`."""
    row = grid.bounds[k]
    return row[BEST_PRICE] + row[PRICE_SIGN] * price_offset(level, row[N_PRICES], grid.n_price_levels)


@kernel
def hope_after(f: Factory, k: int, operation: int, lead: int, quantity: int) -> int:
    """Items that buy thread `k` can still bring today after the window, in the worst case over our offers' fates.

    Args:
        f: the factory before the window.
        k: the thread; 0 for a sell thread.
        operation: END, ACCEPT, or OFFER and beyond; means nothing if the thread is not active.
        lead: of the contract accepted or offered.
        quantity: likewise.
    """
    thread = f.threads[k]
    if not thread[BUYS]:
        return 0
    if not thread[ACTIVE]:
        if not thread[PENDING]:
            return thread[HOPE]
        operation, lead, quantity = OFFER, thread[SENT_LEAD], thread[SENT_QUANTITY]
    if operation < ACCEPT or lead > 0 or (operation >= OFFER and not thread[GOES_ON]):
        return 0
    return quantity


@kernel
def open_lots(f: Factory, lots: np.ndarray, reserved: np.ndarray) -> None:
    """Fills `lots` with what is signed and pending for today, and `reserved` with the dollars of pending purchases."""
    lots[PAID] = f.signed[COST, 0] + f.forced_in_cost
    lots[SOLD] = f.signed[OUT, 0] + f.forced_out
    for i in range(f.n_lots):
        lots[LARGEST] = max(lots[LARGEST], f.lot_quantity[i])
    if f.forced_in_cost > 0:  # else stock is free: it comes first in SCML's test and no purchase changes its part
        lots[LARGEST] = max(lots[LARGEST], f.stock + f.forced_in)
    for thread in f.threads:
        if thread[PENDING] and thread[BUYS]:
            reserve_purchase(thread[SENT_LEAD], thread[SENT_QUANTITY], thread[SENT_PRICE], lots, reserved)
        elif thread[PENDING] and thread[SENT_LEAD] == 0:
            lots[SOLD] += thread[SENT_QUANTITY]


@kernel
def reserve_purchase(lead: int, quantity: int, price: int, lots: np.ndarray, reserved: np.ndarray) -> None:
    """Notes a purchase that may come true; a quantity of 0 is none."""
    reserved[lead] += quantity * price
    if lead == 0 and quantity > 0:
        lots[N_NEW] += 1
        lots[PAID] += quantity * price
        lots[LARGEST] = max(lots[LARGEST], quantity)


@kernel
def cap_together(f: Factory, price: int, quantity: int, lots: np.ndarray) -> int:
    """Largest purchase for today, up to `quantity`, that fits beside the other new lots.

    The first new lot has passed the exact test in its bounds (once more if the window sells for today: the test counts
    items sold). Several must pass a sufficient one, whatever the order of signing: all payments of the day, and the
    production cost of the largest lot, are within the balance.
    """
    if lots[N_NEW] == 0:
        if lots[SOLD] > f.signed[OUT, 0] + f.forced_out:
            while quantity > 0 and not allows_today(f, price, quantity, lots[SOLD]):
                quantity -= 1
        return quantity
    money = whole(f.balance) - lots[PAID]
    left = money - f.unit_cost * lots[LARGEST]
    return 0 if left < 0 else min(quantity, money // (price + f.unit_cost), left // price)


@kernel
def fit(f: Factory, k: int, grid: Grid, action: int, limits: Limits) -> int:
    """The answer itself if the bounds of thread `k` and the limits allow it, else the nearest one that they do."""
    n_quantities, n_leads = grid.quantities.shape[0], limits.rooms.shape[0]
    row = grid.bounds[k]
    if action == ACCEPT:
        if not f.threads[k, HAS_OFFER]:
            return END
        lead, wanted, price = contract_of(f, k, grid, action)
        fits = row[CAN_ACCEPT] == 1 and wanted <= limits.rooms[lead] and wanted * price <= limits.dollars[lead]
        if fits and f.threads[k, BUYS] and lead == 0:
            fits = cap_together(f, price, wanted, limits.lots) == wanted
        if fits:
            return ACCEPT
        level = nearest_level(grid, k, price)
    elif action < OFFER or action >= OFFER + n_leads * n_quantities * grid.n_price_levels:
        return END
    else:
        cell, level = divmod(action - OFFER, grid.n_price_levels)
        lead, index = divmod(cell, n_quantities)
        wanted = grid.quantities[index]
    level = min(level, min(row[N_PRICES], grid.n_price_levels) - 1)
    price = price_at(grid, k, level)
    for step in range(2 * n_leads):
        d = min(lead, row[LAST_LEAD]) + (step + 1) // 2 * (1 if step % 2 == 1 else -1)  # 0, +1, -1, +2, ...
        if d < 0 or d > row[LAST_LEAD]:
            continue
        most = min(wanted, row[QUANTITY + d], row[QUANTITY + n_leads + d] // price)
        most = min(most, limits.rooms[d], limits.dollars[d] // price)
        if d == 0:
            most = min(most, row[QUANTITY + 2 * n_leads + level])
        index = largest_index(grid.quantities, most)
        if index >= 0 and d == 0 and f.threads[k, BUYS]:
            index = largest_index(grid.quantities, cap_together(f, price, grid.quantities[index], limits.lots))
        if index >= 0:
            return OFFER + (d * n_quantities + index) * grid.n_price_levels + level
    return END


@kernel
def largest_index(quantities: np.ndarray, most: int) -> int:
    """Index of the largest quantity up to `most`, -1 if there is none."""
    index = quantities.shape[0] - 1
    while index >= 0 and quantities[index] > most:
        index -= 1
    return index


@kernel
def nearest_level(grid: Grid, k: int, price: int) -> int:
    """The price level nearest to `price`, the lower one on a tie (`ActionGrid.nearest_level`)."""
    best = 0
    for level in range(min(grid.bounds[k, N_PRICES], grid.n_price_levels)):
        if abs(price_at(grid, k, level) - price) < abs(price_at(grid, k, best) - price):
            best = level
    return best


@kernel
def _mark(k: int, chosen: int, executed: int, grid: Grid, reason: np.ndarray) -> None:
    """Notes why the joint rule changed an answer; an illegal one stays ILLEGAL."""
    if executed == chosen or reason[k] == ILLEGAL:
        return
    if executed == END:
        reason[k] = ENDED
    elif chosen == ACCEPT:
        reason[k] = COUNTERED
    else:
        a_day = grid.quantities.shape[0] * grid.n_price_levels
        reason[k] = SHRUNK if (executed - OFFER) // a_day == (chosen - OFFER) // a_day else MOVED
