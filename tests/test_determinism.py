"""One seed, one world: in any process, beside any other environment, whatever the caller's generators do."""

import hashlib
import os
import random
import subprocess
import sys

import numpy as np
import pytest

import scml_marl_env
from tests.players import random_masked

OPTIONS = {"days": 8, "processes": 3, "controlled": 2}


def fingerprint(env_id, seed, steps=150, between=lambda: None, **options):
    """A hash of everything that an episode or two of random masked play shows."""
    env = scml_marl_env.make(env_id, **options)
    rng = np.random.default_rng(seed)
    digest = hashlib.sha256()
    env.reset(seed=seed)
    compared = 0
    for _ in range(steps):
        if not env.agents:
            env.reset()
        between()
        game = env.game
        env.step(dict(zip(env.possible_agents, random_masked(game, rng).tolist(), strict=True)))
        for array in game.arrays:
            digest.update(array.tobytes())
            compared += array.size
    assert compared > 10_000
    env.close()
    return digest.hexdigest()


@pytest.mark.parametrize(("env_id", "options"), [("std-mini", OPTIONS), ("oneshot-mini", {"days": 8})])
def test_the_same_seed_gives_the_same_episodes_in_two_processes(env_id, options):
    code = f"from tests.test_determinism import fingerprint; print(fingerprint({env_id!r}, 5, **{options!r}))"
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    ]
    assert runs[0] == runs[1] and len(runs[0]) == 65


def test_seeds_matter():
    assert fingerprint("std-mini", 1, days=8) != fingerprint("std-mini", 2, days=8)


def test_interleaved_environments_do_not_touch_each_other():
    alone = fingerprint("std-mini", 3, days=8)
    other = scml_marl_env.make("oneshot-mini", days=6)
    other.reset(seed=11)
    rng = np.random.default_rng(0)

    def step_other():
        if not other.agents:
            other.reset()
        other.step(dict(zip(other.possible_agents, random_masked(other.game, rng).tolist(), strict=True)))

    assert fingerprint("std-mini", 3, between=step_other, days=8) == alone


def test_the_callers_generators_neither_matter_nor_change():
    quiet = fingerprint("std-mini", 4, days=8)
    random.seed(99)
    np.random.seed(99)
    expected = [(random.random(), np.random.random()) for _ in range(150)]
    random.seed(99)
    np.random.seed(99)
    drawn = []
    noisy = fingerprint("std-mini", 4, between=lambda: drawn.append((random.random(), np.random.random())), days=8)
    assert noisy == quiet
    assert drawn == expected


def test_resets_without_a_seed_follow_from_the_last_one():
    env = scml_marl_env.make("std-mini", days=5)
    seeds = []
    for _ in range(2):
        env.reset(seed=7)
        env.reset()
        seeds.append(env.game.seed)
    assert seeds[0] == seeds[1] != 7


def test_a_saved_moment_is_rebuilt_by_replay():
    options = {"days": 12, "opponents": "tests.players:Patient"}
    one, two = (scml_marl_env.make("std-mini", **options).game for _ in range(2))
    rng = np.random.default_rng(0)
    one.reset(6)
    for _ in range(40):
        one.step(random_masked(one, rng))
    two.load_state_dict(one.state_dict())
    for _ in range(20):
        for name, ours, theirs in zip(one.arrays._fields, one.arrays, two.arrays, strict=True):
            assert (ours == theirs).all(), name
        actions = random_masked(one, rng)
        one.step(actions)
        two.step(actions)


@pytest.mark.parametrize(
    ("env_id", "options"),
    [
        ("std-mini", {"processes": 3, "factories_per_level": 3, "days": 8, "opponents": "sync-random"}),
        ("oneshot-mini", {"factories_per_level": 3, "opponents": {"rand-dist": 1, "equal-dist": 1}}),
    ],
)
def test_the_hash_seed_of_the_process_does_not_matter(env_id, options):
    """These opponents iterate over sets of ids."""
    code = (
        f"from tests.test_determinism import fingerprint; print(fingerprint({env_id!r}, 5, steps=100, **{options!r}))"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "7")
    }
    assert len(runs) == 1
