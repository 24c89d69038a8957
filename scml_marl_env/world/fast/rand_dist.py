"""Twins of scml's RandDistOneShotAgent and EqualDistOneShotAgent, which its SyncRandomOneShotAgent equals.

They accept the set of offers whose total comes nearest to what they need if that is near enough, and else spread their
needs over all partners of today, those whose negotiation is over included. Zero quantities are not allowed, as in every
official world.
"""

import numpy as np

from scml_marl_env.kernels import inlined, lean
from scml_marl_env.world.fast.account import is_first, needed_sales, needed_supplies, negotiates
from scml_marl_env.world.fast.chance import uniform, whole
from scml_marl_env.world.fast.columns import (
    ACCEPT,
    COLLECTED,
    DAY,
    END,
    EQUAL_DIST,
    FIRST,
    HIGH,
    LEVEL,
    LINES,
    LOW,
    N_ROUNDS,
    N_SUPPLIERS,
    OFFER,
    OFFER_QUANTITY,
    POLICY,
    PRICE,
    QUANTITY,
    RESPONSE,
    ROW,
    RUNNING,
    SIDE,
    SIDE_SIZE,
    STEP,
    TIME,
    State,
    Tables,
)
from scml_marl_env.world.fast.distribute import NO_LIMIT, distribute

# Columns of `State.agent`. Exponents are kept there so that no compiler replaces a power by a product.
MISMATCH = 0  # items by which an accepted total may miss the need in the last round
MISMATCH_EXPONENT = 1
ORDER_EXPONENT = 2
ORDER_MAX = 0.2  # fraction of the needs that is ordered beyond them in the first round, and in the last one
ORDER_MIN = 0.0
# Rows of `State.scratch`; the first two go by slot, the rest are lists.
RESPONSES, QUANTITIES, PARTS, SLOTS, OFFERED, SORTED = range(6)


@lean
def begin_rand_dist(t: Tables, s: State, e: int, f: int) -> None:
    """Sets the agent's parameters; it draws none."""
    agent = s.agent[e, f]
    agent[MISMATCH] = 0.3 * t.factory[s.world[e, ROW], f, LINES]
    agent[MISMATCH_EXPONENT], agent[ORDER_EXPONENT] = 4.0, 0.4


@lean
def _distribute_needs(t: Tables, s: State, e: int, f: int, time: float) -> None:
    """`distribute_needs`: an OFFER of some quantity, or END, into RESPONSES and QUANTITIES of all partners of today."""
    n_suppliers = t.factory[s.world[e, ROW], f, N_SUPPLIERS]
    responses, quantities = s.scratch[e, RESPONSES], s.scratch[e, QUANTITIES]
    parts, slots = s.scratch[e, PARTS], s.scratch[e, SLOTS]
    for sells in range(2):
        needs, n = needed_sales(t, s, e, f) if sells else needed_supplies(t, s, e, f), 0
        for k in range(n_suppliers if sells else 0, t.slot.shape[2] if sells else n_suppliers):
            if negotiates(t, s, e, f, k):
                slots[n], parts[n] = k, 0
                n += 1
        if needs > 0 and n > 0:
            extra = ORDER_MAX - (ORDER_MAX - ORDER_MIN) * (time ** s.agent[e, f, ORDER_EXPONENT])
            equal = s.factory[e, f, POLICY] == EQUAL_DIST
            distribute(s.random[e], f, parts, int(needs * (1 + extra)), n, NO_LIMIT, False, equal, False)
        for j in range(n):
            responses[slots[j]], quantities[slots[j]] = OFFER if parts[j] > 0 else END, parts[j]


@inlined
def _write(t: Tables, s: State, e: int, f: int, k: int, price: int) -> None:
    """Writes the answer of slot `k` into its thread, if that is running."""
    w = s.world[e, ROW]
    i = t.slot[w, f, k]
    if i < 0 or not s.thread[e, i, RUNNING]:
        return
    block = s.thread[e, i, (SIDE if t.thread[w, i, FIRST] == f else SIDE + SIDE_SIZE) :]
    block[RESPONSE] = s.scratch[e, RESPONSES, k]
    if block[RESPONSE] == OFFER:
        block[QUANTITY], block[TIME], block[PRICE] = s.scratch[e, QUANTITIES, k], s.world[e, DAY], price


@inlined
def first_rand_dist(t: Tables, s: State, e: int, f: int) -> None:
    """`first_proposals`: today's needs at the best price."""
    level = t.factory[s.world[e, ROW], f, LEVEL]
    price = s.agenda[e, level + 1, HIGH] if is_first(t, s, e, f) else s.agenda[e, level, LOW]
    _distribute_needs(t, s, e, f, 0.0)
    for k in range(t.slot.shape[2]):
        _write(t, s, e, f, k, price)


@lean
def nearest(offered: np.ndarray, ordered: np.ndarray, n: int, needs: int) -> tuple[int, int]:
    """The set of offers whose total comes nearest to `needs`: larger sets first, then the last in dictionary order.

    Args:
        offered: int64 (n or more,), quantities.
        ordered: the same, ascending.
        n: offers, fewer than 62.
        needs: items.

    Returns:
        The set, bit n - 1 - j for offer j, and by how much its total misses `needs`. Of equally near ones the first in
        the order of `list(powerset(range(n)))[::-1]`.
    """
    best, best_miss = 0, 1 << 60
    for size in range(n, -1, -1):
        low = high = 0
        for j in range(size):
            low += ordered[j]
            high += ordered[n - 1 - j]
        bound = max(0, low - needs, needs - high)
        chosen = (1 << size) - 1  # sets of one size, backwards in dictionary order, are ascending numbers
        while chosen < 1 << n and bound < best_miss:
            total = 0
            for j in range(n):
                if chosen >> (n - 1 - j) & 1:
                    total += offered[j]
            miss = abs(total - needs)
            if miss < best_miss:
                best, best_miss = chosen, miss
            if size == 0:
                break
            lowest = chosen & -chosen
            carried = chosen + lowest
            chosen = ((carried ^ chosen) >> 2) // lowest | carried  # the next number with as many bits
    return best, best_miss


@inlined
def counter_rand_dist(t: Tables, s: State, e: int, f: int) -> None:
    """`counter_all` for the collected offers, all for today, with an answer for every running thread."""
    w, level = s.world[e, ROW], t.factory[s.world[e, ROW], f, LEVEL]
    n_slots, n_suppliers, n_rounds = t.slot.shape[2], t.factory[w, f, N_SUPPLIERS], t.world[w, N_ROUNDS]
    slots, offered, ordered = s.scratch[e, SLOTS], s.scratch[e, OFFERED], s.scratch[e, SORTED]
    step = n_rounds
    for k in range(n_slots):
        s.scratch[e, RESPONSES, k] = END
        if _is_collected(t, s, e, f, k):
            step = min(step, int(s.thread[e, t.slot[w, f, k], STEP]))
    time = (step + 1) / (n_rounds + 1)
    allowed = s.agent[e, f, MISMATCH] * (time ** s.agent[e, f, MISMATCH_EXPONENT])
    price = 0
    for sells in range(2):
        needs, n = needed_sales(t, s, e, f) if sells else needed_supplies(t, s, e, f), 0
        agenda = s.agenda[e, level + sells]
        side_price = whole(s, e, f, agenda[LOW], agenda[HIGH])
        for k in range(n_suppliers if sells else 0, n_slots if sells else n_suppliers):
            if _is_collected(t, s, e, f, k):
                quantity = int(s.thread[e, t.slot[w, f, k], OFFER_QUANTITY])
                slots[n], offered[n] = k, quantity
                j = n
                while j > 0 and ordered[j - 1] > quantity:
                    ordered[j] = ordered[j - 1]
                    j -= 1
                ordered[j] = quantity
                n += 1
        for _ in range(n - 1):  # the original shuffles its partners, and then makes a set of them
            uniform(s, e, f)
        best, miss = nearest(offered, ordered, n, needs)
        if miss <= allowed:
            for j in range(n):
                s.scratch[e, RESPONSES, slots[j]] = ACCEPT if best >> (n - 1 - j) & 1 else END
        else:
            _distribute_needs(t, s, e, f, time)
            price = side_price
    for k in range(n_slots):
        _write(t, s, e, f, k, price)


@inlined
def _is_collected(t: Tables, s: State, e: int, f: int, k: int) -> bool:
    """Whether slot `k` holds an offer that is to be answered now."""
    w = s.world[e, ROW]
    i = t.slot[w, f, k]
    if i < 0 or not s.thread[e, i, RUNNING]:
        return False
    return s.thread[e, i, (SIDE if t.thread[w, i, FIRST] == f else SIDE + SIDE_SIZE) + COLLECTED] != 0
