"""A recorder changes nothing, and writes what a policy would have seen at the decision, bit for bit."""

import json

import numpy as np
import pytest

from scml_marl_env import opponents
from scml_marl_env.actions import END, OFFER
from scml_marl_env.array_env import ArrayEnv
from scml_marl_env.audit.taps import Spoken
from scml_marl_env.data import log as logs
from scml_marl_env.data.log import LogReader, check_event
from scml_marl_env.data.recorder import nearest, recorded
from scml_marl_env.data.strip import strip
from scml_marl_env.handles import handle
from scml_marl_env.layout import Layout
from scml_marl_env.registry import config_of
from scml_marl_env.tournament.prices import fractional_prices
from scml_marl_env.windows import open_window
from tests.audit.scripted import Refuses, SellsTogether, agents_of, planned, record_of, small, world_of
from tests.policies import RandomMasked, Recorder
from tests.test_policy_agent import play_agent

BUILT_IN = [
    ("std", "greedy"), ("std", "random"), ("std", "sync-random"), ("std", "prudent"), ("oneshot", "greedy"),
    ("oneshot", "greedy-sync"), ("oneshot", "equal-dist"),
]  # fmt: skip
CHAMPIONS = [("std", "penguin"), ("std", "ax"), ("std", "cautious-std"), ("oneshot", "matching-pennies")]


def agent_of(track, name):
    (path,) = opponents.pool(name, track, 2025)
    return opponents.load(path)


def compare(track, name, folder):
    """Asserts that a world is the same with the recorder, and what its logs add up to; returns the logs' episodes."""
    config = small(track, processes=3 if track == "std" else 2, days=8, rounds=20)
    agent = agent_of(track, name)
    plain, watched = world_of(config, agent), world_of(config, recorded(agent, config, folder))
    assert record_of(plain) == record_of(watched)
    episodes = [check_log(player.end_recording(), watched, player) for player in agents_of(watched)]
    agreed = sum((steps["action"] == 2).sum() for steps, _ in episodes)
    contracts = [row for row in record_of(watched)[1] if not {"SELLER", "BUYER"} & set(row[2])]
    assert agreed == len(contracts)  # every deal was accepted by one of the recorded
    return episodes


def check_log(path, world, player):
    """Asserts that a log keeps its schema and adds up; returns its episode."""
    events = list(LogReader(path).events())
    for event in events:
        check_event(event)
    kinds = [event["ev"] for event in events]
    assert kinds[0] == "world_start" and kinds[-1] == "world_end"
    assert kinds.count("day_start") == kinds.count("settle") == world.n_steps
    assert kinds.count("window") == kinds.count("reward") == events[-1]["windows"]
    assert kinds.count("decision") == events[-1]["decisions"]
    short = [event["shortfall"] for event in events if event["ev"] == "settle"]
    assert short == world.stats[f"shortfall_quantity_{player.id}"]
    steps, about = strip(path)
    assert len(steps["action"]) == kinds.count("decision") and len(steps["reward"]) == kinds.count("window")
    assert about["score"] == world.scores()[player.id]
    if not world.is_bankrupt[player.id]:
        assert np.isclose(1 + steps["reward"].sum(dtype=np.float64), about["score"], atol=1e-6)
        assert steps["elapsed"].sum() == world.n_steps
    assert steps["terminated"].tolist() == [False] * (len(steps["reward"]) - 1) + [True]
    return steps, about


@pytest.mark.parametrize(("track", "name"), BUILT_IN)
def test_a_world_is_the_same_with_and_without_the_recorder(track, name, tmp_path):
    episodes = compare(track, name, tmp_path)
    assert sum(len(steps["action"]) for steps, _ in episodes) > 50


@pytest.mark.slow
@pytest.mark.parametrize(("track", "name"), CHAMPIONS)
def test_a_world_of_champions_is_the_same_with_and_without_the_recorder(track, name, tmp_path):
    pytest.importorskip("scml_agents")
    compare(track, name, tmp_path)


CASES = [
    ("std-mini", {"processes": 3, "days": 15}),
    ("std-mini", {"processes": 3, "days": 15, "level": "last", "inventory": "conserving", "shield": "covered"}),
    ("std-mini", {"days": 15, "observation": ("macro", "history", "thread"), "history": 3, "reward": "potential"}),
    ("oneshot-mini", {"days": 15}),
    ("std-mini", {"processes": 3, "days": 15, "level": "first", "rounds": 3, "opponents": "tests.players:Patient"}),
    ("std-mini", {"processes": 3, "days": 15, "level": "middle", "rounds": 4}),
]


@pytest.mark.parametrize(("env_id", "options"), CASES)
@pytest.mark.parametrize("seed", [3, 4])
def test_what_is_recorded_of_a_policy_is_what_it_saw_and_what_the_environment_gives(env_id, options, seed, tmp_path):
    """PolicyAgent with a recorder, its own arrays, and ArrayEnv with the same policy: equal bit for bit."""
    config, policy = config_of(env_id, **options), RandomMasked(env_id, **options)
    made = recorded(Recorder, config, tmp_path)
    _, agent = play_agent(config, seed, made, policy=policy, seed=7)
    steps, about = strip(agent.end_recording())
    first = np.cumsum([0, *steps["answers"]])
    assert len(agent.windows) == len(steps["reward"]) > 30
    for w, (observation, bounds, answers) in enumerate(agent.windows):
        rows = slice(first[w], first[w + 1])
        assert np.array_equal(steps["observation"][rows], observation)
        assert np.array_equal(steps["bounds"][rows], bounds)
        assert steps["slot"][rows].tolist() == sorted(answers)
        for row in range(first[w], first[w + 1]):
            assert tuple(steps["raw"][row]) == tuple(answers[int(steps["slot"][row])])
    assert Layout(config).grid.allows(steps["bounds"], steps["action"].astype(np.int64)).all()
    assert live(config, seed, policy, agent, steps) == len(steps["reward"])
    if options.get("reward") != "potential":
        assert np.isclose(1 + steps["reward"].sum(dtype=np.float64), about["score"], atol=1e-6)


def live(config, seed, policy, agent, steps):
    """Plays the world in ArrayEnv and compares every window; returns how many."""
    env, rng, first = ArrayEnv(config), np.random.default_rng(agent.rng.bit_generator.seed_seq.entropy), 0
    env.reset(seed)
    arrays, n = env.arrays, 0
    while env.window is not None:
        active = np.flatnonzero(arrays.active)
        rows = slice(first, first + len(active))
        assert steps["slot"][rows].tolist() == active.tolist()
        assert np.array_equal(steps["observation"][rows], arrays.observation[active])
        assert np.array_equal(steps["bounds"][rows], arrays.bounds[active])
        assert np.array_equal(steps["state"][n], arrays.state[0])
        assert steps["day"][n] == env.engine.view.day[0]
        actions = np.zeros(len(arrays.active), np.int64)
        actions[active] = policy.act(arrays.observation[active], arrays.bounds[active], rng)
        env.step(actions)
        assert np.array_equal(arrays.executed[active], steps["action"][rows])
        for name in ("reward", "elapsed", "terminated"):
            assert getattr(arrays, name)[0] == steps[name][n], name
        first, n = first + len(active), n + 1
    env.close()
    return n


@pytest.mark.parametrize("name", ["prudent", "greedy"])
def test_features_and_bounds_follow_from_the_logged_view(name, tmp_path):
    """What is made of a log later is what was made of the agent's own view then, bit for bit."""
    config = small(processes=3, days=24, rounds=20)
    world = world_of(config, recorded(agent_of("std", name), config, tmp_path))
    layout, compared = Layout(config), 0
    for player in agents_of(world):
        log = LogReader(player.end_recording())
        for event in log.events():
            if event["ev"] == "window":
                view = log.view(event["ref"])
                n_slots = view.exists.shape[1]
                bounds = np.zeros((n_slots, layout.grid.n_bounds), np.int32)
                observation = np.zeros((n_slots, len(layout.observation_names)), np.float32)
                state = np.zeros(len(layout.state_names), np.float32)
                open_window(handle(view), 0, layout.rules, layout.columns, bounds, observation, state)
                assert np.array_equal(state, log.array("state", event["ref"]))
                assert np.flatnonzero(view.on_turn[0]).tolist() == event["asked"]
            if event["ev"] == "decision":
                assert np.array_equal(observation[event["thread"]], log.array("observation", event["ref"]))
                assert np.array_equal(bounds[event["thread"]], log.array("bounds", event["ref"]))
                compared += 1
    assert compared > 300


def test_an_answer_is_put_on_the_grid_where_it_is_nearest():
    grid, bounds = Layout(config_of("std-mini")).grid, np.zeros(49, np.int32)
    assert grid.quantities == (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 25, 30)
    for (n_prices, best, sign), said, expected in [
        ((5, 10, 1), (3, 2, 12), (3, 2, 2)),
        ((5, 10, 1), (11, 0, 14), (10, 0, 4)),  # the lower on a tie
        ((5, 20, -1), (17, 10, 18), (15, 10, 2)),
        ((39, 10, 1), (28, 1, 47), (30, 1, 18)),  # more prices than levels: every second one
    ]:
        bounds[3:6] = n_prices, best, sign
        quantity, lead, price = said
        action = nearest(grid, bounds, Spoken(OFFER, quantity, lead, price))
        quantity, lead, level = expected
        assert grid.decode(action) == (OFFER, lead, quantity, level), said
    assert nearest(grid, bounds, Spoken(END, valid=False)) == END


@pytest.mark.parametrize("accept", [False, True])
def test_an_offer_that_the_protocol_refuses_is_marked_and_counts_as_an_end(accept, tmp_path):
    config = small(days=4)
    seller = planned(SellsTogether, (8, 2, 0.5), (1, 2, 0))
    others = [Refuses] * 3
    with fractional_prices(accept):
        world = world_of(config, [recorded(seller, config, tmp_path), *others])
    path = agents_of(world)[0].end_recording()
    decisions = [event for event in LogReader(path).events() if event["ev"] == "decision" and event["day"] == 0]
    odd = [event for event in decisions if event["quantity"] == 8]
    assert odd and all(event["valid"] == accept and event["op"] == "offer" for event in odd)
    assert all((event["action"] == END) != accept for event in odd)
    assert all(event["sent"][2] % 1 == 0.5 and event["price"] == int(event["sent"][2]) for event in odd)
    assert strip(path)[0]["raw"][0].tolist()[:3] == [OFFER, 8, 2]


def test_a_failure_of_the_recorder_is_told_at_the_end(monkeypatch, tmp_path):
    monkeypatch.setattr("scml_marl_env.data.recorder.open_window", lambda *args: 1 / 0)
    config = small(days=3)
    world = world_of(config, recorded(agent_of("std", "greedy"), config, tmp_path))
    monkeypatch.undo()
    assert record_of(world) == record_of(world_of(config, agent_of("std", "greedy")))
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        agents_of(world)[0].end_recording()


def test_a_log_is_written_in_chunks_and_read_as_far_as_it_goes(monkeypatch, tmp_path):
    config = small(days=6, rounds=20)
    whole = log_of(config, tmp_path / "whole")
    expected, _ = strip(whole)
    monkeypatch.setattr(logs, "CHUNK", 10)
    path = log_of(config, tmp_path / "chunks")
    assert len(list(path.parent.glob(f"{path.stem}.*.npz"))) > 3
    steps, _ = strip(path)
    assert all(np.array_equal(steps[name], expected[name]) for name in expected)
    text, shortest = path.read_bytes(), len(steps["reward"])
    cuts = np.linspace(text.index(b'{"ev":"reward"') + 100, len(text) - 1, 12).astype(int)
    for cut in cuts[::-1]:
        path.write_bytes(text[:cut])
        part, about = strip(path)
        n, rows = len(part["reward"]), len(part["action"])
        assert n <= shortest and np.isnan(about["score"])
        shortest = n
        for name, array in part.items():
            if name not in ("terminated", "truncated"):
                assert np.array_equal(array, expected[name][: rows if len(array) == rows else n]), name
        assert part["terminated"][-1] or part["truncated"].tolist() == [False] * (n - 1) + [True]
    path.write_bytes(text[: text.index(b'{"ev":"reward"')])
    assert strip(path) is None


def log_of(config, folder):
    """The log of the first factory of a world of agents that answer all together, and much."""
    world = world_of(config, recorded(agent_of("std", "sync-random"), config, folder))
    paths = [player.end_recording() for player in agents_of(world)]
    with pytest.raises(FileExistsError):
        logs.Log(paths[0], {}, {}, 1)
    return paths[0]


def test_events_that_are_not_of_the_schema_are_refused():
    good = {"ev": "bankrupt", "day": 3}
    check_event(good)
    for bad in (
        {"ev": "broke", "day": 3},
        {"ev": "bankrupt"},
        good | {"day": 3.5},
        good | {"day": True},
        good | {"x": 1},
    ):
        with pytest.raises(ValueError):
            check_event(json.loads(json.dumps(bad)))


@pytest.mark.parametrize("options", [{"privileged_state": True}, {"track": "oneshot"}])
def test_what_cannot_be_recorded_is_refused(options, tmp_path):
    world = world_of(small(days=3), recorded(agent_of("std", "greedy"), small(**options), tmp_path))
    with pytest.raises(RuntimeError, match="Cannot record features"):
        agents_of(world)[0].end_recording()
    with pytest.raises(TypeError, match="Only SCML"):
        recorded(dict, small(), tmp_path)
