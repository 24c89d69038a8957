"""Who plays where: the same for the same seed, spread as the options say."""

from collections import Counter

import pytest

from scml_marl_env.registry import config_of
from scml_marl_env.world.draw import Casting, draw, economy

LEVELS = (0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2)
DEFAULTS = ("a.B", "a.C", None, "a.B", "a.C", None, "a.B", "a.B", "a.C", None, "a.B", "a.C", "a.B")
N = 4000


def cast(seeds=range(N), **options):
    casting = Casting(config_of("std-2025", **options))
    return [casting.roles(LEVELS, DEFAULTS, seed) for seed in seeds]


def near(count, expected, n=N):
    """Within five standard deviations of a binomial count."""
    return abs(count - expected * n) < 5 * (n * expected * (1 - expected)) ** 0.5


def test_roles_are_a_function_of_config_and_seed():
    seeds = [0, 1, 7, 2**31, 2**63 + 5, 2**80 + 1]
    assert cast(seeds) == cast(seeds)
    assert len(set(cast(range(200), controlled=3))) > 150


def test_a_level_is_drawn_evenly_and_then_a_factory():
    places = Counter(roles.controlled[0] for roles in cast())
    for level in range(3):
        there = [f for f, at in enumerate(LEVELS) if at == level]
        assert near(sum(places[f] for f in there), 1 / 3)
        for f in there:
            assert near(places[f], 1 / 3 / len(there))


@pytest.mark.parametrize("level", [0, 1, -1])
def test_a_wanted_level_is_respected(level):
    found = {LEVELS[roles.controlled[0]] for roles in cast(range(300), level=level)}
    assert found == {level % 3}


def test_several_controlled_factories_differ_and_stand_where_they_are_wanted():
    for roles in cast(range(500), controlled=4, level=("first", "first", -1, 1), processes=3):
        assert [LEVELS[f] for f in roles.controlled] == [0, 0, 2, 1] and len(set(roles.controlled)) == 4
        assert [f for f, path in enumerate(roles.agent_types) if path is None] == sorted(roles.controlled)


def test_all_controls_every_factory():
    for roles in cast(range(5), controlled="all"):
        assert roles.controlled == tuple(range(len(LEVELS))) and set(roles.agent_types) == {None}


def test_default_keeps_the_generators_agents_and_fills_the_places_of_competitors_evenly():
    filled, n = Counter(), 0
    for roles in cast():
        for f, (path, default) in enumerate(zip(roles.agent_types, DEFAULTS, strict=True)):
            if f in roles.controlled:
                continue
            if default is None:
                filled[path] += 1
                n += 1
            else:
                assert path == default
    assert len(filled) == 3 and all(near(count, 1 / 3, n) for count in filled.values())


def test_opponents_are_drawn_by_weight():
    mix = {"nothing": 1, "prudent": 2, "default": 5}  # none of the default agents, which `default` brings
    names, n = Counter(), 0
    for roles in cast(opponents=mix):
        for f, path in enumerate(roles.agent_types):
            if f not in roles.controlled:
                n += 1
                names[path.rpartition(":")[2]] += 1
    nothing, prudent = names.pop("OneshotDoNothingAgent"), names.pop("PrudentAgent")
    assert near(nothing, 1 / 8, n) and near(prudent, 2 / 8, n) and near(names.total(), 5 / 8, n)


def test_a_draw_is_the_economy_of_its_seed_with_the_roles_of_its_seed():
    config = config_of("std-mini", processes=3, controlled=2)
    drawn, made = draw(config, 5), economy(config, 5)
    assert drawn.levels == made.levels and drawn.world_seed == drawn.seed == 5
    assert (drawn.controlled, drawn.agent_types) == Casting(config).roles(made.levels, made.defaults, 5)


def test_one_number_of_days_is_the_same_draw_as_a_range_of_one():
    one, pair = (economy(config_of("std-mini", days=days), 4) for days in (20, (20, 20)))
    assert list(one.params["catalog_prices"]) == list(pair.params["catalog_prices"])
    assert [p.cost for p in one.params["profiles"]] == [p.cost for p in pair.params["profiles"]]


@pytest.mark.parametrize("track", ["std", "oneshot"])
def test_the_default_agents_are_those_of_the_generator(track):
    from scml.oneshot.context import DefaultAgentsOneShot
    from scml.std.context import DefaultAgentsStd

    from scml_marl_env import opponents

    here = [opponents.load(opponents.BUILT_IN[track][name]) for name in opponents.DEFAULTS[track]]
    assert here == list(DefaultAgentsStd if track == "std" else DefaultAgentsOneShot)
