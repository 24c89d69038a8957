"""Exhaustive search in small worlds: what can still happen, without any of L1's formulas.

A continuation is a choice, today and on every later day, of one deal or none in each buy thread that the protocol can
still bring to a deal, and of exogenous supplies at the first level. Money is ample here; sales are only those given.
"""

from functools import lru_cache
from itertools import product


def deals(slow, leads):
    """All contracts of an agenda, as (lead, quantity)."""
    return {(d, q) for d in range(leads) for q in range(1, slow.max_quantity + 1)}


def reachable(slow, mine, round_now, table, every):
    """Contracts that alternating offers can still reach: whoever is to move takes the table or offers anything.

    Args:
        slow: the factory (who moves first, how many rounds).
        mine: whether we are to move.
        round_now: round of that move.
        table: the offer on the table, or None.
        every: all contracts of the agenda.
    """
    if round_now >= slow.n_rounds:
        return set()
    first_moves = mine == bool(slow.first_mover)
    can_answer = reachable_round(round_now, first_moves) < slow.n_rounds
    return ({table} if table else set()) | (set(every) if can_answer else set())


def reachable_round(round_now, first_moves):
    """Round of the next move: the second mover answers in the same round, the first mover in the next."""
    return round_now if first_moves else round_now + 1


def outcomes_today(slow, k, every):
    """What buy thread k can still bring, None (no deal) included, before the window is answered."""
    if not slow.alive[k] or not slow.is_buy[k]:
        return {None}
    if slow.on_turn[k]:
        table = (slow.offer_lead[k], slow.offer_quantity[k]) if slow.has_offer[k] else None
        return {None} | reachable(slow, True, slow.round[k], table, every)
    if not slow.pending[k]:
        return {None} | set(every)
    partner_round = reachable_round(slow.round[k], bool(slow.first_mover))
    return {None} | reachable(slow, False, partner_round, (slow.sent_lead[k], slow.sent_quantity[k]), every)


def outcomes_after_refusal(slow, k, every):
    """What buy thread k can still bring once the partner has refused the offer that we made at `round`."""
    partner_round = reachable_round(slow.round[k], bool(slow.first_mover))
    if partner_round >= slow.n_rounds:
        return {None}
    return {None} | reachable(slow, False, partner_round, None, every)


def least_shortfalls(slow, due, todays_outcomes, arrivals):
    """The least shortfall of each day, over all continuations (of each day by itself).

    Args:
        slow: the factory.
        due: items to deliver on each day.
        todays_outcomes: for each buy thread, the set of what it may bring today.
        arrivals: items due to arrive on each day by signed contracts.
    """
    leads = len(due)
    suppliers = sum(slow.exists[k] and slow.is_buy[k] and not slow.partner_bankrupt[k] for k in range(slow.slots))
    states = {(slow.stock, tuple(a)) for a in add_deals({tuple(arrivals)}, todays_outcomes)}
    least = []
    for today in range(leads):
        shortfalls, following = set(), set()
        for stock, coming in states:
            made = min(slow.n, stock + coming[0], due[today])
            shortfalls.add(due[today] - made)
            if slow.perishable:
                left = 0
            elif slow.conserves:
                left = stock + coming[0] - made
            else:
                left = stock + max(0, coming[0] - made)
            following.add((min(left, 2 * slow.n + 2), coming[1:]))
        least.append(min(shortfalls))
        ahead = leads - today - 1
        if ahead == 0:
            break
        options = frozenset({None} | deals(slow, ahead))
        states = set()
        for stock, coming in following:
            if slow.level == 0:
                extra = ((coming[0] + x, *coming[1:]) for x in range(slow.n + 1))
                states |= {(stock, a) for a in extra}
            else:
                states |= {(stock, a) for a in add_some(coming, options, suppliers)}
    return least


def add_deals(vectors, outcomes):
    for choices in outcomes:
        grown = set()
        for vector in vectors:
            for deal in choices:
                grown.add(with_deal(vector, deal))
        vectors = grown
    return vectors


@lru_cache(maxsize=100_000)
def add_some(coming, options, suppliers):
    return frozenset(add_deals({coming}, [options] * suppliers))


def with_deal(vector, deal):
    if deal is None:
        return vector
    lead, quantity = deal
    return tuple(q + (quantity if d == lead else 0) for d, q in enumerate(vector))


def raises_shortfall(before, after):
    return any(a > b for a, b in zip(after, before, strict=True))


def subsets(items):
    for chosen in product((False, True), repeat=len(items)):
        yield [item for item, taken in zip(items, chosen, strict=True) if taken]
