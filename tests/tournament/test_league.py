"""SCML's own runner, handed our competitors."""

import json

import pytest

from scml_marl_env.tournament.competitors import Competitor, competitors
from scml_marl_env.tournament.league import play_league
from scml_marl_env.tournament.plan import Tournament


def league(track="std", **options):
    prudent = "scml_marl_env.prudent:PrudentAgent"
    bold = Competitor(name="prudent, bold", path=prudent, params={"theta": 2.0})
    return Tournament(
        env=f"{track}-2025", competitors=(*competitors(["nothing", "prudent"], track), bold), worlds=1,
        **{"options": {"days": 6, "processes": 2}} | options,
    )  # fmt: skip


@pytest.mark.parametrize(("track", "workers"), [("std", 1), pytest.param("oneshot", 2, marks=pytest.mark.slow)])
def test_the_league_plays_our_competitors_and_its_results_come_back(track, workers, tmp_path):
    rows = play_league(league(track), tmp_path, workers)
    assert {row["name"] for row in rows} == {"nothing", "prudent", "prudent, bold"}
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
    assert all(row["worlds"] > 0 and 0 < row["score"] < 3 for row in rows)
    assert rows[-1]["name"] == "nothing"
    assert json.loads((tmp_path / "league.json").read_text())["competitors"] == rows


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"options": {"inventory": "conserving"}}, "knows only days and processes, not inventory"),
        ({"mode": "swap"}, "not mode=swap"),
        ({"fractional_prices": "accept"}, "--workers 1"),
    ],
)
def test_what_the_league_does_not_have_is_refused(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        play_league(league(**options), tmp_path, 2)
