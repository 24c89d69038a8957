"""Banks of prepared worlds: they hold what real SCML plays, and are read, resumed and refused as they say."""

import json
import os
import warnings

import numpy as np
import pytest

from scml_marl_env.registry import config_of
from scml_marl_env.vector import VectorEnv
from scml_marl_env.world import bank as bank_module
from scml_marl_env.world.bank import Bank, build_bank, cached_bank, main, open_bank, prepare
from scml_marl_env.world.draw import draw
from scml_marl_env.world.fast import columns as at
from scml_marl_env.world.fast.tables import size_of, static_of, tables_of, write
from scml_marl_env.world.scml_engine import ScmlEngine

MINI = config_of("std-mini", factories_per_level=(2, 3))


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(bank_module, "SHARD_SIZE", 3)


@pytest.fixture
def folder(tmp_path, small_shards):
    """A bank of 7 worlds in shards of 3."""
    build_bank(MINI, tmp_path / "bank", 7, first_seed=100, processes=1, show_progress=False)
    return tmp_path / "bank"


def with_bank(folder, **options):
    return config_of("std-mini", factories_per_level=(2, 3), bank=str(folder), **options)


def same_tables(one, other):
    """Whether two worlds are equal, padding aside."""
    small, large = sorted((one, other), key=lambda tables: size_of(tables).exogenous)
    batch = type(large)(*(array.copy() for array in large))
    write(batch, 0, small)
    return all((a == b).all() for a, b in zip(batch, large, strict=True))


@pytest.mark.parametrize(
    ("env_id", "options"),
    [("std-mini", {"processes": 3}), ("std-2025", {"days": 12}), ("oneshot-mini", {}), ("oneshot-2025", {"days": 12})],
)
@pytest.mark.parametrize("opponents", ["default", "greedy", "nothing"])
def test_a_prepared_world_is_the_one_that_real_scml_plays(env_id, options, opponents):
    config = config_of(env_id, opponents=opponents, **options)
    for seed in (3, 4):
        engine = ScmlEngine(config)
        engine.reset(seed)
        prepared = prepare(config, seed)
        played = static_of(engine.world)
        assert same_tables(tables_of(played), prepared.tables)
        assert prepared.levels == engine.drawn.levels == tuple(played["level"])
        engine.close()


@pytest.mark.parametrize("opponents", ["default", "greedy"])
def test_with_a_bank_real_scml_plays_the_world_that_the_seed_chooses(folder, opponents):
    config = with_bank(folder, opponents=opponents)
    bank, engine, rows = Bank(folder), ScmlEngine(config), set()
    library = bank.library(config)
    for seed in range(12):
        engine.reset(seed)
        row = bank.row_of(seed)
        assert engine.drawn.world_seed == library.prepared(row).world_seed == 100 + row
        assert same_tables(tables_of(static_of(engine.world)), library.prepared(row).tables)
        rows.add(row)
    engine.close()
    assert len(rows) > 3


def test_episodes_in_one_world_have_other_roles_and_the_same_economy(folder):
    config = with_bank(folder)
    bank = Bank(folder)
    seeds = [seed for seed in range(200) if bank.row_of(seed) == 2]
    draws = [draw(config, seed) for seed in seeds]
    assert len(draws) > 10 and {drawn.world_seed for drawn in draws} == {102}
    assert len({(drawn.controlled, drawn.agent_types) for drawn in draws}) > 2
    assert len({tuple(drawn.params["catalog_prices"]) for drawn in draws}) == 1


def test_rows_are_chosen_evenly(folder):
    counts = np.bincount([Bank(folder).row_of(seed) for seed in range(7000)], minlength=7)
    assert counts.size == 7 and abs(counts - 1000).max() < 150


def test_what_is_read_is_what_was_prepared(folder):
    bank = Bank(folder)
    assert len(bank) == 7
    for row in range(7):
        read, fresh = bank.library(MINI).prepared(row), prepare(MINI, 100 + row)
        assert (read.world_seed, read.levels, read.defaults) == (fresh.world_seed, fresh.levels, fresh.defaults)
        assert all(a.dtype == b.dtype for a, b in zip(read.tables, fresh.tables, strict=True))
        assert same_tables(read.tables, fresh.tables)
    for row in (-1, 7):
        with pytest.raises(IndexError, match=r"worlds 0\.\.6"):
            bank.library(MINI).prepared(row)


def test_all_that_plays_in_a_process_shares_one_copy(folder):
    """Of configs with the same room; and a fleet counts only its own memory."""
    bank = open_bank(with_bank(folder))
    assert bank.library(with_bank(folder)) is bank.library(with_bank(folder, opponents="greedy"))
    assert bank.library(with_bank(folder, slots=9)) is not bank.library(with_bank(folder))
    one, two = (VectorEnv(with_bank(folder, engine="fast"), 3, seed=1) for _ in range(2))
    alone = VectorEnv(config_of("std-mini", factories_per_level=(2, 3), engine="fast"), 3, seed=1)
    shared = one._worlds._fleet.tables
    assert shared is two._worlds._fleet.tables and len(shared.world) == 7
    assert alone.nbytes - one.nbytes == sum(array.nbytes for array in alone._worlds._fleet.tables)


def test_saved_worlds_of_a_bank_go_on(folder):
    """Where a world lies in memory is not part of what is saved."""
    one, two = (VectorEnv(with_bank(folder, engine="fast"), 3, seed=seed) for seed in (1, 2))
    rest = np.zeros(one.active.shape, int)
    for env in (one, two):
        env.reset()
        for _ in range(15):
            env.step(rest)
    saved = one.state_dict()
    saved["arrays"]["state.world"][:, at.ROW] = 1000
    two.load_state_dict(saved)
    for _ in range(60):
        one.step(rest)
        two.step(rest)
        assert (one.observation == two.observation).all() and (one.reward == two.reward).all()


def test_competitors_places_survive_the_file(tmp_path):
    config = config_of("oneshot-2025", days=10)
    bank = build_bank(config, tmp_path / "bank", 3, processes=1, show_progress=False)
    for row in range(3):
        assert bank.library(config).prepared(row).defaults == prepare(config, row).defaults
        assert None in bank.library(config).prepared(row).defaults


def test_only_the_shards_that_are_asked_for_are_opened(folder, monkeypatch):
    opened, load = [], np.load
    monkeypatch.setattr(np, "load", lambda path, *args, **kwargs: opened.append(path.name) or load(path))
    bank = Bank(folder)
    library = bank.library(MINI)
    assert opened == []
    library.prepared(4)
    library.prepared(3)
    assert opened == ["worlds-0001.npz"]
    draw(with_bank(folder), 1)  # real SCML needs the seed only
    assert opened == ["worlds-0001.npz"]


def test_a_bank_is_resumed_and_enlarged_without_drawing_a_world_twice(folder, monkeypatch):
    drawn = []

    def spy(config, seed):
        drawn.append(seed - 100)
        return prepare(config, seed)

    monkeypatch.setattr(bank_module, "prepare", spy)
    before = [Bank(folder).library(MINI).prepared(row) for row in range(7)]
    build_bank(MINI, folder, 5, first_seed=100, processes=1, show_progress=False)
    assert drawn == [] and len(Bank(folder)) == 7
    (folder / "worlds-0001.npz").unlink()
    (folder / "worlds-0000.npz").write_bytes(b"PK torn")
    with pytest.raises(ValueError, match="missing or damaged"):
        Bank(folder).library(MINI).prepared(4)
    with pytest.raises(ValueError, match="missing or damaged"):
        Bank(folder).library(MINI).prepared(0)
    build_bank(MINI, folder, 8, first_seed=100, processes=1, show_progress=False)
    assert drawn == list(range(8)) and len(Bank(folder)) == 8  # the last shard was not full
    drawn.clear()
    build_bank(MINI, folder, 11, first_seed=100, processes=1, show_progress=False)
    assert drawn == [6, 7, 8, 9, 10]
    for row, one in enumerate(before):
        assert same_tables(Bank(folder).library(MINI).prepared(row).tables, one.tables)


def test_an_interrupted_bank_says_so_and_goes_on(tmp_path, small_shards, monkeypatch):
    drawn = []

    def fail(config, seed):
        if seed == 5:
            raise KeyboardInterrupt
        drawn.append(seed)
        return prepare(config, seed)

    monkeypatch.setattr(bank_module, "prepare", fail)
    with pytest.raises(KeyboardInterrupt):
        build_bank(MINI, tmp_path, 7, processes=1, show_progress=False)
    with pytest.raises(ValueError, match="unfinished"):
        Bank(tmp_path)
    monkeypatch.setattr(bank_module, "prepare", lambda config, seed: drawn.append(seed) or prepare(config, seed))
    assert len(build_bank(MINI, tmp_path, 7, processes=1, show_progress=False)) == 7
    assert drawn == [0, 1, 2, 3, 4, 3, 4, 5, 6]


def test_a_bank_of_other_worlds_is_refused_with_what_differs(folder):
    draw(with_bank(folder), 0)
    draw(with_bank(folder, controlled=2, opponents="greedy", reward="potential"), 0)
    with pytest.raises(ValueError, match=r"days is \[20, 20\] in the bank and \[30, 30\] in the environment"):
        draw(with_bank(folder, days=30), 0)
    with pytest.raises(ValueError, match="rounds is 20 in the bank and 7"):
        draw(with_bank(folder, rounds=7), 0)
    with pytest.raises(ValueError, match=r"track is std.*oneshot"):
        draw(config_of("oneshot-mini", bank=str(folder)), 0)


@pytest.mark.parametrize("change", [{"days": 30}, {"factories_per_level": 2}])
def test_a_folder_with_another_bank_is_not_written_to(folder, change):
    options = {"factories_per_level": (2, 3)} | change
    with pytest.raises(ValueError, match="another bank, whose parameters"):
        build_bank(config_of("std-mini", **options), folder, 3, first_seed=100, processes=1)
    with pytest.raises(ValueError, match="another bank, whose first_seed"):
        build_bank(MINI, folder, 3, processes=1)


def test_another_version_of_scml_is_warned_of_once_and_not_mixed_in(folder):
    about = json.loads((folder / "bank.json").read_text())
    about["versions"]["scml"] = "0.7.6"
    (folder / "bank.json").write_text(json.dumps(about))
    os.utime(folder / "bank.json", ns=(1, 1))  # another time than that of the bank that is open
    with pytest.warns(UserWarning, match=r"made with scml 0\.7\.6"):
        open_bank(with_bank(folder))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_bank(with_bank(folder))
    with pytest.raises(ValueError, match="whose versions"):
        build_bank(MINI, folder, 9, first_seed=100, processes=1)


def test_what_is_no_bank_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no bank in"):
        draw(with_bank(tmp_path), 0)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="no bank: name an empty or new folder"):
        build_bank(MINI, tmp_path, 3, processes=1)
    (tmp_path / "bank.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        Bank(tmp_path)
    (tmp_path / "bank.json").write_text('{"format": 99}')
    with pytest.raises(ValueError, match="not of format 2"):
        Bank(tmp_path)


@pytest.mark.parametrize(
    "bad", [{"n_worlds": 0}, {"n_worlds": 2.5}, {"first_seed": -1}, {"processes": 0}, {"n_worlds": True}]
)
def test_numbers_out_of_range_are_refused(tmp_path, bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must be a whole number"):
        build_bank(MINI, tmp_path, **{"n_worlds": 3, **bad})


def test_the_cache_is_filled_once_for_each_kind_and_number_of_worlds(tmp_path, monkeypatch):
    monkeypatch.setenv("SCML_MARL_ENV_CACHE", str(tmp_path))
    first = cached_bank(MINI, 2, processes=1)
    assert first.parent == tmp_path / "banks" and len(Bank(first)) == 2
    monkeypatch.setattr(bank_module, "prepare", None)
    assert cached_bank(MINI, 2, processes=1) == first
    monkeypatch.setattr(bank_module, "prepare", prepare)
    others = {cached_bank(MINI, 3, processes=1), cached_bank(config_of("std-mini"), 2, processes=1)}
    assert len(others | {first}) == 3


def test_the_command_makes_a_bank_and_explains_its_errors(tmp_path, capsys):
    out = tmp_path / "bank"
    assert main(["std-mini", "--worlds", "2", "--out", str(out), "--processes", "1", "--days", "9-12"]) == 0
    assert Bank(out).about["parameters"]["days"] == [9, 12] and "2 worlds" in capsys.readouterr().out
    for arguments, message in (
        (["std-min", "--worlds", "2", "--out", str(out)], "did you mean 'std-mini'"),
        (["std-mini", "--worlds", "0", "--out", str(out)], "n_worlds must be"),
        (["std-mini", "--worlds", "2", "--out", str(out)], "holds another bank"),
        (["std-mini", "--worlds", "2", "--out", str(out / "bank.json")], "is a file"),
    ):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["std-mini", "--worlds", "2", "--out", str(out), "--days", "many"])
    assert "neither a number nor a range" in capsys.readouterr().err


@pytest.mark.slow
def test_worker_processes_make_the_same_bank(tmp_path):
    one = build_bank(MINI, tmp_path / "one", 6, processes=1, show_progress=False)
    two = build_bank(MINI, tmp_path / "two", 6, processes=2)
    for row in range(6):
        a, b = one.library(MINI).prepared(row), two.library(MINI).prepared(row)
        assert a.defaults == b.defaults and all((x == y).all() for x, y in zip(a.tables, b.tables, strict=True))
