"""Groups of decisions: every one is in exactly one group of each kind, and in the right one."""

import numpy as np

from scml_marl_env.actions import PRICE_SIGN
from scml_marl_env.data.dataset import Dataset
from scml_marl_env.data.groups import groups_of
from scml_marl_env.registry import config_of
from tests.data.made import made_dataset


def test_groups_part_the_decisions(tmp_path):
    made_dataset(tmp_path / "data", config_of("std-mini"), seeds=range(4))
    data = Dataset(tmp_path / "data")
    rows = data.decisions_of(data.episodes_of("train"))[::2]
    groups = groups_of(data, rows)
    assert list(groups) == ["operation", "round", "level", "side"]
    for found in groups.values():
        assert sorted(np.concatenate(list(found.values()))) == sorted(rows)
    assert (data.action[groups["operation"]["accept"]] == 2).all()
    assert (data.action[groups["operation"]["offer"]] >= 3).all()
    assert list(groups["round"]) == ["0", "1-2", "3-5"] and list(groups["level"]) == ["first", "middle"]
    assert (data.bounds[groups["side"]["sell"], PRICE_SIGN] < 0).all()
    steps = np.searchsorted(data.first_decision, groups["round"]["1-2"], side="right") - 1
    assert set(data.round[steps].tolist()) == {1, 2}
