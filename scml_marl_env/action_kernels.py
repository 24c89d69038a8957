"""What a policy asks of the compact bounds (see actions.py), row by row; leads are not expanded by price levels."""

import numpy as np

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
from scml_marl_env.kernels import inlined, kernel

price_offset = inlined(actions.price_offset)


@kernel
def ops_and_leads(bounds: np.ndarray, n_leads: int, n_levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Which operations, and which lead times of an offer, are allowed: bool (n, 4) and (n, L) from int32 (n, M).

    Later than today an offer is possible if its quantity and its budget allow one item at the cheapest price of the
    agenda, which is level 0 for a buyer and the last level for a seller; today the level's own limit counts too.
    """
    n = bounds.shape[0]
    ops, leads = np.zeros((n, 4), np.bool_), np.zeros((n, n_leads), np.bool_)
    for i in range(n):
        row = bounds[i]
        n_prices, best, sign = int(row[N_PRICES]), int(row[BEST_PRICE]), int(row[PRICE_SIGN])
        last_level = min(n_prices, n_levels) - 1
        any_lead = False
        if last_level >= 0:
            cheapest = best + sign * price_offset(0 if sign > 0 else last_level, n_prices, n_levels)
            for lead in range(min(n_leads - 1, int(row[LAST_LEAD])) + 1):
                allowed = row[QUANTITY + lead] >= 1 and row[QUANTITY + n_leads + lead] >= max(cheapest, 1)
                if allowed and lead == 0:
                    allowed = False
                    for level in range(last_level + 1):
                        price = max(best + sign * price_offset(level, n_prices, n_levels), 1)
                        if row[QUANTITY + 2 * n_leads + level] >= 1 and row[QUANTITY + n_leads] >= price:
                            allowed = True
                            break
                leads[i, lead] = allowed
                any_lead |= allowed
        ops[i, 0], ops[i, 1] = row[CAN_WAIT] > 0, row[CAN_END] > 0
        ops[i, 2], ops[i, 3] = row[CAN_ACCEPT] > 0, any_lead
    return ops, leads


@kernel
def caps_at(bounds: np.ndarray, lead: np.ndarray, n_leads: int, n_levels: int) -> np.ndarray:
    """The largest safe quantity of each price level at each row's lead time: int32 (n, P)."""
    n = bounds.shape[0]
    caps = np.zeros((n, n_levels), np.int32)
    for i in range(n):
        row, d = bounds[i], lead[i]
        n_prices, best, sign = int(row[N_PRICES]), int(row[BEST_PRICE]), int(row[PRICE_SIGN])
        quantity, budget = int(row[QUANTITY + d]), int(row[QUANTITY + n_leads + d])
        if d > row[LAST_LEAD]:
            continue
        for level in range(min(n_prices, n_levels)):
            price = max(best + sign * price_offset(level, n_prices, n_levels), 1)
            cap = quantity
            if budget < quantity * price:
                cap = budget // price
            if d == 0:
                cap = min(cap, int(row[QUANTITY + 2 * n_leads + level]))
            caps[i, level] = cap
    return caps
