"""Worlds of an environment id with one audited agent in fixed seats: the same worlds and seats for every agent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scml_marl_env.audit.watch import audited
from scml_marl_env.config import EnvConfig
from scml_marl_env.tournament.competitors import competitors
from scml_marl_env.tournament.play import player_of
from scml_marl_env.world import draw
from scml_marl_env.world.official import Player, build_with, opponent
from scml_marl_env.world.rng import GlobalRandomness

SEATS = ("levels", "official")
"""`levels`: the first factory of every level; `official`: those where the official generator placed competitors."""


@dataclass(frozen=True, kw_only=True)
class SeatAudit:
    """What an audited factory did in a world.

    Attributes:
        world_seed: of the economy.
        index: of the factory in the world.
        level: "first", "middle" or "last".
        score: SCML's, final balance over initial balance.
        counts: the agent's `tournament_report()`.
        examples: its `audit_examples()`; `replay` finds them again.
    """

    world_seed: int
    index: int
    level: str
    score: float
    counts: dict[str, float]
    examples: list[dict[str, Any]]


def play(config: EnvConfig, name: str, world_seed: int, seats: str = "levels") -> list[SeatAudit]:
    """Plays a world with an audited agent in the chosen seats, and the opponents of the config in all others.

    Args:
        config: of the worlds; what concerns controlled factories is not used.
        name: a competitor as `tournament.competitors` reads it (a name, an import path, the folder of a checkpoint,
            with "+feasible" or "+covered" behind it for the external shield).
        world_seed: fixes the economy, the seats, the opponents and every draw.
        seats: one of `SEATS`.

    Raises:
        ValueError: for an unknown name, shield or kind of seats.
        RuntimeError: if the audit failed.
    """
    if seats not in SEATS:
        raise ValueError(f"seats must be {' or '.join(SEATS)}, got {seats!r}.")
    (competitor,) = competitors([name], config.track)
    agent, params = player_of(competitor)
    watched = Player(audited(agent), params)
    economy = draw.economy(config, world_seed)
    chosen = _levels(economy.levels) if seats == "levels" else [i for i, d in enumerate(economy.defaults) if d is None]
    others = draw.Casting(config).field(economy.defaults, world_seed, chosen)
    players = [watched if path is None else opponent(path, world_seed, i) for i, path in enumerate(others)]
    with GlobalRandomness(world_seed + 1):
        world = build_with(economy.params, config, players, name=f"audit-{world_seed}")
    with GlobalRandomness(world_seed + 2):
        while world.step():
            pass
    ids, scores = list(world.agents), world.scores()
    audits = []
    for index in chosen:
        played = world.agents[ids[index]].adapted_object
        audits.append(
            SeatAudit(
                world_seed=world_seed,
                index=index,
                level=_level_name(economy.levels, index),
                score=float(scores[ids[index]]),
                counts=played.tournament_report(),
                examples=played.audit_examples(),
            )
        )
    return audits


def replay(config: EnvConfig, name: str, world_seed: int, index: int, seats: str = "levels") -> list[dict[str, Any]]:
    """The examples of a factory, from its world played once more."""
    return next(seat.examples for seat in play(config, name, world_seed, seats) if seat.index == index)


def _levels(levels: Sequence[int]) -> list[int]:
    return [levels.index(level) for level in sorted(set(levels))]


def _level_name(levels: Sequence[int], index: int) -> str:
    level = levels[index]
    return "first" if level == 0 else "last" if level == max(levels) else "middle"
