"""Masked distributions: exact probabilities, no chance and no gradient for what is masked."""

import numpy as np
import pytest
import torch

from algorithms.distribution import draw, entropy, masked_log_softmax
from algorithms.heads import FactoredHead, FlatHead
from algorithms.vector import FlatGrid
from tests.algorithms.grids import SmallGrid, random_bounds


def random_factored_head(seed: int, n: int = 64):
    """A head with random weights, features and bounds of n rows."""
    torch.manual_seed(seed)
    grid = SmallGrid()
    bounds = torch.from_numpy(random_bounds(np.random.default_rng(seed), n, grid))
    return FactoredHead(8, grid), torch.randn(n, 8, requires_grad=True), bounds


def all_log_probs(head, features, bounds):
    """log p (n, A) of every flat action, each evaluated on its own; -inf where the flat mask forbids it."""
    mask, columns = head.grid.mask(bounds, xp=torch), []
    for a in range(head.grid.n_actions):
        action = torch.full((len(bounds),), a)
        columns.append(head.evaluate(features, head.legal(bounds, action), action)[0])
    return torch.stack(columns, -1), mask


def uniform(n):
    return torch.rand(n)


@pytest.mark.parametrize("seed", range(5))
def test_the_factors_multiply_to_a_distribution_over_exactly_the_legal_flat_actions(seed):
    head, features, bounds = random_factored_head(seed)
    log_prob, mask = all_log_probs(head, features, bounds)
    probability = log_prob.exp()
    assert (probability[~mask] == 0).all() and (probability[mask] > 0).all()
    assert probability.sum(-1).detach().numpy() == pytest.approx(1.0, abs=1e-5)
    assert 0 < mask.sum() < mask.numel()


@pytest.mark.parametrize("seed", range(5))
def test_sampled_actions_are_legal_and_carry_the_log_prob_that_evaluate_gives_them(seed):
    head, features, bounds = random_factored_head(seed)
    for greedy in (False, True):
        action, log_prob = head.sample(features, bounds, uniform, greedy)
        assert head.grid.mask(bounds, xp=torch)[torch.arange(len(action)), action].all()
        again, _ = head.evaluate(features, head.legal(bounds, action), action)
        assert torch.equal(log_prob, again)


def test_sampling_frequencies_are_the_probabilities():
    head, features, bounds = random_factored_head(seed=3, n=1)
    bounds[0] = torch.tensor([0, 1, 1, 2, 0, 6, 1, 5, 0])
    log_prob, _ = all_log_probs(head, features, bounds)
    n = 200_000
    action, _ = head.sample(features.expand(n, -1), bounds.expand(n, -1), uniform, greedy=False)
    share = torch.bincount(action, minlength=head.grid.n_actions) / n
    deviation = (log_prob[0].exp() * (1 - log_prob[0].exp()) / n).sqrt()
    assert ((share - log_prob[0].exp()).abs() <= 4.5 * deviation).all()


def test_the_entropy_of_the_factors_averages_to_the_entropy_of_the_flat_distribution():
    head, features, bounds = random_factored_head(seed=1, n=8)
    log_prob, mask = all_log_probs(head, features, bounds)
    exact = -(log_prob.exp() * torch.where(mask, log_prob, 0.0)).sum(-1)
    estimate = torch.zeros(len(bounds))
    for a in range(head.grid.n_actions):  # expectation over the policy's own actions
        action = torch.full((len(bounds),), a)
        estimate += log_prob[:, a].exp() * head.evaluate(features, head.legal(bounds, action), action)[1]
    assert estimate.detach().numpy() == pytest.approx(exact.detach().numpy(), abs=1e-5)


def test_a_masked_factor_gets_no_gradient():
    head, features, bounds = random_factored_head(seed=2, n=1)
    bounds[0] = torch.tensor([0, 1, 0, 2, 0, 0, 0, 0, 0])  # end, or offer up to 2 items on lead 0 at price 0
    action = torch.tensor([3 + (0 * 3 + 1) * 3 + 0])
    log_prob, disorder = head.evaluate(features, head.legal(bounds, action), action)
    (log_prob + disorder).sum().backward()
    assert (head.operation.bias.grad[[0, 2]] == 0).all() and (head.operation.bias.grad[[1, 3]] != 0).all()
    assert (head.lead.bias.grad == 0).all() and (head.price.bias.grad == 0).all()  # one legal choice: nothing to learn
    assert head.quantity.bias.grad[2] == 0 and (head.quantity.bias.grad[:2] != 0).all()


def test_a_masked_flat_action_has_no_chance_and_no_gradient():
    torch.manual_seed(0)
    head, features = FlatHead(8, FlatGrid(5)), torch.randn(256, 8)
    bounds = torch.tensor([[0, 1, 0, 1, 1]], dtype=torch.int32).expand(256, -1)
    with torch.no_grad():
        head.logits.bias[0] = 80.0  # the network would love the masked action
    action, _ = head.sample(features, bounds, uniform, greedy=False)
    assert set(action.tolist()) == {1, 3, 4}
    log_prob, disorder = head.evaluate(features, head.legal(bounds, action), action)
    (log_prob + disorder).sum().backward()
    assert (head.logits.bias.grad[[0, 2]] == 0).all() and (head.logits.weight.grad[[0, 2]] == 0).all()
    assert (head.logits.bias.grad[[1, 3, 4]] != 0).all()


def test_one_legal_action_has_log_prob_and_entropy_zero():
    mask = torch.tensor([[False, True, False]])
    log_prob = masked_log_softmax(torch.tensor([[5.0, -3.0, 9.0]]), mask)
    assert log_prob[0, 1] == 0 and log_prob.exp()[0, [0, 2]].tolist() == [0, 0] and entropy(log_prob).item() == 0


@pytest.mark.parametrize("level", [0.0, 0.5, float(np.nextafter(np.float32(1), np.float32(0)))])
def test_the_ends_of_the_unit_interval_never_draw_a_masked_action(level):
    mask = torch.tensor([[False, True, True, False]]).expand(1000, -1)
    logits = torch.randn(1000, 4, generator=torch.Generator().manual_seed(0)) * 5
    action = draw(masked_log_softmax(logits, mask), torch.full((1000,), level))
    assert set(action.tolist()) <= {1, 2}
