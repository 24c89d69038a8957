"""Ways to make an environment, and what importing costs."""

import subprocess
import sys
import time

import gymnasium
import pettingzoo
import pytest

import scml_marl_env
from scml_marl_env.env import ThreadEnv
from scml_marl_env.factory_env import FactoryEnv
from scml_marl_env.registry import gymnasium_id


def test_importing_is_light():
    code = (
        "import sys, time; t = time.process_time(); import scml_marl_env; t = time.process_time() - t\n"
        "heavy = {'scml', 'negmas', 'torch', 'numba', 'pandas'} & {name.split('.')[0] for name in sys.modules}\n"
        "print(t, sorted(heavy))"
    )
    seconds = []
    for _ in range(3):
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        time_, heavy = out.split(" ", 1)
        assert heavy.strip() == "[]"
        seconds.append(float(time_))
    assert min(seconds) < 0.5


@pytest.mark.parametrize("env_id", scml_marl_env.ids())
def test_every_id_is_made_in_every_form(env_id):
    env = scml_marl_env.make(env_id)
    assert isinstance(env, ThreadEnv) and env.possible_agents
    assert isinstance(gymnasium.make(gymnasium_id(env_id)).unwrapped, FactoryEnv)
    assert isinstance(pettingzoo.make("parallel", f"scml_marl_env/{env_id}", render_mode="ansi"), ThreadEnv)
    module = getattr(scml_marl_env, env_id.replace("-", "_") + "_v0")
    assert isinstance(module.parallel_env(max_cycles=9), ThreadEnv)
    assert module.env().possible_agents == env.possible_agents


def test_the_module_form_imports_by_name():
    from scml_marl_env import std_2025_v0

    assert std_2025_v0.parallel_env().config.year == 2025
    with pytest.raises(ImportError):
        from scml_marl_env import std_1999_v0  # noqa: F401


def test_gymnasium_knows_the_documented_id():
    assert gymnasium_id("std-2025") == "scml_marl_env/Std2025-v0"


def test_making_takes_no_world():
    start = time.process_time()
    for _ in range(20):
        scml_marl_env.make("std-2025")
    assert time.process_time() - start < 5
