"""The audit changes nothing, counts what hand-made worlds contain, and its shortfalls are the simulator's own."""

import pytest

from scml_marl_env import opponents
from scml_marl_env.audit.play import play, replay
from scml_marl_env.audit.watch import audited
from tests.audit.scripted import (
    ROUNDS,
    Offers30,
    Refuses,
    SellsOneByOne,
    SellsTogether,
    WaitsThenRefuses,
    agents_of,
    planned,
    record_of,
    small,
    world_of,
)

BUILT_IN = [
    ("std", "greedy"), ("std", "random"), ("std", "sync-random"), ("std", "prudent"), ("oneshot", "greedy"),
    ("oneshot", "greedy-sync"), ("oneshot", "equal-dist"),
]  # fmt: skip
CHAMPIONS = [
    ("std", "penguin"), ("std", "ax"), ("std", "ultra-super"), ("std", "cautious-std"), ("oneshot", "matching-pennies"),
]  # fmt: skip


def agent_of(track, name):
    (path,) = opponents.pool(name, track, 2025)
    return opponents.load(path)


def compare(track, name):
    config = small(track, processes=3 if track == "std" else 2, days=8, rounds=20)
    agent = agent_of(track, name)
    plain, watched = world_of(config, agent), world_of(config, audited(agent))
    assert record_of(plain) == record_of(watched)
    for player in agents_of(watched):
        report = player.tournament_report()
        assert report["days"] == config.days
        assert report["short_units"] == sum(watched.stats[f"shortfall_quantity_{player.id}"])
        causes = ("negotiated", "exogenous", "money", "bankruptcy")
        assert report["short_units"] == sum(report[f"short_units_{cause}"] for cause in causes)
    return watched


@pytest.mark.parametrize(("track", "name"), BUILT_IN)
def test_a_world_is_the_same_with_and_without_the_audit(track, name):
    watched = compare(track, name)
    totals = [player.tournament_report() for player in agents_of(watched)]
    kinds = ("sell_accepts", "sell_offers", "buy_accepts", "buy_offers")
    assert sum(report[kind] for report in totals for kind in kinds) > 20
    deals = sum(report["sell_accepts"] + report["buy_accepts"] for report in totals)
    contracts = [row for row in record_of(watched)[1] if not {"SELLER", "BUYER"} & set(row[2])]
    assert deals == len(contracts)  # every deal was accepted by one of the audited


@pytest.mark.parametrize(("track", "name"), CHAMPIONS)
def test_a_world_of_champions_is_the_same_with_and_without_the_audit(track, name):
    pytest.importorskip("scml_agents")
    compare(track, name)


def first_seller(seller, partner, processes=2):
    """Report and agent of the first factory, a seller, whose two consumers are `partner`s."""
    config = small(processes=processes)
    classes = [audited(seller)] + [Refuses] + [partner] * 2 + [Refuses] * 2 * (processes - 2)
    return agents_of(world_of(config, classes))[0]


@pytest.mark.parametrize("seller", [SellsTogether, SellsOneByOne])
def test_an_offer_beyond_the_lines_is_unsafe_alone(seller):
    agent = first_seller(planned(seller, (11, 2, 0), (10, 3, 0)), Refuses)
    report = agent.tournament_report()
    assert report["sell_offers"] == 2 * ROUNDS
    assert report["feasible_u1_sell_offers"] == ROUNDS
    assert report["feasible_offers_beyond_room_later"] == ROUNDS
    assert report["feasible_u2_windows"] == ROUNDS  # an unsafe part is enough
    (first, second) = [e for e in agent.audit_examples() if e["measure"] == "u1" and e["grade"] == "feasible"]
    assert (first["day"], first["cause"], first["limit"]) == (0, "room_later", 10)
    assert first["answers"][0].items() >= {"quantity": 11, "lead": 2, "round": 0, "side": "sell"}.items()
    assert second["answers"][0]["round"] == 1


def test_offers_that_are_too_much_together_are_one_unsafe_window_of_a_sync_agent():
    report = first_seller(planned(SellsTogether, (6, 2, 0), (6, 2, 0)), Refuses).tournament_report()
    assert report["windows"] == ROUNDS + 5  # of day 0, and one of each other day that ends both
    assert report["feasible_u1_sell_offers"] == 0
    assert report["feasible_u2_windows"] == ROUNDS
    report = first_seller(planned(SellsTogether, (6, 2, 0), (4, 2, 0)), Refuses).tournament_report()
    assert report["feasible_u2_windows"] == 0


def test_answers_one_by_one_count_beside_what_is_pending():
    report = first_seller(planned(SellsOneByOne, (6, 2, 0), (6, 2, 0)), Refuses).tournament_report()
    assert report["feasible_u1_sell_offers"] == 0
    assert report["feasible_u2_windows"] == 2 * ROUNDS - 1  # only the very first offer has none beside it


@pytest.mark.parametrize(("partner", "unsafe"), [(Refuses, 0), (WaitsThenRefuses, ROUNDS)])
def test_an_offer_that_the_partner_has_answered_is_pending_no_more(partner, unsafe):
    # With three levels the first one speaks first: a partner that answers at once has refused before the next thread.
    report = first_seller(planned(SellsOneByOne, (6, 2, 0), (6, 2, 0)), partner, processes=3).tournament_report()
    assert report["sell_offers"] == 2 * ROUNDS
    assert report["feasible_u2_windows"] == unsafe


@pytest.mark.parametrize("seller", [SellsTogether, SellsOneByOne])
def test_an_acceptance_is_judged_by_what_is_on_the_table(seller):
    report = first_seller(planned(seller, "accept", (1, 2, 0)), Offers30).tournament_report()
    assert report["sell_accepts"] == 1
    assert report["feasible_u1_sell_accepts"] == 1
    assert report["feasible_accepts_beyond_room_later"] == 1
    assert report["short_units_negotiated"] == 20
    assert report["short_days_negotiated"] == 1


def test_an_offer_that_the_protocol_refuses_counts_as_an_end():
    report = first_seller(planned(SellsTogether, (11, 2, 0.5), (1, 2, 0)), Refuses).tournament_report()
    assert report["invalid_offers"] == 1
    assert report["sell_offers"] == ROUNDS
    assert report["feasible_u1_sell_offers"] == 0


def test_an_example_is_found_again_in_a_replay():
    config = small(days=4, rounds=20)
    seat = next(seat for seat in play(config, "greedy", 5) if seat.examples)
    assert replay(config, "greedy", 5, seat.index) == seat.examples


def test_a_failure_of_the_audit_is_told_in_the_report(monkeypatch):
    monkeypatch.setattr("scml_marl_env.audit.watch.count_unsafe", lambda *args: 1 / 0)
    world = world_of(small(days=3), audited(agent_of("std", "greedy")))
    monkeypatch.undo()
    assert record_of(world) == record_of(world_of(small(days=3), agent_of("std", "greedy")))
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        agents_of(world)[0].tournament_report()


def test_only_agents_can_be_audited():
    with pytest.raises(TypeError, match="Only SCML std and oneshot agent classes"):
        audited(dict)
