"""Loss and gradient of actor and critic on a CPU, in blocks of rows that stay in the cache.

What autograd computes, written out: it differs by rounding only (tests/algorithms/test_blocks.py). Three things make it
fast: a minibatch passes through all layers block by block, so that no activation goes to main memory; the products are
MKL's or oneDNN's (algorithms.dense); everything between them is one compiled loop each (algorithms.kernels).
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from algorithms import kernels
from algorithms.dense import add_product, linear, product, round_up
from algorithms.heads import FIRST_OFFER, FactoredHead
from algorithms.losses import clipped_objective, likelihood, squared_error
from algorithms.networks import Actor, Critic

BLOCK = 4096  # rows: 64 activations of them fill a megabyte
STEP = 256  # rows: products have multiples of it, where few shapes are faster than many
CHUNK = 65536  # rows that are masked or judged at once elsewhere: bounds memory, changes nothing


class PolicyRows(Protocol):
    """What the actor learns from: R decisions of a rollout."""

    @property
    def observation(self) -> Tensor:
        """float32 (T E, N, D)"""

    @property
    def rows(self) -> Tensor:
        """int64 (R,), flat indices into (T E, N)"""

    @property
    def legal(self) -> Tensor:
        """What the method `legal` returned."""

    @property
    def action(self) -> Tensor:
        """int64 (R,)"""

    @property
    def log_prob(self) -> Tensor:
        """float32 (R,), when chosen"""


class AutogradActor:
    """Any actor on any device."""

    def __init__(self, actor: Actor) -> None:
        self.actor = actor

    def legal(self, bounds: Tensor, action: Tensor) -> Tensor:
        """Returns what `backward` needs to know of the bounds (n, M) along the actions (n,)."""
        return self.actor.head.legal(bounds, action)

    @torch.no_grad()
    def log_prob(self, batch: PolicyRows) -> Tensor:
        """Returns log p of every decision under the actor as it is now, float32 (R,)."""
        source, chunks = batch.observation.flatten(0, 1), range(0, len(batch.rows), CHUNK)
        parts = [slice(start, start + CHUNK) for start in chunks]
        found = [self.actor.evaluate(source[batch.rows[i]], batch.legal[i], batch.action[i])[0] for i in parts]
        return torch.cat(found)

    def backward(self, batch: PolicyRows, i: Tensor, advantage: Tensor, clip: float | None, bonus: float) -> Tensor:
        """Writes the gradient of loss - bonus * entropy on the decisions `i` into the actor's parameters.

        Args:
            batch: the rollout.
            i: int64 (n,), which of its decisions.
            advantage: float32 (R,).
            clip: half-width of the trusted interval of the probability ratio; None for plain likelihood: the loss is
                then - mean(advantage * log p), and `batch.log_prob` is not read.
            bonus: weight of the entropy.

        Returns:
            (4,): loss, entropy, KL estimate, share of clipped rows.
        """
        self.actor.zero_grad()
        observation = batch.observation.flatten(0, 1)[batch.rows[i]]
        log_prob, entropy = self.actor.evaluate(observation, batch.legal[i], batch.action[i])
        if clip is None:
            loss, kl, clipped = likelihood(log_prob, advantage[i])
        else:
            loss, kl, clipped = clipped_objective(log_prob, batch.log_prob[i], advantage[i], clip)
        disorder = entropy.mean()
        (loss - bonus * disorder).backward()
        return torch.stack([loss, disorder, kl, clipped]).detach()


class AutogradCritic:
    """Any critic on any device."""

    def __init__(self, critic: nn.Module) -> None:
        self.critic = critic

    def backward(self, source: Tensor, j: Tensor, old: Tensor, target: Tensor, clip: float | None) -> Tensor:
        """Writes the gradient of the squared error into the critic's parameters and returns the loss, a scalar.

        Args:
            source: float32 (B, ...), rows of the critic's input.
            j: int64 (n,), which of them.
            old, target: float32 (n,), normalised values from before the update, and what they should have been.
            clip: see `losses.squared_error`.
        """
        self.critic.zero_grad()
        loss = squared_error(self.critic(source[j]), old, target, clip)
        loss.backward()
        return loss.detach()


class BlockedTorso:
    """Forward and backward of a `networks.Torso`."""

    def __init__(self, torso: nn.Sequential) -> None:
        self.layers = [layer for layer in torso if isinstance(layer, nn.Linear)]
        self.activation = "tanh" if any(isinstance(layer, nn.Tanh) for layer in torso) else "relu"
        self._unactivate = kernels.tanh_gradient if self.activation == "tanh" else kernels.relu_gradient

    def forward(self, x: Tensor) -> list[Tensor]:
        """Returns the input (n, D) and the output of each layer."""
        outputs = [x]
        for layer in self.layers:
            outputs.append(linear(outputs[-1], layer.weight, layer.bias, self.activation))
        return outputs

    def backward(self, gradient: Tensor, outputs: list[Tensor]) -> None:
        """Adds to the layers' gradients, given that by the last output, which is overwritten."""
        for k in reversed(range(len(self.layers))):
            layer = self.layers[k]
            self._unactivate(gradient.numpy(), outputs[k + 1].numpy(), grad(layer.bias).numpy())
            add_product(grad(layer.weight), gradient.t(), outputs[k])
            if k:
                gradient = product(gradient, layer.weight)


class BlockedActor:
    """An actor with a `FactoredHead` on a CPU; the same two methods as `AutogradActor`.

    Within a minibatch the offers come first, so that the rows of a block that have a lead, a price and a quantity are
    its first ones and need no gathering.
    """

    def __init__(self, actor: Actor) -> None:
        self.actor, self.torso = actor, BlockedTorso(actor.torso)
        assert isinstance(actor.head, FactoredHead)
        self.head = actor.head

    def legal(self, bounds: Tensor, action: Tensor) -> Tensor:
        """Returns int64 (n, 4): the masks of operation, lead, price and quantity as bits."""
        return self.head.legal_bits(bounds, action)

    @torch.no_grad()
    def log_prob(self, batch: PolicyRows) -> Tensor:
        """As `AutogradActor.log_prob`."""
        i = torch.arange(len(batch.rows))
        found = torch.empty(len(i))
        nothing = np.empty(len(i), np.float32)
        n_offers, rows, legal, choice, _, _ = self._minibatch(batch, i, nothing, nothing)
        offers = batch.action >= FIRST_OFFER
        order = torch.cat([i[offers], i[~offers]])
        for part, x, k in self._blocks(batch, rows, n_offers):
            features = self.torso.forward(x)[-1]
            found[order[part]] = torch.from_numpy(self._forward(features, k, legal[:, part], choice[:, part]).log_prob)
        return found

    @torch.no_grad()
    def backward(self, batch: PolicyRows, i: Tensor, advantage: Tensor, clip: float | None, bonus: float) -> Tensor:
        """As `AutogradActor.backward`."""
        zero_gradients(self.actor)
        old_log_prob = advantage if clip is None else batch.log_prob
        n_offers, rows, legal, choice, old, gain = self._minibatch(batch, i, old_log_prob.numpy(), advantage.numpy())
        sums = np.zeros(4)
        for part, x, k in self._blocks(batch, rows, n_offers):
            outputs = self.torso.forward(x)
            forward = self._forward(outputs[-1], k, legal[:, part], choice[:, part])
            by_log_prob = np.empty_like(forward.log_prob)
            if clip is None:
                loss = kernels.likelihood_loss(forward.log_prob, gain[part], 1 / len(rows), by_log_prob)
            else:
                loss = kernels.policy_loss(forward.log_prob, old[part], gain[part], clip, 1 / len(rows), by_log_prob)
            sums += (loss[0], forward.entropy, loss[1], loss[2])
            self.torso.backward(self._backward(forward, by_log_prob, -bonus / len(rows)), outputs)
        if not n_offers:  # as autograd leaves what it did not touch: Adam then keeps its hands off
            for unused in list(self.head.children())[1:]:
                unused.zero_grad()
        return torch.from_numpy(sums / len(rows)).float()

    def _minibatch(self, batch: PolicyRows, i: Tensor, old: np.ndarray, gain: np.ndarray) -> tuple:
        rows, legal, action = (array.numpy() for array in (batch.rows, batch.legal, batch.action))
        return kernels.minibatch(i.numpy(), rows, legal, action, old, gain, self.head.n_quantities, self.head.n_prices)

    def _blocks(self, batch: PolicyRows, rows: np.ndarray, n_offers: int) -> Iterator[tuple[slice, Tensor, int]]:
        """Cuts a minibatch as `gathered` does: which decisions, scaled observations, and how many, the first, offer."""
        for part, x in gathered(batch.observation.flatten(0, 1), torch.from_numpy(rows)):
            yield part, self.actor.scale(x), min(max(n_offers - part.start, 0), part.stop - part.start)

    def _forward(self, features: Tensor, k: int, legal: np.ndarray, choice: np.ndarray) -> "HeadPass":
        """Passes a block through the head; of its n = choice.shape[1] decisions the first `k` are offers."""
        head, n = self.head, choice.shape[1]
        inputs, layers, choices = [features], [head.operation], [choice[0]]
        if k:
            x = features[: min(round_up(k, STEP), len(features))]
            given_lead, given_price = torch.empty_like(x), torch.empty_like(x)
            choices += [choice[f, :k] for f in (1, 2, 3)]
            kernels.given(x.numpy(), head.lead_embedding.weight.numpy(), choices[1], given_lead.numpy())
            kernels.given(given_lead.numpy(), head.price_embedding.weight.numpy(), choices[2], given_price.numpy())
            inputs += [x, given_lead, given_price]
            layers += [head.lead, head.price, head.quantity]
        log_prob, entropy = np.zeros(n, np.float32), 0.0
        slopes, means, probabilities = [], [], []
        for f, (x, layer) in enumerate(zip(inputs, layers, strict=True)):
            logits = linear(layer.weight, x).numpy()  # (C, >= n), see kernels
            probability, mean = np.empty_like(logits), np.empty(n, np.float32)
            bias = layer.bias.numpy()
            entropy += kernels.categorical(logits, bias, legal[f], choices[f], probability, mean, log_prob)
            slopes.append(logits)
            probabilities.append(probability)
            means.append(mean)
        return HeadPass(inputs, layers, choices, slopes, probabilities, means, log_prob, entropy)

    def _backward(self, forward: "HeadPass", by_log_prob: np.ndarray, by_entropy: float) -> Tensor:
        """Adds to the head's gradients and returns that by the features, float32 (>= n, H): 0 after the first n."""
        head, slopes = self.head, []
        for f, (x, layer) in enumerate(zip(forward.inputs, forward.layers, strict=True)):
            kernels.categorical_gradient(
                forward.slopes[f],
                forward.probabilities[f],
                forward.means[f],
                forward.choices[f],
                by_log_prob,
                np.float32(by_entropy),
                grad(layer.bias).numpy(),
            )
            slope = torch.from_numpy(forward.slopes[f])
            add_product(grad(layer.weight), slope, x)
            slopes.append(slope.t())
        by_features = product(slopes[0], head.operation.weight)
        if len(slopes) > 1:
            by_given_price = product(slopes[3], head.quantity.weight).numpy()
            by_given_lead = product(slopes[2], head.price.weight).numpy()
            by_offers = by_features[: len(slopes[1])]
            add_product(by_offers, slopes[1], head.lead.weight)
            given_lead, given_price = (x.numpy() for x in forward.inputs[2:])
            leads, prices = (
                grad(embedding.weight).numpy() for embedding in (head.lead_embedding, head.price_embedding)
            )
            kernels.given_gradient(by_given_price, given_price, forward.choices[2], prices, by_given_lead)
            kernels.given_gradient(by_given_lead, given_lead, forward.choices[1], leads, by_offers.numpy())
        return by_features


class HeadPass(NamedTuple):
    """A block's way through a `FactoredHead`: of each factor that takes part, what went in and what came out.

    Attributes:
        inputs: float32 (>= n, H), and three times (>= k, H).  layers: of logits.  choices: int64 (n,) and (k,).
        slopes: float32 (C, >= n) logits, overwritten by their gradients.  probabilities: (C, >= n).  means: (n,).
        log_prob: float32 (n,), of all factors together.  entropy: their sum over rows and factors.
    """

    inputs: list[Tensor]
    layers: list[nn.Linear]
    choices: list[np.ndarray]
    slopes: list[np.ndarray]
    probabilities: list[np.ndarray]
    means: list[np.ndarray]
    log_prob: np.ndarray
    entropy: float


class BlockedCritic:
    """A `networks.Critic` on a CPU; the same method as `AutogradCritic`."""

    def __init__(self, critic: Critic) -> None:
        self.critic, self.torso = critic, BlockedTorso(critic.torso)

    @torch.no_grad()
    def backward(self, source: Tensor, j: Tensor, old: Tensor, target: Tensor, clip: float | None) -> Tensor:
        """As `AutogradCritic.backward`."""
        zero_gradients(self.critic)
        layer, loss, n = self.critic.value, 0.0, len(j)
        for part, x in gathered(source, j):
            outputs = self.torso.forward(self.critic.scale(x))
            value = linear(outputs[-1], layer.weight, layer.bias).squeeze(-1)
            slope = torch.zeros_like(value)
            arrays = (value[: part.stop - part.start].numpy(), old[part].numpy(), target[part].numpy())
            loss += kernels.value_loss(*arrays, -1.0 if clip is None else clip, 1 / n, slope.numpy())
            grad(layer.weight).add_(slope @ outputs[-1])
            grad(layer.bias).add_(slope.sum())
            self.torso.backward(torch.outer(slope, layer.weight[0]), outputs)
        return torch.tensor(loss / n)


def gathered(source: Tensor, rows: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Cuts `rows` int64 (n,) of float32 (B, D) into blocks.

    Yields:
        which of `rows`, and float32 (m, D), gone when the next block is asked for: these rows, and after them some
        others of `rows` where products should have more.
    """
    size = min(BLOCK, round_up(len(rows), STEP))
    room, which = torch.empty(size, source.shape[1]), rows[:1].repeat(size)
    for start in range(0, len(rows), BLOCK):
        part = rows[start : start + BLOCK]
        which[: len(part)] = part
        m = min(round_up(len(part), STEP), size)
        kernels.gather(source.numpy(), which[:m].numpy(), room[:m].numpy())
        yield slice(start, start + len(part)), room[:m]


def actor_side(actor: Actor, blocked: bool) -> AutogradActor | BlockedActor:
    """Returns what computes the actor's gradients: in blocks if asked for, on a CPU, and where the head has factors."""
    on_cpu = all(parameter.device.type == "cpu" for parameter in actor.parameters())
    possible = on_cpu and isinstance(actor.head, FactoredHead) and actor.head.packs
    return BlockedActor(actor) if blocked and possible else AutogradActor(actor)


def critic_side(critic: nn.Module, blocked: bool) -> AutogradCritic | BlockedCritic:
    """Returns what computes the critic's gradients: in blocks if asked for, on a CPU, and where rows are plain."""
    if blocked and isinstance(critic, Critic) and critic.value.weight.device.type == "cpu":
        return BlockedCritic(critic)
    return AutogradCritic(critic)


def zero_gradients(module: nn.Module) -> None:
    """Sets every gradient to zeros, where autograd would start from None."""
    for parameter in module.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        else:
            parameter.grad.zero_()


def grad(parameter: Tensor) -> Tensor:
    """Returns the gradient of a parameter, after `zero_gradients`."""
    assert parameter.grad is not None
    return parameter.grad
