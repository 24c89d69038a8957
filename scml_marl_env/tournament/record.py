"""WorldRecord: what is kept of one played world. One line of JSON each; every figure of a report comes from these."""

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

MEASURES: dict[str, tuple[str, str]] = {
    "score": ("score", "balance after the last day / initial balance; what is in stock is worth nothing"),
    "deals": ("deals", "contracts signed in negotiations"),
    "bought": ("items", "items of signed negotiated purchases"),
    "sold": ("items", "items of signed negotiated sales"),
    "buy_price": ("ratio", "sum of price*items / sum of trading price*items over the purchases, on the day of signing"),
    "sell_price": ("ratio", "the same over the sales"),
    "shortfall_units": ("items", "items that were due for delivery and not delivered, over all days"),
    "shortfall_days": ("days", "days with a shortfall"),
    "breach_rate": ("share", "shortfall_units / items that were due for delivery (negotiated and exogenous)"),
    "bankrupt": ("0 or 1", "1 if a balance below zero ended the factory"),
    "stock_mean": ("items", "mean over days of the input stock at the end of the day"),
    "stock_volatility": ("items", "standard deviation over days of that stock"),
    "capital_volatility": ("share", "standard deviation over days of (change of balance / initial balance)"),
    "idle_lines": ("share", "1 - items produced / (lines * days)"),
    "windows": ("calls", "decisions asked of the agent, one for all threads that wait together"),
    "decision_ms": ("ms", "mean wall-clock time of a decision, over those of the seat"),
    "decision_ms_max": ("ms", "largest wall-clock time of a decision"),
    "exceptions": ("count", "exceptions that the agent's code raised into the world"),
}
"""Unit and formula of every measure of a seat; nan where it does not exist (a price of nothing bought)."""
TIMES = ("decision_ms", "decision_ms_max")
"""The measures that differ from run to run of the same world."""


@dataclass(frozen=True, kw_only=True)
class SeatRecord:
    """One factory of a world that a competitor played.

    Attributes:
        index: of the factory in the world; (world_seed, index) is the same seat for every competitor.
        level: production level, 0 is the first; `last` tells whether it is the last one.
        competitor: its name in the tournament.
        measures: float for every name of `MEASURES`.
        extra: what the agent counted of itself (`tournament_report()`), such as fallbacks or unsafe actions.
    """

    index: int
    level: int
    last: bool
    competitor: str
    measures: dict[str, float]
    extra: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class WorldRecord:
    """One world that was played, or that could not be.

    Attributes:
        key: names the job; the same in every run of the same tournament.
        world_seed: of the economy. Records with equal `world_seed` differ only in who sits where.
        rotation: which arrangement of the competitors (free: place of the first; swap: number of the focal one).
        error: None, or "exception: ...", "timeout: ...", "death: ..."; `seats` is then empty.
        n_days, n_levels: of the world.
        competitors: who sat in it, also where it failed.
        seats: the factories that competitors played.
        seconds: wall-clock time of the world.
    """

    key: str
    world_seed: int
    rotation: int
    error: str | None
    n_days: int
    n_levels: int
    competitors: tuple[str, ...]
    seats: tuple[SeatRecord, ...]
    seconds: float

    def to_json(self) -> str:
        """One line of JSON, null for nan."""
        raw = asdict(self)
        for seat in raw["seats"]:
            seat["measures"] = _without_nan(seat["measures"])
        return json.dumps(raw, allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> "WorldRecord":
        """The record of a line that `to_json` wrote."""
        raw: dict[str, Any] = json.loads(line)
        for seat in raw["seats"]:
            seat["measures"] = {name: math.nan if x is None else x for name, x in seat["measures"].items()}
        raw["seats"] = tuple(SeatRecord(**seat) for seat in raw["seats"])
        raw["competitors"] = tuple(raw["competitors"])
        return cls(**raw)

    def outcome(self) -> dict[str, Any]:
        """The record without what differs between two runs of the same world: times. None stands for nan."""
        raw = asdict(self)
        del raw["seconds"]
        for seat in raw["seats"]:
            seat["measures"] = _without_nan({name: x for name, x in seat["measures"].items() if name not in TIMES})
        return raw


def _without_nan(measures: dict[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in measures.items()}
