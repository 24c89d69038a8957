"""What SCML's agent-world interface (AWI) tells a factory about itself (SEMANTICS.md f), from the arrays."""

import numpy as np

from scml_marl_env.kernels import inlined
from scml_marl_env.world.fast.columns import (
    BANKRUPT,
    BUYER,
    DAY,
    DUE_IN,
    DUE_OUT,
    EXO_IN,
    EXO_OUT,
    HORIZON,
    LEVEL,
    LINES,
    N_DAYS,
    N_PRODUCTS,
    N_SUPPLIERS,
    PERISHABLE,
    ROW,
    SELLER,
    STOCK,
    TODAY,
    State,
    Tables,
)


@inlined
def is_first(t: Tables, s: State, e: int, f: int) -> bool:
    """Whether it buys raw material, from the system only."""
    return t.factory[s.world[e, ROW], f, LEVEL] == 0


@inlined
def is_last(t: Tables, s: State, e: int, f: int) -> bool:
    """Whether it sells the final product, to the system only."""
    w = s.world[e, ROW]
    return t.factory[w, f, LEVEL] == t.world[w, N_PRODUCTS] - 2


@inlined
def is_middle(t: Tables, s: State, e: int, f: int) -> bool:
    """Whether it negotiates on both sides."""
    w = s.world[e, ROW]
    return 0 < t.factory[w, f, LEVEL] < t.world[w, N_PRODUCTS] - 2


@inlined
def place_of(t: Tables, s: State, e: int, day: int) -> int:
    """Where a delivery day, today or less than H days later, lies in a ring of days: `day` modulo H, undivided."""
    world = s.world[e]
    place, ring = world[TODAY] + day - world[DAY], t.world[world[ROW], HORIZON] + 1
    return place - ring if place >= ring else place


@inlined
def due(t: Tables, s: State, e: int, f: int, way: int, day: int) -> int:
    """Items that it buys (`way` DUE_IN) or sells (DUE_OUT) by contracts for `day`, today or later."""
    return s.due[e, f, way, place_of(t, s, e, day)]


@inlined
def surplus(t: Tables, s: State, e: int, f: int) -> int:
    """Inputs that it has today beyond what it has sold; negative where they are short."""
    factory, day = s.factory[e, f], s.world[e, DAY]
    have = factory[EXO_IN] + factory[STOCK] + due(t, s, e, f, DUE_IN, day)
    return have - due(t, s, e, f, DUE_OUT, day) - factory[EXO_OUT]


@inlined
def needed_sales(t: Tables, s: State, e: int, f: int) -> int:
    """Items that it has still to sell today."""
    w = s.world[e, ROW]
    if is_last(t, s, e, f):
        return 0
    need = surplus(t, s, e, f)
    return min(t.factory[w, f, LINES], need) if t.world[w, PERISHABLE] else need


@inlined
def needed_supplies(t: Tables, s: State, e: int, f: int) -> int:
    """Items that it has still to buy today."""
    w = s.world[e, ROW]
    if is_first(t, s, e, f):
        return 0
    need = -surplus(t, s, e, f)
    return min(t.factory[w, f, LINES], need) if t.world[w, PERISHABLE] else need


@inlined
def last_day(t: Tables, s: State, e: int) -> int:
    """The last delivery day of today's agendas."""
    w = s.world[e, ROW]
    return min(s.world[e, DAY] + t.world[w, HORIZON], t.world[w, N_DAYS] - 1)


@inlined
def negotiates(t: Tables, s: State, e: int, f: int, k: int) -> bool:
    """Whether slot `k` has a negotiation today, running or over: neither factory was bankrupt in the morning."""
    w = s.world[e, ROW]
    i = t.slot[w, f, k]
    if i < 0:
        return False
    partner = t.thread[w, i, BUYER] + t.thread[w, i, SELLER] - f
    return not s.factory[e, partner, BANKRUPT]


@inlined
def partners(t: Tables, s: State, e: int, f: int, out: np.ndarray) -> int:
    """Writes the slots that negotiate today in the order in which SCML made their threads; how many."""
    w = s.world[e, ROW]
    n_slots, n_suppliers, n = t.slot.shape[2], t.factory[w, f, N_SUPPLIERS], 0
    # A factory that is called, not calling, has its consumers' threads first (SEMANTICS.md c.1).
    swap = 0 < n_suppliers < n_slots and -1 < t.slot[w, f, n_suppliers] < t.slot[w, f, 0]
    for part in range(2):
        consumers = (part == 1) != swap
        for k in range(n_suppliers if consumers else 0, n_slots if consumers else n_suppliers):
            if negotiates(t, s, e, f, k):
                out[n] = k
                n += 1
    return n
