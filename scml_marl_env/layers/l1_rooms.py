"""L1's arithmetic: how much a factory may still sell (rooms) and spend (budgets, today's caps). Formulas: SAFETY.md section 1.

All of it works for one factory `b` of a `FactoryView`, and on top of reservations: what the other answers of a window
may still cause. Without reservations it is the limit of a single answer. Reservations only ever lower a limit, and by
sums, so whatever fits together fits in any order and in any part.
"""

import math

import numpy as np
from numba import njit

from scml_marl_env.world.rules import pay_inputs

OFF, FEASIBLE, COVERED = 0, 1, 2
NO_LIMIT = 1 << 30


@njit(cache=True)
def hope(view, b, k) -> int:
    """Items that buy thread `k` can bring today at most, over everything that may still happen in it.

    That is the agenda's largest quantity while the negotiation can still go on. At the end it is less: who moves second
    has the last word in the last round and can only take the offer on the table; an offer of our own that awaits the
    last answer brings its own quantity or nothing.
    """
    if not view.alive[b, k] or not view.is_buy[b, k]:
        return 0
    last_round = view.round[b, k] >= view.n_rounds[b] - 1
    if not last_round:
        return view.max_quantity[b]
    first = view.first_mover[b] == 1
    if view.on_turn[b, k]:
        if first:
            return view.max_quantity[b]
        return view.offer_quantity[b, k] if view.has_offer[b, k] and view.offer_lead[b, k] == 0 else 0
    if not view.pending[b, k]:
        return view.max_quantity[b]
    return view.sent_quantity[b, k] if first and view.sent_lead[b, k] == 0 else 0


@njit(cache=True)
def total_hope(view, b) -> int:
    """Items that all living buy threads together can bring today at most (SAFETY.md writes r*qmax)."""
    total = 0
    for k in range(view.alive.shape[1]):
        total += hope(view, b, k)
    return total


@njit(cache=True)
def is_supplied(view, b) -> bool:
    """Whether inputs can still come on a later day: a supplier is not bankrupt, or supplies are exogenous."""
    if view.level[b] == 0:
        return True
    for k in range(view.exists.shape[1]):
        if view.exists[b, k] and view.is_buy[b, k] and not view.partner_bankrupt[b, k]:
            return True
    return False


@njit(cache=True)
def usable_today(view, b) -> int:
    """Items that can be made into products today with what is signed: inputs, money and the simulator's own test."""
    _, usable, _, _ = pay_inputs(
        view.lot_quantity[b],
        view.lot_price[b],
        view.n_lots[b],
        view.stock[b] + view.exogenous_in[b],
        view.exogenous_in_cost[b],
        view.balance[b],
        view.unit_cost[b],
    )
    return usable


@njit(cache=True)
def write_sale_rooms(view, b, shield, hoped, reserved, rooms) -> None:
    """Largest sale for each lead time; may be negative (feasible), never beyond n_lines.

    Args:
        shield: FEASIBLE or COVERED.
        hoped: items that today's buy threads can still bring (FEASIBLE only).
        reserved: int64 (L,), items of other sales that may come true.
        rooms: int64 (L,), written.
    """
    lines = view.n_lines[b]
    n_leads = rooms.shape[0]
    sales = view.signed_out[b]
    perishable = view.perishable[b] == 1
    there = view.stock[b] + view.exogenous_in[b] + view.signed_in[b, 0]
    if shield == FEASIBLE:
        for d in range(n_leads):
            rooms[d] = lines - sales[d] - reserved[d]
        rooms[0] = min(lines, there + hoped) - sales[0] - reserved[0] - view.exogenous_out[b]
        if not is_supplied(view, b):
            for d in range(n_leads):
                while rooms[d] > 0 and strands(view, b, d, rooms[d], reserved, hoped):
                    rooms[d] -= 1
        return
    if view.conserving[b] == 1 and not perishable:
        net = view.stock[b] + view.exogenous_in[b] - view.exogenous_out[b]
        for d in range(n_leads):
            net += view.signed_in[b, d] - sales[d] - reserved[d]
            rooms[d] = net
        least = rooms[n_leads - 1]
        for d in range(n_leads - 1, -1, -1):
            least = min(least, rooms[d])
            forced = view.exogenous_out[b] if d == 0 else 0
            rooms[d] = max(0, min(lines - sales[d] - reserved[d] - forced, least))
    else:
        carried = view.stock[b]
        for d in range(n_leads):
            arrives = view.signed_in[b, d] + (view.exogenous_in[b] if d == 0 else 0)
            forced = view.exogenous_out[b] if d == 0 else 0
            rooms[d] = max(0, min(lines, carried + arrives) - sales[d] - reserved[d] - forced)
            carried = 0 if perishable else carried + max(0, arrives - lines)
    affordable = min(lines, usable_today(view, b)) - sales[0] - reserved[0] - view.exogenous_out[b]
    rooms[0] = max(0, min(rooms[0], affordable))


@njit(cache=True)
def strands(view, b, lead, quantity, reserved, hoped) -> bool:
    """Whether a sale makes a shortfall certain for a factory that nobody can supply after today.

    Two worlds run side by side, with what is signed and with the reserved sales and this one as well; nothing else is
    sold. `hoped` items may still come today.
    """
    lines = view.n_lines[b]
    conserving, perishable = view.conserving[b] == 1, view.perishable[b] == 1
    stock = stock_with = view.stock[b]
    for d in range(view.signed_in.shape[1]):
        arrives = view.signed_in[b, d]
        due = view.signed_out[b, d]
        if d == 0:
            arrives += view.exogenous_in[b] + hoped
            due += view.exogenous_out[b]
        due_with = due + reserved[d] + (quantity if d == lead else 0)
        made = min(lines, stock + arrives, due)
        made_with = min(lines, stock_with + arrives, due_with)
        if due_with - made_with > due - made:
            return True
        if perishable:
            stock = stock_with = 0
        elif conserving:
            stock += arrives - made
            stock_with += arrives - made_with
        else:
            stock += max(0, arrives - made)
            stock_with += max(0, arrives - made_with)
    return False


@njit(cache=True)
def write_budgets(view, b, shield, reserved, budgets) -> None:
    """Largest quantity * price of one more purchase for each lead time, dollars; may be negative.

    FEASIBLE: beyond it the payment cannot be met even if every line sells at the agenda's best price until then (today's
    money has its own exact test). COVERED: all signed and reserved payments, and production on the days that have any,
    are met without any further revenue; every day before costs a full day's production and the storage of what is there.

    Args:
        shield: FEASIBLE or COVERED.
        reserved: int64 (L,), dollars of other purchases that may come true, by lead time.
        budgets: int64 (L,), written.
    """
    n_leads = budgets.shape[0]
    if shield == FEASIBLE and view.level[b] == view.n_levels[b] - 1:
        for d in range(n_leads):
            budgets[d] = NO_LIMIT
        return
    money = view.balance[b] - view.exogenous_in_cost[b]
    if shield == FEASIBLE:
        best = float(view.price_high[b, 1])
        growth = max(1.0, (best + 1.0) / view.trading_price[b, 1]) if view.trading_price[b, 1] > 0 else 1.0
        for d in range(n_leads):
            money -= view.signed_cost[b, d] + reserved[d]
            budgets[d] = clip_money(money)
            money += view.n_lines[b] * best + view.signed_revenue[b, d]
            best *= growth
        tight = NO_LIMIT
        for d in range(n_leads - 1, -1, -1):
            own = budgets[d]
            budgets[d] = min(tight, own if d > 0 else NO_LIMIT)
            if reserved[d] > 0 and d > 0:
                tight = min(tight, own)
        return
    perishable = view.perishable[b] == 1
    keep = view.trading_price[b, 0] * (view.storage_rate[b] + view.disposal_rate[b])
    keep_share = keep / max(1, view.price_low[b, 0])  # storage of a day for each dollar's worth of inputs
    production = float(view.n_lines[b] * view.unit_cost[b])
    held = view.stock[b] + view.exogenous_in[b]
    ordered = 0  # dollars of reserved purchases that have arrived
    for d in range(n_leads):
        money -= view.signed_cost[b, d] + reserved[d]
        budgets[d] = clip_money(money - (production if d > 0 else 0.0))
        ordered += reserved[d]
        held += view.signed_in[b, d]
        money -= production + keep * held + keep_share * ordered
        if perishable:
            held, ordered = 0, 0
    tight = NO_LIMIT
    tight_lead = 0
    for d in range(n_leads - 1, -1, -1):
        own = budgets[d]
        if tight_lead > 0:
            # what is bought now is stored until the tight day: its price weighs more by that share
            budgets[d] = min(own, clip_money(tight / (1.0 + keep_share * (tight_lead - d))) if tight > 0 else tight)
        if d > 0 and (view.signed_cost[b, d] > 0 or view.signed_out[b, d] > 0 or reserved[d] > 0):
            tight_lead = max(tight_lead, d)
            tight = min(tight, own)


@njit(cache=True)
def clip_money(dollars) -> int:
    """Whole dollars, rounded down and kept inside an int32."""
    if dollars >= NO_LIMIT:
        return NO_LIMIT
    if dollars <= -NO_LIMIT:
        return -NO_LIMIT
    return int(math.floor(dollars))


@njit(cache=True)
def write_useful(view, b, rooms) -> None:
    """Largest purchase for each lead time of which no item is certain waste (never a safety matter)."""
    lines = view.n_lines[b]
    n_leads = rooms.shape[0]
    left = view.n_days[b] - view.day[b]  # days to go, today included
    if view.perishable[b] == 1:
        for d in range(n_leads):
            there = view.signed_in[b, d] + (view.exogenous_in[b] + view.stock[b] if d == 0 else 0)
            rooms[d] = max(0, lines - there)
    elif view.conserving[b] == 1:
        after = 0
        for d in range(n_leads):
            after += view.signed_in[b, d]
        after += view.stock[b] + view.exogenous_in[b]
        least = NO_LIMIT
        for d in range(n_leads):
            least = min(least, lines * (left - d) - after)
            rooms[d] = max(0, least)
            after -= view.signed_in[b, d] + (view.stock[b] + view.exogenous_in[b] if d == 0 else 0)
    else:
        stock = view.stock[b]
        for d in range(n_leads):
            arrives = view.signed_in[b, d] + (view.exogenous_in[b] if d == 0 else 0)
            wanted = lines if d == left - 1 else 2 * lines  # today's lines, and lines in stock for ever
            rooms[d] = 0 if stock >= lines else max(0, wanted - stock - arrives)
            stock += max(0, arrives - lines)


@njit(cache=True)
def allows_today(view, b, price, quantity, sold) -> bool:
    """Whether the money of today allows one more lot for today: SCML's own test, before and after.

    Forbidden is what turns enough money into too little, or lowers the number of items that can be produced for the
    `sold` ones.
    """
    n_lots = view.n_lots[b]
    pool = view.stock[b] + view.exogenous_in[b]
    pool_cost, balance, unit_cost = view.exogenous_in_cost[b], view.balance[b], view.unit_cost[b]
    _, usable, _, enough = pay_inputs(view.lot_quantity[b], view.lot_price[b], n_lots, pool, pool_cost, balance, unit_cost)
    quantities, prices = np.empty(n_lots + 1, np.int64), np.empty(n_lots + 1, np.int64)
    quantities[:n_lots] = view.lot_quantity[b, :n_lots]
    prices[:n_lots] = view.lot_price[b, :n_lots]
    quantities[n_lots], prices[n_lots] = quantity, price
    _, usable_then, _, enough_then = pay_inputs(quantities, prices, n_lots + 1, pool, pool_cost, balance, unit_cost)
    if enough and not enough_then:
        return False
    limit = min(view.n_lines[b], sold)
    return min(usable_then, limit) >= min(usable, limit)


@njit(cache=True)
def cap_today(view, b, price, sold) -> int:
    """Largest purchase for today at `price` such that it and every smaller one passes `allows_today`."""
    quantity = 0
    while quantity < view.max_quantity[b] and allows_today(view, b, price, quantity + 1, sold):
        quantity += 1
    return quantity
