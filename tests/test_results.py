"""Every file of experiments/results that holds figures names the command that made it; a checkpoint does not."""

import json
from pathlib import Path

import pytest

RESULTS = Path(__file__).parents[1] / "experiments" / "results"
FILES = sorted(p for p in RESULTS.rglob("*") if p.suffix in (".json", ".md") and p.name != "meta.json")
CSVS = sorted(RESULTS.rglob("*.csv"))


def named(path: Path) -> bool:
    """Whether the file tells what to type to make it again."""
    text = path.read_text()
    if path.suffix == ".json":
        found = json.loads(text)
        command = found.get("command") or found.get("about", {}).get("command", "")
        return command.startswith("python experiments/")
    return "python experiments/" in text.splitlines()[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(RESULTS)))
def test_names_its_command(path):
    assert named(path)


@pytest.mark.parametrize("path", CSVS, ids=lambda path: str(path.relative_to(RESULTS)))
def test_a_csv_does_so_itself_or_stands_beside_a_file_that_does(path):
    beside = [other for other in path.parent.glob("*") if other.suffix in (".json", ".md")]
    assert named(path) or any(named(other) for other in beside)
