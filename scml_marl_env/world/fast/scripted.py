"""Who decides for a scripted factory: exact twins of the default agents of SCML's generator, by `columns.POLICY`.

Given the same account, offers and random numbers (`chance`), a twin decides as its original in scml does, and draws as
often. Where an original goes through a set of partners, the twin goes through them in the order of slots.
"""

from scml_marl_env.kernels import inlined, lean
from scml_marl_env.world.fast.account import last_day
from scml_marl_env.world.fast.chance import uniform, whole
from scml_marl_env.world.fast.columns import (
    ACCEPT,
    DAY,
    END,
    EQUAL_DIST,
    FIRST,
    GREEDY_ONESHOT,
    GREEDY_STD,
    HAS_OFFER,
    HIGH,
    IS_FIRST,
    LOW,
    N_DAYS,
    OFFER,
    POLICY,
    PRICE,
    PRODUCT,
    QUANTITY,
    QUANTITY_HIGH,
    QUANTITY_LOW,
    RAND_DIST,
    RANDOM_ONESHOT,
    RANDOM_STD,
    RESPONSE,
    ROW,
    SIDE,
    SIDE_SIZE,
    SYNC_RANDOM_STD,
    TIME,
    State,
    Tables,
)
from scml_marl_env.world.fast.greedy import begin_greedy, begin_greedy_day, greedy, note_greedy_deal
from scml_marl_env.world.fast.rand_dist import begin_rand_dist, counter_rand_dist, first_rand_dist
from scml_marl_env.world.fast.sync_random import begin_sync_random, counter_sync_random, first_sync_random

P_ACCEPT, P_END = 0.1, 0.005


@inlined
def is_sync(policy: int) -> bool:
    """Whether an agent waits for the offers of all its partners and answers them at once (SCML's sync controllers)."""
    return policy in (SYNC_RANDOM_STD, RAND_DIST, EQUAL_DIST)


@inlined
def is_greedy(policy: int) -> bool:
    """Whether it is one of the two agents of `greedy`."""
    return policy in (GREEDY_STD, GREEDY_ONESHOT)


@lean
def begin_agent(t: Tables, s: State, e: int, f: int) -> None:
    """Before day 0: the agent's parameters and an empty memory."""
    policy = s.factory[e, f, POLICY]
    if is_greedy(policy):
        begin_greedy(t, s, e, f)
    elif policy == SYNC_RANDOM_STD:
        begin_sync_random(s, e, f)
    elif is_sync(policy):
        begin_rand_dist(t, s, e, f)


@lean
def begin_day(t: Tables, s: State, e: int, f: int) -> None:
    """Before the negotiations of a day."""
    if is_greedy(s.factory[e, f, POLICY]):
        begin_greedy_day(t, s, e, f)


@lean
def on_deal(t: Tables, s: State, e: int, f: int, slot: int, is_sale: bool, quantity: int, day: int, price: int) -> None:
    """A negotiation of factory `f` ended in a contract."""
    if is_greedy(s.factory[e, f, POLICY]):
        note_greedy_deal(s, e, f, slot, is_sale, price)


@lean
def decide(t: Tables, s: State, e: int, i: int, side: int) -> None:
    """Decides for one side of thread `i`, for an agent that is not sync.

    Writes RESPONSE and, with an OFFER, QUANTITY, TIME and PRICE into the block of that side. Where an offer stands on
    the table it is answered, else a first one is made.
    """
    f = t.thread[s.world[e, ROW], i, FIRST + side]
    policy = s.factory[e, f, POLICY]
    if is_greedy(policy):
        greedy(t, s, e, i, side)
    elif policy in (RANDOM_STD, RANDOM_ONESHOT):
        _random(t, s, e, i, side, f, policy)
    else:
        s.thread[e, i, SIDE + side * SIDE_SIZE + RESPONSE] = END


@inlined
def _random(t: Tables, s: State, e: int, i: int, side: int, f: int, policy: int) -> None:
    """RandomStdAgent and RandomOneShotAgent, which draw once or twice for an answer."""
    w, row, own = s.world[e, ROW], s.thread[e, i], SIDE + side * SIDE_SIZE
    if row[HAS_OFFER]:
        number = uniform(s, e, f)
        if number < P_END:
            row[own + RESPONSE] = END
            return
        limit = P_ACCEPT + P_END
        if policy == RANDOM_STD:
            number, limit = uniform(s, e, f), P_ACCEPT
        if number < limit:
            row[own + RESPONSE] = ACCEPT
            return
    agenda = s.agenda[e, t.thread[w, i, PRODUCT]]
    row[own + RESPONSE] = OFFER
    row[own + QUANTITY] = whole(s, e, f, t.world[w, QUANTITY_LOW], t.world[w, QUANTITY_HIGH])
    row[own + TIME] = whole(s, e, f, min(s.world[e, DAY], t.world[w, N_DAYS] - 1), last_day(t, s, e))
    row[own + PRICE] = whole(s, e, f, agenda[LOW], agenda[HIGH])


@lean
def decide_all(t: Tables, s: State, e: int, f: int) -> None:
    """Decides for all running threads of a sync agent at once, and writes their answers as `decide` does.

    With `IS_FIRST` these are first proposals, whatever stands on the tables; else the collected offers are answered,
    and threads without one end.
    """
    is_first = s.world[e, IS_FIRST] == 1
    if s.factory[e, f, POLICY] == SYNC_RANDOM_STD:
        if is_first:
            first_sync_random(t, s, e, f)
        else:
            counter_sync_random(t, s, e, f)
    elif is_first:
        first_rand_dist(t, s, e, f)
    else:
        counter_rand_dist(t, s, e, f)
