"""A step of an environment on the fast engine, compiled: answer the window, play to the next one, reward, show.

The same lines as `ArrayEnv` on the real engine: `settle` and `open_window`, `settle_book`, `advance` in place of the
simulator. A *place* e of a fleet of worlds holds one world; its teams are the controlled factories.
"""

from typing import NamedTuple

import numpy as np

from scml_marl_env import actions as grid
from scml_marl_env import reward as book
from scml_marl_env import view as at
from scml_marl_env.features import copy
from scml_marl_env.handles import fetch
from scml_marl_env.kernels import kernel, lean, unlocked
from scml_marl_env.layers.l1_bounds import write_bounds_with
from scml_marl_env.layers.l1_counters import Answers
from scml_marl_env.layers.l1_factory import Scratch
from scml_marl_env.view import FactoryView
from scml_marl_env.windows import (
    Answered,
    Columns,
    Rules,
    close_window_with,
    count_window_with,
    write_shared,
    write_threads,
)
from scml_marl_env.world.fast import columns as fast
from scml_marl_env.world.fast.columns import State, Tables
from scml_marl_env.world.fast.play import IS_BANKRUPT, IS_SEAT, IS_WINDOW, advance
from scml_marl_env.world.fast.seats import say
from scml_marl_env.world.fast.see import fetch_view, write_private
from scml_marl_env.world.fast.talks import Tape, give_answers

_TOGETHER = 16  # places that take the phases of a step together: what they need fits into a core's second cache


class World(NamedTuple):
    """The arrays of the fast engine."""

    tables: Tables
    state: State
    views: FactoryView  # rows e * V + v: the teams of place e first, then whoever else has a view
    tape: Tape


class Settings(NamedTuple):
    """What a step needs of the config."""

    rules: Rules
    columns: Columns
    shaped: bool
    discount: float
    max_cycles: int  # 0 for no limit
    n_public: int  # columns of the state that everybody may know; private ones follow, if there are any
    n_views: int  # V


class Board(NamedTuple):
    """What the environment shows and remembers of E worlds with F teams of K slots.

    G teams are shown, N = G*K agents: all of them (G = F), or the one whose window it is (G = 1).
    """

    observation: np.ndarray  # float32 (E, N, D)
    state: np.ndarray  # float32 (E, G, S)
    bounds: np.ndarray  # int32 (E, N, M)
    active: np.ndarray  # bool (E, N)
    reward: np.ndarray  # float32 (E, F)
    elapsed: np.ndarray  # float32 (E, F)
    terminated: np.ndarray  # bool (E, F)
    truncated: np.ndarray  # bool (E, F)
    executed: np.ndarray  # int64 (E, N)
    final_observation: np.ndarray  # float32 (E, N, D); these four have no rows (E = 0) where not every team is shown
    final_state: np.ndarray  # float32 (E, F, S)
    final_active: np.ndarray  # bool (E, N)
    final_bounds: np.ndarray  # int32 (E, N, M)
    length: np.ndarray  # int64 (E,)
    returns: np.ndarray  # float64 (E, F)
    done: np.ndarray  # bool (E, F), the team has ended, or is not there
    controlled: np.ndarray  # int64 (E, F), the factory of each team, -1 for none
    window: np.ndarray  # int64 (E,), the team that has to answer, -1 if the episode is over
    n_written: np.ndarray  # int64 (E,), rows of the team that was shown last
    book: np.ndarray  # float64 (E, F, reward.N_COLUMNS)
    day: np.ndarray  # int64 (E,), of the last rewards
    answered: np.ndarray  # int64 (E,), the team that answered last
    chosen: np.ndarray  # int64 (E, K), the actions of the window
    priority: np.ndarray  # float64 (E, K)
    settled: np.ndarray  # int64 (E, K), the executed ones
    reason: np.ndarray  # int64 (E, K), see `layers.l1_settle.REASONS`
    changed: np.ndarray  # int64 (E, len(REASONS)), how many of each over the episode
    last_changed: np.ndarray  # int64 (E, len(REASONS)), in the last step
    unsafe: np.ndarray  # int64 (E, 2, 2, len(COUNTS))
    # Memory for the arithmetic about one factory at a time, by lane: calls that run at once have different lanes.
    lane_threads: np.ndarray  # see `l1_factory.Scratch`, each with a leading axis
    lane_leads: np.ndarray
    lane_lots: np.ndarray
    lane_order: np.ndarray
    lane_features: np.ndarray  # float32 (lanes, K, len(THREAD_FEATURES))
    lane_answers: np.ndarray  # int64 (lanes, 4, K)


@lean
def one_team(board: Board) -> bool:
    """Whether of several teams only the one is shown whose window it is."""
    return board.state.shape[1] < board.done.shape[1]


@lean
def shown_at(board: Board, team: int) -> int:
    """Which of the teams that are shown is this one."""
    return 0 if one_team(board) else team


@lean
def is_shown(board: Board, e: int, team: int) -> bool:
    """Whether what a team sees has a place."""
    return not one_team(board) or team == board.window[e]


@kernel
def start(world: World, settings: Settings, board: Board, e: int) -> None:
    """Plays a world that has just begun to its first stop."""
    board.terminated[e] = board.truncated[e] = False
    board.reward[e] = board.elapsed[e] = 0
    board.length[e] = 0
    board.returns[e] = 0
    board.changed[e] = 0
    board.unsafe[e] = 0
    board.executed[e] = 0
    board.n_written[e] = 0
    board.observation[e] = 0
    board.bounds[e] = 0
    board.bounds[e, :, grid.CAN_WAIT] = 1  # all that a slot without a partner may do
    for team in range(board.controlled.shape[1]):
        board.done[e, team] = board.controlled[e, team] < 0
    follow(world, board, e)


@kernel
def show_start(world: World, settings: Settings, board: Board, e: int) -> None:
    """Shows the first window of a world."""
    board.day[e] = world.state.world[e, fast.DAY]
    for team in range(board.controlled.shape[1]):
        if board.controlled[e, team] >= 0:
            b = e * settings.n_views + team
            start_of = world.views.floats[b, at.INITIAL_BALANCE]
            value = book.potential_of(world.views.ints[b, at.STOCK], world.views.floats[b, at.TRADING_PRICE], start_of)
            book.open_book(board.book[e, team], world.views.floats[b, at.BALANCE], world.views.ints[b, at.DAY], value)
    board.active[e] = False
    for team in range(board.controlled.shape[1]):
        if board.controlled[e, team] >= 0 and is_shown(board, e, team):
            show_team(world, settings, board, e, team, 0)
    show_active(world, settings, board, e, board.window[e])
    end(world, settings, board, e, 0)


@kernel
def play(world: World, settings: Settings, board: Board, places: np.ndarray, lane: int) -> None:
    """Answers the windows of a few places with their actions and plays each to its next stop.

    Phase by phase, since the code of all phases does not fit into a core's cache of instructions. A large fleet has
    long left the other caches when a place has its turn again: what a phase needs is asked for ahead.
    """
    n = places.shape[0]
    for j in range(n):
        fetch_slots(world, settings, board, places[j])
    for j in range(n):
        fetch_world(world, settings, board, places[j])
    for j in range(n):
        answer(world, settings, board, places[j], board.window[places[j]], lane)
    for j in range(n):
        go_on(world, board, places[j])


@kernel
def show(world: World, settings: Settings, board: Board, places: np.ndarray, lane: int) -> None:
    """Rewards and shows a few places that stand at a window of a team, or at the end; phase by phase as `play`."""
    n = places.shape[0]
    for j in range(n):
        reward(world, settings, board, places[j])
        fetch_rows(world, settings, board, places[j])
    for j in range(n):
        show_bounds(world, settings, board, places[j], board.window[places[j]], lane)
    for j in range(n):
        show_threads(world, settings, board, places[j], board.window[places[j]], lane)
    for j in range(n):
        show_shared(world, settings, board, places[j], board.window[places[j]])
    for j in range(n):
        show_active(world, settings, board, places[j], board.window[places[j]])
        end(world, settings, board, places[j], lane)


@lean
def scratch_of(board: Board, lane: int) -> Scratch:
    """L1's memory of a lane."""
    return Scratch(board.lane_threads[lane], board.lane_leads[lane], board.lane_lots[lane], board.lane_order[lane])


@lean
def answer(world: World, settings: Settings, board: Board, e: int, team: int, lane: int) -> None:
    """Settles the chosen actions of the window and notes what they say."""
    n_slots, b = board.chosen.shape[1], e * settings.n_views + team
    first, rules = shown_at(board, team) * n_slots, settings.rules
    n = world.views.ints[b, at.N_SUPPLIERS] + world.views.ints[b, at.N_CONSUMERS]
    bounds = board.bounds[e, first : first + n]
    before = shown_at(board, board.answered[e]) * n_slots
    board.executed[e, before : before + n_slots] = grid.WAIT
    board.answered[e] = team
    board.length[e] += 1
    board.terminated[e] = board.truncated[e] = False
    settled, chosen = board.settled[e, :n], board.chosen[e, :n]
    answered, scratch = Answered(settled, board.reason[e, :n]), scratch_of(board, lane)
    close_window_with(world.views, b, rules, bounds, chosen, board.priority[e, :n], answered, scratch)
    board.last_changed[e] = 0
    for k in range(n):
        board.last_changed[e, board.reason[e, k]] += 1
        board.executed[e, first + k] = settled[k]
    say(world.state, e, settled, scratch)
    board.last_changed[e, 0] = 0
    for reason in range(board.changed.shape[1]):
        board.changed[e, reason] += board.last_changed[e, reason]


@lean
def count(world: World, settings: Settings, board: Board, e: int, lane: int) -> None:
    """Counts unsafe ones among the answers of a window that are not handed on yet."""
    n_slots, team = board.chosen.shape[1], board.window[e]
    b, first = e * settings.n_views + team, shown_at(board, team) * n_slots
    n = last_of(world, settings, board, e, team) - first
    settled, counts, memory = board.settled[e, :n], board.unsafe[e], board.lane_answers[lane]
    answers = Answers(memory[0, :n], memory[1, :n], memory[2, :n], memory[3, :n])
    bounds, chosen = board.bounds[e, first : first + n], board.chosen[e, :n]
    scratch = scratch_of(board, lane)
    count_window_with(world.views, b, settings.rules, bounds, chosen, settled, counts, answers, scratch)


@kernel
def go_on(world: World, board: Board, e: int) -> None:
    """Hands the answers of the window to the negotiations and plays on."""
    give_answers(world.tables, world.state, world.views, e, board.controlled[e, board.window[e]])
    follow(world, board, e)


@kernel
def follow(world: World, board: Board, e: int) -> None:
    """Plays on to the next window of a team that is not done or of a policy's seat, or until every team is done."""
    state = world.state
    while True:
        event = advance(world.tables, state, world.views, world.tape, e)
        if event == IS_WINDOW:
            board.window[e] = team_of(state, board, e)
            return
        if event == IS_SEAT:
            return
        if event != IS_BANKRUPT:
            stop(board, e, False)
            return
        team = team_of(state, board, e)
        board.done[e, team] = board.terminated[e, team] = True
        if all_done(board, e):
            board.window[e] = -1
            return


@lean
def all_done(board: Board, e: int) -> bool:
    """Whether every team of a place has ended."""
    for team in range(board.done.shape[1]):  # noqa: SIM110 (numba compiles no generators)
        if not board.done[e, team]:
            return False
    return True


@lean
def team_of(state: State, board: Board, e: int) -> int:
    """The team whose factory is the one that the engine stopped for."""
    for team in range(board.controlled.shape[1]):
        if board.controlled[e, team] == state.world[e, fast.WINDOW]:
            return team
    return -1


@lean
def stop(board: Board, e: int, truncated: bool) -> None:
    """Ends the episode of every team that has not ended."""
    for team in range(board.done.shape[1]):
        if not board.done[e, team]:
            board.done[e, team] = True
            if truncated:
                board.truncated[e, team] = True
            else:
                board.terminated[e, team] = True
    board.window[e] = -1


@lean
def reward(world: World, settings: Settings, board: Board, e: int) -> None:
    """Rewards of every team since the last step; within a day there are none, unless a team ends."""
    view, state = world.views, world.state
    is_new = state.world[e, fast.DAY] != board.day[e]
    for team in range(board.controlled.shape[1]):
        board.reward[e, team] = board.elapsed[e, team] = 0
        is_new |= board.terminated[e, team]
    if not is_new:
        return
    board.day[e] = state.world[e, fast.DAY]
    for team in range(board.controlled.shape[1]):
        row, f, b = board.book[e, team], board.controlled[e, team], e * settings.n_views + team
        ended = board.terminated[e, team]
        if f < 0 or row[book.CLOSED] > 0:
            continue
        start_of = view.floats[b, at.INITIAL_BALANCE]
        balance, day = view.floats[b, at.BALANCE], view.ints[b, at.DAY]
        if ended:
            balance, day = state.money[e, f, fast.EARNED] + start_of, state.world[e, fast.DAY]
        value = book.potential_of(view.ints[b, at.STOCK], view.floats[b, at.TRADING_PRICE], start_of)
        gained, days = book.settle_book(row, start_of, balance, day, value, ended, settings.shaped, settings.discount)
        board.reward[e, team], board.elapsed[e, team] = gained, days
        board.returns[e, team] += board.reward[e, team]
        if board.done[e, team]:
            row[book.CLOSED] = 1


@lean
def show_active(world: World, settings: Settings, board: Board, e: int, team: int) -> None:
    """Writes which agents have a decision to take: none but those of the window of `team`, if that is not -1."""
    n_slots = board.chosen.shape[1]
    before, first = shown_at(board, board.answered[e]) * n_slots, shown_at(board, team) * n_slots
    for k in range(n_slots):
        board.active[e, before + k] = False
    for k in range(n_slots if team >= 0 else 0):
        board.active[e, first + k] = world.views.flags[e * settings.n_views + team, k, at.ON_TURN]


@lean
def end(world: World, settings: Settings, board: Board, e: int, lane: int) -> None:
    """Cuts the episode at the caller's limit, and keeps the last view of the teams that end in this step."""
    window, n_ends = board.window[e], 0
    if settings.max_cycles > 0 and board.length[e] >= settings.max_cycles:
        stop(board, e, True)
    for team in range(board.done.shape[1]):
        n_ends += board.terminated[e, team] | board.truncated[e, team]
    if n_ends == 0 or one_team(board):
        return
    for team in range(board.done.shape[1]):
        if board.terminated[e, team] or board.truncated[e, team]:
            if team != window:
                show_team(world, settings, board, e, team, lane)
            keep_final(board, e, team)


@lean
def keep_final(board: Board, e: int, team: int) -> None:
    """Keeps what a team sees at its end."""
    n_slots = board.chosen.shape[1]
    for n in range(team * n_slots, (team + 1) * n_slots):
        copy(board.observation[e, n], board.final_observation[e, n])
        copy(board.bounds[e, n], board.final_bounds[e, n])
        board.final_active[e, n] = board.active[e, n]
    copy(board.state[e, team], board.final_state[e, team])


@lean
def show_team(world: World, settings: Settings, board: Board, e: int, team: int, lane: int) -> None:
    """Writes the rows of one team, those of slots without a partner excepted: they never change."""
    show_bounds(world, settings, board, e, team, lane)
    show_threads(world, settings, board, e, team, lane)
    show_shared(world, settings, board, e, team)


@lean
def last_of(world: World, settings: Settings, board: Board, e: int, team: int) -> int:
    """The row behind the last slot of a team with a partner."""
    b = e * settings.n_views + team
    n = world.views.ints[b, at.N_SUPPLIERS] + world.views.ints[b, at.N_CONSUMERS]
    return shown_at(board, team) * board.chosen.shape[1] + n


@lean
def clear_rows(board: Board, e: int, n: int) -> None:
    """Clears what is left of a team with more partners than the `n` of the one that is shown now in its place."""
    for k in range(n, board.n_written[e]):
        board.observation[e, k] = 0
        board.bounds[e, k] = 0
        board.bounds[e, k, grid.CAN_WAIT] = 1
    board.n_written[e] = n


@lean
def show_bounds(world: World, settings: Settings, board: Board, e: int, team: int, lane: int) -> None:
    """Writes the bounds of a team, if that is not -1."""
    if team < 0:
        return
    b, rules, first = e * settings.n_views + team, settings.rules, shown_at(board, team) * board.chosen.shape[1]
    last = last_of(world, settings, board, e, team)
    if one_team(board):
        clear_rows(board, e, last)
    bounds = board.bounds[e, first:last]
    write_bounds_with(world.views, b, rules.shield, rules.useful, rules.n_price_levels, bounds, scratch_of(board, lane))


@lean
def show_threads(world: World, settings: Settings, board: Board, e: int, team: int, lane: int) -> None:
    """Writes what is told of each thread of a team, if that is not -1."""
    if team < 0:
        return
    b, shown = e * settings.n_views + team, shown_at(board, team)
    first, last = shown * board.chosen.shape[1], last_of(world, settings, board, e, team)
    observation = board.observation[e, first:last]
    threads = observation if settings.columns.thread >= 0 else board.lane_features[lane]
    bounds, state = board.bounds[e, first:last], board.state[e, shown]
    write_threads(world.views, b, settings.columns, bounds, threads, observation, state)


@lean
def show_shared(world: World, settings: Settings, board: Board, e: int, team: int) -> None:
    """Writes what all threads of a team share, if that is not -1."""
    if team < 0:
        return
    b, shown = e * settings.n_views + team, shown_at(board, team)
    first, last = shown * board.chosen.shape[1], last_of(world, settings, board, e, team)
    bounds, state = board.bounds[e, first:last], board.state[e, shown]
    write_shared(world.views, b, settings.columns, bounds, board.observation[e, first:last], state)
    if state.shape[0] > settings.n_public:
        write_private(world.tables, world.state, e, state[settings.n_public :])


@kernel
def take_actions(board: Board, actions: np.ndarray, n_actions: int) -> int:
    """Copies the actions of the windows from int (E, N); returns e * N + n of one outside 0..A-1, else -1."""
    for e in range(actions.shape[0]):
        n = take(board, actions, n_actions, e)
        if n >= 0:
            return e * actions.shape[1] + n
    return -1


@lean
def take(board: Board, actions: np.ndarray, n_actions: int, e: int) -> int:
    """Copies the actions of a window; returns the agent of a wrong one, else -1."""
    n_slots, n_wrong = board.chosen.shape[1], 0
    first, chosen = max(0, shown_at(board, board.window[e])) * n_slots, board.chosen[e]
    given, active = actions[e, first : first + n_slots], board.active[e, first : first + n_slots]
    for k in range(n_slots):
        chosen[k] = given[k] if active[k] else grid.WAIT
        n_wrong += (chosen[k] < 0) | (chosen[k] >= n_actions)
    for k in range(n_slots if n_wrong else 0):
        if chosen[k] < 0 or chosen[k] >= n_actions:
            return first + k
    return -1


@unlocked
def play_all(world: World, settings: Settings, board: Board, places: np.ndarray, lane: int) -> None:
    """`play` of all given places, a few at a time; other threads may play other places in other lanes meanwhile."""
    for first in range(0, places.shape[0], _TOGETHER):
        play(world, settings, board, places[first : first + _TOGETHER], lane)


@unlocked
def answer_all(world: World, settings: Settings, board: Board, places: np.ndarray, lane: int) -> None:
    """The first half of `play_all`: `count_all` finds the answers settled, and their threads still waiting."""
    for j in range(places.shape[0]):
        answer(world, settings, board, places[j], board.window[places[j]], lane)


@unlocked
def count_all(world: World, settings: Settings, board: Board, places: np.ndarray, lane: int) -> None:
    """`count` of all given places."""
    for j in range(places.shape[0]):
        count(world, settings, board, places[j], lane)


@unlocked
def go_on_all(world: World, board: Board, places: np.ndarray) -> None:
    """The other half of `play_all`."""
    for j in range(places.shape[0]):
        go_on(world, board, places[j])


@unlocked
def at_seats(world: World, places: np.ndarray) -> np.ndarray:
    """int64 (n,), those of the places that wait for an answer of a policy that plays as an opponent."""
    state, n, found = world.state, 0, np.empty(places.shape[0], np.int64)
    for j in range(places.shape[0]):
        e = places[j]
        f = state.world[e, fast.WINDOW]
        if f >= 0 and state.factory[e, f, fast.POLICY] >= fast.SEATED:
            found[n] = e
            n += 1
    return found[:n]


@unlocked
def follow_all(world: World, board: Board, places: np.ndarray) -> np.ndarray:
    """`follow` of all given places; returns `at_seats` of them."""
    for j in range(places.shape[0]):
        follow(world, board, places[j])
    return at_seats(world, places)


@unlocked
def show_all(world: World, settings: Settings, board: Board, places: np.ndarray, lane: int) -> None:
    """`show` of all given places, a few at a time."""
    for first in range(0, places.shape[0], _TOGETHER):
        show(world, settings, board, places[first : first + _TOGETHER], lane)


@unlocked
def step_all(world: World, settings: Settings, board: Board, places: np.ndarray, lane: int) -> None:
    """`play` and `show` of all given places, a few at a time, where no policy has a seat."""
    for first in range(0, places.shape[0], _TOGETHER):
        few = places[first : first + _TOGETHER]
        play(world, settings, board, few, lane)
        show(world, settings, board, few, lane)


@lean
def fetch_slots(world: World, settings: Settings, board: Board, e: int) -> None:
    """Asks the memory for what `fetch_world` itself has to wait for: short, so that several places wait at once."""
    team = board.window[e]
    fetch(world.tables.slot[world.state.world[e, fast.ROW], board.controlled[e, team]])
    fetch(world.state.world[e])
    fetch(world.views.ints[e * settings.n_views + team])


@lean
def fetch_world(world: World, settings: Settings, board: Board, e: int) -> None:
    """Asks the memory for what answering and playing on reads of a place."""
    tables, state, team = world.tables, world.state, board.window[e]
    w, f, first = state.world[e, fast.ROW], board.controlled[e, team], shown_at(board, team) * board.chosen.shape[1]
    fetch(tables.thread[w])
    fetch(state.factory[e])
    fetch(state.running[e])
    n = 0
    for k in range(tables.slot.shape[2]):
        i = tables.slot[w, f, k]
        if i < 0:
            break
        n += 1
        fetch(state.thread[e, i])
    fetch(state.answer[e, :n])
    fetch(board.bounds[e, first : first + n])
    fetch_view(world.views, e * settings.n_views + team)


@lean
def fetch_rows(world: World, settings: Settings, board: Board, e: int) -> None:
    """Asks the memory for what showing the next window of a place reads and writes."""
    team = board.window[e]
    if team >= 0:
        shown = shown_at(board, team)
        first, last = shown * board.chosen.shape[1], last_of(world, settings, board, e, team)
        fetch(board.bounds[e, first:last])
        fetch(board.observation[e, first:last])
        fetch(board.state[e, shown])


@kernel
def start_all(world: World, settings: Settings, board: Board, places: np.ndarray) -> None:
    """`start` of the given places."""
    for j in range(places.shape[0]):
        start(world, settings, board, places[j])


@kernel
def show_starts(world: World, settings: Settings, board: Board, places: np.ndarray) -> None:
    """`show_start` of the given places."""
    for j in range(places.shape[0]):
        show_start(world, settings, board, places[j])


@kernel
def refresh_all(world: World, settings: Settings, board: Board) -> None:
    """Brings every row up to date."""
    for e in range(board.controlled.shape[0]):
        for team in range(board.controlled.shape[1]):
            if board.controlled[e, team] >= 0 and is_shown(board, e, team):
                show_team(world, settings, board, e, team, 0)
