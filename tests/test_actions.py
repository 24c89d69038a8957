"""The action grid: codec, bounds and masks."""

import numpy as np
import pytest

from scml_marl_env.actions import (
    ACCEPT,
    BEST_PRICE,
    END,
    LAST_LEAD,
    N_PRICES,
    OFFER,
    PRICE_SIGN,
    QUANTITY,
    UNLIMITED,
    WAIT,
    ActionGrid,
    price_offset,
)
from scml_marl_env.layout import Layout
from scml_marl_env.registry import config_of

STD = Layout(config_of("std-2025")).grid
ONESHOT = Layout(config_of("oneshot-2025")).grid


def random_bounds(grid, rng, n):
    """int32 (n, M), arbitrary but well-formed."""
    bounds = np.zeros((n, grid.n_bounds), np.int32)
    bounds[:, :3] = rng.integers(0, 2, (n, 3))
    bounds[:, N_PRICES] = rng.integers(1, 2 * grid.n_price_levels, n)
    bounds[:, PRICE_SIGN] = rng.choice([-1, 1], n)
    bounds[:, BEST_PRICE] = rng.integers(1, 20, n) + np.where(bounds[:, PRICE_SIGN] < 0, bounds[:, N_PRICES], 0)
    bounds[:, LAST_LEAD] = rng.integers(0, grid.n_leads, n)
    bounds[:, QUANTITY : grid.budget_column] = rng.integers(0, 40, (n, grid.n_leads))
    bounds[:, grid.budget_column : grid.today_column] = rng.integers(-50, 600, (n, grid.n_leads))
    bounds[:, grid.today_column :] = rng.integers(0, 40, (n, grid.n_price_levels))
    return bounds


@pytest.mark.parametrize("grid", [STD, ONESHOT])
def test_every_index_decodes_and_encodes_to_itself(grid):
    assert [grid.encode(*grid.decode(action)) for action in range(grid.n_actions)] == list(range(grid.n_actions))


def test_the_grids_have_the_documented_sizes():
    assert STD.factors == (11, 15, 20) and STD.n_actions == 3303 and STD.n_bounds == 49
    assert ONESHOT.factors == (1, 10, 2) and ONESHOT.n_actions == 23
    assert (WAIT, END, ACCEPT, OFFER) == (0, 1, 2, 3)


@pytest.mark.parametrize("grid", [STD, ONESHOT])
def test_every_quantity_up_to_the_capacity_is_reachable(grid):
    assert set(range(1, 11)) <= set(grid.quantities)


@pytest.mark.parametrize("n_prices", range(1, 21))
def test_every_distinct_price_is_reachable_up_to_the_number_of_levels(n_prices):
    for best, sign in ((7, 1), (40, -1)):
        prices = {STD.price(level, n_prices, best, sign) for level in range(STD.n_price_levels)}
        assert prices == {best + sign * i for i in range(n_prices)}
        for price in prices:
            assert STD.price(STD.nearest_level(price, n_prices, best, sign), n_prices, best, sign) == price


def test_wider_agendas_are_covered_evenly_with_both_ends():
    offsets = [price_offset(level, 58, 20) for level in range(20)]
    assert offsets == [3 * level for level in range(20)]
    offsets = [price_offset(level, 30, 20) for level in range(20)]
    assert offsets[0] == 0 and offsets[-1] == 29 and set(np.diff(offsets)) <= {1, 2}


def test_bounds_may_leave_one_offer_only():
    for grid in (STD, ONESHOT):
        bounds = grid.only_offer()[None]
        assert np.flatnonzero(grid.mask(bounds)[0]).tolist() == [grid.encode(OFFER, 0, 1, 0)]
        assert grid.prices(bounds)[0, 0] == 1


@pytest.mark.parametrize("action", [-1, STD.n_actions])
def test_decoding_outside_the_grid_is_refused(action):
    with pytest.raises(ValueError, match="outside"):
        STD.decode(action)


@pytest.mark.parametrize(
    "answer",
    [(OFFER, 11, 1, 0), (OFFER, 0, 11, 0), (OFFER, 0, 1, 20), (OFFER, -1, 1, 0), (OFFER, 0, 0, 0), (7, 0, 1, 0)],
)
def test_encoding_off_the_grid_is_refused(answer):
    with pytest.raises(ValueError, match="No action"):
        STD.encode(*answer)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("grid", [STD, ONESHOT])
def test_the_mask_equals_the_bounds_read_one_action_at_a_time(grid, seed):
    rng = np.random.default_rng(seed)
    for row in random_bounds(grid, rng, 3):
        mask = grid.mask(row)
        assert mask.shape == (grid.n_actions,)
        assert mask[:3].tolist() == (row[:3] > 0).tolist()
        for action in range(OFFER, grid.n_actions):
            _, lead, quantity, level = grid.decode(action)
            price = grid.price(level, row[N_PRICES], row[BEST_PRICE], row[PRICE_SIGN])
            allowed = (
                lead <= row[LAST_LEAD]
                and level < row[N_PRICES]
                and quantity <= row[QUANTITY + lead]
                and quantity * price <= row[grid.budget_column + lead]
                and (lead > 0 or quantity <= row[grid.today_column + level])
            )
            assert mask[action] == allowed, (grid.decode(action), row)


@pytest.mark.parametrize("grid", [STD, ONESHOT])
def test_torch_reads_the_bounds_as_numpy_does(grid):
    torch = pytest.importorskip("torch")
    bounds = random_bounds(grid, np.random.default_rng(0), 40)
    for name in ("mask", "ops", "caps", "prices"):
        ours = getattr(grid, name)(bounds)
        theirs = getattr(grid, name)(torch.from_numpy(bounds), torch).numpy()
        assert ours.shape == theirs.shape and (ours == theirs).all(), name


def test_ops_and_caps_say_the_same_as_the_mask():
    bounds = random_bounds(STD, np.random.default_rng(1), 50)
    mask, ops, caps = STD.mask(bounds), STD.ops(bounds), STD.caps(bounds)
    offers = mask[:, OFFER:].reshape(-1, *STD.factors)
    assert (ops[:, :3] == mask[:, :3]).all()
    assert (ops[:, 3] == offers.any((1, 2, 3))).all()
    assert (offers == (STD.quantity_array[:, None] <= caps[:, :, None, :])).all()


@pytest.mark.parametrize("quantities", [(), (2, 3), (1, 1), (1, 3, 2)])
def test_a_malformed_grid_is_refused(quantities):
    with pytest.raises(ValueError, match="Quantities"):
        ActionGrid(1, quantities, 2)


@pytest.mark.parametrize(("n_leads", "n_levels"), [(11, 20), (1, 1), (3, 5), (5, 40)])
def test_compiled_masks_equal_the_expanded_ones(n_leads, n_levels):
    grid, n = ActionGrid(n_leads, (1, 2, 3, 5), n_levels), 4000
    rng = np.random.default_rng(n_leads)
    bounds = np.zeros((n, grid.n_bounds), np.int32)
    bounds[:, :3] = rng.integers(0, 2, (n, 3))
    bounds[:, N_PRICES], bounds[:, BEST_PRICE] = rng.integers(0, 60, n), rng.integers(0, 60, n)
    bounds[:, PRICE_SIGN], bounds[:, LAST_LEAD] = rng.choice([-1, 1], n), rng.integers(-1, n_leads + 2, n)
    bounds[:, QUANTITY : grid.budget_column] = rng.integers(-1, 20, (n, n_leads)) * rng.integers(0, 2, (n, 1))
    limits = np.where(rng.random((n, n_leads)) < 0.5, UNLIMITED, rng.integers(-20, 200, (n, n_leads)))
    bounds[:, grid.budget_column : grid.today_column] = limits
    bounds[:, grid.today_column :] = rng.integers(-3, 8, (n, n_levels))
    caps, lead = grid.caps(bounds), rng.integers(0, n_leads, n)
    ops, leads = grid.ops_and_leads(bounds)
    assert (ops == grid.ops(bounds)).all()
    assert (leads == (caps >= 1).any(-1)).all()
    assert (grid.caps_at(bounds, lead) == caps[np.arange(n), lead]).all()
