"""The official SCML world, run lean: the same economy and protocol, without disk, wall clock and bookkeeping.

What is switched off changes no result (SEMANTICS.md g, h): time limits (they move negotiators into helper threads,
where a greenlet cannot switch), logs and tables, saved negotiation records, callbacks that no agent of the world
overrides. What is made definite: exogenous contracts of a day execute in the order of the generator's list instead of
that of a set of random ids, and a negotiation draws no extra random number when the wall clock passes a second.
"""

import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from scml_marl_env import opponents
from scml_marl_env.checkpoints import load_checkpoint
from scml_marl_env.config import EnvConfig
from scml_marl_env.world.draw import WorldDraw, world_class
from scml_marl_env.world.rng import GlobalRandomness, stream_of

_ROUND_CALLBACKS = (
    "on_round_start",
    "on_round_end",
    "on_leave",
    "on_partner_joined",
    "on_partner_left",
    "on_partner_ended",
    "on_partner_proposal",
    "on_partner_refused_to_propose",
    "on_partner_response",
)
_NEVER = 1 << 60


class OrderedContracts(dict):
    """The part of a set of contracts that SCML uses, iterated in order of insertion."""

    def add(self, contract: Any) -> None:
        self[contract.id] = contract

    def remove(self, contract: Any) -> None:
        del self[contract.id]

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self.values()))

    def __contains__(self, contract: Any) -> bool:
        return super().__contains__(contract.id)


class AgentId(str):
    """An agent's id, such as 03Gre@1, with a hash that is the same in every process and for every kind of agent.

    Many SCML agents iterate over sets of ids, whose order follows their hashes: with those of plain strings a world
    would depend on PYTHONHASHSEED, and on the letters by which SCML abbreviates who plays. Ids travel through SCML as
    the objects that they are, so every set of them is ordered alike: by place (03) and level (1).
    """

    __slots__ = ("_hash",)
    _hash: int

    def __new__(cls, text: str) -> "AgentId":
        self = super().__new__(cls, text)
        self._hash = zlib.crc32((text[:2] + text[text.rfind("@") :]).encode())
        return self

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        return self

    def __eq__(self, other: object) -> bool:
        return str.__eq__(self, other) if isinstance(other, str) else False

    @property
    def plain(self) -> str:
        """The same text as an ordinary string, for use outside the world."""
        return str.__str__(self)

    def __reduce__(self) -> Any:
        return AgentId, (self.plain,)


class _Lean:
    """Mixed into an official world class; see the module."""

    # The world asks for a folder only through this attribute and writes nothing where it is None.
    _extra_folder = property(lambda self: None, lambda self, value: None)

    after_day: Callable[[], None] | None = None  # called when the results of a day stand
    n_failed_negotiations = 0  # aborted because a negotiator raised, which SCML counts nowhere
    unsigned_contracts: Any
    exogenous_contracts: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.save_negotiations = False
        unordered, self.unsigned_contracts = self.unsigned_contracts, defaultdict(OrderedContracts)
        for day, contracts in unordered.items():
            for contract in self.exogenous_contracts[day]:
                if contract in contracts:
                    self.unsigned_contracts[day].add(contract)

    def join(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        if x.adapted_object is not None:  # the system's two agents are looked up by constants
            x.id = x.name = x.adapted_object.id = x.adapted_object.name = AgentId(x.id)
        return super().join(x, *args, **kwargs)  # type: ignore[misc]

    def simulation_step(self, stage: int = 0) -> Any:
        result = super().simulation_step(stage)  # type: ignore[misc]
        if stage == 1 and self.after_day is not None:
            self.after_day()
        return result

    def _step_a_mechanism(self, mechanism: Any, *args: Any, **kwargs: Any) -> Any:
        result = super()._step_a_mechanism(mechanism, *args, **kwargs)  # type: ignore[misc]
        if mechanism.state.has_error:
            self.n_failed_negotiations += 1
        return result

    def _make_negotiations(self) -> None:
        super()._make_negotiations()  # type: ignore[misc]
        for negotiation in self._negotiations.values():  # type: ignore[attr-defined]
            negotiation.mechanism._Mechanism__last_second_tried = _NEVER


class _Conserving:
    """Mixed into a std world: production takes what today's inputs do not cover from the stock.

        stock(s+1) = stock(s) + inputs(s) - produced(s)

    The official simulator only adds, max(0, inputs - produced), and never subtracts (SEMANTICS.md e).
    """

    conserving = True

    def simulation_step(self, stage: int = 0) -> Any:
        result = super().simulation_step(stage)  # type: ignore[misc]
        if stage == 1:
            for agent_id, productivity in self._productivity.items():  # type: ignore[attr-defined]
                produced = round(productivity * self.agent_profiles[agent_id].n_lines)  # type: ignore[attr-defined]
                drawn = max(0, produced - self._input_quantity[agent_id])  # type: ignore[attr-defined]
                self._inventory_input[agent_id] -= drawn  # type: ignore[attr-defined]
        return result


class Player(NamedTuple):
    """Who plays a factory: an SCML agent class and the keyword arguments of its constructor."""

    agent: type
    params: Mapping[str, Any] = {}


def opponent(path: str, seed: int, factory: int) -> Player:
    """The player that a path of `opponents.pool` names, for a factory (its index) in the episode of a seed."""
    folder = opponents.checkpoint_of(path)
    if folder is None:
        return Player(opponents.load(path))
    from scml_marl_env.policy_opponent import PolicyOpponent

    return Player(PolicyOpponent, {"policy": load_checkpoint(folder), "stream": stream_of(seed, factory)})


def build(draw: WorldDraw, config: EnvConfig, controlled_class: type) -> Any:
    """The world of a draw with `controlled_class` in the controlled factories; call it in its randomness."""
    players = [
        Player(controlled_class) if path is None else opponent(path, draw.seed, index)
        for index, path in enumerate(draw.agent_types)
    ]
    return build_with(draw.params, config, players, name=f"world-{draw.seed}")


def build_with(economy: Mapping[str, Any], config: EnvConfig, players: Sequence[Player], name: str) -> Any:
    """The world of an economy (`WorldDraw.params`) with one player for each factory; call it in its randomness.

    Every agent is constructed in randomness of its own, which follows from `name` and its place: the world draws the
    same penalties whoever plays in it.
    """
    from scml.oneshot.sysagents import DefaultOneShotAdapter

    lean = _lean_class(world_class(config), config.inventory == "conserving")
    classes = [player.agent for player in players]
    agents = []
    for index, player in enumerate(players):
        with GlobalRandomness(zlib.crc32(f"{name}/{index}".encode())):
            agents.append(player.agent(**player.params))
    params = dict(economy)
    params.update(
        name=name,
        agent_types=[DefaultOneShotAdapter] * len(classes),
        agent_params=[{"controller_type": lambda agent=agent: agent} for agent in agents],
        neg_n_steps=config.rounds,
        time_limit=None,
        neg_time_limit=None,
        neg_hidden_time_limit=float("inf"),
        neg_step_time_limit=float("inf"),
        sync_calls=True,
        saved_details_level=0,
        ignore_agent_exceptions=True,
        ignore_negotiation_exceptions=True,
        mechanisms={"negmas.sao.SAOMechanism": {"extra_callbacks": _listens(classes)}},
    )
    return lean(**params)


def settled(world: Any, agent_id: str) -> dict[str, Any]:
    """What the world made of a factory's last finished day: fields of `engine.DayResult`, items and dollars."""
    return {
        "balance": float(world.current_balance(agent_id)),
        "profit": float(world._profits[agent_id][-1]),
        "stock": int(world._inventory_input[agent_id]),
        "produced": round(world._productivity[agent_id] * world.agent_profiles[agent_id].n_lines),
        "shortfall": int(world._shortfall_quantity[agent_id]),
        "shortfall_penalty": float(world._shortfall_penalty[agent_id]),
        "storage_cost": float(world._storage_cost[agent_id]),
        "disposal_cost": float(world._disposal_cost[agent_id]),
    }


@cache
def _lean_class(official: type, conserving: bool) -> type:
    bases: tuple[type, ...] = (_Lean, _Conserving, official) if conserving else (_Lean, official)
    return type(official.__name__, bases, {})


def _listens(classes: list[type]) -> bool:
    """Whether an agent overrides one of the callbacks of single rounds, which cost a quarter of the time."""
    from negmas.sao import SAOController, SAOSyncController

    plain = {
        name: {getattr(base, name, None) for base in (SAOController, SAOSyncController)} for name in _ROUND_CALLBACKS
    }
    return any(getattr(agent, name, None) not in plain[name] for agent in classes for name in _ROUND_CALLBACKS)
