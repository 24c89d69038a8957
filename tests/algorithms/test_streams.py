"""Streams of recorded decisions: what a Decision Transformer may read, and that play reads the same."""

import dataclasses

import numpy as np
import pytest
import torch

from algorithms.recollection import Recollection
from algorithms.stream_actor import Decisions, StreamActor, StreamConfig
from algorithms.streams import Streams
from tests.algorithms.grids import SmallGrid
from tests.algorithms.recorded import record

GRID = SmallGrid()
LAYOUTS = pytest.mark.parametrize("tokens", ["thread", "factory"])


def actor_of(tokens, n_columns, seed=0, **options):
    """A random network whose every weight matters."""
    torch.manual_seed(seed)
    actor = StreamActor(n_columns, GRID, StreamConfig(**{"tokens": tokens, "context": 4, "width": 16} | options))
    for parameter in actor.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return actor.eval()


def everything(data, tokens, episodes=(0, 1, 2), length=1000):
    """(batch, streams) of whole episodes, each stream in one stretch."""
    streams = Streams(data, np.array(episodes), StreamConfig(tokens=tokens))
    return streams.read(streams.stretches(length)), streams


@LAYOUTS
def test_every_decision_is_in_one_stretch_and_counted_once(tokens):
    data = record()
    rng = np.random.default_rng(0)
    for length, before, cuts in ((7, 0, None), (7, 5, None), (3, 6, rng), (100, 3, rng)):
        streams = Streams(data, np.array([1, 3, 4]), StreamConfig(tokens=tokens))
        batches = list(streams.batches(streams.stretches(length, before, cuts), 4))
        counted = np.concatenate([batch.rows[batch.counted.numpy()] for batch in batches])
        rows = data.decisions_of(np.array([1, 3, 4]))
        assert sorted(counted.tolist()) == rows[np.asarray(data.legal)[rows]].tolist()
        for batch in batches:
            d = batch.decisions
            assert np.array_equal(d.action.numpy(), data.action[batch.rows])
            assert np.array_equal(d.observation.numpy(), data.observation[batch.rows])
            assert (np.diff(d.at.numpy()) >= 0).all() and d.to_go.shape[1] <= length + before


@LAYOUTS
def test_a_stretch_is_one_episode_in_time_with_the_returns_to_go_of_its_windows(tokens):
    data = record()
    streams = Streams(data, np.arange(4), StreamConfig(tokens=tokens))
    stretches = streams.stretches(6, 2)
    step_of = np.searchsorted(data.first_decision, np.arange(len(data.action)), side="right") - 1
    for i in range(len(stretches)):
        batch = streams.read(stretches[np.array([i])])
        steps = step_of[batch.rows]
        assert len(set((np.searchsorted(data.first_step, steps, side="right") - 1).tolist())) == 1
        if tokens == "thread":
            assert (np.diff(steps) > 0).all() and len(set(data.slot[batch.rows].tolist())) == 1
        episode_end = data.first_step[np.searchsorted(data.first_step, steps[0], side="right")]
        for at, step in zip(batch.decisions.at.numpy(), steps, strict=True):
            expected = data.reward[step:episode_end].sum()
            assert batch.decisions.to_go[0, at] == pytest.approx(expected, abs=1e-4)


@LAYOUTS
def test_nothing_of_a_decision_or_after_it_is_read(tokens):
    """Bit for bit: labels from a window on, and all that comes later, leave what is predicted there as it was."""
    data = record()
    d, actor = everything(data, tokens)[0].decisions, actor_of(tokens, data.observation.shape[1])
    n_steps = d.to_go.shape[1]
    before = actor(d).detach()
    rng = np.random.default_rng(0)
    for cut in (0, 1, 5, n_steps - 1):
        step = d.at % n_steps
        later, now = step > cut, step >= cut
        observation, action, to_go = d.observation.clone(), d.action.clone(), d.to_go.clone()
        action[now] = torch.from_numpy(rng.integers(0, GRID.n_actions, int(now.sum())))
        observation[later] = torch.randn_like(observation[later])
        to_go[:, cut + 1 :] = torch.randn_like(to_go[:, cut + 1 :])
        after = actor(dataclasses.replace(d, observation=observation, action=action, to_go=to_go)).detach()
        assert torch.equal(after[~later], before[~later])
        if cut < n_steps - 1:
            assert not torch.equal(after[later], before[later])


@LAYOUTS
def test_what_came_before_matters_within_reach_only(tokens):
    data = record()
    d = everything(data, tokens, episodes=(0,))[0].decisions
    actor = actor_of(tokens, data.observation.shape[1], context=3)
    n_steps = d.to_go.shape[1]
    step, before = d.at % n_steps, actor(d).detach()
    reach = actor.transformer.reach
    assert reach == 4
    action = torch.where(step == 2, (d.action + 1) % GRID.n_actions, d.action)
    changed = (actor(dataclasses.replace(d, action=action)).detach() != before).any(1)
    assert changed[(step > 2) & (step <= 2 + reach)].any() and not changed[step > 2 + reach].any()
    to_go = d.to_go.clone()
    to_go[:, 2] += 1
    changed = (actor(dataclasses.replace(d, to_go=to_go)).detach() != before).any(1)
    assert changed[step == 2].all() and not changed[step < 2].any()


@LAYOUTS
def test_padding_on_either_side_changes_nothing(tokens):
    data = record()
    d = everything(data, tokens, episodes=(0,))[0].decisions
    actor = actor_of(tokens, data.observation.shape[1])
    n, n_steps = d.to_go.shape
    plain = actor(d)

    def pad(left, right):
        to_go = torch.full((n, left + n_steps + right), 7.0)
        to_go[:, left : left + n_steps] = d.to_go
        valid = torch.zeros(to_go.shape, dtype=torch.bool)
        valid[:, left : left + n_steps] = True
        at = d.at // n_steps * to_go.shape[1] + left + d.at % n_steps
        return dataclasses.replace(d, to_go=to_go, at=at, valid=valid if left else None)

    for left, right in ((0, 5), (5, 0), (3, 4)):
        torch.testing.assert_close(actor(pad(left, right)), plain, rtol=0, atol=1e-5)


def test_threads_of_a_window_are_a_set():
    """Reordering them reorders what is predicted; none sees what another does now."""
    data = record()
    d = everything(data, "factory", episodes=(0,))[0].decisions
    actor = actor_of("factory", data.observation.shape[1])
    order = np.lexsort((np.random.default_rng(1).random(len(d.at)), d.at.numpy()))  # shuffled within each window
    assert not np.array_equal(order, np.arange(len(order)))
    shuffled = dataclasses.replace(d, observation=d.observation[order], action=d.action[order])
    torch.testing.assert_close(actor(shuffled), actor(d)[order], rtol=0, atol=1e-5)


@LAYOUTS
def test_goal_and_priority_enter_as_inputs_and_are_silent_at_first(tokens):
    data = record()
    d = everything(data, tokens)[0].decisions
    conditions = torch.randn(len(d.at), 5)
    fresh = StreamActor(data.observation.shape[1], GRID, StreamConfig(tokens=tokens, width=16))
    assert torch.equal(fresh(dataclasses.replace(d, condition=conditions)), fresh(d))
    actor = actor_of(tokens, data.observation.shape[1])
    full = actor(dataclasses.replace(d, condition=conditions))
    zero = actor(dataclasses.replace(d, condition=torch.zeros_like(conditions)))
    assert torch.equal(zero, actor(d))
    for column in range(5):
        without = conditions.clone()
        without[:, column] = 0
        assert (actor(dataclasses.replace(d, condition=without)) - full).abs().max() > 1e-3


@LAYOUTS
@pytest.mark.parametrize("context", [1, 3, 50])
def test_play_step_by_step_equals_the_whole_stream(tokens, context):
    """The features of every decision of an episode, from a memory that is told of it window by window."""
    data = record()
    episodes = np.array([0, 1, 2])
    actor = actor_of(tokens, data.observation.shape[1], context=context, gamma=0.9)
    streams = Streams(data, episodes, actor.config)
    batch = streams.read(streams.stretches(1000))
    expected = torch.zeros(len(data.action), 16)
    expected[batch.rows] = actor(batch.decisions).detach()
    to_go = dict(zip(batch.rows.tolist(), batch.decisions.to_go.flatten()[batch.decisions.at].tolist(), strict=True))

    memory = Recollection(actor, lambda seen: np.array([to_go[row] for row in first_rows]), 3, int(data.slot.max()) + 1)
    head = Listener(actor)
    compared = 0
    for number in range(40):
        rows, who = [], []
        for factory, episode in enumerate(episodes):
            step = data.first_step[episode] + number
            if step >= data.first_step[episode + 1]:
                continue
            mine = np.arange(data.first_decision[step], data.first_decision[step + 1])
            rows.append(mine), who.append(np.full(len(mine), factory))
        if not rows:
            break
        first_rows = [mine[0] for mine in rows]
        rows, who = np.concatenate(rows), np.concatenate(who)
        memory.act(who, data.slot[rows].astype(np.int64), data.observation[rows], data.bounds[rows], None, greedy=True)
        torch.testing.assert_close(head.features, expected[rows], rtol=0, atol=1e-5)
        memory.note(who, data.slot[rows].astype(np.int64), data.action[rows])
        last = np.array([data.first_step[episode] + number for episode in episodes])
        memory.earn(data.reward[last], data.elapsed[last])
        compared += len(rows)
    assert compared == len(batch.rows)


@LAYOUTS
def test_a_forgotten_factory_begins_anew_and_others_go_on(tokens):
    data = record()
    actor = actor_of(tokens, data.observation.shape[1])
    head = Listener(actor)
    slots = np.array([0, 1])

    def play(memory, factories, start):
        rows = np.arange(start, start + 2 * len(factories))
        who = np.repeat(factories, 2)
        memory.act(who, np.tile(slots, len(factories)), data.observation[rows], data.bounds[rows], None, greedy=True)
        return head.features.clone()

    def aim(seen):
        return np.ones(len(seen))

    memory = Recollection(actor, aim, 2, 2)
    play(memory, np.array([0, 1]), 0)
    memory.forget(np.array([1]))
    both = play(memory, np.array([0, 1]), 10)
    fresh = Recollection(actor, aim, 2, 2)
    torch.testing.assert_close(play(fresh, np.array([1]), 12), both[2:], rtol=0, atol=1e-5)
    assert (play(fresh, np.array([0]), 10) - both[:2]).abs().max() > 1e-3


class Listener:
    """Keeps the features from which an actor's head last drew."""

    def __init__(self, actor):
        sample = actor.head.sample

        def listen(features, *rest):
            self.features = features.clone()
            return sample(features, *rest)

        actor.head.sample = listen


def test_sizes_are_checked():
    with pytest.raises(ValueError, match="context must be at least 1"):
        StreamConfig(context=0)
    with pytest.raises(ValueError, match="multiple of the heads"):
        StreamActor(3, GRID, StreamConfig(width=30))
    assert Decisions.__dataclass_fields__["valid"].default is None
