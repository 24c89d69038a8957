"""L1's bounds against the slow twin, bit by bit of the flat mask."""

import numpy as np
import pytest

from scml_marl_env.actions import CAN_END, CAN_WAIT, QUANTITY
from scml_marl_env.layers.l1_shield import SHIELDS, write_bounds
from tests.layers.views import grid_of, random_view, tight_view
from tests.twins.shield import Slow


def bounds_of(view, grid, shield, useful=False):
    out = np.full((view.exists.shape[1], grid.n_bounds), -7, np.int32)
    write_bounds(view, 0, shield, useful, grid.n_price_levels, out)
    return out


@pytest.mark.parametrize("shield", range(len(SHIELDS)), ids=SHIELDS)
@pytest.mark.parametrize("seed", range(130))
def test_every_bit_of_the_mask_equals_the_twin(seed, shield):
    view = random_view(seed, small=seed % 3 == 0, pending=seed % 2 == 1)
    grid, useful = grid_of(view, np.random.default_rng(seed)), seed % 5 == 0
    mask, slow = grid.mask(bounds_of(view, grid, shield, useful)), Slow(view)
    for k in range(view.exists.shape[1]):
        truth = [slow.action_ok(k, shield, useful, grid, action) for action in range(grid.n_actions)]
        assert mask[k].tolist() == truth


@pytest.mark.parametrize("shield", [1, 2], ids=SHIELDS[1:])
@pytest.mark.parametrize("seed", range(60))
def test_every_bit_of_the_mask_equals_the_twin_where_money_is_short(seed, shield):
    view = tight_view(seed)
    grid = grid_of(view, np.random.default_rng(seed))
    mask, slow = grid.mask(bounds_of(view, grid, shield)), Slow(view)
    for k in np.flatnonzero(view.is_buy[0]):
        truth = [slow.action_ok(k, shield, False, grid, action) for action in range(grid.n_actions)]
        assert mask[k].tolist() == truth


@pytest.mark.parametrize("shield", range(len(SHIELDS)), ids=SHIELDS)
@pytest.mark.parametrize("seed", range(60))
def test_a_day_on_which_no_offer_fits_has_quantity_0_and_idle_threads_may_only_wait(seed, shield):
    view = tight_view(seed) if seed % 2 else random_view(seed, rich=False)
    grid = grid_of(view, np.random.default_rng(seed))
    bounds = bounds_of(view, grid, shield)
    caps = grid.caps(bounds).max(-1)
    active = (view.alive & view.on_turn)[0]
    quantity = bounds[:, QUANTITY : grid.budget_column]
    assert ((caps >= 1) == (quantity >= 1))[active].all()
    assert (quantity <= view.max_quantity[0]).all()
    assert (bounds[~active, CAN_WAIT] == 1).all() and not bounds[~active, CAN_WAIT + 1 :].any()
    assert (bounds[active, CAN_WAIT] == 0).all() and (bounds[active, CAN_END] == 1).all()
