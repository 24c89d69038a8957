"""What a learner expects of an environment: arrays and a grid of actions. Nothing here imports an environment.

Shapes: E worlds, N agents, F teams of K = N / F agents (agent n belongs to team n // K), D observation columns,
S state columns, M bounds of one agent, A actions.
"""

from typing import Any, Protocol, runtime_checkable

import numpy as np


class ActionGrid(Protocol):
    """The meaning of an action index, and which indices are legal under an agent's compact bounds.

    A grid with `factors = (L, Q, P)` (lead times, quantities, price levels) is laid out as

        0 wait, 1 end, 2 accept, 3 + (lead * Q + quantity) * P + price

    and answers `ops` and `caps` too, so that a policy may choose operation, lead, price and quantity one after the
    other without ever expanding the flat mask. A plain Discrete space has `factors = None` and only `mask`.
    A grid that a checkpoint is to rebuild is a dataclass whose fields are numbers, strings or sequences of them.
    """

    n_actions: int
    factors: tuple[int, int, int] | None
    quantities: np.ndarray

    def mask(self, bounds: Any, xp: Any = np) -> Any:
        """Returns bool (..., A), True where the action is legal, from int (..., M)."""

    def ops(self, bounds: Any, xp: Any = np) -> Any:
        """Returns bool (..., 4): may the agent wait, end, accept, offer?"""

    def caps(self, bounds: Any, xp: Any = np) -> Any:
        """Returns int (..., L, P), the largest legal quantity (items) of each lead time and price level."""


@runtime_checkable
class CompactGrid(Protocol):
    """A factored grid that also says what factors need one after the other without expanding (L, P); numpy only.

    Optional: it saves time on a CPU and must agree with `ops` and `caps`.
    """

    def ops_and_leads(self, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns bool (n, 4), `ops`, and bool (n, L): may some offer on this lead time be made?  From int32 (n, M)."""

    def caps_at(self, bounds: np.ndarray, lead: np.ndarray) -> np.ndarray:
        """Returns int (n, P), `caps` at each row's lead int64 (n,); rows are freshly allocated."""


class VectorEnv(Protocol):
    """E worlds that step together and write their arrays in place (the same objects for the life of the env).

    `reset` and `step` fill, for what happens next:
        observation: float32 (E, N, D).
        state: float32 (E, F, S), what a centralised critic sees.
        bounds: int32 (E, N, M), what `action_grid` makes masks of.
        active: bool (E, N), True where the agent decides at this step; actions of others are ignored.

    and `step` fills, for what just happened:
        reward: float32 (E, F), shared by the agents of the team.
        elapsed: float32 (E, F), time that passed; the step is discounted by gamma ** elapsed.
        terminated, truncated: bool (E, F). A team that is done stays inactive, with zero reward, until every team of
            its world is done; then the world is reset within the same step and the arrays above show its new episode.
        final_observation, final_state, final_active: the last view of a team that ended at this step.
        executed: int64 (E, N), the action carried out; it differs from the chosen one where the env overruled it.
        episodes: list of one dict per ended episode, {"world": int, "seed": int, "return": [F floats],
            "length": int, ...numbers}; the reader clears it.
    """

    n_worlds: int
    n_agents: int
    n_teams: int
    observation: np.ndarray
    state: np.ndarray
    bounds: np.ndarray
    active: np.ndarray
    reward: np.ndarray
    elapsed: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    executed: np.ndarray
    final_observation: np.ndarray
    final_state: np.ndarray
    final_active: np.ndarray
    episodes: list[dict[str, Any]]
    action_grid: ActionGrid
    agent_names: list[str]
    observation_names: list[str]
    config: dict[str, Any]

    def reset(self, seed: int | None) -> None:
        """Starts every world anew; the seeds of all its episodes follow from `seed`."""

    def step(self, actions: np.ndarray) -> None:
        """Carries out int64 (E, N) and fills the arrays."""

    def close(self) -> None:
        """Frees what the worlds hold."""


@runtime_checkable
class Refreshable(Protocol):
    """A vector environment that leaves observation and state of teams that do not decide now as they were."""

    def refresh(self) -> None:
        """Fills the rows of all teams; called before their values close the trajectories of a rollout."""


@runtime_checkable
class Windowed(Protocol):
    """A vector environment that may show one team of each world at a time, the one that decides.

    Where it does (`rows` is "window"), N is the K agents of a team and `state` is (E, 1, S), while `reward`, `elapsed`,
    `terminated` and `truncated` keep their F teams; no episode is truncated, and `final_*` are empty. Agent k of team f
    is agent f*K + k of everyone.
    """

    rows: str
    team: np.ndarray
    """int64 (E,), the team that is shown"""

    def everyone(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns what all teams see now, float32 (E, F*K, D) and (E, F, S)."""


def shows_one_team(env: VectorEnv) -> bool:
    """Whether `env` shows one team at a time, see `Windowed`."""
    return isinstance(env, Windowed) and env.rows == "window"


@runtime_checkable
class Restorable(Protocol):
    """A vector environment that can be put back into a state; without it a resumed run starts new episodes."""

    def state_dict(self) -> dict[str, Any]:
        """Returns numbers, strings, arrays, and lists and dicts of them."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts every world, and all the arrays, back to where `state_dict` was called."""
