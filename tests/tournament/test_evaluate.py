"""experiments/evaluate.py as a user calls it."""

import json
import sys
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
sys.path.append(str(EXPERIMENTS))

import evaluate  # noqa: E402
import scoreboard  # noqa: E402

FILES = {"tournament.json", "worlds.jsonl", "worlds.csv", "report.json", "table.md", "report.png", "report.html"}


def call(out, *flags, agents="greedy,nothing"):
    return evaluate.main(
        ["--agents", agents, "--env", "std-mini", "--worlds", "2", "--backend", "serial", "--out", str(out), *flags]
    )


def test_a_tournament_ends_with_a_table_and_a_folder_of_results(tmp_path, capsys):
    assert call(tmp_path, "--env-options", "days=6", "inventory=conserving", "--fractional-prices", "accept") == 0
    printed = capsys.readouterr().out
    assert "greedy (baseline)" in printed and "balance after the last day / initial balance" in printed
    assert {path.name for path in tmp_path.iterdir()} == FILES
    about = json.loads((tmp_path / "report.json").read_text())["about"]
    assert about["fractional_prices"] == "accept" and about["tournament"]["options"] == {
        "days": 6, "inventory": "conserving",
    }  # fmt: skip
    assert about["command"].startswith("python experiments/evaluate.py --agents greedy,nothing")
    assert about["scml"] and about["date"] and about["commit"]
    assert len((tmp_path / "worlds.csv").read_text().splitlines()) > 4


def test_a_failed_world_is_told_and_makes_the_exit_status_1(tmp_path, capsys):
    agents = "greedy,tests.tournament.troublemakers:Raises"
    assert call(tmp_path, "--env-options", "days=6", "--mode", "swap", agents=agents) == 1
    printed = capsys.readouterr().out
    assert "World 10000000-1 failed: RuntimeError: no licence" in printed and "failures: 2 exception" in printed
    summary = json.loads((tmp_path / "report.json").read_text())["competitors"]
    assert {one["name"]: one["failed"] for one in summary} == {"greedy": 0, "Raises": 2}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--agents", "pengin"), "did you mean 'penguin'"),
        (("--env", "std-mimi"), "did you mean 'std-mini'"),
        (("--baseline", "penguin"), "The baseline 'penguin' does not play; the competitors are greedy, nothing"),
        (("--env-options", "days"), "written key=value"),
        (("--worlds", "0"), "worlds must be 1 to"),
    ],
)
def test_bad_input_ends_in_one_line(flags, message, tmp_path):
    with pytest.raises(SystemExit, match=message):
        call(tmp_path, *flags)


def test_the_scoreboard_grows_and_reports(tmp_path, monkeypatch, capsys):
    boards = {"mini": {"env": "std-mini", "agents": ("nothing", "prudent"), "options": {"days": 5}}}
    monkeypatch.setattr(scoreboard, "BOARDS", boards)
    flags = ["--boards", "mini", "--step", "1", "--workers", "1", "--out", str(tmp_path)]
    assert scoreboard.main([*flags, "--minutes", "0.02"]) == 0
    printed = capsys.readouterr().out
    assert "mini: 1 economies" in printed and "prudent (baseline)" in printed
    assert {path.name for path in (tmp_path / "mini").iterdir()} == FILES
    names = [one["name"] for one in json.loads((tmp_path / "mini/report.json").read_text())["competitors"]]
    assert set(names) == {"mappo", "ippo", "nothing", "prudent"}
    with pytest.raises(SystemExit, match="No board other; there are mini"):
        scoreboard.main(["--boards", "other"])
