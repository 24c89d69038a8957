"""Each compiled kernel of the policy against its slow twin in torch."""

import numpy as np
import pytest
import torch
from numba import njit
from torch.nn import functional

from algorithms import dense, distribution, kernels
from algorithms.losses import clipped_objective, squared_error
from algorithms.returns import unit_targets
from algorithms.transformer import EVERYTHING_PAST, Block


@njit(error_model="numpy")
def each(function, x):
    out = np.empty_like(x)
    for i in range(x.size):
        out[i] = function(x[i])
    return out


def random_rows(seed, n_choices, n=700):
    """Logits (C, n) of any size, bias (C,), and masks with at least one legal choice, as bool (n, C) and as bits."""
    rng = np.random.default_rng(seed)
    logits = (rng.normal(size=(n_choices, n)) * rng.choice([0.1, 1, 30], n)).astype(np.float32)
    mask = rng.random((n, n_choices)) < rng.choice([0.1, 0.5, 1.0], (n, 1))
    mask[np.arange(n), rng.integers(0, n_choices, n)] = True
    return logits, rng.normal(size=n_choices).astype(np.float32), mask, kernels.pack(mask), rng


def test_exp_and_tanh_to_a_few_units_in_the_last_place():
    x = np.linspace(-86, 0, 100_001).astype(np.float32)
    assert np.abs(each(kernels.exp, x) / np.exp(x.astype(float)) - 1).max() < 2e-7
    assert each(kernels.exp, np.array([-1e30, 0], np.float32)).tolist() == pytest.approx([0, 1], abs=1e-37)
    x = np.linspace(-20, 20, 100_001).astype(np.float32)
    assert np.abs(each(kernels.tanh, x) - np.tanh(x.astype(float))).max() < 5e-7


@pytest.mark.parametrize("n_choices", [1, 4, 11, 31, 63])
def test_bits_are_the_mask(n_choices):
    _, _, mask, bits, rng = random_rows(0, n_choices)
    assert (((bits[:, None] >> np.arange(n_choices)) & 1).astype(bool) == mask).all()
    values, cap = np.cumsum(rng.integers(1, 4, n_choices)), rng.integers(-2, 130, 50)
    assert (kernels.pack_up_to(cap, values) == kernels.pack(values <= cap[:, None])).all()


@pytest.mark.parametrize("n_choices", [1, 4, 11, 63])
def test_draws_are_those_of_the_torch_twin(n_choices):
    logits, bias, mask, bits, rng = random_rows(1, n_choices)
    uniform = rng.random(len(mask), dtype=np.float32)
    uniform[:40], uniform[40:80] = 0, np.nextafter(np.float32(1), np.float32(0))
    log_probs = distribution.masked_log_softmax(torch.from_numpy((logits + bias[:, None]).T), torch.from_numpy(mask))
    choice, log_prob = kernels.draw(logits.copy(), bias, bits, uniform, False)
    assert mask[np.arange(len(mask)), choice].all()
    expected = distribution.draw(log_probs, torch.from_numpy(uniform)).numpy()
    assert (choice == expected)[80:].mean() > 0.998  # a level within rounding of a step may fall on either side
    assert log_prob == pytest.approx(distribution.pick(log_probs, torch.from_numpy(choice)).numpy(), rel=1e-6, abs=1e-6)
    best, log_prob = kernels.draw(logits.copy(), bias, bits, np.empty(0, np.float32), True)
    assert (best == log_probs.argmax(-1).numpy()).all()
    assert log_prob == pytest.approx(log_probs.amax(-1).numpy(), rel=1e-6, abs=1e-6)


def test_draws_have_the_frequencies_of_the_distribution():
    n, logits = 400_000, np.array([[0.5], [3.0], [-1.0], [0.0], [1.0]], np.float32)
    bits = np.full(n, 0b11101, np.int64)
    uniform = np.random.default_rng(0).random(n, dtype=np.float32)
    choice, log_prob = kernels.draw(np.repeat(logits, n, 1), np.zeros(5, np.float32), bits, uniform, False)
    p = np.exp(logits[:, 0]) * [1, 0, 1, 1, 1]
    p /= p.sum()
    share = np.bincount(choice, minlength=5) / n
    assert (np.abs(share - p) <= 4.5 * np.sqrt(p * (1 - p) / n)).all()
    assert np.exp(log_prob) == pytest.approx(p[choice], rel=1e-5)


@pytest.mark.parametrize("n_choices", [1, 4, 11, 20, 63])
def test_log_prob_entropy_and_their_gradients_are_those_of_autograd(n_choices):
    logits, bias, mask, bits, rng = random_rows(2, n_choices)
    n = len(mask)
    choice = np.array([rng.choice(np.flatnonzero(row)) for row in mask])
    x = torch.from_numpy((logits + bias[:, None]).T.astype(np.float64)).requires_grad_()
    log_probs = distribution.masked_log_softmax(x, torch.from_numpy(mask))
    log_prob, entropy = distribution.pick(log_probs, torch.from_numpy(choice)), distribution.entropy(log_probs)
    by_log_prob, by_entropy = rng.normal(size=n).astype(np.float32), np.float32(0.3)
    (torch.from_numpy(by_log_prob) * log_prob + by_entropy * entropy).sum().backward()

    probability, mean = np.empty_like(logits), np.empty(n, np.float32)
    ours, each = np.zeros(n, np.float32), []
    for i in range(0, n, 100):  # a row alone, for its entropy
        one = slice(i, i + 1)
        parts = (
            logits[:, one].copy(),
            bias,
            bits[one],
            choice[one],
            probability[:, :1].copy(),
            mean[:1].copy(),
            ours[:1].copy(),
        )
        each.append(kernels.categorical(*parts))
    assert each == pytest.approx(entropy.detach().numpy()[::100], abs=1e-6)
    disorder = kernels.categorical(logits, bias, bits, choice, probability, mean, ours)
    assert ours == pytest.approx(log_prob.detach().numpy(), rel=1e-6, abs=1e-6)
    assert disorder == pytest.approx(entropy.detach().numpy().sum(), rel=1e-6)
    again = logits.copy(), bias * 0, bits, choice, probability.copy(), mean.copy()
    repeated = kernels.categorical(*again, ours)  # the same distribution: shifting logits does not change it
    assert repeated == pytest.approx(disorder, rel=1e-6)
    assert ours == pytest.approx(2 * log_prob.detach().numpy(), rel=1e-6, abs=2e-6)
    by_bias = np.ones(n_choices, np.float32)
    kernels.categorical_gradient(logits, probability, mean, choice, by_log_prob, by_entropy, by_bias)
    assert pytest.approx(x.grad.numpy(), abs=3e-6) == logits.T
    assert pytest.approx(x.grad.numpy().sum(0), abs=1e-4) == by_bias - 1
    assert (logits.T[~mask] == 0).all()


def test_policy_loss_and_gradient_are_those_of_autograd():
    rng = np.random.default_rng(3)
    old, new, gain = (rng.normal(size=5000).astype(np.float32) * scale for scale in (1.0, 0.0, 1.0))
    new = old + rng.normal(size=5000).astype(np.float32) * 0.3
    x = torch.from_numpy(new).requires_grad_()
    loss, kl, clipped = clipped_objective(x, torch.from_numpy(old), torch.from_numpy(gain), 0.2)
    loss.backward()
    gradient = np.empty_like(new)
    sums = kernels.policy_loss(new, old, gain, 0.2, 1 / 5000, gradient) / 5000
    assert sums == pytest.approx([loss.item(), kl.item(), clipped.item()], rel=1e-4)
    assert gradient == pytest.approx(x.grad.numpy(), abs=1e-9)


@pytest.mark.parametrize("clip", [None, 0.2])
def test_value_loss_and_gradient_are_those_of_autograd(clip):
    value, old, target = np.random.default_rng(4).normal(size=(3, 1000)).astype(np.float32)
    x = torch.from_numpy(value).requires_grad_()
    loss = squared_error(x, torch.from_numpy(old), torch.from_numpy(target), clip)
    loss.backward()
    gradient = np.empty_like(value)
    total = kernels.value_loss(value, old, target, -1.0 if clip is None else clip, 1 / 1000, gradient)
    assert total / 1000 == pytest.approx(loss.item(), rel=1e-5)
    assert gradient == pytest.approx(x.grad.numpy(), abs=1e-9)


@pytest.mark.parametrize("name", ["tanh", "relu"])
def test_gradients_through_activations_and_embeddings_are_those_of_autograd(name):
    torch.manual_seed(5)
    x, gradient = torch.randn(300, 24, requires_grad=True), torch.randn(300, 24)
    out = getattr(torch, name)(x)
    out.backward(gradient)
    ours, bias = gradient.clone(), torch.ones(24)
    kernel = kernels.tanh_gradient if name == "tanh" else kernels.relu_gradient
    kernel(ours.numpy(), out.detach().numpy(), bias.numpy())
    torch.testing.assert_close(ours, x.grad, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(bias - 1, x.grad.sum(0), atol=1e-4, rtol=1e-4)

    embedding, choice = torch.randn(7, 24, requires_grad=True), torch.randint(7, (300,))
    x.grad = None
    out = torch.tanh(x + embedding[choice])
    out.backward(gradient)
    ours, by_embedding, result = torch.ones(300, 24), torch.zeros(7, 24), torch.empty(300, 24)
    kernels.given(x.detach().numpy(), embedding.detach().numpy(), choice.numpy(), result.numpy())
    torch.testing.assert_close(result, out.detach(), atol=1e-6, rtol=1e-5)
    kernels.given_gradient(gradient.numpy(), result.numpy(), choice.numpy(), by_embedding.numpy(), ours.numpy())
    torch.testing.assert_close(ours - 1, x.grad, atol=3e-6, rtol=1e-4)
    torch.testing.assert_close(by_embedding, embedding.grad, atol=1e-4, rtol=1e-4)


def test_a_minibatch_holds_its_decisions_offers_first():
    rng = np.random.default_rng(6)
    n, q, p = 200, 3, 5
    action = np.where(rng.random(n) < 0.5, rng.integers(0, 3, n), rng.integers(3, 3 + 4 * q * p, n))
    rows, bits = rng.integers(0, 999, n), rng.integers(0, 9, (n, 4))
    log_prob, gain = rng.random((2, n)).astype(np.float32)
    order = rng.permutation(n)[:120]
    k, row, legal, choice, old, gains = kernels.minibatch(order, rows, bits, action, log_prob, gain, q, p)
    arranged = np.concatenate([order[action[order] >= 3], order[action[order] < 3]])
    assert k == (action[order] >= 3).sum() and (row == rows[arranged]).all() and (bits[arranged] == legal.T).all()
    assert (old == log_prob[arranged]).all() and (gains == gain[arranged]).all()
    assert (3 + (choice[1] * q + choice[3]) * p + choice[2] == action[arranged])[:k].all() and (
        choice[0, :k] == 3
    ).all()
    assert (choice[0, k:] == action[arranged][k:]).all()


def test_targets_of_units_are_means_over_active_agents():
    rng = np.random.default_rng(7)
    advantage, value = rng.normal(size=(2, 9, 4, 6)).astype(np.float32)
    active = rng.random((9, 4, 6)) < 0.4
    found = unit_targets(advantage, value, active, 3)
    for t, e, u in np.ndindex(found.shape):
        members = [n for n in range(3 * u, 3 * u + 3) if active[t, e, n]]
        expected = np.mean([advantage[t, e, n] + value[t, e, n] for n in members]) if members else 0.0
        assert found[t, e, u] == pytest.approx(expected, abs=1e-6)


@pytest.fixture
def processor(monkeypatch):
    """Makes `dense` believe in a processor of Intel's, or of another maker's."""

    def believe(is_intel):
        monkeypatch.setattr(dense, "is_intel", lambda: is_intel)
        dense.onednn.cache_clear()

    yield believe
    dense.onednn.cache_clear()


@pytest.mark.parametrize("intel", [True, False])
@pytest.mark.parametrize("activation", ["none", "tanh", "relu"])
def test_products_are_right_on_either_processor(intel, activation, processor):
    processor(intel)
    assert not intel or dense.onednn() is None
    torch.manual_seed(8)
    x, weight, bias = torch.randn(50, 33), torch.randn(20, 33), torch.randn(20)
    expected = x @ weight.T + bias
    expected = expected if activation == "none" else getattr(torch, activation)(expected)
    with torch.no_grad():
        torch.testing.assert_close(dense.linear(x, weight, bias, activation), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(dense.product(x.T, x), x.T @ x, atol=1e-4, rtol=1e-5)
        total = torch.ones(40, 33)
        dense.add_product(total[:33], x.T, x)
        torch.testing.assert_close(total, torch.cat([1 + x.T @ x, torch.ones(7, 33)]), atol=1e-4, rtol=1e-5)
        assert dense.linear(x[:0], weight, bias).shape == (0, 20)


@pytest.mark.parametrize("n", [0, 1, 40])
def test_gathering_is_that_of_numpy(n):
    rng = np.random.default_rng(0)
    source, rows, out = (
        rng.normal(size=(50, 19)).astype(np.float32),
        rng.integers(50, size=n),
        np.empty((n, 19), np.float32),
    )
    kernels.gather(source, rows, out)
    assert (out == source[rows]).all()


@pytest.mark.parametrize("shape", [(0, 5), (3, 7), (37, 5), (100, 64), (64, 100), (70, 1)])
def test_a_transpose_is_that_of_numpy(shape):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    out = np.empty(shape[::-1], np.float32)
    kernels.transpose(x, out)
    assert (out == x.T).all()
    for matrix in (torch.from_numpy(x), torch.from_numpy(x).t(), torch.from_numpy(x)[:, ::2]):
        assert (dense.in_rows(matrix) == matrix).all()
    assert dense.in_rows(torch.from_numpy(x).t()).is_contiguous()


def test_padding_repeats_the_first_row():
    few, many = np.arange(60) + 7, np.arange(1000) + 7
    assert (dense.padded(few).numpy() == few).all()
    found = dense.padded(many).numpy()
    assert (found[:1000] == many).all() and (found[1000:] == 7).all() and len(found) in (1000, 1024)


def test_what_tokens_find_in_cells_is_what_torch_finds():
    rng = np.random.default_rng(0)
    n_cells, heads, size, context, per_step = 21, 3, 4, 6, 3
    width, held = heads * size, np.array([1, 9, 38, 26])
    key, value = np.zeros((4, n_cells, width), np.float32), np.zeros((4, n_cells, width), np.float32)
    rows, cells = np.zeros((4, width, n_cells), np.float32), np.zeros_like(value)
    position = np.full((4, n_cells), EVERYTHING_PAST * per_step)
    for stream, n in enumerate(held):
        new_key, new_value = rng.normal(size=(2, n, width)).astype(np.float32)
        there = rng.random(n) < 0.8
        there[-1] = True
        for i in np.flatnonzero(there):
            position[stream, i % n_cells], key[stream, i % n_cells], value[stream, i % n_cells] = (
                i, new_key[i], new_value[i],
            )  # fmt: skip
        ring = np.arange(n)[None] % n_cells
        kernels.remember(np.array([stream]), ring, there[None], new_key[None], new_value[None], rows, cells)
    assert (rows.transpose(0, 2, 1) == key).all() and (cells == value).all()

    block = Block(width, heads, context, 0.0)
    block.nearness.data = torch.from_numpy(rng.normal(size=(heads, context)).astype(np.float32))
    streams = np.array([3, 1, 2, 2, 0])
    asking = held[streams][:, None] - np.array([5, 1])
    query = rng.normal(size=(5, 2, width)).astype(np.float32)
    found = np.full_like(query, np.nan)
    kernels.attend(query, rows, cells, position, streams, asking, block.nearness.detach().numpy(), per_step, found)

    asked, seen = torch.from_numpy(asking)[..., None], torch.from_numpy(position[streams])[:, None]
    ago = asked.div(per_step, rounding_mode="floor") - seen.div(per_step, rounding_mode="floor")
    parts = (block._split(torch.from_numpy(x)) for x in (query, key[streams], value[streams]))
    twin = functional.scaled_dot_product_attention(*parts, attn_mask=block.bias(ago, asked >= seen))
    twin = twin.transpose(-3, -2).flatten(-2).detach().nan_to_num(0.0).numpy()
    assert (twin[4, 0] == 0).all() and (np.abs(twin).sum(-1) == 0).sum() == 1  # one was asked before there was anything
    np.testing.assert_allclose(found, twin, atol=2e-6)
