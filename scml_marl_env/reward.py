"""Profit and its shaping, for one factory.

    profit     r = (B' - B) / B_0                       balance change over the initial balance
    potential  r + gamma**days * Phi(s') - Phi(s)       Phi = stock * trading price of the input / B_0, 0 at the end

The shaping is potential-based (Ng, Harada and Russell, 1999), with SYSTEMS.md L2m's stock value as potential. It
telescopes: summed with discount gamma per day it is -Phi at the start, which is 0 because a factory starts without
stock, so that the discounted returns of both rewards agree at the end. Output stock never exists in SCML (SEMANTICS.md
e) and has no term.

The arithmetic is compiled and works on the book of a factory, float64 (N_COLUMNS,).
"""

import math

import numpy as np

from scml_marl_env.config import EnvConfig
from scml_marl_env.kernels import lean
from scml_marl_env.view import FactoryView

# Columns of a book.
BALANCE = 0  # at the last reward, dollars
DAY = 1  # likewise
POTENTIAL = 2  # likewise
PROFIT = 3  # term of the last reward
SHAPING = 4  # likewise
TOTAL = 5  # undiscounted sum of the rewards
TOTAL_PROFIT = 6
CLOSED = 7  # 1 if no more rewards will come
N_COLUMNS = 8


@lean
def potential_of(stock: int, price: float, start: float) -> float:
    """Value of a stock at a price, in units of the initial balance `start`."""
    return stock * price / start


@lean
def open_book(row: np.ndarray, balance: float, day: int, potential: float) -> None:
    """Starts a book, float64 (N_COLUMNS,), on the first day."""
    row[:] = 0.0
    row[BALANCE], row[DAY], row[POTENTIAL] = balance, day, potential


@lean
def settle_book(
    row: np.ndarray,
    start: float,
    balance: float,
    day: int,
    potential: float,
    ended: bool,
    shaped: bool,
    discount: float,
) -> tuple[float, int]:
    """Notes what has happened since the last call.

    Args:
        row: float64 (N_COLUMNS,), the book, updated.
        start: initial balance, dollars.
        balance: now.
        day: today.
        potential: of `potential_of` now; at the end it counts as 0.
        ended: the run is over, or the factory bankrupt.
        shaped: whether the shaping belongs to the reward.
        discount: of a day.

    Returns:
        (reward, days passed).
    """
    days = day - int(row[DAY])
    profit, shaping = (balance - row[BALANCE]) / start, 0.0
    if shaped and (days != 0 or ended):
        now = 0.0 if ended else potential
        shaping = math.pow(discount, days) * now - row[POTENTIAL]
        row[POTENTIAL] = now
    row[BALANCE], row[DAY] = balance, day
    row[PROFIT], row[SHAPING] = profit, shaping
    row[TOTAL] += profit + shaping
    row[TOTAL_PROFIT] += profit
    return profit + shaping, days


class RewardBook:
    """Rewards of one factory over one episode.

    Attributes:
        row: float64 (N_COLUMNS,), the book.
    """

    def __init__(self, config: EnvConfig, view: FactoryView, factory: int) -> None:
        self._shaped = config.reward == "potential"
        self._discount = float(config.discount)
        self._view = view
        self._factory = factory
        self.row = np.zeros(N_COLUMNS)

    @property
    def terms(self) -> dict[str, float]:
        """{"profit", "shaping"} of the last step; they sum to its reward."""
        return {"profit": float(self.row[PROFIT]), "shaping": float(self.row[SHAPING])}

    @property
    def total(self) -> float:
        """Undiscounted sum of rewards so far."""
        return float(self.row[TOTAL])

    @property
    def total_profit(self) -> float:
        """Undiscounted sum of the profit term so far, that is SCML's score minus 1."""
        return float(self.row[TOTAL_PROFIT])

    @property
    def closed(self) -> bool:
        """No more rewards will come."""
        return bool(self.row[CLOSED])

    @closed.setter
    def closed(self, closed: bool) -> None:
        self.row[CLOSED] = closed

    def open(self) -> None:
        """Starts from the view of the first day."""
        view, f = self._view, self._factory
        self._start = float(view.initial_balance[f])
        open_book(self.row, float(view.balance[f]), int(view.day[f]), self._potential())

    def settle(self, balance: float, day: int, ended: bool) -> tuple[float, int]:
        """(reward, days passed) since the last call; with `ended` the potential is 0."""
        potential = self._potential() if self._shaped else 0.0
        return settle_book(self.row, self._start, balance, day, potential, ended, self._shaped, self._discount)

    def _potential(self) -> float:
        view, f = self._view, self._factory
        return potential_of(int(view.stock[f]), float(view.trading_price[f, 0]), self._start)
