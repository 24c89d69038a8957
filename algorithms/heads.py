"""From features to an action: a flat masked head, and one that chooses operation, lead time, price and quantity."""

from collections.abc import Callable
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from algorithms import kernels
from algorithms.dense import linear, padded
from algorithms.distribution import draw, entropy, masked_log_softmax, pick
from algorithms.interface import ActionGrid, CompactGrid

Uniform = Callable[[int], Tensor]
"""Returns float32 (n,) drawn from [0, 1) on the device of the head."""

OFFER, FIRST_OFFER = 3, 3  # index of the operation, and of the first flat action that is an offer


class Factor(NamedTuple):
    """One head's part in n actions, given the true choices of the heads before it.

    Attributes:
        rows: int64 (m,), in which of the n actions the head takes part.
        log_prob: float32 (m, C), of every choice; about -1e9 where not legal.
        choice: int64 (m,), the one that the action made.
    """

    rows: Tensor
    log_prob: Tensor
    choice: Tensor


class FlatHead(nn.Module):
    """One masked categorical over all A actions."""

    names = ("action",)
    """of the factors"""

    def __init__(self, n_features: int, grid: ActionGrid) -> None:
        """Makes the linear layer of logits."""
        super().__init__()
        self.grid = grid
        self.logits = nn.Linear(n_features, grid.n_actions)

    def sample(self, features: Tensor, bounds: Tensor, uniform: Uniform, greedy: bool) -> tuple[Tensor, Tensor]:
        """Returns (action int64 (n,), log p float32 (n,)) for bounds (n, M) and the first n rows of features."""
        log_prob = masked_log_softmax(self.logits(features[: len(bounds)]), self.grid.mask(bounds, xp=torch))
        action = log_prob.argmax(-1) if greedy else draw(log_prob, uniform(len(log_prob)))
        return action, pick(log_prob, action)

    def legal(self, bounds: Tensor, action: Tensor) -> Tensor:
        """Returns what `evaluate` needs to know of the bounds: bool (n, A), the mask."""
        return self.grid.mask(bounds, xp=torch)

    def evaluate(self, features: Tensor, legal: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Returns (log p, entropy) of each row, float32 (n,)."""
        log_prob = masked_log_softmax(self.logits(features), legal)
        return pick(log_prob, action), entropy(log_prob)

    def factors(self, features: Tensor, legal: Tensor, action: Tensor) -> list[Factor]:
        """Returns the only factor."""
        rows = torch.arange(len(action), device=action.device)
        return [Factor(rows, masked_log_softmax(self.logits(features), legal), action)]


class FactoredHead(nn.Module):
    """Operation, then lead time, then price level, then quantity, each given those before it.

        log p(a) = log p(op) + [op = offer] (log p(lead) + log p(price | lead) + log p(quantity | lead, price))

    The masks of the factors follow from the bounds: a lead is allowed if some price allows one item on it, a price if
    its cap on that lead is at least one item, a quantity up to the cap. So every legal flat action, and no other, can
    be reached, and the flat mask (thousands of columns) is never made. The entropy follows the same chain, with the
    taken lead and price standing for their expectation: unbiased over the actions the policy takes; its gradient leaves
    out how the earlier factors shift the later ones' weight. Greedy takes the best of each factor in turn.

    On a CPU and without autograd `sample` runs on compiled kernels, with the same draws; see `packs`.
    """

    names = ("operation", "lead", "price", "quantity")
    """of the factors"""

    def __init__(self, n_features: int, grid: ActionGrid) -> None:
        """Makes a linear layer of logits per factor; lead and price are embedded for the factors after them."""
        super().__init__()
        self.grid = grid
        self.n_leads, self.n_quantities, self.n_prices = cast(tuple[int, int, int], grid.factors)
        self.operation = nn.Linear(n_features, 4)
        self.lead = nn.Linear(n_features, self.n_leads)
        self.lead_embedding = nn.Embedding(self.n_leads, n_features)
        self.price = nn.Linear(n_features, self.n_prices)
        self.price_embedding = nn.Embedding(self.n_prices, n_features)
        self.quantity = nn.Linear(n_features, self.n_quantities)
        self._widths = [4, self.n_leads, self.n_prices, self.n_quantities]
        self.packs = max(self._widths) <= kernels.MAX_CHOICES
        """Do the masks of each factor fit the bits of an integer?"""
        self._compact = grid if isinstance(grid, CompactGrid) else None
        self._items = np.asarray(grid.quantities, np.int64)
        self.quantities: Tensor
        self.register_buffer("quantities", torch.as_tensor(np.asarray(grid.quantities)), persistent=False)

    def sample(self, features: Tensor, bounds: Tensor, uniform: Uniform, greedy: bool) -> tuple[Tensor, Tensor]:
        """Returns (action int64 (n,), log p float32 (n,)) for bounds (n, M) and the first n rows of features."""
        if self.packs and features.device.type == "cpu" and not torch.is_grad_enabled():
            return self._sample_compiled(features, bounds.numpy(), uniform, greedy)
        features = features[: len(bounds)]

        def choose(log_prob: Tensor) -> Tensor:
            return log_prob.argmax(-1) if greedy else draw(log_prob, uniform(len(log_prob)))

        operation = masked_log_softmax(self.operation(features), self.grid.ops(bounds, xp=torch))
        action = choose(operation)
        log_prob = pick(operation, action)
        offers = (action == OFFER).nonzero().squeeze(-1)
        if len(offers):
            x, caps = features[offers], self.grid.caps(bounds[offers], xp=torch)
            leads = masked_log_softmax(self.lead(x), self._lead_mask(caps))
            lead = choose(leads)
            x, caps = self._given(x, self.lead_embedding, lead), caps[torch.arange(len(x), device=x.device), lead]
            prices = masked_log_softmax(self.price(x), self._price_mask(caps))
            price = choose(prices)
            x = self._given(x, self.price_embedding, price)
            quantities = masked_log_softmax(self.quantity(x), self._quantity_mask(pick(caps, price)))
            quantity = choose(quantities)
            log_prob[offers] += pick(leads, lead) + pick(prices, price) + pick(quantities, quantity)
            action[offers] = FIRST_OFFER + (lead * self.n_quantities + quantity) * self.n_prices + price
        return action, log_prob

    def legal(self, bounds: Tensor, action: Tensor) -> Tensor:
        """Returns bool (n, 4 + L + P + Q): the masks of operation, lead, price and quantity along each row's action.

        They depend on bounds and action only, so an update of many epochs makes them once. The last three mean
        something only where the action is an offer.
        """
        legal = torch.ones(len(bounds), sum(self._widths), dtype=torch.bool, device=bounds.device)
        legal[:, :4] = self.grid.ops(bounds, xp=torch)
        offers = (action >= FIRST_OFFER).nonzero().squeeze(-1)
        lead, price, _ = self.split(action[offers])
        caps = self.grid.caps(bounds[offers], xp=torch)
        caps_of_lead = caps[torch.arange(len(lead), device=lead.device), lead]
        masks = [self._lead_mask(caps), self._price_mask(caps_of_lead), self._quantity_mask(pick(caps_of_lead, price))]
        legal[offers, 4:] = torch.cat(masks, dim=-1)
        return legal

    def legal_bits(self, bounds: Tensor, action: Tensor) -> Tensor:
        """Returns what `legal` does as int64 (n, 4), on a CPU: bit c for choice c of operation, lead, price, quantity.

        The last three are 0 where the action is no offer.
        """
        limits, bits = bounds.numpy(), np.zeros((len(bounds), 4), np.int64)
        operations, leads = self._operations_and_leads(limits)
        bits[:, 0] = kernels.pack(operations)
        offers = np.flatnonzero(action.numpy() >= FIRST_OFFER)
        lead, price, _ = (factor.numpy() for factor in self.split(action[offers]))
        caps = self._caps_at(limits[offers], lead)
        bits[offers, 1] = kernels.pack(leads[offers])
        bits[offers, 2] = kernels.pack(caps >= self._items[0])
        bits[offers, 3] = kernels.pack_up_to(np.take_along_axis(caps, price[:, None], 1)[:, 0], self._items)
        return torch.from_numpy(bits)

    def _sample_compiled(
        self, features: Tensor, bounds: np.ndarray, uniform: Uniform, greedy: bool
    ) -> tuple[Tensor, Tensor]:
        """`sample` on a CPU."""

        def choose(layer: nn.Linear, x: Tensor, bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            logits, bias = linear(layer.weight, x).numpy(), layer.bias.numpy()
            return kernels.draw(logits, bias, bits, nothing if greedy else uniform(len(bits)).numpy(), greedy)

        nothing = np.empty(0, np.float32)
        operations, leads = self._operations_and_leads(bounds)
        action, log_prob = choose(self.operation, features, kernels.pack(operations))
        offers = np.flatnonzero(action == OFFER)
        if len(offers):
            x = features[padded(offers)]  # further rows than offers are of no consequence, but have to be somewhere
            lead, log_lead = choose(self.lead, x, kernels.pack(leads[offers]))
            caps = self._caps_at(bounds[offers], lead)
            x = self._given_compiled(x, self.lead_embedding, lead)
            price, log_price = choose(self.price, x, kernels.pack(caps >= self._items[0]))
            cap = np.take_along_axis(caps, price[:, None], 1)[:, 0]
            x = self._given_compiled(x, self.price_embedding, price)
            quantity, log_quantity = choose(self.quantity, x, kernels.pack_up_to(cap, self._items))
            log_prob[offers] += log_lead + log_price + log_quantity
            action[offers] = FIRST_OFFER + (lead * self.n_quantities + quantity) * self.n_prices + price
        return torch.from_numpy(action), torch.from_numpy(log_prob)

    def _given_compiled(self, features: Tensor, embedding: nn.Embedding, chosen: np.ndarray) -> Tensor:
        out = torch.empty_like(features)
        kernels.given(features.numpy(), embedding.weight.detach().numpy(), chosen, out.numpy())
        return out

    def _operations_and_leads(self, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns bool (n, 4) and (n, L): the masks of the operation and of the lead."""
        if self._compact is not None:
            return self._compact.ops_and_leads(bounds)
        return self.grid.ops(bounds), self.grid.caps(bounds).max(-1) >= self._items[0]

    def _caps_at(self, bounds: np.ndarray, lead: np.ndarray) -> np.ndarray:
        """Returns int (n, P), the caps on each row's lead."""
        if self._compact is not None:
            return self._compact.caps_at(bounds, lead)
        return self.grid.caps(bounds)[np.arange(len(lead)), lead]

    def evaluate(self, features: Tensor, legal: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Returns (log p, entropy) of each row, float32 (n,)."""
        first, *others = self.factors(features, legal, action)
        log_prob, disorder = pick(first.log_prob, first.choice), entropy(first.log_prob)
        if others:
            chosen = torch.stack([pick(factor.log_prob, factor.choice) for factor in others]).sum(0)
            log_prob = log_prob.index_add(0, others[0].rows, chosen)
            disorders = torch.stack([entropy(factor.log_prob) for factor in others]).sum(0)
            disorder = disorder.index_add(0, others[0].rows, disorders)
        return log_prob, disorder

    def factors(self, features: Tensor, legal: Tensor, action: Tensor) -> list[Factor]:
        """Returns the factors along each row's action, in the order of `names`; the operation alone without offers."""
        rows = torch.arange(len(action), device=action.device)
        operation = masked_log_softmax(self.operation(features), legal[:, :4])
        found = [Factor(rows, operation, action.clamp(max=OFFER))]
        offers = (action >= FIRST_OFFER).nonzero().squeeze(-1)
        if not len(offers):
            return found
        x = features[offers]
        _, lead_mask, price_mask, quantity_mask = legal[offers].split(self._widths, dim=-1)
        lead, price, quantity = self.split(action[offers])
        found.append(Factor(offers, masked_log_softmax(self.lead(x), lead_mask), lead))
        x = self._given(x, self.lead_embedding, lead)
        found.append(Factor(offers, masked_log_softmax(self.price(x), price_mask), price))
        x = self._given(x, self.price_embedding, price)
        return [*found, Factor(offers, masked_log_softmax(self.quantity(x), quantity_mask), quantity)]

    def split(self, offer: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns (lead, price level, quantity index) of flat actions that are offers."""
        rest = offer - FIRST_OFFER
        cell = torch.div(rest, self.n_prices, rounding_mode="floor")
        lead = torch.div(cell, self.n_quantities, rounding_mode="floor")
        return lead, rest % self.n_prices, cell % self.n_quantities

    def _given(self, features: Tensor, embedding: nn.Embedding, chosen: Tensor) -> Tensor:
        return torch.tanh(features + embedding(chosen))

    def _lead_mask(self, caps: Tensor) -> Tensor:
        return caps.amax(-1) >= self.quantities[0]  # (n, L) from (n, L, P)

    def _price_mask(self, caps_of_lead: Tensor) -> Tensor:
        return caps_of_lead >= self.quantities[0]  # (n, P)

    def _quantity_mask(self, cap: Tensor) -> Tensor:
        return self.quantities <= cap.unsqueeze(-1)  # (n, Q) from (n,)


def make_head(n_features: int, grid: ActionGrid) -> FlatHead | FactoredHead:
    """Returns the head that the grid calls for."""
    return FlatHead(n_features, grid) if grid.factors is None else FactoredHead(n_features, grid)
