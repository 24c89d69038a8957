"""L1 before acting: the compact bounds of every thread of a factory (layout: `scml_marl_env.actions`)."""

import numpy as np
from numba import njit

from scml_marl_env import actions
from scml_marl_env.actions import (
    BEST_PRICE,
    CAN_ACCEPT,
    CAN_END,
    CAN_WAIT,
    LAST_LEAD,
    N_PRICES,
    PRICE_SIGN,
    QUANTITY,
)
from scml_marl_env.layers.l1_rooms import (
    COVERED,
    NO_LIMIT,
    OFF,
    allows_today,
    cap_today,
    total_hope,
    write_budgets,
    write_sale_rooms,
    write_useful,
)

price_offset = njit(cache=True)(actions.price_offset)


@njit(cache=True)
def write_bounds(view, b, shield, useful, n_price_levels, out) -> None:
    """Writes what each thread of factory `b` may answer, each answer judged alone.

    Args:
        view: `FactoryView`.
        b: which factory of it.
        shield: index into `SHIELDS`.
        useful: whether purchases that are certain waste are removed as well.
        n_price_levels: P of the action grid.
        out: int32 (K, M), written in full.
    """
    n_slots, n_leads = out.shape[0], view.signed_in.shape[1]
    budget, today = QUANTITY + n_leads, QUANTITY + 2 * n_leads
    out[:, :] = 0
    rooms, dollars = np.empty(n_leads, np.int64), np.empty(n_leads, np.int64)
    model_buy, model_sell = -1, -1  # the first active thread of each side; the others differ in CAN_ACCEPT only
    for k in range(n_slots):
        if not (view.alive[b, k] and view.on_turn[b, k]):
            out[k, CAN_WAIT] = 1
            continue
        side = 0 if view.is_buy[b, k] else 1
        model = model_buy if side == 0 else model_sell
        if model >= 0:
            out[k] = out[model]
        else:
            _write_side(view, b, side, shield, useful, n_price_levels, rooms, dollars, out[k], budget, today)
            if side == 0:
                model_buy = k
            else:
                model_sell = k
        out[k, CAN_ACCEPT] = 1 if view.has_offer[b, k] else 0
    if shield == OFF and not useful:
        return
    for side in range(2):
        model = model_buy if side == 0 else model_sell
        if model < 0:
            continue
        _write_limits(view, b, side, shield, useful, rooms, dollars)
        for k in range(n_slots):
            if out[k, CAN_ACCEPT] == 1 and (0 if view.is_buy[b, k] else 1) == side:
                lead, quantity, price = view.offer_lead[b, k], view.offer_quantity[b, k], view.offer_price[b, k]
                fits = lead <= view.last_lead[b] and quantity <= rooms[lead] and quantity * price <= dollars[lead]
                if fits and side == 0 and lead == 0 and shield != OFF:
                    sold = view.signed_out[b, 0] + view.exogenous_out[b]
                    fits = allows_today(view, b, price, quantity, sold)
                out[k, CAN_ACCEPT] = 1 if fits else 0


@njit(cache=True)
def _write_limits(view, b, side, shield, useful, rooms, dollars) -> None:
    """The largest quantity and cost of a single answer of a side, for each lead time."""
    n_leads = rooms.shape[0]
    nothing = np.zeros(n_leads, np.int64)
    rooms[:] = NO_LIMIT
    dollars[:] = NO_LIMIT
    if side == 1:
        if shield != OFF:
            write_sale_rooms(view, b, shield, total_hope(view, b), nothing, rooms)
        return
    if useful:
        write_useful(view, b, rooms)
    if shield != OFF:
        if shield == COVERED:
            for k in range(view.pending.shape[1]):
                if view.pending[b, k] and view.alive[b, k] and view.is_buy[b, k] and not view.on_turn[b, k]:
                    nothing[view.sent_lead[b, k]] += view.sent_quantity[b, k] * view.sent_price[b, k]
        write_budgets(view, b, shield, nothing, dollars)


@njit(cache=True)
def _write_side(view, b, side, shield, useful, n_price_levels, rooms, dollars, row, budget, today) -> None:
    """The row of an active thread of a side: 0 buys, 1 sells."""
    n_leads = rooms.shape[0]
    low, high = view.price_low[b, side], view.price_high[b, side]
    n_prices, best, sign = high - low + 1, low if side == 0 else high, 1 if side == 0 else -1
    largest = view.max_quantity[b]
    _write_limits(view, b, side, shield, useful, rooms, dollars)
    row[CAN_END] = 1
    row[N_PRICES] = n_prices
    row[BEST_PRICE] = best
    row[PRICE_SIGN] = sign
    row[LAST_LEAD] = view.last_lead[b]
    sold = view.signed_out[b, 0] + view.exogenous_out[b]
    most = 0
    for level in range(min(n_prices, n_price_levels)):
        cap = largest
        if side == 0 and shield != OFF:
            cap = cap_today(view, b, best + price_offset(level, n_prices, n_price_levels), sold)
        row[today + level] = cap
        most = max(most, cap)
    for d in range(min(n_leads - 1, view.last_lead[b]) + 1):
        fits = min(largest, rooms[d], dollars[d] // max(1, low))
        if d == 0:
            fits = min(fits, most)
        if fits >= 1:
            row[QUANTITY + d] = min(largest, rooms[d])
            row[budget + d] = dollars[d]
