"""Worlds in which one kind of agent plays fixed seats: the same worlds, seats and opponents whoever it is."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from scml_marl_env.config import EnvConfig
from scml_marl_env.world import draw
from scml_marl_env.world.official import Player, build_with, opponent
from scml_marl_env.world.rng import GlobalRandomness

SEATS = ("levels", "official")
"""`levels`: the first factory of every level; `official`: those where the official generator placed competitors."""


class SeatedWorld(NamedTuple):
    """A world that is ready to be played.

    Attributes:
        world: SCML's.
        levels: production level of each factory.
        chosen: factories in the seats.
        seed: of the world.
    """

    world: Any
    levels: tuple[int, ...]
    chosen: tuple[int, ...]
    seed: int

    def agent(self, index: int) -> Any:
        """The agent of a factory."""
        return self.world.agents[self._id(index)].adapted_object

    def play(self) -> None:
        """Plays the world to its end."""
        with GlobalRandomness(self.seed + 2):
            while self.world.step():
                pass

    def scores(self) -> list[float]:
        """SCML's score of every factory."""
        scores = self.world.scores()
        return [float(scores[self._id(index)]) for index in range(len(self.levels))]

    def _id(self, index: int) -> str:
        return list(self.world.agents)[index]


def seated(config: EnvConfig, world_seed: int, player: Player, seats: str, name: str) -> SeatedWorld:
    """Builds a world with `player` in the chosen seats, and the opponents of the config in all others.

    Args:
        config: of the world; what concerns controlled factories is not used.
        world_seed: fixes the economy, the seats, the opponents and every draw.
        player: of the seats.
        seats: one of `SEATS`.
        name: of the world, with the seed behind it; the randomness in which agents are constructed follows from it.

    Raises:
        ValueError: for an unknown kind of seats.
    """
    check_seats(seats)
    economy = draw.economy(config, world_seed)
    chosen = _levels(economy.levels) if seats == "levels" else [i for i, d in enumerate(economy.defaults) if d is None]
    others = draw.Casting(config).field(economy.defaults, world_seed, chosen)
    players = [player if path is None else opponent(path, world_seed, index) for index, path in enumerate(others)]
    with GlobalRandomness(world_seed + 1):
        world = build_with(economy.params, config, players, name=f"{name}-{world_seed}")
    return SeatedWorld(world, economy.levels, tuple(chosen), world_seed)


def check_seats(seats: str) -> None:
    """Raises ValueError for what is not in `SEATS`."""
    if seats not in SEATS:
        raise ValueError(f"seats must be {' or '.join(SEATS)}, got {seats!r}.")


def _levels(levels: Sequence[int]) -> list[int]:
    return [levels.index(level) for level in sorted(set(levels))]
