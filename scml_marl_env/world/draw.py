"""The draw of a world: SCML's own generator makes its economy, we say who plays where.

No distribution of SCML's is made here. The economy follows from a world seed alone, the roles from the seed of the
episode and from what the economy shows (levels, default agents), by the same few lines for every engine.
"""

import random
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from scml_marl_env import opponents
from scml_marl_env.config import EnvConfig
from scml_marl_env.world.rng import GlobalRandomness

_ATTEMPTS = 200
_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_ROLES = 0x726F6C6573  # keeps the numbers of the roles apart from others that are drawn with the same seed


@dataclass(frozen=True, kw_only=True)
class WorldDraw:
    """A world before its day 0.

    Attributes:
        seed: of the episode; it decides who plays where.
        world_seed: what the economy was drawn with: `seed`, or that of a world of the bank.
        params: arguments of the SCML world class, as the official generator made them, without agents.
        levels: production level of each factory, ascending.
        agent_types: import path of the agent of each factory, None where the environment controls it.
        controlled: indices of the controlled factories, in the order of the environment's factories.
    """

    seed: int
    world_seed: int
    params: dict[str, Any]
    levels: tuple[int, ...]
    agent_types: tuple[str | None, ...]
    controlled: tuple[int, ...]


class Economy(NamedTuple):
    """What SCML's generator made: arguments of the world, level and default agent (None: a competitor) of factories."""

    params: dict[str, Any]
    levels: tuple[int, ...]
    defaults: tuple[str | None, ...]


class Roles(NamedTuple):
    """Who plays where, see `WorldDraw`."""

    controlled: tuple[int, ...]
    agent_types: tuple[str | None, ...]


def draw(config: EnvConfig, seed: int) -> WorldDraw:
    """Draws a world; the same seed gives the same one, whatever else happens in the process."""
    world_seed = seed
    if config.bank is not None:
        from scml_marl_env.world.bank import open_bank

        bank = open_bank(config)
        world_seed = bank.world_seed(bank.row_of(seed))
    made = economy(config, world_seed)
    roles = Casting(config).roles(made.levels, made.defaults, seed)
    return WorldDraw(
        seed=seed,
        world_seed=world_seed,
        params=made.params,
        levels=made.levels,
        agent_types=roles.agent_types,
        controlled=roles.controlled,
    )


def economy(config: EnvConfig, world_seed: int) -> Economy:
    """The economy that SCML's generator makes of a seed."""
    with GlobalRandomness(world_seed):
        return _generate(config)


def mix(value: int) -> int:
    """The finaliser of splitmix64: 64 well mixed bits of any whole number."""
    value = (value ^ (value >> 64)) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


class Casting:
    """Gives the factories of a world their roles. Make it once for a config, its work for a world takes microseconds.

    The controlled factories are spread evenly over those of the wanted level, and over the levels where none is wanted.
    Every other factory draws its opponent by weight; `default` keeps the default agent that the generator drew there,
    or draws one evenly where the generator had a competitor.
    """

    def __init__(self, config: EnvConfig) -> None:
        pool = opponents.pool(config.opponents, config.track, config.year)
        self._paths = list(pool)
        self._weights = list(accumulate(pool.values()))[:-1]
        self._defaults = _default_agents(config.track)
        self._everyone = config.controlled == "all"
        low, high = config.processes_range
        self._wanted = {n: config.levels(n) for n in range(low, high + 1)}

    def roles(self, levels: Sequence[int], defaults: Sequence[str | None], seed: int) -> Roles:
        """The roles in a world, a function of the arguments and the config alone.

        Args:
            levels: level of each factory, ascending.
            defaults: default agent of each factory, None where the generator had a competitor.
            seed: of the episode.
        """
        if self._everyone:
            return Roles(tuple(range(len(levels))), (None,) * len(levels))
        controlled, stream = self._place(levels, mix(int(seed) + _GOLDEN) ^ _ROLES)
        return Roles(tuple(controlled), self._cast(defaults, controlled, stream))

    def field(self, defaults: Sequence[str | None], seed: int, seats: Sequence[int]) -> tuple[str | None, ...]:
        """Who plays a world in which `seats` (indices of factories) are given to others; None there."""
        return self._cast(defaults, seats, mix(int(seed) + _GOLDEN) ^ _ROLES)

    def _cast(self, defaults: Sequence[str | None], taken: Sequence[int], stream: int) -> tuple[str | None, ...]:
        types: list[str | None] = []
        for index, default in enumerate(defaults):
            if index in taken:
                types.append(None)
                continue
            path: str | None = self._paths[0]
            if self._weights:
                stream = (stream + _GOLDEN) & _MASK
                path = self._paths[bisect(self._weights, mix(stream) / (_MASK + 1))]
            if path == opponents.DEFAULT:
                path = default
                if path is None:
                    stream = (stream + _GOLDEN) & _MASK
                    path = self._defaults[(mix(stream) * len(self._defaults)) >> 64]
            types.append(path)
        return tuple(types)

    def _place(self, levels: Sequence[int], stream: int) -> tuple[list[int], int]:
        """The controlled factories, in the order in which their levels are wanted, and the advanced stream."""
        wanted = self._wanted[levels[-1] + 1]
        free: list[list[int]] = [[] for _ in range(levels[-1] + 1)]
        for index, there in enumerate(levels):
            free[there].append(index)
        chosen = [0] * len(wanted)
        for fixed in (True, False):  # fixed levels first, they have less choice
            for order, level in enumerate(wanted):
                if (level is not None) != fixed:
                    continue
                if level is None:
                    open_levels = [choices for choices in free if choices]
                    stream = (stream + _GOLDEN) & _MASK
                    choices = open_levels[(mix(stream) * len(open_levels)) >> 64]
                else:
                    choices = free[level]
                stream = (stream + _GOLDEN) & _MASK
                chosen[order] = choices.pop((mix(stream) * len(choices)) >> 64)
        return chosen, stream


def world_class(config: EnvConfig) -> type:
    """The official world class of the track (the leagues of 2025 and 2026 keep that of 2024)."""
    if config.track == "std":
        from scml.std.world import SCML2024StdWorld

        return SCML2024StdWorld
    from scml.oneshot.world import SCML2024OneShotWorld

    return SCML2024OneShotWorld


def _generate(config: EnvConfig) -> Economy:
    from negmas.serialization import deserialize
    from scml import utils

    official = {
        "std": utils.anac2024_config_generator_std,
        "oneshot": utils.anac2024_config_generator_oneshot,
    }[config.track]
    low, high = config.factories_range
    first, last = config.days_range
    # The league places 2 to 4 competitors among default agents. Without competitors every level is within its range.
    n_competitors = random.randint(2, 4) if config.factories_per_level is None else 0
    for _ in range(_ATTEMPTS):
        made = official(
            n_competitors=n_competitors,
            n_agents_per_competitor=1,
            min_factories_per_level=low,
            max_factories_per_level=high,
            n_steps=first if first == last else (first, last),
            n_processes=config.processes_range,
            publish_exogenous_summary=True,
            publish_trading_prices=True,
        )[0]["world_params"]
        counts = np.bincount(made["agent_processes"])
        if counts.min() >= low and counts.max() <= high:
            break
    else:
        raise ValueError(
            f"SCML's generator placed no {low} to {high} factories on every level in {_ATTEMPTS} draws; "
            "widen factories_per_level."
        )
    params = deserialize(made["__exact_params"])
    return Economy(params, tuple(made["agent_processes"]), tuple(made["agent_types"]))


def _default_agents(track: str) -> tuple[str, ...]:
    """SCML's default agents in its own order, by name: importing them takes seconds."""
    return tuple(opponents.BUILT_IN[track][name] for name in opponents.DEFAULTS[track])
