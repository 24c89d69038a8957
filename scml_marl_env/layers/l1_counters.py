"""L1's counters: how unsafe answers are (U1, U2) and what a realised shortfall was due to (U3). SAFETY.md, section 3.

They judge answers as they are, on the grid or not, whatever shield chose or changed them: the same function audits a
policy before `settle`, after it, and an opponent of the competition.
"""

from typing import NamedTuple

import numpy as np

from scml_marl_env.actions import ACCEPT, END, N_PRICES, OFFER, WAIT
from scml_marl_env.kernels import kernel
from scml_marl_env.layers.l1_bounds import write_limits
from scml_marl_env.layers.l1_factory import (
    ACTIVE,
    BUYS,
    GOES_ON,
    HOPE,
    IN,
    OFFER_LEAD,
    OFFER_PRICE,
    OFFER_QUANTITY,
    OUT,
    PENDING,
    SENT_LEAD,
    SENT_QUANTITY,
    Factory,
    look,
)
from scml_marl_env.layers.l1_rooms import allows_today, inputs_today, money_of, write_budgets, write_sale_rooms
from scml_marl_env.layers.l1_settle import (
    SOLD,
    Grid,
    cap_together,
    contract_of,
    hope_after,
    no_limits,
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


class Answers(NamedTuple):
    """What the threads of a factory answer in a window; the contract of an acceptance is the one on the table."""

    operation: np.ndarray  # int64 (K,), WAIT, END, ACCEPT or OFFER
    lead: np.ndarray  # int64 (K,)
    quantity: np.ndarray  # int64 (K,)
    price: np.ndarray  # int64 (K,)


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
    f = look(view, b)
    grid = Grid(quantities, n_price_levels, bounds)
    table = np.zeros((4, action.shape[0]), np.int64)
    n_actions = OFFER + f.signed.shape[1] * quantities.shape[0] * n_price_levels
    for k in range(action.shape[0]):
        if not f.threads[k, ACTIVE] or action[k] <= WAIT or action[k] >= n_actions:
            continue
        lead, quantity, price = contract_of(f, k, grid, action[k])
        if action[k] >= OFFER and (lead > f.last_lead or (action[k] - OFFER) % n_price_levels >= bounds[k, N_PRICES]):
            continue
        table[0, k] = min(action[k], OFFER)
        table[1, k], table[2, k], table[3, k] = lead, quantity, price
    return Answers(table[0], table[1], table[2], table[3])


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
    f = look(view, b)
    n_leads = f.signed.shape[1]
    rooms, dollars = np.empty(n_leads, np.int64), np.empty(n_leads, np.int64)
    answered, unsafe_accept, unsafe = False, False, False
    for side in range(2):
        write_limits(f, side == 0, shield, False, rooms, dollars)
        for k in range(answers.operation.shape[0]):
            if not f.threads[k, ACTIVE] or f.threads[k, BUYS] == side or answers.operation[k] == WAIT:
                continue
            answered = True
            if answers.operation[k] == END:
                continue
            lead, quantity, price = _contract(f, k, answers)
            fits = quantity <= rooms[lead] and quantity * price <= dollars[lead]
            if fits and side == 0 and lead == 0:
                fits = allows_today(f, price, quantity, f.signed[OUT, 0] + f.forced_out)
            column = 2 * (1 - side) + (0 if answers.operation[k] == ACCEPT else 1)
            counts[FIRST_ANSWER + column] += 1
            if not fits:
                counts[FIRST_U1 + column] += 1
                unsafe = True
                unsafe_accept = unsafe_accept or answers.operation[k] == ACCEPT
    if not answered:
        return
    counts[WINDOWS] += 1
    counts[U2_ACCEPTS] += 1 if unsafe_accept or not _fits_together(f, shield, answers, True) else 0
    counts[U2_WINDOWS] += 1 if unsafe or not _fits_together(f, shield, answers, False) else 0
    before = _certain_shortfall(f, answers, END - 1)
    counts[ENDS_SHORT] += 1 if _certain_shortfall(f, answers, END) > before else 0
    counts[LEAVES_SHORT] += 1 if _certain_shortfall(f, answers, ACCEPT) > before else 0


@kernel
def _contract(f: Factory, k: int, answers: Answers) -> tuple[int, int, int]:
    if answers.operation[k] == ACCEPT:
        return f.threads[k, OFFER_LEAD], f.threads[k, OFFER_QUANTITY], f.threads[k, OFFER_PRICE]
    return answers.lead[k], answers.quantity[k], answers.price[k]


@kernel
def _fits_together(f: Factory, shield: int, answers: Answers, accepts_only: bool) -> bool:
    """Whether the window's acceptances (and offers) fit together, and with the offers that were pending before."""
    n_leads = f.signed.shape[1]
    limits, reserved, sold = no_limits(f), np.zeros(n_leads, np.int64), np.zeros(n_leads, np.int64)
    open_lots(f, limits.lots, reserved)
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
            limits.lots[SOLD] += quantity
    money, inputs = money_of(f, shield), inputs_today(f, shield, hoped)
    for k in range(answers.operation.shape[0]):
        lead, quantity, price = _contract(f, k, answers)
        if _counts(f, k, answers, True, accepts_only):
            write_budgets(money, reserved, limits.dollars)
            if quantity * price > limits.dollars[lead]:
                return False
            if lead == 0 and cap_together(f, price, quantity, limits.lots) < quantity:
                return False
            reserve_purchase(lead, quantity, price, limits.lots, reserved)
        elif _counts(f, k, answers, False, accepts_only):
            write_sale_rooms(f, shield, inputs, sold, limits.rooms)
            if quantity > limits.rooms[lead]:
                return False
            sold[lead] += quantity
    return True


@kernel
def _counts(f: Factory, k: int, answers: Answers, buying: bool, accepts_only: bool) -> bool:
    """Whether thread `k` of a side brings a contract by this window."""
    if not f.threads[k, ACTIVE] or (f.threads[k, BUYS] == 1) != buying:
        return False
    return answers.operation[k] == ACCEPT or (answers.operation[k] == OFFER and not accepts_only)


@kernel
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
