"""Plays one world of a tournament and measures it."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from scml_marl_env import opponents
from scml_marl_env.audit.shield import shielded
from scml_marl_env.tournament.competitors import Competitor
from scml_marl_env.tournament.plan import Job, Tournament, arrange
from scml_marl_env.tournament.prices import fractional_prices
from scml_marl_env.tournament.record import SeatRecord, WorldRecord
from scml_marl_env.world.draw import economy
from scml_marl_env.world.official import Player, build_with, opponent
from scml_marl_env.world.rng import GlobalRandomness


def play(tournament: Tournament, job: Job) -> WorldRecord:
    """Plays a world to its end; equal arguments give equal records, but for times.

    Raises:
        Exception: whatever an agent's constructor raises; what agents raise while they play is counted, as SCML does.
    """
    start = time.perf_counter()
    config = tournament.config()
    made = economy(config, job.world_seed)
    paths, seats = arrange(tournament, config, made, job)
    players = [
        player_of(seats[index]) if path is None else opponent(path, job.world_seed, index)
        for index, path in enumerate(paths)
    ]
    with fractional_prices(tournament.fractional_prices == "accept"):
        with GlobalRandomness(job.world_seed + 1):
            world = build_with(made.params, config, players, name=f"world-{job.world_seed}")
        books = [Book(world, index) for index in seats]
        _listen(world, books)
        with GlobalRandomness(job.world_seed + 2):
            while world.step():
                pass
    scores = world.scores()
    return WorldRecord(
        key=job.key,
        world_seed=job.world_seed,
        rotation=job.rotation,
        error=None,
        n_days=int(world.n_steps),
        n_levels=max(made.levels) + 1,
        competitors=_names(seats),
        seats=tuple(
            SeatRecord(
                index=book.index,
                level=made.levels[book.index],
                last=made.levels[book.index] == max(made.levels),
                competitor=seats[book.index].name,
                measures=book.measures(float(scores[book.agent_id])),
                extra=_report(book.agent),
            )
            for book in books
        ),
        seconds=time.perf_counter() - start,
    )


def play_one(tournaments: Sequence[Tournament], call: tuple[int, Job]) -> WorldRecord:
    """`play` of a job in the tournament with that number."""
    number, job = call
    return play(tournaments[number], job)


def lost(tournament: Tournament, job: Job, error: str, seconds: float) -> WorldRecord:
    """The record of a world that could not be played."""
    config = tournament.config()
    seats = arrange(tournament, config, economy(config, job.world_seed), job).seats
    return WorldRecord(
        key=job.key,
        world_seed=job.world_seed,
        rotation=job.rotation,
        error=error,
        n_days=0,
        n_levels=0,
        competitors=_names(seats),
        seats=(),
        seconds=seconds,
    )


class Book:
    """What one factory of a running world does, day by day; the formulas are in `record.MEASURES`."""

    def __init__(self, world: Any, index: int) -> None:
        self.world = world
        self.index = index
        self.agent_id = [agent_id for agent_id in world.agents if agent_id in world.agent_profiles][index]
        self.agent = world.agents[self.agent_id].adapted_object
        self.days: list[tuple[float, float, float, float, float]] = []  # balance, stock, produced, due, short
        self.items, self.money, self.worth, self.deals = [0, 0], [0.0, 0.0], [0.0, 0.0], 0
        self.seconds: list[float] = []
        self.n_exceptions = 0
        self._watch_decisions()

    def close_day(self) -> None:
        """Notes the results of a day."""
        world, me = self.world, self.agent_id
        lines = world.agent_profiles[me].n_lines
        self.days.append(
            (
                float(world.current_balance(me)),
                float(world._inventory_input[me]),
                float(round(world._productivity[me] * lines)),
                float(world._output_quantity[me]),
                float(world._shortfall_quantity[me]),
            )
        )

    def sign(self, side: int, quantity: int, price: float, market: float) -> None:
        """Notes a contract: `side` 0 buys, 1 sells."""
        self.deals += 1
        self.items[side] += quantity
        self.money[side] += price * quantity
        self.worth[side] += market * quantity

    def measures(self, score: float) -> dict[str, float]:
        """Every measure of `record.MEASURES`."""
        world, me = self.world, self.agent_id
        balance, stock, produced, due, short = np.array(self.days).T
        start = float(world.initial_balances[me])
        lines = world.agent_profiles[me].n_lines
        bought, sold = self.items
        return {
            "score": score,
            "deals": float(self.deals),
            "bought": float(bought),
            "sold": float(sold),
            "buy_price": self.money[0] / self.worth[0] if self.worth[0] else math.nan,
            "sell_price": self.money[1] / self.worth[1] if self.worth[1] else math.nan,
            "shortfall_units": float(short.sum()),
            "shortfall_days": float((short > 0).sum()),
            "breach_rate": float(short.sum() / due.sum()) if due.sum() else 0.0,
            "bankrupt": float(world.is_bankrupt[me]),
            "stock_mean": float(stock.mean()),
            "stock_volatility": float(stock.std()),
            "capital_volatility": float(np.diff(balance, prepend=start).std() / start),
            "idle_lines": 1.0 - float(produced.sum()) / (lines * len(produced)),
            "windows": float(len(self.seconds)),
            "decision_ms": 1000 * float(np.mean(self.seconds)) if self.seconds else math.nan,
            "decision_ms_max": 1000 * max(self.seconds, default=math.nan),
            "exceptions": float(world.n_total_agent_exceptions[me] + self.n_exceptions),
        }

    def _watch_decisions(self) -> None:
        """Times the calls by which SCML asks the agent for a decision, and counts those that raise."""
        from negmas.sao import SAOSyncController

        kind = type(self.agent)  # several competition agents are sync by name but answer thread by thread
        together = all(getattr(kind, name) is getattr(SAOSyncController, name, None) for name in ("propose", "respond"))
        for name in ("first_proposals", "counter_all") if together else ("propose", "respond"):
            setattr(self.agent, name, self._watched(getattr(self.agent, name)))

    def _watched(self, method: Callable) -> Callable:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return method(*args, **kwargs)
            except Exception:
                self.n_exceptions += 1
                raise
            finally:
                self.seconds.append(time.perf_counter() - start)

        return call


def _names(seats: dict[int, Competitor]) -> tuple[str, ...]:
    return tuple(sorted({competitor.name for competitor in seats.values()}))


def player_of(competitor: Competitor) -> Player:
    """What a world makes an agent of."""
    agent = opponents.load(competitor.path)
    return Player(agent if competitor.shield is None else shielded(agent, competitor.shield), competitor.params)


def _listen(world: Any, books: list[Book]) -> None:
    """Lets the books hear of every day and every contract; the world goes on as it would."""
    by_id = {book.agent_id: book for book in books}
    signed = world.on_contract_signed

    def on_contract_signed(contract: Any) -> Any:
        result = signed(contract)
        said, about = contract.agreement, contract.annotation
        market = float(world.trading_prices[about["product"]])
        if about["buyer"] in world.agent_profiles and about["seller"] in world.agent_profiles:
            for side, party in enumerate((about["buyer"], about["seller"])):
                if party in by_id:
                    by_id[party].sign(side, int(said["quantity"]), float(said["unit_price"]), market)
        return result

    def after_day() -> None:
        for book in books:
            book.close_day()

    world.on_contract_signed = on_contract_signed
    world.after_day = after_day


def _report(agent: Any) -> dict[str, float]:
    """What the agent counted of itself, if it does."""
    report = getattr(agent, "tournament_report", None)
    return {} if report is None else {name: float(value) for name, value in report().items()}
