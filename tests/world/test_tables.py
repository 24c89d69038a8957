"""Tables: what SCML made is what stands in them."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from scml_marl_env.registry import config_of
from scml_marl_env.world.bank import prepare
from scml_marl_env.world.draw import draw
from scml_marl_env.world.fast import columns as at
from scml_marl_env.world.fast.tables import (
    Room,
    empty_tables,
    room_for,
    size_of,
    stack,
    static_of,
    tables_for,
    tables_of,
    write,
)
from scml_marl_env.world.official import build
from scml_marl_env.world.rng import GlobalRandomness

TRACES = sorted((Path(__file__).parent / "traces").glob("*.json.gz"))
WORLDS = [
    ("std-mini", {}),
    ("std-mini", {"processes": 3, "factories_per_level": (2, 4)}),
    ("std-2025", {"processes": 4, "days": 30}),
    ("oneshot-mini", {}),
    ("oneshot-2025", {"days": 30}),
]


def read(path):
    return json.loads(gzip.decompress(path.read_bytes()))


@pytest.fixture(scope="module", params=WORLDS, ids=lambda param: f"{param[0]}-{param[1].get('processes', 2)}")
def world_and_draw(request):
    from scml.oneshot.agents import OneshotDoNothingAgent

    env_id, options = request.param
    config = config_of(env_id, controlled="all", **options)
    drawn = draw(config, 11)
    with GlobalRandomness(12):
        return build(drawn, config, OneshotDoNothingAgent), drawn, config


def fee(tables, kind, day, factory):
    start, stride = (int(tables.world[0, column + kind]) for column in (at.FEE_START, at.FEE_STRIDE))
    return tables.fees[0, start + day * stride + factory]


def test_there_are_traces():
    assert len(TRACES) >= 8


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.name.split(".")[0])
def test_tables_have_the_threads_and_agendas_of_a_recording_of_real_scml(path):
    trace = read(path)
    static, first = trace["static"], trace["days"][0]
    tables = tables_of(static)
    world, thread = tables.world[0], tables.thread[0]
    order = [[at.BUYER, at.SELLER, at.PRODUCT, at.FIRST], [at.FIRST, at.SECOND]]
    assert len(first["threads"]) == len(thread) == world[at.N_THREADS] > 10
    for row, (*ends, owners, n_steps) in zip(thread, first["threads"], strict=True):
        assert row[order[0]].tolist() == ends and row[order[1]].tolist() == owners and n_steps == world[at.N_ROUNDS]
    for (low, high), (start, end), _ in first["issues"]:
        assert (world[at.QUANTITY_LOW], world[at.QUANTITY_HIGH]) == (low, high)
        assert (start, end) == (0, min(world[at.HORIZON], world[at.N_DAYS] - 1))


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.name.split(".")[0])
def test_tables_have_the_exogenous_contracts_of_every_day_of_a_recording(path):
    trace = read(path)
    tables = tables_of(trace["static"])
    compared = 0
    for day, recorded in enumerate(trace["days"]):
        rows = tables.exogenous[0, tables.exogenous_day[0, day] : tables.exogenous_day[0, day + 1]].tolist()
        listed = [row for row in trace["static"]["exogenous"] if row[0] == day]
        assert rows == [[p, q, price, buyer if p == 0 else seller] for _, p, q, price, seller, buyer in listed]
        for product, (quantity, total) in enumerate(recorded["exo_summary"]):
            mine = [row for row in rows if row[at.EXO_PRODUCT] == product]
            assert quantity == sum(row[at.EXO_QUANTITY] for row in mine)
            assert total == sum(row[at.EXO_QUANTITY] * row[at.EXO_PRICE] for row in mine)
            compared += 1
    assert compared == len(trace["days"]) * trace["static"]["n_products"] > 0


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.name.split(".")[0])
def test_fees_are_the_recorded_ones_whether_stored_daily_or_once(path):
    static = read(path)["static"]
    tables = tables_of(static)
    for kind, name in enumerate(("disposal_cost", "storage_cost", "shortfall_penalty")):
        for factory, rates in enumerate(static[name]):
            assert [fee(tables, kind, day, factory) for day in range(static["n_steps"])] == rates
    strides = tables.world[0, at.FEE_STRIDE : at.FEE_STRIDE + 3].tolist()
    n = len(static["level"])
    assert strides == ([0, 0, n] if static["track"] == "std" else [n, 0, n])


def test_the_static_part_has_the_keys_of_a_recording_and_more(world_and_draw):
    static = static_of(world_and_draw[0])
    recorded = read(TRACES[0])["static"]
    assert recorded.keys() <= static.keys()
    json.dumps(static)
    for name, value in recorded.items():
        assert type(static[name]) is type(value), name


def test_the_static_part_is_what_the_world_says(world_and_draw):
    world, drawn, config = world_and_draw
    static = static_of(world)
    agents = [agent for agent in world.agents if agent in world.agent_profiles]
    assert static["agents"] == agents and static["level"] == list(drawn.levels)
    assert static["neg_n_steps"] == config.rounds and static["n_steps"] == drawn.params["n_steps"]
    assert static["catalog_prices"] == list(drawn.params["catalog_prices"])
    assert static["initial_balance"] == [world.initial_balances[agent] for agent in agents]
    assert static["shortfall_penalty"] == [list(world.agent_shortfall_penalty[agent]) for agent in agents]
    generated = [
        [c.time, c.product, c.quantity, c.unit_price, c.seller, c.buyer] for c in drawn.params["exogenous_contracts"]
    ]
    assert static["exogenous"] == sorted(generated, key=lambda row: row[0]) and len(generated) > 40
    assert (static["track"], static["penalties_scale"], static["financial_reports_period"]) == (
        config.track,
        "trading",
        5,
    )


def test_factories_have_the_partners_that_their_own_interface_lists(world_and_draw):
    world, _, config = world_and_draw
    tables = tables_of(static_of(world))
    ids = list(world.agent_profiles)
    assert tables.world[0, at.HORIZON] == config.horizon and tables.world[0, at.QUANTITY_HIGH] == config.max_quantity
    for f, agent in enumerate(ids):
        awi, row = world.agents[agent].awi, tables.factory[0, f]
        suppliers = [] if awi.is_first_level else awi.my_suppliers
        consumers = [] if awi.is_last_level else awi.my_consumers
        assert (row[at.N_SUPPLIERS], row[at.N_CONSUMERS]) == (len(suppliers), len(consumers))
        assert row[at.N_COMPETITORS] == awi.n_competitors and row[at.LEVEL] == awi.level
        assert (row[at.COST], row[at.LINES]) == (awi.profile.cost, awi.profile.n_lines)
        threads = tables.slot[0, f]
        for k, partner in enumerate([*suppliers, *consumers]):
            thread = tables.thread[0, threads[k]].tolist()
            ends = {thread[at.FIRST]: thread[at.SLOT_FIRST], thread[at.SECOND]: thread[at.SLOT_SECOND]}
            assert ends.keys() == {f, ids.index(partner)} and ends[f] == k
            assert (thread[at.BUYER] == f) == (k < len(suppliers))
            assert row[at.FIRST_MOVER] == (thread[at.FIRST] == f)
        assert (threads[len(suppliers) + len(consumers) :] == -1).all()


def test_stacked_worlds_are_padded_and_otherwise_as_they_were():
    alone = [tables_of(read(path)["static"]) for path in TRACES]
    together = stack(alone)
    assert size_of(together) == Room(*(max(column) for column in zip(*map(size_of, alone), strict=True)))
    for row, one in enumerate(alone):
        for name, array, source in zip(one._fields, together, one, strict=True):
            inside = tuple(slice(size) for size in source.shape[1:])
            assert array.dtype == source.dtype and (array[row][inside] == source[0]).all(), name
            outside = np.ones(array.shape[1:], bool)
            outside[inside] = False
            rest = {"slot": -1, "exogenous_day": source[0].flat[-1]}.get(name, 0)
            assert (array[row][outside] == rest).all(), name


def test_a_row_that_is_written_again_keeps_nothing_of_the_world_before():
    large, small = (tables_of(read(TRACES[i])["static"]) for i in (2, 0))
    batch, fresh = (empty_tables(1, size_of(stack([large, small]))) for _ in range(2))
    write(batch, 0, large)
    write(batch, 0, small)
    write(fresh, 0, small)
    assert all((a == b).all() for a, b in zip(batch, fresh, strict=True))


@pytest.mark.parametrize(("env_id", "options"), [*WORLDS, ("std-2025", {"slots": 20}), ("std-2025", {})])
def test_every_world_of_a_config_fits_into_its_tables(env_id, options):
    config = config_of(env_id, **options)
    batch = tables_for(config, 3)
    assert (batch.world[:, at.HORIZON] == config.horizon).all() and size_of(batch) == room_for(config)
    for seed in range(3):
        one = prepare(config, seed).tables
        write(batch, seed, one)
        assert (batch.world[seed] == one.world[0]).all()


def test_a_world_that_is_too_large_is_refused():
    small, large = (tables_of(read(TRACES[i])["static"]) for i in (0, 2))
    with pytest.raises(ValueError, match=r"20 factories does not fit into tables with room for 9.*room_for"):
        write(stack([small]), 0, large)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"penalties_scale": "unit"}, "not by 'unit'"),
        ({"nullify_bankrupt_contracts": True}, "nullify_bankrupt_contracts=True"),
        ({"one_offer_per_step": True}, "atomic mode"),
        ({"force_signing": False}, "force_signing=False"),
        ({"signing_delay": 1}, "signed later"),
        ({"penalize_bankrupt_for_future_contracts": False}, "not charged"),
        ({"cost": [1.5] * 9}, "cost as whole numbers"),
        ({"catalog_prices": [10, 17.25, 28]}, "catalog_prices as whole numbers"),
        ({"exogenous": [[0, 0, 2, 9.5, -1, 0]]}, "exogenous ones are not"),
        ({"exogenous": [[0, 1, 2, 9, 0, 5]]}, "first-level factories"),
        ({"exogenous": [[50, 0, 2, 9, -1, 0]]}, r"days 0\.\.49"),
        ({"level": [1, 0, 0, 0, 0, 0, 1, 1, 1]}, "numbered level by level"),
        ({"suppliers": [[-1], [0, 1, 2, 3], [5, 6, 7, 8]]}, "trades with all"),
        ({"consumers": [[4, 1, 2, 3, 0], [5, 6, 7, 8], [-2]]}, "trades with all"),
    ],
)
def test_what_the_engine_does_not_do_is_refused(change, message):
    static = read(TRACES[0])["static"]
    with pytest.raises(ValueError, match=message):
        tables_of({**static, **change})
