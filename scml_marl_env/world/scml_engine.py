"""The real engine: the official simulator in a greenlet of its own, stopped at every window of a controlled factory.

`resume` switches into the simulation, which runs until a controlled factory has to answer, goes bankrupt, or the run is
over, and switches back with that event. The simulation never refers to the engine, only to a small `_Bridge`: so an
engine that is dropped takes its greenlet, its world and their memory with it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import greenlet
import numpy as np

from scml_marl_env.agent import WindowAgent
from scml_marl_env.awi_view import AwiView
from scml_marl_env.config import EnvConfig
from scml_marl_env.features import LIMIT
from scml_marl_env.layers.l1_shield import attribute_shortfall
from scml_marl_env.view import FactoryView, empty_view
from scml_marl_env.world.draw import WorldDraw, draw
from scml_marl_env.world.engine import Answer, Bankrupt, DayResult, Event, Over, Window
from scml_marl_env.world.official import build, settled
from scml_marl_env.world.rng import GlobalRandomness


@dataclass
class _Bridge:
    """All that the simulation knows of the engine."""

    view: FactoryView
    conserving: bool
    results: list[list[DayResult]]
    outer: Any = field(default=None)

    def ask(self, event: Any) -> Any:
        return self.outer.switch(event)


def _guarded(method: Callable) -> Callable:
    """An error of our own code goes to the environment; SCML would count it as an exception of the agent and go on."""

    @wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except Exception as error:
            return self.bridge.ask(error)

    return call


class _BridgeAgent(WindowAgent):
    """A controlled factory: its windows are events of the engine."""

    bridge: _Bridge
    factory: int

    def open_book(self) -> AwiView:
        return AwiView(self.awi, self.bridge.view, self.factory, self.bridge.conserving)

    def decide(self) -> Mapping[int, Answer]:
        return self.bridge.ask(Window(self.factory))

    @_guarded
    def init(self) -> None:
        super().init()
        self._was_bankrupt = False

    @_guarded
    def before_step(self) -> None:
        super().before_step()
        if not self._was_bankrupt and self.awi.is_bankrupt():
            self._was_bankrupt = True
            self.bridge.ask(Bankrupt(self.factory))

    first_proposals = _guarded(WindowAgent.first_proposals)
    counter_all = _guarded(WindowAgent.counter_all)
    on_negotiation_success = _guarded(WindowAgent.on_negotiation_success)
    on_negotiation_failure = _guarded(WindowAgent.on_negotiation_failure)


class ScmlEngine:
    """Plays worlds of one config, one after the other.

    Attributes:
        view: `FactoryView` of the F controlled factories, rows beyond `n_factories` unused; written in place.
        n_factories: controlled factories of the current world (F, unless `controlled="all"` drew fewer).
        results: for each factory, the `DayResult` of every finished day.
        world: the SCML world, for inspection; never needed to play.
        on_build: called with each new world before it is played, to listen to it.
    """

    def __init__(self, config: EnvConfig) -> None:
        self.config = config
        self.view = empty_view(config.n_controlled, config.n_slots, config.horizon + 1, config.history)
        self.n_factories = 0
        self.results: list[list[DayResult]] = []
        self.world: Any = None
        self.drawn: WorldDraw | None = None
        self.on_build: Callable[[Any], None] | None = None
        self._simulation: Any = None
        self._randomness: GlobalRandomness | None = None
        self._bridge: _Bridge | None = None

    def reset(self, seed: int) -> Event:
        """Draws a new world and plays it to its first event."""
        self.close()
        self.drawn = draw(self.config, seed)
        self.n_factories = len(self.drawn.controlled)
        self.results = [[] for _ in range(self.n_factories)]
        for array in self.view:
            array[:] = 0
        bridge = _Bridge(self.view, self.config.inventory == "conserving", self.results)
        self._bridge = bridge
        with GlobalRandomness(self.drawn.world_seed + 1):  # SCML's constructor draws the daily penalties
            self.world = build(self.drawn, self.config, _BridgeAgent)
        if self.on_build is not None:
            self.on_build(self.world)
        self._randomness = GlobalRandomness(seed + 1)
        ids = list(self.world.agents)
        self._ids = [ids[index] for index in self.drawn.controlled]
        for factory, agent_id in enumerate(self._ids):
            agent = self.world.agents[agent_id].adapted_object
            agent.bridge, agent.factory = bridge, factory
        self.world.after_day = _collector(self.world, self._ids, self.results)
        self._simulation = greenlet.greenlet(_run)
        return self._switch(self.world)

    def resume(self, answers: Mapping[int, Answer] | None = None) -> Event:
        """Answers the last event (slot -> Answer for a window, None otherwise) and plays to the next one."""
        if not self.is_running:
            raise RuntimeError("The simulation is over; call reset() first.")
        return self._switch(answers)

    @property
    def is_running(self) -> bool:
        """Whether the run goes on: `resume` may be called."""
        return self._simulation is not None and not self._simulation.dead

    def partners_of(self, factory: int) -> list[str]:
        """SCML ids of the partners of a factory, in the order of its slots."""
        return [partner.plain for partner in self.world.agents[self._ids[factory]].adapted_object.book.partners]

    def final_balance(self, factory: int) -> float:
        """Balance after the last finished day, dollars."""
        results = self.results[factory]
        return results[-1].balance if results else float(self.view.initial_balance[factory])

    def is_bankrupt(self, factory: int) -> bool:
        return bool(self.world.is_bankrupt[self._ids[factory]])

    def write_private(self, out: np.ndarray) -> None:
        """What only a trainer may know: float32 (places, 6), a row for each factory of the world, zeros beyond.

        Columns: there, stock / capacity, balance / initial balance, items to receive and items to deliver by contracts
        signed for today or later / capacity, bankrupt.
        """
        out[:] = 0
        world = self.world
        factories = [agent_id for agent_id in world.agents if agent_id in world.agent_profiles]
        for row, agent_id in zip(out, factories, strict=False):
            awi = world.agents[agent_id].awi
            capacity = world.agent_profiles[agent_id].n_lines
            row[0] = 1.0
            row[1] = world._inventory_input[agent_id] / capacity
            row[2] = world.current_balance(agent_id) / world.initial_balances[agent_id]
            row[3] = (awi.total_supplies + awi.total_future_supplies) / capacity
            row[4] = (awi.total_sales + awi.total_future_sales) / capacity
            row[5] = world.is_bankrupt[agent_id]
        np.clip(out, -LIMIT, LIMIT, out=out)

    def n_exceptions(self) -> int:
        """Exceptions inside opponents so far. SCML's rule breaks the negotiation, or skips the call, and plays on.

        What a policy could not answer counts as well, though its agent has an answer in place of it.
        """
        if self.world is None:
            return 0
        players = [agent.adapted_object for agent in self.world.agents.values()]
        replaced = sum(player.n_fallbacks() for player in players if hasattr(player, "n_fallbacks"))
        return sum(self.world.n_total_agent_exceptions.values()) + self.world.n_failed_negotiations + replaced

    def scores(self) -> dict[str, float]:
        """SCML's score of every factory: balance over initial balance."""
        return {agent_id.plain: float(score) for agent_id, score in self.world.scores().items()}

    def score(self, factory: int) -> float:
        """SCML's score of a controlled factory."""
        return float(self.world.scores()[self._ids[factory]])

    def close(self) -> None:
        """Ends the simulation, if one is running, and lets go of its world."""
        simulation, self._simulation = self._simulation, None
        if simulation is not None and not simulation.dead:
            assert self._randomness is not None
            with self._randomness:
                simulation.throw(greenlet.GreenletExit)
        self.world = None
        self._bridge = None

    def _switch(self, value: Any) -> Event:
        assert self._bridge is not None and self._randomness is not None
        self._bridge.outer = greenlet.getcurrent()
        self._simulation.parent = self._bridge.outer
        try:
            with self._randomness:
                event = self._simulation.switch(value)
        except Exception as error:
            return Over(f"{type(error).__name__}: {error}")
        finally:
            self._bridge.outer = None
        if isinstance(event, Exception):
            self.close()
            raise RuntimeError("The environment failed inside the simulation; reset() starts a new world.") from event
        return event


def _run(world: Any) -> Over:
    while world.step():
        pass
    return Over(None)


def _collector(world: Any, ids: list[str], results: list[list[DayResult]]) -> Callable[[], None]:
    """A function that appends the day's result of every controlled factory; without a reference cycle to `world`."""
    import weakref

    weak = weakref.ref(world)

    def collect() -> None:
        world = weak()
        assert world is not None
        for agent_id, rows in zip(ids, results, strict=True):
            day, forced, result = world.current_step, int(world.exogenous_qout[agent_id]), settled(world, agent_id)
            bought, sold = int(world._input_quantity[agent_id]), int(world._output_quantity[agent_id])
            n_lines = world.agent_profiles[agent_id].n_lines
            before = rows[-1] if rows else None
            ruined = before is not None and before.balance < 0
            void = 0 if ruined else world.agents[agent_id].adapted_object.book.void_until(day)
            inputs = bought + (before.stock if before else 0)
            rows.append(
                DayResult(
                    day=day,
                    bought=bought,
                    sold=sold,
                    due_to=attribute_shortfall(sold - forced, forced, inputs, result["produced"], n_lines, void),
                    **result,
                )
            )

    return collect
