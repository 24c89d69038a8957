"""A day before and after its negotiations: agendas, exogenous contracts, execution, prices, profits, bankruptcy.

Reads like SEMANTICS.md b, d and e; every float operation in SCML's order, no fastmath.
"""

import math

import numpy as np

from scml_marl_env.kernels import kernel, lean
from scml_marl_env.layers.l1_counters import attribute_shortfall
from scml_marl_env.world.fast.columns import (
    BALANCE,
    BANKRUPT,
    BANKRUPTCY_LIMIT,
    BOUGHT,
    BOUGHT_COST,
    BREACH_SUM,
    BUYER,
    CATALOG,
    CATALOG_QUANTITIES,
    CONSERVING,
    CONTRACT_NEXT,
    CONTRACT_PRICE,
    CONTRACT_QUANTITY,
    COST,
    DAY,
    DISCOUNT,
    DISPOSAL,
    DISPOSAL_COST,
    EARNED,
    EXO_FACTORY,
    EXO_FIRST,
    EXO_IN,
    EXO_IN_COST,
    EXO_LAST,
    EXO_OUT,
    EXO_OUT_REVENUE,
    EXO_PRICE,
    EXO_PRODUCT,
    EXO_QUANTITY,
    FEE_START,
    FEE_STRIDE,
    FIRST_CASH,
    HAS_PROPOSED,
    HEAD,
    HIGH,
    HORIZON,
    INITIAL_BALANCE,
    ITEMS_TRADED,
    LEDGER_BANKRUPTCY,
    LEDGER_DAYS,
    LEDGER_EXOGENOUS,
    LEDGER_MONEY,
    LEDGER_NEGOTIATED,
    LEDGER_SHORT,
    LEVEL,
    LINES,
    LOW,
    MEAN_PRICE,
    N_ALIVE,
    N_COLLECTED,
    N_FACTORIES,
    N_LISTED,
    N_PRODUCTS,
    N_THREADS,
    PENALTIES_SCALE,
    PENALTY,
    PERISHABLE,
    PRICE_FRACTION,
    PRICE_MULTIPLIER,
    PRODUCED,
    PRODUCT,
    PROFIT,
    REPORT_PERIOD,
    REPORTED_BREACH,
    REPORTED_CASH,
    ROW,
    RUNNING,
    SELLER,
    SHORT,
    SHORTFALL,
    SOLD,
    SOLD_REVENUE,
    STOCK,
    STORAGE,
    STORAGE_COST,
    TAIL,
    TODAY,
    TRADING,
    TRADING_PRICE,
    UNUSED,
    VOIDED,
    WEIGHT,
    WIDE_PRICES,
    State,
    Tables,
)
from scml_marl_env.world.rules import Fees, Plant, Trades, close_day, next_stock


@lean
def fee(t: Tables, w: int, kind: int, day: int, f: int) -> float:
    """Today's rate of DISPOSAL, STORAGE or SHORTFALL."""
    return t.fees[w, t.world[w, FEE_START + kind] + day * t.world[w, FEE_STRIDE + kind] + f]


@lean
def write_agenda(t: Tables, s: State, e: int, product: int) -> None:
    """The prices that are negotiated today for a product (SEMANTICS.md d)."""
    w = s.world[e, ROW]
    price = s.price[e, product, TRADING_PRICE]
    below = price
    if t.world[w, WIDE_PRICES]:
        below = s.price[e, product - 1, TRADING_PRICE] if product > 0 else 0.0
    fraction, multiplier = t.real[w, PRICE_FRACTION], t.real[w, PRICE_MULTIPLIER]
    if fraction > 1e-6:
        low, high = max(1, int(below * (1.0 - fraction))), int((1.0 + fraction) * price)
    elif multiplier > 1e-6:
        low, high = max(1, int(below // multiplier)), int(multiplier * price)
    else:
        top = math.ceil(price)
        low, high = max(1, top - 1), max(1, top)
    s.agenda[e, product, LOW], s.agenda[e, product, HIGH] = min(low, high), max(low, high)


@lean
def start_prices(t: Tables, s: State, e: int) -> None:
    """Catalog prices are the first trading prices; the agenda of product 0 is that of day 0 for ever."""
    w = s.world[e, ROW]
    for product in range(t.world[w, N_PRODUCTS]):
        s.price[e, product, TRADING_PRICE] = t.catalog[w, product]
        s.price[e, product, WEIGHT] = t.world[w, CATALOG_QUANTITIES]
    write_agenda(t, s, e, 0)


@lean
def start_day(t: Tables, s: State, e: int) -> None:
    """Stage 0: today's exogenous contracts and agendas, and a negotiation between every two neighbours."""
    world = s.world[e]
    w, day, n_products = world[ROW], world[DAY], t.world[world[ROW], N_PRODUCTS]
    world[EXO_FIRST] = world[EXO_LAST] = 0
    for f in range(t.world[w, N_FACTORIES]):
        factory = s.factory[e, f]
        factory[EXO_IN] = factory[EXO_IN_COST] = factory[EXO_OUT] = factory[EXO_OUT_REVENUE] = 0
        factory[N_ALIVE] = factory[N_COLLECTED] = factory[HAS_PROPOSED] = 0
        s.money[e, f, BALANCE] = s.money[e, f, EARNED] + t.factory[w, f, INITIAL_BALANCE]
    for x in range(t.exogenous_day[w, day], t.exogenous_day[w, day + 1]):
        contract = t.exogenous[w, x]
        factory, quantity = s.factory[e, contract[EXO_FACTORY]], contract[EXO_QUANTITY]
        if contract[EXO_PRODUCT] == 0:
            factory[EXO_IN] += quantity
            factory[EXO_IN_COST] += quantity * contract[EXO_PRICE]
            world[EXO_FIRST] += quantity
        else:
            factory[EXO_OUT] += quantity
            factory[EXO_OUT_REVENUE] += quantity * contract[EXO_PRICE]
            world[EXO_LAST] += quantity
    for product in range(1, n_products):
        write_agenda(t, s, e, product)
    n = 0
    for i in range(t.world[w, N_THREADS]):
        buyer, seller = s.factory[e, t.thread[w, i, BUYER]], s.factory[e, t.thread[w, i, SELLER]]
        s.thread[e, i] = 0
        if buyer[BANKRUPT] or seller[BANKRUPT]:
            continue
        s.thread[e, i, RUNNING] = 1
        buyer[N_ALIVE] += 1
        seller[N_ALIVE] += 1
        s.running[e, n] = i
        n += 1
    world[N_LISTED] = n


@lean
def execute(t: Tables, s: State, e: int) -> None:
    """Carries out the contracts due today in order of signing: negotiated ones, then the exogenous ones.

    Contracts with a factory that is bankrupt since an earlier day are void. Exogenous ones are not.
    """
    world = s.world[e]
    s.price[e, :, ITEMS_TRADED] = 0
    w, day = world[ROW], world[DAY]
    for f in range(t.world[w, N_FACTORIES]):
        factory = s.factory[e, f]
        factory[BOUGHT] = factory[BOUGHT_COST] = factory[SOLD] = factory[SOLD_REVENUE] = 0
    contracts = s.contract[e].reshape(-1, s.contract.shape[3])
    c = s.queue[e, world[TODAY], HEAD]
    while c >= 0:
        i = c % s.contract.shape[2]
        buyer, seller = s.factory[e, t.thread[w, i, BUYER]], s.factory[e, t.thread[w, i, SELLER]]
        quantity, price = contracts[c, CONTRACT_QUANTITY], contracts[c, CONTRACT_PRICE]
        if buyer[BANKRUPT] or seller[BANKRUPT]:
            buyer[VOIDED] += quantity if seller[BANKRUPT] else 0
        else:
            _trade(s.price[e, t.thread[w, i, PRODUCT]], quantity, price)
            buyer[BOUGHT] += quantity
            buyer[BOUGHT_COST] += quantity * price
            seller[SOLD] += quantity
            seller[SOLD_REVENUE] += quantity * price
        c = contracts[c, CONTRACT_NEXT]
    for x in range(t.exogenous_day[w, day], t.exogenous_day[w, day + 1]):
        contract = t.exogenous[w, x]
        factory, product = s.factory[e, contract[EXO_FACTORY]], contract[EXO_PRODUCT]
        quantity, price = contract[EXO_QUANTITY], contract[EXO_PRICE]
        _trade(s.price[e, product], quantity, price)
        if product == 0:
            factory[BOUGHT] += quantity
            factory[BOUGHT_COST] += quantity * price
        else:
            factory[SOLD] += quantity
            factory[SOLD_REVENUE] += quantity * price


@lean
def _trade(row: np.ndarray, quantity: int, price: int) -> None:
    before = row[MEAN_PRICE] * row[ITEMS_TRADED] if row[ITEMS_TRADED] > 0 else 0.0
    row[MEAN_PRICE] = (before + quantity * price) / (row[ITEMS_TRADED] + quantity)
    row[ITEMS_TRADED] += quantity


@lean
def update_prices(t: Tables, s: State, e: int) -> None:
    """Trading prices of tomorrow; a product without trade keeps its own."""
    w = s.world[e, ROW]
    discount = t.real[w, DISCOUNT]
    for product in range(t.world[w, N_PRODUCTS]):
        row = s.price[e, product]
        if row[ITEMS_TRADED] > 0:
            total = row[TRADING_PRICE] * row[WEIGHT] * discount + row[MEAN_PRICE] * row[ITEMS_TRADED]
            row[WEIGHT] = row[WEIGHT] * discount + row[ITEMS_TRADED]
            row[TRADING_PRICE] = total / row[WEIGHT]


@lean
def collect_lots(t: Tables, s: State, e: int, f: int, buying: bool, quantity: np.ndarray, price: np.ndarray) -> int:
    """Writes the valid contracts of one side of a factory due today, in order of signing; returns how many."""
    world = s.world[e]
    w = world[ROW]
    contracts = s.contract[e].reshape(-1, s.contract.shape[3])
    n, c = 0, s.queue[e, world[TODAY], HEAD]
    while c >= 0:
        i = c % s.contract.shape[2]
        buyer, seller = t.thread[w, i, BUYER], t.thread[w, i, SELLER]
        if (buyer if buying else seller) == f and not s.factory[e, seller if buying else buyer, BANKRUPT]:
            quantity[n], price[n] = contracts[c, CONTRACT_QUANTITY], contracts[c, CONTRACT_PRICE]
            n += 1
        c = contracts[c, CONTRACT_NEXT]
    return n


@kernel
def end_day(t: Tables, s: State, e: int) -> None:
    """Stage 1: execution, profits, stock, bankruptcies, prices, reports; then the next day."""
    world = s.world[e]
    w, day, ring = world[ROW], world[DAY], t.world[world[ROW], HORIZON] + 1
    n_factories = t.world[w, N_FACTORIES]
    execute(t, s, e)
    lots = np.empty((4, s.answer.shape[1] * ring), np.int64)
    for f in range(n_factories):
        _close_factory(t, s, e, f, lots)
    for f in range(n_factories):  # only now: contracts of today with those who went bankrupt today count
        factory, money = s.factory[e, f], s.money[e, f]
        balance = money[EARNED] + t.factory[w, f, INITIAL_BALANCE]
        if balance < t.world[w, BANKRUPTCY_LIMIT]:
            factory[BANKRUPT] = 1
        if day % t.world[w, REPORT_PERIOD] == 0:
            money[REPORTED_CASH] = balance
            money[REPORTED_BREACH] = money[BREACH_SUM] / (day + 1)
            if day == 0:
                money[FIRST_CASH] = balance
        s.due[e, f, :, world[TODAY]] = 0
        if s.diary.shape[1] > 0:
            s.diary[e, day, f, 9] = factory[BANKRUPT]
    update_prices(t, s, e)
    s.queue[e, world[TODAY], HEAD] = s.queue[e, world[TODAY], TAIL] = -1
    world[DAY] = day + 1
    world[TODAY] = world[TODAY] + 1 if world[TODAY] + 1 < ring else 0


@kernel
def _close_factory(t: Tables, s: State, e: int, f: int, lots: np.ndarray) -> None:
    """Production, profit and stock of one factory."""
    world, factory, money = s.world[e], s.factory[e, f], s.money[e, f]
    w, day = world[ROW], world[DAY]
    level, lines = t.factory[w, f, LEVEL], t.factory[w, f, LINES]
    n_in = collect_lots(t, s, e, f, True, lots[0], lots[1])
    n_out = collect_lots(t, s, e, f, False, lots[2], lots[3])
    if factory[BANKRUPT]:
        n_in = n_out = 0
    scale = t.world[w, PENALTIES_SCALE]
    price_in = price_out = 1.0
    if scale == TRADING:
        price_in, price_out = s.price[e, level, TRADING_PRICE], s.price[e, level + 1, TRADING_PRICE]
    elif scale == CATALOG:
        price_in, price_out = t.catalog[w, level], t.catalog[w, level + 1]
    stock = factory[STOCK]
    result = close_day(
        Trades(lots[0], lots[1], n_in, factory[EXO_IN], factory[EXO_IN_COST]),
        Trades(lots[2], lots[3], n_out, factory[EXO_OUT], factory[EXO_OUT_REVENUE]),
        Plant(lines, t.factory[w, f, COST], money[BALANCE], stock),
        Fees(
            price_in,
            price_out,
            fee(t, w, DISPOSAL, day, f),
            fee(t, w, STORAGE, day, f),
            fee(t, w, SHORTFALL, day, f),
        ),
    )
    money[EARNED] += result.profit
    money[PROFIT], money[PENALTY] = result.profit, result.penalty
    money[STORAGE_COST], money[DISPOSAL_COST] = result.storage, result.disposal
    factory[PRODUCED], factory[SHORT], factory[UNUSED] = result.produced, result.shortfall, result.unused
    factory[STOCK] = next_stock(
        stock, result.arrived, result.produced, world[CONSERVING] == 1, t.world[w, PERISHABLE] == 1
    )
    # SCML counts exogenous quantities twice here (SEMANTICS.md b).
    there = min(lines, factory[BOUGHT] + factory[EXO_IN] + stock)
    wanted = factory[SOLD] + factory[EXO_OUT]
    breach = 0.0 if there >= wanted else (wanted - there) / wanted
    money[BREACH_SUM] += breach
    forced = factory[EXO_OUT]
    void = 0 if money[BALANCE] < 0 else factory[VOIDED]
    due_to = attribute_shortfall(factory[SOLD] - forced, forced, factory[BOUGHT] + stock, result.produced, lines, void)
    ledger = s.ledger[e, f]
    ledger[LEDGER_DAYS] += 1
    ledger[LEDGER_SHORT] += result.shortfall
    ledger[LEDGER_NEGOTIATED] += due_to.negotiated
    ledger[LEDGER_EXOGENOUS] += due_to.exogenous
    ledger[LEDGER_MONEY] += due_to.money
    ledger[LEDGER_BANKRUPTCY] += due_to.bankruptcy
    if s.diary.shape[1] > 0:
        page = s.diary[e, day, f]
        page[0], page[1], page[2] = result.profit, money[EARNED] + t.factory[w, f, INITIAL_BALANCE], factory[STOCK]
        page[3], page[4], page[5] = result.shortfall, result.penalty, result.storage
        page[6], page[7], page[8] = result.disposal, result.unused, result.produced
        page[10], page[11], page[12] = breach, factory[BOUGHT], factory[BOUGHT_COST]
        page[13], page[14] = factory[SOLD], factory[SOLD_REVENUE]
        page[15], page[16] = due_to.negotiated, due_to.exogenous
        page[17], page[18] = due_to.money, due_to.bankruptcy
