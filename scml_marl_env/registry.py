"""Environment ids: a table of configs, and the ways to make an environment of one. Imports nothing heavy."""

import difflib
import sys
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from scml_marl_env.config import EnvConfig, check_options
from scml_marl_env.opponents import check_compiled, pool

if TYPE_CHECKING:
    from pettingzoo import AECEnv

    from scml_marl_env.env import ThreadEnv
    from scml_marl_env.factory_env import FactoryEnv
    from scml_marl_env.factory_vector import FactoryVectorEnv
    from scml_marl_env.vector import VectorEnv

_REGISTRY: dict[str, EnvConfig] = {
    f"std-{year}": EnvConfig(track="std", year=year) for year in (2024, 2025, 2026)
}  # fmt: skip
_REGISTRY |= {f"oneshot-{year}": EnvConfig(track="oneshot", year=year, processes=2) for year in (2024, 2025, 2026)}
_REGISTRY["std-mini"] = EnvConfig(track="std", processes=2, factories_per_level=2, days=20)
_REGISTRY["oneshot-mini"] = EnvConfig(track="oneshot", processes=2, factories_per_level=2, days=20)


def ids() -> list[str]:
    """Every environment id."""
    return list(_REGISTRY)


def config_of(env_id: str, **options: Any) -> EnvConfig:
    """The config of an id with `options` in place of its own.

    Raises:
        ValueError: for an unknown id or opponent, an option that is out of range, or an opponent that the fast engine
            does not play, with what would be right.
        TypeError: for an unknown option, with the nearest one, and for opponents that are no SCML agents.
        ModuleNotFoundError: for a competition agent while scml-agents is not installed.
    """
    if env_id not in _REGISTRY:
        close = difflib.get_close_matches(str(env_id), _REGISTRY, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(_REGISTRY)}."
        raise ValueError(f"No environment {env_id!r}; {hint}")
    check_options(options)
    for name in ("observation", "level", "days", "processes", "factories_per_level"):
        if isinstance(options.get(name), list):
            options[name] = tuple(options[name])
    config = replace(_REGISTRY[env_id], **options)
    members = pool(config.opponents, config.track, config.year)
    if config.engine == "fast":
        check_compiled(members, config)
    return config


def fast_engine_plays(env_id: str, **options: Any) -> bool:
    """Whether engine="fast" can play an id with these options: all its opponents have compiled twins, or are policies.

    Raises:
        ValueError, TypeError, ModuleNotFoundError: as `config_of`, for options that no engine can play.
    """
    config = config_of(env_id, **options | {"engine": "scml"})
    try:
        check_compiled(pool(config.opponents, config.track, config.year), config)
    except ValueError:
        return False
    return True


def make(env_id: str, **options: Any) -> "ThreadEnv":
    """A PettingZoo `ParallelEnv` in which every negotiation thread is an agent.

    Args:
        env_id: one of `ids()`.
        **options: fields of `EnvConfig`, in place of the id's own.

    Raises:
        ValueError, TypeError, ModuleNotFoundError: as `config_of`.
    """
    config = config_of(env_id, **options)
    from scml_marl_env.env import ThreadEnv

    return ThreadEnv(config)


def make_factory(env_id: str, **options: Any) -> "FactoryEnv":
    """The same factory as one Gymnasium agent, MultiDiscrete over its slots. Arguments and errors as `make`."""
    config = config_of(env_id, **options)
    from scml_marl_env.factory_env import FactoryEnv

    return FactoryEnv(config)


def make_vector(
    env_id: str,
    n_worlds: int = 1,
    seed: int = 0,
    workers: int = 0,
    rows: Literal["all", "window"] = "all",
    **options: Any,
) -> "VectorEnv":
    """E worlds at once, as arrays.

    Args:
        env_id: one of `ids()`.
        n_worlds: E.
        seed: fixes every episode of every world.
        workers: processes that play the worlds, 0 plays them in this one; with engine="fast" threads of this process.
        rows: show the agents of all controlled factories, or of the one that has to answer: see `VectorEnv`.
        **options: fields of `EnvConfig`.

    Raises:
        ValueError, TypeError: as `make`.
    """
    config = config_of(env_id, **options)
    from scml_marl_env.vector import VectorEnv

    return VectorEnv(config, n_worlds=n_worlds, seed=seed, workers=workers, rows=rows)


def make_factory_vector(
    env_id: str, num_envs: int = 1, seed: int = 0, workers: int = 0, masks: bool = True, **options: Any
) -> "FactoryVectorEnv":
    """The factory view of E worlds as a Gymnasium `VectorEnv`; also `gymnasium.make_vec("scml_marl_env/Std2025-v0")`.

    Args:
        env_id: one of `ids()`.
        num_envs: E.
        seed: of the first reset without one.
        workers: as of `make_vector`.
        masks: put the flat action masks, int8 (E, K, A), into the infos.
        **options: fields of `EnvConfig`.

    Raises:
        ValueError, TypeError: as `make`.
    """
    config = config_of(env_id, **options)
    from scml_marl_env.factory_vector import FactoryVectorEnv

    return FactoryVectorEnv(config, num_envs, seed, workers, masks)


def module_form(name: str) -> ModuleType | None:
    """The module `std_2025_v0` of an id, with `parallel_env`, `env` and `raw_env`; None if there is no such id."""
    env_id = name.removesuffix("_v0").replace("_", "-")
    if not name.endswith("_v0") or env_id not in _REGISTRY:
        return None
    full_name = f"scml_marl_env.{name}"
    if full_name in sys.modules:
        return sys.modules[full_name]

    def parallel_env(**options: Any) -> "ThreadEnv":
        return make(env_id, **options)

    def env(**options: Any) -> "AECEnv":
        from pettingzoo.utils.conversions import parallel_to_aec

        return parallel_to_aec(make(env_id, **options))

    module = ModuleType(full_name, f"The environment {env_id!r} in PettingZoo's module form.")
    module.__dict__.update(parallel_env=parallel_env, env=env, raw_env=env)
    sys.modules[full_name] = module
    return module


def gymnasium_id(env_id: str) -> str:
    """`std-2025` -> `scml_marl_env/Std2025-v0`."""
    return f"scml_marl_env/{''.join(part.capitalize() for part in env_id.split('-'))}-v0"


def register_everywhere() -> None:
    """Registers every id with Gymnasium (the factory view) and PettingZoo (the thread view)."""
    import gymnasium
    import pettingzoo

    for env_id in _REGISTRY:
        if gymnasium_id(env_id) not in gymnasium.registry:
            gymnasium.register(
                gymnasium_id(env_id),
                entry_point="scml_marl_env.registry:make_factory",
                vector_entry_point="scml_marl_env.registry:make_factory_vector",
                kwargs={"env_id": env_id},
            )
        pettingzoo.register(
            "parallel", f"scml_marl_env/{env_id}", "scml_marl_env.registry:make", kwargs={"env_id": env_id}
        )
