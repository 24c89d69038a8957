"""FactoryView: what ONE factory may know at the moment of a window. The waist of the design: every
engine writes it, everything above reads it.

A `FactoryView` holds the views of B factories side by side, as plain arrays with a leading axis B, so that the same
compiled functions read one factory of the real engine and a batch of the fast one. Nothing in it is private to another
factory: what a partner holds, pays or wants never enters. Letters: K slots of a factory, L = horizon + 1 lead times,
C contracts due on one day at most (K*L), N offers of a thread kept as history.
"""

from typing import NamedTuple

import numpy as np

HISTORY_COLUMNS = ("by_me", "lead", "quantity", "price", "round")
PRICE_DAYS = 6
PRICE_AVERAGE_WEIGHT = 0.3


class FactoryView(NamedTuple):
    """Views of B factories. int64 unless said otherwise; money in dollars, quantities in items, rates per item.

    "signed" counts negotiated contracts of all days of signing, without exogenous ones and without contracts whose
    partner is bankrupt (they are void). Lead time d is the delivery day minus today.
    """

    # fixed for the episode
    n_days: np.ndarray  # (B,) T
    n_rounds: np.ndarray  # (B,) rounds of a negotiation
    level: np.ndarray  # (B,) 0 is the first
    n_levels: np.ndarray  # (B,)
    n_lines: np.ndarray  # (B,) n, items a day at most
    unit_cost: np.ndarray  # (B,) production cost of an item
    n_suppliers: np.ndarray  # (B,) negotiating ones: 0 at the first level
    n_consumers: np.ndarray  # (B,) negotiating ones: 0 at the last level
    n_competitors: np.ndarray  # (B,)
    conserving: np.ndarray  # (B,) 1 if production consumes stock, 0 for the official simulator
    perishable: np.ndarray  # (B,) 1 if unused inputs vanish at the end of the day (oneshot)
    max_quantity: np.ndarray  # (B,) largest quantity of the agendas
    first_mover: np.ndarray  # (B,) 1 if the factory makes the first offer in all its threads, 0 if in none
    initial_balance: np.ndarray  # (B,) float64
    catalog_price: np.ndarray  # (B, 2) float64, of input and output
    # fixed for the day
    day: np.ndarray  # (B,) s, today
    last_lead: np.ndarray  # (B,) largest lead time of today's agendas
    balance: np.ndarray  # (B,) float64, W, at the start of today
    stock: np.ndarray  # (B,) I, input items at the start of today
    exogenous_in: np.ndarray  # (B,) Xi, today's forced supplies
    exogenous_in_cost: np.ndarray  # (B,) pi, their total price
    exogenous_out: np.ndarray  # (B,) Xo, today's forced sales
    exogenous_out_revenue: np.ndarray  # (B,) their total price
    storage_rate: np.ndarray  # (B,) float64, today's, in units of the input's trading price
    disposal_rate: np.ndarray  # (B,) float64, likewise
    shortfall_rate: np.ndarray  # (B,) float64, today's, in units of the output's trading price
    trading_price: np.ndarray  # (B, 2) float64, of input and output
    price_history: (
        np.ndarray
    )  # (B, 2, 6) float64, trading prices of the last six days, today's last; day 0's before day 0
    price_average: np.ndarray  # (B, 2) float64, exponential moving average of the trading price, weight 0.3 for today
    price_low: np.ndarray  # (B, 2) agenda of today's buy threads, of its sell threads
    price_high: np.ndarray  # (B, 2)
    produced_before: np.ndarray  # (B,) items produced yesterday
    shortfall_before: np.ndarray  # (B,) items short yesterday
    # commitments, updated with every deal
    signed_in: np.ndarray  # (B, L) U[d], items due in d days
    signed_out: np.ndarray  # (B, L) S[d]
    signed_cost: np.ndarray  # (B, L) C[d], dollars to pay in d days
    signed_revenue: np.ndarray  # (B, L)
    n_lots: np.ndarray  # (B,) purchase contracts due today
    lot_quantity: np.ndarray  # (B, C) their items, in order of signing
    lot_price: np.ndarray  # (B, C) their unit prices
    bought_today: np.ndarray  # (B,) items bought by today's deals, any delivery day
    bought_cost: np.ndarray  # (B,)
    sold_today: np.ndarray  # (B,)
    sold_revenue: np.ndarray  # (B,)
    # threads
    exists: np.ndarray  # (B, K) bool, a partner has this slot
    is_buy: np.ndarray  # (B, K) bool, the partner is a supplier
    alive: np.ndarray  # (B, K) bool, the negotiation is running
    on_turn: np.ndarray  # (B, K) bool, it waits for an answer of the factory now
    round: np.ndarray  # (B, K) 0..n_rounds-1, of the answer that is due (of the last one seen if none is)
    has_offer: np.ndarray  # (B, K) bool, the partner's offer is on the table
    offer_quantity: np.ndarray  # (B, K)
    offer_lead: np.ndarray  # (B, K)
    offer_price: np.ndarray  # (B, K)
    pending: np.ndarray  # (B, K) bool, an offer of the factory is on the table and not yet answered
    sent: np.ndarray  # (B, K) bool, the factory has made an offer in this negotiation
    sent_quantity: np.ndarray  # (B, K) its last one
    sent_lead: np.ndarray  # (B, K)
    sent_price: np.ndarray  # (B, K)
    before_quantity: np.ndarray  # (B, K) the partner's offer before the one on the table, if n_received >= 2
    before_lead: np.ndarray  # (B, K)
    before_price: np.ndarray  # (B, K)
    n_received: np.ndarray  # (B, K) offers of the partner so far in this negotiation
    history: np.ndarray  # (B, K, N, 5) last offers of this negotiation, oldest first, HISTORY_COLUMNS
    n_history: np.ndarray  # (B, K) how many of them are there (they stand last)
    # memory of partners over the episode
    partner_bankrupt: np.ndarray  # (B, K) bool
    partner_breach: np.ndarray  # (B, K) float64, breach level of the last public report, 0 before
    partner_cash: np.ndarray  # (B, K) float64, cash of the last public report over that of the first, 1 before
    n_negotiations: np.ndarray  # (B, K) ended ones
    n_deals: np.ndarray  # (B, K)
    deal_quantity: np.ndarray  # (B, K) items of all deals
    deal_price_ratio: np.ndarray  # (B, K) float64, sum over deals of unit price / trading price of that day
    deal_today: np.ndarray  # (B, K) bool, today's negotiation ended with a deal

    @property
    def n_views(self) -> int:
        return self.day.shape[0]

    def one(self, index: int) -> "FactoryView":
        """The view of one factory as a batch of 1, sharing memory."""
        return FactoryView(*(array[index : index + 1] for array in self))

    def copy(self) -> "FactoryView":
        return FactoryView(*(array.copy() for array in self))


_FLOATS = {
    "initial_balance", "catalog_price", "balance", "storage_rate", "disposal_rate", "shortfall_rate", "trading_price",
    "price_history", "price_average", "partner_breach", "partner_cash", "deal_price_ratio",
}  # fmt: skip
_BOOLS = {"exists", "is_buy", "alive", "on_turn", "has_offer", "pending", "sent", "partner_bankrupt", "deal_today"}
_PAIRS = {"catalog_price", "trading_price", "price_average", "price_low", "price_high"}
_BY_LEAD = {"signed_in", "signed_out", "signed_cost", "signed_revenue"}
_BY_LOT = {"lot_quantity", "lot_price"}
_FIRST_THREAD_FIELD = FactoryView._fields.index("exists")


def empty_view(n_views: int, n_slots: int, n_leads: int, n_history: int) -> FactoryView:
    """A `FactoryView` of zeros for B = `n_views` factories of K = `n_slots` threads."""
    arrays: list[np.ndarray] = []
    for index, name in enumerate(FactoryView._fields):
        shape: tuple[int, ...] = (n_views,)
        if name == "history":
            shape = (n_views, n_slots, n_history, len(HISTORY_COLUMNS))
        elif index >= _FIRST_THREAD_FIELD:
            shape = (n_views, n_slots)
        elif name == "price_history":
            shape = (n_views, 2, PRICE_DAYS)
        elif name in _PAIRS:
            shape = (n_views, 2)
        elif name in _BY_LEAD:
            shape = (n_views, n_leads)
        elif name in _BY_LOT:
            shape = (n_views, n_slots * n_leads)
        dtype = np.float64 if name in _FLOATS else np.bool_ if name in _BOOLS else np.int64
        arrays.append(np.zeros(shape, dtype))
    return FactoryView(*arrays)
