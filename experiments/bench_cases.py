"""The cases of bench.py: what is played, and every way of playing it. Imports engines only where a case needs them."""

import gc
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial, wraps
from typing import Any

import numpy as np

from scml_marl_env.actions import ACCEPT, END, OFFER
from scml_marl_env.config import EnvConfig

BASELINE = "SCML loop"
RL_PATIENCE = 3  # SCML's RL environments stop after this many times the seconds of the workload
Answers = dict[tuple[int, int, int], Mapping[int, Any]]  # (factory, day, window of the day) -> slot -> Answer


@dataclass(frozen=True)
class Played:
    """What happened in the first `days` days of a world, enough to make it happen again.

    Attributes:
        actions: int64 (T, N), one row for each step of the environment.
        answers: the same as SCML answers.
        decisions: answers of live threads.
        balances: of each controlled factory after the last day.
        first_mover: of each controlled factory.
    """

    seed: int
    days: int
    decisions: int
    actions: np.ndarray
    answers: Answers
    balances: tuple[float, ...]
    first_mover: tuple[bool, ...]


@dataclass(frozen=True)
class Workload:
    """Worlds of one config, and what was played in them."""

    config: EnvConfig
    worlds: tuple[Played, ...]
    seconds: float


@dataclass
class Measure:
    """One measurement of one case. `phases` is CPU seconds by part of the work, where a case takes them."""

    cpu: float = 0.0
    wall: float = 0.0
    days: int = 0
    decisions: int = 0
    worlds: int = 0
    peak_mb: float = 0.0
    same: bool | None = None
    note: str = ""
    phases: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self) -> Iterator[None]:
        gc.collect()
        cpu, wall = time.process_time(), time.perf_counter()
        yield
        self.cpu += time.process_time() - cpu
        self.wall += time.perf_counter() - wall


def record(config: EnvConfig, seconds: float, seed: int) -> Workload:
    """Plays random allowed answers, world after world, until `seconds` of CPU time are spent and a day has ended."""
    from scml_marl_env.array_env import ArrayEnv

    game = ArrayEnv(config)
    _play(game, 0, np.random.default_rng(0), time.process_time())  # compiles
    deadline = time.process_time() + seconds
    worlds: list[Played] = []
    while not worlds or time.process_time() < deadline:
        worlds.append(_play(game, seed + len(worlds), np.random.default_rng([seed, len(worlds)]), deadline))
    return Workload(config, tuple(worlds), seconds)


def _play(game: Any, seed: int, rng: np.random.Generator, deadline: float) -> Played:
    game.reset(seed)
    engine, answers, turns, resume = game.engine, {}, Counter(), game.engine.resume
    decisions, finished = 0, 0

    def spy(given: Mapping[int, Any] | None = None) -> Any:
        if given is not None:
            turn = game.window, int(engine.view.day[game.window])
            answers[(*turn, turns[turn])] = given
            turns[turn] += 1
        return resume(given)

    engine.resume = spy
    actions = []
    while game.window is not None:
        days = max(len(rows) for rows in engine.results)
        if days > finished and time.process_time() >= deadline:
            break
        finished = days
        decisions += int(game.arrays.active.sum())
        actions.append(_random_actions(game, rng))
        game.step(actions[-1])
    del engine.resume  # back to the method of the class
    factories = range(engine.n_factories)
    return Played(
        seed=seed,
        days=max(len(rows) for rows in engine.results),
        decisions=decisions,
        actions=np.array(actions),
        answers=answers,
        balances=tuple(engine.final_balance(f) for f in factories),
        first_mover=tuple(bool(engine.view.first_mover[f]) for f in factories),
    )


def _random_actions(game: Any, rng: np.random.Generator) -> np.ndarray:
    """int64 (N,), mostly offers, so that negotiations live on: accepts a fifth of what it may, ends one in twenty."""
    actions = np.zeros(len(game.arrays.active), np.int64)
    masks = game.grid.mask(game.arrays.bounds)
    for n in np.flatnonzero(game.arrays.active):
        offers, u = np.flatnonzero(masks[n, OFFER:]) + OFFER, rng.random()
        accepts = masks[n, ACCEPT] and u < 0.2
        actions[n] = ACCEPT if accepts else rng.choice(offers) if len(offers) and u < 0.95 else END
    return actions


def scml_loop(workload: Workload, lean: bool = False) -> Measure:
    """`world.step()` of the official world as a tournament builds it, an ordinary sync agent in the controlled places.

    `lean` builds it as our engine does, without logs and time limits, so that what is left between the two is our part.
    """
    from scml_marl_env.world.draw import draw
    from scml_marl_env.world.official import build
    from scml_marl_env.world.rng import GlobalRandomness

    agent_class, missed, same = _replaying_agent(), 0, True
    measure = Measure(worlds=len(workload.worlds))
    for played in workload.worlds:
        with measure.timed():
            drawn = draw(workload.config, played.seed)
            with GlobalRandomness(drawn.world_seed + 1):
                world = (build if lean else _tournament_world)(drawn, workload.config, agent_class)
            with GlobalRandomness(played.seed + 1):
                ids = [list(world.agents)[index] for index in drawn.controlled]
                agents = [world.agents[agent_id].adapted_object for agent_id in ids]
                for factory, agent in enumerate(agents):
                    agent.take(played, factory)
                for _ in range(played.days):
                    world.step()
        same &= tuple(float(world.current_balance(agent_id)) for agent_id in ids) == played.balances
        missed += sum(agent.missed for agent in agents)
        measure.decisions += sum(agent.given for agent in agents)
        measure.days += played.days
        del world, agents
    measure.same = same
    measure.note = f"{missed} answers not in the recording" if missed else ""
    return measure


def _tournament_world(drawn: Any, config: EnvConfig, controlled_class: type) -> Any:
    """The world of a draw exactly as the league's parameters make it."""
    from scml.oneshot.sysagents import DefaultOneShotAdapter

    from scml_marl_env import opponents
    from scml_marl_env.world.draw import world_class

    classes = [controlled_class if path is None else opponents.load(path) for path in drawn.agent_types]
    params = dict(drawn.params)
    params.update(
        agent_types=[DefaultOneShotAdapter] * len(classes),
        agent_params=[{"controller_type": agent} for agent in classes],
        neg_n_steps=config.rounds,
    )
    return world_class(config)(**params)


def _replaying_agent() -> type:
    """A StdSyncAgent that knows nothing of our engine and gives the recorded answers."""
    from negmas.sao import ResponseType, SAOResponse
    from scml.std.agent import StdSyncAgent

    # Called like the engine's own agent, since SCML puts the class into the agent's id, and its RandDistOneShotAgent
    # iterates over a set of ids: with another name the same world goes another way.
    class _BridgeAgent(StdSyncAgent):
        def take(self, played: Played, factory: int) -> None:
            self.played, self.factory, self.turns = played, factory, Counter()
            self.given = self.missed = 0

        def first_proposals(self) -> dict[str, Any]:
            if not self.played.first_mover[self.factory]:
                return {}
            responses = self.responses(dict.fromkeys(self.negotiators))
            return {partner: response.outcome for partner, response in responses.items()}

        def counter_all(self, offers: dict[str, Any], states: dict[str, Any]) -> dict[str, Any]:
            return self.responses(offers)

        def responses(self, offers: dict[str, Any]) -> dict[str, Any]:
            day = self.awi.current_step
            recorded = self.played.answers.get((self.factory, day, self.turns[day]), {})
            self.turns[day] += 1
            self.given += len(offers)
            partners = ([] if self.awi.is_first_level else list(self.awi.my_suppliers)) + list(self.awi.my_consumers)
            slots = {partner: recorded.get(partners.index(partner)) for partner in offers}
            return {partner: self.response(slots[partner], offer, day) for partner, offer in offers.items()}

        def response(self, answer: Any, offer: Any, day: int) -> Any:
            self.missed += answer is None
            if answer is None or answer.operation == END:
                return SAOResponse(ResponseType.END_NEGOTIATION, None)
            if answer.operation == ACCEPT:
                return SAOResponse(ResponseType.ACCEPT_OFFER, offer)
            return SAOResponse(ResponseType.REJECT_OFFER, (answer.quantity, day + answer.lead, answer.price))

    return _BridgeAgent


def engine_alone(workload: Workload) -> Measure:
    """ScmlEngine: the lean loop in its greenlet, with the view; no bounds, no features."""
    from scml_marl_env.world.engine import Bankrupt, Window
    from scml_marl_env.world.scml_engine import ScmlEngine

    engine, same = ScmlEngine(workload.config), True
    measure = Measure(worlds=len(workload.worlds))
    for played in workload.worlds:
        turns: Counter = Counter()
        with measure.timed():
            event = engine.reset(played.seed)
            while isinstance(event, Window | Bankrupt) and max(len(rows) for rows in engine.results) < played.days:
                if isinstance(event, Bankrupt):
                    event = engine.resume()
                    continue
                turn = event.factory, int(engine.view.day[event.factory])
                event = engine.resume(played.answers[(*turn, turns[turn])])
                turns[turn] += 1
        same &= tuple(engine.final_balance(f) for f in range(engine.n_factories)) == played.balances
        measure.decisions += played.decisions
        measure.days += played.days
        engine.close()
    measure.same = same
    return measure


def array_env(workload: Workload) -> Measure:
    """ArrayEnv: with bounds, settle, features, state and reward."""
    from scml_marl_env.array_env import ArrayEnv

    game, same = ArrayEnv(workload.config), True
    measure = Measure(worlds=len(workload.worlds))
    for played in workload.worlds:
        with measure.timed():
            game.reset(played.seed)
            for actions in played.actions:
                game.step(actions)
        same &= tuple(game.engine.final_balance(f) for f in range(game.engine.n_factories)) == played.balances
        measure.decisions += played.decisions
        measure.days += played.days
        game.close()
    measure.same = same
    return measure


def thread_env(workload: Workload) -> Measure:
    """ThreadEnv: the same through PettingZoo's dicts, with flat masks and infos."""
    from scml_marl_env.env import ThreadEnv

    env, same = ThreadEnv(workload.config), True
    measure = Measure(worlds=len(workload.worlds))
    for played in workload.worlds:
        steps = [dict(zip(env.possible_agents, row.tolist(), strict=True)) for row in played.actions]
        with measure.timed():
            env.reset(seed=played.seed)
            for actions in steps:
                env.step(actions)
        engine = env._game.engine
        same &= tuple(engine.final_balance(f) for f in range(engine.n_factories)) == played.balances
        measure.decisions += played.decisions
        measure.days += played.days
        env.close()
    measure.same = same
    return measure


def where_the_time_goes(workload: Workload) -> Measure:
    """ThreadEnv with a stopwatch around its parts; `phases` is exclusive, and what no part claims is SCML's."""
    from scml_marl_env import array_env, awi_view, env
    from scml_marl_env.world import rng, scml_engine

    watch = _Stopwatch()
    engine, view = scml_engine.ScmlEngine, awi_view.AwiView
    parts: list[tuple[str, Any, list[str]]] = [
        ("draw and build", scml_engine, ["draw", "build"]),
        ("SCML", engine, ["_switch"]),
        ("RNG swap", rng.GlobalRandomness, ["__enter__", "__exit__"]),
        ("view", view, ["__init__", "start_day", "see", "sent", "close_thread"]),
        ("bounds and features", array_env, ["open_window"]),
        ("settle and counters", array_env.ArrayEnv, ["_answers"]),
        ("arrays and reward", array_env.ArrayEnv, ["reset", "step"]),
        ("dicts and masks", env.ThreadEnv, ["reset", "step"]),
    ]
    originals = [(owner, name, getattr(owner, name)) for _, owner, names in parts for name in names]
    for part, owner, names in parts:
        for name in names:
            setattr(owner, name, watch.around(part, getattr(owner, name)))
    try:
        measure = thread_env(workload)
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)
    measure.phases = dict(watch.seconds)
    return measure


class _Stopwatch:
    """Seconds by part, without those of the parts called inside."""

    def __init__(self) -> None:
        self.seconds: Counter = Counter()
        self._open: list[str] = []
        self._since = 0.0

    def around(self, part: str, function: Callable) -> Callable:
        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._turn(part)
            try:
                return function(*args, **kwargs)
            finally:
                self._turn(None)

        return timed

    def _turn(self, part: str | None) -> None:
        now = time.process_time()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        if part is None:
            self._open.pop()
        else:
            self._open.append(part)
        self._since = now


def scml_rl_env(workload: Workload, **world_options: Any) -> Measure:
    """SCML's OneShotEnv on our worlds with random actions; for std the same class, since StdEnv cannot be made."""
    env_class = _rl_env_class()
    measure = Measure(worlds=0)
    for played in workload.worlds:
        if measure.cpu > RL_PATIENCE * workload.seconds:
            break
        env = env_class(workload.config, played.seed, world_options)
        env.action_space.seed(played.seed)
        ended, last = False, played.days
        with measure.timed():
            start = time.process_time()
            env.reset(seed=played.seed)
            while not ended and env._world.current_step < last:
                before = time.process_time()
                measure.decisions += _threads_on_turn(env._agent)
                measure.cpu -= time.process_time() - before  # the counting is ours
                _, _, ended, _, _ = env.step(env.action_space.sample())
                if measure.cpu + time.process_time() - start > RL_PATIENCE * workload.seconds:
                    break
        measure.days += int(env._world.current_step)
        measure.worlds += 1
        del env
    if workload.config.track == "std":
        measure.note = f"stands in for StdEnv, which {_std_env_error()}"
    return measure


def _threads_on_turn(agent: Any) -> int:
    """Threads whose answer SCML will take in the next step; it drops those of the others."""
    count = 0
    for nmi in agent.awi.current_nmis.values():
        mechanism = nmi._mechanism
        running = not mechanism.state.ended and mechanism.state.step < mechanism.nmi.n_steps
        if running and mechanism._negotiator_map[mechanism.next_negotitor_ids()[0]].owner.id == agent.id:
            count += 1
    return count


def _rl_env_class() -> type:
    """OneShotEnv with a context that hands out a world of ours instead of one of its own distribution."""
    from attrs import define
    from scml.oneshot.agents import Placeholder
    from scml.oneshot.context import BaseContext, ContextParams
    from scml.oneshot.rl.action import FlexibleActionManager
    from scml.oneshot.rl.env import OneShotEnv
    from scml.oneshot.rl.observation import FlexibleObservationManager
    from scml.std.agents.nothing import StdPlaceholder

    from scml_marl_env.world.draw import draw
    from scml_marl_env.world.rng import GlobalRandomness

    @define
    class OurWorld(BaseContext):
        drawn: Any = None
        config: Any = None
        options: Any = None

        def make_config(self) -> dict[str, Any]:
            raise NotImplementedError

        def is_valid_world(self, world: Any, *args: Any, **kwargs: Any) -> bool:
            return True

        def contains_context(self, context: Any, *args: Any, **kwargs: Any) -> bool:
            return True

        def extract_context_params(self, min_values: bool, level: int | None = None) -> Any:
            levels, mine = self.drawn.levels, self.drawn.levels[self.drawn.controlled[0]]
            return ContextParams(
                perishable=self.config.track == "oneshot",
                nlines=self.config.n_lines,
                nsuppliers=levels.count(mine - 1),
                nconsumers=levels.count(mine + 1),
            )

        def generate(self, types: Any = None, params: Any = None, name: Any = None) -> Any:
            world = _tournament_world(
                replace(self.drawn, params=dict(self.drawn.params, one_offer_per_step=True, **(self.options or {}))),
                self.config,
                types[0],
            )
            return world, (list(world.agents.values())[self.drawn.controlled[0]].adapted_object,)

    class Env(OneShotEnv):
        def __init__(self, config: EnvConfig, seed: int, options: dict[str, Any]) -> None:
            with GlobalRandomness(seed):
                context = OurWorld(drawn=draw(config, seed), config=config, options=options)
            super().__init__(
                action_manager=FlexibleActionManager(context),
                observation_manager=FlexibleObservationManager(context),
                context=context,
                agent_type=StdPlaceholder if config.track == "std" else Placeholder,
                extra_checks=False,
            )

    return Env


def _std_env_error() -> str:
    from scml.std.context import FixedPartnerNumbersStdContext
    from scml.std.rl import FlexibleActionManager, FlexibleObservationManager
    from scml.std.rl.env import StdEnv

    context = FixedPartnerNumbersStdContext()
    try:
        StdEnv(FlexibleActionManager(context), FlexibleObservationManager(context))
    except Exception as error:
        return f"cannot be made: {type(error).__name__}: {error}"
    return "can be made by now: measure it instead"


CASES: tuple[tuple[str, Callable[[Workload], Measure]], ...] = (
    (BASELINE, scml_loop),
    ("SCML loop, our flags", partial(scml_loop, lean=True)),
    ("ours: engine alone", engine_alone),
    ("ours: ArrayEnv", array_env),
    ("ours: ThreadEnv", thread_env),
    ("ours: ThreadEnv, stopwatch", where_the_time_goes),
)
RL_CASES: tuple[tuple[str, Callable[[Workload], Measure]], ...] = (
    ("SCML OneShotEnv", scml_rl_env),
    ("SCML OneShotEnv, details off", partial(scml_rl_env, saved_details_level=0)),
)
