"""VectorEnv: same results with any number of workers, auto-reset, seeds, deaths, saved states, nothing left behind."""

import gc
import hashlib
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from scml_marl_env.actions import ACCEPT, END, OFFER, WAIT
from scml_marl_env.array_env import ArrayEnv
from scml_marl_env.layout import EnvArrays
from scml_marl_env.registry import config_of, make_vector
from scml_marl_env.vector import VectorEnv
from scml_marl_env.vector_pool import Worker
from scml_marl_env.vector_worker import _portable, episode_seed

# Both levels played without a shield: some factories go bankrupt before their world is over. Strict: errors in workers.
CONFIG = config_of("std-mini", days=6, controlled=2, level=(0, 1), shield="off", strict=True)
SHIELDED = config_of("oneshot-mini", days=4)
N_WORLDS, STEPS = 3, 150
SHOWN = (*EnvArrays._fields, "final_observation", "final_state", "final_active", "final_bounds")


def choose(env, rng):
    """int64 (E, N): random legal actions, acceptances preferred, so that factories trade themselves into trouble."""
    mask = env.action_grid.mask(env.bounds)
    actions = np.argmax(rng.random(mask.shape) * mask, -1)
    actions[mask[..., ACCEPT]] = ACCEPT
    return np.where(env.active, actions, WAIT)  # the masks of others may be those of their last window


def trace(env, seed, steps=STEPS, begin=True):
    """(hash of everything that `steps` random steps show, the ended episodes, early ends of a team)."""
    rng = np.random.default_rng(seed)
    digest = hashlib.sha256()
    early = 0
    if begin:
        env.reset(seed)
    for step in range(steps):
        env.step(choose(env, rng))
        if step % 10 == 0:
            env.refresh()
        ended = env.terminated | env.truncated
        for name in SHOWN:
            rows = getattr(env, name)
            if name.startswith("final"):
                rows = rows[ended if rows.shape[1] == env.n_teams else np.repeat(ended, CONFIG.n_slots, 1)]
            digest.update(rows.tobytes())
        early += int((ended.any(1) & ~ended.all(1)).sum())
    episodes = list(env.episodes)
    env.episodes.clear()
    return digest.hexdigest(), sorted(episodes, key=lambda e: (e["world"], e["episode"])), early


def print_reference():
    """For a process with PYTHONHASHSEED=0: the trace without workers."""
    with VectorEnv(CONFIG, N_WORLDS, seed=1) as env:
        print(json.dumps(trace(env, 8)))


def run(code, **kwargs):
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **kwargs,
    )


def has_memory(name):
    return Path("/dev/shm", name).exists()


def is_running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def pids(env):
    return [worker.pid for worker in env._worlds.workers]


def eventually(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


@pytest.fixture(scope="module")
def reference():
    process = run("from tests.test_vector import print_reference; print_reference()")
    yield process
    process.kill()


@pytest.fixture(scope="module")
def pool():
    """Three worlds on two workers; the second holds one of them."""
    with VectorEnv(CONFIG, N_WORLDS, seed=1, workers=2) as env:
        yield env


@pytest.fixture(scope="module")
def single():
    with VectorEnv(CONFIG, N_WORLDS, seed=1, workers=1) as env:
        yield env


@pytest.fixture(scope="module")
def local():
    with VectorEnv(SHIELDED, n_worlds=2, seed=4) as env:
        env.reset()
        yield env


def test_results_are_the_same_with_no_worker_one_and_two(reference, pool, single):
    pool_trace, single_trace = trace(pool, 8), trace(single, 8)
    output, errors = reference.communicate(timeout=500)
    assert reference.returncode == 0, errors
    digest, episodes, early = json.loads(output)
    assert (digest, early) == (pool_trace[0], pool_trace[2]) == (single_trace[0], single_trace[2])
    assert episodes == pool_trace[1] == single_trace[1]
    assert len(episodes) >= 12 and early >= 3 and {e["world"] for e in episodes} == {0, 1, 2}


def test_the_arrays_are_the_same_objects_for_ever(pool):
    before = {name: id(getattr(pool, name)) for name in SHOWN}
    trace(pool, 3, steps=60)
    assert {name: id(getattr(pool, name)) for name in SHOWN} == before
    shapes = {name: ((N_WORLDS, *shape), dtype) for name, (shape, dtype) in ArrayEnv(CONFIG).layout.shapes().items()}
    assert {name: (getattr(pool, name).shape, getattr(pool, name).dtype.type) for name in shapes} == shapes


@pytest.mark.parametrize(("config", "steps"), [(CONFIG, 150), (SHIELDED, 60)], ids=["std", "oneshot"])
def test_a_world_is_reset_in_the_step_that_ends_it(config, steps):
    env = VectorEnv(config, n_worlds=2, seed=6)
    twins, episode = [ArrayEnv(config) for _ in range(2)], [0, 0]
    env.reset()
    for e, twin in enumerate(twins):
        twin.reset(episode_seed(6, e, 0))
    rng, resets, early = np.random.default_rng(0), 0, 0
    for step in range(steps):
        actions = choose(env, rng)
        env.step(actions)
        for e, twin in enumerate(twins):
            twin.step(actions[e])
            for name in ("reward", "elapsed", "terminated", "truncated", "executed"):
                assert np.array_equal(getattr(env, name)[e], getattr(twin.arrays, name))
            ended = env.terminated[e] | env.truncated[e]
            agents = np.repeat(ended, config.n_slots)
            early += ended.any() and not twin.done.all()
            for name in ("observation", "bounds", "active"):
                assert np.array_equal(getattr(env, f"final_{name}")[e, agents], getattr(twin.arrays, name)[agents])
            assert np.array_equal(env.final_state[e, ended], twin.arrays.state[ended])
            if twin.window is None:
                resets += 1
                episode[e] += 1
                statistics = twin.statistics()
                assert env.episodes.pop(0) == {"world": e, "episode": episode[e] - 1, **statistics}
                twin.reset(episode_seed(6, e, episode[e]))
            assert np.array_equal(env.active[e], twin.arrays.active)
            for name in ("observation", "bounds"):
                assert np.array_equal(getattr(env, name)[e, env.active[e]], getattr(twin.arrays, name)[env.active[e]])
            assert np.array_equal(env.state[e, twin.window], twin.arrays.state[twin.window])
        if step % 4 == 0:
            env.refresh()
            for name in ("observation", "state", "bounds"):
                assert np.array_equal(getattr(env, name), [getattr(twin.arrays, name) for twin in twins])
    assert resets >= 5
    assert early or config is SHIELDED


def test_rewards_add_up_to_the_returns_and_nothing_comes_after_the_end_of_a_team():
    env = VectorEnv(CONFIG, n_worlds=2, seed=2)
    env.reset()
    rng = np.random.default_rng(1)
    sums, length, done = np.zeros((2, 2)), np.zeros(2, int), np.zeros((2, 2), bool)
    compared = late = 0
    for _ in range(200):
        assert not env.active.reshape(2, 2, -1)[done].any()
        env.step(choose(env, rng))
        late += done.sum()
        assert (env.reward[done] == 0).all()
        sums += env.reward
        length += 1
        done |= env.terminated | env.truncated
        for statistics in env.episodes:
            e = statistics["world"]
            assert done[e].all()
            assert np.allclose(sums[e], statistics["return"], atol=1e-6) and length[e] == statistics["length"]
            sums[e], length[e], done[e] = 0, 0, False
            compared += 1
        env.episodes.clear()
    assert compared >= 8 and late


def test_truncation_is_no_termination():
    env = VectorEnv(config_of("std-mini", days=8, max_cycles=5), n_worlds=2)
    env.reset()
    for step in range(10):
        env.step(choose(env, np.random.default_rng(step)))
        assert (env.truncated == (step % 5 == 4)).all() and not env.terminated.any()
    assert [e["length"] for e in env.episodes] == [5] * 4


def test_a_world_that_fails_is_truncated_and_says_why():
    env = VectorEnv(config_of("std-mini", days=8, opponents="tests.players:Dying"), n_worlds=1)
    env.reset()
    rng = np.random.default_rng(0)
    while not env.episodes:
        env.step(choose(env, rng))
    assert env.truncated.all() and not env.terminated.any() and "SystemError" in env.episodes[0]["world_error"]
    assert env.active.any()


def test_seeds_of_a_world_depend_on_neither_the_other_worlds_nor_their_number():
    one, three = VectorEnv(SHIELDED, n_worlds=1, seed=3), VectorEnv(SHIELDED, n_worlds=3, seed=3)
    for env in (one, three):
        env.reset()
    steps, rngs = 0, [np.random.default_rng(e) for e in range(3)]
    mask = three.action_grid.mask
    while len([e for e in one.episodes if e["world"] == 0]) < 3:
        assert np.array_equal(one.observation[0], three.observation[0])
        draws = [
            np.argmax(rng.random(mask(three.bounds[e]).shape) * mask(three.bounds[e]), -1) for e, rng in enumerate(rngs)
        ]
        one.step(np.array(draws[:1]))
        three.step(np.array(draws))
        assert np.array_equal(one.reward[0], three.reward[0])
        steps += 1
    assert steps > 10
    assert [e for e in three.episodes if e["world"] == 0] == one.episodes
    assert len({e["seed"] for e in three.episodes}) == len(three.episodes)
    assert not np.array_equal(three.observation[0], three.observation[1])


def test_reset_without_a_seed_goes_on_and_with_one_starts_again(local):
    local.reset(8)
    first = local.observation.copy()
    local.reset()
    second = local.observation.copy()
    assert not np.array_equal(first, second)
    local.reset(8)
    assert np.array_equal(local.observation, first)
    local.step(choose(local, np.random.default_rng(0)))
    local.reset(None)
    assert np.array_equal(local.observation, second)
    assert not local.executed.any() and not local.elapsed.any()


def test_a_killed_worker_truncates_its_worlds_and_is_told_once(pool):
    rng = np.random.default_rng(5)
    pool.reset(21)
    total = np.zeros((N_WORLDS, 2))
    for _ in range(8):
        pool.step(choose(pool, rng))
        total += pool.reward
    assert not pool.episodes
    seen = {name: getattr(pool, name).copy() for name in ("observation", "state", "bounds", "active")}
    survivor = pids(pool)[1]
    os.kill(pids(pool)[0], signal.SIGKILL)
    with pytest.warns(RuntimeWarning, match=r"Worker 0 died \(exit code -9\).*worlds 0\.\.1"):
        pool.step(choose(pool, rng))
    assert pids(pool)[1] == survivor
    assert pool.truncated.tolist() == [[True, True], [True, True], [False, False]]
    assert not pool.terminated[:2].any() and not pool.reward[:2].any() and not pool.executed[:2].any()
    for name, rows in seen.items():
        assert np.array_equal(getattr(pool, f"final_{name}")[:2], rows[:2])
    assert [(e["world"], e["episode"], e["length"]) for e in pool.episodes] == [(0, 0, 8), (1, 0, 8)]
    assert pool.episodes[1]["seed"] == episode_seed(21, 1, 0)
    assert all("worker 0 died (exit code -9)" in e["world_error"] for e in pool.episodes)
    assert np.allclose([e["return"] for e in pool.episodes], total[:2])
    fresh = ArrayEnv(CONFIG)
    for e in (0, 1):
        fresh.reset(episode_seed(21, e, 1))
        assert np.array_equal(pool.active[e], fresh.arrays.active)
    assert pool.executed[2].any()

    # The second time: where a team has ended already, before a state is saved, and without a second warning.
    while not pool._arrays.done[:2].any():
        pool.step(choose(pool, rng))
    done, episode = pool._arrays.done.copy(), pool._arrays.episode.copy()
    pool.episodes.clear()
    os.kill(pids(pool)[0], signal.SIGKILL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        saved = pool.state_dict()
        assert saved["episode"].tolist() == [episode[0] + 1, episode[1] + 1, episode[2]]
        assert [len(actions) > 0 for actions in saved["actions"]] == [False, False, True]
        pool.step(choose(pool, rng))
    assert np.array_equal(pool.truncated[:2], ~done[:2])
    assert {(e["world"], e["episode"]) for e in pool.episodes} >= {(0, episode[0]), (1, episode[1])}
    trace(pool, 1, steps=30)


def test_an_error_in_a_worker_is_raised_here_and_reset_mends_it(pool):
    pool.reset(2)
    bad = choose(pool, np.random.default_rng(0))
    bad[pool.active] = OFFER + 12  # never legal for both sides of an unshielded market
    forbidden = ~np.take_along_axis(pool.action_grid.mask(pool.bounds), bad[..., None], -1)[..., 0]
    bad[~forbidden] = pool.action_grid.n_actions - 1
    with pytest.raises(ValueError, match="forbidden by their mask") as caught:
        pool.step(bad)
    assert "array_env.py" in str(caught.value.__cause__) and "Traceback" in str(caught.value.__cause__)
    with pytest.raises(RuntimeError, match=r"step\(\) after a call that failed.*reset\(\)"):
        pool.step(bad)
    with pytest.raises(RuntimeError, match=r"state_dict\(\) after a call that failed"):
        pool.state_dict()
    assert trace(pool, 7, steps=40)[0] == trace(pool, 7, steps=40)[0]


def test_errors_that_no_pipe_can_carry_arrive_as_words():
    class Local(Exception):
        pass

    assert type(_portable(Local("why"))) is RuntimeError and "Local: why" in str(_portable(Local("why")))
    assert type(_portable(KeyError("x"))) is KeyError


def test_an_interrupted_step_asks_for_a_reset(single, monkeypatch):
    before = trace(single, 9, steps=20)

    def interrupt(worker):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Worker, "answer", interrupt)
        with pytest.raises(KeyboardInterrupt):
            single.step(choose(single, np.random.default_rng(0)))
    with pytest.raises(RuntimeError, match=r"reset\(\) first"):
        single.step(np.zeros((N_WORLDS, single.n_agents), int))
    assert trace(single, 9, steps=20) == before


def test_a_saved_state_has_the_same_future_in_another_environment(pool, single):
    trace(pool, 11, steps=75)
    saved = pool.state_dict()
    assert max(len(actions) for actions in saved["actions"]) >= 10
    here = trace(pool, 12, 80, begin=False)
    plain = json.loads(json.dumps(saved, default=lambda array: array.tolist()))
    single.load_state_dict(plain)
    there = trace(single, 12, 80, begin=False)
    assert here == there and len(here[1]) >= 8
    pool.load_state_dict(saved)
    assert trace(pool, 12, 80, begin=False) == here


def test_a_replay_that_leads_elsewhere_warns(local):
    local.reset(1)
    for step in range(5):
        local.step(choose(local, np.random.default_rng(step)))
    saved = local.state_dict()
    saved["actions"][1][-1] = END
    saved["actions"][1][0] = END
    with pytest.warns(RuntimeWarning, match=r"worlds \[1\] did not lead"):
        local.load_state_dict(saved)
    local.step(choose(local, np.random.default_rng(0)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("actions"), "a dict of"),
        (lambda s: s["config"].update(days=5), r"\{'days': 5\}, these with \{'days': 4\}"),
        (lambda s: s["actions"].pop(), "of 1 worlds, and here are 2"),
        (lambda s: s["actions"].__setitem__(0, np.zeros((3, 1), int)), r"shape \(3, 1\)"),
        (lambda s: s.update(seed=-1), "seed"),
    ],
)
def test_a_state_of_another_environment_is_refused(local, change, message):
    local.reset(3)
    seen = local.observation.copy()
    saved = local.state_dict()
    saved["config"] = dict(saved["config"])
    change(saved)
    with pytest.raises(ValueError, match=message):
        local.load_state_dict(saved)
    assert np.array_equal(local.observation, seen)
    local.step(choose(local, np.random.default_rng(0)))


def test_actions_of_inactive_agents_are_ignored(local):
    after = []
    for garbage in (0, 10**9, -7):
        local.reset(5)
        for step in range(30):
            actions = choose(local, np.random.default_rng(step))
            actions[~local.active] = garbage
            local.step(actions)
        after.append((local.observation.copy(), list(local.episodes)))
    assert any(statistics["length"] for statistics in after[0][1])
    for observation, episodes in after[1:]:
        assert np.array_equal(observation, after[0][0]) and episodes == after[0][1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda a, n: a[:1], r"shape \(E, N\) = \(2, 2\), got \(1, 2\)"),
        (lambda a, n: a[0], "shape"),
        (lambda a, n: None, "shape"),
        (lambda a, n: [[1]], "shape"),
        (lambda a, n: a.astype(float), "whole numbers, got an array of float64"),
        (lambda a, n: a * np.nan, "whole numbers"),
        (lambda a, n: a.astype(bool), "whole numbers, got an array of bool"),
        (lambda a, n: a.astype(object), "whole numbers"),
        (lambda a, n: np.full_like(a, n), r"Actions are 0\.\.\d+, got \d+ for thread_\d of world 0"),
        (lambda a, n: np.full_like(a, -1), "got -1"),
        (lambda a, n: np.full(a.shape, 2**64 - 1, np.uint64), "Actions are"),
    ],
)
def test_wrong_actions_are_refused_and_nothing_happens(local, make, message):
    local.reset(6)
    good = choose(local, np.random.default_rng(0))
    before = [getattr(local, name).copy() for name in SHOWN]
    with pytest.raises(ValueError, match=message):
        local.step(make(good, local.action_grid.n_actions))
    assert all(np.array_equal(getattr(local, name), rows) for name, rows in zip(SHOWN, before, strict=True))
    local.step(good)
    local.step(choose(local, np.random.default_rng(1)).astype(np.uint8))


def test_calls_out_of_order_are_refused():
    env = VectorEnv(SHIELDED)
    actions = np.zeros((1, env.n_agents), int)
    with pytest.raises(RuntimeError, match=r"step\(\) before the first reset\(\)"):
        env.step(actions)
    with pytest.raises(RuntimeError, match=r"state_dict\(\) before the first reset\(\)"):
        env.state_dict()
    env.reset()
    with pytest.raises(RuntimeError, match=r"step_wait\(\) without a step"):
        env.step_wait()
    env.step_async(actions)
    for call in (lambda: env.step_async(actions), env.reset, env.state_dict, lambda: env.load_state_dict({})):
        with pytest.raises(RuntimeError, match="while a step is under way"):
            call()
    env.step_wait()
    with pytest.raises(ValueError, match="seed"):
        env.reset(-1)
    env.step(actions)
    env.close()
    env.close()
    for call in (env.reset, lambda: env.step(actions), env.step_wait, env.state_dict):
        with pytest.raises(RuntimeError, match="after close"):
            call()


@pytest.mark.parametrize(
    "options",
    [
        {"n_worlds": 0},
        {"n_worlds": 2.0},
        {"n_worlds": True},
        {"n_worlds": "2"},
        {"workers": -1},
        {"workers": 2},
        {"workers": 1.5},
        {"seed": -1},
        {"seed": None},
        {"seed": 0.5},
    ],
)
def test_wrong_sizes_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        make_vector("oneshot-mini", **options)


def test_only_a_config_is_a_config():
    with pytest.raises(TypeError, match="make_vector"):
        VectorEnv("oneshot-mini")


def test_the_description_is_json_and_makes_the_same_config():
    from tests.players import Patient

    mix = config_of("std-mini", opponents={Patient: 2, "greedy": 1.5}, level=(0,), days=(6, 8))
    env = VectorEnv(mix)
    text = json.dumps(env.config)
    assert env.config["opponents"] == {"tests.players:Patient": 2, "greedy": 1.5}
    with VectorEnv(config_of("std-mini", **json.loads(text))) as again:
        assert again.config == env.config
        for vector in (env, again):
            vector.reset(3)
        assert np.array_equal(env.observation, again.observation)
    env.close()
    assert env.agent_names == [f"thread_{n}" for n in range(env.n_agents)]
    assert len(env.observation_names) == env.observation.shape[2] and len(env.state_names) == env.state.shape[2]


def test_the_generators_of_the_caller_are_left_alone(local, pool):
    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), repr(np.random.get_state())
    for env in (local, pool):
        trace(env, 5, steps=30)
        env.load_state_dict(env.state_dict())
    assert (random.getstate(), repr(np.random.get_state())) == before


def test_close_and_garbage_collection_leave_no_process_and_no_file():
    gc.collect()  # else what other tests of this process left open closes in the middle of this one
    children, descriptors = set(multiprocessing.active_children()), []
    for collect in (False, True):
        env = VectorEnv(SHIELDED, n_worlds=2, workers=2)
        observation, workers, name = env.observation, pids(env), env._worlds.memory_name
        assert all(map(is_running, workers)) and has_memory(name)
        for pid in workers:
            os.kill(pid, signal.SIGINT)  # Ctrl-C goes to the whole group; it is for the parent
        time.sleep(0.2)
        assert all(map(is_running, workers))
        if collect:
            del env
            gc.collect()
        else:
            env.close()
            env.close()
        assert not any(map(is_running, workers)) and not has_memory(name)
        assert set(multiprocessing.active_children()) == children
        descriptors.append(len(os.listdir("/proc/self/fd")))
        assert observation.shape[0] == 2 and not observation.any()  # the memory lives as long as an array
    assert descriptors[0] == descriptors[1]


def test_what_a_process_leaves_behind_when_it_forgets_to_close_or_is_killed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os, signal, sys\n"
        "from scml_marl_env import make_vector\n"
        "env = make_vector('oneshot-mini', days=4, n_worlds=1, workers=1)\n"
        "kept = env.observation\n"
        "env.reset()\n"
        "env.step(env.executed)\n"
        "print(env._worlds.workers[0].pid, env._worlds.memory_name, flush=True)\n"
        "if sys.argv[1] == 'killed':\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ends = {
        end: subprocess.Popen(
            [sys.executable, script, end], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for end in ("forgotten", "killed")
    }
    for end, process in ends.items():
        pid, name = process.stdout.readline().split()
        assert eventually(lambda pid=pid: not is_running(pid)), end
        errors = process.communicate(timeout=30)[1]
        assert process.returncode == (0 if end == "forgotten" else -signal.SIGKILL)
        assert not errors or end == "killed", errors
        assert eventually(lambda name=name: not has_memory(name)), end
