"""The three PenguinAgents of the safety audit (CHAMPIONS.md, 5): as submitted, corrected, and behind our shield.

PenguinAgent won the standard track of ANAC 2024. A published audit names three defects of what it sells; correcting
them exposes a fourth. Each is corrected here at the narrowest place through which all its lines pass, so that no code
of the agent is repeated:

    (a) what can be sold on a day counts no finished goods, and the same stock again for every day
    (b) today's gate passes a truth value as the day: `total_sales_at(total_sales_at(today) <= n_lines)`
    (c) the gate of offers for the third day ahead looks at the second
    (d) if every set of offers is far too large, an index of -1 accepts all of them

(a) to (c) are inputs of the agent: it reads them from `total_sales_at` of its interface, which a `CorrectedAwi`
answers. (d) is avoided by hiding the offers of which no set is acceptable.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scml.oneshot.common import QUANTITY, TIME, UNIT_PRICE

from scml_marl_env import champions
from scml_marl_env.audit.shield import shielded

champions.check_installed(champions.named("penguin", "std"))
from scml_agents.scml2024.standard.team_penguin import PenguinAgent  # noqa: E402

__all__ = [
    "PenguinAgent",
    "PenguinFixed",
    "PenguinFixedAll",
    "PenguinShielded",
    "PenguinShieldedCovered",
]


class CorrectedAwi:
    """An agent's interface that answers `total_sales_at` as Penguin's formulas should have read it.

    Args:
        awi: the interface; all else is handed on to it.
        productivity: share of the lines that Penguin plans to use every day.
    """

    def __init__(self, awi: Any, productivity: float) -> None:
        self._awi = awi
        self._planned = awi.n_lines * productivity

    def __getattr__(self, name: str) -> Any:
        return getattr(self._awi, name)

    def total_sales_at(self, step: int) -> float:
        """Items that are not for sale on a day any more, at most `n_lines`.

        Penguin subtracts this from min(n_lines, planned + input stock). With what other days take from the stock, and
        the finished goods, the rest is what (a) asks for:

            min(n_lines, planned + input stock + output stock - sum over other days of max(0, sales - planned)) - sales

        A truth value is what (b) meant to test, so it is the answer. Penguin's gates `total_sales_at(day) <= n_lines`
        are passed by the cap at `n_lines`, at which its formulas offer nothing: so each day is tested by its own
        formula, the third by that of the third (c).
        """
        if isinstance(step, (bool, np.bool_)):
            return int(step)
        awi, planned = self._awi, self._planned
        days = range(awi.current_step, awi.current_step + awi.horizon + 1)
        taken = sum(max(0, awi.total_sales_at(day) - planned) for day in days if day != step)
        stock, lines = awi.current_inventory_input, awi.n_lines
        there = min(lines, planned + stock + awi.current_inventory_output - taken)
        return min(lines, awi.total_sales_at(step) + (min(lines, planned + stock) - there))


class PenguinFixed(PenguinAgent):
    """PenguinAgent without the three published defects (a), (b), (c)."""

    @property
    def awi(self) -> Any:
        return CorrectedAwi(super().awi, self._productivity)


class PenguinFixedAll(PenguinFixed):
    """PenguinFixed without (d) as well."""

    def counter_all(self, offers: dict[str, Any], states: dict[str, Any]) -> dict[str, Any]:
        return super().counter_all(self._without_excess(offers), states)

    def _without_excess(self, offers: Mapping[str, Any]) -> dict[str, Any]:
        """The offers, None for those of today on a side where even the smallest is beyond need and tolerance.

        With an offer of None, Penguin answers a partner as it does where no set of offers is good enough: it counters.
        """
        seen = dict(offers)
        today = self.awi.current_step
        for side in (self.awi.my_suppliers, self.awi.my_consumers):
            here = [
                partner
                for partner in side
                if offers.get(partner) is not None
                and offers[partner][TIME] == today
                and self.is_valid_price(offers[partner][UNIT_PRICE], partner)
            ]
            if here and min(offers[p][QUANTITY] for p in here) > self.needs_at(today, here[0]) + self._threshold:
                seen.update(dict.fromkeys(here))
        return seen


class PenguinShielded(shielded(PenguinAgent, "feasible")):  # type: ignore[misc]
    """PenguinAgent, unchanged, behind L1 of strength `feasible`."""


class PenguinShieldedCovered(shielded(PenguinAgent, "covered")):  # type: ignore[misc]
    """PenguinAgent, unchanged, behind L1 of strength `covered`."""
