"""L1's arithmetic: how much a factory may still sell (rooms) and spend (budgets, today's lots). SAFETY.md, section 1.

Everything works on top of reservations: what the other answers of a window, and offers still pending, may cause.
Without reservations it is the limit of a single answer. A reservation only ever lowers a limit, and all sums are of
integers, so answers that fit together fit in any order and in any part.
"""

import math
from typing import NamedTuple

import numpy as np

from scml_marl_env.kernels import kernel
from scml_marl_env.layers.l1_factory import COST, IN, OUT, REVENUE, Factory
from scml_marl_env.world.rules import order_lots, pay_inputs

OFF, FEASIBLE, COVERED = 0, 1, 2
NO_LIMIT = 1 << 30
SHARES = 1024  # storage is charged on a dollar's worth of inputs in whole 1/1024 dollars, so that sums stay exact


@kernel
def inputs_today(f: Factory, shield: int, hoped: int) -> int:
    """Items that production can count on today.

    FEASIBLE: what is there and what the buy threads can still bring. COVERED: what is there and affordable.
    """
    there = f.stock + f.forced_in + f.signed[IN, 0]
    if shield == FEASIBLE:
        return there + hoped
    _, usable, _, _ = pay_inputs(
        f.lot_quantity, f.lot_price, f.n_lots, f.stock + f.forced_in, f.forced_in_cost, f.balance, f.unit_cost
    )
    return min(there, usable)


@kernel
def write_sale_rooms(f: Factory, shield: int, inputs: int, reserved: np.ndarray, rooms: np.ndarray) -> None:
    """Largest further sale for each lead time, never beyond n_lines; below 0 where too much is sold (FEASIBLE only).

    Args:
        f: the factory.
        shield: FEASIBLE or COVERED.
        inputs: of `inputs_today`.
        reserved: int64 (L,), items of other sales that may come true.
        rooms: int64 (L,), written.
    """
    n_leads = rooms.shape[0]
    if shield == FEASIBLE:
        for d in range(n_leads):
            rooms[d] = f.lines - f.signed[OUT, d] - reserved[d]
    elif f.conserving:
        net = f.stock + f.forced_in - f.forced_out
        for d in range(n_leads):
            net += f.signed[IN, d] - f.signed[OUT, d] - reserved[d]
            rooms[d] = net
        least = NO_LIMIT
        for d in range(n_leads - 1, -1, -1):
            least = min(least, rooms[d])
            rooms[d] = max(0, min(f.lines - f.signed[OUT, d] - reserved[d], least))
    else:
        carried = f.stock
        for d in range(n_leads):
            arrives = f.signed[IN, d] + (f.forced_in if d == 0 else 0)
            rooms[d] = max(0, min(f.lines, carried + arrives) - f.signed[OUT, d] - reserved[d])
            carried = 0 if f.perishable else carried + max(0, arrives - f.lines)
    today = min(f.lines, inputs) - f.signed[OUT, 0] - reserved[0] - f.forced_out
    rooms[0] = min(rooms[0], today if shield == FEASIBLE else max(0, today))
    if shield == FEASIBLE and not f.supplied:
        for d in range(n_leads):
            while rooms[d] > 0 and strands(f, d, rooms[d], inputs, reserved):
                rooms[d] -= 1


@kernel
def strands(f: Factory, lead: int, quantity: int, inputs: int, reserved: np.ndarray) -> bool:
    """Whether a sale makes a shortfall certain for a factory that nobody can supply after today.

    Two worlds run side by side, without and with the reserved sales and this one; nothing else is sold in either.
    """
    stock = stock_with = f.stock
    for d in range(f.signed.shape[1]):
        arrives = f.signed[IN, d] if d > 0 else inputs - f.stock
        due = f.signed[OUT, d] + (f.forced_out if d == 0 else 0)
        due_with = due + reserved[d] + (quantity if d == lead else 0)
        made, made_with = min(f.lines, stock + arrives, due), min(f.lines, stock_with + arrives, due_with)
        if due_with - made_with > due - made:
            return True
        if f.perishable:
            stock, stock_with = 0, 0
        elif f.conserving:
            stock, stock_with = stock + arrives - made, stock_with + arrives - made_with
        else:
            stock, stock_with = stock + max(0, arrives - made), stock_with + max(0, arrives - made_with)
    return False


class Money(NamedTuple):
    """What can be spent on purchases, signed ones deducted.

    Attributes:
        left: int64 (L,), dollars that the purchases due until each lead time may cost together.
        due: bool (L,), days on which something is to be paid or produced already (COVERED), all False (FEASIBLE).
        storage: shares (1/1024) of its price that an input costs for each day in stock; 0 for FEASIBLE.
    """

    left: np.ndarray
    due: np.ndarray
    storage: int


@kernel
def money_of(f: Factory, shield: int) -> Money:
    """The money rule of a grade.

    FEASIBLE: more than this cannot be there, even if every line sells at the best price until the day (the agenda's
    best grows with the trading price, at most by its own margin a day; what is signed earns its price besides). The
    last level has no limit, since its exogenous prices have none. Today has its own, exact test.
    COVERED: this much is there without any further revenue: every earlier day costs a full day's production and the
    storage of all that is there by then, and the day itself a full day's production (today excepted: exact test).
    """
    n_leads = f.signed.shape[1]
    left, due = np.full(n_leads, NO_LIMIT, np.int64), np.zeros(n_leads, np.bool_)
    if shield == OFF or (shield == FEASIBLE and f.last_level):
        return Money(left, due, 0)
    money = f.balance - f.forced_in_cost
    if shield == FEASIBLE:
        best = float(f.price_high[1])
        for d in range(n_leads):
            money -= f.signed[COST, d]
            if d > 0:
                left[d] = whole(money)
            money += f.lines * best + f.signed[REVENUE, d]
            best *= f.price_growth
        return Money(left, due, 0)
    production = float(f.lines * f.unit_cost)
    held = f.stock + f.forced_in
    for d in range(n_leads):
        money -= f.signed[COST, d]
        left[d] = whole(money - (production if d > 0 else 0.0))
        due[d] = d > 0 and f.signed[COST, d] + f.signed[OUT, d] > 0
        held += f.signed[IN, d]
        money -= production + f.keep * held
        if f.perishable:
            held = 0
    return Money(left, due, math.ceil(f.keep * SHARES / max(1, f.price_low[0])))


@kernel
def write_budgets(money: Money, reserved: np.ndarray, budgets: np.ndarray) -> None:
    """Largest quantity * price of one more purchase for each lead time, dollars; 0 or below where there is none.

    It must leave enough for its own day and for every later day that has something to pay; until then it costs storage.

    Args:
        money: of `money_of`.
        reserved: int64 (L,), dollars of other purchases that may come true, by lead time.
        budgets: int64 (L,), written.
    """
    n_leads = budgets.shape[0]
    budgets[:] = NO_LIMIT
    spent, stored = 0, 0  # dollars of the reserved purchases due by k, and their storage so far in shares
    for k in range(n_leads):
        stored += spent * money.storage
        spent += reserved[k]
        if money.left[k] >= NO_LIMIT:
            continue
        left = SHARES * (money.left[k] - spent) - stored
        budgets[k] = min(budgets[k], left // SHARES)
        if money.due[k] or reserved[k] > 0:
            for d in range(k):
                budgets[d] = min(budgets[d], left // (SHARES + money.storage * (k - d)))


@kernel
def whole(dollars: float) -> int:
    """Whole dollars, rounded down and kept inside an int32."""
    return math.floor(min(max(dollars, -NO_LIMIT), NO_LIMIT))


@kernel
def write_useful(f: Factory, rooms: np.ndarray) -> None:
    """Largest purchase for each lead time of which no item is certain waste (never a matter of safety)."""
    n_leads = rooms.shape[0]
    if f.conserving:
        after = f.stock + f.forced_in + f.signed[IN].sum()  # all that is to be processed from day d on
        least = NO_LIMIT
        for d in range(n_leads):
            least = min(least, f.lines * (f.days_left - d) - after)
            rooms[d] = max(0, least)
            after -= f.signed[IN, d] + (f.stock + f.forced_in if d == 0 else 0)
        return
    stock = f.stock
    for d in range(n_leads):
        arrives = f.signed[IN, d] + (f.forced_in if d == 0 else 0)
        keeps = not f.perishable and d < f.days_left - 1  # the lines of a day, and a stock of as much for ever
        wanted = 2 * f.lines if keeps else f.lines
        rooms[d] = 0 if stock >= f.lines else max(0, wanted - stock - arrives)
        stock = 0 if f.perishable else stock + max(0, arrives - f.lines)


@kernel
def allows_today(f: Factory, price: int, quantity: int, sold: int) -> bool:
    """Whether today's money allows one more lot for today: SCML's own test, before and after.

    Forbidden is what turns enough money into too little, or lowers the number of items that can be produced for the
    `sold` ones. Nothing later today can undo it, since the balance of its start pays for all of the day.
    """
    n_lots, pool = f.n_lots, f.stock + f.forced_in
    _, usable, _, enough = pay_inputs(
        f.lot_quantity, f.lot_price, n_lots, pool, f.forced_in_cost, f.balance, f.unit_cost
    )
    quantities, prices = np.empty(n_lots + 1, np.int64), np.empty(n_lots + 1, np.int64)
    quantities[:n_lots], prices[:n_lots] = f.lot_quantity[:n_lots], f.lot_price[:n_lots]
    quantities[n_lots], prices[n_lots] = quantity, price
    _, usable_then, _, enough_then = pay_inputs(
        quantities, prices, n_lots + 1, pool, f.forced_in_cost, f.balance, f.unit_cost
    )
    if enough and not enough_then:
        return False
    limit = min(f.lines, sold)
    return min(usable_then, limit) >= min(usable, limit)


@kernel
def write_caps_today(f: Factory, prices: np.ndarray, sold: int, caps: np.ndarray) -> None:
    """Largest purchase for today at each price such that it and every smaller one passes `allows_today`.

    While the money is enough, and free stock comes first among the lots, one walk from the dearest lot to the cheapest
    gives all of them: a lot of q at p needs (p + c) * q beside the lots up to p, and p * q more before each dearer one.

    Args:
        f: the factory.
        prices: int64 (P,), ascending.
        sold: items sold for today.
        caps: int64 (P,), written, at most `max_quantity`.
    """
    caps[:] = f.max_quantity
    money, cost = whole(f.balance), f.unit_cost
    pool = f.stock + f.forced_in
    if money < 0 or (f.forced_in_cost == 0 and pool * cost > money):
        return  # the test stops before any purchase: one more changes nothing
    order = order_lots(f.lot_price, f.n_lots, True)
    paid, broken_at = 0, NO_LIMIT
    for i in order:
        lot = f.lot_quantity[i] * f.lot_price[i]
        if paid + lot + f.lot_quantity[i] * cost > money:
            broken_at = min(broken_at, f.lot_price[i])
        paid += lot
    if f.forced_in_cost > 0 or broken_at < NO_LIMIT:
        for level in range(prices.shape[0]):
            if f.forced_in_cost > 0 or prices[level] < broken_at:
                quantity = 0
                while quantity < f.max_quantity and allows_today(f, prices[level], quantity + 1, sold):
                    quantity += 1
                caps[level] = quantity
        return
    i, slack = f.n_lots - 1, NO_LIMIT
    for level in range(prices.shape[0] - 1, -1, -1):
        price = prices[level]
        while i >= 0 and f.lot_price[order[i]] > price:
            lot = f.lot_quantity[order[i]]
            slack = min(slack, money - paid - cost * lot)
            paid -= lot * f.lot_price[order[i]]
            i -= 1
        caps[level] = max(0, min(caps[level], (money - paid) // (price + cost), slack // price))
