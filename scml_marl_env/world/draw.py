"""The draw of a world: SCML's own generator makes it, we say who plays where. No distribution is made here."""

import random
from dataclasses import dataclass
from typing import Any

import numpy as np

from scml_marl_env import opponents
from scml_marl_env.config import EnvConfig
from scml_marl_env.world.rng import GlobalRandomness

_ATTEMPTS = 200


@dataclass(frozen=True)
class WorldDraw:
    """A world before its day 0.

    Attributes:
        seed: what it was drawn with.
        params: arguments of the SCML world class, as the official generator made them, without agents.
        levels: production level of each factory, ascending.
        agent_types: import path of the agent of each factory, None where the environment controls it.
        controlled: indices of the controlled factories, in the order of the environment's factories.
    """

    seed: int
    params: dict[str, Any]
    levels: tuple[int, ...]
    agent_types: tuple[str | None, ...]
    controlled: tuple[int, ...]


def draw(config: EnvConfig, seed: int) -> WorldDraw:
    """Draws a world; the same seed gives the same one, whatever else happens in the process."""
    pool = opponents.pool(config.opponents, config.track, config.year)
    rng = np.random.default_rng([seed, 1])
    with GlobalRandomness(seed):
        generated, levels, types = _generate(config)
    controlled = _place(config, levels, rng)
    defaults = list(_default_agents(config.track))
    paths, weights = list(pool), list(pool.values())
    agent_types: list[str | None] = []
    for index, default in enumerate(types):
        path = paths[int(rng.choice(len(paths), p=weights))]
        if default is None:
            default = defaults[int(rng.integers(len(defaults)))]
        chosen = default if path == opponents.DEFAULT else path
        agent_types.append(None if index in controlled else chosen)
    return WorldDraw(seed, generated, tuple(levels), tuple(agent_types), tuple(controlled))


def world_class(config: EnvConfig) -> type:
    """The official world class of the track (the leagues of 2025 and 2026 keep that of 2024)."""
    if config.track == "std":
        from scml.std.world import SCML2024StdWorld

        return SCML2024StdWorld
    from scml.oneshot.world import SCML2024OneShotWorld

    return SCML2024OneShotWorld


def _generate(config: EnvConfig) -> tuple[dict[str, Any], list[int], list[str | None]]:
    """(arguments of the world, levels, default agents or None at a competitor's place) of all factories."""
    from negmas.serialization import deserialize
    from scml import utils

    official = {
        "std": utils.anac2024_config_generator_std,
        "oneshot": utils.anac2024_config_generator_oneshot,
    }[config.track]
    low, high = config.factories_range
    # The league places 2 to 4 competitors among default agents. Without competitors every level is within its range.
    n_competitors = random.randint(2, 4) if config.factories_per_level is None else 0
    for _ in range(_ATTEMPTS):
        made = official(
            n_competitors=n_competitors,
            n_agents_per_competitor=1,
            min_factories_per_level=low,
            max_factories_per_level=high,
            n_steps=config.days,
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
    return params, list(made["agent_processes"]), list(made["agent_types"])


def _place(config: EnvConfig, levels: list[int], rng: np.random.Generator) -> list[int]:
    """Which factories are controlled: evenly among those of the wanted level, a level drawn evenly where none is."""
    if config.controlled == "all":
        return list(range(len(levels)))
    n_processes = max(levels) + 1
    wanted = config.levels(n_processes)
    chosen: dict[int, int] = {}
    for order in sorted(
        range(len(wanted)), key=lambda i: wanted[i] is None
    ):  # fixed levels first, they have less choice
        level = wanted[order]
        free = [i for i in range(len(levels)) if i not in chosen.values()]
        if level is None:
            level = int(rng.choice(sorted({levels[i] for i in free})))
        choices = [i for i in free if levels[i] == level]
        chosen[order] = choices[int(rng.integers(len(choices)))]
    return [chosen[order] for order in range(len(wanted))]


def _default_agents(track: str) -> tuple[str, ...]:
    from negmas.helpers import get_full_type_name
    from scml.oneshot.context import DefaultAgentsOneShot
    from scml.std.context import DefaultAgentsStd

    return tuple(get_full_type_name(agent) for agent in (DefaultAgentsStd if track == "std" else DefaultAgentsOneShot))
