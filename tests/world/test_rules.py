"""The rule of a day's end against every factory-day of every recorded real simulation, bit for bit."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from scml_marl_env.world.rules import Fees, Plant, Trades, close_day, next_stock, order_lots, pay_inputs

TRACES = sorted((Path(__file__).parent / "traces").glob("*.json.gz"))


def trades(contracts, forced, forced_value):
    quantity = np.array([c[3] for c in contracts], dtype=np.int64)
    price = np.array([c[5] for c in contracts], dtype=np.int64)
    return Trades(quantity, price, len(contracts), forced, forced_value)


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.name[:2])
def test_every_day_of_a_real_world_closes_to_the_last_bit(path):
    trace = json.loads(gzip.decompress(path.read_bytes()))
    static = trace["static"]
    compared = 0
    for day in trace["days"]:
        s = day["day"]
        scale = {"trading": day["tp_start"], "catalog": static["catalog_prices"], "none": [1] * static["n_products"]}
        price = scale[static["penalties_scale"]]
        due = [trace["contracts"][i] for i in day["exec"] if not trace["contracts"][i][10]]
        for a in range(len(static["agents"])):
            level = static["level"][a]
            in_q, in_v, out_q, out_v = day["awi_start"][a][:4]
            stock = day["awi_start"][a][11]
            plant = Plant(static["n_lines"][a], static["cost"][a], float(day["awi_start"][a][10]), stock)
            fees = Fees(
                float(price[level]),
                float(price[level + 1]),
                *(float(static[name][a][s]) for name in ("disposal_cost", "storage_cost", "shortfall_penalty")),
            )
            bought = trades([c for c in due if c[2] == a], in_q, in_v)
            sold = trades([c for c in due if c[1] == a], out_q, out_v)
            result = close_day(bought, sold, plant, fees)
            truth = {name: column[a] for name, column in day["agents"].items()}
            assert result.profit == truth["profit"]
            assert result.produced == round(truth["productivity"] * plant.lines)
            assert result.shortfall == truth["shortfall_q"]
            assert result.unused == truth["penalized_q"]
            assert result.disposal == truth["disposal_cost"]
            assert result.storage == truth["storage_cost"]
            assert result.penalty == truth["shortfall_pen"]
            assert result.arrived == truth["q_in"]
            assert next_stock(stock, result.arrived, result.produced, False, static["perishable"]) == truth["inv_in"]
            compared += 1
    assert compared == trace["n_days_run"] * len(static["agents"]) > 0


def test_there_are_traces():
    assert len(TRACES) >= 8


@pytest.mark.parametrize("seed", range(20))
def test_lots_are_ordered_as_python_sorts_them(seed):
    rng = np.random.default_rng(seed)
    prices = rng.integers(1, 6, size=12)
    assert order_lots(prices, 9, True).tolist() == sorted(range(9), key=lambda i: prices[i])
    assert order_lots(prices, 9, False).tolist() == sorted(range(9), key=lambda i: -prices[i])


def naive_payment(lots, pool, pool_cost, balance, unit_cost):
    """SCML's loop as it stands in `OneShotUFun.from_offers`, with its variable names."""
    lots = [*lots, (pool_cost / pool if pool else 0, pool)]
    pin, qin, qin_bar, broke = 0, 0, 0, balance < 0
    for price, quantity in sorted(lots, key=lambda lot: lot[0]):
        if not broke and pin + price * quantity + quantity * unit_cost > balance:
            qin_bar, broke = qin + int((balance - pin) // (price + unit_cost)), True
        pin += price * quantity
        qin += quantity
    return qin, qin_bar if broke else qin, pin, not broke


@pytest.mark.parametrize("seed", range(200))
def test_payment_equals_the_loop_of_scml(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 7))
    quantity, price = rng.integers(1, 9, size=n), rng.integers(1, 9, size=n)
    pool, pool_cost = int(rng.integers(0, 9)), int(rng.integers(0, 50))
    pool_cost *= pool > 0
    balance, unit_cost = float(rng.integers(-5, 250)) / 2, int(rng.integers(1, 7))
    lots = list(zip(price.tolist(), quantity.tolist(), strict=True))
    assert pay_inputs(quantity, price, n, pool, pool_cost, balance, unit_cost) == naive_payment(
        lots, pool, pool_cost, balance, unit_cost
    )


def test_a_conserving_world_consumes_its_stock_and_a_perishable_one_keeps_none():
    assert next_stock(7, 4, 6, True, False) == 5
    assert next_stock(7, 4, 6, False, False) == 7
    assert next_stock(7, 4, 2, False, False) == 9
    assert next_stock(7, 4, 2, False, True) == next_stock(7, 4, 2, True, True) == 0
