"""Rates of an audit with intervals that respect that the factories and days of a world belong together."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from scml_marl_env.audit.play import SeatAudit
from scml_marl_env.config import LEVEL_NAMES

_ACCEPTS, _OFFERS = ("sell_accepts", "buy_accepts"), ("sell_offers", "buy_offers")


def _single(grade: str, kinds: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{grade}_u1_{kind}" for kind in kinds)


RATES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "u1": (_single("feasible", _ACCEPTS + _OFFERS), _ACCEPTS + _OFFERS),
    "u1_accepts": (_single("feasible", _ACCEPTS), _ACCEPTS),
    "u1_offers": (_single("feasible", _OFFERS), _OFFERS),
    "u2_windows": (("feasible_u2_windows",), ("windows",)),
    "uncovered": (_single("covered", _ACCEPTS + _OFFERS), _ACCEPTS + _OFFERS),
    "uncovered_accepts": (_single("covered", _ACCEPTS), _ACCEPTS),
    "uncovered_offers": (_single("covered", _OFFERS), _OFFERS),
    "uncovered_windows": (("covered_u2_windows",), ("windows",)),
    "short_negotiated": (("short_units_negotiated",), ("days",)),
    "short_exogenous": (("short_units_exogenous",), ("days",)),
    "short_money": (("short_units_money",), ("days",)),
    "short_bankruptcy": (("short_units_bankruptcy",), ("days",)),
    "short_days": (("short_days",), ("days",)),
    "ends_short": (("ends_short",), ("windows",)),
}
"""Counts over counts: what is unsafe (U1, U2) of grade feasible, of grade covered, then U3 in items a day."""
LEVELS = ("all", *LEVEL_NAMES)


class Rate(NamedTuple):
    """A ratio of sums, its 95 % interval, and the sums."""

    value: float
    low: float
    high: float
    hits: float
    of: float


def rates(seats: Sequence[SeatAudit], level: str = "all", draws: int = 2000, seed: int = 0) -> dict[str, Rate]:
    """Every rate of `RATES`, and the mean "score", by the cluster bootstrap: whole worlds are drawn again.

    Args:
        seats: of one agent.
        level: one of `LEVELS`.
        draws: bootstrap samples.
        seed: of the bootstrap.

    Returns:
        Rates by name; nan where nothing was counted.
    """
    kept = [seat for seat in seats if level in ("all", seat.level)]
    worlds = sorted({seat.world_seed for seat in kept})
    row = {world: i for i, world in enumerate(worlds)}
    sums = {name: np.zeros((len(worlds), 2)) for name in (*RATES, "score")}
    for seat in kept:
        here = row[seat.world_seed]
        sums["score"][here] += seat.score, 1.0
        for name, (hits, of) in RATES.items():
            sums[name][here] += sum(seat.counts[c] for c in hits), sum(seat.counts[c] for c in of)
    again = np.random.default_rng(seed).integers(0, max(1, len(worlds)), (draws, len(worlds)))
    return {name: _rate(table, again) for name, table in sums.items()}


def gains(
    seats: Sequence[SeatAudit], base: Sequence[SeatAudit], level: str = "all", draws: int = 2000, seed: int = 0
) -> Rate:
    """Mean paired difference of scores to another agent in the same worlds and seats, by the same bootstrap."""
    before = {(seat.world_seed, seat.index): seat.score for seat in base}
    pairs = [
        (seat.world_seed, seat.score - before[seat.world_seed, seat.index])
        for seat in seats
        if level in ("all", seat.level) and (seat.world_seed, seat.index) in before
    ]
    worlds = sorted({world for world, _ in pairs})
    table = np.zeros((len(worlds), 2))
    for world, gain in pairs:
        table[worlds.index(world)] += gain, 1.0
    return _rate(table, np.random.default_rng(seed).integers(0, max(1, len(worlds)), (draws, len(worlds))))


def _rate(table: np.ndarray, again: np.ndarray) -> Rate:
    """The ratio of the sums of a table (worlds, 2), and of its rows drawn again (draws, worlds)."""
    hits, of = table.sum(0)
    if of == 0:
        return Rate(np.nan, np.nan, np.nan, float(hits), 0.0)
    drawn = table[again].sum(1)
    ratios = np.divide(drawn[:, 0], drawn[:, 1], out=np.full(len(drawn), np.nan), where=drawn[:, 1] > 0)
    low, high = np.nanpercentile(ratios, [2.5, 97.5])
    return Rate(float(hits / of), float(low), float(high), float(hits), float(of))
