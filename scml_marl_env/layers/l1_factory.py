"""What L1 reads of one factory of a `FactoryView`: a few numbers under short names, and two small tables.

Kernels hand it on to each other, with the `Scratch` that all of L1 works in: its kernels allocate nothing, which keeps
them free of reference counting (`kernels.lean`).
"""

from typing import NamedTuple

import numpy as np

from scml_marl_env import view as at
from scml_marl_env.kernels import inlined, kernel, lean

# Rows of `Factory.signed`, each by lead time.
IN, OUT, COST, REVENUE = at.SIGNED_IN, at.SIGNED_OUT, at.SIGNED_COST, at.SIGNED_REVENUE

# Columns of `Factory.threads`.
BUYS = 0  # 1 if the partner is a supplier
ACTIVE = 1  # 1 if it waits for our answer
PENDING = 2  # 1 if an offer of ours may still be accepted (an answer that is due now takes it back)
GOES_ON = 3  # 1 if a round follows the present one
HOPE = 4  # items that it can bring today at most, over everything that may still happen in it
HAS_OFFER, OFFER_QUANTITY, OFFER_LEAD, OFFER_PRICE = 5, 6, 7, 8  # on the table
SENT_QUANTITY, SENT_LEAD, SENT_PRICE = 9, 10, 11  # our last one
NEW_QUANTITY, NEW_LEAD, NEW_PRICE = 12, 13, 14  # what our answer may bring (`settle` writes it)
N_COLUMNS = 15

# Rows of `Scratch.leads`, each by lead time.
ROOMS = 0  # items that a single answer may sell
DOLLARS = 1  # dollars that a single answer may spend
BUYS_RESERVED = 2  # dollars of other purchases that may come true
SALES_RESERVED = 3  # items of other sales that may come true
LEFT = 4  # see `l1_rooms.Money`
DUE = 5
N_LEAD_ROWS = 6


class Scratch(NamedTuple):
    """Memory for the arithmetic about one factory; what it holds means nothing afterwards."""

    threads: np.ndarray  # int64 (K, N_COLUMNS)
    leads: np.ndarray  # int64 (N_LEAD_ROWS, L)
    lots: np.ndarray  # int64 (4,), see `l1_settle.Limits`
    order: np.ndarray  # int64 (K,)


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
    lot_quantity: np.ndarray  # int32 (C,)
    lot_price: np.ndarray  # int32 (C,)
    signed: np.ndarray  # int64 (4, L)
    threads: np.ndarray  # int64 (K, N_COLUMNS)
    leads: np.ndarray  # of `Scratch`
    lots: np.ndarray  # likewise
    order: np.ndarray  # likewise


@kernel
def new_scratch(view) -> Scratch:
    """Memory for the factories of a `FactoryView`, one after the other."""
    n_slots, n_leads = view.flags.shape[1], view.signed.shape[2]
    return Scratch(
        np.empty((n_slots, N_COLUMNS), np.int64),
        np.empty((N_LEAD_ROWS, n_leads), np.int64),
        np.empty(4, np.int64),
        np.empty(n_slots, np.int64),
    )


@inlined
def look(view, b: int, scratch: Scratch) -> Factory:
    """The factory `b` of a `FactoryView`."""
    ints, floats = view.ints[b], view.floats[b]
    supplied = _read_threads(view, b, scratch.threads)
    return Factory(
        lines=ints[at.N_LINES],
        unit_cost=ints[at.UNIT_COST],
        conserving=(ints[at.CONSERVING] == 1) & (ints[at.PERISHABLE] == 0),
        perishable=ints[at.PERISHABLE] == 1,
        supplied=(ints[at.LEVEL] == 0) | supplied,
        last_level=ints[at.LEVEL] == ints[at.N_LEVELS] - 1,
        max_quantity=ints[at.MAX_QUANTITY],
        last_lead=min(ints[at.LAST_LEAD], view.signed.shape[2] - 1),
        days_left=ints[at.N_DAYS] - ints[at.DAY],
        balance=floats[at.BALANCE],
        stock=ints[at.STOCK],
        forced_in=ints[at.EXOGENOUS_IN],
        forced_in_cost=ints[at.EXOGENOUS_IN_COST],
        forced_out=ints[at.EXOGENOUS_OUT],
        keep=floats[at.TRADING_PRICE] * (floats[at.STORAGE_RATE] + floats[at.DISPOSAL_RATE]),
        price_low=(ints[at.PRICE_LOW], ints[at.PRICE_LOW + 1]),
        price_high=(ints[at.PRICE_HIGH], ints[at.PRICE_HIGH + 1]),
        price_growth=max(1.0, (ints[at.PRICE_HIGH + 1] + 1) / max(1.0, floats[at.TRADING_PRICE + 1])),
        n_lots=ints[at.N_LOTS],
        lot_quantity=view.lots[b, at.LOT_QUANTITY],
        lot_price=view.lots[b, at.LOT_PRICE],
        signed=view.signed[b],
        threads=scratch.threads,
        leads=scratch.leads,
        lots=scratch.lots,
        order=scratch.order,
    )


@lean
def _read_threads(view, b: int, out: np.ndarray) -> bool:
    """Writes the table of the threads, int64 (K, N_COLUMNS); whether a supplier is there."""
    flags, threads = view.flags[b], view.threads[b]
    n_rounds, max_quantity = view.ints[b, at.N_ROUNDS], view.ints[b, at.MAX_QUANTITY]
    first_mover = view.ints[b, at.FIRST_MOVER] == 1
    has_supplier = False
    for k in range(out.shape[0]):
        alive, on_turn = flags[k, at.ALIVE], flags[k, at.ON_TURN]
        row = out[k]
        row[BUYS] = flags[k, at.IS_BUY]
        row[ACTIVE] = alive and on_turn
        row[PENDING] = alive and flags[k, at.PENDING] and not on_turn
        row[GOES_ON] = threads[k, at.ROUND] < n_rounds - 1
        row[HAS_OFFER] = flags[k, at.HAS_OFFER]
        row[OFFER_QUANTITY] = threads[k, at.OFFER_QUANTITY]
        row[OFFER_LEAD] = threads[k, at.OFFER_LEAD]
        row[OFFER_PRICE] = threads[k, at.OFFER_PRICE]
        row[SENT_QUANTITY] = threads[k, at.SENT_QUANTITY]
        row[SENT_LEAD] = threads[k, at.SENT_LEAD]
        row[SENT_PRICE] = threads[k, at.SENT_PRICE]
        row[HOPE] = _hope(row, first_mover, max_quantity) if alive and flags[k, at.IS_BUY] else 0
        has_supplier |= flags[k, at.EXISTS] and flags[k, at.IS_BUY] and not flags[k, at.PARTNER_BANKRUPT]
    return has_supplier


@inlined
def _hope(thread: np.ndarray, first_mover: bool, max_quantity: int) -> int:
    """Items that a living buy thread can bring today at most.

    The agenda's largest quantity while the negotiation can go on. At its end it is less: who moves second has the last
    word in the last round and can only take the offer on the table, and an offer of ours that awaits the last answer
    brings its own quantity or nothing.
    """
    active, pending = thread[ACTIVE] == 1, thread[PENDING] == 1
    if thread[GOES_ON] == 1 or (active and first_mover) or not (active or pending):
        return max_quantity
    if active:
        return thread[OFFER_QUANTITY] if thread[HAS_OFFER] == 1 and thread[OFFER_LEAD] == 0 else 0
    return thread[SENT_QUANTITY] if first_mover and thread[SENT_LEAD] == 0 else 0
