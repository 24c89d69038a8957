"""Actions row by row: each from its own columns, bounds and random numbers, bit for bit whatever other rows are there.

Libraries of matrix products round otherwise for another number of rows, and a call of torch costs as much as a hundred
rows of a small network. Where many small batches are to be answered, as by opponents of a fast environment, these loops
are faster than both, and an episode does not depend on which others are played beside it.
"""

from itertools import pairwise

import numpy as np
from torch import Tensor, nn

from algorithms import kernels
from algorithms.heads import FIRST_OFFER, OFFER, FactoredHead
from algorithms.kernels import BELOW_ONE, LOWEST, ZERO, compiled, exp, tanh
from algorithms.networks import Actor, Scale

LINEAR, TANH, RELU = range(3)


@compiled
def layer(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, activation: int) -> np.ndarray:
    """Returns act(x @ weight + bias), float32 (n, H) from (n, D) and (D, H), summed over the columns in order."""
    n, n_outputs = x.shape[0], weight.shape[1]
    out = np.empty((n, n_outputs), np.float32)
    for i in range(n):
        for h in range(n_outputs):
            out[i, h] = bias[h]
    whole = n // 4 * 4  # four rows at a time: each weight is read once for them
    for i in range(0, whole, 4):
        one, two, three, four = out[i], out[i + 1], out[i + 2], out[i + 3]
        for d in range(x.shape[1]):
            a, b, c, e, row = x[i, d], x[i + 1, d], x[i + 2, d], x[i + 3, d], weight[d]
            for h in range(n_outputs):
                one[h] += a * row[h]
                two[h] += b * row[h]
                three[h] += c * row[h]
                four[h] += e * row[h]
    for i in range(whole, n):
        last = out[i]
        for d in range(x.shape[1]):
            a, row = x[i, d], weight[d]
            for h in range(n_outputs):
                last[h] += a * row[h]
    flat = out.reshape(-1)
    if activation == TANH:
        for j in range(flat.size):
            flat[j] = tanh(flat[j])
    elif activation == RELU:
        for j in range(flat.size):
            flat[j] = max(flat[j], ZERO)
    return out


@compiled
def choose(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, bits: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Returns int64 (n,): the choice of each row, by inverse transform of its float32 (n,) number, as `kernels.draw`.

    Args:
        x: float32 (n, H).  weight: float32 (H, C).  bias: float32 (C,).
        bits: int64 (n,), bit c for choice c that is allowed, not 0.
    """
    z, choice = layer(x, weight, bias, LINEAR), np.empty(x.shape[0], np.int64)
    n_choices = z.shape[1]
    for i in range(z.shape[0]):
        best, total, row = LOWEST, ZERO, z[i]
        for c in range(n_choices):
            row[c] = row[c] if (bits[i] >> c) & 1 else LOWEST
            best = max(best, row[c])
        for c in range(n_choices):
            row[c] = exp(row[c] - best) if (bits[i] >> c) & 1 else ZERO
        for c in range(n_choices):
            total += row[c]
        level = min(min(uniform[i], BELOW_ONE) * total, total * BELOW_ONE)
        cumulated, taken = ZERO, 0
        for c in range(n_choices):
            cumulated += row[c]
            taken += 1 if cumulated <= level else 0
        choice[i] = taken
    return choice


class RowActor:
    """An actor with a factored head as it is now, as arrays; what it is trained to later does not reach it.

    Raises:
        ValueError: if its head is flat, or has factors of too many choices.
    """

    def __init__(self, actor: Actor) -> None:
        head = actor.head
        if not isinstance(head, FactoredHead) or not head.packs:
            raise ValueError("Only policies whose action grid has factors (lead, quantity, price) answer row by row.")
        self._head = head
        self._layers = [
            (*_arrays(module), TANH if isinstance(activation, nn.Tanh) else RELU)
            for module, activation in pairwise(actor.torso)
            if isinstance(module, nn.Linear)
        ]
        self._factors = [_arrays(module) for module in (head.operation, head.lead, head.price, head.quantity)]
        self._embeddings = [_copy(module.weight) for module in (head.lead_embedding, head.price_embedding)]
        self._scale = None
        if isinstance(actor.scale, Scale) and actor.scale.count > 0:
            deviation = (actor.scale.square / actor.scale.count).sqrt().clamp(min=1e-4)
            self._scale = _copy(actor.scale.mean.float()), _copy(deviation.float())

    def act(self, observation: np.ndarray, bounds: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """Returns int64 (n,) for float32 (n, D), int32 (n, M) and float32 (n, 4), a number of [0, 1) for each factor.

        The actions are those that `heads.FactoredHead.sample` would draw with these numbers, but for rounding.
        """
        head, x = self._head, observation
        if self._scale is not None:
            x = np.clip((x - self._scale[0]) / self._scale[1], np.float32(-10), np.float32(10))
        for weight, bias, activation in self._layers:
            x = layer(x, weight, bias, activation)
        operations, leads = head._operations_and_leads(bounds)
        action = self._choose(0, x, kernels.pack(operations), uniform)
        offers = np.flatnonzero(action == OFFER)
        if len(offers):
            numbers = uniform[offers]
            x = x[offers]
            lead = self._choose(1, x, kernels.pack(leads[offers]), numbers)
            caps = head._caps_at(bounds[offers], lead)
            x = self._given(0, x, lead)
            price = self._choose(2, x, kernels.pack(caps >= head._items[0]), numbers)
            cap = caps[np.arange(len(price)), price]
            x = self._given(1, x, price)
            quantity = self._choose(3, x, kernels.pack_up_to(cap, head._items), numbers)
            action[offers] = FIRST_OFFER + (lead * head.n_quantities + quantity) * head.n_prices + price
        return action

    def _choose(self, factor: int, x: np.ndarray, bits: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        return choose(x, *self._factors[factor], bits, uniform[:, factor])

    def _given(self, factor: int, x: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        out = np.empty_like(x)
        kernels.given(x, self._embeddings[factor], chosen, out)
        return out


def _arrays(module: nn.Linear) -> tuple[np.ndarray, np.ndarray]:
    """The weights float32 (D, H) and the bias (H,) of a layer."""
    return _copy(module.weight.t()), _copy(module.bias)


def _copy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().copy(order="C")
