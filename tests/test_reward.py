"""Rewards against the simulator's balances, and the shaping against its formula."""

import numpy as np
import pytest

from scml_marl_env.array_env import ArrayEnv
from scml_marl_env.registry import config_of
from tests.players import play, random_masked


def episode(seed=1, **options):
    """Plays; returns (game, rewards (steps, F), elapsed (steps, F))."""
    game = ArrayEnv(config_of("std-mini", days=15, opponents="default", **options))
    rng, rewards, elapsed = np.random.default_rng(seed), [], []
    game.reset(seed)
    while game.window is not None:
        game.step(random_masked(game, rng))
        rewards.append(game.arrays.reward.astype(float).copy())
        elapsed.append(game.arrays.elapsed.copy())
    return game, np.array(rewards), np.array(elapsed)


@pytest.mark.parametrize("options", [{}, {"controlled": 2, "processes": 3}, {"shield": "off", "level": 1}])
def test_profit_sums_to_the_score_and_days_to_the_length(options):
    game, rewards, elapsed = episode(**options)
    for f in range(rewards.shape[1]):
        assert 1 + rewards[:, f].sum() == pytest.approx(game.engine.score(f), abs=1e-5)
        if not game.engine.is_bankrupt(f):
            assert elapsed[:, f].sum() == 15
    assert set(np.unique(elapsed)) <= {0.0, 1.0, 2.0, 3.0}


def test_a_reward_comes_only_when_the_day_has_changed():
    _, rewards, elapsed = episode()
    assert (rewards[elapsed == 0] == 0).all() and (elapsed == 1).any()


@pytest.mark.parametrize("discount", [0.9, 0.99, 1.0])
def test_shaping_telescopes_so_that_discounted_returns_agree(discount):
    """Stock is worth nothing at the start and at the end, so both rewards have the same discounted return."""
    plain, rewards, elapsed = episode(reward="profit", discount=discount, level=1)
    shaped, with_shaping, elapsed_too = episode(reward="potential", discount=discount, level=1)
    assert (elapsed == elapsed_too).all() and plain.engine.scores() == shaped.engine.scores()
    assert np.abs(with_shaping - rewards).max() > 0.01, "there was stock to value"
    # gamma**(days before the step) weighs a step's reward; profit of a step with d days comes at its end, as the
    # shaping does
    weight = discount ** (np.cumsum(elapsed[:, 0]) - elapsed[:, 0])
    assert (weight * with_shaping[:, 0]).sum() == pytest.approx((weight * rewards[:, 0]).sum(), abs=1e-4)


def test_the_terms_are_in_the_infos_and_the_potential_is_stock_times_price():
    game = ArrayEnv(config_of("std-mini", days=15, reward="potential", discount=0.95, level=1))
    rng = np.random.default_rng(3)
    game.reset(3)
    view, potential, checked = game.engine.view, 0.0, 0
    while game.window is not None:
        game.step(random_masked(game, rng))
        terms = game.books[0].terms
        assert game.arrays.reward[0] == pytest.approx(terms["profit"] + terms["shaping"], abs=1e-6)
        if game.arrays.elapsed[0]:
            ended = game.arrays.terminated[0]
            now = 0.0 if ended else view.stock[0] * view.trading_price[0, 0] / view.initial_balance[0]
            assert terms["shaping"] == pytest.approx(0.95 ** float(game.arrays.elapsed[0]) * now - potential)
            potential, checked = now, checked + (now > 0)
    assert checked > 3


@pytest.mark.parametrize(("inventory", "drains"), [("simulator", False), ("conserving", True)])
def test_stock_follows_the_rule_of_the_inventory(inventory, drains):
    drawn = 0
    for seed in range(4):
        game = ArrayEnv(config_of("std-mini", days=15, level=1, inventory=inventory, opponents="tests.players:Patient"))
        play(game, seed, lambda game: random_masked(game, np.random.default_rng(game.n_steps)))
        stock = 0
        for result in game.results(0):
            drawn += max(0, result.produced - result.bought)
            arrived = result.bought - result.produced
            stock += arrived if drains else max(0, arrived)
            assert result.stock == stock >= 0
    assert drawn > 0, "some day produced from stock"


def test_an_episode_can_be_cut_and_is_truncated_not_terminated():
    game = ArrayEnv(config_of("std-mini", max_cycles=7))
    steps, _ = play(
        game, 2, lambda game: random_masked(game, np.random.default_rng(game.n_steps), p_accept=0.0, p_end=0.0)
    )
    assert steps == 7 and game.arrays.truncated.all() and not game.arrays.terminated.any()
    assert game.statistics()["length"] == 7
    assert game.arrays.active.any(), (
        "a learner values the view in which it would have gone on, not one without decisions"
    )
    assert game.grid.ops(game.arrays.bounds)[game.arrays.active, 1].all()
