"""L1 before acting: the compact bounds of every thread of a factory, each answer judged alone (layout: actions.py)."""

import numpy as np

from scml_marl_env.actions import BEST_PRICE, CAN_ACCEPT, CAN_END, CAN_WAIT, LAST_LEAD, N_PRICES, PRICE_SIGN, QUANTITY
from scml_marl_env.kernels import inlined, kernel
from scml_marl_env.layers.l1_factory import (
    ACTIVE,
    BUYS,
    BUYS_RESERVED,
    DOLLARS,
    HAS_OFFER,
    HOPE,
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
    COVERED,
    NO_LIMIT,
    OFF,
    allows_today,
    inputs_today,
    money_of,
    price_offset,
    write_budgets,
    write_caps_today,
    write_sale_rooms,
    write_useful,
)


@kernel
def write_bounds(view, b: int, shield: int, useful: bool, n_price_levels: int, out: np.ndarray) -> None:
    """Writes what each thread of factory `b` may answer.

    Args:
        view: `FactoryView`.
        b: which factory of it.
        shield: index into `SHIELDS`.
        useful: whether purchases that are certain waste are removed as well.
        n_price_levels: P of the action grid.
        out: int32 (K, M), written in full.
    """
    write_bounds_with(view, b, shield, useful, n_price_levels, out, new_scratch(view))


@inlined
def write_bounds_with(
    view, b: int, shield: int, useful: bool, n_price_levels: int, out: np.ndarray, scratch: Scratch
) -> None:
    """`write_bounds` with the caller's memory."""
    f = look(view, b, scratch)
    out[:, :] = 0
    buyer, seller = -1, -1  # the first active thread of each side: the others differ in CAN_ACCEPT only
    for k in range(out.shape[0]):
        if not f.threads[k, ACTIVE]:
            out[k, CAN_WAIT] = 1
        elif f.threads[k, BUYS] and buyer < 0:
            buyer = k
        elif not f.threads[k, BUYS] and seller < 0:
            seller = k
    if buyer >= 0:
        _write_side(f, buyer, True, shield, useful, n_price_levels, out)
    if seller >= 0:
        _write_side(f, seller, False, shield, useful, n_price_levels, out)


@inlined
def _write_side(
    f: Factory, first: int, buying: bool, shield: int, useful: bool, n_price_levels: int, out: np.ndarray
) -> None:
    """The bounds of the active threads of a side, the first of which is `first`."""
    rooms, dollars, model = f.leads[ROOMS], f.leads[DOLLARS], out[first]
    write_limits(f, buying, shield, useful, rooms, dollars)
    _write_row(f, buying, shield, n_price_levels, rooms, dollars, model)
    for k in range(first, out.shape[0]):
        if not f.threads[k, ACTIVE] or (f.threads[k, BUYS] == 1) != buying:
            continue
        row = out[k]
        if k > first:
            for column in range(row.shape[0]):
                row[column] = model[column]
        row[CAN_ACCEPT] = 1 if _can_accept(f, k, shield, n_price_levels, rooms, dollars, row) else 0


@inlined
def write_limits(f: Factory, buying: bool, shield: int, useful: bool, rooms: np.ndarray, dollars: np.ndarray) -> None:
    """The largest quantity and cost of a single answer of a side, for each lead time; today's lots have a test besides.

    Args:
        f: the factory.
        buying: the side.
        shield: the grade.
        useful: as for `write_bounds`.
        rooms: int64 (L,), items, written.
        dollars: int64 (L,), dollars, written.
    """
    rooms[:] = NO_LIMIT
    dollars[:] = NO_LIMIT
    if buying and useful:
        write_useful(f, rooms)
    if shield == OFF:
        return
    reserved = f.leads[BUYS_RESERVED if buying else SALES_RESERVED]
    reserved[:] = 0
    if not buying:
        write_sale_rooms(f, shield, inputs_today(f, shield, _hoped(f)), reserved, rooms)
        return
    if shield == COVERED:
        for k in range(f.threads.shape[0]):
            thread = f.threads[k]
            if thread[PENDING] and thread[BUYS]:
                reserved[thread[SENT_LEAD]] += thread[SENT_QUANTITY] * thread[SENT_PRICE]
    write_budgets(money_of(f, shield), reserved, dollars)


@inlined
def _hoped(f: Factory) -> int:
    hoped = 0
    for k in range(f.threads.shape[0]):
        hoped += f.threads[k, HOPE]
    return hoped


@inlined
def _write_row(
    f: Factory,
    buying: bool,
    shield: int,
    n_price_levels: int,
    rooms: np.ndarray,
    dollars: np.ndarray,
    row: np.ndarray,
) -> None:
    """The bounds of an active thread of a side, without CAN_ACCEPT. A cell in which not one item fits is 0."""
    n_leads = rooms.shape[0]
    budget, today = QUANTITY + n_leads, QUANTITY + 2 * n_leads
    low, high = (f.price_low[0], f.price_high[0]) if buying else (f.price_low[1], f.price_high[1])
    n_prices = high - low + 1
    row[CAN_END] = 1
    row[N_PRICES] = n_prices
    row[BEST_PRICE] = low if buying else high
    row[PRICE_SIGN] = 1 if buying else -1
    row[LAST_LEAD] = f.last_lead
    caps = row[today : today + min(n_prices, n_price_levels)]
    caps[:] = f.max_quantity
    if buying and shield != OFF:
        write_caps_today(f, low, n_prices, n_price_levels, f.signed[OUT, 0] + f.forced_out, caps)
        for level in range(caps.shape[0]):
            price = low + price_offset(level, n_prices, n_price_levels)
            if caps[level] * price > dollars[0]:
                caps[level] = max(0, dollars[0] // max(1, price))
    largest = 0
    for level in range(caps.shape[0]):
        largest = max(largest, caps[level])
    for d in range(f.last_lead + 1):
        most = min(f.max_quantity, rooms[d])
        if most >= 1 and dollars[d] >= max(1, low) and (d > 0 or largest >= 1):
            row[QUANTITY + d] = most
            row[budget + d] = dollars[d]


@inlined
def _can_accept(
    f: Factory, k: int, shield: int, n_price_levels: int, rooms: np.ndarray, dollars: np.ndarray, row: np.ndarray
) -> bool:
    """Whether the partner's very offer, on the grid or not, may be accepted."""
    thread = f.threads[k]
    if not thread[HAS_OFFER]:
        return False
    lead, quantity, price = thread[OFFER_LEAD], thread[OFFER_QUANTITY], thread[OFFER_PRICE]
    if lead > f.last_lead or quantity > rooms[lead] or quantity * price > dollars[lead]:
        return False
    if not thread[BUYS] or lead > 0 or shield == OFF:
        return True
    level = price - row[BEST_PRICE]
    if row[N_PRICES] <= n_price_levels and quantity <= row[QUANTITY + 2 * rooms.shape[0] + level]:
        return True
    return allows_today(f, price, quantity, f.signed[OUT, 0] + f.forced_out)
