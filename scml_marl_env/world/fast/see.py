"""The `FactoryView` of a factory of the fast engine: number by number what `AwiView` makes of SCML's own interface."""

import numpy as np

from scml_marl_env.features import LIMIT as FEATURE_LIMIT
from scml_marl_env.handles import fetch
from scml_marl_env.kernels import inlined, lean
from scml_marl_env.view import (
    ALIVE,
    BALANCE,
    BEFORE_LEAD,
    BEFORE_PRICE,
    BEFORE_QUANTITY,
    BOUGHT_COST,
    BOUGHT_TODAY,
    CATALOG_PRICE,
    CONSERVING,
    DAY,
    DEAL_PRICE_RATIO,
    DEAL_QUANTITY,
    DEAL_TODAY,
    DISPOSAL_RATE,
    EXISTS,
    EXOGENOUS_IN,
    EXOGENOUS_IN_COST,
    EXOGENOUS_OUT,
    EXOGENOUS_OUT_REVENUE,
    FIRST_MOVER,
    HAS_OFFER,
    INITIAL_BALANCE,
    IS_BUY,
    LAST_LEAD,
    LEVEL,
    LOT_PRICE,
    LOT_QUANTITY,
    MAX_QUANTITY,
    N_COMPETITORS,
    N_CONSUMERS,
    N_DAYS,
    N_DEALS,
    N_HISTORY,
    N_LEVELS,
    N_LINES,
    N_LOTS,
    N_NEGOTIATIONS,
    N_RECEIVED,
    N_ROUNDS,
    N_SUPPLIERS,
    OFFER_LEAD,
    OFFER_PRICE,
    OFFER_QUANTITY,
    ON_TURN,
    PARTNER_BANKRUPT,
    PARTNER_BREACH,
    PARTNER_CASH,
    PENDING,
    PERISHABLE,
    PRICE_AVERAGE,
    PRICE_AVERAGE_WEIGHT,
    PRICE_DAYS,
    PRICE_HIGH,
    PRICE_HISTORY,
    PRICE_LOW,
    PRODUCED_BEFORE,
    ROUND,
    SENT,
    SENT_LEAD,
    SENT_PRICE,
    SENT_QUANTITY,
    SHORTFALL_BEFORE,
    SHORTFALL_RATE,
    SIGNED_COST,
    SIGNED_IN,
    SIGNED_OUT,
    SIGNED_REVENUE,
    SOLD_REVENUE,
    SOLD_TODAY,
    STOCK,
    STORAGE_RATE,
    TRADING_PRICE,
    UNIT_COST,
    FactoryView,
)
from scml_marl_env.world.fast import columns as at
from scml_marl_env.world.fast.account import place_of
from scml_marl_env.world.fast.columns import State, Tables
from scml_marl_env.world.fast.day import fee

N_PRIVATE = 6  # columns of what only a trainer may know, see `layout.PRIVATE_COLUMNS`


@lean
def open_book(t: Tables, s: State, view: FactoryView, e: int, f: int) -> None:
    """Writes what is fixed for the episode, and clears the rest (`AwiView.__init__`)."""
    w, b = s.world[e, at.ROW], s.factory[e, f, at.VIEW]
    world, factory, ints = t.world[w], t.factory[w, f], view.ints[b]
    ints[:] = 0
    view.floats[b] = 0
    view.signed[b] = 0
    view.lots[b] = 0
    view.flags[b] = False
    view.threads[b] = 0
    view.memory[b] = 0
    view.history[b] = 0
    ints[N_DAYS] = world[at.N_DAYS]
    ints[LEVEL] = factory[at.LEVEL]
    ints[N_LEVELS] = world[at.N_PRODUCTS] - 1
    ints[N_LINES] = factory[at.LINES]
    ints[UNIT_COST] = factory[at.COST]
    ints[N_SUPPLIERS], ints[N_CONSUMERS] = factory[at.N_SUPPLIERS], factory[at.N_CONSUMERS]
    ints[N_COMPETITORS] = factory[at.N_COMPETITORS]
    ints[CONSERVING] = s.world[e, at.CONSERVING]
    ints[PERISHABLE] = world[at.PERISHABLE]
    ints[MAX_QUANTITY] = world[at.QUANTITY_HIGH]
    ints[FIRST_MOVER] = factory[at.FIRST_MOVER]
    view.floats[b, INITIAL_BALANCE] = factory[at.INITIAL_BALANCE]
    for side in range(2):
        view.floats[b, CATALOG_PRICE + side] = t.catalog[w, factory[at.LEVEL] + side]
    n = factory[at.N_SUPPLIERS] + factory[at.N_CONSUMERS]
    for k in range(n):
        view.flags[b, k, EXISTS] = True
        view.flags[b, k, IS_BUY] = k < factory[at.N_SUPPLIERS]
        view.memory[b, k, PARTNER_CASH] = 1.0


@lean
def start_day(t: Tables, s: State, view: FactoryView, e: int, f: int) -> None:
    """Writes what is fixed for the day (`AwiView.start_day`)."""
    w, b, day = s.world[e, at.ROW], s.factory[e, f, at.VIEW], s.world[e, at.DAY]
    factory, ints, floats, level = s.factory[e, f], view.ints[b], view.floats[b], t.factory[w, f, at.LEVEL]
    if day > 0:
        ints[PRODUCED_BEFORE], ints[SHORTFALL_BEFORE] = factory[at.PRODUCED], factory[at.SHORT]
    ints[DAY] = day
    ints[LAST_LEAD] = min(view.signed.shape[2] - 1, t.world[w, at.N_DAYS] - 1 - day)
    ints[STOCK] = factory[at.STOCK]
    ints[EXOGENOUS_IN], ints[EXOGENOUS_IN_COST] = factory[at.EXO_IN], factory[at.EXO_IN_COST]
    ints[EXOGENOUS_OUT], ints[EXOGENOUS_OUT_REVENUE] = factory[at.EXO_OUT], factory[at.EXO_OUT_REVENUE]
    ints[BOUGHT_TODAY] = ints[BOUGHT_COST] = ints[SOLD_TODAY] = ints[SOLD_REVENUE] = 0
    floats[BALANCE] = s.money[e, f, at.BALANCE]
    floats[STORAGE_RATE] = fee(t, w, at.STORAGE, day, f)
    floats[DISPOSAL_RATE] = fee(t, w, at.DISPOSAL, day, f)
    floats[SHORTFALL_RATE] = fee(t, w, at.SHORTFALL, day, f)
    for side in range(2):
        ints[PRICE_LOW + side] = s.agenda[e, level + side, at.LOW]
        ints[PRICE_HIGH + side] = s.agenda[e, level + side, at.HIGH]
        _write_price(view, b, side, s.price[e, level + side, at.TRADING_PRICE], day)
    changed = _write_partners(t, s, view, e, f)
    _write_threads(t, s, view, e, f)
    _write_commitments(t, s, view, e, f, changed)


@lean
def _write_price(view: FactoryView, b: int, side: int, price: float, day: int) -> None:
    floats = view.floats[b]
    floats[TRADING_PRICE + side] = price
    first, last = PRICE_HISTORY + side * PRICE_DAYS, PRICE_HISTORY + (side + 1) * PRICE_DAYS - 1
    if day == 0:
        floats[first : last + 1] = price
        floats[PRICE_AVERAGE + side] = price
        return
    for i in range(first, last):
        floats[i] = floats[i + 1]
    floats[last] = price
    floats[PRICE_AVERAGE + side] += PRICE_AVERAGE_WEIGHT * (price - floats[PRICE_AVERAGE + side])


@lean
def _write_partners(t: Tables, s: State, view: FactoryView, e: int, f: int) -> bool:
    """What is public about the partners; True if another one has gone bankrupt."""
    w, b, changed = s.world[e, at.ROW], s.factory[e, f, at.VIEW], False
    for k in range(t.slot.shape[2]):
        i = t.slot[w, f, k]
        if i < 0:
            break
        partner = t.thread[w, i, at.BUYER] + t.thread[w, i, at.SELLER] - f
        if s.factory[e, partner, at.BANKRUPT] and not view.flags[b, k, PARTNER_BANKRUPT]:
            view.flags[b, k, PARTNER_BANKRUPT] = True
            changed = True
        if s.world[e, at.DAY] > 0:
            money = s.money[e, partner]
            view.memory[b, k, PARTNER_BREACH] = money[at.REPORTED_BREACH]
            first = money[at.FIRST_CASH]
            view.memory[b, k, PARTNER_CASH] = money[at.REPORTED_CASH] / first if first > 0 else 1.0
    return changed


@lean
def _write_threads(t: Tables, s: State, view: FactoryView, e: int, f: int) -> None:
    w, b = s.world[e, at.ROW], s.factory[e, f, at.VIEW]
    if s.factory[e, f, at.N_ALIVE] > 0:
        view.ints[b, N_ROUNDS] = t.world[w, at.N_ROUNDS]
    view.history[b] = 0
    for k in range(view.flags.shape[1]):
        i = t.slot[w, f, k] if k < t.slot.shape[2] else -1
        flags, thread = view.flags[b, k], view.threads[b, k]
        flags[ALIVE] = i >= 0 and s.thread[e, i, at.RUNNING] == 1
        flags[ON_TURN] = flags[HAS_OFFER] = flags[PENDING] = flags[SENT] = flags[DEAL_TODAY] = False
        for column in range(ROUND, N_NEGOTIATIONS):
            thread[column] = 0


@lean
def _write_commitments(t: Tables, s: State, view: FactoryView, e: int, f: int, anew: bool) -> None:
    """Moves what is signed a day nearer, or counts it anew without the contracts that have become void."""
    world = s.world[e]
    w, b, day, ring = world[at.ROW], s.factory[e, f, at.VIEW], world[at.DAY], t.world[world[at.ROW], at.HORIZON] + 1
    signed, n_leads = view.signed[b], view.signed.shape[2]
    contracts = s.contract[e].reshape(-1, s.contract.shape[3])
    for d in range(n_leads):
        for column in range(4):
            signed[column, d] = signed[column, d + 1] if d + 1 < n_leads and not anew else 0
    view.ints[b, N_LOTS] = 0
    for d in range(ring if anew else 1):
        c = s.queue[e, place_of(t, s, e, day + d), at.HEAD]
        while c >= 0:
            i = c % s.contract.shape[2]
            buyer, seller = t.thread[w, i, at.BUYER], t.thread[w, i, at.SELLER]
            quantity, price = contracts[c, at.CONTRACT_QUANTITY], contracts[c, at.CONTRACT_PRICE]
            mine = buyer == f or seller == f
            if mine and not s.factory[e, buyer + seller - f, at.BANKRUPT]:
                if anew:
                    column = SIGNED_IN if buyer == f else SIGNED_OUT
                    signed[column, d] += quantity
                    signed[column + 2, d] += quantity * price
                if d == 0 and buyer == f:
                    _add_lot(view, b, quantity, price)
            c = contracts[c, at.CONTRACT_NEXT]


@lean
def _add_lot(view: FactoryView, b: int, quantity: int, price: int) -> None:
    n = view.ints[b, N_LOTS]
    view.lots[b, LOT_QUANTITY, n], view.lots[b, LOT_PRICE, n] = quantity, price
    view.ints[b, N_LOTS] = n + 1


@inlined
def side_of(t: Tables, w: int, f: int) -> int:
    """The first column of factory `f`'s side of its threads: it makes the first offer in all of them, or in none."""
    return at.SIDE if t.factory[w, f, at.FIRST_MOVER] else at.SIDE + at.SIDE_SIZE


@inlined
def fetch_view(view: FactoryView, b: int) -> None:
    """Asks the memory for what is read of a factory's view in every window."""
    n = view.ints[b, N_SUPPLIERS] + view.ints[b, N_CONSUMERS]
    fetch(view.flags[b])
    fetch(view.threads[b, :n])
    fetch(view.history[b, :n])
    fetch(view.ints[b])
    fetch(view.floats[b])
    fetch(view.signed[b])
    fetch(view.memory[b, :n])


@lean
def open_window(t: Tables, s: State, view: FactoryView, e: int, f: int) -> None:
    """Writes a window: the threads that wait for an answer of `f`, with the offers on the table (`AwiView.see`)."""
    w, b, first = s.world[e, at.ROW], s.factory[e, f, at.VIEW], s.world[e, at.IS_FIRST] == 1
    own = side_of(t, w, f)
    fetch_view(view, b)
    for k in range(t.slot.shape[2]):
        i = t.slot[w, f, k]
        if i < 0:
            break
        flags, thread, state = view.flags[b, k], view.threads[b, k], s.thread[e, i]
        asked = state[at.RUNNING] == 1 and (first or state[own + at.COLLECTED] > 0)
        flags[ON_TURN] = asked
        flags[HAS_OFFER] = asked and not first
        flags[PENDING] = flags[ALIVE] and flags[SENT] and not asked
        if not asked:
            continue
        thread[ROUND] = 0 if first else state[at.STEP]
        if first:
            continue
        thread[BEFORE_QUANTITY], thread[OFFER_QUANTITY] = thread[OFFER_QUANTITY], state[at.OFFER_QUANTITY]
        thread[BEFORE_LEAD], thread[OFFER_LEAD] = thread[OFFER_LEAD], state[at.OFFER_DAY] - s.world[e, at.DAY]
        thread[BEFORE_PRICE], thread[OFFER_PRICE] = thread[OFFER_PRICE], state[at.OFFER_PRICE]
        thread[N_RECEIVED] += 1
        _remember(view, b, k, 0, thread[OFFER_LEAD], thread[OFFER_QUANTITY], thread[OFFER_PRICE])


@inlined
def note_sent(view: FactoryView, b: int, k: int, quantity: int, lead: int, price: int) -> None:
    """Notes an offer that the factory now makes (`AwiView.sent`)."""
    thread = view.threads[b, k]
    view.flags[b, k, SENT] = True
    thread[SENT_QUANTITY], thread[SENT_LEAD], thread[SENT_PRICE] = quantity, lead, price
    _remember(view, b, k, 1, lead, quantity, price)


@lean
def _remember(view: FactoryView, b: int, k: int, by_me: int, lead: int, quantity: int, price: int) -> None:
    thread, n_kept = view.threads[b, k], view.history.shape[2]
    if n_kept == 0:
        return
    offer = view.history[b, k, thread[N_HISTORY] % n_kept]
    offer[0], offer[1], offer[2], offer[3], offer[4] = by_me, lead, quantity, price, thread[ROUND]
    thread[N_HISTORY] += 1


@lean
def close_thread(view: FactoryView, b: int, k: int, agreed: bool, quantity: int, lead: int, price: int) -> None:
    """Notes that today's negotiation in slot `k` has ended (`AwiView.close_thread`)."""
    flags, thread, ints = view.flags[b, k], view.threads[b, k], view.ints[b]
    flags[ALIVE] = flags[ON_TURN] = flags[HAS_OFFER] = flags[PENDING] = False
    thread[N_NEGOTIATIONS] += 1
    if not agreed:
        return
    buys = flags[IS_BUY]
    thread[N_DEALS] += 1
    flags[DEAL_TODAY] = True
    thread[DEAL_QUANTITY] += quantity
    view.memory[b, k, DEAL_PRICE_RATIO] += price / view.floats[b, TRADING_PRICE + (0 if buys else 1)]
    if buys:
        ints[BOUGHT_TODAY] += quantity
        ints[BOUGHT_COST] += quantity * price
        view.signed[b, SIGNED_IN, lead] += quantity
        view.signed[b, SIGNED_COST, lead] += quantity * price
        if lead == 0:
            _add_lot(view, b, quantity, price)
    else:
        ints[SOLD_TODAY] += quantity
        ints[SOLD_REVENUE] += quantity * price
        view.signed[b, SIGNED_OUT, lead] += quantity
        view.signed[b, SIGNED_REVENUE, lead] += quantity * price


@lean
def write_private(t: Tables, s: State, e: int, out: np.ndarray) -> None:
    """What only a trainer may know, float32 (places * 6,): see `ScmlEngine.write_private`."""
    out[:] = 0
    w = s.world[e, at.ROW]
    for f in range(min(t.world[w, at.N_FACTORIES], out.shape[0] // N_PRIVATE)):
        row, capacity = out[f * N_PRIVATE : (f + 1) * N_PRIVATE], t.factory[w, f, at.LINES]
        start_of = t.factory[w, f, at.INITIAL_BALANCE]
        row[0] = 1.0
        row[1] = s.factory[e, f, at.STOCK] / capacity
        row[2] = (s.money[e, f, at.EARNED] + start_of) / start_of
        for side in range(2):
            items = 0
            for d in range(s.due.shape[3]):
                items += s.due[e, f, side, d]
            row[3 + side] = items / capacity
        row[5] = s.factory[e, f, at.BANKRUPT]
        for i in range(N_PRIVATE):
            row[i] = min(max(row[i], -FEATURE_LIMIT), FEATURE_LIMIT)
