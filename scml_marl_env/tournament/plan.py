"""Who plays where in which world: a function of the tournament alone, the same on every machine."""

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from scml_marl_env.config import EnvConfig
from scml_marl_env.registry import config_of
from scml_marl_env.tournament.competitors import Competitor
from scml_marl_env.world.draw import Casting, Economy

MODES = ("free", "swap")
PRICES = ("refuse", "accept")
FIRST_SEED = 10_000_000
_SEEDS = 100_000
_N_SEEDS = 100  # of tournaments; the worlds of `data.collect` follow behind theirs


@dataclass(frozen=True, kw_only=True)
class Tournament:
    """Everything that decides the results of a tournament.

    Attributes:
        env: id of the environment whose worlds are played.
        options: fields of its `EnvConfig`, such as inventory="conserving"; `opponents` is the field around the seats.
        competitors: in the order of the tables.
        mode: `free`: the 2 to 4 places for competitors, through which all competitors rotate, are where the official
            generator puts them (anywhere, where the environment fixes the factories of a level); or
            `swap`: one fixed seat on every level, in all of which every competitor sits in turn.
        worlds: economies to play; each is played once for every competitor.
        seed: of the tournament, 0 to 99; no two seeds share an economy, and none is of a bank that
            `experiments/run.py` makes to train on, or recorded by `experiments/collect.py`.
        fractional_prices: `accept` gives agents that quote fractional prices the behaviour of older negmas.
    """

    env: str
    options: dict[str, Any] = field(default_factory=dict)
    competitors: tuple[Competitor, ...]
    mode: str = "free"
    worlds: int = 10
    seed: int = 0
    fractional_prices: str = "refuse"

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode must be one of {MODES}, got {self.mode!r}.")
        if self.fractional_prices not in PRICES:
            raise ValueError(f"fractional_prices must be one of {PRICES}, got {self.fractional_prices!r}.")
        if not 1 <= self.worlds <= _SEEDS:
            raise ValueError(f"worlds must be 1 to {_SEEDS}, got {self.worlds}.")
        if not 0 <= self.seed < _N_SEEDS:
            raise ValueError(f"seed must be 0 to {_N_SEEDS - 1}, got {self.seed}.")
        if not self.competitors:
            raise ValueError("A tournament needs at least one competitor.")
        self.config()

    def config(self) -> EnvConfig:
        """Of the worlds."""
        return config_of(self.env, **self.options)

    def to_json(self) -> dict[str, Any]:
        """As plain values; equal for equal tournaments."""
        return json.loads(json.dumps(asdict(self)))


class Job(NamedTuple):
    """One world to play: economy, and which arrangement of the competitors in it."""

    world_seed: int
    rotation: int

    @property
    def key(self) -> str:
        return f"{self.world_seed}-{self.rotation}"


def jobs(tournament: Tournament) -> list[Job]:
    """Every world of a tournament; those of one economy follow each other."""
    first = FIRST_SEED + tournament.seed * _SEEDS
    return [
        Job(world_seed, rotation)
        for world_seed in range(first, first + tournament.worlds)
        for rotation in range(len(tournament.competitors))
    ]


class Arrangement(NamedTuple):
    """Who plays one world.

    Attributes:
        paths: import path of the agent of each factory, None in the competitors' seats.
        seats: {index of a factory: its competitor}.
    """

    paths: tuple[str | None, ...]
    seats: dict[int, Competitor]


def arrange(tournament: Tournament, config: EnvConfig, economy: Economy, job: Job) -> Arrangement:
    """Seats the competitors.

    `free`: over the rotations of an economy every competitor plays each of its places once. Which competitors meet is
    drawn anew for every economy. `swap`: the seats are one of every level, drawn for the economy; the rotation is the
    number of the competitor that plays all of them.
    """
    chance = random.Random(job.world_seed)
    order = list(tournament.competitors)
    if tournament.mode == "free":
        chance.shuffle(order)
        places = [index for index, default in enumerate(economy.defaults) if default is None]
        if not places:  # the generator places no competitors where `factories_per_level` is set
            n = len(economy.levels)
            places = sorted(chance.sample(range(n), chance.randint(2, min(4, n))))
        seats = {place: order[(i + job.rotation) % len(order)] for i, place in enumerate(places)}
    else:
        seats = dict.fromkeys(one_of_each_level(economy.levels, chance), order[job.rotation])
    return Arrangement(Casting(config).field(economy.defaults, job.world_seed, list(seats)), seats)


def one_of_each_level(levels: Sequence[int], chance: random.Random) -> list[int]:
    """One factory of every level, drawn evenly."""
    return [chance.choice([i for i, there in enumerate(levels) if there == level]) for level in sorted(set(levels))]
