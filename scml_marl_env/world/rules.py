"""The rule of a day's end: what a factory produces and earns. SCML's own arithmetic, equal to the last bit.

Source: scml 0.8.4, `OneShotUFun.from_offers` and stage 1 of `SCMLBaseWorld.simulation_step` (SEMANTICS.md e). Money is
added in SCML's order: inputs from cheap to dear (stock and exogenous supplies form ONE lot, last among equals), outputs
from dear to cheap, equals in order of signing. No fastmath.
"""

from typing import NamedTuple

import numpy as np

from scml_marl_env.kernels import kernel


class Trades(NamedTuple):
    """What is due today on one side of a factory."""

    quantity: np.ndarray  # int64 (C,), items of each negotiated contract, in order of signing
    price: np.ndarray  # int64 (C,), their unit prices
    n: int  # how many of them count
    forced: int  # items of the exogenous contracts
    forced_value: int  # their total price


class Plant(NamedTuple):
    """A factory at the start of the day."""

    lines: int
    unit_cost: int  # production cost of an item
    balance: float
    stock: int  # input items


class Fees(NamedTuple):
    """What waste and shortfall cost: rates of the day, in units of the price of the item concerned."""

    input_price: float  # scale of disposal and storage: officially the trading price at the start of the day
    output_price: float  # scale of the shortfall penalty
    disposal: float
    storage: float
    shortfall: float


class DayResult(NamedTuple):
    """What a day made of a factory; money in dollars."""

    produced: int
    shortfall: int  # items sold and not delivered
    unused: int  # input items not processed, stock included
    arrived: int  # items bought, exogenous ones included
    revenue: float
    paid: float  # for inputs
    disposal: float
    storage: float
    penalty: float
    profit: float


@kernel
def close_day(inputs: Trades, outputs: Trades, plant: Plant, fees: Fees) -> DayResult:
    """Production and profit of a day, in SCML's order of operations."""
    pool = plant.stock + inputs.forced
    items, usable, paid, _ = pay_inputs(
        inputs.quantity, inputs.price, inputs.n, pool, inputs.forced_value, plant.balance, plant.unit_cost
    )
    possible = min(usable, plant.lines)
    sold, revenue = sell_outputs(
        outputs.quantity, outputs.price, outputs.n, outputs.forced, outputs.forced_value, possible
    )
    produced = min(items, possible, sold)
    shortfall, unused = sold - produced, items - produced
    disposal = fees.input_price * (fees.disposal * unused)
    storage = fees.input_price * (fees.storage * unused)
    penalty = fees.output_price * (fees.shortfall * shortfall)
    profit = revenue - paid - plant.unit_cost * produced - disposal - storage - penalty
    arrived = items - plant.stock
    return DayResult(produced, shortfall, unused, arrived, revenue, paid, disposal, storage, penalty, profit)


@kernel
def order_lots(prices: np.ndarray, n: int, ascending: bool) -> np.ndarray:
    """int64 (n,), the stable order of the first `n` of `prices` (insertion sort: lots are few and nearly in order)."""
    order = np.empty(n, np.int64)
    for i in range(n):
        j = i
        while j > 0 and (prices[i] < prices[order[j - 1]] if ascending else prices[i] > prices[order[j - 1]]):
            order[j] = order[j - 1]
            j -= 1
        order[j] = i
    return order


@kernel
def pay_inputs(
    quantity: np.ndarray, price: np.ndarray, n_lots: int, pool: int, pool_cost: int, balance: float, unit_cost: int
) -> tuple[int, int, float, bool]:
    """Walks the day's input lots and tells how many items the balance can turn into products.

    The test is SCML's, literally: it stops at the first lot whose payment, with all payments before it and the
    production cost of this lot alone, exceeds the balance. Everything is paid for in any case.

    Args:
        quantity: int64 (C,), items of each purchase contract due today, in order of signing.
        price: int64 (C,), their unit prices.
        n_lots: how many of them count.
        pool: items in stock and from exogenous supplies together, one lot.
        pool_cost: total price of the exogenous supplies.
        balance: money at the start of the day.
        unit_cost: production cost of an item.

    Returns:
        (items there, items that money allows to process, payments, True if the money was enough for all of them).
    """
    order = order_lots(price, n_lots, True)
    pool_price = pool_cost / pool if pool > 0 else 0.0
    enough = balance >= 0
    items, usable, paid = 0, 0, 0.0
    pool_done = False
    for i in range(n_lots + 1):
        j = i - 1 if pool_done else i
        if not pool_done and (i == n_lots or price[order[i]] > pool_price):
            unit_price, size, pool_done = pool_price, pool, True
        else:
            unit_price, size = float(price[order[j]]), quantity[order[j]]
        payment = unit_price * size
        if enough and paid + payment + size * unit_cost > balance:
            usable = items + int((balance - paid) // (unit_price + unit_cost))
            enough = False
        paid += payment
        items += size
    if enough:
        usable = items
    return items, usable, paid, enough


@kernel
def sell_outputs(
    quantity: np.ndarray, price: np.ndarray, n_sales: int, forced: int, forced_revenue: int, limit: int
) -> tuple[int, float]:
    """Delivers up to `limit` items, best prices first; the exogenous sales form ONE lot, last among equals.

    Args:
        quantity: int64 (C,), items of each sale contract due today, in order of signing.
        price: int64 (C,), their unit prices.
        n_sales: how many of them count.
        forced: items of the exogenous sales.
        forced_revenue: their total price.
        limit: items that can be delivered.

    Returns:
        (items sold, delivered or not; revenue of the delivered ones).
    """
    order = order_lots(price, n_sales, False)
    forced_price = forced_revenue / forced if forced > 0 else 0.0
    sold, revenue = 0, 0.0
    done, forced_done = False, False
    for i in range(n_sales + 1):
        j = i - 1 if forced_done else i
        if not forced_done and (i == n_sales or price[order[i]] < forced_price):
            unit_price, size, forced_done = forced_price, forced, True
        else:
            unit_price, size = float(price[order[j]]), quantity[order[j]]
        if not done:
            delivered = size
            if sold + size >= limit:
                delivered, done = limit - sold, True
            revenue += delivered * unit_price
        sold += size
    return sold, revenue


@kernel
def next_stock(stock: int, arrived: int, produced: int, conserving: bool, perishable: bool) -> int:
    """Items in stock tomorrow; `arrived` are today's purchases, exogenous ones included.

    SCML never takes from the stock (SEMANTICS.md e): it only adds what arrived and was not needed. A conserving world
    takes what was produced. In a perishable world nothing is kept.
    """
    if perishable:
        return 0
    if conserving:
        return stock + arrived - produced
    return stock + max(0, arrived - produced)
