"""SCML factories as multi-agent reinforcement learning: every concurrent negotiation thread is an agent.

    import scml_marl_env
    env = scml_marl_env.make("std-2025")                    # a PettingZoo ParallelEnv
    env = scml_marl_env.make_factory("std-2025")            # the same factory as one Gymnasium agent
    envs = scml_marl_env.make_vector("std-2025", n_worlds=256, engine="fast")     # arrays, the compiled engine
    envs = scml_marl_env.make_factory_vector("std-2025", num_envs=256, engine="fast")   # a Gymnasium VectorEnv

or, as PettingZoo users know it, `from scml_marl_env import std_2025_v0; env = std_2025_v0.parallel_env()`.
"""

from types import ModuleType

from scml_marl_env.registry import (
    ids,
    make,
    make_factory,
    make_factory_vector,
    make_vector,
    module_form,
    register_everywhere,
)

__version__ = "0.1.0"
__all__ = ["ids", "make", "make_factory", "make_factory_vector", "make_vector"]

register_everywhere()


def __getattr__(name: str) -> ModuleType:
    module = module_form(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return module
