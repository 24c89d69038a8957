"""Taps: a way into any SCML agent class that hears every answer on its way out, and may replace it.

`tapped` makes a subclass. A sync agent's answers of a round are decided together (`first_proposals`, `counter_all`), so
its tap hears of the decision as a whole; what any agent really sends is heard at its negotiators, whose calls are what
the mechanism takes. A tap draws no random numbers and calls nothing that the world could notice.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from negmas import SAOSyncController
from negmas.sao import ResponseType
from scml.oneshot.agent import OneShotAgent

from scml_marl_env.actions import ACCEPT, END, OFFER, WAIT
from scml_marl_env.awi_view import AwiView, is_conserving, partner_count
from scml_marl_env.view import FactoryView, empty_view

_ENDS = (ResponseType.END_NEGOTIATION, ResponseType.LEAVE)


class Spoken(NamedTuple):
    """An answer as L1 reads it: operation of `actions`, and the offer if it is one, in whole items and dollars.

    `valid` is False for an offer that the protocol refuses, which breaks the negotiation like an END.
    """

    operation: int
    quantity: int = 0
    lead: int = 0
    price: int = 0
    valid: bool = True


class Tap:
    """What listens at one agent. It keeps a `FactoryView` of its own, from nothing but the agent's interface.

    Args:
        agent: at which it listens.
        n_slots: of the view at least; it has one for each partner.
        n_history: offers of a thread that the view keeps.
    """

    def __init__(self, agent: Any, n_slots: int = 1, n_history: int = 0) -> None:
        self.agent = agent
        awi = agent._awi  # the agent's own property may correct what it reads
        self.view: FactoryView = empty_view(1, max(n_slots, partner_count(awi)), awi.horizon + 1, n_history)
        self.book = AwiView(awi, self.view, 0, is_conserving(awi))

    def start_day(self) -> None:
        """The day's negotiations exist, none has begun."""
        self.book.start_day()

    def end_day(self) -> None:
        """The day's contracts are executed, its result does not stand yet."""

    def asked_first(self) -> None:
        """The agent is about to decide its first offers, to all that it has sent none."""

    def decided_first(self, proposals: dict[str, Any]) -> dict[str, Any]:
        """The agent has decided its first offers; returns those to use."""
        return proposals

    def asked(self, offers: Mapping[str, Any], states: Mapping[str, Any]) -> None:
        """The agent is about to answer the `offers` (quantity, day, price) of its partners together."""

    def decided(self, responses: dict[str, Any]) -> dict[str, Any]:
        """The agent has decided its answers; returns those to use."""
        return responses

    def raised(self) -> None:
        """The agent raised when it was to answer, which ends the negotiation."""

    def sends(self, negotiator: Any, state: Any, response: Any) -> Any:
        """A negotiator answers the mechanism; returns the answer to give it."""
        return response

    def closes(self, annotation: Mapping[str, Any], agreement: Mapping[str, int] | None) -> None:
        """A negotiation has ended."""
        me = self.agent.id
        partner = annotation["seller"] if annotation["buyer"] == me else annotation["buyer"]
        if partner in self.book.slot:
            self.book.close_thread(partner, agreement)

    def look(self, offers: Mapping[str, Any], states: Mapping[str, Any] | None, asked: Iterable[str]) -> None:
        """Writes a window into the view. An offer of ours is pending until the partner has answered it."""
        self.book.see(offers, states, asked)
        view = self.view
        for k in np.flatnonzero(view.pending[0]):
            partner = self.book.partners[k]
            state = self.agent.negotiators[partner][0].nmi.state
            if state.current_proposer == partner:  # our negotiator has the partner's name
                continue
            view.pending[0, k] = False
            if view.first_mover[0] and view.round[0, k] >= view.n_rounds[0] - 1:
                view.alive[0, k] = False  # the last word is spoken: nobody will be asked again

    def unsent(self) -> list[str]:
        """Partners whose negotiation runs and has not heard from us."""
        waiting = self.view.alive[0] & ~self.view.sent[0]
        return [self.book.partners[k] for k in np.flatnonzero(waiting[: len(self.book.partners)])]

    def speak(self, partner: str, response: Any, offered: Any) -> Spoken:
        """Reads an answer (None or an SAOResponse) to what the partner `offered`, None if nothing."""
        if response is None or response.response in _ENDS:
            return Spoken(END)
        if response.response == ResponseType.ACCEPT_OFFER:
            return Spoken(ACCEPT if offered is not None else END)
        if response.response != ResponseType.REJECT_OFFER:
            return Spoken(WAIT)
        return self.offer(partner, response.outcome)

    def offer(self, partner: str, outcome: Any) -> Spoken:
        """Reads an offer (quantity, day, price), which the protocol cuts to whole numbers; None ends a negotiation."""
        if outcome is None:
            return Spoken(END)
        if not self.agent.negotiators[partner][0].nmi.outcome_space.is_valid(outcome):
            return Spoken(END, valid=False)
        quantity, day, price = (int(value) for value in outcome)
        return Spoken(OFFER, quantity, day - int(self.view.day[0]), price)

    def outcome(self, said: Spoken) -> tuple[int, int, int]:
        """The offer of an answer as SCML writes it."""
        return int(said.quantity), int(self.view.day[0] + said.lead), int(said.price)


def check_agent(agent: Any) -> None:
    """Refuses what is no agent class of the std or oneshot track.

    Raises:
        TypeError: with what it is.
    """
    if not isinstance(agent, type) or not issubclass(agent, OneShotAgent):
        raise TypeError(f"Only SCML std and oneshot agent classes can be audited or shielded, got {agent!r}.")


def tapped(agent: type, name: str, make: Callable[[Any], Tap]) -> type:
    """A subclass of an agent class with a tap.

    Args:
        agent: an SCML std or oneshot agent class; if it is tapped already, the older tap hears first.
        name: of the attribute that holds the tap.
        make: makes the tap of an agent, once its interface is there.

    Raises:
        TypeError: for anything but such a class.
    """
    check_agent(agent)
    base: Any = agent

    class Tapped(base):
        def init(self) -> None:
            setattr(self, name, make(self))
            super().init()

        def before_step(self) -> None:
            getattr(self, name).start_day()
            super().before_step()

        def step(self) -> None:
            getattr(self, name).end_day()
            super().step()

        def create_negotiator(self, *args: Any, **kwargs: Any) -> Any:
            negotiator = super().create_negotiator(*args, **kwargs)
            if negotiator is not None:
                _listen(negotiator, getattr(self, name))
            return negotiator

        def on_negotiation_success(self, contract: Any, mechanism: Any) -> None:
            getattr(self, name).closes(contract.annotation, contract.agreement)
            super().on_negotiation_success(contract, mechanism)

        def on_negotiation_failure(self, partners: Any, annotation: Any, mechanism: Any, state: Any) -> None:
            getattr(self, name).closes(annotation, None)
            super().on_negotiation_failure(partners, annotation, mechanism, state)

    made: Any = Tapped
    if issubclass(agent, SAOSyncController):

        class TappedSync(Tapped):
            def first_proposals(self) -> Any:
                tap = getattr(self, name)
                tap.asked_first()
                return tap.decided_first(super().first_proposals())

            def counter_all(self, offers: Any, states: Any) -> Any:
                tap = getattr(self, name)
                tap.asked(offers, states)
                return tap.decided(super().counter_all(offers, states))

        made = TappedSync
    # SCML names factories after their class, and many agents depend on the order of names.
    made.__name__, made.__qualname__, made.__module__ = base.__name__, base.__qualname__, base.__module__
    return made


def _listen(negotiator: Any, tap: Tap) -> None:
    """Lets a tap hear the calls of a negotiator."""
    if "_taps" not in negotiator.__dict__:
        kind: Any = type(negotiator)
        negotiator.__class__ = _heard(kind)
        negotiator.__dict__["_taps"] = []
    negotiator.__dict__["_taps"].append(tap)


@cache
def _heard(negotiator: Any) -> type:
    class Heard(negotiator):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            try:
                response = super().__call__(*args, **kwargs)
            except Exception:
                for tap in self.__dict__["_taps"]:
                    tap.raised()
                raise
            state = kwargs["state"] if "state" in kwargs else args[0]
            for tap in self.__dict__["_taps"]:
                response = tap.sends(self, state, response)
            return response

    Heard.__name__, Heard.__qualname__ = negotiator.__name__, negotiator.__qualname__
    return Heard
