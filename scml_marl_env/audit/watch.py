"""The audit: watches any SCML agent class without changing what it does, and counts what is unsafe (SAFETY.md, 3).

    Audited = audited(PenguinAgent)        # plays exactly as PenguinAgent does
    counts = agent.tournament_report()     # of an agent of that class, after the run

U1 and U2 are judged at what the agent knew when it decided, on what it really sent: all answers of a round together
for a sync agent, one by one for any other, each beside what is then pending. An offer that the protocol refuses counts
as the END that it causes. U3 is the shortfall of each day by causes. Contracts with bankrupt partners count nowhere.
"""

from collections import Counter
from functools import cache
from typing import Any

import numpy as np

from scml_marl_env.actions import ACCEPT, OPERATION_NAMES
from scml_marl_env.audit.decisions import Asked, DecisionTap, quietly
from scml_marl_env.audit.taps import Spoken, tapped
from scml_marl_env.layers.l1_shield import (
    CAUSES,
    COUNTS,
    SHIELDS,
    Answers,
    Shortfall,
    attribute_shortfall,
    count_unsafe,
    judge_answers,
    new_answers,
)
from scml_marl_env.view import FactoryView
from scml_marl_env.world.rules import pay_inputs

GRADES = SHIELDS[1:]
SHARED = ("windows", "sell_accepts", "sell_offers", "buy_accepts", "buy_offers", "ends_short", "leaves_short")
"""Counts that are the same in each grade; those of a grade are named "feasible_u1_sell_accepts" and so on."""
EXAMPLES_EACH = 2
"""Examples that are kept of each grade, kind and cause, for each factory."""


class Watch(DecisionTap):
    """Counts the unsafe actions of one agent.

    Attributes:
        counts: int64 (2, len(COUNTS)), a row for each of `GRADES`.
        causes: single unsafe answers by (grade, "accepts" or "offers", cause).
        realised: items of shortfall by cause, days of shortfall by cause, and days.
        examples: dicts of what can be looked up again in a replay of the world.
        error: traceback of what stopped the audit, or None.
    """

    def __init__(self, agent: Any) -> None:
        self.counts = np.zeros((len(GRADES), len(COUNTS)), np.int64)
        self.causes: Counter[tuple[str, str, str]] = Counter()
        self.realised: Counter[str] = Counter()
        self.examples: list[dict[str, Any]] = []
        self._invalid_offers = 0
        self._kept: Counter[tuple[str, ...]] = Counter()
        super().__init__(agent)

    def opened(self, window: Asked) -> None:
        self._known = self.view.copy()
        self._answers: Answers = new_answers(self.view.exists.shape[1])

    def heard(self, window: Asked, k: int, said: Spoken, response: Any) -> None:
        self._invalid_offers += not said.valid
        answers = self._answers
        answers.operation[k] = said.operation
        answers.lead[k], answers.quantity[k], answers.price[k] = said.lead, said.quantity, said.price

    def closed(self, window: Asked) -> None:
        """Judges what has been sent of the window."""
        view, answers = self._known, self._answers
        for k in np.flatnonzero(view.on_turn[0]):
            view.on_turn[0, k] = int(k) in window.sent
        n_slots = len(answers.operation)
        cause, limit = np.zeros(n_slots, np.int64), np.zeros(n_slots, np.int64)
        for index, grade in enumerate(GRADES):
            before = self.counts[index].copy()
            count_unsafe(view, 0, index + 1, answers, self.counts[index])
            judge_answers(view, 0, index + 1, answers, cause, limit)
            for k in np.flatnonzero(cause):
                self._note_single(grade, int(k), CAUSES[cause[k]], int(limit[k]))
            joint = self.counts[index, COUNTS.index("u2_windows")] > before[COUNTS.index("u2_windows")]
            if joint and not cause.any():
                self._keep(("u2", grade), [int(k) for k in np.flatnonzero(answers.operation >= ACCEPT)])

    @quietly
    def end_day(self) -> None:
        self.close_window()
        self.realised["days"] += 1
        view, awi = self.view, self.agent._awi
        forced, inputs = int(view.exogenous_out[0]), int(view.stock[0] + view.exogenous_in[0] + view.signed_in[0, 0])
        negotiated, lost = int(view.signed_out[0, 0]), self.book.void_until(int(view.day[0]))
        if awi.is_bankrupt():  # its own contracts are void, its exogenous ones go on
            negotiated, lost, inputs = 0, 0, int(view.stock[0] + view.exogenous_in[0])
            self.realised["bankrupt_days"] += 1
        produced = self._produced(negotiated + forced, 0 if awi.is_bankrupt() else int(view.n_lots[0]))
        short = attribute_shortfall(negotiated, forced, inputs, produced, int(view.n_lines[0]), lost)
        for cause, items in zip(Shortfall._fields, short, strict=True):
            self.realised[f"short_units_{cause}"] += items
            self.realised[f"short_days_{cause}"] += items > 0
        self.realised["short_units"] += sum(short)
        self.realised["short_days"] += sum(short) > 0

    def report(self) -> dict[str, float]:
        """Every count under a flat name.

        Raises:
            RuntimeError: if the audit itself failed; the agent played on untouched, but its counts are incomplete.
        """
        self.close_window()
        if self.error is not None:
            raise RuntimeError(f"The audit of {type(self.agent).__name__} failed, please report it:\n{self.error}")
        out = {name: float(self.counts[0, COUNTS.index(name)]) for name in SHARED}
        out["invalid_offers"] = float(self._invalid_offers)
        for row, grade in zip(self.counts, GRADES, strict=True):
            out |= {f"{grade}_{name}": float(n) for name, n in zip(COUNTS, row, strict=True) if name[0] == "u"}
            for kind in ("accepts", "offers"):
                for cause in _reasons():
                    out[f"{grade}_{kind}_beyond_{cause}"] = float(self.causes[grade, kind, cause])
        causes = [f"short_{unit}_{cause}" for unit in ("units", "days") for cause in Shortfall._fields]
        names = ("days", "bankrupt_days", "short_units", "short_days", *causes)
        return out | {name: float(self.realised[name]) for name in names}

    def _note_single(self, grade: str, k: int, cause: str, limit: int) -> None:
        accepts = self._answers.operation[k] == ACCEPT
        lead = int(self._known.offer_lead[0, k] if accepts else self._answers.lead[k])
        if cause != "money_today":
            cause = f"{cause}_{'today' if lead == 0 else 'later'}"
        self.causes[grade, "accepts" if accepts else "offers", cause] += 1
        self._keep(("u1", grade, "accept" if accepts else "offer", cause), [k], limit)

    def _keep(self, kind: tuple[str, ...], slots: list[int], limit: int | None = None) -> None:
        """Keeps an example, unless there are enough of its kind."""
        if self._kept[kind] >= EXAMPLES_EACH:
            return
        self._kept[kind] += 1
        view = self._known
        example: dict[str, Any] = {"measure": kind[0], "grade": kind[1], "day": int(view.day[0])}
        if limit is not None:
            example |= {"cause": kind[3], "limit": limit}
        example["answers"] = [self._told(k) for k in slots]
        pending = np.flatnonzero(view.pending[0] & ~view.on_turn[0])
        example["pending"] = [_contract(view, "sent", int(k)) for k in pending]
        for name in ("n_lines", "stock", "exogenous_in", "exogenous_in_cost", "exogenous_out", "balance"):
            example[name] = getattr(view, name)[0].item()
        for name in ("signed_in", "signed_out", "signed_cost"):
            example[name] = getattr(view, name)[0].tolist()
        self.examples.append(example)

    def _told(self, k: int) -> dict[str, Any]:
        view, answers = self._known, self._answers
        told = {"round": int(view.round[0, k]), "operation": OPERATION_NAMES[answers.operation[k]]}
        if answers.operation[k] == ACCEPT:
            return told | _contract(view, "offer", k) | self._partner(k)
        offer = {name: int(getattr(answers, name)[k]) for name in ("quantity", "lead", "price")}
        return told | {"side": _side(view, k)} | offer | self._partner(k)

    def _partner(self, k: int) -> dict[str, Any]:
        return {"slot": k, "partner": str.__str__(self.book.partners[k])}

    def _produced(self, due: int, n_lots: int) -> int:
        """Items that the day makes, by the simulator's own arithmetic."""
        view = self.view
        pool = int(view.stock[0] + view.exogenous_in[0])
        items, usable, _, _ = pay_inputs(
            view.lot_quantity[0], view.lot_price[0], n_lots, pool, view.exogenous_in_cost[0], view.balance[0],
            view.unit_cost[0],
        )  # fmt: skip
        return int(min(items, view.n_lines[0], usable, due))


def _reasons() -> list[str]:
    return ["room_today", "room_later", "money_today", "budget_today", "budget_later"]


def _side(view: FactoryView, k: int) -> str:
    return "buy" if view.is_buy[0, k] else "sell"


def _contract(view: FactoryView, which: str, k: int) -> dict[str, Any]:
    """The contract of an offer in the view, `which` is "offer" (on the table) or "sent"."""
    numbers = {name: int(getattr(view, f"{which}_{name}")[0, k]) for name in ("quantity", "lead", "price")}
    return {"side": _side(view, k)} | numbers


@cache
def audited(agent: type) -> type:
    """The agent class with an audit: it plays the same, and has `tournament_report()` and `audit_examples()`.

    Make it in the process that plays (it has no import path of its own); the same class gives the same one.

    Raises:
        TypeError: for anything but an SCML std or oneshot agent class.
    """
    base: Any = tapped(agent, "audit_tap", Watch)

    class Audited(base):
        def tournament_report(self) -> dict[str, float]:
            inner: dict[str, float] = getattr(super(), "tournament_report", dict)()
            return inner | self.audit_tap.report()

        def audit_examples(self) -> list[dict[str, Any]]:
            return list(self.audit_tap.examples)

    made: Any = Audited
    made.__name__, made.__qualname__, made.__module__ = agent.__name__, agent.__qualname__, agent.__module__
    return made
