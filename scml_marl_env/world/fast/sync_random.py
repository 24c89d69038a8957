"""Twin of scml's SyncRandomStdAgent: today's needs are spread at random over 85 % of its partners, and the rest of them
is asked for one future day.

Lists by slot and by lead time live in rows of `State.scratch`. As in the original, partners whose negotiation of today
is over still get a part of first proposals, and at most one future day is asked for: its loop over days takes everybody
out of the list of free partners after the first. Prices that are no whole numbers end a negotiation (NO_PRICE).
"""

from scml_marl_env.kernels import inlined, lean
from scml_marl_env.world.fast.account import (
    due,
    is_first,
    is_last,
    is_middle,
    last_day,
    needed_sales,
    needed_supplies,
    partners,
)
from scml_marl_env.world.fast.chance import shuffle, uniform
from scml_marl_env.world.fast.columns import (
    ACCEPT,
    COLLECTED,
    DAY,
    DUE_IN,
    DUE_OUT,
    END,
    EXO_IN,
    EXO_OUT,
    FIRST,
    HIGH,
    HORIZON,
    LEVEL,
    LINES,
    LOW,
    N_DAYS,
    N_ROUNDS,
    N_SUPPLIERS,
    OFFER,
    OFFER_DAY,
    OFFER_PRICE,
    OFFER_QUANTITY,
    PRICE,
    QUANTITY,
    QUANTITY_HIGH,
    RESPONSE,
    ROW,
    RUNNING,
    SIDE,
    SIDE_SIZE,
    STEP,
    STOCK,
    TIME,
    State,
    Tables,
)
from scml_marl_env.world.fast.distribute import distribute

# Columns of `State.agent`. Exponents are kept there so that no compiler replaces a power by a product.
TODAY_EXPONENT = 0
FUTURE_EXPONENT = 1
SHARE_TODAY = 1.0 - 0.15  # of the partners, for today's needs
PRODUCTIVITY = 0.3  # of the lines that a middle factory counts on
MIN_MARGIN = 0.25  # of the price range, beyond which future deals do not go
CONCENTRATION_TODAY, CONCENTRATION_FUTURE = 0.25, 0.75
NO_PRICE = -1  # stands for a price with a fraction: both are outside every agenda
# Rows of `State.scratch`; the first five go by slot, the rest are lists.
QUANTITIES, DAYS, PRICES, STATUS, PARTS, PARTNERS, SIDE_PARTNERS, SUPPLIES, SALES, LEADS = range(10)
LEFT_SUPPLIES, LEFT_SALES = 10, 11  # the same while offers are accepted
ABSENT, OPEN, ACCEPTED = range(3)  # values of STATUS
UNNEEDED = -1  # in SUPPLIES and SALES: a day of which nothing is needed


@lean
def begin_sync_random(s: State, e: int, f: int) -> None:
    """Sets the agent's parameters; it draws none."""
    s.agent[e, f, TODAY_EXPONENT], s.agent[e, f, FUTURE_EXPONENT] = 2.0, 4.0


@inlined
def _buy_price(part: float, low: float, high: float) -> float:
    """`buy_price`: rises from `low` to `high` with `part`, a power of the time, from 0 to 1."""
    return max(low, min(high, float(int(low + (high - low) * part + 0.5))))


@inlined
def _sell_price(part: float, low: float, high: float, today: bool) -> float:
    """`sell_price`: falls from `high` with `part`, to `low` today and to a margin above it for a future day."""
    if not today:
        low = low + MIN_MARGIN * (high - low)
    return max(low, min(high, float(int(0.5 + high - (high - low) * part))))


@inlined
def _whole_price(price: float) -> int:
    """The price of an offer, NO_PRICE where it has a fraction."""
    return int(price) if price == int(price) else NO_PRICE


@inlined
def _price_range(t: Tables, s: State, e: int, f: int, sells: bool) -> tuple[int, int]:
    """Prices at which a deal leaves a margin between inputs and outputs of today; low > high if there are none."""
    level = t.factory[s.world[e, ROW], f, LEVEL]
    inputs, outputs = s.agenda[e, level], s.agenda[e, level + 1]
    if sells:
        return max(outputs[LOW], inputs[HIGH]), outputs[HIGH]
    return inputs[LOW], min(inputs[HIGH], outputs[LOW])


@lean
def _future_needs(t: Tables, s: State, e: int, f: int) -> int:
    """`estimate_future_needs`: writes what is needed into SUPPLIES and SALES, by lead time, and returns the largest."""
    w, today = s.world[e, ROW], s.world[e, DAY]
    n_days, factory, ring = t.world[w, N_DAYS], s.factory[e, f], s.scratch.shape[2]
    first, last = is_first(t, s, e, f), is_last(t, s, e, f)
    end = min(t.world[w, HORIZON], n_days - 1) if first else last_day(t, s, e)  # of raw material: the agenda of day 0
    supplies, sales = s.scratch[e, SUPPLIES], s.scratch[e, SALES]
    for lead in range(ring):
        supplies[lead] = sales[lead] = UNNEEDED
    bought = due(t, s, e, f, DUE_IN, today) + factory[STOCK]
    sold = 0
    for day in range(today + 1, last_day(t, s, e) + 1):
        sold += due(t, s, e, f, DUE_OUT, day)
    for day in range(today + 1, end + 1):
        bought += due(t, s, e, f, DUE_IN, day)
        secured_supplies = bought + (factory[EXO_IN] * (day - today) if first else 0)
        secured_sales = sold + (factory[EXO_OUT] * (n_days - day) if last else 0)
        sold -= due(t, s, e, f, DUE_OUT, day)
        surplus = max(PRODUCTIVITY * (day - today), float(secured_supplies)) - max(
            PRODUCTIVITY * (n_days - day), float(secured_sales)
        )
        if surplus < 0 and not first:
            supplies[day - today] = int(-surplus)
        if surplus > 0 and not last:
            sales[day - today] = int(surplus)
    return max(0, end - today)


@inlined
def _spread_today(t: Tables, s: State, e: int, f: int, n: int) -> None:
    """`distribute_todays_needs` over the slots PARTNERS[:n]: writes QUANTITIES of those slots."""
    w = s.world[e, ROW]
    quantities, parts = s.scratch[e, QUANTITIES], s.scratch[e, PARTS]
    chosen, active = s.scratch[e, PARTNERS], s.scratch[e, SIDE_PARTNERS]
    shuffle(s, e, f, chosen, n)
    for j in range(n):
        quantities[chosen[j]] = 0
    n = min(n, max(1, int(SHARE_TODAY * n)))
    n_suppliers = t.factory[w, f, N_SUPPLIERS]
    for sells in range(2):
        needs = needed_sales(t, s, e, f) if sells else needed_supplies(t, s, e, f)
        if is_middle(t, s, e, f):
            needs = t.factory[w, f, LINES]
        n_active = 0
        for j in range(n):
            if (chosen[j] >= n_suppliers) == sells:
                active[n_active] = chosen[j]
                n_active += 1
        if n_active == 0 or needs < 1:
            continue
        shuffle(s, e, f, active, n_active)
        concentrated, equal = uniform(s, e, f) < CONCENTRATION_TODAY, uniform(s, e, f) > 0.5
        distribute(s.random[e], f, parts, needs, n_active, t.world[w, QUANTITY_HIGH], concentrated, equal, True)
        for j in range(n_active):
            quantities[active[j]] = parts[j]


@inlined
def _spread_future(t: Tables, s: State, e: int, f: int, horizon: int) -> None:
    """`distribute_future_offers` over the OPEN slots without a quantity: writes their QUANTITIES, DAYS and PRICES.

    `horizon` is what `_future_needs` returned, -1 where it has not been asked since the last contract.
    """
    w, today, n_slots = s.world[e, ROW], s.world[e, DAY], t.slot.shape[2]
    quantities, days, prices = s.scratch[e, QUANTITIES], s.scratch[e, DAYS], s.scratch[e, PRICES]
    status, parts, free, leads = s.scratch[e, STATUS], s.scratch[e, PARTS], s.scratch[e, PARTNERS], s.scratch[e, LEADS]
    n_suppliers, n_consumers, n_free = t.factory[w, f, N_SUPPLIERS], 0, 0
    for k in range(n_slots):
        if status[k] == OPEN and quantities[k] <= 0:
            free[n_free] = k
            n_free += 1
            n_consumers += k >= n_suppliers
    if n_free == 0:
        return
    if horizon < 0:
        horizon = _future_needs(t, s, e, f)
    first_buy, first_sell = UNNEEDED, UNNEEDED
    for sells in range(2):
        needs, n = s.scratch[e, SALES] if sells else s.scratch[e, SUPPLIES], 0
        for lead in range(1, horizon + 1):
            if needs[lead] != UNNEEDED:
                leads[n] = lead
                n += 1
        shuffle(s, e, f, leads, n)
        if n > 0 and sells:
            first_sell = leads[0]
        elif n > 0:
            first_buy = leads[0]
    n_left = max(t.world[w, N_DAYS] - today, 1)
    exponent = s.agent[e, f, FUTURE_EXPONENT]
    for sells in range(2):
        lead = first_sell if sells else first_buy
        start = n_free - n_consumers if sells else 0
        n = n_consumers if sells else n_free - n_consumers
        low, high = _price_range(t, s, e, f, sells == 1)
        if lead == UNNEEDED or n == 0 or low > high:
            continue
        need = s.scratch[e, SALES, lead] if sells else s.scratch[e, SUPPLIES, lead]
        concentrated, equal = uniform(s, e, f) < CONCENTRATION_FUTURE, uniform(s, e, f) > 0.5
        distribute(s.random[e], f, parts, need, n, t.world[w, QUANTITY_HIGH], concentrated, equal, False)
        part = (1 - max(0.0, min(1.0, lead / n_left))) ** exponent
        if sells:
            price = _whole_price(_sell_price(part, float(low), float(high), False))
        else:
            price = _whole_price(_buy_price(part, float(low), float(high)))
        for j in range(n):
            k = free[start + j]
            quantities[k], days[k], prices[k] = parts[j], today + lead, price


@inlined
def _accept(t: Tables, s: State, e: int, f: int) -> int:
    """The first half of `counter_all`: marks as ACCEPTED what is needed and has a good price. Returns `_future_needs`.

    Offers are looked at in the order in which they were collected, that of their numbers in COLLECTED. A need counts
    down only with what is accepted for its own day, so that needs of different days may be the same items.
    """
    w, today = s.world[e, ROW], s.world[e, DAY]
    horizon = _future_needs(t, s, e, f)
    supplies, sales, status = s.scratch[e, LEFT_SUPPLIES], s.scratch[e, LEFT_SALES], s.scratch[e, STATUS]
    for lead in range(supplies.shape[0]):
        supplies[lead], sales[lead] = s.scratch[e, SUPPLIES, lead], s.scratch[e, SALES, lead]
    supplies[0], sales[0] = needed_supplies(t, s, e, f), needed_sales(t, s, e, f)
    if is_middle(t, s, e, f):
        least = int(t.factory[w, f, LINES] * PRODUCTIVITY)
        supplies[0], sales[0] = max(supplies[0], least), max(sales[0], least)
    n_suppliers, n_left = t.factory[w, f, N_SUPPLIERS], max(t.world[w, N_DAYS] - today, 1)
    listed, number, n = s.scratch[e, PARTNERS], s.scratch[e, PARTS], 0
    for k in range(t.slot.shape[2]):
        if status[k] == OPEN:
            i, j = t.slot[w, f, k], n
            collected = s.thread[e, i, (SIDE if t.thread[w, i, FIRST] == f else SIDE + SIDE_SIZE) + COLLECTED]
            while j > 0 and number[j - 1] > collected:
                listed[j], number[j] = listed[j - 1], number[j - 1]
                j -= 1
            listed[j], number[j] = k, collected
            n += 1
    for j in range(n):
        k = listed[j]
        sells = k >= n_suppliers
        low, high = _price_range(t, s, e, f, sells)
        if low > high:
            continue
        row, needs = s.thread[e, t.slot[w, f, k]], sales if sells else supplies
        quantity, lead, price = row[OFFER_QUANTITY], row[OFFER_DAY] - today, row[OFFER_PRICE]
        if not 0 < quantity < needs[lead]:
            continue
        exponent = s.agent[e, f, FUTURE_EXPONENT if lead else TODAY_EXPONENT]
        time = lead / n_left if lead else (row[STEP] + 1) / (t.world[w, N_ROUNDS] + 1)
        if sells:
            good = price + 0.0001 >= _sell_price(time**exponent, float(low), float(high), lead == 0)
        else:
            most = high - MIN_MARGIN * (high - low) if lead else float(high)
            good = price - 0.0001 <= _buy_price(time**exponent, float(low), most)
        if good:
            status[k] = ACCEPTED
            needs[lead] -= quantity
    return horizon


@inlined
def _write(t: Tables, s: State, e: int, f: int) -> None:
    """Writes the answers of all its running threads: ACCEPT, OFFER where it has a quantity, END."""
    w = s.world[e, ROW]
    for k in range(t.slot.shape[2]):
        i = t.slot[w, f, k]
        if i < 0 or not s.thread[e, i, RUNNING]:
            continue
        block = s.thread[e, i, (SIDE if t.thread[w, i, FIRST] == f else SIDE + SIDE_SIZE) :]
        status, quantity = s.scratch[e, STATUS, k], s.scratch[e, QUANTITIES, k]
        if status == ACCEPTED:
            block[RESPONSE] = ACCEPT
        elif status == OPEN and quantity > 0:
            block[RESPONSE] = OFFER
            block[QUANTITY], block[TIME], block[PRICE] = quantity, s.scratch[e, DAYS, k], s.scratch[e, PRICES, k]
        else:
            block[RESPONSE] = END


@inlined
def first_sync_random(t: Tables, s: State, e: int, f: int) -> None:
    """`first_proposals`, with an answer for every running thread."""
    w, level = s.world[e, ROW], t.factory[s.world[e, ROW], f, LEVEL]
    status, listed = s.scratch[e, STATUS], s.scratch[e, PARTNERS]
    for k in range(t.slot.shape[2]):
        status[k], s.scratch[e, QUANTITIES, k] = ABSENT, 0
    n = partners(t, s, e, f, listed)
    for j in range(n):
        k = listed[j]
        status[k] = OPEN
        buys = k < t.factory[w, f, N_SUPPLIERS]
        s.scratch[e, PRICES, k] = s.agenda[e, level, LOW] if buys else s.agenda[e, level + 1, HIGH]
        s.scratch[e, DAYS, k] = s.world[e, DAY]
    _spread_today(t, s, e, f, n)
    _spread_future(t, s, e, f, -1)
    _write(t, s, e, f)


@inlined
def counter_sync_random(t: Tables, s: State, e: int, f: int) -> None:
    """`counter_all` for the collected offers, with an answer for every running thread."""
    w, level = s.world[e, ROW], t.factory[s.world[e, ROW], f, LEVEL]
    n_slots, n_suppliers, n = t.slot.shape[2], t.factory[w, f, N_SUPPLIERS], 0
    status, listed = s.scratch[e, STATUS], s.scratch[e, PARTNERS]
    for k in range(n_slots):
        i = t.slot[w, f, k]
        status[k], s.scratch[e, QUANTITIES, k] = ABSENT, 0
        if i >= 0 and s.thread[e, i, RUNNING]:
            own = SIDE if t.thread[w, i, FIRST] == f else SIDE + SIDE_SIZE
            status[k] = OPEN if s.thread[e, i, own + COLLECTED] else ABSENT
    horizon = _accept(t, s, e, f)
    for k in range(n_slots):
        if status[k] == OPEN:
            listed[n] = k
            n += 1
    _spread_today(t, s, e, f, n)
    known, part = -1, 0.0  # the threads are mostly in the same round: one power is enough
    for k in range(n_slots):
        if status[k] == OPEN and s.scratch[e, QUANTITIES, k] > 0:
            step = s.thread[e, t.slot[w, f, k], STEP]
            if step != known:
                known, part = step, ((step + 1) / (t.world[w, N_ROUNDS] + 1)) ** s.agent[e, f, FUTURE_EXPONENT]
            agenda = s.agenda[e, level + (k >= n_suppliers)]
            if k < n_suppliers:
                price = _buy_price(part, float(agenda[LOW]), float(agenda[HIGH]))
            else:
                price = _sell_price(part, float(agenda[LOW]), float(agenda[HIGH]), False)
            s.scratch[e, PRICES, k], s.scratch[e, DAYS, k] = _whole_price(price), s.world[e, DAY]
    _spread_future(t, s, e, f, horizon)
    _write(t, s, e, f)
