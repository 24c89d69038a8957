import numpy as np
import pytest

from scml_marl_env.actions import OFFER
from scml_marl_env.array_env import ArrayEnv
from scml_marl_env.registry import config_of, make
from scml_marl_env.render import HEIGHT, WIDTH, day_picture, day_table


def started(env_id: str, **options) -> ArrayEnv:
    game = ArrayEnv(config_of(env_id, **{"days": 6, **options}))
    game.reset(seed=3)
    return game


def play(game: ArrayEnv, windows: int) -> None:
    """Answers up to `windows` windows with random allowed actions, mostly offers."""
    rng = np.random.default_rng(game.n_steps)
    for _ in range(windows):
        if game.window is None:
            return
        actions = np.zeros(game.layout.n_agents, np.int64)
        masks = game.grid.mask(game.arrays.bounds)
        for n in np.flatnonzero(game.arrays.active):
            allowed = np.flatnonzero(masks[n])
            offers = allowed[allowed >= OFFER]
            actions[n] = rng.choice(offers if len(offers) and rng.random() < 0.9 else allowed)
        game.step(actions)


def test_before_reset_both_say_that_there_is_no_world():
    game = ArrayEnv(config_of("std-mini"))
    assert "reset()" in day_table(game)
    assert day_picture(game).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("env_id", ["std-mini", "oneshot-mini"])
@pytest.mark.parametrize("windows", [0, 7, 10_000])
def test_a_day_is_told_and_drawn_at_the_start_in_the_middle_and_at_the_end(env_id, windows):
    game = started(env_id)
    play(game, windows)
    before = [array.copy() for array in (*game.arrays, *game.engine.view)]
    table, picture = day_table(game), day_picture(game)
    assert picture.shape == (HEIGHT, WIDTH, 3)
    assert picture.dtype == np.uint8
    assert picture.std() > 5  # something is on the page
    assert (picture == day_picture(game)).all()
    for array, now in zip(before, (*game.arrays, *game.engine.view), strict=True):
        assert np.array_equal(array, now)  # looking changes nothing
    view = game.engine.view
    assert f"day {view.day[0]} of 6" in table
    assert "\x1b" not in table
    for partner in game.engine.partners_of(0):
        assert partner in table
    assert table.count("waits for us") == int(view.on_turn[0].sum())
    assert ("the episode is over" in table) == (game.window is None)


def test_the_terms_of_a_deal_are_those_of_the_signed_contract():
    game = started("std-mini", days=20)
    compared = 0
    for _ in range(200):
        play(game, 1)
        if game.window is None:
            break
        book = game.engine.world.agents[game.engine._ids[0]].adapted_object.book
        table = day_table(game)
        for slot in np.flatnonzero(game.engine.view.deal_today[0]):
            deal = [deal for deal in book._deals if deal.slot == slot][-1]
            assert f"deal {deal.quantity} @ {deal.price} on day {deal.day}" in table
            compared += 1
    assert compared > 5


def test_every_factory_has_its_block():
    game = started("std-mini", controlled=2)
    table = day_table(game)
    assert "factory 0, level" in table
    assert "factory 1, level" in table
    assert f"factory {game.window} decides" in table


def test_a_run_that_is_cut_off_and_one_that_is_closed_can_be_shown():
    game = started("std-mini", max_cycles=2)
    play(game, 2)
    assert game.window is None
    assert "cut off" in day_table(game)
    game.close()
    assert "partner 0" in day_table(game)
    assert day_picture(game).shape == (HEIGHT, WIDTH, 3)


def test_without_a_history_of_offers_the_day_can_still_be_shown():
    game = started("oneshot-mini", history=0, observation=("thread", "broadcast"))
    play(game, 40)
    assert "deal" in day_table(game)
    assert day_picture(game).dtype == np.uint8


def test_many_threads_fit_on_the_page():
    game = started("oneshot-mini", factories_per_level=(2, 30))
    assert day_picture(game).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("mode, kind", [("ansi", str), ("rgb_array", np.ndarray), (None, type(None))])
def test_the_environment_renders_in_its_mode(mode, kind):
    env = make("oneshot-mini", render_mode=mode, days=4)
    env.reset(seed=0)
    assert isinstance(env.render(), kind)
    env.close()
