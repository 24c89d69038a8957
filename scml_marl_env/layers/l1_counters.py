"""L1's counters: how unsafe answers are (U1, U2) and what a realised shortfall was due to (U3). SAFETY.md, section 3.

They judge answers as they are, on the grid or not, whatever shield chose or changed them: the same function audits a
policy before `settle`, after it, and an opponent of the competition.
"""

from typing import NamedTuple

import numpy as np

from scml_marl_env.actions import ACCEPT, END, N_PRICES, OFFER, WAIT
from scml_marl_env.kernels import inlined, kernel, lean
from scml_marl_env.layers.l1_bounds import write_limits
from scml_marl_env.layers.l1_factory import (
    ACTIVE,
    BUYS,
    BUYS_RESERVED,
    DOLLARS,
    GOES_ON,
    HOPE,
    IN,
    OFFER_LEAD,
    OFFER_PRICE,
    OFFER_QUANTITY,
    OUT,
    PENDING,
    ROOMS,
    SALES_RESERVED,
    SENT_LEAD,
    SENT_QUANTITY,
    Factory,
    Scratch,
    look,
    new_scratch,
)
from scml_marl_env.layers.l1_rooms import allows_today, inputs_today, money_of, purchase_fits, sale_fits, whole
from scml_marl_env.layers.l1_settle import (
    SOLD,
    Grid,
    cap_together,
    contract_of,
    hope_after,
    open_lots,
    reserve_purchase,
)

COUNTS = (
    "windows",  # with an answer
    "sell_accepts",
    "sell_offers",
    "buy_accepts",
    "buy_offers",
    "u1_sell_accepts",  # beyond the room of the grade, taken alone
    "u1_sell_offers",
    "u1_buy_accepts",  # beyond the money of the grade, taken alone
    "u1_buy_offers",
    "u2_accepts",  # windows whose acceptances, alone or together with what was pending, are beyond it
    "u2_windows",  # windows of which some part of acceptances, offers and what was pending is beyond it
    "ends_short",  # windows whose ENDs make a shortfall of today certain (legal, so counted apart)
    "leaves_short",  # windows whose ENDs and accepted purchases do: the last supplier is gone, or busy for another day
)
WINDOWS, FIRST_ANSWER, FIRST_U1, U2_ACCEPTS, U2_WINDOWS, ENDS_SHORT, LEAVES_SHORT = 0, 1, 5, 9, 10, 11, 12

CAUSES = ("fits", "room", "money_today", "budget")
FITS, ROOM, MONEY_TODAY, BUDGET = range(4)
"""What an answer is beyond: the items that can be sold, today's money (SCML's own test), the money until its day."""


class Answers(NamedTuple):
    """What the threads of a factory answer in a window; the contract of an acceptance is the one on the table."""

    operation: np.ndarray  # int64 (K,), WAIT, END, ACCEPT or OFFER
    lead: np.ndarray  # int64 (K,)
    quantity: np.ndarray  # int64 (K,)
    price: np.ndarray  # int64 (K,)


@kernel
def new_answers(n_slots: int) -> Answers:
    table = np.zeros((4, n_slots), np.int64)
    return Answers(table[0], table[1], table[2], table[3])


@kernel
def decode_answers(
    view, b: int, quantities: np.ndarray, n_price_levels: int, bounds: np.ndarray, action: np.ndarray
) -> Answers:
    """The answers of grid actions; wait for inactive threads, and for what lies outside the grid or the agenda.

    Args:
        view: `FactoryView`.
        b: which factory of it.
        quantities: int64 (Q,), of the action grid.
        n_price_levels: P of it.
        bounds: int32 (K, M), of `write_bounds` with the same view and any shield: only the agenda in them is read.
        action: int64 (K,).
    """
    answers = new_answers(action.shape[0])
    _decode_into(view, b, Grid(quantities, n_price_levels, bounds), action, answers, new_scratch(view))
    return answers


@lean
def _decode_into(view, b: int, grid: Grid, action: np.ndarray, answers: Answers, scratch: Scratch) -> None:
    read_answers(look(view, b, scratch), grid, action, answers)


@lean
def read_answers(f: Factory, grid: Grid, action: np.ndarray, answers: Answers) -> None:
    """Writes what `decode_answers` returns."""
    n_actions = OFFER + f.signed.shape[1] * grid.quantities.shape[0] * grid.n_price_levels
    for k in range(action.shape[0]):
        operation, lead, quantity, price = WAIT, 0, 0, 0
        if f.threads[k, ACTIVE] and WAIT < action[k] < n_actions:
            lead, quantity, price = contract_of(f, k, grid, action[k])
            operation = min(action[k], OFFER)
            level = (action[k] - OFFER) % grid.n_price_levels
            if operation == OFFER and (lead > f.last_lead or level >= grid.bounds[k, N_PRICES]):
                operation, lead, quantity, price = WAIT, 0, 0, 0
        answers.operation[k] = operation
        answers.lead[k], answers.quantity[k], answers.price[k] = lead, quantity, price


@kernel
def count_unsafe(view, b: int, shield: int, answers: Answers, counts: np.ndarray) -> None:
    """Adds a window to the counters of a grade.

    Several purchases for today are judged together by the sufficient rule of `settle`: their U2 is an upper bound.

    Args:
        view: `FactoryView` before the window.
        b: which factory of it.
        shield: the grade, FEASIBLE or COVERED.
        answers: of the factory's threads; whatever SCML would take.
        counts: int64 (len(COUNTS),), increased.
    """
    _count_with(view, b, shield, answers, counts, new_scratch(view))


@lean
def _count_with(view, b: int, shield: int, answers: Answers, counts: np.ndarray, scratch: Scratch) -> None:
    count_answers(look(view, b, scratch), shield, answers, counts)


@lean
def count_answers(f: Factory, shield: int, answers: Answers, counts: np.ndarray) -> None:
    """`count_unsafe` for a factory."""
    rooms, dollars = f.leads[ROOMS], f.leads[DOLLARS]
    n_ends, n_accepts, n_offers, unsafe_accept, unsafe = 0, 0, 0, False, False
    for side in range(2):
        if not _answers(f, side, answers):
            continue
        write_limits(f, side == 0, shield, False, rooms, dollars)
        for k in range(answers.operation.shape[0]):
            if not f.threads[k, ACTIVE] or f.threads[k, BUYS] == side or answers.operation[k] == WAIT:
                continue
            if answers.operation[k] == END:
                n_ends += 1
                continue
            accepts = answers.operation[k] == ACCEPT
            lead, quantity, price = _contract(f, k, answers)
            fits = _cause(f, side == 0, lead, quantity, price, rooms, dollars) == FITS
            column = 2 * (1 - side) + (0 if accepts else 1)
            counts[FIRST_ANSWER + column] += 1
            n_accepts += 1 if accepts else 0
            n_offers += 0 if accepts else 1
            if not fits:
                counts[FIRST_U1 + column] += 1
                unsafe = True
                unsafe_accept = unsafe_accept or accepts
    if n_ends + n_accepts + n_offers == 0:
        return
    counts[WINDOWS] += 1
    if n_accepts > 0 and not unsafe_accept:
        unsafe_accept = not _fits_together(f, shield, answers, True)
    if n_offers > 0 and not unsafe:
        unsafe = not _fits_together(f, shield, answers, False)
    counts[U2_ACCEPTS] += 1 if unsafe_accept else 0
    counts[U2_WINDOWS] += 1 if unsafe or (n_offers == 0 and unsafe_accept) else 0
    if n_ends + n_accepts == 0:
        return
    before = _certain_shortfall(f, answers, END - 1)
    counts[ENDS_SHORT] += 1 if _certain_shortfall(f, answers, END) > before else 0
    counts[LEAVES_SHORT] += 1 if _certain_shortfall(f, answers, ACCEPT) > before else 0


@kernel
def judge_answers(view, b: int, shield: int, answers: Answers, cause: np.ndarray, limit: np.ndarray) -> None:
    """Says of each answer, taken alone, what it is beyond (U1).

    Args:
        view: `FactoryView` before the window.
        b: which factory of it.
        shield: the grade, FEASIBLE or COVERED.
        answers: of the factory's threads.
        cause: int64 (K,), written: index into `CAUSES`; FITS where nothing is offered or accepted.
        limit: int64 (K,), written: items (ROOM) or dollars (BUDGET, MONEY_TODAY: the day's balance) that were left.
    """
    _judge_with(view, b, shield, answers, cause, limit, new_scratch(view))


@lean
def _judge_with(
    view, b: int, shield: int, answers: Answers, cause: np.ndarray, limit: np.ndarray, scratch: Scratch
) -> None:
    f = look(view, b, scratch)
    rooms, dollars = f.leads[ROOMS], f.leads[DOLLARS]
    cause[:] = FITS
    limit[:] = 0
    for side in range(2):
        if not _answers(f, side, answers):
            continue
        write_limits(f, side == 0, shield, False, rooms, dollars)
        for k in range(cause.shape[0]):
            if not f.threads[k, ACTIVE] or f.threads[k, BUYS] == side or answers.operation[k] < ACCEPT:
                continue
            lead, quantity, price = _contract(f, k, answers)
            cause[k] = _cause(f, side == 0, lead, quantity, price, rooms, dollars)
            if cause[k] == MONEY_TODAY:
                limit[k] = whole(f.balance)
            elif cause[k] != FITS:
                limit[k] = rooms[lead] if cause[k] == ROOM else dollars[lead]


@inlined
def _cause(
    f: Factory, buying: bool, lead: int, quantity: int, price: int, rooms: np.ndarray, dollars: np.ndarray
) -> int:
    """What a contract, taken alone, is beyond."""
    if quantity > rooms[lead]:
        return ROOM
    if buying and lead == 0 and not allows_today(f, price, quantity, f.signed[OUT, 0] + f.forced_out):
        return MONEY_TODAY
    return FITS if quantity * price <= dollars[lead] else BUDGET


@inlined
def _answers(f: Factory, side: int, answers: Answers) -> bool:
    """Whether a thread of a side answers."""
    for k in range(answers.operation.shape[0]):
        if f.threads[k, ACTIVE] and f.threads[k, BUYS] != side and answers.operation[k] != WAIT:
            return True
    return False


@inlined
def _contract(f: Factory, k: int, answers: Answers) -> tuple[int, int, int]:
    if answers.operation[k] == ACCEPT:
        return f.threads[k, OFFER_LEAD], f.threads[k, OFFER_QUANTITY], f.threads[k, OFFER_PRICE]
    return answers.lead[k], answers.quantity[k], answers.price[k]


@lean
def _fits_together(f: Factory, shield: int, answers: Answers, accepts_only: bool) -> bool:
    """Whether the window's acceptances (and offers) fit together, and with the offers that were pending before."""
    reserved, sold, lots = f.leads[BUYS_RESERVED], f.leads[SALES_RESERVED], f.lots
    reserved[:] = 0
    sold[:] = 0
    lots[:] = 0
    open_lots(f, lots, reserved)
    hoped = 0
    for k in range(answers.operation.shape[0]):
        thread, operation = f.threads[k], answers.operation[k]
        lead, quantity, _ = _contract(f, k, answers)
        refused = operation == OFFER and accepts_only and thread[ACTIVE] and thread[BUYS]
        if refused:
            hoped += f.max_quantity if thread[GOES_ON] else 0
        else:
            hoped += hope_after(f, k, operation, lead, quantity)
        if not thread[BUYS] and thread[PENDING]:
            sold[thread[SENT_LEAD]] += thread[SENT_QUANTITY]
        elif _counts(f, k, answers, False, accepts_only) and lead == 0:
            lots[SOLD] += quantity
    money, inputs = money_of(f, shield), inputs_today(f, shield, hoped)
    for k in range(answers.operation.shape[0]):
        lead, quantity, price = _contract(f, k, answers)
        if _counts(f, k, answers, True, accepts_only):
            if not purchase_fits(money, reserved, lead, quantity * price):
                return False
            if lead == 0 and cap_together(f, price, quantity, lots) < quantity:
                return False
            reserve_purchase(lead, quantity, price, lots, reserved)
        elif _counts(f, k, answers, False, accepts_only):
            if not sale_fits(f, shield, inputs, sold, lead, quantity, f.leads[ROOMS]):
                return False
            sold[lead] += quantity
    return True


@inlined
def _counts(f: Factory, k: int, answers: Answers, buying: bool, accepts_only: bool) -> bool:
    """Whether thread `k` of a side brings a contract by this window."""
    if not f.threads[k, ACTIVE] or (f.threads[k, BUYS] == 1) != buying:
        return False
    return answers.operation[k] == ACCEPT or (answers.operation[k] == OFFER and not accepts_only)


@inlined
def _certain_shortfall(f: Factory, answers: Answers, up_to: int) -> int:
    """Today's least shortfall with what is signed, once the answers of operations up to `up_to` have closed threads."""
    inputs = f.stock + f.forced_in + f.signed[IN, 0]
    for k in range(answers.operation.shape[0]):
        operation = answers.operation[k]
        if f.threads[k, ACTIVE] and WAIT < operation <= up_to:
            lead, quantity, _ = _contract(f, k, answers)
            inputs += hope_after(f, k, operation, lead, quantity)
        else:
            inputs += f.threads[k, HOPE]
    return max(0, f.signed[OUT, 0] + f.forced_out - min(f.lines, inputs))


class Shortfall(NamedTuple):
    """Items sold and not delivered on a day, by what they were due to; the sum is the simulator's own number."""

    negotiated: int
    exogenous: int
    money: int
    bankruptcy: int


@kernel
def attribute_shortfall(
    negotiated: int, exogenous: int, inputs: int, produced: int, lines: int, lost: int
) -> Shortfall:
    """Splits a day's shortfall into its causes (U3).

    What money kept from being produced comes first; then what contracts with bankrupt suppliers would have allowed; of
    the rest, negotiated sales beyond what could be made are to blame for as much as they are beyond it, exogenous ones
    for what remains (a factory is never asked about those).

    Args:
        negotiated: items due today by negotiated sales.
        exogenous: items due today by exogenous sales.
        inputs: items there today: stock and all that arrived.
        produced: items produced, by the simulator.
        lines: n_lines.
        lost: items of purchases due until today that became void with their supplier.
    """
    due = negotiated + exogenous
    possible = min(lines, inputs)
    money = min(due, possible) - produced
    bankruptcy = min(due, min(lines, inputs + lost)) - min(due, possible)
    rest = due - produced - money - bankruptcy
    to_blame = min(rest, max(0, negotiated - possible - bankruptcy))
    return Shortfall(to_blame, rest - to_blame, money, bankruptcy)
