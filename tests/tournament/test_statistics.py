"""The statistics against numbers worked out by hand, official functions and invariances."""

import inspect
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from scml_marl_env.tournament.statistics import Sample, estimate, interquartile_mean, ratings, summarise, weighted_mean
from tests.tournament.made import failed, small, world


def by_name(summary):
    return {one.name: one for one in summary.competitors}


@pytest.mark.parametrize(
    "values, expected",
    [([8, 1, 7, 2, 6, 3, 5, 4], 4.5), ([0, 100, 4, 8, 0], (4 + 0.75 * 8) / 2.5), ([3], 3), ([1, 3], 2)],
)
def test_interquartile_mean_equals_hand(values, expected):
    assert interquartile_mean(np.array(values, float), np.ones((1, len(values))))[0] == pytest.approx(expected)


@given(st.lists(st.floats(-10, 10), min_size=4, max_size=40))
def test_interquartile_mean_equals_scipy_where_that_cuts_whole_values(values):
    values = np.array(values[: len(values) // 4 * 4])
    assert interquartile_mean(values, np.ones((1, len(values))))[0] == pytest.approx(stats.trim_mean(values, 0.25))


@given(st.lists(st.tuples(st.floats(-10, 10), st.integers(0, 4)), min_size=1, max_size=20))
def test_a_weight_counts_like_copies(rows):
    values, times = np.array([v for v, _ in rows]), np.array([t for _, t in rows])
    if times.sum():
        copies = np.repeat(values, times)
        for statistic in (interquartile_mean, weighted_mean):
            expected = statistic(copies, np.ones((1, len(copies))))[0]
            assert statistic(values, times[None].astype(float))[0] == pytest.approx(expected, abs=1e-9)


def test_truncated_mean_is_the_official_one():
    from scml import utils

    assert "metric=truncated_mean" in inspect.getsource(utils.anac2024_std)
    rng = np.random.default_rng(0)
    for scores in ([1.0, 2, 3, 4, 100], rng.standard_cauchy(50).tolist()):
        found = summarise([world(i, 0, "a", {0: score}) for i, score in enumerate(scores)]).competitors[0].truncated
        assert found == utils.truncated_mean(np.array(scores))
    assert (
        summarise([world(i, 0, "a", {0: s}) for i, s in enumerate([1, 2, 3, 4, 100])]).competitors[0].truncated == 2.5
    )


def test_small_tournament_equals_hand():
    summary = summarise(small(), baseline="b")
    a, b = by_name(summary)["a"], by_name(summary)["b"]
    assert (a.worlds, a.seats, a.missing) == (3, 5, 0)
    assert (b.worlds, b.seats, b.missing) == (2, 4, 1)
    assert a.mean.value == pytest.approx((1.1 + 1.5 + 0.7 + 1.6 + 9.0) / 5)
    versus = summary.pairs["a", "b"]
    assert versus == summary.against_baseline("a")
    assert versus.difference.value == pytest.approx((0.1 + 0 - 0.3 + 0.4) / 4)
    assert versus.improvement.value == pytest.approx((1 + 0.5 + 0 + 1) / 4)
    assert (versus.difference.seats, versus.difference.worlds) == (4, 2)
    assert versus.difference.low == pytest.approx(0.05) == pytest.approx(versus.difference.high)  # both worlds: 0.05
    assert (versus.improvement.low, versus.improvement.high) == pytest.approx((0.5, 0.75))
    assert {level: one.seats for level, one in versus.levels.items()} == {"first": 2, "last": 2}
    assert versus.levels["first"].value == pytest.approx((0.1 - 0.3) / 2)
    assert (versus.levels["last"].low, versus.levels["last"].high) == pytest.approx((0, 0.4))
    assert summary.pairs["b", "a"].improvement.value == pytest.approx(1 - 2.5 / 4)
    assert a.measures["deals"] == pytest.approx((4 + 4 + 6 + 6 + 8) / 5)
    assert a.measures["buy_price"] == pytest.approx((1.25 + 1.25 + 0.75) / 3)
    assert a.measured["buy_price"] == 3
    assert a.levels["first"]["deals"] == pytest.approx(6) and a.levels["last"]["deals"] == pytest.approx(5)
    assert set(a.level_iqm) == {"first", "last"}
    assert summary.failures == {"timeout": 1} and summary.failed == (("3/1", "timeout: 60 s"),)
    assert any("b misses 1 of 5 seats" in note for note in summary.notes)


def test_counters_of_the_agents_are_summed_and_averaged_where_they_exist():
    first = world(1, 0, "a", {0: 1.0, 2: 1.0})
    seats = (replace(first.seats[0], extra={"fallbacks": 3.0}), replace(first.seats[1], extra={"fallbacks": 1.0}))
    summary = summarise([replace(first, seats=seats), world(2, 0, "a", {0: 1.0})])
    assert summary.competitors[0].extra == {"fallbacks": (2.0, 4.0, 2)}


def noisy(n: int = 12, times: int = 1, seed: int = 0):
    rng = np.random.default_rng(seed)
    scores = rng.normal(1, 0.2, (n, 2, 3))
    return [
        world(w, 2 * t + c, "ab"[c], dict(enumerate(scores[w, c])))
        for w in range(n)
        for c in range(2)
        for t in range(times)
    ]


@settings(max_examples=10, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_the_records_does_not_matter(random):
    records = small()
    random.shuffle(records)
    assert repr(summarise(records, "b")) == repr(summarise(small(), "b"))


def test_equal_seeds_give_equal_intervals_and_other_seeds_others():
    records = noisy()
    assert summarise(records, "b", seed=1) == summarise(records, "b", seed=1)
    assert summarise(records, "b", seed=1).competitors[0].mean != summarise(records, "b", seed=2).competitors[0].mean


def test_copies_of_a_world_do_not_shrink_the_interval_but_new_worlds_do():
    once, thrice = summarise(noisy(), "b"), summarise(noisy(times=3), "b")
    for pair in (("a", "b"), ("b", "a")):
        x, y = once.pairs[pair].difference, thrice.pairs[pair].difference
        assert (x.value, x.low, x.high) == pytest.approx((y.value, y.low, y.high))
    for name, one in by_name(once).items():
        for kind in ("mean", "iqm"):
            x, y = getattr(one, kind), getattr(by_name(thrice)[name], kind)
            assert (x.value, x.low, x.high) == pytest.approx((y.value, y.low, y.high))
            assert (y.seats, y.worlds) == (3 * x.seats, x.worlds)
    wide, narrow = (by_name(summarise(noisy(n), "b"))["a"].mean for n in (12, 108))
    assert narrow.high - narrow.low < 0.6 * (wide.high - wide.low)


def test_levels_of_a_world_are_drawn_together():
    shock = np.random.default_rng(0).normal(size=20)
    records = [world(w, 0, "a", {0: 1 + e, 2: 2 - e}) for w, e in enumerate(shock)]
    mean = summarise(records).competitors[0].mean
    assert (mean.low, mean.high) == pytest.approx((1.5, 1.5))


def test_the_share_of_a_level_does_not_vary_between_resamples():
    records = [world(w, 0, "a", {0: 1.0, 2: 2.0} if w % 2 else {0: 1.0}) for w in range(20)]
    mean = summarise(records).competitors[0].mean
    assert (mean.value, mean.low, mean.high) == pytest.approx((4 / 3, 4 / 3, 4 / 3))


def test_intervals_cover_the_truth_although_seats_of_a_world_depend():
    rng = np.random.default_rng(0)
    covered, n = 0, 150
    for i in range(n):
        shock = rng.normal(size=(30, 1)) + 0.2 * rng.normal(size=(30, 3))
        rows = [(shock[w, s], w, "first") for w in range(30) for s in range(3)]
        found = estimate(Sample.of(rows), weighted_mean, i)
        covered += found.low <= 0 <= found.high
    assert 0.88 <= covered / n <= 0.99  # independent seats would give about 0.75


def test_without_records_or_pairs_there_is_a_summary_and_a_note():
    assert summarise([]).competitors == ()
    ghost = summarise(small(), baseline="ghost", competitors=["ghost"])
    assert ghost.baseline is None and ghost.competitors[-1].name == "ghost" and ghost.competitors[-1].missing == 5
    assert any("Baseline 'ghost' never played" in note for note in ghost.notes)
    assert any("Competitors: ['a', 'b']" in note for note in summarise(small(), baseline="nobody").notes)
    only = summarise([failed(1, 0, "death: signal 9")], competitors=["a"])
    assert only.failures == {"death": 1} and only.competitors[0].seats == 0


def test_one_world_has_no_interval():
    mean = summarise([world(1, 0, "a", {0: 1.0, 2: 3.0})]).competitors[0].mean
    assert mean.value == 2.0 and np.isnan(mean.low) and np.isnan(mean.high)


def test_equal_scores_are_a_tie():
    summary = summarise([world(w, c, "ab"[c], {0: 1.0}) for w in range(5) for c in range(2)], "b")
    pair = summary.against_baseline("a")
    assert (pair.difference.value, pair.difference.low, pair.difference.high) == (0, 0, 0)
    assert (pair.improvement.value, pair.improvement.low, pair.improvement.high) == (0.5, 0.5, 0.5)
    assert by_name(summary)["a"].rating == pytest.approx(by_name(summary)["b"].rating, abs=1e-6)


def test_a_score_that_is_not_a_number_is_left_out_and_told():
    summary = summarise([*small(), world(4, 0, "a", {0: float("nan")})])
    assert by_name(summary)["a"].seats == 5
    assert any("4/0: a at 0 has no finite score" in note for note in summary.notes)


def test_records_that_occur_twice_are_refused():
    with pytest.raises(ValueError, match=r"same key: \['1/0'\]"):
        summarise([*small(), small()[0]])


def test_ratings_follow_who_wins_the_seats():
    scores = {
        name: {(w, 0): bonus + 0.01 * w for w in range(10)}
        for name, bonus in (("low", 1.0), ("high", 3.0), ("mid", 2.0))
    }
    found = ratings(scores)
    assert found["low"][0] < found["mid"][0] < found["high"][0]
    assert ratings({"alone": {(1, 0): 1.0}}) == {}


def test_without_openskill_the_note_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "openskill.models", None)
    summary = summarise(small())
    assert summary.competitors[0].rating is None
    assert any("scml_marl_env[tournament]" in note for note in summary.notes)
