"""Small worlds and agents that do just what a test says."""

from typing import Any, ClassVar

from negmas.sao import ResponseType, SAOResponse
from scml.oneshot.common import TIME, UNIT_PRICE
from scml.std import StdAgent, StdSyncAgent

from scml_marl_env.config import EnvConfig
from scml_marl_env.world import draw
from scml_marl_env.world.official import Player, build_with
from scml_marl_env.world.rng import GlobalRandomness

ROUNDS = 4


def world_of(config: EnvConfig, agents: Any, seed: int = 3) -> Any:
    """A world that was played; `agents` is a class, or a list with a class for each factory."""
    economy = draw.economy(config, seed)
    classes = agents if isinstance(agents, list) else [agents] * len(economy.levels)
    with GlobalRandomness(seed + 1):
        world = build_with(economy.params, config, [Player(agent) for agent in classes], name="scripted")
    with GlobalRandomness(seed + 2):
        while world.step():
            pass
    return world


def small(track: str = "std", **options: Any) -> EnvConfig:
    return EnvConfig(track=track, **{"processes": 2, "factories_per_level": 2, "days": 6, "rounds": ROUNDS, **options})


def agents_of(world: Any) -> list[Any]:
    """The agents of the factories, in the order of the levels."""
    return [world.agents[name].adapted_object for name in world.agents if name in world.agent_profiles]


def record_of(world: Any) -> tuple[Any, ...]:
    """Scores and every contract of a world."""
    contracts = {c.id: c for contracts in world._SCMLBaseWorld__contracts.values() for c in contracts}.values()
    rows = [(c.signed_at, c.executed_at, tuple(c.partners), tuple(c.agreement.items())) for c in contracts]
    return {str(name): score for name, score in world.scores().items()}, sorted(rows, key=str)


class _Partner:
    """Offers `OFFER` (quantity, lead) in every round and accepts nothing; `heard` holds what it was offered."""

    OFFER: ClassVar[tuple[int, int]] = (1, 0)

    def init(self) -> None:
        self.heard: list[tuple[int, int, int]] = []

    def _offer(self, partner: str) -> tuple[int, int, int]:
        issues = self.get_nmi(partner).issues
        day = min(self.awi.current_step + self.OFFER[1], issues[TIME].max_value)
        return self.OFFER[0], day, issues[UNIT_PRICE].max_value


class Refuses(_Partner, StdAgent):
    """Answers at once."""

    def propose(self, negotiator_id: str, state: Any) -> Any:
        return self._offer(negotiator_id)

    def respond(self, negotiator_id: str, state: Any, source: Any = None) -> Any:
        quantity, day, price = state.current_offer
        self.heard.append((quantity, day - self.awi.current_step, price))
        return ResponseType.REJECT_OFFER


class WaitsThenRefuses(Refuses):
    """Answers when all other negotiations have had their turn."""

    def init(self) -> None:
        super().init()
        self._waited: set[Any] = set()

    def respond(self, negotiator_id: str, state: Any, source: Any = None) -> Any:
        waited = (negotiator_id, self.awi.current_step, state.step)
        if waited not in self._waited:
            self._waited.add(waited)
            return ResponseType.WAIT
        return super().respond(negotiator_id, state)


class Offers30(Refuses):
    """Wants 30 items in two days."""

    OFFER = (30, 2)


class _Seller:
    """On day 0, answers its k-th consumer as `PLAN[k]` says; ends everything else."""

    PLAN: ClassVar[tuple[Any, ...]] = ()

    def _plan(self, partner: str) -> SAOResponse:
        consumers = list(self.awi.my_consumers)
        if self.awi.current_step > 0 or partner not in consumers[: len(self.PLAN)]:
            return SAOResponse(ResponseType.END_NEGOTIATION, None)
        plan = self.PLAN[consumers.index(partner)]
        if plan == "accept":
            return SAOResponse(ResponseType.ACCEPT_OFFER, None)
        quantity, lead, slack = plan
        price = self.get_nmi(partner).issues[UNIT_PRICE].max_value - slack
        return SAOResponse(ResponseType.REJECT_OFFER, (quantity, self.awi.current_step + lead, price))


class SellsTogether(_Seller, StdSyncAgent):
    def first_proposals(self) -> Any:
        return {partner: self._plan(partner).outcome for partner in self.negotiators}

    def counter_all(self, offers: Any, states: Any) -> Any:
        return {partner: self._plan(partner) for partner in offers}


class SellsOneByOne(_Seller, StdAgent):
    def propose(self, negotiator_id: str, state: Any) -> Any:
        return self._plan(negotiator_id).outcome

    def respond(self, negotiator_id: str, state: Any, source: Any = None) -> Any:
        return self._plan(negotiator_id).response


def planned(base: type, *plan: Any) -> type:
    """The seller class with a plan: (items, lead time, dollars below the best price) or "accept" for each consumer."""
    return type(base.__name__, (base,), {"PLAN": plan})


class Breaks(Refuses):
    """Cannot be audited in worlds of an even seed."""

    def tournament_report(self) -> dict[str, float]:
        if self.awi._world.name.endswith(("0", "2", "4", "6", "8")):
            raise ValueError("broken on purpose")
        return {}


class LeavesOut(StdSyncAgent):
    """Offers each consumer 20 items for today and leaves its suppliers out, so that SCML ends them."""

    def first_proposals(self) -> Any:
        consumers = [partner for partner in self.awi.my_consumers if partner in self.negotiators]
        today = self.awi.current_step
        return {partner: (20, today, self.get_nmi(partner).issues[UNIT_PRICE].max_value) for partner in consumers}

    def counter_all(self, offers: Any, states: Any) -> Any:
        return {partner: SAOResponse(ResponseType.END_NEGOTIATION, None) for partner in offers}
