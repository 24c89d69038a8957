"""The README: its quick start runs, its tables are complete, its commands name things that exist."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

import scml_marl_env
from scml_marl_env.config import EnvConfig

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_quick_start_runs(capsys):
    code = re.findall(r"```python\n(.*?)```", README, re.S)[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    exec(compile(code, "README.md", "exec"), {})
    assert re.match(r"score -?\d+\.\d\d after 20 days\n", capsys.readouterr().out)


@pytest.mark.parametrize("name", [field.name for field in fields(EnvConfig)])
def test_every_option_has_its_row_with_its_default(name):
    default = next(field.default for field in fields(EnvConfig) if field.name == name)
    row = re.search(rf"^\| `{name}` \| `(.+?)` \| .+ \|$", README, re.M)
    assert row and eval(row[1], {}) == default


@pytest.mark.parametrize("env_id", scml_marl_env.ids())
def test_every_id_is_listed(env_id):
    assert f"`{env_id}`" in README


def test_files_that_are_named_exist():
    for path in re.findall(r"\b((?:experiments|scml_marl_env|algorithms|tests)/[\w/.]+\.\w+)\b", README):
        assert (ROOT / path).exists(), path


def test_the_two_commands_are_there_and_ci_runs_the_second():
    first, second = re.findall(r"```bash\n(.*?)\n```", README, re.S)[:2]
    assert "experiments/run.py --algo mappo" in first and "pip install -c constraints.txt -e" in first
    install = re.search(r"pip install -c constraints.txt -e \S+", second)[0]
    ci = (ROOT / ".ci" / "run").read_text()
    assert install in ci and second.endswith("pytest") and "\npytest\n" in ci
