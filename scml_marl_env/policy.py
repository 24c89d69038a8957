"""What a trained or written policy looks like from here, and how it is loaded by name.

Policies cross the border by name: "algorithms.checkpoint:load" with path="runs/mine/checkpoints/update_0000100" makes a
policy of a checkpoint without this package knowing of torch, and a name with its arguments can be pickled, written into
a tournament's plan and sent to another machine.
"""

import importlib
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class Policy(Protocol):
    """Chooses actions for threads.

    Attributes:
        observation_names: columns that it reads, in order; empty if it takes whatever it is shown.
        config: `config["env"]` holds the fields of the `EnvConfig` that it was made for: track, observation, ...
    """

    observation_names: list[str]
    config: dict[str, Any]

    def act(
        self, observation: np.ndarray, bounds: np.ndarray, rng: np.random.Generator, greedy: bool = False
    ) -> np.ndarray:
        """Returns int64 (n,), a legal action for each row of float32 (n, D) and its compact bounds, int32 (n, M)."""
        ...


def load_policy(name: str, **arguments: Any) -> Policy:
    """The policy that a function makes.

    Args:
        name: "package.module:function".
        **arguments: of the function.

    Raises:
        ValueError: if there is no such function, or it makes no policy.
    """
    return _load(name, tuple(sorted(arguments.items())))


@lru_cache(maxsize=8)  # several seats of a world share one
def _load(name: str, arguments: tuple[tuple[str, Any], ...]) -> Policy:
    module, colon, function = name.partition(":")
    if not colon:
        raise ValueError(f"A policy is named 'package.module:function', got {name!r}.")
    try:
        make = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"Cannot load the policy {name!r}: {error}.") from error
    policy = make(**dict(arguments))
    if not isinstance(policy, Policy):
        kind = type(policy).__name__
        raise ValueError(f"{name!r} made a {kind}, which is no policy: it needs act(), observation_names and config.")
    return policy
