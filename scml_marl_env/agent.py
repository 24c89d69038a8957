"""WindowAgent: an SCML agent whose every window is one call of `decide`. Training and the tournament share this class.

A window is one decision of one factory: all its threads that wait for an answer are answered at once. In training the
engine's subclass hands the window to the environment; in a tournament a policy answers it.
"""

from collections.abc import Mapping
from typing import Any

from negmas.outcomes import Outcome
from negmas.sao import ResponseType, SAOResponse, SAOState
from scml.std.agent import StdSyncAgent

from scml_marl_env.actions import ACCEPT, END
from scml_marl_env.awi_view import AwiView
from scml_marl_env.world.engine import Answer


class WindowAgent(StdSyncAgent):
    """Plays std and oneshot alike. Subclasses say where the view lives (`open_book`) and what to answer (`decide`)."""

    def open_book(self) -> AwiView:
        """The book to keep for this factory; called once, at the start of the simulation."""
        raise NotImplementedError

    def decide(self) -> Mapping[int, Answer]:
        """Answers for the slots that are on turn in the book's view; a slot left out ends its negotiation."""
        raise NotImplementedError

    def init(self) -> None:
        self.book = self.open_book()

    def before_step(self) -> None:
        self.book.start_day()

    def first_proposals(self) -> dict[str, Outcome | None]:
        # SCML also asks a factory that only responds, before its first counter_all, and throws the result away.
        if not self.book.view.first_mover[self.book.row]:
            return {}
        asked = [partner for partner in self.negotiators if partner in self.book.slot]
        self.book.see({}, None, asked)
        answers = self._answers()
        return {partner: self._outcome(partner, answers.get(self.book.slot[partner])) for partner in asked}

    def counter_all(self, offers: dict[str, Outcome | None], states: dict[str, SAOState]) -> dict[str, SAOResponse]:
        self.book.see(offers, states, list(offers))
        answers = self._answers()
        return {
            partner: self._response(partner, answers.get(self.book.slot[partner]), offers[partner])
            for partner in offers
        }

    def on_negotiation_success(self, contract: Any, mechanism: Any) -> None:
        annotation = contract.annotation
        partner = annotation["seller"] if annotation["buyer"] == self.id else annotation["buyer"]
        self.book.close_thread(partner, contract.agreement)

    def on_negotiation_failure(self, partners: list[str], annotation: Any, mechanism: Any, state: Any) -> None:
        partner = annotation["seller"] if annotation["buyer"] == self.id else annotation["buyer"]
        self.book.close_thread(partner, None)

    def _answers(self) -> Mapping[int, Answer]:
        answers = self.decide()
        self.book.view.on_turn[self.book.row] = False
        return answers

    def _outcome(self, partner: str, answer: Answer | None) -> Outcome | None:
        """The offer of an answer as SCML writes it, None for an END."""
        if answer is None or answer.operation in (END, ACCEPT):
            return None
        offer = (int(answer.quantity), int(self.book.view.day[self.book.row] + answer.lead), int(answer.price))
        self.book.sent(self.book.slot[partner], offer)
        return offer

    def _response(self, partner: str, answer: Answer | None, offered: Outcome | None) -> SAOResponse:
        if answer is None or answer.operation == END:
            return SAOResponse(ResponseType.END_NEGOTIATION, None)
        if answer.operation == ACCEPT:
            return SAOResponse(ResponseType.ACCEPT_OFFER, offered)
        return SAOResponse(ResponseType.REJECT_OFFER, self._outcome(partner, answer))
