"""The files of a report, one of them against a golden text."""

import csv
import json
import re
import sys
from pathlib import Path

import pytest
from rich.console import Console

from scml_marl_env.tournament import plots
from scml_marl_env.tournament.record import MEASURES
from scml_marl_env.tournament.report import markdown, print_table, write_report
from scml_marl_env.tournament.statistics import FORMULAS, summarise
from tests.tournament.made import small, world

GOLDEN = Path(__file__).with_name("golden_report.md")


def test_markdown_equals_the_golden_text():
    assert markdown(summarise(small(), "b")) == GOLDEN.read_text()


def test_table_tells_baseline_failures_formulas_and_notes():
    console = Console(width=400, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    print_table(summarise(small(), "b", competitors=["[ghost]"]), console)
    text = console.export_text()
    for part in ("b (baseline)", "failures: 1 timeout", "+0.050 [+0.050, +0.050]", "[ghost]", "b misses 1 of 5 seats"):
        assert part in text
    for formula in (*FORMULAS.values(), *(formula for _, formula in MEASURES.values())):
        assert formula in text


def test_files_hold_everything(tmp_path):
    summary = summarise(small(), "b")
    write_report(tmp_path, small(), summary, {"command": "evaluate.py", "options": {"worlds": 3}})
    raw = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    assert (tmp_path / "table.md").read_text().startswith("`evaluate.py`\n\n| competitor |")
    assert raw["about"] == {"command": "evaluate.py", "options": {"worlds": 3}}
    assert [one["failed"] for one in raw["competitors"]] == [0, 1]
    assert raw["failed"] == [["3/1", "timeout: 60 s"]]
    assert [pair["difference"]["value"] for pair in raw["pairs"]] == pytest.approx([0.05, -0.05])
    rows = list(csv.DictReader((tmp_path / "worlds.csv").open()))
    seats = [row for row in rows if row["competitor"]]
    assert len(rows) == 10 and len(seats) == 9
    assert [row["error"] for row in rows if not row["competitor"]] == ["timeout: 60 s"]
    assert [float(row["score"]) for row in seats if row["competitor"] == "b"] == [1.0, 1.5, 1.0, 1.2]
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "report.html").read_text()
    assert not re.search(r"<script[^>]*\bsrc=", page) and "probability of improvement" in page


@pytest.mark.parametrize("records", [[], [world(1, 0, "a", {0: 1.0})]], ids=["none", "one"])
def test_hardly_any_records_make_a_report(tmp_path, records, recwarn):
    write_report(tmp_path, records, summarise(records, "b", competitors=["b"]), {})
    assert len(list(tmp_path.iterdir())) == 5
    assert not [str(w.message) for w in recwarn if issubclass(w.category, RuntimeWarning | UserWarning)]


@pytest.mark.parametrize("module, write", [("matplotlib", plots.write_png), ("plotly", plots.write_html)])
def test_a_missing_library_names_the_extra(monkeypatch, tmp_path, module, write):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"{module}; install scml_marl_env\[tournament\]"):
        write(tmp_path / "x", [], summarise([]))
