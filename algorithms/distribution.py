"""Masked categorical distributions as pure functions of logits and a mask.

A masked action has probability exactly 0, and its logit a gradient of exactly 0: it is replaced by a constant so low
that its exponential is 0 in float32 (a constant, not -inf: 0 * -inf would make the entropy NaN).
"""

import torch
from torch import Tensor

EXCLUDED = -1e9


def masked_log_softmax(logits: Tensor, mask: Tensor) -> Tensor:
    """Returns log p (..., A) of the categorical restricted to `mask`; about -1e9 where masked.

    p(a) = mask_a exp(logit_a) / sum_b mask_b exp(logit_b). At least one action of each row must be allowed.
    """
    return torch.log_softmax(torch.where(mask, logits, EXCLUDED), dim=-1)


def entropy(log_prob: Tensor) -> Tensor:
    """Returns - sum_a p(a) log p(a) (...) in nats, from log p (..., A)."""
    return -(log_prob.exp() * log_prob).sum(-1)


def draw(log_prob: Tensor, uniform: Tensor) -> Tensor:
    """Returns the index (...) at which the cumulated probability first exceeds a number drawn from [0, 1).

    Inverse transform: exact for the probabilities as float32 holds them, and never an index of probability 0, since
    the cumulated probability does not rise there.

    Args:
        log_prob: (..., A).
        uniform: (...), in [0, 1).
    """
    cumulated = log_prob.exp().cumsum(-1)
    total = cumulated[..., -1]
    level = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
    return (cumulated <= level.unsqueeze(-1)).sum(-1)


def pick(log_prob: Tensor, index: Tensor) -> Tensor:
    """Returns log p of each row's index: (...) from (..., A) and (...)."""
    return log_prob.gather(-1, index.unsqueeze(-1)).squeeze(-1)
