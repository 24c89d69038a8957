"""Names of competitors, and the catalogue of competition agents."""

import importlib.util
import json

import pytest

from scml_marl_env import champions, opponents
from scml_marl_env.tournament.competitors import POLICY_AGENT, competitors


def checkpoint(folder, track="std"):
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text(json.dumps({"env": {"track": track}}))
    return folder


def test_names_paths_and_labels():
    found = competitors(["greedy", " mine=prudent", "scml.std.agents:RandomStdAgent"], "std")
    assert [each.name for each in found] == ["greedy", "mine", "RandomStdAgent"]
    assert found[1].path == opponents.PRUDENT and found[2].path == opponents.BUILT_IN["std"]["random"]


def test_an_agent_may_stand_behind_the_shield():
    bare, safe, mine = competitors(["greedy", "greedy+covered", "mine=greedy+feasible"], "std")
    assert (bare.shield, safe.shield, mine.shield) == (None, "covered", "feasible")
    assert (safe.name, mine.name) == ("greedy+covered", "mine") and safe.path == bare.path


def test_a_run_is_its_newest_checkpoint(tmp_path):
    for update in ("update_0000100", "update_0000200", "update_0000300.partial"):
        checkpoint(tmp_path / "run" / "checkpoints" / update)
    run, old = competitors([str(tmp_path / "run"), f"old={tmp_path / 'run/checkpoints/update_0000100'}"], "std")
    assert (run.name, run.path) == ("run", POLICY_AGENT) and run.params["path"].endswith("update_0000200")
    assert old.name == "old" and old.params["path"].endswith("update_0000100")


def test_a_checkpoint_of_the_other_track_is_refused(tmp_path):
    folder = checkpoint(tmp_path / "mine", "oneshot")
    with pytest.raises(ValueError, match="was trained on the oneshot track"):
        competitors([str(folder)], "std")


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ([""], "at least one competitor"),
        (["pengin"], "did you mean 'penguin'"),
        (["greedy", "greedy"], "label="),
        (["champions"], "is a pool"),
        (["runs/nowhere"], "no folder"),
        (["greedy+safe"], "after the . stands a shield, feasible or covered, not 'safe'"),
    ],
)
def test_what_cannot_play_is_refused(specs, message):
    with pytest.raises(ValueError, match=message):
        competitors(specs, "std")


def test_a_folder_without_checkpoint_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no checkpoint"):
        competitors([str(tmp_path)], "std")


def test_names_of_competition_agents_are_unique():
    for track in ("std", "oneshot"):
        names = champions.names(track)
        assert len(names) == len(set(names)) and not set(names) & set(opponents.BUILT_IN[track])


def test_the_catalogue_is_what_the_package_holds():
    scml_agents = pytest.importorskip("scml_agents")
    for year in (2024, 2025, 2026):
        for track in ("std", "oneshot"):
            there = {path.replace(":", ".") for path in scml_agents.get_agents(year, track=track, as_class=False)}
            ours = {each.path.replace(":", ".") for each in champions.ALL if (each.year, each.track) == (year, track)}
            assert ours == there


@pytest.mark.parametrize("champion", champions.ALL, ids=lambda each: f"{each.track}-{each.name}")
def test_every_agent_that_has_what_it_needs_can_be_imported(champion):
    pytest.importorskip("scml_agents")
    if any(importlib.util.find_spec(package.replace("-", "_")) is None for package in champion.needs):
        with pytest.raises(ModuleNotFoundError, match="pip install stable-baselines3"):
            champions.check_installed(champion)
    else:
        assert competitors([champion.name], champion.track)[0].path == champion.path
        opponents.load(champion.path)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(champions.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="--no-deps scml-agents"):
        competitors(["penguin"], "std")
