"""Who plays where."""

from collections import Counter

import pytest

from scml_marl_env.tournament.competitors import Competitor
from scml_marl_env.tournament.plan import FIRST_SEED, Tournament, arrange, jobs
from scml_marl_env.world.draw import economy


def tournament(names="abc", **options):
    competitors = tuple(Competitor(name=name, path=f"m:{name}") for name in names)
    return Tournament(**{"env": "std-2025", "competitors": competitors, "worlds": 4} | options)


def arrangements(played):
    config = played.config()
    made = {seed: economy(config, seed) for seed in {job.world_seed for job in jobs(played)}}
    return [(job, made[job.world_seed], arrange(played, config, made[job.world_seed], job)) for job in jobs(played)]


@pytest.mark.parametrize("names", ["ab", "abcdefg"])
def test_in_free_worlds_everybody_plays_every_place_once(names):
    played = tournament(names)
    seen = Counter()
    for job, made, (paths, seats) in arrangements(played):
        assert list(seats) == [i for i, default in enumerate(made.defaults) if default is None]
        assert 2 <= len(seats) <= 4
        assert [path for i, path in enumerate(paths) if i not in seats] == [x for x in made.defaults if x is not None]
        for place, competitor in seats.items():
            seen[job.world_seed, place, competitor.name] += 1
    assert set(seen.values()) == {1}
    places = {(seed, place) for seed, place, _ in seen}
    assert len(seen) == len(places) * len(names)


def test_where_the_generator_places_no_competitors_two_to_four_places_are_drawn():
    for _, made, (paths, seats) in arrangements(tournament(env="std-mini")):
        assert None not in made.defaults and 2 <= len(seats) <= 4
        assert [path is None for path in paths] == [i in seats for i in range(len(paths))]


def test_in_swaps_only_the_focal_competitor_changes():
    by_world = {}
    for job, made, (paths, seats) in arrangements(tournament(mode="swap", options={"opponents": "prudent"})):
        assert [made.levels[place] for place in seats] == list(range(max(made.levels) + 1))
        assert {competitor.name for competitor in seats.values()} == {"abc"[job.rotation]}
        assert {path for i, path in enumerate(paths) if i not in seats} == {"scml_marl_env.prudent:PrudentAgent"}
        by_world.setdefault(job.world_seed, set()).add((paths, tuple(seats)))
    assert {len(same) for same in by_world.values()} == {1}


def test_tournaments_of_different_seeds_share_no_world():
    first, second = ({job.world_seed for job in jobs(tournament(seed=seed, worlds=100_000))} for seed in (0, 1))
    assert not first & second and min(first) == FIRST_SEED


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"mode": "duel"}, "mode must be one of"),
        ({"worlds": 0}, "worlds must be"),
        ({"seed": -1}, "seed must be 0 to 99"),
        ({"seed": 100}, "seed must be 0 to 99"),
        ({"fractional_prices": "yes"}, "fractional_prices must be one of"),
        ({"competitors": ()}, "at least one competitor"),
        ({"env": "std-2052"}, "did you mean 'std-20"),
        ({"options": {"dayz": 3}}, "days"),
    ],
)
def test_bad_tournaments_are_refused(option, message):
    with pytest.raises((ValueError, TypeError), match=message):
        tournament(**option)
