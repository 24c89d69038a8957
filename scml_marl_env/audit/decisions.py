"""Decisions of any SCML agent as they are taken: all answers of a round together by a sync agent, one by one by others.

What a sync agent decides for a window is judged, or kept, at what it knew then; what counts as its answers is what it
really sends. What was decided and never sent is nothing.
"""

import traceback
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from scml_marl_env.actions import OFFER, WAIT
from scml_marl_env.audit.taps import Spoken, Tap


def quietly(method: Callable) -> Callable:
    """An error of the tap is kept for its report: raised here, SCML would take it for one of the agent's."""

    @wraps(method)
    def call(self: "DecisionTap", *args: Any) -> None:
        if self.error is None:
            try:
                method(self, *args)
            except Exception:
                self.error = traceback.format_exc()

    return call


class Asked:
    """Answers that are decided together.

    Attributes:
        table: slot -> (round, the partner's offer), what is to be answered.
        together: all threads that wait, by one call of a sync agent.
        sent: slots whose answer has been sent so far.
    """

    def __init__(self, table: Mapping[int, tuple[int, Any]], together: bool) -> None:
        self.table, self.together = dict(table), together
        self.sent: set[int] = set()

    def awaits(self, k: int, state: Any) -> bool:
        return k not in self.sent and self.table.get(k) == (state.step, state.current_offer)


class DecisionTap(Tap):
    """Hears of windows: `opened` when one is seen, `heard` for each answer that is sent, `closed` after the last one.

    Attributes:
        window: the one whose answers are being sent, or None.
        error: traceback of what stopped the tap, or None.
    """

    def __init__(self, agent: Any, **options: Any) -> None:
        self.window: Asked | None = None
        self.error: str | None = None
        try:
            super().__init__(agent, **options)
        except Exception:
            self.error = traceback.format_exc()

    def opened(self, window: Asked) -> None:
        """The view shows the window, no answer has been sent."""

    def heard(self, window: Asked, k: int, said: Spoken, response: Any) -> None:
        """The thread of slot `k` is being answered; the view does not know of it yet."""

    def closed(self, window: Asked) -> None:
        """All that will be sent of the window has been sent, at least one answer."""

    def view_window(self, offers: Mapping[str, Any], states: Mapping[str, Any] | None, together: bool) -> None:
        """Writes a window into the view: the partners of `offers` wait, with None where they have offered nothing."""
        self.look(offers, states, list(offers))

    @quietly
    def start_day(self) -> None:
        super().start_day()

    @quietly
    def end_day(self) -> None:
        self.close_window()

    @quietly
    def closes(self, annotation: Mapping[str, Any], agreement: Mapping[str, int] | None) -> None:
        super().closes(annotation, agreement)

    @quietly
    def asked_first(self) -> None:
        if self.view.first_mover[0]:  # SCML asks who only responds as well, and throws the result away
            self._open(dict.fromkeys(self.unsent()), None, True)

    @quietly
    def asked(self, offers: Mapping[str, Any], states: Mapping[str, Any]) -> None:
        self._open(offers, states, True)

    def sends(self, negotiator: Any, state: Any, response: Any) -> Any:
        self._hear(negotiator.id, state, response)
        return response

    def close_window(self) -> None:
        """Ends the window that is open, if one is."""
        window, self.window = self.window, None
        if window is not None and window.sent:
            self.closed(window)

    @quietly
    def _hear(self, partner: str, state: Any, response: Any) -> None:
        said = self.speak(partner, response, state.current_offer)
        if said.operation == WAIT:
            return
        k = self.book.slot[partner]
        if self.window is None or not self.window.awaits(k, state):
            self._open({partner: state.current_offer}, {partner: state}, False)
        window = self.window
        assert window is not None
        self.heard(window, k, said, response)
        window.sent.add(k)
        if said.operation == OFFER:
            self.book.sent(k, self.outcome(said))
        if len(window.sent) == len(window.table):
            self.close_window()

    def _open(self, offers: Mapping[str, Any], states: Mapping[str, Any] | None, together: bool) -> None:
        self.close_window()
        self.view_window(offers, states, together)
        rounds = {partner: 0 if states is None else states[partner].step for partner in offers}
        table = {self.book.slot[partner]: (rounds[partner], offer) for partner, offer in offers.items()}
        self.window = Asked(table, together)
        self.opened(self.window)
