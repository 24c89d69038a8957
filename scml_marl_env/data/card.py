"""The card of a dataset: who was recorded where, what they answered, what the grid and L1 make of it, what they earned.

    {"worlds", "days" (of episodes), "episodes", "steps", "decisions",
     "splits": {split: {"worlds", "episodes", "decisions"}},
     "groups": [{"expert", "level", "episodes", "decisions",
                 "share": {"end", "accept", "offer"},            class balance
                 "leads": {lead: share of the offers},
                 "outside_l1": {"all", "end", "accept", "offer"},  share of actions that the bounds do not allow
                 "invalid": share of answers that the protocol refuses, taken for END
                 "quantity_changed", "price_changed": share of the offers that the grid does not have,
                 "quantity_change", "price_change": mean absolute change of all offers, items and dollars,
                 "return", "score": {"mean", "std", "min", "max"} over episodes}, ...]}

Groups are expert and level, and "all" for either.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scml_marl_env.actions import ACCEPT, END, OFFER, OPERATION_NAMES, ActionGrid
from scml_marl_env.config import LEVEL_NAMES as LEVELS
from scml_marl_env.data.rollouts import raw_of

ALL = "all"
SPLITS = ("train", "validation", "test")
_ANSWERS = {operation: OPERATION_NAMES[operation] for operation in (END, ACCEPT, OFFER)}


class Card:
    """Counts episodes as they are written.

    Args:
        grid: of the actions.
        experts: names by index.
    """

    def __init__(self, grid: ActionGrid, experts: Sequence[str]) -> None:
        self._grid, self._experts = grid, list(experts)
        self._groups: dict[tuple[str, str], _Group] = defaultdict(_Group)
        self._worlds: dict[int, set[int]] = defaultdict(set)  # split -> seeds
        self._splits: Counter[tuple[int, str]] = Counter()
        self._days = self._steps = 0

    def add(self, arrays: Mapping[str, np.ndarray], answers: np.ndarray) -> None:
        """Counts an episode: its arrays as `dataset.ARRAYS` names them, and decisions of each step."""
        split, expert = int(arrays["split"][0]), self._experts[int(arrays["expert"][0])]
        level = LEVELS[int(arrays["level"][0])]
        self._worlds[split].add(int(arrays["world_seed"][0]))
        self._splits[split, "episodes"] += 1
        self._splits[split, "decisions"] += int(answers.sum())
        self._days += int(arrays["n_days"][0])
        self._steps += len(answers)
        counts = self._count(arrays)
        for key in ((expert, level), (expert, ALL), (ALL, level), (ALL, ALL)):
            group = self._groups[key]
            group.counts += counts
            group.returns.append(float(arrays["reward"].sum(dtype=np.float64)))
            group.scores.append(float(arrays["score"][0]))

    def to_json(self) -> dict[str, Any]:
        """The card; see the module."""
        splits = {
            name: {"worlds": len(self._worlds[i])} | {what: self._splits[i, what] for what in ("episodes", "decisions")}
            for i, name in enumerate(SPLITS)
        }
        names, levels = [*self._experts, ALL], [*LEVELS, ALL]
        order = sorted(self._groups, key=lambda key: (names.index(key[0]), levels.index(key[1])))
        total = self._groups[ALL, ALL]
        return {
            "worlds": len(set().union(*self._worlds.values())),
            "days": self._days,
            "episodes": len(total.scores),
            "steps": self._steps,
            "decisions": total.counts["decisions"],
            "splits": splits,
            "groups": [{"expert": key[0], "level": key[1]} | self._groups[key].to_json() for key in order],
        }

    def _count(self, arrays: Mapping[str, np.ndarray]) -> Counter:
        action, raw = np.asarray(arrays["action"]), np.asarray(arrays["raw"])
        operation, illegal = np.minimum(action, OFFER), ~arrays["legal"]
        counts: Counter[Any] = Counter(decisions=len(action))
        for value, name in _ANSWERS.items():
            counts[name] += int((operation == value).sum())
            counts["outside", name] += int(illegal[operation == value].sum())
        counts["invalid"] += int(((operation == END) & (raw[:, 0] == OFFER)).sum())
        offers = operation == OFFER
        meant = raw_of(self._grid, np.asarray(arrays["bounds"])[offers], action[offers])
        for column, name in ((1, "quantity"), (3, "price")):
            change = np.abs(meant[:, column].astype(np.int64) - raw[offers, column])
            counts[f"{name}_changed"] += int((change > 0).sum())
            counts[f"{name}_change"] += int(change.sum())
        for lead, count in zip(*np.unique(raw[offers, 2], return_counts=True), strict=True):
            counts["lead", int(lead)] += int(count)
        return counts


class _Group:
    def __init__(self) -> None:
        self.counts: Counter[Any] = Counter()
        self.returns: list[float] = []
        self.scores: list[float] = []

    def to_json(self) -> dict[str, Any]:
        counts, n, n_offers = self.counts, self.counts["decisions"], self.counts["offer"]
        names = list(_ANSWERS.values())
        outside = {name: _share(counts["outside", name], counts[name]) for name in names}
        leads = sorted(key[1] for key in counts if isinstance(key, tuple) and key[0] == "lead")
        changes = ("quantity_changed", "price_changed", "quantity_change", "price_change")
        return {
            "episodes": len(self.scores),
            "decisions": n,
            "share": {name: _share(counts[name], n) for name in names},
            "leads": {str(lead): _share(counts["lead", lead], n_offers) for lead in leads},
            "outside_l1": {ALL: _share(sum(counts["outside", name] for name in names), n)} | outside,
            "invalid": _share(counts["invalid"], n),
            **{name: _share(counts[name], n_offers) for name in changes},
            "return": _spread(self.returns),
            "score": _spread(self.scores),
        }


def _share(count: int, of: int) -> float:
    return count / of if of else 0.0


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {name: float(getattr(np, name)(values)) for name in ("mean", "std", "min", "max")}
