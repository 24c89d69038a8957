"""Simple players and opponents for the tests."""

import numpy as np
from negmas.sao import ResponseType
from scml.std.agent import StdAgent

from scml_marl_env.actions import ACCEPT, END, OFFER


def random_masked(game, rng, p_accept=0.2, p_end=0.05):
    """int64 (N,), a random legal action of every active agent: mostly offers, so that negotiations live on."""
    actions = np.zeros(len(game.arrays.active), np.int64)
    masks = game.grid.mask(game.arrays.bounds)
    for n in np.flatnonzero(game.arrays.active):
        offers = np.flatnonzero(masks[n, OFFER:]) + OFFER
        u = rng.random()
        if masks[n, ACCEPT] and u < p_accept:
            actions[n] = ACCEPT
        elif len(offers) and u < 1 - p_end:
            actions[n] = rng.choice(offers)
        else:
            actions[n] = END
    return actions


def greedy(game):
    """int64 (N,): accepts what is allowed, else offers the largest quantity at the worst own price, today first."""
    actions = np.full(len(game.arrays.active), END, np.int64)
    masks = game.grid.mask(game.arrays.bounds)
    n_leads, n_quantities, n_levels = game.grid.factors
    for n in range(len(actions)):
        if not game.arrays.active[n]:
            actions[n] = 0
            continue
        if masks[n, ACCEPT]:
            actions[n] = ACCEPT
            continue
        offers = np.flatnonzero(masks[n, OFFER:])
        if len(offers):
            lead, quantity, level = np.unravel_index(offers, (n_leads, n_quantities, n_levels))
            actions[n] = OFFER + offers[np.lexsort((-level, -quantity, lead))[0]]
    return actions


def play(game, seed, choose, limit=10**9):
    """Plays one episode of an ArrayEnv; returns (steps, decisions)."""
    game.reset(seed)
    steps = decisions = 0
    while game.window is not None and steps < limit:
        decisions += int(game.arrays.active.sum())
        game.step(choose(game))
        steps += 1
    return steps, decisions


class Patient(StdAgent):
    """Never ends a negotiation: counters with a middling offer, and accepts half of what it is offered late."""

    def propose(self, negotiator_id, state, dest=None):
        issues = self.get_nmi(negotiator_id).issues
        return tuple(int(issue.min_value + (issue.max_value - issue.min_value) // 3) for issue in issues)

    def respond(self, negotiator_id, state, source=None):
        late = state.step >= 8 and (state.step + int(state.current_offer[0])) % 2 == 0
        return ResponseType.ACCEPT_OFFER if late else ResponseType.REJECT_OFFER


class Failing(Patient):
    """Raises in every response of day 2."""

    def respond(self, negotiator_id, state, source=None):
        if self.awi.current_step == 2:
            raise ArithmeticError("an opponent's bug")
        return super().respond(negotiator_id, state, source)


class Dying(Patient):
    """Breaks the simulation itself, which no rule of SCML catches."""

    def before_step(self):
        if self.awi.current_step == 3:
            raise SystemError("the world cannot go on")


class Stubborn(Patient):
    """Never agrees and never ends."""

    def respond(self, negotiator_id, state, source=None):
        return ResponseType.REJECT_OFFER


class Generous(Patient):
    """Accepts everything at once, and offers the largest quantity for today at the middle price."""

    def propose(self, negotiator_id, state, dest=None):
        quantity, time, price = self.get_nmi(negotiator_id).issues
        return quantity.max_value, time.min_value, (price.min_value + price.max_value) // 2

    def respond(self, negotiator_id, state, source=None):
        return ResponseType.ACCEPT_OFFER
