"""The losses of PPO and of cloning as pure functions, and how well a critic explains its targets."""

import torch
from torch import Tensor


def clipped_objective(
    log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, clip: float
) -> tuple[Tensor, Tensor, Tensor]:
    """PPO's loss (Schulman et al., 2017, eq. 7), an estimate of the KL divergence, and the share of clipped rows.

        ratio = exp(log_prob - old_log_prob)
        loss  = - mean(min(ratio * A, clamp(ratio, 1 - clip, 1 + clip) * A))
        kl    = mean(ratio - 1 - log ratio), unbiased and never negative (Schulman, 2020)

    Args:
        log_prob, old_log_prob, advantage: (n,).
        clip: the half-width of the trusted interval.

    Returns:
        Three scalars; only the loss carries a gradient.
    """
    change = log_prob - old_log_prob
    ratio = change.exp()
    loss = -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean()
    with torch.no_grad():
        kl = (ratio - 1 - change).mean()
        clipped = ((ratio - 1).abs() > clip).float().mean()
    return loss, kl, clipped


def likelihood(log_prob: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns - mean(weight * log p), and twice 0 where `clipped_objective` has KL divergence and clipped rows."""
    nothing = torch.zeros((), device=log_prob.device)
    return -(weight * log_prob).mean(), nothing, nothing


def squared_error(value: Tensor, old_value: Tensor, target: Tensor, clip: float | None) -> Tensor:
    """Half the mean squared error of the critic; with `clip`, each row's worse of it and of the clipped value's.

        clipped = old + clamp(value - old, -clip, clip)
        loss    = 1/2 mean(max((value - target)^2, (clipped - target)^2))

    PPO's original code clips so; Andrychowicz et al., 2021, found no gain in it, so it is off unless asked for.
    """
    error = (value - target) ** 2
    if clip is not None:
        clipped = old_value + (value - old_value).clamp(-clip, clip)
        error = torch.maximum(error, (clipped - target) ** 2)
    return 0.5 * error.mean()


def explained_variance(value: Tensor, target: Tensor) -> float:
    """Returns 1 - Var(target - value) / Var(target): 1 is perfect, 0 a constant's worth; 0 if targets are all equal."""
    variance = float(target.var(correction=0))
    return 1 - float((target - value).var(correction=0)) / variance if variance > 0 else 0.0
