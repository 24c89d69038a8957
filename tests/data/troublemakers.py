"""Experts that fail, and one that answers differently once."""

import os
from pathlib import Path
from typing import Any

from negmas.sao import ResponseType, SAOResponse

from scml_marl_env.prudent import PrudentAgent


class FailsAtOddSeeds(PrudentAgent):
    """Ends the process of worlds of an odd seed."""

    def before_step(self) -> None:
        if self.awi.current_step == 2 and self.awi._world.name[-1] in "13579":
            raise SystemExit("broken on purpose")
        super().before_step()


class DiesOnce(PrudentAgent):
    """Kills its process, unless the file that the environment names is there."""

    def before_step(self) -> None:
        note = Path(os.environ["DIES_ONCE"])
        if not note.exists():
            note.touch()
            os._exit(1)
        super().before_step()


class RaisesInPlay(PrudentAgent):
    """Has no answer on days that are odd."""

    def counter_all(self, offers: Any, states: Any) -> Any:
        if self.awi.current_step % 2:
            raise ValueError("no odd days")
        return super().counter_all(offers, states)


class NeverAnswers(PrudentAgent):
    """Raises whenever it is asked."""

    def first_proposals(self) -> Any:
        raise ValueError("no offers")

    def counter_all(self, offers: Any, states: Any) -> Any:
        raise ValueError("no answers")


class Steady(PrudentAgent):
    """Prudent."""

    AT = -1

    def init(self) -> None:
        self._n = 0
        super().init()

    def counter_all(self, offers: Any, states: Any) -> Any:
        answers = super().counter_all(offers, states)
        self._n += 1
        if self._n != self.AT or self.awi.level > 0:
            return answers
        return {partner: SAOResponse(ResponseType.END_NEGOTIATION, None) for partner in answers}


class ChangesItsMind(Steady):
    """Ends every negotiation of its ninth window, on the first level."""

    AT = 9
