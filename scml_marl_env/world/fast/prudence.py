"""Prudent, a strong simple policy: what it answers in a window, read from the `FactoryView` of a factory.

It keeps a small stock and sells only what is covered (SAFETY.md 1): its deals and all the offers that it has on the
table cannot together become more than it can make, nor its purchases more than it can pay. Within that it places as
much as partners allow, spread evenly over them, today first. It offers the best price of the agenda first and concedes
late, since most partners concede early, and accepts a worse price only when little time is left. Where production does
not consume stock, it buys a full day's material at once and at any price, and lives on it.

The kernel has no memory besides the view, draws nothing and allocates nothing. What it has promised in a window stands
in `answers` itself: a row for each thread, in which offers that still await an answer are copied first.
"""

import numpy as np

from scml_marl_env.actions import ACCEPT, END, OFFER
from scml_marl_env.kernels import inlined, lean
from scml_marl_env.view import (
    ALIVE,
    BALANCE,
    CONSERVING,
    DAY,
    DISPOSAL_RATE,
    EXOGENOUS_IN,
    EXOGENOUS_IN_COST,
    EXOGENOUS_OUT,
    EXOGENOUS_OUT_REVENUE,
    FIRST_MOVER,
    HAS_OFFER,
    IS_BUY,
    LAST_LEAD,
    LEVEL,
    MAX_QUANTITY,
    N_DAYS,
    N_LEVELS,
    N_LINES,
    N_ROUNDS,
    OFFER_LEAD,
    OFFER_PRICE,
    OFFER_QUANTITY,
    ON_TURN,
    PENDING,
    PERISHABLE,
    PRICE_HIGH,
    PRICE_LOW,
    PRODUCED_BEFORE,
    ROUND,
    SENT_LEAD,
    SENT_PRICE,
    SENT_QUANTITY,
    SHORTFALL_BEFORE,
    SHORTFALL_RATE,
    SIGNED_COST,
    SIGNED_IN,
    SIGNED_OUT,
    STOCK,
    STORAGE_RATE,
    TRADING_PRICE,
    UNIT_COST,
)

# Columns of the options; the defaults were measured in worlds of the default agents.
THETA = 0  # items in stock that it aims at, in days of full production; middle levels of conserving worlds at twice
EXPONENT = 1  # its offers have conceded (round / last round) ** exponent of the agenda's prices
ACCEPT_BUY = 2  # likewise, for the worst price that it accepts from suppliers; 0 accepts every price at once
ACCEPT_SELL = 3  # and from consumers
ACCEPT_FORCED = 4  # instead at the first level, whose inputs are forced and paid for anyway (see `_patience`)
OVER_BUY = 5  # items asked for beyond the need in the first round, as a share of n; falls to 0 by the last round
OVER_SELL = 6  # items offered beyond what is covered, likewise
N_OPTIONS = 7

DEFAULT_THETA = 1.0
DEFAULT_EXPONENT = 4.0
DEFAULT_ACCEPT_BUY = 4.0
DEFAULT_ACCEPT_SELL = 4.0
DEFAULT_ACCEPT_FORCED = 0.0
DEFAULT_OVER_BUY = 0.0
DEFAULT_OVER_SELL = 0.0

# Share of the remaining days on which an item in stock that production does not consume is used.
_USE = 0.5

# Operations of threads that are not decided yet.
_OPEN, _PASSED = -1, -2
_BUY, _SELL = 0, 1


@lean
def write_options(options: np.ndarray) -> None:
    """Writes the default options into the first numbers of `options`, float64 (>= N_OPTIONS,)."""
    options[THETA] = DEFAULT_THETA
    options[EXPONENT] = DEFAULT_EXPONENT
    options[ACCEPT_BUY] = DEFAULT_ACCEPT_BUY
    options[ACCEPT_SELL] = DEFAULT_ACCEPT_SELL
    options[ACCEPT_FORCED] = DEFAULT_ACCEPT_FORCED
    options[OVER_BUY] = DEFAULT_OVER_BUY
    options[OVER_SELL] = DEFAULT_OVER_SELL


@lean
def prudent_answers(view, b: int, options: np.ndarray, answers: np.ndarray) -> None:
    """Answers the window of a factory.

    Args:
        view: the `FactoryView`.
        b: its row.
        options: float64 (>= N_OPTIONS,), see `write_options`.
        answers: int64 (K, 4), becomes (operation, quantity, lead time, price) of each thread that is on turn; the
            other rows are scratch.
    """
    ints, floats, signed = view.ints[b], view.floats[b], view.signed[b]
    flags, threads = view.flags[b], view.threads[b]
    n_open = _copy_pending(flags, threads, answers)
    if n_open == 0:
        return
    now = _round(flags, threads)
    last_round = ints[N_ROUNDS] - 1
    done = min(1.0, now / last_round) if last_round > 0 else 1.0
    # The offer of a second mover is answered in the next round.
    next_round = now + 1 - ints[FIRST_MOVER]
    soon = min(1.0, next_round / last_round) if last_round > 0 else 1.0
    conceded = soon ** options[EXPONENT]
    over = (1.0 - done) * ints[N_LINES]
    missing = _missing(ints, floats, signed, options[THETA])
    need = _need(ints, signed, options[THETA], missing)
    conceded_buy, accepted = (1.0, 1.0) if missing > 0 else (conceded, soon ** options[ACCEPT_BUY])
    more = int(over * options[OVER_BUY])
    _buy(ints, floats, signed, flags, threads, answers, need, conceded_buy, accepted, more, soon == 1.0)
    accepted = soon ** options[_patience(ints)]
    first_day = 1 if missing > 0 else 0
    _sell(ints, floats, signed, flags, threads, answers, conceded, accepted, int(over * options[OVER_SELL]), first_day)
    for k in range(answers.shape[0]):
        if answers[k, 0] < 0:
            answers[k, 0] = END


@inlined
def _patience(ints) -> int:
    """The option that says which prices it accepts from consumers.

    What is forced on a factory of the first level is better sold cheaply than not at all. Only where production
    consumes stock can it wait: buyers come back, and what is unsold today is sold later.
    """
    return ACCEPT_FORCED if ints[LEVEL] == 0 and not ints[CONSERVING] else ACCEPT_SELL


@inlined
def _copy_pending(flags, threads, answers) -> int:
    """Prepares `answers`; the number of threads on turn."""
    n_open = 0
    for k in range(answers.shape[0]):
        answer = answers[k]
        answer[0] = END
        if k >= flags.shape[0] or not flags[k, ALIVE]:
            continue
        if flags[k, ON_TURN]:
            answer[0] = _OPEN
            n_open += 1
        elif flags[k, PENDING]:
            answer[0], answer[1] = OFFER, threads[k, SENT_QUANTITY]
            answer[2], answer[3] = threads[k, SENT_LEAD], threads[k, SENT_PRICE]
    return n_open


@inlined
def _round(flags, threads) -> int:
    now = 0
    for k in range(flags.shape[0]):
        if flags[k, ON_TURN]:
            now = max(now, threads[k, ROUND])
    return now


@lean
def _best_offer(flags, threads, answers, side: int) -> int:
    """The undecided thread of a side with the best price on its table, and among equals the most items; -1 if none."""
    best = -1
    for k in range(answers.shape[0]):
        if answers[k, 0] != _OPEN or flags[k, IS_BUY] != (side == _BUY) or not flags[k, HAS_OFFER]:
            continue
        if best < 0:
            best = k
            continue
        gain = threads[k, OFFER_PRICE] - threads[best, OFFER_PRICE]
        gain = -gain if side == _BUY else gain
        if gain > 0 or (gain == 0 and threads[k, OFFER_QUANTITY] > threads[best, OFFER_QUANTITY]):
            best = k
    return best


@lean
def _accept(threads, answers, k: int) -> None:
    answers[k, 0], answers[k, 1] = ACCEPT, threads[k, OFFER_QUANTITY]
    answers[k, 2], answers[k, 3] = threads[k, OFFER_LEAD], threads[k, OFFER_PRICE]


@lean
def _n_undecided(flags, answers, side: int) -> int:
    n = 0
    for k in range(answers.shape[0]):
        n += answers[k, 0] < 0 and flags[k, IS_BUY] == (side == _BUY)
    return n


@lean
def _missing(ints, floats, signed, theta: float) -> int:
    """Items to add to the stock at any price, where production does not consume it: they are free material every day.

    What arrives becomes stock only if today's production does not use it up. So the whole amount is bought at once, on
    top of today's sales, and only while the days that are left pay for it. The first level's stock comes by itself.
    """
    if ints[PERISHABLE] or ints[CONSERVING] or ints[LEVEL] == 0:
        return 0
    demand = min(ints[N_LINES], ints[EXOGENOUS_OUT] + signed[SIGNED_OUT, 0])
    missing = int(theta * ints[N_LINES] + 0.5) - ints[STOCK]
    missing -= max(0, ints[EXOGENOUS_IN] + signed[SIGNED_IN, 0] - demand)
    for d in range(1, ints[LAST_LEAD] + 1):
        missing -= max(0, signed[SIGNED_IN, d] - max(ints[EXOGENOUS_OUT], signed[SIGNED_OUT, d]))
    if missing <= 0:
        return 0
    gain = floats[TRADING_PRICE + 1] - ints[UNIT_COST]
    if ints[LEVEL] == ints[N_LEVELS] - 1:
        gain += floats[SHORTFALL_RATE] * floats[TRADING_PRICE + 1]
    days = ints[N_DAYS] - ints[DAY] - 1
    cost = floats[TRADING_PRICE] * (missing + min(demand, ints[STOCK]))
    return missing if _USE * gain * days * missing >= cost else 0


@lean
def _need(ints, signed, theta: float, missing: int) -> int:
    """Items to buy, all delivery days together; `missing` as of `_missing`."""
    lines, days_left = ints[N_LINES], ints[N_DAYS] - ints[DAY]
    demand = min(lines, ints[EXOGENOUS_OUT] + signed[SIGNED_OUT, 0])
    arriving = ints[EXOGENOUS_IN] + signed[SIGNED_IN, 0]
    need_today = demand - ints[STOCK] - arriving
    if missing > 0:
        return max(need_today, missing + max(0, demand - arriving))
    if ints[PERISHABLE] or days_left == 1 or not ints[CONSERVING]:
        return need_today
    there = ints[STOCK] + arriving - demand
    for d in range(1, ints[LAST_LEAD] + 1):
        there += signed[SIGNED_IN, d] - signed[SIGNED_OUT, d]
    if ints[LEVEL] == ints[N_LEVELS] - 1:
        seen = ints[EXOGENOUS_OUT] + ints[PRODUCED_BEFORE] + ints[SHORTFALL_BEFORE]
        usual = seen / (2.0 if ints[DAY] > 0 else 1.0)
    else:
        usual, theta = 0.5 * lines, 2 * theta  # it sells before it knows what it gets: only stock lets it sell ahead
    target = min(theta * lines, usual * (days_left - 1))
    return max(need_today, int(target + 0.5) - there)


@lean
def _purse(ints, floats, signed) -> float:
    """Dollars that purchases may cost: all that is signed is paid without revenue, and today's production too."""
    left = floats[BALANCE] - ints[EXOGENOUS_IN_COST]
    keep = floats[TRADING_PRICE] * (floats[STORAGE_RATE] + floats[DISPOSAL_RATE])
    left -= ints[UNIT_COST] * ints[N_LINES] + keep * (ints[STOCK] + ints[EXOGENOUS_IN] + ints[MAX_QUANTITY])
    for d in range(ints[LAST_LEAD] + 1):
        left -= signed[SIGNED_COST, d]
    return left


@lean
def _worth(ints, floats) -> float:
    """Dollars that an input item may cost."""
    gain = floats[TRADING_PRICE + 1] - ints[UNIT_COST]
    if ints[PERISHABLE] or ints[CONSERVING]:
        if ints[LEVEL] < ints[N_LEVELS] - 1:
            return gain
        if ints[EXOGENOUS_OUT] > 0:
            gain = ints[EXOGENOUS_OUT_REVENUE] / ints[EXOGENOUS_OUT] - ints[UNIT_COST]
        return gain + floats[SHORTFALL_RATE] * floats[TRADING_PRICE + 1]
    today = gain
    if ints[LEVEL] == ints[N_LEVELS] - 1:
        today += floats[SHORTFALL_RATE] * floats[TRADING_PRICE + 1]
    return max(today, _USE * gain * (ints[N_DAYS] - ints[DAY]))


@lean
def _buy(ints, floats, signed, flags, threads, answers, need, conceded, accepted, over, late) -> None:
    """Answers the suppliers: accepts what it needs, cheapest first, and asks for the rest in even parts, for today."""
    if _n_undecided(flags, answers, _BUY) == 0:
        return
    purse = _purse(ints, floats, signed)
    for k in range(answers.shape[0]):
        if answers[k, 0] == OFFER and flags[k, IS_BUY]:
            need -= answers[k, 1]
            purse -= answers[k, 1] * answers[k, 3]
    low, high = ints[PRICE_LOW], ints[PRICE_HIGH]
    worth = _worth(ints, floats)
    limit = min(worth, low + accepted * (high - low) + 0.5)
    while True:
        k = _best_offer(flags, threads, answers, _BUY)
        if k < 0:
            break
        answers[k, 0] = _PASSED
        quantity, price = threads[k, OFFER_QUANTITY], threads[k, OFFER_PRICE]
        if threads[k, OFFER_LEAD] > 0 and not late:
            continue
        if 0 < quantity <= need and price <= limit and quantity * price <= purse:
            _accept(threads, answers, k)
            need -= quantity
            purse -= quantity * price
    price = min(high, low + int(conceded * (high - low) + 0.5))
    if price > worth:
        price = int(worth)
    n, left = _n_undecided(flags, answers, _BUY), need + over if need > 0 else 0
    if price < low or n == 0:
        return
    for k in range(answers.shape[0]):
        if answers[k, 0] >= 0 or not flags[k, IS_BUY]:
            continue
        quantity = min((left + n - 1) // n, ints[MAX_QUANTITY], int(purse // price))
        n -= 1
        if quantity <= 0:
            continue
        answers[k, 0], answers[k, 1], answers[k, 2], answers[k, 3] = OFFER, quantity, 0, price
        left -= quantity
        purse -= quantity * price


@lean
def _room(ints, floats, signed, flags, answers, d: int) -> int:
    """Items that may still be sold for delivery in `d` days: covered whatever becomes of the offers on the table."""
    lines, forced_out = ints[N_LINES], ints[EXOGENOUS_OUT]
    there = ints[STOCK] + ints[EXOGENOUS_IN]
    left = floats[BALANCE] - ints[EXOGENOUS_IN_COST]
    promised, promised_all = 0, 0
    for k in range(answers.shape[0]):
        if answers[k, 0] > END and not flags[k, IS_BUY]:
            promised_all += answers[k, 1]
            if answers[k, 2] == d:
                promised += answers[k, 1]
    sold = signed[SIGNED_OUT, d] + (forced_out if d == 0 else 0)
    for j in range(d + 1):
        left -= signed[SIGNED_COST, j]
    can = min(lines, max(0, int(left // max(1, ints[UNIT_COST]))))
    if ints[CONSERVING] and not ints[PERISHABLE]:
        there -= forced_out
        least = 1 << 40
        for j in range(signed.shape[1]):
            there += signed[SIGNED_IN, j] - signed[SIGNED_OUT, j]
            if j >= d:
                least = min(least, there)
        return min(can - sold - promised, least - promised_all)
    if ints[PERISHABLE]:
        there += signed[SIGNED_IN, 0]
        return min(can, there) - sold - promised
    arrived = ints[EXOGENOUS_IN]
    there = ints[STOCK]
    for j in range(d):
        arrived += signed[SIGNED_IN, j]
        there += max(0, arrived - lines)
        arrived = 0
    return min(can, there + arrived + signed[SIGNED_IN, d]) - sold - promised


@lean
def _sell(ints, floats, signed, flags, threads, answers, conceded, accepted, over, first_day) -> None:
    """Answers the consumers: accepts what is covered, dearest first, and offers the rest in even parts, soonest first.

    Deliveries before `first_day` are not sold: what arrives today shall become stock.
    """
    if _n_undecided(flags, answers, _SELL) == 0:
        return
    low, high = ints[PRICE_LOW + 1], ints[PRICE_HIGH + 1]
    floor = float(ints[UNIT_COST])
    if ints[CONSERVING] and ints[LEVEL] > 0 and ints[N_DAYS] - ints[DAY] > 3:
        floor += floats[TRADING_PRICE]
    limit = max(floor, high - accepted * (high - low) - 0.5)
    while True:
        k = _best_offer(flags, threads, answers, _SELL)
        if k < 0:
            break
        answers[k, 0] = _PASSED
        quantity, lead = threads[k, OFFER_QUANTITY], threads[k, OFFER_LEAD]
        if lead < first_day or threads[k, OFFER_PRICE] < limit:
            continue
        if 0 < quantity <= _room(ints, floats, signed, flags, answers, lead):
            _accept(threads, answers, k)
    price = max(low, high - int(conceded * (high - low) + 0.5))
    if price < floor:
        price = int(np.ceil(floor))
    n = _n_undecided(flags, answers, _SELL)
    if price > high or n == 0:
        return
    for d in range(first_day, ints[LAST_LEAD] + 1):
        left = _room(ints, floats, signed, flags, answers, d) + (over if d == 0 else 0)
        if left <= 0:
            continue
        for k in range(answers.shape[0]):
            if answers[k, 0] >= 0 or flags[k, IS_BUY]:
                continue
            quantity = min((left + n - 1) // n, ints[MAX_QUANTITY])
            if quantity <= 0:
                break
            n -= 1
            answers[k, 0], answers[k, 1], answers[k, 2], answers[k, 3] = OFFER, quantity, d, price
            left -= quantity
        if n == 0:
            return
