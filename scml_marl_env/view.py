"""FactoryView: what ONE factory may know at the moment of a window. The waist of the design: every
engine writes it, everything above reads it.

A `FactoryView` holds the views of B factories side by side, packed into a few arrays, so that the same compiled
functions read one factory of the real engine and a batch of the fast one, and handing it on costs next to nothing.
Kernels read it by column (`view.ints[b, STOCK]`), everything else by name (`view.stock[b]`), which is the same memory.
Nothing in it is private to another factory: what a partner holds, pays or wants never enters. Letters: K slots of a
factory, L = horizon + 1 lead times, C contracts due on one day at most (K*L), N offers of a thread kept as history.

"signed" counts negotiated contracts of all days of signing, without exogenous ones and without contracts whose partner
is bankrupt (they are void). Lead time d is the delivery day minus today. Money in dollars, quantities in items, rates
per item.
"""

from typing import Any, NamedTuple

import numpy as np

HISTORY_COLUMNS = ("by_me", "lead", "quantity", "price", "round")
PRICE_DAYS = 6
PRICE_AVERAGE_WEIGHT = 0.3

# Columns of `ints`. Fixed for the episode:
N_DAYS = 0  # T
N_ROUNDS = 1  # rounds of a negotiation
LEVEL = 2  # 0 is the first
N_LEVELS = 3
N_LINES = 4  # n, items a day at most
UNIT_COST = 5  # production cost of an item
N_SUPPLIERS = 6  # negotiating ones: 0 at the first level
N_CONSUMERS = 7  # negotiating ones: 0 at the last level
N_COMPETITORS = 8
CONSERVING = 9  # 1 if production consumes stock, 0 for the official simulator
PERISHABLE = 10  # 1 if unused inputs vanish at the end of the day (oneshot)
MAX_QUANTITY = 11  # largest quantity of the agendas
FIRST_MOVER = 12  # 1 if the factory makes the first offer in all its threads, 0 if in none
# Fixed for the day:
DAY = 13  # s, today
LAST_LEAD = 14  # largest lead time of today's agendas
STOCK = 15  # I, input items at the start of today
EXOGENOUS_IN = 16  # Xi, today's forced supplies
EXOGENOUS_IN_COST = 17  # pi, their total price
EXOGENOUS_OUT = 18  # Xo, today's forced sales
EXOGENOUS_OUT_REVENUE = 19  # their total price
PRODUCED_BEFORE = 20  # items produced yesterday
SHORTFALL_BEFORE = 21  # items short yesterday
PRICE_LOW = 22  # and 23: agenda of today's buy threads, of its sell threads
PRICE_HIGH = 24  # and 25
# Updated with every deal:
N_LOTS = 26  # purchase contracts due today
BOUGHT_TODAY = 27  # items bought by today's deals, any delivery day
BOUGHT_COST = 28
SOLD_TODAY = 29
SOLD_REVENUE = 30
N_INTS = 31

# Columns of `floats`.
INITIAL_BALANCE = 0
BALANCE = 1  # W, at the start of today
STORAGE_RATE = 2  # today's, in units of the input's trading price
DISPOSAL_RATE = 3  # likewise
SHORTFALL_RATE = 4  # today's, in units of the output's trading price
CATALOG_PRICE = 5  # and 6: of input and output
TRADING_PRICE = 7  # and 8
PRICE_AVERAGE = 9  # and 10: exponential moving average of the trading price, weight 0.3 for today
PRICE_HISTORY = 11  # to 22: trading prices of the last six days, today's last; day 0's before day 0; input, output
N_FLOATS = PRICE_HISTORY + 2 * PRICE_DAYS

# Rows of `signed`, each by lead time.
SIGNED_IN = 0  # U[d], items due in d days
SIGNED_OUT = 1  # S[d]
SIGNED_COST = 2  # C[d], dollars to pay in d days
SIGNED_REVENUE = 3

# Rows of `lots`: the purchase contracts due today, in order of signing.
LOT_QUANTITY = 0
LOT_PRICE = 1  # unit prices

# Columns of `flags`.
EXISTS = 0  # a partner has this slot
IS_BUY = 1  # the partner is a supplier
ALIVE = 2  # the negotiation is running
ON_TURN = 3  # it waits for an answer of the factory now
HAS_OFFER = 4  # the partner's offer is on the table
PENDING = 5  # an offer of the factory is on the table and not yet answered
SENT = 6  # the factory has made an offer in this negotiation
PARTNER_BANKRUPT = 7
DEAL_TODAY = 8  # today's negotiation ended with a deal
N_FLAGS = 9

# Columns of `threads`.
ROUND = 0  # 0..n_rounds-1, of the answer that is due (of the last one seen if none is)
OFFER_QUANTITY = 1  # on the table
OFFER_LEAD = 2
OFFER_PRICE = 3
SENT_QUANTITY = 4  # the factory's last offer
SENT_LEAD = 5
SENT_PRICE = 6
BEFORE_QUANTITY = 7  # the partner's offer before the one on the table, if n_received >= 2
BEFORE_LEAD = 8
BEFORE_PRICE = 9
N_RECEIVED = 10  # offers of the partner so far in this negotiation
N_HISTORY = 11  # offers of both sides so far in this negotiation; `history` keeps the last ones
N_NEGOTIATIONS = 12  # ended ones, over the episode
N_DEALS = 13
DEAL_QUANTITY = 14  # items of all deals
N_THREAD_COLUMNS = 15

# Columns of `memory`, over the episode.
PARTNER_BREACH = 0  # breach level of the last public report, 0 before
PARTNER_CASH = 1  # cash of the last public report over that of the first, 1 before
DEAL_PRICE_RATIO = 2  # sum over deals of unit price / trading price of that day
N_MEMORY = 3


class Packed(NamedTuple):
    """The arrays of a `FactoryView`."""

    ints: np.ndarray  # int64 (B, N_INTS)
    floats: np.ndarray  # float64 (B, N_FLOATS)
    signed: np.ndarray  # int64 (B, 4, L)
    lots: np.ndarray  # int32 (B, 2, C)
    flags: np.ndarray  # bool (B, K, N_FLAGS)
    threads: np.ndarray  # int32 (B, K, N_THREAD_COLUMNS)
    memory: np.ndarray  # float64 (B, K, N_MEMORY)
    history: np.ndarray  # int32 (B, K, N, 5), HISTORY_COLUMNS of the last offers of this negotiation: the n-th at n % N


_PAIRS = ("PRICE_LOW", "PRICE_HIGH", "CATALOG_PRICE", "TRADING_PRICE", "PRICE_AVERAGE")


def _places() -> dict[str, tuple[str, Any]]:
    """Field name -> (name of its array, index behind the leading axis B)."""
    start = {"N_DAYS": "ints", "INITIAL_BALANCE": "floats", "EXISTS": "flags", "ROUND": "threads"}
    start |= {"SIGNED_IN": "signed", "LOT_QUANTITY": "lots", "PARTNER_BREACH": "memory"}
    sizes = {"N_INTS", "N_FLOATS", "N_FLAGS", "N_THREAD_COLUMNS", "N_MEMORY", "PRICE_DAYS", "PRICE_AVERAGE_WEIGHT"}
    places: dict[str, tuple[str, Any]] = {}
    array = ""
    for name, column in globals().items():
        array = start.get(name, array)
        if not array or not name.isupper() or name.startswith("_") or name in sizes or not isinstance(column, int):
            continue
        if name in _PAIRS:
            index: Any = slice(column, column + 2)
        elif name == "PRICE_HISTORY":
            index = slice(column, column + 2 * PRICE_DAYS)
        else:
            index = column
        places[name.lower()] = array, index if array in ("ints", "floats", "signed", "lots") else (slice(None), index)
    return places


PLACES = _places()
FIELDS = (*PLACES, "history")
"""Every number of a view by name."""


class FactoryView(Packed):
    """Views of B factories, see the module. `view.stock` is int64 (B,), `view.trading_price` float64 (B, 2),
    `view.signed_in` int64 (B, L), `view.alive` bool (B, K), `view.price_history` float64 (B, 2, 6), and so on."""

    def __getattr__(self, name: str) -> np.ndarray:
        if name not in PLACES:
            raise AttributeError(f"FactoryView has no field {name!r}.")
        array, index = PLACES[name]
        packed = getattr(self, array)
        column = packed[(slice(None), *(index if isinstance(index, tuple) else (index,)))]
        if name == "price_history":
            column = packed[:, index].reshape(len(packed), 2, PRICE_DAYS)
        self.__dict__[name] = column
        return column

    @property
    def n_views(self) -> int:
        return len(self.ints)

    def offers(self, index: int, slot: int) -> np.ndarray:
        """int32 (n, 5), the last offers of today's negotiation in a slot of a factory, oldest first."""
        history, n_offers = self.history[index, slot], int(self.n_history[index, slot])
        return history[np.arange(max(0, n_offers - len(history)), n_offers) % max(1, len(history))]

    def one(self, index: int) -> "FactoryView":
        """The view of one factory as a batch of 1, sharing memory."""
        return FactoryView(*(array[index : index + 1] for array in self))

    def copy(self) -> "FactoryView":
        return FactoryView(*(array.copy() for array in self))


def empty_view(n_views: int, n_slots: int, n_leads: int, n_history: int) -> FactoryView:
    """A `FactoryView` of zeros for B = `n_views` factories of K = `n_slots` threads."""
    b, k = n_views, n_slots
    return FactoryView(
        np.zeros((b, N_INTS), np.int64),
        np.zeros((b, N_FLOATS), np.float64),
        np.zeros((b, 4, n_leads), np.int64),
        np.zeros((b, 2, k * n_leads), np.int32),
        np.zeros((b, k, N_FLAGS), np.bool_),
        np.zeros((b, k, N_THREAD_COLUMNS), np.int32),
        np.zeros((b, k, N_MEMORY), np.float64),
        np.zeros((b, k, n_history, len(HISTORY_COLUMNS)), np.int32),
    )
