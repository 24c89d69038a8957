"""Between episodes of a dataset and the arrays of a rollout buffer: one code reads online and offline data.

A rollout has (T steps, E worlds, N agents, F teams), see `algorithms.buffer.RolloutBuffer`. An episode becomes one with
E = F = 1 and N = K slots; rows of threads that had nothing to answer are zeros, whose bounds allow only to wait.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from scml_marl_env.actions import ACCEPT, CAN_WAIT, OFFER, ActionGrid


class Rollout(NamedTuple):
    """The arrays of a rollout buffer, by its names; `algorithms.buffer.RolloutBuffer.trajectory` takes it as `self`."""

    observation: np.ndarray  # float32 (T, E, N, D)
    state: np.ndarray  # float32 (T, E, F, S)
    bounds: np.ndarray  # int32 (T, E, N, M)
    active: np.ndarray  # bool (T, E, N)
    action: np.ndarray  # int64 (T, E, N)
    executed: np.ndarray  # int64 (T, E, N)
    log_prob: np.ndarray  # float32 (T, E, N), 0: nobody knows it
    reward: np.ndarray  # float32 (T, E, F)
    elapsed: np.ndarray  # float32 (T, E, F)
    terminated: np.ndarray  # bool (T, E, F)
    truncated: np.ndarray  # bool (T, E, F)
    last_observation: np.ndarray  # float32 (E, N, D), zeros: the episode is over
    last_state: np.ndarray  # float32 (E, F, S), zeros
    cuts: list[tuple[int, int, np.ndarray, np.ndarray]]

    @property
    def n_steps(self) -> int:
        return len(self.active)

    @property
    def team(self) -> np.ndarray:
        """int64 (0, 0): every step shows all teams."""
        return np.zeros((0, 0), np.int64)


class Piece(NamedTuple):
    """A stretch of one team in a rollout: `steps` as `DatasetWriter.episode` takes them, where it was, what it earned.

    Attributes:
        steps: arrays by name.
        world, team: of the rollout.
        start: first step of it in the rollout.
        total: sum of its rewards; if the episode is whole, not ended by bankruptcy, and its reward the profit, SCML's
            score minus 1.
    """

    steps: dict[str, np.ndarray]
    world: int
    team: int
    start: int
    total: float


def rollout_of(steps: Mapping[str, np.ndarray], n_slots: int) -> Rollout:
    """The rollout of an episode (`Dataset.episode`) with at least `n_slots` slots.

    What was to be seen behind a truncated episode is not in a dataset: its `cuts` hold zeros, from which no critic can
    bootstrap. `algorithms.offline.returns_to_go` takes 0 there.
    """
    answers, slot = np.asarray(steps["answers"]), np.asarray(steps["slot"])
    n, k = len(answers), max(n_slots, int(slot.max(initial=0)) + 1)
    at = np.repeat(np.arange(n), answers), 0, slot
    observation = np.zeros((n, 1, k, steps["observation"].shape[1]), np.float32)
    bounds = np.zeros((n, 1, k, steps["bounds"].shape[1]), np.int32)
    active, action = np.zeros((n, 1, k), bool), np.zeros((n, 1, k), np.int64)
    bounds[..., CAN_WAIT] = 1
    observation[at], bounds[at], active[at], action[at] = steps["observation"], steps["bounds"], True, steps["action"]
    truncated = np.array(steps["truncated"])[:, None, None]
    cuts = [(int(t), 0, np.zeros_like(observation[0, 0]), np.zeros_like(steps["state"][:1])) for t in
            np.flatnonzero(truncated)]  # fmt: skip
    return Rollout(
        observation=observation,
        state=np.array(steps["state"])[:, None, None],
        bounds=bounds,
        active=active,
        action=action,
        executed=action.copy(),
        log_prob=np.zeros((n, 1, k), np.float32),
        reward=np.array(steps["reward"])[:, None, None],
        elapsed=np.array(steps["elapsed"])[:, None, None],
        terminated=np.array(steps["terminated"])[:, None, None],
        truncated=truncated,
        last_observation=np.zeros_like(observation[0]),
        last_state=np.zeros((1, 1, steps["state"].shape[1]), np.float32),
        cuts=cuts,
    )


def from_rollout(buffer: Any, grid: ActionGrid) -> Iterator[Piece]:
    """The stretches of every world and team of a rollout, cut where an episode ends; the executed actions are taken.

    A step of a dataset is a step in which the team decides; what it earns while others decide is added to the step
    before. A stretch that the rollout's end cuts is truncated there, and what came before a team's first decision is
    left out. A buffer keeps neither days nor rounds: `day` counts from the first step, `round` is -1.

    Args:
        buffer: a full `RolloutBuffer`, or a `Rollout`.
        grid: of its actions.

    Raises:
        ValueError: if it shows one team at a time.
    """
    if buffer.team.size:
        raise ValueError("The steps of this rollout show one team each (rows='window'); record one with rows='all'.")
    n_worlds, n_agents = buffer.active.shape[1:]
    n_teams = buffer.reward.shape[2]
    for world in range(n_worlds):
        for team in range(n_teams):
            agents = slice(team * n_agents // n_teams, (team + 1) * n_agents // n_teams)
            ended = buffer.terminated[:, world, team] | buffer.truncated[:, world, team]
            starts = np.concatenate([[0], np.flatnonzero(ended) + 1])
            for first, last in zip(starts, [*starts[1:], len(ended)], strict=True):
                piece = _piece(buffer, grid, world, team, agents, int(first), int(last))
                if piece is not None:
                    yield piece


def _piece(buffer: Any, grid: ActionGrid, world: int, team: int, agents: slice, first: int, last: int) -> Piece | None:
    active = buffer.active[first:last, world, agents]
    windows = np.flatnonzero(active.any(1))
    if not len(windows):
        return None
    step, slot = np.nonzero(active)
    bounds = buffer.bounds[first:last, world, agents][step, slot]
    action = buffer.executed[first:last, world, agents][step, slot].astype(np.int32)
    rows = slice(first, last)
    ends = np.zeros(len(windows), bool)
    ends[-1] = True
    terminated = ends & bool(buffer.terminated[last - 1, world, team])
    reward, elapsed = (
        np.add.reduceat(array[rows, world, team].astype(np.float64), windows)
        for array in (buffer.reward, buffer.elapsed)
    )
    steps = {
        "observation": buffer.observation[rows, world, agents][step, slot],
        "bounds": bounds,
        "action": action,
        "raw": raw_of(grid, bounds, action),
        "slot": slot.astype(np.int16),
        "state": buffer.state[rows, world, team][windows],
        "day": np.concatenate([[0], np.cumsum(elapsed)[:-1]]).astype(np.int16),
        "round": np.full(len(windows), -1, np.int16),
        "reward": reward.astype(np.float32),
        "elapsed": elapsed.astype(np.float32),
        "terminated": terminated,
        "truncated": ends & ~terminated,
        "answers": active[windows].sum(1),
    }
    return Piece(steps, world, team, first, float(reward.sum()))


def raw_of(grid: ActionGrid, bounds: np.ndarray, action: np.ndarray) -> np.ndarray:
    """int32 (n, 4): operation, quantity, lead and price (dollars) that actions (n,) of the grid mean."""
    raw = np.zeros((len(action), 4), np.int32)
    raw[:, 0] = np.minimum(action, OFFER)
    offers = np.flatnonzero(action > ACCEPT)
    _, n_quantities, n_levels = grid.factors
    cell, level = np.divmod(action[offers] - OFFER, n_levels)
    lead, index = np.divmod(cell, n_quantities)
    prices = grid.prices(bounds[offers])
    raw[offers, 1], raw[offers, 2] = grid.quantity_array[index], lead
    raw[offers, 3] = prices[np.arange(len(offers)), level]
    return raw
