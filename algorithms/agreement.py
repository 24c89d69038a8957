"""How well a policy foretells decisions that others took: likelihood, accuracy of each head, calibration.

Two baselines stand beside every model: the frequency of each choice (`frequency_actor`), and the thread's own last
offer of the same negotiation, repeated (`repeated_offers`).
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from algorithms.distribution import pick
from algorithms.heads import FIRST_OFFER, OFFER, Factor, FactoredHead
from algorithms.interface import ActionGrid
from algorithms.networks import Actor
from algorithms.offline import OfflineData, pools, spans, steps_of

BINS = 15  # of equal width, for calibration


class Tally:
    """Adds up what a policy made of decisions; `result` says it in numbers.

    Accuracy of a head: how often its likeliest choice is the true one, given the true choices before it; lead, price
    and quantity over offers only. Accuracy of the action: how often the greedy action is the true one, all heads
    together. Expected calibration error (Naeini et al., 2015; Guo et al., 2017) over bins of the confidence c, the
    probability of the likeliest choice:  sum_b n_b / n * |mean correct in b - mean c in b|.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        """Starts empty; `names` are those of the head's factors."""
        self._names = names
        self._n = dict.fromkeys(names, 0)
        self._correct = dict.fromkeys(names, 0)
        self._nll = dict.fromkeys(names, 0.0)
        self._n_actions = self._right = 0
        self._bins = {name: np.zeros((3, BINS)) for name in (names[0], "action")}  # rows, correct, confidence

    def add(self, factors: list[Factor], action: Tensor, greedy: Tensor, confidence: Tensor) -> None:
        """Takes in n decisions.

        Args:
            factors: what `head.factors` returned for them.
            action, greedy: int64 (n,), the true one and the policy's likeliest.
            confidence: float32 (n,), log p of the greedy action.
        """
        for name, factor in zip(self._names, factors, strict=False):
            best, choice = factor.log_prob.max(-1)
            correct = choice == factor.choice
            self._n[name] += len(correct)
            self._correct[name] += int(correct.sum())
            self._nll[name] -= float(pick(factor.log_prob, factor.choice).sum(dtype=torch.float64))
            if name == self._names[0]:
                self._fill(name, best, correct)
        correct = greedy == action
        self._n_actions += len(action)
        self._right += int(correct.sum())
        if len(self._names) > 1:
            self._fill("action", confidence, correct)

    def result(self) -> dict[str, Any]:
        """Returns decisions, nll (nats per decision), accuracy, and the same of each head, and calibration errors."""
        n = max(1, self._n_actions)
        found: dict[str, Any] = {
            "decisions": self._n_actions,
            "nll": sum(self._nll.values()) / n,
            "accuracy": self._right / n,
        }
        for name in self._names:
            found[f"nll/{name}"] = self._nll[name] / max(1, self._n[name])
            found[f"accuracy/{name}"] = self._correct[name] / max(1, self._n[name])
        for name, (rows, correct, confidence) in self._bins.items():
            if rows.sum():
                found[f"ece/{name}"] = float(np.abs(correct - confidence).sum() / rows.sum())
        return found

    def reliability(self) -> dict[str, list[list[float]]]:
        """Returns for each calibrated choice the bins that are not empty: [rows, share correct, mean confidence]."""
        return {
            name: [[float(r), float(right / r), float(c / r)] for r, right, c in zip(*bins, strict=True) if r]
            for name, bins in self._bins.items()
        }

    def _fill(self, name: str, log_confidence: Tensor, correct: Tensor) -> None:
        confidence = log_confidence.double().exp().cpu().numpy()
        which = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
        for row, weights in enumerate((None, correct.cpu().numpy().astype(np.float64), confidence)):
            self._bins[name][row] += np.bincount(which, weights, BINS)


@torch.no_grad()
def judge(actor: Actor, data: OfflineData, rows: np.ndarray) -> Tally:
    """Returns what the actor makes of the decisions `rows` int64 (n,), all of them legal."""
    head, tally, device = actor.head, Tally(actor.head.names), next(actor.parameters()).device
    for pool in pools(data, rows, None, pool=8192):
        observation, bounds, action = (x.to(device) for x in (pool.observation, pool.bounds, pool.action))
        features = actor.torso(actor.scale(observation))
        factors = head.factors(features, head.legal(bounds, action), action)
        tally.add(factors, action, *head.sample(features, bounds, torch.rand, True))
    return tally


def frequency_actor(data: OfflineData, rows: np.ndarray, grid: ActionGrid) -> Actor:
    """Returns the actor that sees nothing: each head's probabilities are the counts + 1 of `rows`, under the mask."""
    actor = Actor(data.observation.shape[-1], grid, hidden=(1,), activation="tanh", normalise=False)
    for parameter in actor.parameters():
        nn.init.zeros_(parameter)
    action, head = torch.from_numpy(np.asarray(data.action)[rows].astype(np.int64)), actor.head
    layers: list[tuple[nn.Linear, Tensor]] = []
    if isinstance(head, FactoredHead):
        lead, price, quantity = head.split(action[action >= FIRST_OFFER])
        layers = [(head.operation, action.clamp(max=OFFER)), (head.lead, lead), (head.price, price)]
        layers.append((head.quantity, quantity))
    else:
        layers.append((head.logits, action))
    for layer, choice in layers:
        layer.bias.data = torch.log(1.0 + torch.bincount(choice, minlength=layer.out_features).float())
    return actor


def repeated_offers(data: OfflineData, episodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the decisions int64 (n,) of the episodes, and the last offer that the same thread made before each.

    The offer is an action int64 (n,), -1 where there is none: a negotiation is a slot's on one day, so it begins anew
    with the day.
    """
    rows = spans(data.first_decision, spans(data.first_step, episodes))
    steps = steps_of(data, rows)
    episode = np.searchsorted(np.asarray(data.first_step), steps, side="right") - 1
    key = np.stack([episode, np.asarray(data.day)[steps], np.asarray(data.slot)[rows]]).astype(np.int64)
    order = np.lexsort(key[::-1])  # by negotiation; stable, so in time within one
    same = np.ones(len(rows), bool)
    same[1:] = (key[:, order[1:]] == key[:, order[:-1]]).all(0)
    same[:1] = False
    action, last = np.asarray(data.action)[rows].astype(np.int64)[order], np.full(len(rows), -1, np.int64)
    offered = np.where(action >= FIRST_OFFER, np.arange(len(rows)), -1)
    latest = np.maximum.accumulate(offered) if len(rows) else offered
    begins = np.maximum.accumulate(np.where(same, 0, np.arange(len(rows))))
    before = np.where(same, np.concatenate([[-1], latest[:-1]])[: len(rows)], -1)
    known = before >= begins
    last[order[known]] = action[before[known]]
    return rows, last


def judge_repeats(data: OfflineData, episodes: np.ndarray, rows: np.ndarray, grid: ActionGrid) -> dict[str, Any]:
    """Returns the accuracies of repeating the last offer on the decisions `rows` of the episodes, as `Tally.result`.

    Where there is nothing to repeat the baseline is wrong; `known` is the share in which there is something.
    """
    every, last = repeated_offers(data, episodes)
    guess = last[np.searchsorted(every, rows)]
    action, known = np.asarray(data.action)[rows].astype(np.int64), guess >= 0
    found = {"decisions": len(rows), "known": float(known.mean()), "accuracy": float((guess == action).mean())}
    found["accuracy/operation"] = float((known & (action >= FIRST_OFFER)).mean())
    offers = action >= FIRST_OFFER
    _, n_quantities, n_prices = grid.factors or (1, 1, grid.n_actions)
    cells = [np.divmod(array[offers] - FIRST_OFFER, n_prices) for array in (action, guess)]
    parts = [(cell // n_quantities, price, cell % n_quantities) for cell, price in cells]
    for name, true, guessed in zip(("lead", "price", "quantity"), *parts, strict=True):
        right = (true == guessed) & known[offers]
        found[f"accuracy/{name}"] = float(right.mean()) if len(right) else 0.0
    return found
