"""The fast engine against recordings of real SCML: every number equal, nothing re-synchronised."""

import copy
import json
from pathlib import Path

import pytest

from scml_marl_env.world.parity import compare, load_trace, main
from scml_marl_env.world.record import main as record
from scml_marl_env.world.record import record_episode

TRACES = sorted((Path(__file__).parent / "traces").glob("*.json.gz"))


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.name[:2])
def test_every_recorded_number_is_reproduced(path):
    trace = load_trace(path)
    report = compare(trace)
    assert report.difference is None
    assert report.days == len(trace["days"]) == trace["n_days_run"]
    assert report.rounds == sum(len(day["events"]) for day in trace["days"])
    assert report.contracts == len(trace["contracts"])
    assert report.values > 100 * report.days


def _changed(trace, change):
    other = copy.deepcopy(trace)
    change(other)
    return compare(other).difference


CHANGES = {
    "a profit": (
        lambda t: t["days"][3]["agents"]["profit"].__setitem__(2, t["days"][3]["agents"]["profit"][2] + 1e-9),
        3,
    ),
    "a trading price": (lambda t: t["days"][2]["tp_end"].__setitem__(1, t["days"][2]["tp_end"][1] * (1 + 1e-15)), 2),
    "an account": (lambda t: t["days"][4]["awi_end"][1].__setitem__(6, t["days"][4]["awi_end"][1][6] + 1), 4),
    "who is asked": (lambda t: t["days"][1]["events"][5].__setitem__(2, t["days"][1]["events"][5][2] + 1), 1),
    "the end of a negotiation": (lambda t: t["days"][2]["ends"][0].__setitem__(3, t["days"][2]["ends"][0][3] + 1), 2),
    "a balance before day 0": (lambda t: t["static"]["initial_balance"].__setitem__(2, 1), 0),
    "a move that was not made": (lambda t: t["days"][0]["events"].append([0, 0, 0, 2]), 0),
    "a score": (lambda t: t["final_scores"].__setitem__(0, 0.5), None),
    "an execution day": (lambda t: t["contracts"][0].__setitem__(8, 49), None),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_recording_that_was_tampered_with_is_found_out(name):
    trace = load_trace(TRACES[0])
    change, day = CHANGES[name]
    difference = _changed(trace, change)
    assert difference is not None
    assert day is None or difference.day == day, difference


def test_the_command_names_the_first_difference_and_fails(tmp_path, capsys):
    trace = load_trace(TRACES[4])
    trace["days"][1]["agents"]["balance"][3] += 1
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(trace))
    assert main([str(TRACES[4])]) == 0
    assert main([str(TRACES[4]), str(bad)]) == 1
    said = capsys.readouterr().out
    assert "day 1, factory 3, balance" in said and "rounds" in said and said.count("OK") == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"penalties_scale": "unit"}, "penalties"),
        ({"one_offer_per_step": True}, "atomic"),
        ({"nullify_bankrupt_contracts": True}, "nullify"),
    ],
)
def test_a_world_that_is_not_played_is_refused_with_the_reason(change, message):
    trace = load_trace(TRACES[0])
    trace["static"].update(change)
    with pytest.raises(ValueError, match=message):
        compare(trace)


def test_a_file_that_is_no_trace_is_refused(tmp_path):
    path = tmp_path / "nothing.json"
    path.write_text("{}")
    with pytest.raises(ValueError, match="is no trace"):
        load_trace(path)
    assert main([str(path), str(tmp_path / "missing.json")]) == 1


@pytest.mark.parametrize(
    ("env_id", "options"),
    [
        ("std-mini", {"processes": 3, "days": 8, "opponents": {"greedy": 1, "sync-random": 1, "random": 1}}),
        ("std-mini", {"days": 8, "inventory": "conserving", "opponents": "tests.players:Patient"}),
        ("oneshot-mini", {"days": 10, "factories_per_level": 3, "controlled": 2}),
        ("std-mini", {"days": 6, "opponents": "tests.players:Failing"}),
    ],
)
def test_an_episode_of_the_real_engine_is_recorded_and_replayed(env_id, options):
    trace = record_episode(env_id, 3, **options)
    report = compare(trace)
    assert report.difference is None
    assert report.rounds > 100 and report.days == trace["static"]["n_steps"]


def test_a_folder_in_place_of_the_file_is_refused_before_the_episode_is_played(tmp_path, capsys):
    with pytest.raises(SystemExit):
        record(["std-mini", "--out", str(tmp_path)])
    assert "is a folder; try" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_five_hundred_freshly_drawn_worlds(block):
    """Every configuration that environments can ask for, recorded on the real engine and replayed."""
    pools = ["default", "greedy", "random", "nothing", "tests.players:Patient", "prudent", "tests.players:Generous"]
    compared = 0
    for n in range(50):
        seed = 50 * block + n
        oneshot = n % 5 == 4
        options = {
            "days": 6 + seed % 4,
            "factories_per_level": (2, 2 + seed % 3),
            "opponents": pools[seed % len(pools)],
            "controlled": 1 + seed % 2,
            "rounds": (20, 20, 7, 1)[seed % 4],
        }
        if not oneshot:
            options |= {"processes": 2 + seed % 3, "inventory": ("simulator", "conserving")[seed // 3 % 2]}
        report = compare(record_episode("oneshot-mini" if oneshot else "std-mini", seed, seed, **options))
        assert report.difference is None, (seed, options, str(report.difference))
        compared += report.values
    assert compared > 50 * 1000
