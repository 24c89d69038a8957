"""Figures of a tournament from its records: every estimate with the number of seats and worlds it rests on.

Intervals are 95 % percentile bootstraps (`scipy.stats.bootstrap`, 2000 resamples). What is drawn anew is the world
seed, with all its seats, rotations and levels together, since seats of one world share its economy. The strata are the
level classes first, middle, last: in each resample they keep the share of the seats that they have in the data
(stratification by weights), so that the chance number of seats at a level adds no variance.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scml_marl_env.config import LEVEL_NAMES as LEVELS
from scml_marl_env.config import level_name
from scml_marl_env.tournament.record import MEASURES, SeatRecord, WorldRecord

RESAMPLES = 2000
EXTRA = "scml_marl_env[tournament]"
FORMULAS = {
    "mean": "mean of the score over the seats played",
    "truncated": "mean of the scores not above Q3 + 2 (Q3 - Q1): truncated_mean of negmas, metric of anac2024_std",
    "iqm": "mean of the middle half of the scores: quantile function averaged over [1/4, 3/4] (Agarwal et al., 2021)",
    "difference": "mean over the seats that both played of score - score of the baseline",
    "improvement": "share of the seats that both played with score > the baseline's, ties count half "
    "(paired form of the probability of improvement of Agarwal et al., 2021)",
    "rating": "openskill Plackett-Luce, mu - 3 sigma; a match ranks all who played one seat; "
    "sigma takes the seats as independent",
    "missing": "seats that another competitor played and this one did not",
    "failed": "worlds that failed while the competitor sat in them, which need not be its fault",
    "measures": "mean over the seats where the measure exists; of decision_ms_max the largest",
    "[low, high]": "95 % percentile bootstrap over world seeds, stratified by level class; nan below two worlds",
}
"""What every statistic is; those of the measures are in `MEASURES`."""


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; nan where it does not exist."""

    value: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    seats: int = 0
    worlds: int = 0


@dataclass(frozen=True)
class Comparison:
    """A competitor against another on the seats that both played; `levels` is the difference by level class."""

    difference: Estimate
    improvement: Estimate
    levels: dict[str, Estimate]


@dataclass(frozen=True, kw_only=True)
class CompetitorSummary:
    """All figures of one competitor.

    Attributes:
        worlds, seats: world seeds and seats played.
        missing: seats that another competitor played and this one did not.
        failed: worlds that failed while it sat in them, which need not be its fault.
        measures: mean of every measure, nan ignored; `measured` the number of seats behind each mean.
        levels: the same means by level class; `level_iqm` the interquartile mean of the score there.
        extra: counter -> (mean over the seats that have it, sum, seats that have it).
        rating: (mu, sigma) of openskill, None without it or without a match.
    """

    name: str
    worlds: int
    seats: int
    missing: int
    failed: int
    mean: Estimate
    truncated: float
    iqm: Estimate
    measures: dict[str, float]
    measured: dict[str, int]
    levels: dict[str, dict[str, float]]
    level_iqm: dict[str, Estimate]
    extra: dict[str, tuple[float, float, int]]
    rating: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Figures of a tournament.

    Attributes:
        baseline: name that the others are compared with; None if there is none or it did not play.
        competitors: best interquartile mean first; who never played comes last.
        pairs: (name, other) -> comparison, for all that share a seat.
        records, worlds: records read and world seeds in them.
        failures: kind ("exception", "timeout", "death") -> failed records; `failed` are (key, error).
        notes: what the reader has to know: missing pairs, a baseline that did not play, ...
        seed: of the bootstrap.
    """

    baseline: str | None
    competitors: tuple[CompetitorSummary, ...]
    pairs: dict[tuple[str, str], Comparison]
    records: int
    worlds: int
    failures: dict[str, int]
    failed: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    seed: int

    def against_baseline(self, name: str) -> Comparison | None:
        """The comparison with the baseline; None if they share no seat."""
        return None if self.baseline is None else self.pairs.get((name, self.baseline))


def level_class(seat: SeatRecord) -> str:
    """One of `LEVELS`."""
    return level_name(seat.level, seat.last)


@dataclass
class Sample:
    """Values with the world and stratum of each: value float64 (n,), world int64 (n,), stratum of strings (n,)."""

    value: np.ndarray
    world: np.ndarray
    stratum: np.ndarray = field(default_factory=lambda: np.empty(0, str))

    @classmethod
    def of(cls, rows: Sequence[tuple[float, int, str]]) -> "Sample":
        value, world, stratum = zip(*rows, strict=True) if rows else ((), (), ())
        return cls(np.array(value, float), np.array(world, np.int64), np.array(stratum, str))

    def at(self, stratum: str) -> "Sample":
        """The part of one stratum."""
        here = self.stratum == stratum
        return Sample(self.value[here], self.world[here], self.stratum[here])


def weighted_mean(value: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Mean of value (n,) under each row of weight (R, n): (R,)."""
    return weight @ value / weight.sum(1)


def interquartile_mean(value: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Average of the quantile function over [1/4, 3/4] under each row of weight.

    With equal weights and n divisible by 4 it equals `scipy.stats.trim_mean(value, 0.25)`, which Agarwal et al. (2021)
    use; for other n the two values at the borders count in part.

    Args:
        value: float64 (n,).
        weight: float64 (R, n), >= 0, each row with a positive sum.

    Returns:
        float64 (R,).
    """
    order = np.argsort(value, kind="stable")
    share = weight[:, order] / weight.sum(1, keepdims=True)
    top = np.cumsum(share, axis=1)
    inside = np.clip(top, 0.25, 0.75) - np.clip(top - share, 0.25, 0.75)
    return inside @ value[order] / inside.sum(1)


def estimate(sample: Sample, statistic: Callable[[np.ndarray, np.ndarray], np.ndarray], seed: int) -> Estimate:
    """The statistic with its interval, as the docstring of this file says.

    Args:
        sample: may be empty.
        statistic: (value (n,), weight (R, n)) -> (R,).
        seed: of the resamples.
    """
    from scipy import stats

    n = len(sample.value)
    if n == 0:
        return Estimate()
    value = float(statistic(sample.value, np.ones((1, n)))[0])
    seeds, world = np.unique(sample.world, return_inverse=True)
    if len(seeds) < 2:
        return Estimate(value, seats=n, worlds=len(seeds))
    members = np.stack([sample.stratum == name for name in np.unique(sample.stratum)]).astype(float)  # (S, n)

    def resampled(drawn: np.ndarray, axis: int = -1) -> np.ndarray:
        rows = np.moveaxis(drawn, axis, -1).reshape(-1, len(seeds))
        times = np.stack([np.bincount(row, minlength=len(seeds)) for row in rows])[:, world].astype(float)  # (R, n)
        drawn_of = times @ members.T  # (R, S), seats drawn of each stratum; none: it has no part in this resample
        scale = np.divide(members.sum(1), drawn_of, out=np.zeros_like(drawn_of), where=drawn_of > 0)
        return statistic(sample.value, times * (scale @ members))

    found = stats.bootstrap(
        (np.arange(len(seeds)),), resampled, n_resamples=RESAMPLES, batch=250, vectorized=True, method="percentile",
        rng=np.random.default_rng(seed),
    )  # fmt: skip
    low, high = found.confidence_interval
    return Estimate(value, float(low), float(high), n, len(seeds))


Seat = tuple[int, int]
"""(world_seed, index)"""
Scores = dict[str, dict[Seat, float]]
"""competitor -> seat -> score, the mean of them if it played the seat more than once"""


def ratings(scores: Scores) -> dict[str, tuple[float, float]]:
    """Competitor -> (mu, sigma) of openskill; a match is one seat, its ranks the scores there, in order of the seats.

    Raises:
        ImportError: openskill is missing.
    """
    try:
        from openskill.models import PlackettLuce
    except ImportError as error:
        raise ImportError(f"Ratings need openskill; install {EXTRA}.") from error
    model = PlackettLuce()
    players: dict[str, Any] = {}
    for seat in sorted({seat for mine in scores.values() for seat in mine}):
        names = sorted(name for name in scores if seat in scores[name])
        if len(names) > 1:
            teams = [[players.get(name) or model.rating(name=name)] for name in names]
            rated = model.rate(teams, scores=[scores[name][seat] for name in names])
            players |= {name: team[0] for name, team in zip(names, rated, strict=True)}
    return {name: (player.mu, player.sigma) for name, player in players.items()}


def summarise(
    records: Iterable[WorldRecord], baseline: str | None = None, seed: int = 0, competitors: Iterable[str] = ()
) -> Summary:
    """The figures of the records; their order does not matter.

    Args:
        records: of one tournament; none of them twice.
        baseline: competitor that the others are compared with.
        seed: of the bootstrap.
        competitors: names that are listed even if they never played.

    Raises:
        ValueError: two records have the same key.
    """
    records = sorted(records, key=lambda record: record.key)
    twice = [key for key, times in Counter(record.key for record in records).items() if times > 1]
    if twice:
        raise ValueError(f"Records with the same key: {twice[:5]}; a world counts once, so remove the copies.")
    notes: list[str] = []
    played: dict[str, list[tuple[WorldRecord, SeatRecord]]] = {name: [] for name in competitors}
    failures_of = Counter(name for record in records if record.error is not None for name in record.competitors)
    for name in failures_of:
        played.setdefault(name, [])
    for record in records:
        for seat in record.seats:
            if np.isfinite(seat.measures["score"]):
                played.setdefault(seat.competitor, []).append((record, seat))
            else:
                played.setdefault(seat.competitor, [])
                notes.append(
                    f"{record.key}: {seat.competitor} at {seat.index} has no finite score; the seat is left out."
                )
    scores, classes = _scores(played)
    everywhere = set(classes)
    failed = tuple((record.key, record.error) for record in records if record.error is not None)
    if failed:
        notes.append(f"{len(failed)} of {len(records)} records failed; their seats are missing.")
    for name, mine in scores.items():
        if not mine:
            notes.append(f"{name} never played a world to its end.")
        elif len(mine) < len(everywhere):
            notes.append(f"{name} misses {len(everywhere) - len(mine)} of {len(everywhere)} seats.")
    if baseline is not None and not scores.get(baseline):
        notes.append(f"Baseline {baseline!r} never played; there is no comparison. Competitors: {sorted(scores)}.")
        baseline = None
    try:
        rated = ratings(scores)
    except ImportError as error:
        rated = {}
        notes.append(str(error))
    found = [
        _competitor(name, rows, len(everywhere - set(scores[name])), failures_of[name], rated.get(name), seed)
        for name, rows in played.items()
    ]
    found.sort(key=lambda one: (one.seats == 0, -one.iqm.value if one.seats else 0.0, one.name))
    return Summary(
        baseline=baseline,
        competitors=tuple(found),
        pairs=_pairs([one.name for one in found], scores, classes, seed),
        records=len(records),
        worlds=len({record.world_seed for record in records}),
        failures=dict(sorted(Counter(error.split(":")[0] for _, error in failed).items())),
        failed=failed,
        notes=tuple(notes),
        seed=seed,
    )


def _scores(played: dict[str, list[tuple[WorldRecord, SeatRecord]]]) -> tuple[Scores, dict[Seat, str]]:
    """The scores, and the level class of every seat."""
    scores: Scores = {}
    classes: dict[Seat, str] = {}
    for name, rows in played.items():
        mine: dict[Seat, list[float]] = defaultdict(list)
        for record, seat in rows:
            mine[record.world_seed, seat.index].append(seat.measures["score"])
            classes[record.world_seed, seat.index] = level_class(seat)
        scores[name] = {place: float(np.mean(values)) for place, values in mine.items()}
    return scores, classes


def _pairs(names: list[str], scores: Scores, classes: dict[Seat, str], seed: int) -> dict[tuple[str, str], Comparison]:
    pairs = {}
    for name in names:
        for other in names:
            shared = sorted(scores[name].keys() & scores[other].keys())
            if name != other and shared:
                rows = [(scores[name][seat] - scores[other][seat], seat[0], classes[seat]) for seat in shared]
                sample = Sample.of(rows)
                wins = Sample((np.sign(sample.value) + 1) / 2, sample.world, sample.stratum)
                pairs[name, other] = Comparison(
                    estimate(sample, weighted_mean, seed),
                    estimate(wins, weighted_mean, seed),
                    {level: estimate(sample.at(level), weighted_mean, seed) for level in _levels(sample)},
                )
    return pairs


def _levels(sample: Sample) -> list[str]:
    return [level for level in LEVELS if level in sample.stratum]


def _competitor(
    name: str,
    rows: list[tuple[WorldRecord, SeatRecord]],
    missing: int,
    n_failed: int,
    rating: tuple[float, float] | None,
    seed: int,
) -> CompetitorSummary:
    from negmas.helpers.numeric import truncated_mean

    seats = [seat for _, seat in rows]
    sample = Sample.of([(seat.measures["score"], record.world_seed, level_class(seat)) for record, seat in rows])
    here = _levels(sample)
    counters = sorted({counter for seat in seats for counter in seat.extra})
    return CompetitorSummary(
        name=name,
        worlds=len(np.unique(sample.world)),
        seats=len(seats),
        missing=missing,
        failed=n_failed,
        mean=estimate(sample, weighted_mean, seed),
        truncated=float(truncated_mean(sample.value)) if seats else float("nan"),
        iqm=estimate(sample, interquartile_mean, seed),
        measures=_means(seats),
        measured={measure: int(np.sum(~np.isnan(_values(seats, measure)))) for measure in MEASURES},
        levels={level: _means([seat for seat in seats if level_class(seat) == level]) for level in here},
        level_iqm={level: estimate(sample.at(level), interquartile_mean, seed) for level in here},
        extra={counter: _total([s.extra[counter] for s in seats if counter in s.extra]) for counter in counters},
        rating=rating,
    )


def _values(seats: list[SeatRecord], measure: str) -> np.ndarray:
    return np.array([seat.measures.get(measure, np.nan) for seat in seats], float)


def _means(seats: list[SeatRecord]) -> dict[str, float]:
    """Mean of every measure over the seats where it exists; of the largest times the largest."""
    means = {}
    for measure in MEASURES:
        there = _values(seats, measure)
        there = there[~np.isnan(there)]
        combine = np.max if measure == "decision_ms_max" else np.mean
        means[measure] = float(combine(there)) if len(there) else float("nan")
    return means


def _total(values: list[float]) -> tuple[float, float, int]:
    return float(np.mean(values)), float(np.sum(values)), len(values)
