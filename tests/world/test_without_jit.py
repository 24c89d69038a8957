"""Every kernel of the fast engine as plain Python (`NUMBA_DISABLE_JIT=1`): the same numbers as compiled."""

import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from scml_marl_env.registry import config_of
from scml_marl_env.vector import VectorEnv

WORLDS = (
    ("std-mini", {"days": 4, "observation": ("thread", "history"), "history": 2}),
    ("oneshot-mini", {"days": 4, "reward": "potential", "audit": True}),
    ("std-mini", {"days": 4, "opponents": "prudent", "processes": 3, "controlled": 2}),
    ("std-mini", {"days": 4, "inventory": "conserving", "shield": "covered", "privileged_state": True}),
    ("std-mini", {"days": 4, "controlled": "all", "rows": "window", "rounds": 1}),
)


def fingerprint(env_id, options):
    """A checksum of everything that two worlds show over some windows of random allowed play."""
    rows = options.get("rows", "all")
    config = config_of(env_id, engine="fast", **{name: value for name, value in options.items() if name != "rows"})
    env = VectorEnv(config, 2, seed=3, rows=rows)
    env.reset(3)
    mark, rng = 0, np.random.default_rng(0)
    for _ in range(50):
        masks = env.action_grid.mask(env.bounds)
        actions = np.zeros((2, env.n_agents), np.int64)
        for e, n in np.argwhere(env.active):
            actions[e, n] = rng.choice(np.flatnonzero(masks[e, n]))
        env.step(actions)
        for array in (env.observation, env.state, env.bounds, env.reward, env.executed):
            mark = zlib.crc32(np.ascontiguousarray(array).tobytes(), mark)
    return zlib.crc32(repr(env.episodes).encode(), mark)


def _plain(code):
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONWARNINGS": "ignore"}
    code = "import numpy; numpy.seterr(divide='raise', invalid='raise')\n" + code  # compiled, nothing asks about zeros
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_whole_environments_are_the_same_without_a_compiler():
    code = (
        "from tests.world.test_without_jit import WORLDS, fingerprint\n"
        "print(*[fingerprint(*world) for world in WORLDS])"
    )
    assert [int(word) for word in _plain(code).split()] == [fingerprint(*world) for world in WORLDS]


@pytest.mark.slow
def test_recordings_are_reproduced_without_a_compiler():
    code = (
        "from tests.world.test_parity import TRACES, load_trace, compare\n"
        "for path in TRACES[3:5]:\n"
        "    report = compare(load_trace(path))\n"
        "    assert report.difference is None and report.rounds > 1000, report\n"
        "print('equal')"
    )
    assert _plain(code).strip() == "equal"


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("path", ["tests/layers", "tests/test_reward.py", "tests/world/test_rules.py"])
def test_the_kernel_tests_pass_without_a_compiler(path):
    code = f"import pytest; raise SystemExit(pytest.main(['-q', '-x', {path!r}, '-p', 'no:cacheprovider']))"
    _plain(code)
