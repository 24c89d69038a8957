"""The external shield: any SCML agent class behind L1 (SAFETY.md, section 2), without knowing anything of it.

    Shielded = shielded(PenguinAgent, "covered")

Every answer passes through L1 on its way out. What is safe passes as it is; an unsafe offer shrinks, moves to the
nearest day with room or becomes an END, an unsafe acceptance becomes such a counter-offer (`l1_settle`). The answers
that a sync agent decides together are settled together, all others one by one beside what is pending. The grid of L1
is as fine as the agenda here: every whole quantity and price is on it.
"""

from collections import Counter
from collections.abc import Mapping
from functools import cache, partial
from typing import Any

import numpy as np
from negmas.sao import ResponseType, SAOResponse

from scml_marl_env.actions import ACCEPT, END, OFFER, WAIT, ActionGrid
from scml_marl_env.audit.taps import Spoken, Tap, tapped
from scml_marl_env.layers.l1_shield import REASONS, SHIELDS, settle, write_bounds


class Guard(Tap):
    """Settles the answers of one agent.

    Attributes:
        changes: answers by what became of them, "ok" and the other `REASONS`.
    """

    def __init__(self, agent: Any, strength: int) -> None:
        super().__init__(agent)
        self.changes: Counter[str] = Counter()
        self._strength = strength
        self._table: dict[str, Any] = {}  # offers that are answered together
        self._settled: dict[str, tuple[Spoken, Any]] = {}  # answers not sent yet, and what they answer

    def start_day(self) -> None:
        super().start_day()
        self._settled = {}
        prices = self.view.price_high[0] - self.view.price_low[0] + 1
        self._grid = _grid(self.view.signed_in.shape[1], int(self.view.max_quantity[0]), int(prices.max()))
        self._bounds = np.zeros((self.view.exists.shape[1], self._grid.n_bounds), np.int32)

    def asked_first(self) -> None:
        asked = self.unsent()
        self.look({}, None, asked)
        self._table = dict.fromkeys(asked)

    def decided_first(self, proposals: dict[str, Any]) -> dict[str, Any]:
        # SCML asks again for a partner that is left out, and ends its negotiation if it is left out again.
        said = {partner: self.offer(partner, proposals.get(partner)) for partner in self._table}
        changed = self._settle(said)
        self._settled = {partner: (answer, None) for partner, answer in (said | changed).items()}
        outcomes = {
            partner: None if answer.operation == END else self.outcome(answer) for partner, answer in changed.items()
        }
        return {**proposals, **outcomes}

    def asked(self, offers: Mapping[str, Any], states: Mapping[str, Any]) -> None:
        self.look(offers, states, list(offers))
        self._table = dict(offers)

    def decided(self, responses: dict[str, Any]) -> dict[str, Any]:
        said = {partner: self.speak(partner, responses.get(partner), at) for partner, at in self._table.items()}
        changed = self._settle(said)
        self._settled = {partner: (answer, self._table[partner]) for partner, answer in (said | changed).items()}
        return {**responses, **{partner: self._response(answer) for partner, answer in changed.items()}}

    def sends(self, negotiator: Any, state: Any, response: Any) -> Any:
        partner = negotiator.id
        said = self.speak(partner, response, state.current_offer)
        if said.operation == WAIT:
            return response
        if self._settled.pop(partner, None) != (said, state.current_offer):
            self._settled = {}  # an answer of its own: what else was settled does not know of it
            self.look({partner: state.current_offer}, {partner: state}, [partner])
            for answer in self._settle({partner: said}).values():
                said, response = answer, self._response(answer)
        if said.operation == OFFER:
            self.book.sent(self.book.slot[partner], self.outcome(said))
        return response

    def _settle(self, said: Mapping[str, Spoken]) -> dict[str, Spoken]:
        """The answers that are to be given instead of those that are not safe."""
        view, grid, slots = self.view, self._grid, self.book.slot
        chosen = np.zeros(view.exists.shape[1], np.int64)
        executed, reason = np.zeros_like(chosen), np.zeros_like(chosen)
        view.on_turn[0] = False
        for partner, answer in said.items():
            view.on_turn[0, slots[partner]] = answer.operation != WAIT
            chosen[slots[partner]] = self._index(slots[partner], answer)
        write_bounds(view, 0, self._strength, False, grid.n_price_levels, self._bounds)
        settle(
            view, 0, self._strength, False, grid.quantity_array, grid.n_price_levels, self._bounds, chosen,
            np.zeros(len(chosen)), executed, reason,
        )  # fmt: skip
        changed = {}
        for partner in said:
            k = slots[partner]
            self.changes[REASONS[reason[k]]] += chosen[k] >= ACCEPT
            if executed[k] != chosen[k]:
                changed[partner] = self._answer(k, int(executed[k]))
        return changed

    def _index(self, k: int, said: Spoken) -> int:
        """The action of the grid that an answer is."""
        if said.operation < OFFER:
            return said.operation
        level = abs(said.price - self._best_price(k))
        return self._grid.encode(OFFER, said.lead, said.quantity, level)

    def _answer(self, k: int, action: int) -> Spoken:
        operation, lead, quantity, level = self._grid.decode(action)
        sign = 1 if self.view.is_buy[0, k] else -1
        return Spoken(operation, quantity, lead, self._best_price(k) + sign * level)

    def _response(self, said: Spoken) -> SAOResponse:
        if said.operation == END:
            return SAOResponse(ResponseType.END_NEGOTIATION, None)
        return SAOResponse(ResponseType.REJECT_OFFER, self.outcome(said))

    def _best_price(self, k: int) -> int:
        return int(self.view.price_low[0, 0] if self.view.is_buy[0, k] else self.view.price_high[0, 1])


@cache
def shielded(agent: type, strength: str = "feasible") -> type:
    """The agent class behind L1.

    Its `tournament_report()` says how many of its acceptances and offers were changed, and into what.

    Args:
        agent: an SCML std or oneshot agent class.
        strength: `feasible` or `covered`.

    Raises:
        TypeError: for anything but such a class.
        ValueError: for another strength.
    """
    if strength not in SHIELDS[1:]:
        raise ValueError(f"A shield is {' or '.join(SHIELDS[1:])}, got {strength!r}.")
    base: Any = tapped(agent, "shield_tap", partial(Guard, strength=SHIELDS.index(strength)))

    class Shielded(base):
        def tournament_report(self) -> dict[str, float]:
            inner: dict[str, float] = getattr(super(), "tournament_report", dict)()
            changes = self.shield_tap.changes
            return inner | {f"shield_{reason}": float(changes[reason]) for reason in REASONS}

    made: Any = Shielded
    made.__name__, made.__qualname__, made.__module__ = agent.__name__, agent.__qualname__, agent.__module__
    return made


@cache
def _grid(n_leads: int, max_quantity: int, n_prices: int) -> ActionGrid:
    return ActionGrid(n_leads, tuple(range(1, max_quantity + 1)), n_prices)
