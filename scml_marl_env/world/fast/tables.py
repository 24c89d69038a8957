"""From a world of SCML to the `Tables` of the fast engine: what is fixed before day 0, as data, drawn by SCML itself.

`static_of` reads a constructed world, `tables_of` turns that into arrays (W = 1), `stack` puts worlds together, and
`tables_for` and `write` keep a batch that is allocated before any of its worlds is known.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from scml_marl_env.config import EnvConfig
from scml_marl_env.world.fast.columns import (
    BANKRUPTCY_LIMIT,
    BUYER,
    CATALOG,
    CATALOG_QUANTITIES,
    COST,
    DISCOUNT,
    EXO_FACTORY,
    EXO_PRICE,
    EXO_PRODUCT,
    EXO_QUANTITY,
    FEE_START,
    FEE_STRIDE,
    FIRST,
    FIRST_MOVER,
    HORIZON,
    INITIAL_BALANCE,
    LEVEL,
    LINES,
    N_COMPETITORS,
    N_CONSUMERS,
    N_DAYS,
    N_FACTORIES,
    N_FACTORY,
    N_PRODUCTS,
    N_REAL,
    N_ROUNDS,
    N_SUPPLIERS,
    N_THREAD,
    N_THREADS,
    N_WORLD,
    NONE,
    PENALTIES_SCALE,
    PERISHABLE,
    PRICE_FRACTION,
    PRICE_MULTIPLIER,
    PRODUCT,
    QUANTITY_HIGH,
    QUANTITY_LOW,
    REPORT_PERIOD,
    SECOND,
    SELLER,
    SLOT_FIRST,
    SLOT_SECOND,
    TRADING,
    WIDE_PRICES,
    Tables,
)

SCALES = {"trading": TRADING, "catalog": CATALOG, "none": NONE}
FEES = ("disposal_cost", "storage_cost", "shortfall_penalty")  # in the order of DISPOSAL, STORAGE, SHORTFALL
SYSTEM_SELLER, SYSTEM_BUYER = -1, -2
_REPORT_PERIOD = 5  # SCML's default, for recordings that do not tell
_PROFILE = (
    "shortfall_penalty_mean", "shortfall_penalty_dev", "disposal_cost_mean",
    "disposal_cost_dev", "storage_cost_mean", "storage_cost_dev",
)  # fmt: skip
# What the engine takes for granted: name in the static part, value, and where it is not told.
_GIVEN: dict[str, tuple[Any, str]] = {
    "force_signing": (True, "contracts that agents sign themselves"),
    "signing_delay": (0, "contracts that are signed later"),
    "one_offer_per_step": (False, "mechanisms that step one offer at a time (atomic mode)"),
    "shuffle_negotiations": (False, "negotiations in random order"),
    "nullify_bankrupt_contracts": (False, "SCML's nullify_bankrupt_contracts"),
    "penalize_bankrupt_for_future_contracts": (True, "bankrupt factories that are not charged for their contracts"),
    "publish_trading_prices": (True, "agendas around catalog prices"),
}


class Room(NamedTuple):
    """Sizes of a batch of tables, see the letters in `columns`; `fees` is X and `exogenous` Y."""

    factories: int
    products: int
    threads: int
    slots: int
    days: int
    fees: int
    exogenous: int


def static_of(world: Any) -> dict[str, Any]:
    """The static part of a constructed SCML world, as the recordings of real SCML have it (plain Python values).

    Args:
        world: of any SCML std or oneshot world class, before its first step.
    """
    agents = list(world.agent_profiles)
    profiles = [world.agent_profiles[agent] for agent in agents]
    index = {agent: i for i, agent in enumerate(agents)} | {"SELLER": SYSTEM_SELLER, "BUYER": SYSTEM_BUYER}
    mechanism = next(iter(world.mechanisms.values()), None) or {}
    exogenous = []
    for day in sorted(world.exogenous_contracts):  # a day's contracts are in the order of the generator's list
        for contract in world.exogenous_contracts[day]:
            said, about = contract.agreement, contract.annotation
            seller, buyer = index[about["seller"]], index[about["buyer"]]
            what = int(said["time"]), int(about["product"]), int(said["quantity"]), _number(said["unit_price"])
            exogenous.append([*what, max(seller, -1), max(buyer, -1)])
    return {
        "track": "oneshot" if world.perishable else "std",
        "n_steps": int(world.n_steps),
        "n_processes": int(world.n_processes),
        "n_products": int(world.n_products),
        "max_n_lines": int(world._max_n_lines),
        "catalog_prices": [_number(price) for price in world.catalog_prices],
        "agents": [str.__str__(agent) for agent in agents],
        "level": [int(profile.input_product) for profile in profiles],
        "n_lines": [int(profile.n_lines) for profile in profiles],
        "cost": [_number(profile.cost) for profile in profiles],
        "profiles": [{name: float(getattr(profile, name)) for name in _PROFILE} for profile in profiles],
        "initial_balance": [_number(world.initial_balances[agent]) for agent in agents],
        "suppliers": [[index[agent] for agent in there] for there in world.suppliers],
        "consumers": [[index[agent] for agent in there] for there in world.consumers],
        **{name: [getattr(world, f"agent_{name}")[agent].tolist() for agent in agents] for name in FEES},
        "exogenous": exogenous,
        "perishable": bool(world.perishable),
        "horizon": int(world.horizon),
        "one_time_per_negotiation": bool(world.one_time_per_negotiation),
        "quantity_multiplier": float(world.quantity_multiplier),
        "price_range_fraction": float(world.price_range_fraction),
        "price_multiplier": float(world.price_multiplier),
        "wide_price_range": bool(world.wide_price_range),
        "allow_zero_quantity": bool(world.allow_zero_quantity),
        "trading_price_discount": float(world.trading_price_discount),
        "catalog_quantities": _number(world.catalog_quantities),
        "penalties_scale": world.penalties_scale,
        "bankruptcy_limit": int(world.bankruptcy_limit),
        "neg_n_steps": int(world.neg_n_steps),
        "force_signing": bool(world.force_signing),
        "nullify_bankrupt_contracts": bool(world.nullify_bankrupt_contracts),
        "penalize_bankrupt_for_future_contracts": bool(world.penalize_bankrupt_for_future_contracts),
        "one_offer_per_step": bool(mechanism.get("one_offer_per_step", False)),
        "signing_delay": int(world.default_signing_delay),
        "shuffle_negotiations": bool(world.shuffle_negotiations),
        "publish_trading_prices": bool(world.publish_trading_prices),
        "financial_reports_period": int(world.financial_reports_period),
    }


def tables_of(static: Mapping[str, Any]) -> Tables:
    """The tables (W = 1) of the static part of a world, of `static_of` or of a recording.

    Raises:
        ValueError: for a world with rules that the engine does not know, saying which.
    """
    _check_rules(static)
    members = _check_network(static)
    n_factories, n_days, n_products = len(static["level"]), static["n_steps"], static["n_products"]
    world = np.zeros((1, N_WORLD), np.int64)
    real = np.zeros((1, N_REAL))
    thread, slot = _network(members, n_factories)
    fees = _fees(static, world[0])
    exogenous, exogenous_day = _exogenous(static)
    row = world[0]
    row[N_DAYS], row[N_PRODUCTS], row[N_FACTORIES] = n_days, n_products, n_factories
    row[N_THREADS], row[N_ROUNDS] = len(thread), static["neg_n_steps"]
    row[HORIZON] = 0 if static["one_time_per_negotiation"] else static["horizon"]
    row[PERISHABLE] = static["perishable"]
    row[QUANTITY_LOW] = 0 if static["allow_zero_quantity"] else 1
    row[QUANTITY_HIGH] = max(1, int(static["max_n_lines"] * static["quantity_multiplier"] + 0.5))
    row[PENALTIES_SCALE] = SCALES[static["penalties_scale"]]
    row[CATALOG_QUANTITIES] = static["catalog_quantities"]
    row[REPORT_PERIOD] = static.get("financial_reports_period", _REPORT_PERIOD)
    row[WIDE_PRICES] = static["wide_price_range"]
    row[BANKRUPTCY_LIMIT] = static["bankruptcy_limit"]
    real[0, PRICE_FRACTION] = static["price_range_fraction"]
    real[0, PRICE_MULTIPLIER] = static["price_multiplier"]
    real[0, DISCOUNT] = static["trading_price_discount"]
    factory = np.zeros((1, n_factories, N_FACTORY), np.int64)
    level = factory[0, :, LEVEL] = np.array(static["level"])
    counts = np.array([0, *(len(there) for there in members), 0])
    factory[0, :, LINES], factory[0, :, COST] = static["n_lines"], static["cost"]
    factory[0, :, INITIAL_BALANCE] = static["initial_balance"]
    factory[0, :, N_SUPPLIERS], factory[0, :, N_CONSUMERS] = counts[level], counts[level + 2]
    factory[0, :, N_COMPETITORS] = counts[level + 1] - 1
    factory[0, :, FIRST_MOVER] = (len(members) - 1 - level) % 2 == 0
    catalog = np.array([static["catalog_prices"]], np.float64)
    return Tables(
        world, real, factory, thread[None], slot[None], catalog, fees[None], exogenous[None], exogenous_day[None]
    )


def stack(worlds: Sequence[Tables]) -> Tables:
    """Puts worlds (each W = 1) together, padded to the largest of each size: slots with -1, all else with 0."""
    sizes = [size_of(one) for one in worlds]
    batch = empty_tables(len(worlds), Room(*(max(column) for column in zip(*sizes, strict=True))))
    for row, one in enumerate(worlds):
        write(batch, row, one)
    return batch


def size_of(tables: Tables) -> Room:
    """The room that a batch of tables has."""
    return Room(
        factories=tables.factory.shape[1],
        products=tables.catalog.shape[1],
        threads=tables.thread.shape[1],
        slots=tables.slot.shape[2],
        days=tables.exogenous_day.shape[1] - 1,
        fees=tables.fees.shape[1],
        exogenous=tables.exogenous.shape[1],
    )


def room_for(config: EnvConfig) -> Room:
    """Room for every world that a config can draw."""
    levels, wide, days = config.processes_range[1], config.factories_range[1], config.days_range[1]
    factories = levels * wide
    daily = 1 if config.track == "std" else 2  # std: only the shortfall penalty varies; oneshot: disposal as well
    return Room(
        factories=factories,
        products=levels + 1,
        threads=(levels - 1) * wide * wide,
        slots=config.n_slots,
        days=days,
        fees=factories * (daily * days + 3 - daily),
        exogenous=2 * wide * days,
    )


def tables_for(config: EnvConfig, n_worlds: int) -> Tables:
    """Tables of `n_worlds` rows that any world of a config fits into, none written yet."""
    batch = empty_tables(n_worlds, room_for(config))
    batch.world[:, HORIZON] = config.horizon  # the only number of a row that sizes of the engine's state depend on
    return batch


def empty_tables(n_worlds: int, room: Room) -> Tables:
    """Tables of `n_worlds` rows without a world in them; `write` places one."""
    return Tables(
        world=np.zeros((n_worlds, N_WORLD), np.int64),
        real=np.zeros((n_worlds, N_REAL)),
        factory=np.zeros((n_worlds, room.factories, N_FACTORY), np.int64),
        thread=np.zeros((n_worlds, room.threads, N_THREAD), np.int16),
        slot=np.full((n_worlds, room.factories, room.slots), -1, np.int16),
        catalog=np.zeros((n_worlds, room.products)),
        fees=np.zeros((n_worlds, room.fees)),
        exogenous=np.zeros((n_worlds, room.exogenous, 4), np.int32),
        exogenous_day=np.zeros((n_worlds, room.days + 1), np.int32),
    )


def write(batch: Tables, row: int, one: Tables) -> None:
    """Places a world (W = 1) into a row of a batch; what the row held is gone.

    Raises:
        ValueError: if the batch has no room for it.
    """
    room, needed = size_of(batch), size_of(one)
    for name, there, wanted in zip(Room._fields, room, needed, strict=True):
        if wanted > there:
            raise ValueError(
                f"A world with room for {wanted} {name} does not fit into tables with room for {there}: make them with "
                "room_for(config) of the config that draws the world."
            )
    for name, to, source in zip(Tables._fields, batch, one, strict=True):
        place, value = to[row], source[0]
        if place.shape != value.shape:
            place[...] = -1 if name == "slot" else 0
            place = place[tuple(slice(size) for size in value.shape)]
        place[...] = value
    days = needed.days + 1
    batch.exogenous_day[row, days:] = one.exogenous_day[0, -1]


def _check_rules(static: Mapping[str, Any]) -> None:
    for name, (wanted, meaning) in _GIVEN.items():
        if static.get(name, wanted) != wanted:
            raise ValueError(f"The fast engine does not do {meaning} ({name}={static[name]!r}): use engine='scml'.")
    scale = static["penalties_scale"]
    if scale not in SCALES:
        raise ValueError(
            f"The fast engine scales penalties by {', '.join(SCALES)}, not by {scale!r}: use engine='scml'."
        )
    for name in ("cost", "catalog_prices", "initial_balance", "catalog_quantities"):
        if np.any(np.asarray(static[name]) % 1):
            raise ValueError(f"The fast engine keeps {name} as whole numbers, got {static[name]}: use engine='scml'.")
    if any(price % 1 for _, _, _, price, _, _ in static["exogenous"]):
        raise ValueError("The fast engine keeps prices as whole numbers, exogenous ones are not: use engine='scml'.")


def _check_network(static: Mapping[str, Any]) -> list[list[int]]:
    """The factories of each level, after a check that every two neighbours trade."""
    level, n_levels = list(static["level"]), static["n_products"] - 1
    members = [[f for f, there in enumerate(level) if there == wanted] for wanted in range(n_levels)]
    if level != sorted(level) or sum(map(len, members)) != len(level) or not all(members):
        raise ValueError(
            f"The fast engine needs factories numbered level by level, on every level one or more; got levels {level}."
        )
    if list(static["suppliers"]) != [[SYSTEM_SELLER], *members] or list(static["consumers"]) != [
        *members,
        [SYSTEM_BUYER],
    ]:
        raise ValueError(
            "The fast engine needs a world in which every factory trades with all of both neighbouring levels, in the "
            f"order of their numbers; got suppliers {static['suppliers']} and consumers {static['consumers']}."
        )
    return members


def _network(members: list[list[int]], n_factories: int) -> tuple[np.ndarray, np.ndarray]:
    """(threads (R, N_THREAD) in the order in which SCML creates and steps them, slots (F, K))."""
    n_levels = len(members)
    beyond: list[list[int]] = [[], *members, []]
    slot_of: list[dict[int, int]] = [{} for _ in range(n_factories)]
    for level, factories in enumerate(members):
        for f in factories:
            slot_of[f] = {partner: k for k, partner in enumerate(beyond[level] + beyond[level + 2])}
    rows = []
    for level in range(n_levels - 1, -1, -2):  # SEMANTICS.md c.1: every other level calls, from the last
        for caller in members[level]:
            for partner in beyond[level] + beyond[level + 2]:
                row = np.zeros(N_THREAD, np.int16)
                row[FIRST], row[SECOND] = caller, partner
                row[BUYER], row[SELLER] = max(caller, partner), min(caller, partner)
                row[PRODUCT] = level if partner < caller else level + 1
                row[SLOT_FIRST], row[SLOT_SECOND] = slot_of[caller][partner], slot_of[partner][caller]
                rows.append(row)
    thread = np.array(rows, np.int16).reshape(-1, N_THREAD)
    slot = np.full((n_factories, max(len(partners) for partners in slot_of)), -1, np.int16)
    numbers = np.arange(len(rows))
    slot[thread[:, FIRST], thread[:, SLOT_FIRST]] = numbers
    slot[thread[:, SECOND], thread[:, SLOT_SECOND]] = numbers
    return thread, slot


def _fees(static: Mapping[str, Any], world: np.ndarray) -> np.ndarray:
    """The rates, day by day, or once where no factory's rate changes. Writes FEE_START and FEE_STRIDE."""
    parts, start = [], 0
    for kind, name in enumerate(FEES):
        rates = np.array(static[name], np.float64).T[: static["n_steps"]]  # (T, F)
        constant = bool((rates == rates[0]).all())
        part = np.ascontiguousarray(rates[:1] if constant else rates).ravel()
        world[FEE_START + kind], world[FEE_STRIDE + kind] = start, 0 if constant else rates.shape[1]
        parts.append(part)
        start += part.size
    return np.concatenate(parts)


def _exogenous(static: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """(contracts (Y, 4) by day in the order of the list, where each day starts (T + 1,))."""
    n_days, last = static["n_steps"], static["n_products"] - 1
    listed = np.array(static["exogenous"], np.int64).reshape(-1, 6)
    day, product, quantity, price, seller, buyer = listed.T
    first = product == 0
    if np.any(~first & (product != last)) or np.any(np.where(first, buyer, seller) < 0):
        raise ValueError(
            "The fast engine knows exogenous contracts of first-level factories about product 0 and of last-level "
            f"factories about product {last} only: use engine='scml'."
        )
    if np.any((day < 0) | (day >= n_days)):
        raise ValueError(f"Exogenous contracts must be due on days 0..{n_days - 1}, got {sorted(set(day.tolist()))}.")
    order = np.argsort(day, kind="stable")
    contracts = np.zeros((len(listed), 4), np.int32)
    contracts[:, EXO_PRODUCT], contracts[:, EXO_QUANTITY], contracts[:, EXO_PRICE] = product, quantity, price
    contracts[:, EXO_FACTORY] = np.where(first, buyer, seller)
    starts = np.zeros(n_days + 1, np.int32)
    np.cumsum(np.bincount(day, minlength=n_days), out=starts[1:])
    return contracts[order], starts


def _number(value: Any) -> int | float:
    """An int where it is whole, as recordings have it."""
    return int(value) if value == int(value) else float(value)
