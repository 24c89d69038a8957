"""What L1 reads of one factory of a `FactoryView`: a few numbers under short names, and two small tables.

Kernels hand it on to each other. Every array in an argument costs a kernel call about 15 ns of reference counting (a
whole `FactoryView` nearly 1 us), so the rows of a view are packed into tables once.
"""

from typing import NamedTuple

import numpy as np

from scml_marl_env.kernels import kernel

# Rows of `Factory.signed`, each by lead time.
IN, OUT, COST, REVENUE = range(4)

# Columns of `Factory.threads`.
BUYS = 0  # 1 if the partner is a supplier
ACTIVE = 1  # 1 if it waits for our answer
PENDING = 2  # 1 if an offer of ours may still be accepted (an answer that is due now takes it back)
GOES_ON = 3  # 1 if a round follows the present one
HOPE = 4  # items that it can bring today at most, over everything that may still happen in it
HAS_OFFER, OFFER_QUANTITY, OFFER_LEAD, OFFER_PRICE = 5, 6, 7, 8  # on the table
SENT_QUANTITY, SENT_LEAD, SENT_PRICE = 9, 10, 11  # our last one
N_COLUMNS = 12


class Factory(NamedTuple):
    """One factory at the moment of a window."""

    lines: int  # n_lines
    unit_cost: int
    conserving: bool  # production consumes stock (never in a perishable world)
    perishable: bool
    supplied: bool  # inputs can still come on a later day
    last_level: bool
    max_quantity: int
    last_lead: int
    days_left: int  # today included
    balance: float
    stock: int
    forced_in: int  # today's exogenous supplies
    forced_in_cost: int
    forced_out: int  # today's exogenous sales
    keep: float  # dollars to keep an unused input for a day (or to dispose of it)
    price_low: tuple[int, int]  # agenda of the buy threads, of the sell threads
    price_high: tuple[int, int]
    price_growth: float  # the factor by which the best price of a sale can rise in a day, at most
    n_lots: int
    lot_quantity: np.ndarray  # int64 (C,)
    lot_price: np.ndarray  # int64 (C,)
    signed: np.ndarray  # int64 (4, L)
    threads: np.ndarray  # int64 (K, N_COLUMNS)


@kernel
def look(view, b: int) -> Factory:
    """The factory `b` of a `FactoryView`."""
    n_slots, n_leads = view.exists.shape[1], view.signed_in.shape[1]
    signed = np.empty((4, n_leads), np.int64)
    _copy_row(view.signed_in, b, signed, IN)
    _copy_row(view.signed_out, b, signed, OUT)
    _copy_row(view.signed_cost, b, signed, COST)
    _copy_row(view.signed_revenue, b, signed, REVENUE)
    threads = np.empty((n_slots, N_COLUMNS), np.int64)
    _copy_column(view.is_buy, b, threads, BUYS)
    _copy_column(view.on_turn, b, threads, ACTIVE)
    _copy_column(view.pending, b, threads, PENDING)
    _copy_column(view.round, b, threads, GOES_ON)
    _copy_column(view.has_offer, b, threads, HAS_OFFER)
    _copy_column(view.offer_quantity, b, threads, OFFER_QUANTITY)
    _copy_column(view.offer_lead, b, threads, OFFER_LEAD)
    _copy_column(view.offer_price, b, threads, OFFER_PRICE)
    _copy_column(view.sent_quantity, b, threads, SENT_QUANTITY)
    _copy_column(view.sent_lead, b, threads, SENT_LEAD)
    _copy_column(view.sent_price, b, threads, SENT_PRICE)
    last_round, largest, first_mover = view.n_rounds[b] - 1, view.max_quantity[b], view.first_mover[b]
    _refine(threads, view.alive, b, last_round, largest, first_mover)
    return Factory(
        lines=view.n_lines[b],
        unit_cost=view.unit_cost[b],
        conserving=(view.conserving[b] == 1) & (view.perishable[b] == 0),
        perishable=view.perishable[b] == 1,
        supplied=(view.level[b] == 0) | _has_supplier(threads, view.exists, view.partner_bankrupt, b),
        last_level=view.level[b] == view.n_levels[b] - 1,
        max_quantity=largest,
        last_lead=min(view.last_lead[b], n_leads - 1),
        days_left=view.n_days[b] - view.day[b],
        balance=view.balance[b],
        stock=view.stock[b],
        forced_in=view.exogenous_in[b],
        forced_in_cost=view.exogenous_in_cost[b],
        forced_out=view.exogenous_out[b],
        keep=view.trading_price[b, 0] * (view.storage_rate[b] + view.disposal_rate[b]),
        price_low=(view.price_low[b, 0], view.price_low[b, 1]),
        price_high=(view.price_high[b, 0], view.price_high[b, 1]),
        price_growth=max(1.0, (view.price_high[b, 1] + 1) / max(1.0, view.trading_price[b, 1])),
        n_lots=view.n_lots[b],
        lot_quantity=view.lot_quantity[b],
        lot_price=view.lot_price[b],
        signed=signed,
        threads=threads,
    )


@kernel
def _copy_row(source: np.ndarray, b: int, target: np.ndarray, row: int) -> None:
    for i in range(target.shape[1]):
        target[row, i] = source[b, i]


@kernel
def _copy_column(source: np.ndarray, b: int, target: np.ndarray, column: int) -> None:
    for i in range(target.shape[0]):
        target[i, column] = source[b, i]


@kernel
def _has_supplier(threads: np.ndarray, exists: np.ndarray, bankrupt: np.ndarray, b: int) -> bool:
    found = False
    for k in range(threads.shape[0]):
        found |= exists[b, k] and threads[k, BUYS] == 1 and not bankrupt[b, k]
    return found


@kernel
def _refine(
    threads: np.ndarray, alive: np.ndarray, b: int, last_round: int, max_quantity: int, first_mover: int
) -> None:
    """Turns the raw columns on_turn, pending and round into ACTIVE, PENDING and GOES_ON, and adds HOPE."""
    for k in range(threads.shape[0]):
        active, pending, goes_on = threads[k, ACTIVE], threads[k, PENDING], threads[k, GOES_ON] < last_round
        threads[k, GOES_ON] = goes_on
        threads[k, ACTIVE] = alive[b, k] and active
        threads[k, PENDING] = alive[b, k] and pending and not active
        threads[k, HOPE] = _hope(threads, k, first_mover == 1, max_quantity) if alive[b, k] and threads[k, BUYS] else 0


@kernel
def _hope(threads: np.ndarray, k: int, first_mover: bool, max_quantity: int) -> int:
    """Items that a living buy thread can bring today at most.

    The agenda's largest quantity while the negotiation can go on. At its end it is less: who moves second has the last
    word in the last round and can only take the offer on the table, and an offer of ours that awaits the last answer
    brings its own quantity or nothing.
    """
    active, pending = threads[k, ACTIVE] == 1, threads[k, PENDING] == 1
    if threads[k, GOES_ON] == 1 or (active and first_mover) or not (active or pending):
        return max_quantity
    if active:
        return threads[k, OFFER_QUANTITY] if threads[k, HAS_OFFER] == 1 and threads[k, OFFER_LEAD] == 0 else 0
    return threads[k, SENT_QUANTITY] if first_mover and threads[k, SENT_LEAD] == 0 else 0
