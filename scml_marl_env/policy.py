"""Policies cross the border of this package by name: what one is, how it is loaded, which config it goes with."""

import importlib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np

from scml_marl_env.config import EnvConfig

_DEPLOYED = (
    "track", "shield", "useful", "observation", "history", "price_levels", "reward", "discount", "processes",
    "factories_per_level", "slots",
)  # fmt: skip
"""Options that decide what a policy sees (its rewards too, if it has a memory) and what L1 makes of its answers; the
rest is a matter of the world. The last three give the number of slots, by which some features are measured."""


@runtime_checkable
class Policy(Protocol):
    """Rows of observations and bounds in, actions out.

    Two attributes are optional. `config["env"]` holds the options of the environment it was made for, without which it
    gets the defaults of the track it plays; `observation_names` are the columns it expects, checked where they are
    given. A policy keeps no memory between calls: one object may answer for several factories. One that needs a memory
    has `start` (see `Remembering`), and the memory is asked instead. What decides on the `FactoryView` itself is no
    policy but a `WindowAgent`, as `PrudentAgent` is.
    """

    def act(
        self, observation: np.ndarray, bounds: np.ndarray, rng: np.random.Generator, greedy: bool = False
    ) -> np.ndarray:
        """int64 (n,), an action that its bounds allow for each row of float32 (n, D) and int32 (n, M)."""


class Memory(Protocol):
    """What a policy remembers of one factory in one episode; it answers in the policy's place."""

    def act(
        self,
        slots: np.ndarray,
        observation: np.ndarray,
        bounds: np.ndarray,
        reward: float,
        elapsed: float,
        rng: np.random.Generator,
        greedy: bool = False,
    ) -> np.ndarray:
        """int64 (n,), actions of the threads `slots`, int64 (n,), that answer now: rows as of `Policy.act`.

        `reward` and `elapsed` (days) are what the factory got since its last window, as in the environment; 0 at first.
        """

    def executed(self, slots: np.ndarray, action: np.ndarray) -> None:
        """Is told what L1 made of the answers of `slots`, both int64 (n,)."""


@runtime_checkable
class Remembering(Protocol):
    """A policy with a memory."""

    def start(self, n_slots: int, rng: np.random.Generator) -> Memory:
        """An empty memory of a factory with `n_slots` slots, for one episode."""


N_DRAWS = 4
"""Random numbers that an answer may use: one each for operation, lead time, price level and quantity."""


@runtime_checkable
class RowPolicy(Policy, Protocol):
    """A policy that answers each row by itself: an opponent of the fast engine is one."""

    def act_rows(self, observation: np.ndarray, bounds: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """int64 (n,), as `act` draws it, but from float32 (n, N_DRAWS) `uniform` numbers of [0, 1).

        An answer is a function of its own rows, bit for bit, whatever other rows come with it.

        Raises:
            ValueError: if the policy cannot do so, as some of a class that in general can; already for no rows.
        """


def answers_by_row(policy: Policy, n_columns: int, n_bounds: int) -> TypeGuard[RowPolicy]:
    """Whether a policy, of rows with so many columns and bounds, is a `RowPolicy` that can do what it says."""
    if not isinstance(policy, RowPolicy):
        return False
    observation, bounds = np.zeros((0, n_columns), np.float32), np.zeros((0, n_bounds), np.int32)
    try:
        policy.act_rows(observation, bounds, np.zeros((0, N_DRAWS), np.float32))
    except ValueError:
        return False
    return True


def load_policy(policy: Any, path: Any = None) -> Policy:
    """The policy that a name stands for, or the policy itself.

    Args:
        policy: "package.module:name" of a class or function that returns a policy, or a policy.
        path: its argument, such as the folder of a checkpoint; None calls it without one.

    Raises:
        ValueError: if there is nothing of that name.
        TypeError: if what it returns has no `act`.
    """
    made = policy
    if isinstance(policy, str):
        module, _, name = policy.partition(":")
        try:
            maker = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(f"Cannot load policy {policy!r}: {error}. Use 'package.module:name'.") from error
        made = maker() if path is None else maker(path)
    if isinstance(made, type) or not isinstance(made, Policy):
        raise TypeError(f"A policy has a method act(observation, bounds, rng, greedy), which {made!r} lacks.")
    return made


def config_of_policy(policy: Policy, track: str) -> EnvConfig:
    """The options that a policy was made with, as far as they matter where it plays; it is to play on `track`.

    Raises:
        ValueError: if it was made for the other track, or for an environment that is not of this package.
    """
    about = getattr(policy, "config", None) or {}
    env = about.get("env") if isinstance(about, Mapping) else None
    if env is None:
        return EnvConfig(track=track, processes=2 if track == "oneshot" else (2, 4))
    known = {field.name for field in fields(EnvConfig)}
    if not isinstance(env, Mapping) or "track" not in env or not known.issuperset(env):
        raise ValueError(f"The policy was not made for an environment of scml_marl_env, but for {env!r}.")
    if env["track"] != track:
        raise ValueError(
            f"The policy was made for the {env['track']} track and cannot play {track}: its observation columns and "
            f"lead times are others. Take a policy that was made for a {track} environment."
        )
    options: dict[str, Any] = {
        name: tuple(env[name]) if isinstance(env[name], list) else env[name] for name in _DEPLOYED if name in env
    }
    return EnvConfig(**options)


def check_columns(policy: Policy, names: list[str]) -> None:
    """Raises ValueError unless `names` are the observation columns that the policy expects, if it says so."""
    expected = list(getattr(policy, "observation_names", None) or names)
    if expected != names:
        missing, new = sorted(set(expected) - set(names)), sorted(set(names) - set(expected))
        raise ValueError(
            f"The policy expects {len(expected)} observation columns, but its config gives {len(names)}; missing "
            f"{missing}, new {new}. It was made with another version of scml_marl_env."
        )
