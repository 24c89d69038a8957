"""L1 before acting: the compact bounds of every thread of a factory, each answer judged alone (layout: actions.py)."""

import numpy as np

from scml_marl_env import actions
from scml_marl_env.actions import BEST_PRICE, CAN_ACCEPT, CAN_END, CAN_WAIT, LAST_LEAD, N_PRICES, PRICE_SIGN, QUANTITY
from scml_marl_env.kernels import kernel
from scml_marl_env.layers.l1_factory import (
    ACTIVE,
    BUYS,
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
    COVERED,
    NO_LIMIT,
    OFF,
    allows_today,
    inputs_today,
    money_of,
    write_budgets,
    write_caps_today,
    write_sale_rooms,
    write_useful,
)

price_offset = kernel(actions.price_offset)


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
    f = look(view, b)
    n_leads = f.signed.shape[1]
    out[:, :] = 0
    rooms, dollars = np.empty(n_leads, np.int64), np.empty(n_leads, np.int64)
    model = np.full(2, -1, np.int64)  # the first active thread of each side: the others differ in CAN_ACCEPT only
    for k in range(out.shape[0]):
        side = 1 - f.threads[k, BUYS]
        if not f.threads[k, ACTIVE]:
            out[k, CAN_WAIT] = 1
        elif model[side] < 0:
            model[side] = k
    for side in range(2):
        if model[side] < 0:
            continue
        row = out[model[side]]
        write_limits(f, side == 0, shield, useful, rooms, dollars)
        _write_row(f, side == 0, shield, n_price_levels, rooms, dollars, row)
        for k in range(model[side], out.shape[0]):
            if f.threads[k, ACTIVE] and f.threads[k, BUYS] == 1 - side:
                out[k] = row
                out[k, CAN_ACCEPT] = 1 if _can_accept(f, k, shield, n_price_levels, rooms, dollars, row) else 0


@kernel
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
    reserved = np.zeros(rooms.shape[0], np.int64)
    if not buying:
        write_sale_rooms(f, shield, inputs_today(f, shield, f.threads[:, HOPE].sum()), reserved, rooms)
        return
    if shield == COVERED:
        for thread in f.threads:
            if thread[PENDING] and thread[BUYS]:
                reserved[thread[SENT_LEAD]] += thread[SENT_QUANTITY] * thread[SENT_PRICE]
    write_budgets(money_of(f, shield), reserved, dollars)


@kernel
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
    caps = np.full(min(n_prices, n_price_levels), f.max_quantity, np.int64)
    if buying and shield != OFF:
        prices = np.empty(caps.shape[0], np.int64)
        for level in range(caps.shape[0]):
            prices[level] = low + price_offset(level, n_prices, n_price_levels)
        write_caps_today(f, prices, f.signed[OUT, 0] + f.forced_out, caps)
        for level in range(caps.shape[0]):
            caps[level] = min(caps[level], max(0, dollars[0] // max(1, prices[level])))
    row[today : today + caps.shape[0]] = caps
    for d in range(f.last_lead + 1):
        most = min(f.max_quantity, rooms[d])
        fits = min(most, dollars[d] // max(1, low), caps.max() if d == 0 else most)
        if fits >= 1:
            row[QUANTITY + d] = most
            row[budget + d] = dollars[d]


@kernel
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
