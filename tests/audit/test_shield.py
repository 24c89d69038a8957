"""Behind the shield no agent is unsafe, by an audit that keeps its own books; what is safe passes as it was."""

from collections import Counter

import pytest

from scml_marl_env import opponents
from scml_marl_env.audit.shield import shielded
from scml_marl_env.audit.watch import audited
from scml_marl_env.tournament.prices import fractional_prices
from tests.audit.scripted import (
    ROUNDS,
    LeavesOut,
    Offers30,
    Refuses,
    SellsOneByOne,
    SellsTogether,
    agents_of,
    planned,
    record_of,
    small,
    world_of,
)

GREEDY, RANDOM, SYNC = "greedy", "random", "sync-random"
CASES = [
    (track, inventory, name, strength)
    for track, inventory, names in (
        ("std", "simulator", (GREEDY, RANDOM, SYNC)),
        ("std", "conserving", (GREEDY, RANDOM)),
        ("oneshot", "simulator", (GREEDY, RANDOM, "equal-dist")),
    )
    for name in names
    for strength in ("feasible", "covered")
]
CHAMPIONS = ("penguin", "as0", "ax", "ultra-super", "heystd")
ACTIONS = ("sell_accepts", "sell_offers", "buy_accepts", "buy_offers")


def agent_of(name, track="std"):
    (path,) = opponents.pool(name, track, 2025)
    return opponents.load(path)


def reports(config, agent, strength, seed=3):
    """Summed reports of a world in which every factory is the shielded agent."""
    total = Counter()
    for player in agents_of(world_of(config, audited(shielded(agent, strength)), seed)):
        total.update(player.tournament_report())
    return total


def check(total, strength):
    """The promises of a grade (SAFETY.md, section 2), and that something was there to be kept safe."""
    assert [name for name in total if name.startswith(f"{strength}_") and total[name]] == []
    if strength == "covered":
        assert [name for name in total if name.startswith("feasible_u1") and total[name]] == []
        assert total["short_units_negotiated"] == 0
    assert sum(total[name] for name in ACTIONS) > 40


def options(track, inventory, days, rounds=20):
    processes = 3 if track == "std" else 2
    return small(track, processes=processes, inventory=inventory, days=days, rounds=rounds)


@pytest.mark.parametrize(("track", "inventory", "name", "strength"), CASES)
def test_the_audit_finds_nothing_unsafe_behind_the_shield(track, inventory, name, strength):
    total = reports(options(track, inventory, 6), agent_of(name, track), strength)
    check(total, strength)
    assert sum(total[f"shield_{reason}"] for reason in ("illegal", "shrunk", "moved", "countered", "ended")) > 0


@pytest.mark.parametrize("strength", ["feasible", "covered"])
@pytest.mark.parametrize("name", CHAMPIONS)
def test_champions_are_safe_behind_the_shield(name, strength):
    pytest.importorskip("scml_agents")
    check(reports(options("std", "simulator", 12), agent_of(name), strength), strength)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("strength", ["feasible", "covered"])
@pytest.mark.parametrize(
    ("track", "inventory"), [("std", "simulator"), ("std", "conserving"), ("oneshot", "simulator")]
)
def test_a_hundred_thousand_actions_behind_the_shield(track, inventory, strength):
    names = [GREEDY, RANDOM, SYNC, *(["equal-dist"] if track == "oneshot" else [])]
    total, seed = Counter(), 0
    while sum(total[name] for name in ACTIONS) < 100_000:
        name = names[seed % len(names)]
        config = small(
            track, processes=2 + seed % 3 if track == "std" else 2, inventory=inventory, days=25, rounds=20,
            factories_per_level=(3, 4),
        )  # fmt: skip
        total.update(reports(config, agent_of(name, track), strength, seed))
        seed += 1
    print(track, inventory, strength, seed, "worlds", {name: n for name, n in total.items() if n})
    check(total, strength)
    assert total["days"] > 500


@pytest.mark.parametrize("strength", ["feasible", "covered"])
def test_a_safe_agent_plays_the_same_behind_the_shield(strength):
    config, prudent = options("std", "simulator", 8), agent_of("prudent")
    assert record_of(world_of(config, shielded(prudent, strength))) == record_of(world_of(config, prudent))


def heard_by_consumers(seller, partner, strength="feasible"):
    """What the two consumers of a shielded seller are offered by it on day 0, each as (items, lead, price)."""
    config = small()
    world = world_of(config, [shielded(seller, strength), _Ends, partner, partner])
    first, second = agents_of(world)[2:]
    return first.heard, second.heard, world


class _Ends(SellsTogether):
    """Ends every negotiation."""


@pytest.mark.parametrize("seller", [SellsTogether, SellsOneByOne])
def test_an_offer_is_cut_to_the_room_of_its_day(seller):
    first, second, _ = heard_by_consumers(planned(seller, (11, 2, 0), (10, 3, 1)), Refuses)
    assert [offer[:2] for offer in first] == [(10, 2)] * (ROUNDS - 1)  # the last word of a responder is never heard
    assert [offer[:2] for offer in second] == [(10, 3)] * (ROUNDS - 1)
    assert first[0][2] == second[0][2] + 1  # prices stay


@pytest.mark.parametrize("seller", [SellsTogether, SellsOneByOne])
def test_offers_are_cut_so_that_all_may_be_accepted(seller):
    first, second, _ = heard_by_consumers(planned(seller, (6, 2, 0), (6, 2, 0)), Refuses)
    assert [offer[:2] for offer in first] == [(6, 2)] * (ROUNDS - 1)
    assert [offer[:2] for offer in second] == [(4, 2)] * (ROUNDS - 1)


@pytest.mark.parametrize("seller", [SellsTogether, SellsOneByOne])
def test_an_unsafe_acceptance_becomes_a_counter_offer_at_its_day_and_price(seller):
    first, _, world = heard_by_consumers(planned(seller, "accept"), Offers30)
    assert [offer[:2] for offer in first] == [(10, 2)] * (ROUNDS - 1)
    assert len(record_of(world)[1]) == len([row for row in record_of(world)[1] if {"SELLER", "BUYER"} & set(row[2])])


def test_nothing_is_sold_that_only_a_supplier_without_an_offer_could_bring():
    classes = [Refuses] * 8  # of four levels the second and the last speak first
    classes[2] = audited(shielded(LeavesOut, "feasible"))
    agent = agents_of(world_of(small(processes=4), classes))[2]
    report = agent.tournament_report()
    assert report["feasible_u2_windows"] == report["leaves_short"] == 0
    assert report["windows"] > 0
    assert report["shield_illegal"] > 0


def test_a_fractional_price_is_left_to_the_protocol_unless_the_answer_changes():
    seller = planned(SellsTogether, (10, 2, 0.5), (11, 3, 0.5))
    first, second, _ = heard_by_consumers(seller, Refuses)
    assert first == second == []  # negmas refuses it: the negotiation is over
    with fractional_prices(True):
        first, second, _ = heard_by_consumers(seller, Refuses)
    assert [offer[:2] for offer in first] == [(10, 2)] * (ROUNDS - 1)
    assert [offer[:2] for offer in second] == [(10, 3)] * (ROUNDS - 1)
    assert first[0][2] == second[0][2]  # as the protocol cuts it, and as the shield does


def test_the_report_adds_to_that_of_the_agent():
    class Reports(Refuses):
        def tournament_report(self):
            return {"own": 7.0}

    report = agents_of(world_of(small(days=3), audited(shielded(Reports, "covered"))))[0].tournament_report()
    assert report["own"] == 7
    assert {"shield_ok", "covered_u1_sell_offers"} <= report.keys()


def test_a_shield_has_two_strengths():
    with pytest.raises(ValueError, match="feasible or covered, got 'off'"):
        shielded(Refuses, "off")
