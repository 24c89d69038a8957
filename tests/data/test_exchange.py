"""What goes to Minari comes back, array for array, and is what Minari expects."""

import json

import numpy as np
import pytest

from scml_marl_env.data.dataset import ARRAYS, Dataset
from scml_marl_env.registry import config_of
from tests.data.made import made_dataset

minari = pytest.importorskip("minari")
pytest.importorskip("pyarrow")

from scml_marl_env.data.exchange import export_minari, import_minari  # noqa: E402

CONFIG = config_of("std-mini")


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    made_dataset(tmp_path / "data", CONFIG, seeds=range(3))
    return Dataset(tmp_path / "data")


def test_a_dataset_goes_to_minari_and_back(data, tmp_path):
    export_minari(data, "scml/std/made-v0")
    back = import_minari(minari.load_dataset("scml/std/made-v0"), tmp_path / "back")
    for name in ARRAYS:
        assert np.array_equal(getattr(back, name), getattr(data, name)), name
        assert (tmp_path / "back" / f"{name}.npy").read_bytes() == (tmp_path / "data" / f"{name}.npy").read_bytes()
    assert json.dumps(back.manifest) == json.dumps(data.manifest)


def test_episodes_of_minari_are_those_of_single_threads(data):
    made = export_minari(data, "scml/std/made-v1", episodes=[3, 1])
    assert made.total_steps == sum(len(data.episode(p)["action"]) for p in (1, 3))
    seen = 0
    for i, episode in enumerate(made.iterate_episodes()):
        (metadata,) = made.storage.get_episode_metadata([i])
        p, slot = metadata["options"]["episode"], metadata["options"]["slot"]
        steps = data.episode(p)
        rows = np.flatnonzero(steps["slot"] == slot)
        assert np.array_equal(episode.observations["observation"][:-1], steps["observation"][rows])
        assert np.array_equal(episode.observations["action_mask"][:-1], data.grid.mask(steps["bounds"][rows]))
        assert episode.observations["action_mask"][-1].sum() == 1
        assert made.observation_space.contains({name: x[0] for name, x in episode.observations.items()})
        assert np.array_equal(episode.actions, steps["action"][rows])
        step_of = np.repeat(np.arange(len(steps["answers"])), steps["answers"])
        after = steps["reward"][step_of[rows[0]] :].sum(dtype=np.float64)
        assert np.isclose(sum(episode.rewards), after, atol=1e-6)
        assert episode.terminations.tolist() == [False] * (len(rows) - 1) + [True]
        seen += 1
    assert seen == made.total_episodes == 4  # two slots of two factories


def test_what_was_not_exported_by_us_is_refused(data, tmp_path):
    made = export_minari(data, "scml/std/made-v2", episodes=[0])
    path = made.storage.data_path / "metadata.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "scml_marl_env"}))
    with pytest.raises(ValueError, match="not exported"):
        import_minari(minari.load_dataset("scml/std/made-v2"), tmp_path / "back")
