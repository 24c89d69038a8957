"""The action grid: what one thread may answer, as one flat `Discrete` index, and the compact bounds that mask it.

Layout of the flat index (A = 3 + L*Q*P actions):

    0                                             wait    legal exactly where the thread has nothing to answer
    1                                             end     ends the negotiation without a deal
    2                                             accept  takes the partner's offer that is on the table
    3 + (lead*Q + quantity_index)*P + price_level offer   (a counter-offer rejects what is on the table)

Price level 0 is the best price of the agenda for the factory itself (lowest when it buys, highest when it sells); every
further level is one dollar worse while the agenda has at most P distinct prices, which covers trading prices up to
about 5*P; wider agendas are covered evenly, ends included.

Compact bounds (int32, M = 7 + 2*L + P numbers for each thread) say the same as the flat mask in a few dozen integers:
see `BOUNDS_*`. They are what L1 writes, what buffers store, and what `ops`, `caps` and `mask` expand.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

WAIT, END, ACCEPT, OFFER = 0, 1, 2, 3
OPERATION_NAMES = ("wait", "end", "accept", "offer")

# Columns of the compact bounds of a thread; `quantity`, `budget` and `today` follow the scalars.
CAN_WAIT, CAN_END, CAN_ACCEPT = 0, 1, 2
N_PRICES = 3  # distinct prices in today's agenda, 0 in a slot without a thread
BEST_PRICE = 4  # dollars at price level 0
PRICE_SIGN = 5  # +1 if a higher level is a higher price (buying), -1 if it is a lower one (selling)
LAST_LEAD = 6  # largest lead time of the agenda, days
QUANTITY = 7  # int32 (L,): largest safe quantity for each lead time, items
# then BUDGET = 7 + L, int32 (L,): largest safe quantity * price for each lead time, dollars
# then TODAY = 7 + 2*L, int32 (P,): largest safe quantity for delivery today at each price level, items
UNLIMITED = np.int32(1 << 30)


@dataclass(frozen=True)
class ActionGrid:
    """The factors of an offer, and the way from an index to an answer and back.

    Attributes:
        n_leads: L, delivery 0..L-1 days ahead.
        quantities: Q ascending items, the first is 1.
        n_price_levels: P.
    """

    n_leads: int
    quantities: tuple[int, ...]
    n_price_levels: int

    def __post_init__(self) -> None:
        if self.n_leads < 1 or self.n_price_levels < 1:
            raise ValueError(f"An action grid needs at least one lead time and one price level, got {self}.")
        if not self.quantities or self.quantities[0] != 1 or list(self.quantities) != sorted(set(self.quantities)):
            raise ValueError(f"Quantities must ascend from 1 without repeats, got {self.quantities}.")

    @classmethod
    def covering(cls, horizon: int, n_lines: int, max_quantity: int, n_price_levels: int) -> "ActionGrid":
        """The grid with every quantity up to the capacity, then a few multiples of it up to the agenda's largest."""
        large = {round(n_lines * share) for share in (1.2, 1.5, 2.0, 2.5, 3.0)}
        quantities = set(range(1, min(n_lines, max_quantity) + 1)) | {q for q in large if n_lines < q <= max_quantity}
        return cls(horizon + 1, tuple(sorted(quantities)), n_price_levels)

    @property
    def factors(self) -> tuple[int, int, int]:
        """(L lead times, Q quantities, P price levels)."""
        return self.n_leads, len(self.quantities), self.n_price_levels

    @property
    def n_actions(self) -> int:
        """A, the size of the flat `Discrete` space."""
        return 3 + self.n_leads * len(self.quantities) * self.n_price_levels

    @property
    def n_bounds(self) -> int:
        """M, compact numbers for each thread."""
        return QUANTITY + 2 * self.n_leads + self.n_price_levels

    @property
    def budget_column(self) -> int:
        return QUANTITY + self.n_leads

    @property
    def today_column(self) -> int:
        return QUANTITY + 2 * self.n_leads

    @cached_property
    def quantity_array(self) -> np.ndarray:
        """int64 (Q,), `quantities` as an array for kernels."""
        return np.asarray(self.quantities, dtype=np.int64)

    def only_offer(self) -> np.ndarray:
        """int32 (M,): bounds that allow one action, to offer one item for today at price level 0, of one dollar."""
        bounds = np.zeros(self.n_bounds, np.int32)
        bounds[[N_PRICES, BEST_PRICE, PRICE_SIGN, QUANTITY, self.budget_column, self.today_column]] = 1
        return bounds

    def encode(self, operation: int, lead: int = 0, quantity: int = 1, level: int = 0) -> int:
        """The flat index of an answer; `quantity` in items, `level` a price level.

        Raises:
            ValueError: if the answer is not on the grid.
        """
        if operation in (WAIT, END, ACCEPT):
            return operation
        leads, n_quantities, levels = self.factors
        if operation != OFFER or not 0 <= lead < leads or not 0 <= level < levels or quantity not in self.quantities:
            raise ValueError(
                f"No action for operation {operation}, lead {lead}, quantity {quantity}, level {level}: the grid "
                f"has operations 0..3, leads 0..{leads - 1}, quantities {self.quantities}, levels 0..{levels - 1}."
            )
        return 3 + (lead * n_quantities + self.quantities.index(quantity)) * levels + level

    def decode(self, action: int) -> tuple[int, int, int, int]:
        """(operation, lead, quantity in items, price level) of a flat index; zeros where they mean nothing.

        Raises:
            ValueError: if `action` is outside 0..A-1.
        """
        if not 0 <= action < self.n_actions:
            raise ValueError(f"Action {action} is outside 0..{self.n_actions - 1}.")
        if action < OFFER:
            return int(action), 0, 0, 0
        cell, level = divmod(int(action) - 3, self.n_price_levels)
        lead, index = divmod(cell, len(self.quantities))
        return OFFER, lead, self.quantities[index], level

    def price(self, level: int, n_prices: int, best_price: int, sign: int) -> int:
        """Dollars of a price level in an agenda of `n_prices` prices (see `price_offset`)."""
        return best_price + sign * int(price_offset(level, n_prices, self.n_price_levels))

    def nearest_level(self, price: int, n_prices: int, best_price: int, sign: int) -> int:
        """The price level whose price is nearest to `price`, the lower level on a tie; exact while n_prices <= P."""
        offset = sign * (price - best_price)
        levels = range(min(n_prices, self.n_price_levels))
        return min(levels, key=lambda b: (abs(price_offset(b, n_prices, self.n_price_levels) - offset), b), default=0)

    def ops(self, bounds: Any, xp: Any = np) -> Any:
        """bool (..., 4): which of wait, end, accept, offer are allowed. `xp` is numpy or torch."""
        offer = (self.caps(bounds, xp) >= 1).any(-1).any(-1)
        return xp.stack([bounds[..., CAN_WAIT] > 0, bounds[..., CAN_END] > 0, bounds[..., CAN_ACCEPT] > 0, offer], -1)

    def prices(self, bounds: Any, xp: Any = np) -> Any:
        """int (..., P): dollars of each price level; repeats the last price beyond the agenda."""
        levels = _like(xp, np.arange(self.n_price_levels), bounds)
        n_prices = bounds[..., N_PRICES, None]
        return bounds[..., BEST_PRICE, None] + bounds[..., PRICE_SIGN, None] * _offsets(
            levels, n_prices, self.n_price_levels, xp
        )

    def caps(self, bounds: Any, xp: Any = np) -> Any:
        """int (..., L, P): the largest safe quantity for each lead time and price level, 0 where none is."""
        leads, levels = self.n_leads, self.n_price_levels
        quantity = bounds[..., QUANTITY : self.budget_column, None]
        budget = bounds[..., self.budget_column : self.today_column, None]
        prices = xp.maximum(self.prices(bounds, xp), _like(xp, np.ones(1), bounds))
        caps = xp.minimum(quantity, budget // prices[..., None, :])
        caps[..., 0, :] = xp.minimum(caps[..., 0, :], bounds[..., self.today_column :])
        in_agenda = (_like(xp, np.arange(leads), bounds)[:, None] <= bounds[..., LAST_LEAD, None, None]) & (
            _like(xp, np.arange(levels), bounds) < bounds[..., N_PRICES, None, None]
        )
        return xp.where(in_agenda, caps, xp.zeros_like(caps))

    def ops_and_leads(self, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """bool (n, 4) and (n, L): `ops`, and the leads on which some offer is allowed, from int32 (n, M); compiled."""
        from scml_marl_env.action_kernels import ops_and_leads

        return ops_and_leads(bounds, self.n_leads, self.n_price_levels)

    def caps_at(self, bounds: np.ndarray, lead: np.ndarray) -> np.ndarray:
        """int32 (n, P): `caps` at each row's lead, from int32 (n, M) and int64 (n,); compiled."""
        from scml_marl_env.action_kernels import caps_at

        return caps_at(bounds, lead, self.n_leads, self.n_price_levels)

    def allows(self, bounds: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """bool (n,), whether int32 (n, M) `bounds` allow int64 (n,) `actions`; without the flat mask."""
        ops, leads = self.ops_and_leads(bounds)
        rows, offers = np.arange(len(actions)), actions >= OFFER
        allowed = ops[rows, np.minimum(actions, OFFER)]
        lead, rest = np.divmod(np.maximum(actions - OFFER, 0), len(self.quantities) * self.n_price_levels)
        index, level = np.divmod(rest, self.n_price_levels)
        caps = self.caps_at(bounds, lead)[rows, level]
        return allowed & (~offers | (leads[rows, lead] & (self.quantity_array[index] <= caps)))

    def mask(self, bounds: Any, xp: Any = np) -> Any:
        """bool (..., A): the flat mask of allowed actions."""
        caps = self.caps(bounds, xp)
        quantities = _like(xp, self.quantity_array, bounds)
        offers = quantities[:, None] <= caps[..., :, None, :]  # (..., L, Q, P)
        offers = offers.reshape(*offers.shape[:-3], -1)
        scalars = bounds[..., CAN_WAIT : CAN_ACCEPT + 1] > 0
        return xp.concatenate([scalars, offers], -1)


def price_offset(level: int, n_prices: int, n_levels: int) -> int:
    """Dollars between the best price and that of `level`: one a level, or evenly spread if the agenda has more prices.

    With n_prices > n_levels: round_half_up(level * (n_prices - 1) / (n_levels - 1)), so that both ends are reachable.
    """
    if n_prices <= n_levels:
        return max(0, min(level, n_prices - 1))
    return (2 * level * (n_prices - 1) + (n_levels - 1)) // (2 * max(1, n_levels - 1))


def _offsets(levels: Any, n_prices: Any, n_levels: int, xp: Any) -> Any:
    """`price_offset` for arrays: (..., P) from levels (P,) and n_prices (..., 1)."""
    zero = xp.zeros_like(n_prices)
    dense = xp.maximum(xp.minimum(levels + zero, n_prices - 1), zero)
    spread = (2 * levels * (n_prices - 1) + (n_levels - 1)) // (2 * max(1, n_levels - 1))
    return xp.where(n_prices <= n_levels, dense, spread)


def _like(xp: Any, values: np.ndarray, bounds: Any) -> Any:
    """`values` as an array of the type, and on the device, of `bounds`."""
    if xp is np:
        return values.astype(bounds.dtype)
    return xp.as_tensor(values, dtype=bounds.dtype, device=bounds.device)
