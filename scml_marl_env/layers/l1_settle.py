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
from scml_marl_env.kernels import inlined, kernel, lean
from scml_marl_env.layers.l1_factory import (
    ACTIVE,
    BUYS,
    BUYS_RESERVED,
    COST,
    DOLLARS,
    GOES_ON,
    HAS_OFFER,
    HOPE,
    NEW_LEAD,
    NEW_PRICE,
    NEW_QUANTITY,
    OFFER_LEAD,
    OFFER_PRICE,
    OFFER_QUANTITY,
    OUT,
    PENDING,
    ROOMS,
    SALES_RESERVED,
    SENT_LEAD,
    SENT_PRICE,
    SENT_QUANTITY,
    Factory,
    Scratch,
    look,
    new_scratch,
)
from scml_marl_env.layers.l1_rooms import (
    FEASIBLE,
    NO_LIMIT,
    OFF,
    allows_today,
    inputs_today,
    money_of,
    price_offset,
    purchase_fits,
    sale_fits,
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
    grid = Grid(quantities, n_price_levels, bounds)
    settle_with(view, b, shield, grid, action, priority, executed, reason, new_scratch(view))


@inlined
def settle_with(
    view,
    b: int,
    shield: int,
    grid: Grid,
    action: np.ndarray,
    priority: np.ndarray,
    executed: np.ndarray,
    reason: np.ndarray,
    scratch: Scratch,
) -> None:
    """`settle` with the caller's memory."""
    f = look(view, b, scratch)
    limits = no_limits(f)
    n_buys, n_sales = 0, 0
    for k in range(action.shape[0]):
        active = f.threads[k, ACTIVE] == 1
        executed[k] = action[k] if active else WAIT
        on_grid = note_contract(f, k, grid, executed[k])
        if active and not (on_grid and _is_legal(f, k, grid, executed[k])):
            executed[k] = fit(f, k, grid, action[k], limits)
            note_contract(f, k, grid, executed[k])
        reason[k] = OK if executed[k] == action[k] else ILLEGAL
        n_buys += executed[k] >= ACCEPT and f.threads[k, BUYS] == 1
        n_sales += executed[k] >= ACCEPT and f.threads[k, BUYS] == 0
    if shield != OFF:
        if n_buys > 0 and not (shield == FEASIBLE and _is_rich_for_all(f)):
            _settle_purchases(f, shield, grid, priority, executed, reason)
        if n_sales > 0:
            _settle_sales(f, shield, grid, priority, executed, reason)


@inlined
def no_limits(f: Factory) -> Limits:
    """Limits of an answer alone, in scratch memory."""
    f.leads[ROOMS, :] = NO_LIMIT
    f.leads[DOLLARS, :] = NO_LIMIT
    f.lots[:] = 0
    return Limits(f.leads[ROOMS], f.leads[DOLLARS], f.lots)


@inlined
def note_contract(f: Factory, k: int, grid: Grid, action: int) -> bool:
    """Writes the contract that an answer of thread `k` may bring, zeros if none; False if it is outside the grid."""
    on_grid = action < OFFER + f.signed.shape[1] * grid.quantities.shape[0] * grid.n_price_levels
    lead, quantity, price = contract_of(f, k, grid, action if on_grid else END)
    f.threads[k, NEW_LEAD], f.threads[k, NEW_QUANTITY], f.threads[k, NEW_PRICE] = lead, quantity, price
    return on_grid


@inlined
def _is_legal(f: Factory, k: int, grid: Grid, action: int) -> bool:
    """Whether the bounds allow an answer whose contract is noted: `fit` without limits would return it."""
    row, thread, n_leads = grid.bounds[k], f.threads[k], f.signed.shape[1]
    if action == ACCEPT:
        return thread[HAS_OFFER] == 1 and row[CAN_ACCEPT] == 1
    if action < OFFER:
        return action == END
    level, lead, quantity = (action - OFFER) % grid.n_price_levels, thread[NEW_LEAD], thread[NEW_QUANTITY]
    if lead > row[LAST_LEAD] or level >= row[N_PRICES] or quantity > row[QUANTITY + lead]:
        return False
    if quantity * thread[NEW_PRICE] > row[QUANTITY + n_leads + lead]:
        return False
    return lead > 0 or quantity <= row[QUANTITY + 2 * n_leads + level]


@inlined
def _is_rich_for_all(f: Factory) -> bool:
    """Whether today's money pays for all purchases, signed, pending and new, and for the production of today's largest
    lot: then every one is feasible, in whatever order (`left` of `money_of` is never below what they leave; `is_rich`).
    """
    paid, today, largest = f.forced_in_cost, f.forced_in_cost + f.signed[COST, 0], f.stock + f.forced_in
    for d in range(f.signed.shape[1]):
        paid += f.signed[COST, d]
    for i in range(f.n_lots):
        largest = max(largest, f.lot_quantity[i])
    for k in range(f.threads.shape[0]):
        thread = f.threads[k]
        if not thread[BUYS]:
            continue
        new, sent = thread[NEW_QUANTITY], thread[SENT_QUANTITY] if thread[PENDING] else 0
        cost = new * thread[NEW_PRICE] + sent * thread[SENT_PRICE]
        paid += cost
        today += new * thread[NEW_PRICE] if thread[NEW_LEAD] == 0 else 0
        today += sent * thread[SENT_PRICE] if thread[SENT_LEAD] == 0 else 0
        largest = max(largest, max(new, sent))
    return max(today + largest * f.unit_cost, 0 if f.last_level else paid) + 1 <= f.balance


@inlined
def _settle_purchases(
    f: Factory, shield: int, grid: Grid, priority: np.ndarray, executed: np.ndarray, reason: np.ndarray
) -> None:
    """Reserves money by the day of delivery; today's lots have SCML's own test besides (see `cap_together`)."""
    limits, reserved, n = no_limits(f), f.leads[BUYS_RESERVED], write_order(f, True, executed, priority)
    reserved[:] = 0
    open_lots(f, limits.lots, reserved)
    for k in range(executed.shape[0]):
        if not f.threads[k, BUYS] and f.threads[k, NEW_LEAD] == 0:
            limits.lots[SOLD] += f.threads[k, NEW_QUANTITY]
    money = money_of(f, shield)
    for i in range(n):
        k = f.order[i]
        thread = f.threads[k]
        lead, quantity, price = thread[NEW_LEAD], thread[NEW_QUANTITY], thread[NEW_PRICE]
        fits = purchase_fits(money, reserved, lead, quantity * price)
        if not fits or (lead == 0 and cap_together(f, price, quantity, limits.lots) < quantity):
            write_budgets(money, reserved, limits.dollars)
            _refit(f, k, grid, limits, executed, reason)
        reserve_purchase(thread[NEW_LEAD], thread[NEW_QUANTITY], thread[NEW_PRICE], limits.lots, reserved)


@inlined
def _settle_sales(
    f: Factory, shield: int, grid: Grid, priority: np.ndarray, executed: np.ndarray, reason: np.ndarray
) -> None:
    """Reserves items by the day of delivery; today counts on the inputs that the settled purchases leave possible."""
    limits, reserved, n = no_limits(f), f.leads[SALES_RESERVED], write_order(f, False, executed, priority)
    reserved[:] = 0
    hoped = 0
    for k in range(executed.shape[0]):
        thread = f.threads[k]
        if thread[PENDING] and not thread[BUYS]:
            reserved[thread[SENT_LEAD]] += thread[SENT_QUANTITY]
        hoped += hope_after(f, k, executed[k], thread[NEW_LEAD], thread[NEW_QUANTITY])
    inputs = inputs_today(f, shield, hoped)
    for i in range(n):
        k = f.order[i]
        thread = f.threads[k]
        if not sale_fits(f, shield, inputs, reserved, thread[NEW_LEAD], thread[NEW_QUANTITY], limits.rooms):
            write_sale_rooms(f, shield, inputs, reserved, limits.rooms)
            _refit(f, k, grid, limits, executed, reason)
        reserved[thread[NEW_LEAD]] += thread[NEW_QUANTITY]


@lean
def _refit(f: Factory, k: int, grid: Grid, limits: Limits, executed: np.ndarray, reason: np.ndarray) -> None:
    """Replaces an answer of thread `k` that does not fit, and notes why."""
    chosen = executed[k]
    executed[k] = fit(f, k, grid, chosen, limits)
    note_contract(f, k, grid, executed[k])
    _mark(k, chosen, executed[k], grid, reason)


@inlined
def write_order(f: Factory, buying: bool, executed: np.ndarray, priority: np.ndarray) -> int:
    """Writes into `f.order`, and counts, the slots of the side's acceptances by descending priority (equals by slot),
    then of its offers by slot.
    """
    order, n = f.order, 0
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
    return n


@inlined
def contract_of(f: Factory, k: int, grid: Grid, action: int) -> tuple[int, int, int]:
    """(lead, quantity, price) of the contract that an answer may bring; zeros if none."""
    if action == ACCEPT:
        return f.threads[k, OFFER_LEAD], f.threads[k, OFFER_QUANTITY], f.threads[k, OFFER_PRICE]
    if action < OFFER:
        return 0, 0, 0
    cell, level = divmod(action - OFFER, grid.n_price_levels)
    lead, index = divmod(cell, grid.quantities.shape[0])
    return lead, grid.quantities[index], price_at(grid, k, level)


@inlined
def price_at(grid: Grid, k: int, level: int) -> int:
    """Dollars of a price level of thread `k`."""
    row = grid.bounds[k]
    return row[BEST_PRICE] + row[PRICE_SIGN] * price_offset(level, row[N_PRICES], grid.n_price_levels)


@inlined
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


@inlined
def open_lots(f: Factory, lots: np.ndarray, reserved: np.ndarray) -> None:
    """Fills `lots` with what is signed and pending for today, and `reserved` with the dollars of pending purchases."""
    lots[PAID] = f.signed[COST, 0] + f.forced_in_cost
    lots[SOLD] = f.signed[OUT, 0] + f.forced_out
    for i in range(f.n_lots):
        lots[LARGEST] = max(lots[LARGEST], f.lot_quantity[i])
    if f.forced_in_cost > 0:  # else stock is free: it comes first in SCML's test and no purchase changes its part
        lots[LARGEST] = max(lots[LARGEST], f.stock + f.forced_in)
    for k in range(f.threads.shape[0]):
        thread = f.threads[k]
        if thread[PENDING] and thread[BUYS]:
            reserve_purchase(thread[SENT_LEAD], thread[SENT_QUANTITY], thread[SENT_PRICE], lots, reserved)
        elif thread[PENDING] and thread[SENT_LEAD] == 0:
            lots[SOLD] += thread[SENT_QUANTITY]


@inlined
def reserve_purchase(lead: int, quantity: int, price: int, lots: np.ndarray, reserved: np.ndarray) -> None:
    """Notes a purchase that may come true; a quantity of 0 is none."""
    reserved[lead] += quantity * price
    if lead == 0 and quantity > 0:
        lots[N_NEW] += 1
        lots[PAID] += quantity * price
        lots[LARGEST] = max(lots[LARGEST], quantity)


@inlined
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
    return 0 if left < 0 else min(quantity, money // (price + f.unit_cost), left // max(1, price))


@lean
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


@inlined
def largest_index(quantities: np.ndarray, most: int) -> int:
    """Index of the largest quantity up to `most`, -1 if there is none."""
    index = quantities.shape[0] - 1
    while index >= 0 and quantities[index] > most:
        index -= 1
    return index


@inlined
def nearest_level(grid: Grid, k: int, price: int) -> int:
    """The price level nearest to `price`, the lower one on a tie (`ActionGrid.nearest_level`)."""
    best = 0
    for level in range(min(grid.bounds[k, N_PRICES], grid.n_price_levels)):
        if abs(price_at(grid, k, level) - price) < abs(price_at(grid, k, best) - price):
            best = level
    return best


@inlined
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
