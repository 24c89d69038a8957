"""Options: every bad one is refused with what would be right."""

import pytest

import scml_marl_env
from scml_marl_env.registry import config_of

NAN = float("nan")

BAD = [
    ("std-2025", {"track": "onshot"}, "did you mean 'oneshot'"),
    ("std-2025", {"engine": "fats"}, "did you mean 'fast'"),
    ("std-2025", {"bank": ""}, "bank must be the path"),
    ("std-2025", {"bank": 3}, "bank must be the path"),
    ("std-2025", {"reward": "profits"}, "did you mean 'profit'"),
    ("std-2025", {"shield": "feasable"}, "did you mean 'feasible'"),
    ("std-2025", {"inventory": "conserve"}, "did you mean 'conserving'"),
    ("std-2025", {"render_mode": "human"}, "Unknown render_mode"),
    ("std-2025", {"year": 2023}, "Unknown year"),
    ("std-2025", {"year": True}, "Unknown year"),
    ("std-2025", {"controlled": 0}, "controlled must be"),
    ("std-2025", {"controlled": 1.5}, "controlled must be"),
    ("std-2025", {"controlled": "every"}, "controlled must be"),
    ("std-2025", {"controlled": 99}, "the smallest world"),
    ("std-2025", {"controlled": "all", "level": 0}, "leave level=None"),
    ("std-2025", {"level": 2}, "does not exist in a world of 2 processes"),
    ("std-2025", {"level": "middle"}, "at least 3 processes"),
    ("std-2025", {"level": "frist"}, "did you mean 'first'"),
    ("std-2025", {"level": 0.5}, "does not exist"),
    ("std-2025", {"level": (0, 1)}, "names 2 levels for controlled=1"),
    ("std-2025", {"level": 0, "controlled": 5}, "on level 0"),
    ("std-2025", {"days": 0}, "days must be"),
    ("std-2025", {"days": (100, 50)}, "days must be"),
    ("std-2025", {"days": NAN}, "days must be"),
    ("std-2025", {"days": "100"}, "days must be"),
    ("std-2025", {"days": 3}, "more days than processes"),
    ("std-2025", {"processes": 1}, "processes must be"),
    ("std-2025", {"processes": (2, 3, 4)}, "processes must be"),
    ("oneshot-2025", {"processes": 3}, "oneshot track has 2"),
    ("oneshot-2025", {"inventory": "conserving"}, "oneshot keeps none"),
    ("std-2025", {"factories_per_level": 0}, "factories_per_level must be"),
    ("std-2025", {"rounds": 0}, "rounds must be"),
    ("std-2025", {"rounds": NAN}, "rounds must be"),
    ("std-2025", {"slots": 3}, "can have 12 partners"),
    ("std-2025", {"slots": 3, "controlled": "all"}, "can have 12 partners"),
    ("std-2025", {"slots": -1}, "slots must be"),
    ("std-2025", {"price_levels": 0}, "price_levels must be"),
    ("std-2025", {"max_cycles": 0}, "max_cycles must be"),
    ("std-2025", {"history": -1}, "history must be"),
    ("std-2025", {"history": 0}, "keeps no offers"),
    ("std-2025", {"discount": NAN}, "discount must be"),
    ("std-2025", {"discount": 1.5}, "discount must be"),
    ("std-2025", {"discount": "0.9"}, "discount must be"),
    ("std-2025", {"strict": 1}, "strict must be True or False"),
    ("std-2025", {"useful": None}, "useful must be True or False"),
    ("std-2025", {"privileged_state": "no"}, "privileged_state must be True or False"),
    ("std-2025", {"observation": ()}, "observation must be"),
    ("std-2025", {"observation": "thread"}, "observation must be"),
    ("std-2025", {"observation": ("thread", "thread")}, "different parts"),
    ("std-2025", {"observation": ("thread", "histroy")}, "did you mean 'history'"),
    ("std-2025", {"observation": ("thread", 3)}, "Unknown observation part"),
]


@pytest.mark.parametrize(("env_id", "options", "message"), BAD)
def test_a_bad_option_is_refused_with_what_would_be_right(env_id, options, message):
    with pytest.raises(ValueError, match=message):
        config_of(env_id, **options)


@pytest.mark.parametrize(
    ("opponents", "error", "message"),
    [
        ("greddy", ValueError, "did you mean 'greedy'"),
        ("nobody", ValueError, "No opponent 'nobody'"),
        ("no.such.module:Agent", ValueError, "Cannot import"),
        ("numpy:array", TypeError, "must be a StdAgent or OneShotAgent class"),
        (int, TypeError, "must be a StdAgent or OneShotAgent class"),
        (3, TypeError, "opponents must be"),
        (["greedy"], TypeError, "opponents must be"),
        ({}, ValueError, "at least one member"),
        ({"greedy": 0}, ValueError, "positive number"),
        ({"greedy": NAN}, ValueError, "positive number"),
        ({"greedy": True}, ValueError, "positive number"),
    ],
)
def test_bad_opponents_are_refused_when_the_environment_is_made(opponents, error, message):
    with pytest.raises(error, match=message):
        scml_marl_env.make("std-mini", opponents=opponents)


@pytest.mark.parametrize(
    ("env_id", "near"), [("std2025", "std-2025"), ("oneshot_mini", "oneshot-mini"), ("cartpole", "there are std-2024")]
)
def test_an_unknown_id_is_refused_with_the_nearest(env_id, near):
    with pytest.raises(ValueError, match=near):
        scml_marl_env.make(env_id)


@pytest.mark.parametrize("env_id", [None, 3, float("nan")])
def test_an_id_of_the_wrong_type_is_refused(env_id):
    with pytest.raises(ValueError, match="No environment"):
        scml_marl_env.make(env_id)


@pytest.mark.parametrize(("option", "near"), [("shiled", "shield"), ("n_days", "days"), ("qqq", "there are")])
def test_an_unknown_option_is_refused_with_the_nearest(option, near):
    with pytest.raises(TypeError, match=near):
        scml_marl_env.make("std-mini", **{option: 1})


def test_the_factory_view_takes_one_factory():
    with pytest.raises(ValueError, match="use make"):
        scml_marl_env.make_factory("std-mini", controlled=2)


def test_lists_are_taken_for_tuples():
    assert config_of("std-mini", observation=["thread"], days=[10, 12]).days_range == (10, 12)


def test_levels_count_from_both_ends_and_by_name():
    config = config_of("std-2025", processes=(3, 4), controlled=3, level=("first", -1, "middle"))
    assert config.levels(3) == [0, 2, 1] and config.levels(4) == [0, 3, 2]


@pytest.mark.parametrize(
    ("env_id", "opponents"),
    [
        ("std-2025", "default"),
        ("std-2025", {"greedy": 1, "random": 1, "sync-random": 1, "nothing": 1, "prudent": 2, "default": 1}),
        ("std-2025", "scml.std.agents:GreedyStdAgent"),
        ("oneshot-2025", "default"),
        ("oneshot-2025", {"greedy": 1, "random": 1, "sync-random": 1, "rand-dist": 1, "equal-dist": 1, "prudent": 1}),
        ("oneshot-2025", "scml.oneshot.agents.nothing:OneshotDoNothingAgent"),
    ],
)
def test_the_fast_engine_takes_the_opponents_that_it_has_twins_of(env_id, opponents):
    assert config_of(env_id, engine="fast", opponents=opponents).engine == "fast"


@pytest.mark.parametrize(
    ("env_id", "opponents"),
    [
        ("oneshot-2025", "greedy-sync"),
        ("oneshot-2025", {"greedy": 1, "greedy-sync": 1}),
        ("oneshot-2025", "scml.std.agents.greedy:GreedyStdAgent"),
        ("std-2025", "tests.players:Patient"),
    ],
)
def test_the_fast_engine_refuses_opponents_without_a_twin_and_says_what_to_do(env_id, opponents):
    with pytest.raises(ValueError, match=r"no twin of opponent '.*(Agent|Patient)': use engine='scml'.*prudent"):
        config_of(env_id, engine="fast", opponents=opponents)
    config_of(env_id, opponents=opponents)


@pytest.mark.parametrize("track", ["std", "oneshot"])
def test_every_default_agent_has_a_twin(track):
    from scml_marl_env.opponents import check_compiled, compiled_policy
    from scml_marl_env.world.draw import _default_agents
    from scml_marl_env.world.fast import columns

    check_compiled(_default_agents(track), config_of(f"{track}-2025"))
    assert len({compiled_policy(path, track) for path in _default_agents(track)}) == 3
    assert compiled_policy("scml_marl_env.prudent:PrudentAgent", track) == columns.PRUDENT
    assert compiled_policy("no.such:Agent", track) is None
