"""SCML's own default agents, made comparable: each draws from a splitmix64 stream of its own.

`Streams` replaces `random` in the agents' modules (and what they call) by a proxy that looks up the agent that is being
called. The classes below tell it, and tell a `listener`, if there is one, about every decision.
"""

import random as python_random
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from scml.oneshot.agents.greedy import GreedyOneShotAgent
from scml.oneshot.agents.nothing import OneshotDoNothingAgent
from scml.oneshot.agents.rand import EqualDistOneShotAgent, RandDistOneShotAgent, RandomOneShotAgent
from scml.std.agents.greedy import GreedyStdAgent
from scml.std.agents.rand import RandomStdAgent, SyncRandomStdAgent

from scml_marl_env.registry import config_of
from scml_marl_env.world import official
from scml_marl_env.world.draw import draw
from scml_marl_env.world.fast import columns as at
from scml_marl_env.world.rng import GlobalRandomness

PATCHED = (
    "scml.std.agents.greedy",
    "scml.std.agents.rand",
    "scml.oneshot.agents.greedy",
    "scml.oneshot.agents.rand",
    "scml.common",
    "negmas.outcomes.contiguous_issue",
)
_MASK = (1 << 64) - 1


class Stream:
    """splitmix64 in plain Python, with the functions of `random` that the agents use."""

    def __init__(self, state):
        self.state = state
        self.n_draws = 0

    def random(self):
        self.n_draws += 1
        self.state = (self.state + 0x9E3779B97F4A7C15) & _MASK
        x = self.state
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
        return ((x ^ (x >> 31)) >> 11) * 2.0**-53

    def randint(self, low, high):
        assert low <= high
        return low + int(self.random() * (high - low + 1))

    def shuffle(self, items):
        for i in range(len(items) - 1, 0, -1):
            j = self.randint(0, i)
            items[i], items[j] = items[j], items[i]


class Streams:
    """Stands for the module `random`: draws go to the stream of the agent that is being called, if one is."""

    def __init__(self, states):
        self.initial = list(states)
        self.streams = [Stream(state) for state in states]
        self.listener = None
        self.errors = []
        self._constructed = 0
        self._stack = []

    def __getattr__(self, name):
        stream = self._stack[-1] if self._stack else None
        return getattr(stream if stream is not None and name in vars(Stream) else python_random, name)

    def choice_of_numpy(self, n, size=None):
        if not self._stack:
            return _NUMPY_CHOICE(n, size)
        assert n > 0
        return [self._stack[-1].randint(0, n - 1) for _ in range(size)]

    def next_agent(self):
        """(index, stream) for the agent that is constructed now: SCML constructs them in the order of factories."""
        index = self._constructed
        self._constructed += 1
        return index, self.streams[index]

    @contextmanager
    def of(self, stream):
        self._stack.append(stream)
        try:
            yield
        finally:
            self._stack.pop()


_NUMPY_CHOICE = np.random.choice
current = None
"""The `Streams` of the world that is being played."""


class _Traced:
    """Mixed into an agent class: its methods draw from its stream, and a listener hears of them."""

    def __init__(self, *args, **kwargs):
        self.index, self.stream = current.next_agent()
        with current.of(self.stream):
            super().__init__(*args, **kwargs)

    def _heard(self, kind, call, *args):
        self._tell("before", kind, *args)
        with current.of(self.stream):
            answer = call()
        self._tell("after", kind, answer, *args)
        return answer

    def _tell(self, when, *args):
        """SCML catches what agents raise, so that a listener's exceptions are kept in `Streams.errors`."""
        if current.listener is None:
            return
        try:
            getattr(current.listener, when)(self, *args)
        except Exception as error:
            current.errors.append(error)

    def before_step(self):
        return self._heard("before_step", super().before_step)

    def on_negotiation_success(self, contract, mechanism):
        return self._heard("deal", lambda: super(_Traced, self).on_negotiation_success(contract, mechanism), contract)


class _Single(_Traced):
    def propose(self, negotiator_id, state, source=None):
        return self._heard("propose", lambda: super(_Single, self).propose(negotiator_id, state), negotiator_id, state)

    def respond(self, negotiator_id, state, source=None):
        return self._heard("respond", lambda: super(_Single, self).respond(negotiator_id, state), negotiator_id, state)


class _Sync(_Traced):
    def first_proposals(self):
        return self._heard("first_proposals", super().first_proposals)

    def counter_all(self, offers, states):
        given = dict(offers)
        return self._heard("counter_all", lambda: super(_Sync, self).counter_all(offers, states), given, states)


class GreedyStd(_Single, GreedyStdAgent):
    policy = at.GREEDY_STD


class RandomStd(_Single, RandomStdAgent):
    policy = at.RANDOM_STD


class SyncRandomStd(_Sync, SyncRandomStdAgent):
    policy = at.SYNC_RANDOM_STD


class GreedyOneShot(_Single, GreedyOneShotAgent):
    policy = at.GREEDY_ONESHOT


class RandDist(_Sync, RandDistOneShotAgent):
    policy = at.RAND_DIST


class EqualDist(_Sync, EqualDistOneShotAgent):
    policy = at.EQUAL_DIST


class RandomOneShot(_Single, RandomOneShotAgent):
    policy = at.RANDOM_ONESHOT


class Nothing(_Single, OneshotDoNothingAgent):
    policy = at.NOTHING


class Haggler(_Single, RandomStdAgent):
    """Offers at random, seldom agrees and never ends a negotiation: with it the others come to their late rounds."""

    policy = None

    def __init__(self, *args, **kwargs):
        super().__init__(*args, p_accept=0.06, p_end=0.0, **kwargs)


def id_class(levels):
    """Agent ids with small hashes, so that Python's sets of partners iterate in the order of slots.

    A factory's partners are on levels of one parity: a hash is the place among the factories of that parity, below 8.
    """
    place = {f: sum(other % 2 == levels[f] % 2 for other in levels[:f]) for f in range(len(levels))}
    assert max(place.values()) < 8

    class SmallId(official.AgentId):
        __slots__ = ()

        def __new__(cls, text):
            self = super().__new__(cls, text)
            if text[:2].isdigit():
                self._hash = place[int(text[:2])]
            return self

        __hash__ = official.AgentId.__hash__

    return SmallId


@contextmanager
def original_world(monkeypatch, env_id, seed, agents, **options):
    """Yields (world, config, classes, Streams) of a real official world before day 0, to be played inside the block.

    Args:
        monkeypatch: pytest's; undone at the end of the block.
        env_id, seed, options: what world is drawn.
        agents: classes of this module; every factory draws one of them by the seed.
    """
    global current
    config = config_of(env_id, controlled="all", **options)
    drawn = draw(config, seed)
    rng = np.random.default_rng([seed, 77])
    classes = [agents[int(rng.integers(len(agents)))] for _ in drawn.levels]
    drawn = replace(drawn, agent_types=tuple(f"{c.__module__}:{c.__name__}" for c in classes), controlled=())
    current = Streams([int(rng.integers(1 << 63)) for _ in drawn.levels])
    with monkeypatch.context() as patch, GlobalRandomness(seed):
        for module in PATCHED:
            patch.setattr(f"{module}.random", current)
        patch.setattr("numpy.random.choice", current.choice_of_numpy)
        patch.setattr(official, "AgentId", id_class(drawn.levels))
        world = official.build(drawn, config, Nothing)
        yield world, config, classes, current
