"""L1's arithmetic: how much a factory may still sell (rooms) and spend (budgets, today's lots). SAFETY.md, section 1.

Everything works on top of reservations: what the other answers of a window, and offers still pending, may cause.
Without reservations it is the limit of a single answer. A reservation only ever lowers a limit, and all sums are of
integers, so answers that fit together fit in any order and in any part.
"""

import math
from typing import NamedTuple

import numpy as np

from scml_marl_env import actions
from scml_marl_env.kernels import inlined, lean
from scml_marl_env.layers.l1_factory import COST, DUE, IN, LEFT, OUT, REVENUE, Factory

OFF, FEASIBLE, COVERED = 0, 1, 2
NO_LIMIT = 1 << 30
SHARES = 1024  # storage is charged on a dollar's worth of inputs in whole 1/1024 dollars, so that sums stay exact


price_offset = inlined(actions.price_offset)


@inlined
def inputs_today(f: Factory, shield: int, hoped: int) -> int:
    """Items that production can count on today.

    FEASIBLE: what is there and what the buy threads can still bring. COVERED: what is there and affordable.
    """
    there = f.stock + f.forced_in + f.signed[IN, 0]
    if shield == FEASIBLE:
        return there + hoped
    usable, _ = pay_today(f, 0, 0)
    return min(there, usable)


@lean
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


@lean
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


@inlined
def sale_fits(
    f: Factory, shield: int, inputs: int, reserved: np.ndarray, lead: int, quantity: int, rooms: np.ndarray
) -> bool:
    """Whether `quantity` is within the room of its day, as `write_sale_rooms` has it; `rooms` may be overwritten."""
    if shield == FEASIBLE and f.supplied:
        room = f.lines - f.signed[OUT, lead] - reserved[lead]
        if lead == 0:
            room = min(room, min(f.lines, inputs) - f.signed[OUT, 0] - reserved[0] - f.forced_out)
        return quantity <= room
    write_sale_rooms(f, shield, inputs, reserved, rooms)
    return quantity <= rooms[lead]


class Money(NamedTuple):
    """What can be spent on purchases, signed ones deducted.

    Attributes:
        left: int64 (L,), dollars that the purchases due until each lead time may cost together.
        due: int64 (L,), 1 for days on which something is to be paid or produced already (COVERED), all 0 (FEASIBLE).
        storage: shares (1/1024) of its price that an input costs for each day in stock; 0 for FEASIBLE.
    """

    left: np.ndarray
    due: np.ndarray
    storage: int


@lean
def money_of(f: Factory, shield: int) -> Money:
    """The money rule of a grade, in the scratch rows LEFT and DUE.

    FEASIBLE: more than this cannot be there, even if every line sells at the best price until the day (the agenda's
    best grows with the trading price, at most by its own margin a day; what is signed earns its price besides). The
    last level has no limit, since its exogenous prices have none. Today has its own, exact test.
    COVERED: this much is there without any further revenue: every earlier day costs a full day's production and the
    storage of all that is there by then, and the day itself a full day's production (today excepted: exact test).
    """
    n_leads = f.signed.shape[1]
    left, due = f.leads[LEFT], f.leads[DUE]
    left[:] = NO_LIMIT
    due[:] = 0
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
        due[d] = 1 if d > 0 and f.signed[COST, d] + f.signed[OUT, d] > 0 else 0
        held += f.signed[IN, d]
        money -= production + f.keep * held
        if f.perishable:
            held = 0
    return Money(left, due, math.ceil(f.keep * SHARES / max(1, f.price_low[0])))


@lean
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
        if money.due[k] > 0 or reserved[k] > 0:
            for d in range(k):
                budgets[d] = min(budgets[d], left // (SHARES + money.storage * (k - d)))


@inlined
def purchase_fits(money: Money, reserved: np.ndarray, lead: int, dollars: int) -> bool:
    """Whether a purchase of `dollars` is within the budget of its day, as `write_budgets` has it."""
    spent, stored = 0, 0
    for k in range(reserved.shape[0]):
        stored += spent * money.storage
        spent += reserved[k]
        if k < lead or money.left[k] >= NO_LIMIT or (k > lead and money.due[k] == 0 and reserved[k] == 0):
            continue
        if dollars * (SHARES + money.storage * (k - lead)) > SHARES * (money.left[k] - spent) - stored:
            return False
    return dollars <= NO_LIMIT


@inlined
def whole(dollars: float) -> int:
    """Whole dollars, rounded down and kept inside an int32."""
    return math.floor(min(max(dollars, -NO_LIMIT), NO_LIMIT))


@lean
def write_useful(f: Factory, rooms: np.ndarray) -> None:
    """Largest purchase for each lead time of which no item is certain waste (never a matter of safety)."""
    n_leads = rooms.shape[0]
    if f.conserving:
        after = f.stock + f.forced_in  # all that is to be processed from day d on
        for d in range(n_leads):
            after += f.signed[IN, d]
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


@lean
def allows_today(f: Factory, price: int, quantity: int, sold: int) -> bool:
    """Whether today's money allows one more lot for today: SCML's own test, before and after.

    Forbidden is what turns enough money into too little, or lowers the number of items that can be produced for the
    `sold` ones. Nothing later today can undo it, since the balance of its start pays for all of the day.
    """
    if is_rich(f, price, quantity):
        return True
    usable, enough = pay_today(f, 0, 0)
    usable_then, enough_then = pay_today(f, price, quantity)
    if enough and not enough_then:
        return False
    limit = min(f.lines, sold)
    return min(usable_then, limit) >= min(usable, limit)


@inlined
def is_rich(f: Factory, price: int, quantity: int) -> bool:
    """Whether today's money pays for all lots, one more and the production of the largest: enough in whatever order."""
    pool = f.stock + f.forced_in
    paid, largest = f.forced_in_cost + price * quantity, max(pool, quantity)
    for i in range(f.n_lots):
        paid += f.lot_quantity[i] * f.lot_price[i]
        largest = max(largest, f.lot_quantity[i])
    return paid + largest * f.unit_cost + 1 <= f.balance  # a dollar for the rounding of SCML's sums


@lean
def pay_today(f: Factory, price: int, quantity: int) -> tuple[int, bool]:
    """(items that today's money allows to process, whether it is enough for all) with one more lot, last among equals.

    The walk of `world.rules.pay_inputs`, which allocates. A quantity of 0 is no lot.
    """
    if f.balance < 0:
        return 0, False
    pool = f.stock + f.forced_in
    pool_price = f.forced_in_cost / pool if pool > 0 else 0.0
    pool_done, new_done = False, quantity == 0
    items, paid = 0, 0.0
    lot = next_lot(f, -1, 1)
    for _ in range(f.n_lots + (1 if new_done else 2)):
        if lot >= 0 and (new_done or f.lot_price[lot] <= price) and (pool_done or f.lot_price[lot] <= pool_price):
            unit_price, size = float(f.lot_price[lot]), f.lot_quantity[lot]
            lot = next_lot(f, lot, 1)
        elif not new_done and (pool_done or price <= pool_price):
            unit_price, size, new_done = float(price), quantity, True
        else:
            unit_price, size, pool_done = pool_price, pool, True
        payment = unit_price * size
        if paid + payment + size * f.unit_cost > f.balance:
            return items + int((f.balance - paid) // (unit_price + f.unit_cost)), False
        paid += payment
        items += size
    return items, True


@inlined
def next_lot(f: Factory, lot: int, sign: int) -> int:
    """The lot that follows by price (then by signing), -1 behind the last; -1 stands before the first.

    Args:
        f: the factory.
        lot: where to go from.
        sign: 1 for ascending prices, -1 for the opposite order.
    """
    found = -1
    for i in range(f.n_lots):
        ahead = sign * (f.lot_price[i] - f.lot_price[lot]) if lot >= 0 else 1
        if ahead < 0 or (ahead == 0 and sign * (i - lot) <= 0):
            continue
        nearer = sign * (f.lot_price[i] - f.lot_price[found]) if found >= 0 else -1
        if nearer < 0 or (nearer == 0 and sign * (i - found) < 0):
            found = i
    return found


@lean
def write_caps_today(f: Factory, best: int, n_prices: int, n_price_levels: int, sold: int, caps: np.ndarray) -> None:
    """Largest purchase for today at each price level such that it and every smaller one passes `allows_today`.

    While the money is enough, and free stock comes first among the lots, one walk from the dearest lot to the cheapest
    gives all of them: a lot of q at p needs (p + c) * q beside the lots up to p, and p * q more before each dearer one.

    Args:
        f: the factory.
        best: dollars of level 0.
        n_prices: prices of the agenda.
        n_price_levels: P of the action grid.
        sold: items sold for today.
        caps: int (min(n_prices, P),), written, at most `max_quantity`.
    """
    caps[:] = f.max_quantity
    last = caps.shape[0] - 1
    if last < 0 or is_rich(f, best + price_offset(last, n_prices, n_price_levels), f.max_quantity):
        return
    money, cost = whole(f.balance), f.unit_cost
    pool = f.stock + f.forced_in
    if money < 0 or (f.forced_in_cost == 0 and pool * cost > money):
        return  # the test stops before any purchase: one more changes nothing
    paid, broken_at = 0, NO_LIMIT
    lot = next_lot(f, -1, 1)
    while lot >= 0:
        payment = f.lot_quantity[lot] * f.lot_price[lot]
        if paid + payment + f.lot_quantity[lot] * cost > money:
            broken_at = min(broken_at, f.lot_price[lot])
        paid += payment
        lot = next_lot(f, lot, 1)
    if f.forced_in_cost > 0 or broken_at < NO_LIMIT:
        for level in range(last + 1):
            price = best + price_offset(level, n_prices, n_price_levels)
            if f.forced_in_cost > 0 or price < broken_at:
                quantity = 0
                while quantity < f.max_quantity and allows_today(f, price, quantity + 1, sold):
                    quantity += 1
                caps[level] = quantity
        return
    slack = NO_LIMIT
    lot = next_lot(f, -1, -1)
    for level in range(last, -1, -1):
        price = best + price_offset(level, n_prices, n_price_levels)
        while lot >= 0 and f.lot_price[lot] > price:
            slack = min(slack, money - paid - cost * f.lot_quantity[lot])
            paid -= f.lot_quantity[lot] * f.lot_price[lot]
            lot = next_lot(f, lot, -1)
        caps[level] = max(0, min(f.max_quantity, (money - paid) // (price + cost), slack // price))
