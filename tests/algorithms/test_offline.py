"""Recorded play as learners read it, and what is measured on it."""

import numpy as np
import pytest
import torch

from algorithms import agreement, offline
from algorithms.distribution import masked_log_softmax
from algorithms.heads import Factor
from algorithms.offline import Selection
from tests.algorithms.grids import SmallGrid
from tests.algorithms.recorded import record, teacher


@pytest.mark.parametrize("n", [1, 7, 8, 100])
def test_every_row_is_read_once_and_blocks_keep_together(n):
    rows = np.arange(n) * 3
    pools = [chosen[order] for chosen, order in offline.shuffled(rows, np.random.default_rng(0), block=4, pool=8)]
    assert sorted(np.concatenate(pools).tolist()) == rows.tolist() and all(len(pool) <= 8 for pool in pools)
    assert all(len(set((pool // 12).tolist())) <= 2 for pool in pools)  # two blocks a pool
    again = [chosen[order] for chosen, order in offline.shuffled(rows, np.random.default_rng(0), block=4, pool=8)]
    other = [chosen[order] for chosen, order in offline.shuffled(rows, np.random.default_rng(1), block=4, pool=8)]
    assert np.array_equal(np.concatenate(pools), np.concatenate(again))
    assert n < 8 or not np.array_equal(np.concatenate(pools), np.concatenate(other))
    plain = [chosen[order] for chosen, order in offline.shuffled(rows, None, block=4, pool=8)]
    assert np.concatenate(plain).tolist() == rows.tolist()


def test_pools_hold_the_rows_that_they_name():
    data = record()
    for pool in offline.pools(data, np.arange(0, 100, 2), np.random.default_rng(0), pool=16):
        assert np.array_equal(pool.observation.numpy(), data.observation[pool.rows])
        assert np.array_equal(pool.bounds.numpy(), data.bounds[pool.rows])
        assert np.array_equal(pool.action.numpy(), data.action[pool.rows]) and pool.action.dtype == torch.int64


def test_what_the_bounds_forbid_is_left_out_and_counted():
    data = record()
    data.legal[[3, 5, 8]] = False
    rows, dropped = offline.legal_rows(data, np.array([0]))
    assert dropped == 3 and not {3, 5, 8} & set(rows.tolist())
    assert len(rows) + 3 == data.first_decision[20]


def test_episodes_are_selected_by_split_expert_and_score():
    data = record()
    everything = offline.select(data, Selection())
    assert {name: chosen.tolist() for name, chosen in everything.items()} == {
        "train": [0, 1, 2, 3, 6, 7, 8, 9],
        "validation": [4, 10],
        "test": [5, 11],
    }
    data.score = np.arange(12.0)
    data.score[4] = 3.9
    assert offline.select(data, Selection(experts=("even",)))["train"].tolist() == [0, 2, 6, 8]
    best = offline.select(data, Selection(best_share=0.5))
    assert best["train"].tolist() == [6, 7, 8, 9] and best["validation"].tolist() == [10]  # half of each level
    assert offline.select(data, Selection(min_score=3.0))["train"].tolist() == [3, 6, 7, 8, 9]
    data.score[6] = np.nan  # a recording that was cut short
    assert offline.select(data, Selection(experts=("even", "even")))["train"].tolist() == [0, 2, 6, 8]
    assert offline.select(data, Selection(best_share=0.5))["train"].tolist() == [2, 7, 8, 9]
    assert offline.select(data, Selection(min_score=3.0))["train"].tolist() == [3, 7, 8, 9]
    with pytest.raises(ValueError, match=r"no experts \['penguin'\]"):
        offline.select(data, Selection(experts=("penguin",)))
    with pytest.raises(ValueError, match="No train episode is left of 8"):
        offline.select(data, Selection(min_score=99))


def test_returns_to_go_by_hand():
    data = record()
    data.reward[20:24], data.elapsed[20:24] = [1, 2, 0, 3], [0, 1, 0, 2]
    data.reward[24:40], data.reward[40:] = 0, 5
    steps, found = offline.returns_to_go(data, np.array([1, 3]), gamma=0.5)
    assert steps.tolist() == [*range(20, 40), *range(60, 80)]
    assert found[:5].tolist() == pytest.approx([1 + 2 + 0.5 * 3, 2 + 0.5 * 3, 3, 3, 0])
    _, plain = offline.returns_to_go(data, np.array([1]), gamma=1.0)
    assert plain[0] == pytest.approx(6)
    data.terminated[39] = False  # a recording without an end
    assert offline.returns_to_go(data, np.array([1, 2]), gamma=0.5)[1][:20].tolist() == found[:20].tolist()


def test_steps_of_decisions_and_spans():
    data = record()
    rows = np.array([0, data.first_decision[7], data.first_decision[8] - 1, data.first_decision[8]])
    assert offline.steps_of(data, rows).tolist() == [0, 7, 7, 8]
    assert offline.spans(np.array([0, 2, 2, 5]), np.array([2, 0, 1])).tolist() == [2, 3, 4, 0, 1]
    assert offline.spans(data.first_decision, np.arange(20)).tolist() == data.decisions_of([0]).tolist()


def factor(rows, probabilities, choice):
    return Factor(torch.tensor(rows), torch.log(torch.tensor(probabilities)), torch.tensor(choice))


def test_likelihood_accuracy_and_calibration_by_hand():
    tally = agreement.Tally(("operation", "lead"))
    operation = factor([0, 1], [[0.7, 0.1, 0.2], [0.2, 0.2, 0.6]], [0, 1])
    tally.add(
        [operation, factor([0], [[0.9, 0.1]], [1])],
        action=torch.tensor([4, 1]),
        greedy=torch.tensor([3, 2]),
        confidence=torch.log(torch.tensor([0.63, 0.6])),
    )
    tally.add(
        [factor([0], [[0.3, 0.5, 0.2]], [1])], torch.tensor([1]), torch.tensor([1]), torch.log(torch.tensor([0.5]))
    )
    found = tally.result()
    assert found["decisions"] == 3 and found["accuracy"] == pytest.approx(1 / 3)
    assert found["nll"] == pytest.approx(-np.log([0.7, 0.2, 0.1, 0.5]).sum() / 3)
    assert found["nll/operation"] == pytest.approx(-np.log([0.7, 0.2, 0.5]).mean())
    assert found["nll/lead"] == pytest.approx(-np.log(0.1))
    assert found["accuracy/operation"] == pytest.approx(2 / 3) and found["accuracy/lead"] == 0
    # bins of 1/15: 0.7 (right), 0.6 (wrong), 0.5 (right) stand alone; 0.63 and 0.6 share one, both wrong
    assert found["ece/operation"] == pytest.approx((0.3 + 0.6 + 0.5) / 3)
    assert found["ece/action"] == pytest.approx((0.63 + 0.6 + 0.5) / 3)
    assert [row[0] for row in tally.reliability()["action"]] == [1, 2]


def test_the_frequencies_are_counted_and_renormalised_under_the_mask():
    data, grid = record(), SmallGrid()
    rows = np.arange(200)
    actor = agreement.frequency_actor(data, rows, grid)
    action = data.action[:200].astype(int)
    counts = 1 + np.bincount(np.minimum(action, 3), minlength=4)
    offers = action[action >= 3] - 3
    leads, prices = 1 + np.bincount(offers // 9, minlength=2), 1 + np.bincount(offers % 3, minlength=3)
    quantities = 1 + np.bincount(offers // 3 % 3, minlength=3)

    bounds = torch.tensor([[0, 1, 0, 2, 0, 2, 0, 0, 5]], dtype=torch.int32)  # end, or offer of one or two items
    chosen = torch.tensor([3 + (0 * 3 + 0) * 3 + 2])  # lead 0, one item, price 2
    with torch.no_grad():
        log_prob, _ = actor.evaluate(torch.randn(1, 5), actor.head.legal(bounds, chosen), chosen)
    p = counts[3] / (counts[1] + counts[3]) * leads[0] / leads.sum() * prices[2] / (prices[0] + prices[2])
    p *= quantities[0] / (quantities[0] + quantities[1])
    assert log_prob.exp().item() == pytest.approx(p, rel=1e-5)
    mask = torch.tensor([[False, True, False, True]])
    both = masked_log_softmax(actor.head.operation.bias[None], mask).exp()[0]
    assert both[1].item() == pytest.approx(counts[1] / (counts[1] + counts[3]), rel=1e-5)


def test_repeated_offers_are_those_of_the_same_thread_and_day_before():
    data = record()
    rows, last = agreement.repeated_offers(data, np.array([2, 0]))
    order = np.argsort(rows)
    rows, last = rows[order], last[order]
    steps = offline.steps_of(data, rows)
    for row, step, guess in zip(rows, steps, last, strict=True):
        expected = -1
        for before in range(row):
            s = int(offline.steps_of(data, np.array([before]))[0])
            same = s // 20 == step // 20 and data.day[s] == data.day[step] and data.slot[before] == data.slot[row]
            if same and data.action[before] >= 3:
                expected = data.action[before]
        assert guess == expected
    assert (last >= 0).any() and (last < 0).any()


def test_the_judged_repeats_by_hand():
    data = record(n_episodes=1, n_steps=4)
    data.first_decision, data.first_step = np.arange(5), np.array([0, 4])
    data.slot[:4], data.day[:] = 0, 0
    data.action[:4] = [4, 4, 1, 7]  # the last repeats 4: lead 0, price 1, quantity index 0 against price 1, index 1
    found = agreement.judge_repeats(data, np.array([0]), np.arange(4), SmallGrid())
    assert found["known"] == 0.75 and found["accuracy"] == 0.25 and found["accuracy/operation"] == 0.5
    assert found["accuracy/lead"] == pytest.approx(2 / 3) and found["accuracy/price"] == pytest.approx(2 / 3)
    assert found["accuracy/quantity"] == pytest.approx(1 / 3)


def test_a_policy_is_its_own_best_judge():
    actor, data = teacher(), record(n_episodes=60)
    rows = np.arange(len(data.action))
    own = agreement.judge(actor, data, rows).result()
    frequency = agreement.judge(agreement.frequency_actor(data, rows, SmallGrid()), data, rows).result()
    assert own["nll"] < frequency["nll"] - 0.3 and own["accuracy"] > frequency["accuracy"]
    assert own["ece/operation"] < 0.02 and own["ece/action"] < 0.03
    legal = actor.head.legal(torch.from_numpy(data.bounds), torch.from_numpy(data.action.astype(np.int64)))
    log_prob, _ = actor.evaluate(
        torch.from_numpy(data.observation), legal, torch.from_numpy(data.action.astype(np.int64))
    )
    assert own["nll"] == pytest.approx(-float(log_prob.mean()), rel=1e-5)
