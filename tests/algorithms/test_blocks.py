"""Gradients in blocks and compiled sampling against autograd and the torch path."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from algorithms import blocks
from algorithms.buffer import RolloutBuffer
from algorithms.heads import FactoredHead
from algorithms.log import Clock
from algorithms.mappo import MAPPO
from algorithms.networks import Actor, Critic, PooledCritic
from algorithms.ppo import PPOConfig, Shapes
from algorithms.train import collect
from algorithms.vector import FlatGrid
from tests.algorithms.grids import SmallGrid, random_bounds
from tests.algorithms.worlds import GridWorld


@dataclass
class Rows:
    observation: Tensor
    rows: Tensor
    action: Tensor
    log_prob: Tensor
    legal: Tensor | None = None


@dataclass(frozen=True)
class CompactSmallGrid(SmallGrid):
    """SmallGrid with the optional methods of `interface.CompactGrid`."""

    def ops_and_leads(self, bounds):
        return self.ops(bounds), (self.caps(bounds) >= 1).any(-1)

    def caps_at(self, bounds, lead):
        return self.caps(bounds)[np.arange(len(lead)), lead]


def actor_and_rows(seed, activation="tanh", grid=None, normalise=False, offers=True, n=300):
    """A random actor, and decisions of n of its agents; without offers nobody may make one."""
    torch.manual_seed(seed)
    grid = grid or SmallGrid()
    actor = Actor(9, grid, (16, 12), activation, normalise)
    for parameter in actor.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    if normalise:
        actor.scale.update(3 + 2 * torch.randn(50, 9))
    limits = random_bounds(np.random.default_rng(seed), n, grid)
    if not offers:
        limits[:, 3:], limits[:, 1] = 0, 1
    observation, bounds, rows = torch.randn(n, 2, 9), torch.from_numpy(limits), torch.randperm(2 * n)[:n]
    seen = observation.flatten(0, 1)[rows]
    with torch.no_grad():
        action, log_prob = actor.sample(seen, bounds, torch.rand, False)
    return actor, bounds, Rows(observation, rows, action, log_prob + 0.3 * torch.randn(n))


def only(chosen, source):
    """The rows `chosen` of a source (B, D) where they are; the others are not a number: nobody may read them."""
    return torch.full_like(source, torch.nan).index_copy(0, chosen, source[chosen])


def multiple(n, step):
    return -(-n // step) * step


@pytest.fixture(params=["as many rows", "multiples of 16"])
def in_small_blocks(request, monkeypatch):
    """Several blocks a minibatch, with the rows that they have or filled up; tensors start as not a number."""
    monkeypatch.setattr(blocks, "BLOCK", 64)
    monkeypatch.setattr(blocks, "STEP", 16)
    monkeypatch.setattr(blocks, "round_up", multiple if request.param == "multiples of 16" else lambda n, step: n)
    torch.use_deterministic_algorithms(True)  # fills new tensors
    yield
    torch.use_deterministic_algorithms(False)


def gradients(module):
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("case", ["tanh", "relu", "normalised", "no offers", "compact", "one block"])
def test_the_actors_gradients_and_numbers_are_those_of_autograd(case, in_small_blocks):
    actor, bounds, rows = actor_and_rows(
        0,
        activation="relu" if case == "relu" else "tanh",
        grid=CompactSmallGrid() if case == "compact" else SmallGrid(),
        normalise=case == "normalised",
        offers=case != "no offers",
    )
    i, advantage, found = torch.randperm(300)[: 40 if case == "one block" else 250], torch.randn(300), []
    i = i[rows.rows[i] > 0]  # nobody asks for the first row
    for side in (blocks.AutogradActor(actor), blocks.BlockedActor(actor)):
        rows.legal = side.legal(bounds, rows.action)
        numbers = side.backward(rows, i, advantage, 0.2, 0.05)
        found.append((numbers, gradients(actor)))
        rows.observation = only(rows.rows[i], rows.observation.flatten(0, 1)).view(300, 2, 9)
    (slow, by_autograd), (fast, in_blocks) = found
    torch.testing.assert_close(fast, slow, atol=1e-6, rtol=1e-5)
    assert set(in_blocks) == set(by_autograd) and len(by_autograd) == (6 if case == "no offers" else 14)
    for name, gradient in by_autograd.items():
        torch.testing.assert_close(in_blocks[name], gradient, atol=1e-6, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")
    if case != "no offers":
        assert all(gradient.abs().max() > 0 for gradient in in_blocks.values())


@pytest.mark.parametrize("offers", [True, False])
def test_the_gradient_of_the_likelihood_and_log_p_are_those_of_autograd(offers, in_small_blocks):
    actor, bounds, rows = actor_and_rows(5, offers=offers)
    i, weight, found = torch.randperm(300)[:250], torch.rand(300), []
    rows.log_prob = None  # nobody knows the experts'
    for side in (blocks.AutogradActor(actor), blocks.BlockedActor(actor)):
        rows.legal = side.legal(bounds, rows.action)
        numbers = side.backward(rows, i, weight, None, 0.0)
        found.append((numbers, gradients(actor), side.log_prob(rows)))
    (slow, by_autograd, log_prob), (fast, in_blocks, in_blocks_log_prob) = found
    assert slow[0] == pytest.approx(-float((weight * log_prob)[i].mean()), rel=1e-5) and slow[2] == slow[3] == 0
    torch.testing.assert_close(fast, slow, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(in_blocks_log_prob, log_prob, atol=1e-5, rtol=1e-5)
    for name, gradient in by_autograd.items():
        torch.testing.assert_close(in_blocks[name], gradient, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(("clip", "n"), [(None, 200), (0.2, 200), (0.2, 40)])
def test_the_critics_gradients_are_those_of_autograd(clip, n, in_small_blocks):
    torch.manual_seed(1)
    critic, source = Critic(7, (16, 8), "tanh", False), torch.randn(500, 7)
    j, old, target, found = 1 + torch.randperm(499)[:n], torch.randn(n), torch.randn(n), []
    source = only(j, source)
    for side in (blocks.AutogradCritic(critic), blocks.BlockedCritic(critic)):
        loss = side.backward(source, j, old, target, clip)
        found.append((loss, gradients(critic)))
    (slow, by_autograd), (fast, in_blocks) = found
    torch.testing.assert_close(fast, slow)
    for name, gradient in by_autograd.items():
        torch.testing.assert_close(in_blocks[name], gradient, atol=1e-6, rtol=1e-4)


def test_products_meet_few_shapes_where_these_cost(monkeypatch):
    monkeypatch.setattr(blocks, "round_up", multiple)
    met = set()
    for name in ("linear", "product", "add_product"):
        done = getattr(blocks, name)
        monkeypatch.setattr(
            blocks, name, lambda *x, done=done, **more: (met.update(map(tuple, shapes(x))), done(*x, **more))[1]
        )

    def shapes(x):
        return [one.shape for one in x if isinstance(one, Tensor) and one.dim() == 2]

    actor, bounds, rows = actor_and_rows(2)
    side, critic = blocks.BlockedActor(actor), blocks.BlockedCritic(Critic(9, (16, 12), "tanh", False))
    rows.legal = side.legal(bounds, rows.action)
    numbers = torch.zeros(300)
    for n in (40, 111, 200, 256, 290):
        side.backward(rows, torch.arange(n), numbers, 0.2, 0.05)
        critic.backward(rows.observation.flatten(0, 1), torch.arange(n), numbers[:n], numbers[:n], None)
    assert {n for shape in met for n in shape if n > 16} == {256, 512}


def test_autograd_stands_in_where_blocks_do_not_know_the_network():
    flat, factored = (Actor(4, grid, (8,), "tanh", False) for grid in (FlatGrid(3), SmallGrid()))
    wide = Actor(4, SmallGrid(n_prices=64), (8,), "tanh", False)
    assert isinstance(blocks.actor_side(factored, True), blocks.BlockedActor)
    for actor, blocked in ((flat, True), (wide, True), (factored, False)):
        assert isinstance(blocks.actor_side(actor, blocked), blocks.AutogradActor)
    assert isinstance(blocks.critic_side(Critic(4, (8,), "tanh", False), True), blocks.BlockedCritic)
    assert isinstance(blocks.critic_side(PooledCritic(4, (8,), "tanh", False), True), blocks.AutogradCritic)


@pytest.mark.parametrize("grid", [SmallGrid(), CompactSmallGrid()])
@pytest.mark.parametrize("greedy", [False, True])
def test_compiled_sampling_takes_the_actions_of_the_torch_path(grid, greedy):
    torch.manual_seed(2)
    head, n = FactoredHead(8, grid), 2000
    bounds = torch.from_numpy(random_bounds(np.random.default_rng(2), n, grid))
    features, found = torch.randn(n + 48, 8), []
    for enabled in (True, False):
        generator = torch.Generator().manual_seed(3)
        with torch.set_grad_enabled(enabled):
            action, log_prob = head.sample(features, bounds, lambda k, g=generator: torch.rand(k, generator=g), greedy)
        found.append((action, log_prob.detach()))
    (action, log_prob), (compiled, compiled_log_prob) = found
    assert head.grid.mask(bounds, xp=torch)[torch.arange(n), compiled].all()
    same = action == compiled
    assert same.float().mean() > 0.998  # a draw within rounding of a step may fall on either side
    torch.testing.assert_close(compiled_log_prob[same], log_prob[same], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("grid", [SmallGrid(), CompactSmallGrid()])
def test_bits_are_the_masks_along_the_action(grid):
    actor, bounds, rows = actor_and_rows(4, grid=grid)
    head = actor.head
    offers = rows.action >= 3
    masks, start = head.legal(bounds, rows.action), 0
    for f, width in enumerate((4, 2, 3, 3)):
        bits = ((head.legal_bits(bounds, rows.action)[:, f, None] >> torch.arange(width)) & 1).bool()
        some = torch.ones_like(offers) if f == 0 else offers
        assert (bits[some] == masks[some, start : start + width]).all()
        start += width


def test_learning_in_blocks_is_learning_by_autograd():
    config = PPOConfig(actor_hidden=(16, 16), critic_hidden=(16,), epochs=2, minibatches=2)
    weights, metrics = [], []
    for blocked in (False, True):
        env = GridWorld(n_worlds=32)
        learner = MAPPO(Shapes.of(env), replace(config, blocked=blocked), seed=0)
        buffer = RolloutBuffer(16, env)
        collect(env, learner, buffer, Clock())
        metrics.append(learner.update(buffer, progress=0.0))
        weights.append(
            torch.cat([p.detach().flatten() for m in (learner.actor, learner.critic) for p in m.parameters()])
        )
        assert set(learner.clock.take()) == {"masks", "values", "gradients", "optimiser"}
    torch.testing.assert_close(weights[1], weights[0], atol=2e-5, rtol=1e-4)
    for name, value in metrics[0].items():
        assert metrics[1][name] == pytest.approx(value, rel=1e-3, abs=1e-6), name


def test_the_last_views_are_refreshed_where_the_env_can():
    env = GridWorld(n_worlds=2)
    env.refresh = lambda: env.state.fill(7)
    learner = MAPPO(Shapes.of(env), PPOConfig(actor_hidden=(4,), critic_hidden=(4,)), seed=0)
    buffer = RolloutBuffer(3, env)
    collect(env, learner, buffer, Clock())
    assert (buffer.last_state == 7).all() and not (buffer.state == 7).any()
