"""Rates by hand, the names that can be audited, and the command."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from scml_marl_env.audit.play import SeatAudit, play
from scml_marl_env.audit.rates import RATES, gains, rates
from scml_marl_env.registry import config_of
from tests.audit.scripted import small

sys.path.append(str(Path(__file__).resolve().parents[2] / "experiments"))

import audit

NAMES = {name for hits, of in RATES.values() for name in (*hits, *of)}


def seat(world, level="first", score=1.0, index=0, **counts):
    counts = dict.fromkeys(NAMES, 0.0) | counts
    return SeatAudit(world_seed=world, index=index, level=level, score=score, counts=counts, examples=[])


def test_a_rate_is_a_ratio_of_sums_over_all_seats_of_a_level():
    seats = [
        seat(1, sell_accepts=10, buy_accepts=30, feasible_u1_sell_accepts=4, days=50, short_units_negotiated=5),
        seat(2, sell_accepts=50, buy_accepts=10, feasible_u1_buy_accepts=2, days=50),
        seat(2, "last", buy_accepts=100, days=50),
    ]
    first = rates(seats, "first")
    assert first["u1_accepts"].value == 6 / 100
    assert first["u1_accepts"][3:] == (6, 100)
    assert first["u1"].value == 6 / 100
    assert first["short_negotiated"].value == 5 / 100
    assert np.isnan(first["u1_offers"].value)
    assert rates(seats)["u1_accepts"].value == 6 / 200
    assert rates(seats)["score"].of == 3


def test_the_interval_draws_whole_worlds():
    # Every world has 100 equal actions: with 8 of 16 worlds unsafe throughout, the bootstrap is binomial of 16 worlds.
    seats = [
        seat(w, index=i, sell_offers=50, feasible_u1_sell_offers=50.0 * (w % 2)) for w in range(16) for i in (0, 1)
    ]
    found = rates(seats, draws=20_000)["u1_offers"]
    assert found.value == 0.5
    assert (found.low, found.high) == (4 / 16, 12 / 16)
    assert rates(seats, seed=1, draws=100) == rates(seats, seed=1, draws=100)


def test_a_gain_pairs_the_seats():
    base = [seat(1, score=1.0), seat(1, "last", score=0.5, index=7), seat(2, score=0.2)]
    better = [seat(1, score=1.2), seat(1, "last", score=0.6, index=7), seat(3, score=9.0)]
    assert gains(better, base).value == pytest.approx(0.15)
    assert gains(better, base, "last").value == pytest.approx(0.1)
    assert gains(better, base).of == 2


def test_every_level_has_one_seat_and_its_own_name():
    seats = play(small(processes=3, days=5), "greedy", 11)
    assert [s.level for s in seats] == ["first", "middle", "last"]
    assert [s.index for s in seats] == [0, 2, 4]
    assert all(s.counts["days"] == 5 for s in seats)
    again = play(small(processes=3, days=5), "greedy", 11)
    assert seats == again


def test_official_seats_are_those_of_the_generator():
    from scml_marl_env.world import draw

    config = config_of("std-2025", days=5)
    defaults = draw.economy(config, 4).defaults
    seats = play(config, "nothing", 4, seats="official")
    assert [s.index for s in seats] == [i for i, default in enumerate(defaults) if default is None]
    assert len(seats) >= 2
    with pytest.raises(ValueError, match="levels or official"):
        play(config, "nothing", 4, seats="all")


def test_the_command_writes_rates_counts_and_examples(tmp_path, capsys):
    out = tmp_path / "a.json"
    argv = ["greedy", "greedy+covered", "--env", "std-mini", "--env-options", "days=4", "--worlds", "2"]
    assert audit.main([*argv, "--workers", "1", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["rates"]["greedy"]["all"]["u1"]["hits"] > 0
    assert found["rates"]["greedy+covered"]["all"]["uncovered"]["hits"] == 0
    assert found["rates"]["greedy+covered"]["all"]["score_gain"]["of"] == 4
    assert len(found["seats"]["greedy"]) == 4
    assert found["failures"] == []
    assert found["about"]["scml"]
    assert found["about"]["command"].startswith("python experiments/audit.py")
    examples = json.loads((tmp_path / "a_examples.json").read_text())["examples"]
    assert {"world_seed", "index", "day", "answers"} <= examples["greedy"][0].keys()
    assert "level: last" in capsys.readouterr().out


def test_a_failed_world_is_told_and_the_others_are_kept(tmp_path, monkeypatch, capsys):
    out = tmp_path / "a.json"
    argv = ["tests.audit.scripted:Breaks", "--env", "std-mini", "--env-options", "days=4", "--worlds", "2"]
    assert audit.main([*argv, "--workers", "1", "--out", str(out)]) == 1
    found = json.loads(out.read_text())
    assert [failure["world_seed"] for failure in found["failures"]] == [5_000_012]
    assert "broken on purpose" in found["failures"][0]["error"]
    assert len(found["seats"]["tests.audit.scripted:Breaks"]) == 2


def test_the_command_says_what_is_wrong():
    with pytest.raises(SystemExit, match="did you mean 'greedy'"):
        audit.main(["gredy"])
    with pytest.raises(SystemExit, match="at least one agent"):
        audit.main([])
