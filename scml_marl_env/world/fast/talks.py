"""The negotiations of a day, in SCML's very order: passes over all threads, sync agents that wait for all their offers.

A pass steps every living thread once. In a step the first factory answers, then the second (SEMANTICS.md c.3, c.4). A
sync agent answers WAIT until it holds an offer of every living thread of its own; then all its threads are decided at
once (c.5). The step of a thread in which somebody waits goes on at the next pass. This order decides in which order
contracts are signed, so it is kept literally.

Replay: a factory whose policy is REPLAY answers what a recording says, and every step and end is compared with it.
"""

from typing import NamedTuple

import numpy as np

from scml_marl_env.kernels import inlined, lean
from scml_marl_env.view import FactoryView
from scml_marl_env.world.fast import see
from scml_marl_env.world.fast.account import place_of
from scml_marl_env.world.fast.columns import (
    ACCEPT,
    BUYER,
    COLLECTED,
    CONTRACT_NEXT,
    CONTRACT_PRICE,
    CONTRACT_QUANTITY,
    DAY,
    DUE_IN,
    DUE_OUT,
    END,
    END_OF_TALK,
    EXTERNAL,
    FAULT,
    FIRST,
    HAS_OFFER,
    HAS_PROPOSED,
    HEAD,
    HIGH,
    HORIZON,
    IS_FIRST,
    LAST_NUMBER,
    LOW,
    MOVE,
    N_ALIVE,
    N_COLLECTED,
    N_DAYS,
    N_FACTORIES,
    N_LISTED,
    N_ROUNDS,
    N_WAITS,
    NEXT,
    NO_ANSWER,
    NOTHING,
    OFFER,
    OFFER_DAY,
    OFFER_PRICE,
    OFFER_QUANTITY,
    POLICY,
    POSITION,
    PRICE,
    PRODUCT,
    PROPOSER,
    PRUDENT,
    QUANTITY,
    QUANTITY_HIGH,
    QUANTITY_LOW,
    REPLAY,
    RESPONSE,
    ROW,
    RUNNING,
    SELLER,
    SIDE,
    SIDE_SIZE,
    SLOT_FIRST,
    STEP,
    TAIL,
    TIME,
    TODAY,
    VIEW,
    WAITS,
    WINDOW,
    State,
    Tables,
)
from scml_marl_env.world.fast.prudence import prudent_answers
from scml_marl_env.world.fast.scripted import decide, decide_all, is_sync, on_deal

WAITING, SILENT, NEEDED = 4, 5, 6  # answers besides those of actions.py: WAIT, NO_RESPONSE, and a decision from outside
AGREED, BROKEN, TIMED_OUT = range(3)
# Values of `State.world[FAULT]`: what the recording said otherwise.
FAULTS = ("", "move", "end")
FAULT_MOVE, FAULT_END = 1, 2


class Tape(NamedTuple):
    """A recording: what was said (in order), and how each negotiation ended (in order)."""

    moves: (
        np.ndarray
    )  # int32 (N, 7): thread, round, factory, kind (0 offer, 1 accept, 2 end, 3 wait, 4 silence), q, t, p
    ends: np.ndarray  # int32 (M, 7): thread, moves so far, kind (AGREED ...), round, quantity, day, price


def no_tape() -> Tape:
    """A recording of nothing, for worlds that are not replayed."""
    return Tape(np.zeros((0, 7), np.int32), np.zeros((0, 7), np.int32))


@lean
def talk(t: Tables, s: State, view: FactoryView, tape: Tape, e: int) -> bool:
    """Goes on with the negotiations; True if a factory has to answer from outside (`WINDOW`), False if all are over."""
    world, running = s.world[e], s.running[e]
    while world[N_LISTED] > 0:
        while world[POSITION] < world[N_LISTED]:
            if step(t, s, view, tape, e, running[world[POSITION]]):
                return True
            world[POSITION] += 1
        n = 0
        for position in range(world[N_LISTED]):
            i = running[position]
            if s.thread[e, i, RUNNING]:
                running[n] = i
                n += 1
        world[N_LISTED], world[POSITION] = n, 0
    return False


@lean
def step(t: Tables, s: State, view: FactoryView, tape: Tape, e: int, i: int) -> bool:
    """One step of the mechanism of thread `i`; True if it stopped for a decision from outside."""
    w, row = s.world[e, ROW], s.thread[e, i]
    if row[STEP] >= t.world[w, N_ROUNDS]:
        finish(t, s, view, tape, e, i, TIMED_OUT)
        return False
    for side in range(row[NEXT], 2):
        answer = ask(t, s, view, tape, e, i, side)
        if answer == NEEDED:
            row[NEXT] = side
            return True
        if answer == WAITING:
            row[NEXT] = side
            row[N_WAITS] += 1
            if row[N_WAITS] > t.world[w, N_FACTORIES]:
                finish(t, s, view, tape, e, i, TIMED_OUT)
            return False
        row[N_WAITS] = 0
        if answer == SILENT:
            continue
        own = SIDE + side * SIDE_SIZE
        if answer == ACCEPT:
            if row[HAS_OFFER] and row[PROPOSER] == side:
                continue  # one's own offer: the partner has not accepted it
            row[STEP] += 1
            finish(t, s, view, tape, e, i, AGREED if row[HAS_OFFER] else BROKEN)
            return False
        if answer == END or not is_legal(t, s, e, i, row[own + QUANTITY], row[own + TIME], row[own + PRICE]):
            row[STEP] += 1
            finish(t, s, view, tape, e, i, BROKEN)
            return False
        row[HAS_OFFER], row[PROPOSER] = 1, side
        row[OFFER_QUANTITY], row[OFFER_DAY] = row[own + QUANTITY], row[own + TIME]
        row[OFFER_PRICE] = row[own + PRICE]
    row[STEP] += 1
    row[NEXT] = 0
    return False


@inlined
def is_legal(t: Tables, s: State, e: int, i: int, quantity: int, time: int, price: int) -> bool:
    """Whether an offer lies in today's agenda; any other one ends the negotiation."""
    w, day, product = s.world[e, ROW], s.world[e, DAY], t.thread[s.world[e, ROW], i, PRODUCT]
    last = t.world[w, N_DAYS] - 1
    return (
        t.world[w, QUANTITY_LOW] <= quantity <= t.world[w, QUANTITY_HIGH]
        and min(day, last) <= time <= min(day + t.world[w, HORIZON], last)
        and s.agenda[e, product, LOW] <= price <= s.agenda[e, product, HIGH]
    )


@lean
def ask(t: Tables, s: State, view: FactoryView, tape: Tape, e: int, i: int, side: int) -> int:
    """The answer of one side: END, ACCEPT, OFFER (which stands in its columns), WAITING, SILENT or NEEDED."""
    f = t.thread[s.world[e, ROW], i, FIRST + side]
    factory, row, own = s.factory[e, f], s.thread[e, i], SIDE + side * SIDE_SIZE
    policy = factory[POLICY]
    if policy == NOTHING:
        return END
    if policy == REPLAY:
        return replay(s, tape, e, i, f, own)
    if policy < EXTERNAL and policy != PRUDENT and not is_sync(policy):
        decide(t, s, e, i, side)
        return row[own + RESPONSE]
    if row[own + RESPONSE] == NO_ANSWER:
        first = row[HAS_OFFER] == 0
        if not first:
            if row[own + COLLECTED] == 0:
                factory[LAST_NUMBER] += 1
                row[own + COLLECTED] = factory[LAST_NUMBER]
                factory[N_COLLECTED] += 1
            if factory[N_COLLECTED] < factory[N_ALIVE] and row[own + WAITS] < factory[N_ALIVE]:
                row[own + WAITS] += 1
                return WAITING
        s.world[e, IS_FIRST] = first
        if policy >= EXTERNAL:
            see.open_window(t, s, view, e, f)
            s.world[e, WINDOW] = f
            return NEEDED
        if policy == PRUDENT:
            see.open_window(t, s, view, e, f)
            prudent_answers(view, factory[VIEW], s.agent[e, f], s.answer[e])
            give_answers(t, s, view, e, f)
        else:
            if not first and not factory[HAS_PROPOSED]:  # SCML asks, and throws the answer away
                s.world[e, IS_FIRST] = 1
                decide_all(t, s, e, f)
                s.world[e, IS_FIRST] = 0
            factory[HAS_PROPOSED] = 1
            decide_all(t, s, e, f)
            close_window(t, s, e, f)
    answer = row[own + RESPONSE]
    row[own + RESPONSE] = NO_ANSWER
    row[own + WAITS] = 0
    return answer


@inlined
def close_window(t: Tables, s: State, e: int, f: int) -> None:
    """All threads of a sync agent are answered: nothing is collected any more, and what got no answer ends."""
    w = s.world[e, ROW]
    own = see.side_of(t, w, f)
    for k in range(t.slot.shape[2]):
        i = t.slot[w, f, k]
        if i < 0:
            break
        row = s.thread[e, i]
        if not row[RUNNING]:
            continue
        row[own + COLLECTED] = row[own + WAITS] = 0
        if row[own + RESPONSE] == NO_ANSWER:
            row[own + RESPONSE] = END
    s.factory[e, f, N_COLLECTED] = 0


@lean
def give_answers(t: Tables, s: State, view: FactoryView, e: int, f: int) -> None:
    """Hands the answers in `State.answer` to the threads of the window of factory `f`."""
    w, day, row = s.world[e, ROW], s.world[e, DAY], s.factory[e, f, VIEW]
    own = see.side_of(t, w, f)
    for k in range(t.slot.shape[2]):
        i = t.slot[w, f, k]
        if i < 0:
            break
        if not view.flags[row, k, see.ON_TURN]:
            continue
        view.flags[row, k, see.ON_TURN] = False
        operation, quantity, lead, price = s.answer[e, k]
        if s.world[e, IS_FIRST] and operation != OFFER:
            operation = END
        s.thread[e, i, own + RESPONSE] = operation if operation in (ACCEPT, OFFER) else END
        if operation == OFFER:
            s.thread[e, i, own + QUANTITY] = quantity
            s.thread[e, i, own + TIME] = day + lead
            s.thread[e, i, own + PRICE] = price
            see.note_sent(view, row, k, quantity, lead, price)
    close_window(t, s, e, f)


@lean
def finish(t: Tables, s: State, view: FactoryView, tape: Tape, e: int, i: int, kind: int) -> None:
    """Ends a negotiation; an agreement is a signed contract at once."""
    row, thread = s.thread[e, i], t.thread[s.world[e, ROW], i]
    row[RUNNING] = 0
    quantity, time, price = row[OFFER_QUANTITY], row[OFFER_DAY], row[OFFER_PRICE]
    if tape.ends.shape[0] > 0:
        compare_end(s, tape, e, i, kind)
    if kind == AGREED:
        sign(t, s, e, i, quantity, time, price)
    for side in range(2):
        f, own = thread[FIRST + side], SIDE + side * SIDE_SIZE
        factory = s.factory[e, f]
        factory[N_ALIVE] -= 1
        factory[N_COLLECTED] -= row[own + COLLECTED] > 0
        row[own + COLLECTED] = row[own + RESPONSE] = 0
        slot = thread[SLOT_FIRST + side]
        if factory[VIEW] >= 0:
            see.close_thread(view, factory[VIEW], slot, kind == AGREED, quantity, time - s.world[e, DAY], price)
        if kind == AGREED and factory[POLICY] < EXTERNAL:
            on_deal(t, s, e, f, slot, thread[SELLER] == f, quantity, time, price)


@lean
def sign(t: Tables, s: State, e: int, i: int, quantity: int, time: int, price: int) -> None:
    """A contract joins the queue of its delivery day."""
    world, thread = s.world[e], t.thread[s.world[e, ROW], i]
    c, d = world[TODAY] * s.contract.shape[2] + i, place_of(t, s, e, time)
    contracts = s.contract[e].reshape(-1, s.contract.shape[3])
    contracts[c, CONTRACT_QUANTITY], contracts[c, CONTRACT_PRICE] = quantity, price
    contracts[c, CONTRACT_NEXT] = -1
    if s.queue[e, d, HEAD] < 0:
        s.queue[e, d, HEAD] = c
    else:
        contracts[s.queue[e, d, TAIL], CONTRACT_NEXT] = c
    s.queue[e, d, TAIL] = c
    s.due[e, thread[BUYER], DUE_IN, d] += quantity
    s.due[e, thread[SELLER], DUE_OUT, d] += quantity


@lean
def replay(s: State, tape: Tape, e: int, i: int, f: int, own: int) -> int:
    """The next recorded answer; it must be one of this thread, round and factory."""
    world, row = s.world[e], s.thread[e, i]
    n = world[MOVE]
    if world[FAULT]:
        return END
    if n >= tape.moves.shape[0] or tape.moves[n, 0] != i or tape.moves[n, 1] != row[STEP] or tape.moves[n, 2] != f:
        world[FAULT] = FAULT_MOVE
        return END
    move = tape.moves[n]
    world[MOVE] = n + 1
    if move[3] == 0:
        row[own + QUANTITY], row[own + TIME], row[own + PRICE] = move[4], move[5], move[6]
        return OFFER
    if move[3] == 1:
        return ACCEPT
    if move[3] == 3:
        return WAITING
    return SILENT if move[3] == 4 else END


@lean
def compare_end(s: State, tape: Tape, e: int, i: int, kind: int) -> None:
    """Compares the end of a negotiation with the recorded one."""
    world, row, n = s.world[e], s.thread[e, i], s.world[e, END_OF_TALK]
    if world[FAULT]:
        return
    same = n < tape.ends.shape[0]
    if same:
        end = tape.ends[n]
        same = end[0] == i and end[1] == world[MOVE] and end[2] == kind and end[3] == row[STEP]
        if same and kind == AGREED:
            same = end[4] == row[OFFER_QUANTITY] and end[5] == row[OFFER_DAY] and end[6] == row[OFFER_PRICE]
    if not same:
        world[FAULT] = FAULT_END
        return
    world[END_OF_TALK] = n + 1
