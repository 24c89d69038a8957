"""A factored action grid small enough to enumerate, with caps written out in the bounds."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class SmallGrid:
    """Bounds: may wait, may end, may accept, then the cap of each (lead, price)."""

    n_leads: int = 2
    quantities: tuple[int, ...] = (1, 2, 5)
    n_prices: int = 3

    @property
    def factors(self) -> tuple[int, int, int]:
        return self.n_leads, len(self.quantities), self.n_prices

    @property
    def n_actions(self) -> int:
        return 3 + self.n_leads * len(self.quantities) * self.n_prices

    def caps(self, bounds: Any, xp: Any = np) -> Any:
        return bounds[..., 3:].reshape(*bounds.shape[:-1], self.n_leads, self.n_prices)

    def ops(self, bounds: Any, xp: Any = np) -> Any:
        offer = (bounds[..., 3:] >= 1).any(-1)
        return xp.stack([bounds[..., 0] > 0, bounds[..., 1] > 0, bounds[..., 2] > 0, offer], -1)

    def mask(self, bounds: Any, xp: Any = np) -> Any:
        """The flat mask by its definition, one action at a time."""
        caps, flat = self.caps(bounds, xp), [bounds[..., i] > 0 for i in range(3)]
        for lead in range(self.n_leads):
            for quantity in self.quantities:
                flat += [quantity <= caps[..., lead, price] for price in range(self.n_prices)]
        return xp.stack(flat, -1)


def random_bounds(rng: np.random.Generator, n: int, grid: SmallGrid) -> np.ndarray:
    """int32 (n, M): rows of agents with something to decide, so never empty."""
    scalars = np.stack([np.zeros(n), rng.integers(0, 2, n), rng.integers(0, 2, n)], -1)
    caps = rng.integers(0, 7, (n, grid.n_leads * grid.n_prices)) * rng.integers(0, 2, (n, 1))
    bounds = np.concatenate([scalars, caps], -1).astype(np.int32)
    bounds[bounds.sum(-1) == 0, 1] = 1
    return bounds
