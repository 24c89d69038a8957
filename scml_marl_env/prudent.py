"""The policy `world.fast.prudence` as an SCML agent, for any official std or oneshot world, and its variants."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from scml_marl_env import opponents
from scml_marl_env.agent import WindowAgent
from scml_marl_env.awi_view import AwiView, is_conserving, partner_count
from scml_marl_env.view import empty_view
from scml_marl_env.world.engine import Answer
from scml_marl_env.world.fast import prudence


class PrudentAgent(WindowAgent):
    """Keeps a small stock and sells what is covered, as much as partners allow; see `prudence`.

    Args:
        theta: stock that it aims at, in days of full production; twice that at the middle levels of conserving worlds.
        exponent: of its concession: its offers give away (round / last round) ** exponent of the agenda's prices.
        accept_buy: likewise, for the worst price that it accepts from suppliers.
        accept_sell: and from consumers.
        accept_forced: instead at the first level, whose inputs are forced and paid for anyway.
        over_buy: items asked for beyond what it needs in the first round, as a share of the daily capacity.
        over_sell: items offered beyond what is covered, likewise.
        conserving: whether production consumes stock; None asks the world, whose attribute `conserving` says so.
    """

    def __init__(
        self,
        *args: Any,
        theta: float = prudence.DEFAULT_THETA,
        exponent: float = prudence.DEFAULT_EXPONENT,
        accept_buy: float = prudence.DEFAULT_ACCEPT_BUY,
        accept_sell: float = prudence.DEFAULT_ACCEPT_SELL,
        accept_forced: float = prudence.DEFAULT_ACCEPT_FORCED,
        over_buy: float = prudence.DEFAULT_OVER_BUY,
        over_sell: float = prudence.DEFAULT_OVER_SELL,
        conserving: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._options = np.zeros(prudence.N_OPTIONS)
        self._options[prudence.THETA] = theta
        self._options[prudence.EXPONENT] = exponent
        self._options[prudence.ACCEPT_BUY] = accept_buy
        self._options[prudence.ACCEPT_SELL] = accept_sell
        self._options[prudence.ACCEPT_FORCED] = accept_forced
        self._options[prudence.OVER_BUY] = over_buy
        self._options[prudence.OVER_SELL] = over_sell
        self._conserving = conserving

    def open_book(self) -> AwiView:
        awi = self.awi
        n_partners = partner_count(awi)
        conserving = is_conserving(awi) if self._conserving is None else self._conserving
        self._answers_of = np.zeros((n_partners, 4), np.int64)
        return AwiView(awi, empty_view(1, n_partners, awi.horizon + 1, 0), 0, conserving)

    def init(self) -> None:
        """Compiles before the first negotiation, as `PolicyAgent.init` does."""
        super().init()
        PrudentAgent.decide(self)

    def decide(self) -> Mapping[int, Answer]:
        view, answers = self.book.view, self._answers_of
        prudence.prudent_answers(view, 0, self._options, answers)
        return {int(k): Answer(*answers[k].tolist()) for k in np.flatnonzero(view.on_turn[0])}


class PrudentPatient(PrudentAgent):
    """Waits for the best price until the last rounds."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **(opponents.VARIANTS["prudent-patient"] | kwargs))


class PrudentEager(PrudentAgent):
    """Gives in on the price early, to be sure of its deals."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **(opponents.VARIANTS["prudent-eager"] | kwargs))


class PrudentBold(PrudentAgent):
    """Asks for more than it needs and offers more than is covered, since partners take only a part."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **(opponents.VARIANTS["prudent-bold"] | kwargs))


class PrudentLean(PrudentAgent):
    """Keeps half the stock."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **(opponents.VARIANTS["prudent-lean"] | kwargs))


class PrudentStocked(PrudentAgent):
    """Keeps twice the stock."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **(opponents.VARIANTS["prudent-stocked"] | kwargs))
