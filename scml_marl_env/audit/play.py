"""Worlds of an environment id with one audited agent in fixed seats: the same worlds and seats for every agent."""

from dataclasses import dataclass
from typing import Any

from scml_marl_env.audit.watch import audited
from scml_marl_env.config import EnvConfig, level_name
from scml_marl_env.tournament.competitors import competitors
from scml_marl_env.tournament.play import player_of
from scml_marl_env.world.official import Player
from scml_marl_env.world.seats import seated


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
        seats: one of `world.seats.SEATS`.

    Raises:
        ValueError: for an unknown name, shield or kind of seats.
        RuntimeError: if the audit failed.
    """
    (competitor,) = competitors([name], config.track)
    agent, params = player_of(competitor)
    made = seated(config, world_seed, Player(audited(agent), params), seats, "audit")
    made.play()
    scores = made.scores()
    audits = []
    for index in made.chosen:
        played = made.agent(index)
        audits.append(
            SeatAudit(
                world_seed=world_seed,
                index=index,
                level=level_name(made.levels[index], made.levels[index] == max(made.levels)),
                score=scores[index],
                counts=played.tournament_report(),
                examples=played.audit_examples(),
            )
        )
    return audits


def play_job(config: EnvConfig, seats: str, job: tuple[str, int]) -> list[SeatAudit]:
    """`play` of (name, world seed)."""
    name, world_seed = job
    return play(config, name, world_seed, seats)


def replay(config: EnvConfig, name: str, world_seed: int, index: int, seats: str = "levels") -> list[dict[str, Any]]:
    """The examples of a factory, from its world played once more."""
    return next(seat.examples for seat in play(config, name, world_seed, seats) if seat.index == index)
