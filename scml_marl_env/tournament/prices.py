"""Fractional prices: negmas 0.16 refuses them, older versions did not, and several competition agents quote them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def fractional_prices(accept: bool) -> Iterator[None]:
    """Inside the block an offer counts as valid if it lies within its issue's limits, whole number or not.

    A refused offer ends its negotiation, so an agent that quotes 0.95 of a limit never trades on negmas 0.16. Older
    versions tested the limits only and cut the price to a whole number when the contract was made; so does the world
    here. With `accept=False` the block changes nothing.
    """
    if not accept:
        yield
        return
    from negmas.outcomes import ContiguousIssue

    official = ContiguousIssue.is_valid

    def within_limits(self: Any, value: Any) -> bool:
        return self._values[0] <= value <= self._values[1]

    ContiguousIssue.is_valid = within_limits
    try:
        yield
    finally:
        ContiguousIssue.is_valid = official
