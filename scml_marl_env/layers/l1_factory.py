"""What L1 reads of one factory of a `FactoryView`, under short names: rows instead of batches."""

from typing import NamedTuple

import numpy as np
from numba import njit


class Factory(NamedTuple):
    """One factory at the moment of a window. Arrays are views into the `FactoryView`."""

    lines: int  # n_lines
    unit_cost: int
    conserving: bool  # production consumes stock (never in a perishable world)
    perishable: bool
    supplied: bool  # inputs can still come on a later day
    last_level: bool
    first_mover: bool
    max_quantity: int
    last_lead: int
    last_round: int
    days_left: int  # today included
    balance: float
    stock: int
    forced_in: int  # today's exogenous supplies
    forced_in_cost: int
    forced_out: int  # today's exogenous sales
    keep: float  # dollars to keep an unused input for a day (or to dispose of it)
    cheapest_input: int  # lowest price of the buy agenda
    best_sale: int  # highest price of the sell agenda
    price_growth: float  # the most by which that price can rise in a day
    n_lots: int
    lot_quantity: np.ndarray  # (C,)
    lot_price: np.ndarray  # (C,)
    signed_in: np.ndarray  # (L,)
    signed_out: np.ndarray  # (L,)
    signed_cost: np.ndarray  # (L,)
    signed_revenue: np.ndarray  # (L,)
    is_buy: np.ndarray  # (K,)
    alive: np.ndarray  # (K,)
    on_turn: np.ndarray  # (K,)
    round: np.ndarray  # (K,)
    has_offer: np.ndarray  # (K,)
    offer_quantity: np.ndarray  # (K,)
    offer_lead: np.ndarray  # (K,)
    offer_price: np.ndarray  # (K,)
    pending: np.ndarray  # (K,) bool, an offer of ours may still be accepted: an answer given now would take it back
    sent_quantity: np.ndarray  # (K,)
    sent_lead: np.ndarray  # (K,)
    sent_price: np.ndarray  # (K,)


@njit(cache=True)
def look(view, b: int) -> Factory:
    """The factory `b` of a `FactoryView`."""
    supplied = view.level[b] == 0  # by exogenous contracts
    for k in range(view.exists.shape[1]):
        if view.exists[b, k] and view.is_buy[b, k] and not view.partner_bankrupt[b, k]:
            supplied = True
    perishable = view.perishable[b] == 1
    conserving = view.conserving[b] == 1 and not perishable
    best_sale, sale_price = view.price_high[b, 1], view.trading_price[b, 1]
    growth = max(1.0, (best_sale + 1) / sale_price) if sale_price > 0 else 1.0
    return Factory(
        lines=view.n_lines[b],
        unit_cost=view.unit_cost[b],
        conserving=conserving,
        perishable=perishable,
        supplied=supplied,
        last_level=view.level[b] == view.n_levels[b] - 1,
        first_mover=view.first_mover[b] == 1,
        max_quantity=view.max_quantity[b],
        last_lead=min(view.last_lead[b], view.signed_in.shape[1] - 1),
        last_round=view.n_rounds[b] - 1,
        days_left=view.n_days[b] - view.day[b],
        balance=view.balance[b],
        stock=view.stock[b],
        forced_in=view.exogenous_in[b],
        forced_in_cost=view.exogenous_in_cost[b],
        forced_out=view.exogenous_out[b],
        keep=view.trading_price[b, 0] * (view.storage_rate[b] + view.disposal_rate[b]),
        cheapest_input=max(1, view.price_low[b, 0]),
        best_sale=best_sale,
        price_growth=growth,
        n_lots=view.n_lots[b],
        lot_quantity=view.lot_quantity[b],
        lot_price=view.lot_price[b],
        signed_in=view.signed_in[b],
        signed_out=view.signed_out[b],
        signed_cost=view.signed_cost[b],
        signed_revenue=view.signed_revenue[b],
        is_buy=view.is_buy[b],
        alive=view.alive[b],
        on_turn=view.on_turn[b],
        round=view.round[b],
        has_offer=view.has_offer[b],
        offer_quantity=view.offer_quantity[b],
        offer_lead=view.offer_lead[b],
        offer_price=view.offer_price[b],
        pending=view.pending[b],
        sent_quantity=view.sent_quantity[b],
        sent_lead=view.sent_lead[b],
        sent_price=view.sent_price[b],
    )


@njit(cache=True)
def is_pending(f: Factory, k: int) -> bool:
    """Whether an offer of ours may still be accepted in thread `k`: an answer that is due now takes it back."""
    return f.alive[k] and f.pending[k] and not f.on_turn[k]


@njit(cache=True)
def hope(f: Factory, k: int) -> int:
    """Items that buy thread `k` can bring today at most, over everything that may still happen in it.

    That is the agenda's largest quantity while the negotiation can go on. At its end it is less: who moves second has
    the last word in the last round and can only take the offer on the table, and an offer of ours that awaits the last
    answer brings its own quantity or nothing.
    """
    if not f.alive[k] or not f.is_buy[k]:
        return 0
    if f.round[k] < f.last_round or not (f.on_turn[k] or f.pending[k]):
        return f.max_quantity
    if f.on_turn[k]:
        if f.first_mover:
            return f.max_quantity
        return f.offer_quantity[k] if f.has_offer[k] and f.offer_lead[k] == 0 else 0
    return f.sent_quantity[k] if f.first_mover and f.sent_lead[k] == 0 else 0


@njit(cache=True)
def total_hope(f: Factory) -> int:
    """Items that all living buy threads together can bring today at most (SAFETY.md: r * qmax)."""
    total = 0
    for k in range(f.alive.shape[0]):
        total += hope(f, k)
    return total
