"""Profit and its shaping, for one factory.

    profit     r = (B' - B) / B_0                       balance change over the initial balance
    potential  r + gamma**days * Phi(s') - Phi(s)       Phi = stock * trading price of the input / B_0, 0 at the end

The shaping is potential-based (Ng, Harada and Russell, 1999), with SYSTEMS.md L2m's stock value as potential. It
telescopes: summed with discount gamma per day it is -Phi at the start, which is 0 because a factory starts without
stock, so that the discounted returns of both rewards agree at the end. Output stock never exists in SCML (SEMANTICS.md
e) and has no term.
"""

from scml_marl_env.config import EnvConfig
from scml_marl_env.view import FactoryView


def potential(view: FactoryView, factory: int) -> float:
    """Value of the factory's stock at today's trading price, in units of its initial balance."""
    return float(view.stock[factory] * view.trading_price[factory, 0] / view.initial_balance[factory])


class RewardBook:
    """Rewards of one factory over one episode.

    Attributes:
        terms: {"profit", "shaping"} of the last step; they sum to its reward.
        total: undiscounted sum of rewards so far.
        total_profit: undiscounted sum of the profit term, that is SCML's score minus 1.
        closed: no more rewards will come.
    """

    def __init__(self, config: EnvConfig, view: FactoryView, factory: int) -> None:
        self._shaped = config.reward == "potential"
        self._discount = config.discount
        self._view = view
        self._factory = factory
        self.terms = {"profit": 0.0, "shaping": 0.0}
        self.total = 0.0
        self.total_profit = 0.0
        self.closed = False

    def open(self) -> None:
        """Starts from the view of the first day."""
        self._start = float(self._view.initial_balance[self._factory])
        self._balance = float(self._view.balance[self._factory])
        self._day = int(self._view.day[self._factory])
        self._potential = potential(self._view, self._factory)

    def settle(self, balance: float, day: int, ended: bool) -> tuple[float, int]:
        """(reward, days passed) since the last call; with `ended` the potential is 0."""
        days = day - self._day
        profit = (balance - self._balance) / self._start
        shaping = 0.0
        if self._shaped and (days or ended):
            now = 0.0 if ended else potential(self._view, self._factory)
            shaping = self._discount**days * now - self._potential
            self._potential = now
        self._balance, self._day = balance, day
        self.terms = {"profit": profit, "shaping": shaping}
        self.total += profit + shaping
        self.total_profit += profit
        return profit + shaping, days
