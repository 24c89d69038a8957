"""ArrayEnv: rows that are written late are those that would have been written at once."""

import numpy as np
import pytest

from scml_marl_env.array_env import ArrayEnv
from scml_marl_env.registry import config_of
from tests.players import random_masked

ROWS = ("observation", "state", "bounds")


@pytest.mark.parametrize("options", [{"level": (0, 1)}, {"privileged_state": True, "shield": "off", "level": (0, 1)}])
def test_a_lazy_environment_shows_the_same_to_those_who_act_and_to_all_after_a_refresh(options):
    config = config_of("std-mini", days=6, controlled=2, **options)
    eager, lazy = ArrayEnv(config), ArrayEnv(config, lazy=True)
    rng, steps, stale = np.random.default_rng(4), 0, 0
    for seed in (4, 5, 6):
        eager.reset(seed)
        lazy.reset(seed)
        while eager.window is not None:
            actions = random_masked(eager, rng)
            eager.step(actions)
            lazy.step(actions)
            steps += 1
            assert lazy.window == eager.window
            ended = eager.arrays.terminated | eager.arrays.truncated
            for f in range(config.n_controlled):
                agents = eager.agents_of(f)
                if f == eager.window or ended[f]:
                    assert_same(eager, lazy, agents, f)
                else:
                    stale += (eager.arrays.observation[agents] != lazy.arrays.observation[agents]).any()
            for name in set(eager.arrays._fields) - set(ROWS):
                assert np.array_equal(getattr(eager.arrays, name), getattr(lazy.arrays, name)), name
            if steps % 2:
                eager.refresh()
                lazy.refresh()
                assert_same(eager, lazy, slice(None), slice(None))
    assert steps > 50 and stale > 10
    eager.close()
    lazy.close()


def assert_same(eager, lazy, agents, factories):
    """Both show the same in the rows of these agents and factories."""
    for name in ROWS:
        rows = factories if name == "state" else agents
        assert np.array_equal(getattr(eager.arrays, name)[rows], getattr(lazy.arrays, name)[rows]), name
