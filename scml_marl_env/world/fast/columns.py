"""The arrays of the fast engine: `Tables` (fixed before day 0) and `State` (what changes), and their columns.

Letters: W prepared worlds, E worlds that are being played, F factories, P products, K slots of a factory, R threads
(pairs of factories on neighbouring levels), H ring days (horizon + 1), V factories of a world that have a view, T days.
All sizes are the largest of the batch; a world uses the first rows of each array. Items, prices and days are whole
numbers, money is float64.
"""

from typing import NamedTuple

import numpy as np

# Columns of `Tables.world`.
N_DAYS = 0
N_PRODUCTS = 1
N_FACTORIES = 2
N_THREADS = 3
N_ROUNDS = 4
HORIZON = 5  # largest lead time; 0 where a negotiation is about today only
PERISHABLE = 6
QUANTITY_LOW = 7
QUANTITY_HIGH = 8
PENALTIES_SCALE = 9  # TRADING, CATALOG or NONE
CATALOG_QUANTITIES = 10  # weight of the catalog price in the first trading price
REPORT_PERIOD = 11  # days between financial reports
WIDE_PRICES = 12
BANKRUPTCY_LIMIT = 13
FEE_START = 14  # and 15, 16: where the rates of disposal, storage and shortfall start in `fees`
FEE_STRIDE = 17  # and 18, 19: rates a day: F, or 0 where they are the same every day
N_WORLD = 20
DISPOSAL, STORAGE, SHORTFALL = range(3)
TRADING, CATALOG, NONE = range(3)
# Columns of `Tables.real`.
PRICE_FRACTION = 0
PRICE_MULTIPLIER = 1
DISCOUNT = 2  # of the weight of the past in the trading price
N_REAL = 3
# Columns of `Tables.factory`.
LEVEL = 0
LINES = 1
COST = 2
INITIAL_BALANCE = 3
N_SUPPLIERS = 4  # negotiating ones
N_CONSUMERS = 5
N_COMPETITORS = 6
FIRST_MOVER = 7
N_FACTORY = 8
# Columns of `Tables.thread`, in the order in which SCML steps the negotiations.
BUYER = 0
SELLER = 1
PRODUCT = 2
FIRST = 3  # the caller, who makes the first offer
SECOND = 4
SLOT_FIRST = 5  # the slot that the second factory has in the first one's list, and the other way round
SLOT_SECOND = 6
N_THREAD = 7
# Columns of `Tables.exogenous`, in the order of the generator's list.
EXO_PRODUCT, EXO_QUANTITY, EXO_PRICE, EXO_FACTORY = range(4)


class Tables(NamedTuple):
    """W worlds before their day 0."""

    world: np.ndarray  # int64 (W, N_WORLD)
    real: np.ndarray  # float64 (W, N_REAL)
    factory: np.ndarray  # int64 (W, F, N_FACTORY)
    thread: np.ndarray  # int16 (W, R, N_THREAD)
    slot: np.ndarray  # int16 (W, F, K), the thread of each slot, -1 without one
    catalog: np.ndarray  # float64 (W, P), prices
    fees: np.ndarray  # float64 (W, X), see FEE_START
    exogenous: np.ndarray  # int32 (W, Y, 4)
    exogenous_day: np.ndarray  # int32 (W, T + 1), where the contracts of a day start


# Columns of `State.world`.
ROW = 0  # of the tables
DAY = 1
PHASE = 2  # MORNING, MOURNING, TALKS, EVENING or OVER
POSITION = 3  # in `running`, of the thread that is stepped next
N_LISTED = 4  # threads in `running`
WINDOW = 5  # the factory that has to answer, -1 if none
IS_FIRST = 6  # the window asks for first offers
CONSERVING = 7
EXO_FIRST = 8  # items that the system sells today, and buys
EXO_LAST = 9
TODAY = 10  # DAY modulo H: where today lies in a ring of days
MOVE = 11  # next one of the recorded moves (replay)
END_OF_TALK = 12  # next one of the recorded ends
FAULT = 13  # what did not agree with the recording, 0 if all did
N_STATE_WORLD = 14
MORNING, MOURNING, TALKS, EVENING, OVER = range(5)
# Columns of `State.answer`.
OPERATION, ANSWER_QUANTITY, ANSWER_LEAD, ANSWER_PRICE = range(4)
# Columns of `State.price`, by product.
TRADING_PRICE = 0
WEIGHT = 1  # of the past in it
ITEMS_TRADED = 2  # today, and their running mean price
MEAN_PRICE = 3
N_PRICE = 4
# Columns of `State.agenda`, by product.
LOW, HIGH = range(2)
# Columns of `State.factory`.
STOCK = 0
BANKRUPT = 1
POLICY = 2  # see `scripted`; EXTERNAL and above are driven from outside
EXO_IN = 3  # items of today's exogenous contracts, and their total price
EXO_IN_COST = 4
EXO_OUT = 5
EXO_OUT_REVENUE = 6
N_ALIVE = 7  # threads
N_COLLECTED = 8  # threads whose offers a sync agent holds
HAS_PROPOSED = 9  # it was asked for first offers
VIEW = 10  # row of its view, -1 without one
BOUGHT = 11  # items executed today
BOUGHT_COST = 12
SOLD = 13
SOLD_REVENUE = 14
PRODUCED = 15
SHORT = 16
UNUSED = 17
VOIDED = 18  # items of purchases that became void with their seller and were due by now
MOURNED = 19  # its bankruptcy has been told outside
LAST_NUMBER = 20  # of the offers that a sync agent has collected so far
N_STATE_FACTORY = 21
# Values of POLICY: who decides for a factory. EXTERNAL and above are driven from outside: by the environment's caller,
# or (SEATED + i) by the i-th policy that plays as an opponent.
NOTHING, GREEDY_STD, RANDOM_STD, SYNC_RANDOM_STD, GREEDY_ONESHOT, RAND_DIST, EQUAL_DIST, RANDOM_ONESHOT = range(8)
PRUDENT, REPLAY = 8, 9
EXTERNAL, SEATED = 16, 17
# Columns of `State.money`, by factory.
EARNED = 0  # sum of profits, added day by day
BALANCE = 1  # at the start of the day
PROFIT = 2  # of the last finished day
PENALTY = 3
STORAGE_COST = 4
DISPOSAL_COST = 5
BREACH_SUM = 6  # of the daily breach levels
REPORTED_CASH = 7  # of the last report
REPORTED_BREACH = 8
FIRST_CASH = 9  # of the first report
N_MONEY = 10
# Rows of `State.due`.
DUE_IN, DUE_OUT = range(2)
# Columns of `State.thread`.
RUNNING = 0
STEP = 1  # round
HAS_OFFER = 2
OFFER_QUANTITY = 3
OFFER_DAY = 4  # of delivery
OFFER_PRICE = 5
PROPOSER = 6  # side of the offer on the table
NEXT = 7  # side that is asked next in this round
N_WAITS = 8
SIDE = 9  # first column of side 0 (who moves first); side 1 follows after SIDE_SIZE columns
SIDE_SIZE = 6
COLLECTED, RESPONSE, QUANTITY, TIME, PRICE, WAITS = range(6)  # within a side; TIME is the day of delivery
# COLLECTED is 0, or the number of the offer that a sync agent holds, in order of collection.
# Values of RESPONSE: nothing yet, or as in actions.py; an OFFER rejects what is on the table. Refusing to offer is END.
NO_ANSWER, END, ACCEPT, OFFER = range(4)
N_STATE_THREAD = SIDE + 2 * SIDE_SIZE
# Columns of `State.contract`, which a contract leaves when it is due.
CONTRACT_QUANTITY, CONTRACT_PRICE, CONTRACT_NEXT = range(3)
N_CONTRACT = 3
HEAD, TAIL = range(2)
# Columns of `State.ledger`, by factory: sums over the finished days.
LEDGER_DAYS, LEDGER_SHORT, LEDGER_NEGOTIATED, LEDGER_EXOGENOUS, LEDGER_MONEY, LEDGER_BANKRUPTCY = range(6)
N_LEDGER = 6
# Columns of `State.diary`, by day and factory.
DIARY = (
    "profit", "balance", "stock", "shortfall", "penalty", "storage", "disposal", "unused", "produced", "bankrupt",
    "breach_level", "bought", "bought_cost", "sold", "sold_revenue", "negotiated", "exogenous", "money", "bankruptcy",
)  # fmt: skip
N_AGENT = 10  # numbers that a scripted agent keeps
N_SCRATCH = 12
N_PARTNER = 2  # numbers that it keeps of each partner


class State(NamedTuple):
    """E worlds that are being played."""

    world: np.ndarray  # int64 (E, N_STATE_WORLD)
    random: np.ndarray  # uint64 (E, F), the private random stream of each scripted agent (see `chance`)
    price: np.ndarray  # float64 (E, P, N_PRICE)
    agenda: np.ndarray  # int64 (E, P, 2), of today
    factory: np.ndarray  # int32 (E, F, N_STATE_FACTORY)
    money: np.ndarray  # float64 (E, F, N_MONEY)
    due: np.ndarray  # int32 (E, F, 2, H), items by delivery day (modulo H), void ones included, as the AWI counts
    thread: np.ndarray  # int32 (E, R, N_STATE_THREAD)
    running: np.ndarray  # int32 (E, R), the threads of today's pass, in order of creation
    contract: np.ndarray  # int32 (E, H, R, N_CONTRACT), by day of signing (modulo H) and thread
    queue: np.ndarray  # int32 (E, H, 2), first and last contract of each delivery day (modulo H), -1 if none
    agent: np.ndarray  # float64 (E, F, N_AGENT)
    partner: np.ndarray  # float64 (E, F, K, N_PARTNER)
    ledger: np.ndarray  # int64 (E, F, N_LEDGER)
    answer: np.ndarray  # int64 (E, K, 4), by slot: operation of actions.py, quantity, lead time, price
    scratch: np.ndarray  # int32 (E, N_SCRATCH, max(K, H) + 1), for kernels that need a list for a moment
    diary: np.ndarray  # float64 (E, T, F, len(DIARY)), T = 0 where no days are kept


def empty_state(n_worlds: int, tables: Tables, n_diary_days: int = 0) -> State:
    """A `State` of E = `n_worlds` worlds that any row of `tables` fits into; `engine.begin` starts a world in it."""
    e, horizon = n_worlds, int(tables.world[:, HORIZON].max())
    f, r = tables.factory.shape[1], tables.thread.shape[1]
    k, p, h = tables.slot.shape[2], tables.catalog.shape[1], horizon + 1
    return State(
        np.zeros((e, N_STATE_WORLD), np.int64),
        np.zeros((e, f), np.uint64),
        np.zeros((e, p, N_PRICE)),
        np.zeros((e, p, 2), np.int64),
        np.zeros((e, f, N_STATE_FACTORY), np.int32),
        np.zeros((e, f, N_MONEY)),
        np.zeros((e, f, 2, h), np.int32),
        np.zeros((e, r, N_STATE_THREAD), np.int32),
        np.zeros((e, r), np.int32),
        np.zeros((e, h, r, N_CONTRACT), np.int32),
        np.zeros((e, h, 2), np.int32),
        np.zeros((e, f, N_AGENT)),
        np.zeros((e, f, k, N_PARTNER)),
        np.zeros((e, f, N_LEDGER), np.int64),
        np.zeros((e, k, 4), np.int64),
        np.zeros((e, N_SCRATCH, max(k, h) + 1), np.int32),
        np.zeros((e, n_diary_days, f, len(DIARY))),
    )
