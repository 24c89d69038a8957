"""Twins of scml's GreedyStdAgent and GreedyOneShotAgent.

Both ask for the best price of the agenda first and concede on it; today's best offers and the best deals ever bound how
far. `_acc_price_slack` of the originals is infinite, so that one of their bounds never holds: it is left out.
"""

import numpy as np

from scml_marl_env.kernels import inlined, lean
from scml_marl_env.world.fast.account import due, is_middle, last_day, needed_sales, needed_supplies
from scml_marl_env.world.fast.chance import shuffle, uniform, whole
from scml_marl_env.world.fast.columns import (
    ACCEPT,
    DAY,
    DUE_IN,
    DUE_OUT,
    END,
    EXO_FIRST,
    EXO_LAST,
    FIRST,
    GREEDY_STD,
    HAS_OFFER,
    HIGH,
    LINES,
    LOW,
    N_COMPETITORS,
    N_DAYS,
    N_ROUNDS,
    N_SUPPLIERS,
    OFFER,
    OFFER_DAY,
    OFFER_PRICE,
    OFFER_QUANTITY,
    POLICY,
    PRICE,
    PRODUCT,
    QUANTITY,
    QUANTITY_HIGH,
    QUANTITY_LOW,
    RESPONSE,
    ROW,
    SELLER,
    SIDE,
    SIDE_SIZE,
    SLOT_FIRST,
    STEP,
    TIME,
    State,
    Tables,
)

# Columns of `State.agent`.
EXPONENT = 0
STEP_SLACK = 1  # how far a limit may lie from the best offer of today,
OPPONENT_SLACK = 2  # from the best one when this partner was last answered,
DEAL_SLACK = 3  # and from the best deal with this partner
RANGE_SLACK = 4
BEST_SELLING = 5  # highest price offered today by any consumer, and lowest one of any supplier
BEST_BUYING = 6
KNOWN_STEP = 7  # of THRESHOLD, -1 before the first
THRESHOLD = 8
# Columns of `State.partner`.
BEST_OFFER = 0  # BEST_SELLING or BEST_BUYING when this partner was last answered today
BEST_DEAL = 1
TARGET = 0.75  # `_production_target`, the fraction of the lines that is booked ahead
FUTURE = 0.9  # `_future_threshold`


@lean
def begin_greedy(t: Tables, s: State, e: int, f: int) -> None:
    """Draws the agent's parameters, in the order of its constructor, and empties its memory."""
    agent = s.agent[e, f]
    agent[EXPONENT] = 0.2 + uniform(s, e, f) * 0.8
    agent[STEP_SLACK] = uniform(s, e, f) * 0.1 + 0.05
    agent[OPPONENT_SLACK] = uniform(s, e, f) * 0.1 + 0.05
    agent[DEAL_SLACK] = uniform(s, e, f) * 0.1 + 0.05
    agent[RANGE_SLACK] = uniform(s, e, f) * 0.2 + 0.05
    agent[KNOWN_STEP] = -1
    n_suppliers = t.factory[s.world[e, ROW], f, N_SUPPLIERS]
    for k in range(s.partner.shape[2]):
        s.partner[e, f, k, BEST_DEAL] = np.inf if k < n_suppliers else 0.0
    begin_greedy_day(t, s, e, f)


@lean
def begin_greedy_day(t: Tables, s: State, e: int, f: int) -> None:
    """Forgets the offers of yesterday."""
    s.agent[e, f, BEST_SELLING], s.agent[e, f, BEST_BUYING] = 0.0, np.inf
    n_suppliers = t.factory[s.world[e, ROW], f, N_SUPPLIERS]
    for k in range(s.partner.shape[2]):
        s.partner[e, f, k, BEST_OFFER] = np.inf if k < n_suppliers else 0.0


@lean
def note_greedy_deal(s: State, e: int, f: int, slot: int, is_sale: bool, price: int) -> None:
    """Remembers the best price that a partner ever agreed to."""
    best = s.partner[e, f, slot, BEST_DEAL]
    s.partner[e, f, slot, BEST_DEAL] = max(best, float(price)) if is_sale else min(best, float(price))


@inlined
def _limits(s: State, e: int, f: int, slot: int, sells: bool, low: int, high: int) -> tuple[int, int]:
    """`_price_range`: the agenda's prices, narrowed on the partner's side by what was offered and agreed before."""
    agent, partner = s.agent[e, f], s.partner[e, f, slot]
    if sells:
        bound = max(float(low), agent[BEST_SELLING] * (1 - agent[STEP_SLACK]))
        bound = max(bound, partner[BEST_OFFER] * (1 - agent[OPPONENT_SLACK]))
        bound = max(bound, partner[BEST_DEAL] * (1 - agent[DEAL_SLACK]))
        return int(min(high * (1 - agent[RANGE_SLACK]), bound)), high
    bound = min(float(high), agent[BEST_BUYING] * (1 + agent[STEP_SLACK]))
    bound = min(bound, partner[BEST_OFFER] * (1 + agent[OPPONENT_SLACK]))
    bound = min(bound, partner[BEST_DEAL] * (1 + agent[DEAL_SLACK]))
    return low, int(max(low * (1 + agent[RANGE_SLACK]), bound))


@inlined
def _threshold(t: Tables, s: State, e: int, f: int, step: int) -> float:
    """`_th`, the fraction of the price range that is asked for in round `step`: from 1 down to 0.

    The original divides by zero where a negotiation has a single round, by which it ends: `greedy` does not come here.
    All its threads are mostly in the same round, so that the last power is kept.
    """
    n, agent = t.world[s.world[e, ROW], N_ROUNDS], s.agent[e, f]
    if agent[KNOWN_STEP] != step:
        agent[KNOWN_STEP], agent[THRESHOLD] = step, ((n - step - 1) / (n - 1)) ** agent[EXPONENT]
    return float(agent[THRESHOLD])


@inlined
def _future_need(t: Tables, s: State, e: int, f: int, sells: bool, day: int) -> float:
    """`_future_needs`: items that it would trade for `day`; what is agreed for today does not count in it."""
    booked = due(t, s, e, f, DUE_OUT if sells else DUE_IN, day) if day > s.world[e, DAY] else 0
    return TARGET * (t.factory[s.world[e, ROW], f, LINES] - booked)


@inlined
def _need(t: Tables, s: State, e: int, f: int, sells: bool) -> float:
    """`_needed`: items that it wants to trade today."""
    w = s.world[e, ROW]
    if s.factory[e, f, POLICY] != GREEDY_STD:
        return min(s.world[e, EXO_FIRST], s.world[e, EXO_LAST]) / (t.factory[w, f, N_COMPETITORS] + 1)
    if is_middle(t, s, e, f):
        return TARGET * t.factory[w, f, LINES]
    return float(needed_sales(t, s, e, f) if sells else needed_supplies(t, s, e, f))


@inlined
def _answer(
    t: Tables, s: State, e: int, f: int, slot: int, sells: bool, row: np.ndarray, need: float, low: int, high: int
) -> int:
    """`respond`: ACCEPT, END, or OFFER for a rejection."""
    agent, partner, today = s.agent[e, f], s.partner[e, f, slot], s.world[e, DAY]
    quantity, day, price = row[OFFER_QUANTITY], row[OFFER_DAY], row[OFFER_PRICE]
    is_std, is_today = s.factory[e, f, POLICY] == GREEDY_STD, day == today
    if is_std:
        wanted = quantity <= need if is_today else day > today and quantity < _future_need(t, s, e, f, sells, day)
    else:
        if need <= 0:
            return END
        wanted = quantity <= need
    if not wanted:
        return OFFER
    is_future = is_std and not is_today
    if not is_future and t.world[s.world[e, ROW], N_ROUNDS] == 1:
        return END
    if is_future:
        low = int(high * FUTURE)
    low, high = _limits(s, e, f, slot, sells, low, high)
    gain = (FUTURE if is_future else _threshold(t, s, e, f, row[STEP])) * (high - low)
    good = price - low >= gain if sells else high - price >= gain
    if not is_future:
        if sells:
            agent[BEST_SELLING] = partner[BEST_OFFER] = max(float(price), agent[BEST_SELLING])
        else:
            agent[BEST_BUYING] = partner[BEST_OFFER] = min(float(price), agent[BEST_BUYING])
    return ACCEPT if good else OFFER


@lean
def _future_offer(t: Tables, s: State, e: int, f: int, sells: bool) -> tuple[int, int, float]:
    """The part of `best_offer` for a factory that needs nothing today.

    Returns:
        Quantity and day of an offer for the first day, in a random order, that it has a use for. Quantity 0 if there is
        none; then the third number is what the original takes for today's need: that of the last day it looked at.
    """
    w, today, last = s.world[e, ROW], s.world[e, DAY], last_day(t, s, e)
    days, n, lines, need = s.scratch[e, 0], 0, t.factory[w, f, LINES], 0.0
    for day in range(min(today, t.world[w, N_DAYS] - 1), last + 1):
        days[n] = day
        n += 1
    shuffle(s, e, f, days, n)
    for j in range(n):
        day = days[j]
        need = _future_need(t, s, e, f, sells, day)
        if need <= 0:
            continue
        most = max(min(need, float(t.world[w, QUANTITY_HIGH])), float(t.world[w, QUANTITY_LOW]))
        most = max(0.0, min(most, float(lines * (day - today))))
        if most < 1:
            continue
        least, top = max(1, int(0.5 + most * today / t.world[w, N_DAYS])), int(most)
        return (whole(s, e, f, least, top) if least < top else least), day, need
    return 0, today, need


@inlined
def greedy(t: Tables, s: State, e: int, i: int, side: int) -> None:
    """Decides for side `side` of thread `i`, and writes the answer into its block."""
    w, row = s.world[e, ROW], s.thread[e, i]
    thread, own, today = t.thread[w, i], SIDE + side * SIDE_SIZE, s.world[e, DAY]
    f, slot = int(thread[FIRST + side]), int(thread[SLOT_FIRST + side])
    sells, is_std = thread[SELLER] == f, s.factory[e, f, POLICY] == GREEDY_STD
    low, high = s.agenda[e, thread[PRODUCT], LOW], s.agenda[e, thread[PRODUCT], HIGH]
    need = _need(t, s, e, f, sells)
    if row[HAS_OFFER]:
        response = _answer(t, s, e, f, slot, sells, row, need, low, high)
        if response != OFFER:
            row[own + RESPONSE] = response
            return
    need = float(int(need))
    quantity, day = 0, today
    if t.world[w, N_ROUNDS] == 1 or (need <= 0 and not is_std):
        row[own + RESPONSE] = END
        return
    if need <= 0:
        quantity, day, need = _future_offer(t, s, e, f, sells)
    if quantity == 0:
        most = max(min(need, float(t.world[w, QUANTITY_HIGH])), float(t.world[w, QUANTITY_LOW]))
        if is_std:
            most = min(most, float(t.factory[w, f, LINES]))
        quantity = whole(s, e, f, max(1, int(0.5 + most * today / t.world[w, N_DAYS])), int(most))
    if is_std and day != today:
        low = int(high * FUTURE)
    low, high = _limits(s, e, f, slot, sells, low, high)
    gain = _threshold(t, s, e, f, row[STEP]) * (high - low)
    row[own + RESPONSE] = OFFER
    row[own + QUANTITY], row[own + TIME] = quantity, day
    row[own + PRICE] = int(low + gain) if sells else int(high - gain)
