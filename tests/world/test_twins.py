"""The scripted agents of the fast engine against SCML's own, decision by decision, to the last bit and the last draw.

A real world is played with SCML's agents. Beside it, a twin of each agent keeps its own memory and random stream;
before every decision it is shown what the original sees, and then must answer the same after as many draws.
"""

from collections import Counter

import numpy as np
import pytest
from negmas import ResponseType
from scml.oneshot.agents.rand import powerset

from scml_marl_env.world.fast import columns as at
from scml_marl_env.world.fast import scripted
from scml_marl_env.world.fast.rand_dist import nearest
from scml_marl_env.world.fast.tables import static_of, tables_of
from tests.world import originals

KINDS = {ResponseType.ACCEPT_OFFER: at.ACCEPT, ResponseType.END_NEGOTIATION: at.END}
STD = (originals.GreedyStd, originals.RandomStd, originals.SyncRandomStd)
ONESHOT = (originals.GreedyOneShot, originals.RandDist, originals.EqualDist, originals.RandomOneShot)


def is_running(negotiator):
    """Whether its negotiation is not over; some lose their mechanism when it is."""
    return negotiator.nmi is not None and not negotiator.nmi.state.ended


class Shadow:
    """The twins of all agents of a world; a listener of its originals."""

    def __init__(self, world, classes, streams):
        self.world = world
        self.tables = tables_of(static_of(world))
        self.state = at.empty_state(1, self.tables)
        self.ids = list(world.agent_profiles)
        self.number = {agent: f for f, agent in enumerate(self.ids)}
        self.compared, self.different = Counter(), []
        for f, there in enumerate(classes):
            self.state.factory[0, f, at.POLICY] = at.NOTHING if there.policy is None else there.policy
            self.state.random[0, f] = streams.initial[f]
            scripted.begin_agent(self.tables, self.state, 0, f)
            assert int(self.state.random[0, f]) == streams.streams[f].state

    def show(self, agent):
        """Copies what the agent's AWI and negotiations say into the arrays."""
        s, f, awi, world = self.state, agent.index, agent.awi, self.world
        assert awi.agent.id == self.ids[f]
        day = s.world[0, at.DAY] = awi.current_step
        s.world[0, at.TODAY] = day % s.queue.shape[1]
        s.world[0, at.EXO_FIRST] = awi.exogenous_contract_summary[0][0]
        s.world[0, at.EXO_LAST] = awi.exogenous_contract_summary[-1][0]
        for product, issues in enumerate(world._current_issues):
            s.agenda[0, product] = issues[2].min_value, issues[2].max_value
        row = s.factory[0, f]
        row[at.STOCK] = awi.current_inventory_input
        row[at.EXO_IN] = awi.current_exogenous_input_quantity
        row[at.EXO_OUT] = awi.current_exogenous_output_quantity
        for g, other in enumerate(self.ids):
            s.factory[0, g, at.BANKRUPT] = world.is_bankrupt[other]
        ring = s.due.shape[3]
        s.due[0, f] = 0
        for way, booked in ((at.DUE_IN, awi._future_supplies), (at.DUE_OUT, awi._future_sales)):
            for due, parts in booked.items():
                if due >= day:
                    assert due < day + ring
                    s.due[0, f, way, due % ring] = sum(parts.values())
        order = []
        s.thread[0, :, at.RUNNING] = 0
        for partner, (negotiator, _) in agent.negotiators.items():
            i, _ = self.place(f, partner)
            order.append(i)
            s.thread[0, i] = 0
            if is_running(negotiator):
                s.thread[0, i, at.RUNNING], s.thread[0, i, at.STEP] = 1, negotiator.nmi.state.step
        assert order == sorted(order)
        partners = [p for p in (*awi.my_suppliers, *awi.my_consumers) if p in self.number and not world.is_bankrupt[p]]
        assert len(order) == (0 if world.is_bankrupt[self.ids[f]] else len(partners))

    def place(self, f, partner):
        """(thread with that partner, side of factory f in it)."""
        g = self.number[partner]
        threads = self.tables.thread[0]
        (i,) = np.flatnonzero((threads[:, at.BUYER] == max(f, g)) & (threads[:, at.SELLER] == min(f, g)))
        return int(i), int(threads[i, at.SECOND] == f)

    def put_offer(self, i, offer, state):
        """Lays an offer on the table of thread i."""
        thread = self.state.thread[0, i]
        thread[at.HAS_OFFER], thread[at.STEP] = 1, state.step
        thread[at.OFFER_QUANTITY], thread[at.OFFER_DAY], thread[at.OFFER_PRICE] = offer
        assert state.relative_time == (state.step + 1) / (self.tables.world[0, at.N_ROUNDS] + 1)

    def answer(self, i, side):
        """What the twin wrote for a side: (END,), (ACCEPT,) or (OFFER, quantity, day, price)."""
        block = self.state.thread[0, i, at.SIDE + side * at.SIDE_SIZE :]
        kind = int(block[at.RESPONSE])
        return (kind, *block[[at.QUANTITY, at.TIME, at.PRICE]].tolist()) if kind == at.OFFER else (kind,)

    def check(self, agent, kind, wanted, found):
        f = agent.index
        stream = int(self.state.random[0, f])
        level = "first" if agent.awi.is_first_level else "last" if agent.awi.is_last_level else "middle"
        if agent.policy is None:
            return
        self.compared[type(agent).__name__, level, kind] += 1
        if wanted != found or stream != agent.stream.state:
            told = f"day {agent.awi.current_step}, {self.ids[f]}, {kind}: original {wanted}, twin {found}"
            self.different.append(told + (", other draws" if stream != agent.stream.state else ""))
            self.state.random[0, f] = agent.stream.state

    def before(self, agent, kind, *args):
        f = agent.index
        if agent.policy is None:
            return
        if kind == "before_step":
            self.show(agent)
            scripted.begin_day(self.tables, self.state, 0, f)
        elif kind == "deal":
            said, about = args[0].agreement, args[0].annotation
            sells = about["seller"] == self.ids[f]
            i, side = self.place(f, about["buyer" if sells else "seller"])
            slot = self.tables.thread[0, i, at.SLOT_FIRST + side]
            deal = said["quantity"], said["time"], said["unit_price"]
            scripted.on_deal(self.tables, self.state, 0, f, int(slot), sells, *deal)
        elif kind == "respond":
            self.show(agent)
            i, side = self.place(f, args[0])
            self.put_offer(i, args[1].current_offer, args[1])
            scripted.decide(self.tables, self.state, 0, i, side)
        elif kind == "propose" and args[1].current_offer is None:
            self.show(agent)
            i, side = self.place(f, args[0])
            scripted.decide(self.tables, self.state, 0, i, side)
        elif kind == "first_proposals":
            self.show(agent)
            self.state.world[0, at.IS_FIRST] = 1
            scripted.decide_all(self.tables, self.state, 0, f)
        elif kind == "counter_all":
            self.show(agent)
            offers, states = args
            threads = [self.place(f, partner) for partner in offers]
            for number, ((i, side), (partner, offer)) in enumerate(zip(threads, offers.items(), strict=True)):
                self.put_offer(i, offer, states[partner])
                assert agent.get_nmi(partner).state.relative_time == states[partner].relative_time
                self.state.thread[0, i, at.SIDE + side * at.SIDE_SIZE + at.COLLECTED] = 1 + number
            self.state.world[0, at.IS_FIRST] = 0
            scripted.decide_all(self.tables, self.state, 0, f)

    def after(self, agent, kind, answer, *args):
        f = agent.index
        if kind == "respond" and answer in KINDS:
            self.check(agent, "respond", (KINDS[answer],), self.answer(*self.place(f, args[0])))
        elif kind == "propose":
            wanted = (at.OFFER, *(answer or ())) if answer is not None else (at.END,)
            label = "propose" if args[1].current_offer is None else "respond"
            self.check(agent, label, wanted, self.answer(*self.place(f, args[0])))
        elif kind in ("first_proposals", "counter_all"):
            running = [p for p, (negotiator, _) in agent.negotiators.items() if is_running(negotiator)]
            wanted = [self.of_sync(answer.get(partner)) for partner in running]
            self.check(agent, kind, wanted, [self.answer(*self.place(f, partner)) for partner in running])

    @staticmethod
    def of_sync(answer):
        """The answer to one partner; a price with a fraction, which ends a negotiation, is -1 with the twin."""
        offer = answer
        if hasattr(answer, "response"):
            if answer.response in KINDS:
                return (KINDS[answer.response],)
            offer = answer.outcome
        if offer is None:
            return (at.END,)
        quantity, day, price = offer
        return at.OFFER, quantity, day, int(price) if price == int(price) else -1


def play(monkeypatch, env_id, seed, agents, **options):
    """Plays a world beside its twins; the `Shadow`."""
    with originals.original_world(monkeypatch, env_id, seed, agents, **options) as (world, _, classes, streams):
        streams.listener = shadow = Shadow(world, classes, streams)
        while world.step():
            pass
    if streams.errors:
        raise streams.errors[0]
    return shadow


def compare(monkeypatch, env_id, agents, seeds, **options):
    """Plays worlds of these agents, with and without hagglers among them; decisions by (agent, level, kind)."""
    compared = Counter()
    for seed in seeds:
        there = (*agents, originals.Haggler, originals.Haggler) if seed % 2 else agents
        shadow = play(monkeypatch, env_id, seed, there, **options)
        assert shadow.different == []
        compared += shadow.compared
    return compared


def check_coverage(compared, agents, levels, least):
    """Every agent has decided at every level in every way that it has there."""
    for agent in agents:
        sync = issubclass(agent, originals.SyncRandomStd | originals.RandDist | originals.EqualDist)
        for level in levels:
            for kind in ("first_proposals", "counter_all") if sync else ("respond",):
                assert compared[agent.__name__, level, kind] >= least, (agent, level, kind, compared)
        if not sync:
            assert (
                sum(n for (name, _, kind), n in compared.items() if (name, kind) == (agent.__name__, "propose")) > least
            )


@pytest.mark.parametrize("processes", [2, 3, 4])
def test_every_decision_in_a_std_world_is_the_originals(monkeypatch, processes):
    compared = compare(monkeypatch, "std-2025", STD, range(6), days=12, processes=processes, factories_per_level=(2, 4))
    check_coverage(compared, STD, ("first", "middle", "last") if processes > 2 else ("first", "last"), 20)
    assert compared.total() > 5000


def test_every_decision_with_eight_partners_is_the_originals(monkeypatch):
    agents = (originals.SyncRandomStd, originals.Haggler)
    compared = compare(monkeypatch, "std-2025", agents, range(3), days=10, processes=3, factories_per_level=4)
    assert compared["SyncRandomStd", "middle", "counter_all"] > 100


def test_every_decision_in_a_oneshot_world_is_the_originals(monkeypatch):
    compared = compare(monkeypatch, "oneshot-2025", ONESHOT, range(12), days=12, factories_per_level=(2, 6))
    check_coverage(compared, ONESHOT, ("first", "last"), 20)
    assert compared.total() > 3000


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 30, 2))
@pytest.mark.parametrize(("env_id", "agents"), [("std-2025", STD), ("oneshot-2025", ONESHOT)])
def test_every_decision_in_a_long_world_is_the_originals(monkeypatch, env_id, agents, seed):
    compared = compare(monkeypatch, env_id, agents, (seed, seed + 1), days=50, factories_per_level=(3, 4))
    assert compared.total() > 1000


def test_the_nearest_set_is_the_first_of_the_reversed_powerset():
    rng = np.random.default_rng(0)
    for _ in range(300):
        n, needs = int(rng.integers(0, 8)), int(rng.integers(-3, 25))
        offered = rng.integers(1, 11, size=8)
        sets = list(powerset(range(n)))[::-1]
        misses = [abs(sum(int(offered[j]) for j in one) - needs) for one in sets]
        best = misses.index(min(misses))
        found, miss = nearest(offered, np.sort(offered[:n]), n, needs)
        assert miss == misses[best]
        assert tuple(j for j in range(n) if found >> (n - 1 - j) & 1) == sets[best]
