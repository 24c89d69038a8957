"""One world: what is measured, and that measuring changes nothing."""

import math

import numpy as np
import pytest

from scml_marl_env import opponents
from scml_marl_env.tournament.competitors import Competitor, competitors
from scml_marl_env.tournament.plan import Tournament, arrange, jobs
from scml_marl_env.tournament.play import play, player_of
from scml_marl_env.tournament.prices import fractional_prices
from scml_marl_env.tournament.record import MEASURES, WorldRecord
from scml_marl_env.world.draw import economy
from scml_marl_env.world.official import Player, build_with
from scml_marl_env.world.rng import GlobalRandomness


def tournament(*names, env="std-mini", **options):
    track = "oneshot" if env.startswith("oneshot") else "std"
    return Tournament(env=env, competitors=competitors(names, track), mode="swap", worlds=1, **options)


def unwatched(played, job):
    """The world of a job after its last day, with nobody measuring."""
    config = played.config()
    made = economy(config, job.world_seed)
    paths, seats = arrange(played, config, made, job)
    players = [Player(opponents.load(path or seats[i].path)) for i, path in enumerate(paths)]
    with GlobalRandomness(job.world_seed + 1):
        world = build_with(made.params, config, players, name=f"world-{job.world_seed}")
    with GlobalRandomness(job.world_seed + 2):
        world.run()
    return world, seats


@pytest.mark.parametrize("env", ["std-mini", "oneshot-mini"])
@pytest.mark.parametrize("name", ["greedy", "prudent", "sync-random"])
def test_measures_are_those_of_the_simulator(env, name):
    played = tournament(name, env=env)
    (job,) = jobs(played)
    record = play(played, job)
    world, seats = unwatched(played, job)
    ids = [agent_id for agent_id in world.agents if agent_id in world.agent_profiles]
    scores = world.scores()
    assert [seat.index for seat in record.seats] == list(seats)
    for seat in record.seats:
        me, measures = ids[seat.index], seat.measures
        assert measures.keys() == MEASURES.keys()
        assert measures["score"] == scores[me]
        assert measures["shortfall_units"] == sum(world.stats[f"shortfall_quantity_{me}"])
        assert measures["stock_mean"] == pytest.approx(np.mean(world.stats[f"inventory_input_{me}"]))
        balance = np.array([world.initial_balances[me], *world.stats[f"balance_{me}"]])
        assert measures["capital_volatility"] == pytest.approx(np.std(np.diff(balance)) / balance[0])
        assert measures["idle_lines"] == pytest.approx(1 - np.mean(world.stats[f"productivity_{me}"]), abs=0.02)
        signed = [c for c in world.saved_contracts if me in (c["buyer_name"], c["seller_name"])]
        negotiated = [c for c in signed if not {"SELLER", "BUYER"} & {c["buyer_name"], c["seller_name"]}]
        assert measures["deals"] == len(negotiated)
        for side, mine in (("bought", "buyer_name"), ("sold", "seller_name")):
            assert measures[side] == sum(c["quantity"] for c in negotiated if c[mine] == me)
        for price, items in (("buy_price", "bought"), ("sell_price", "sold")):
            assert math.isnan(measures[price]) == (measures[items] == 0)
            assert math.isnan(measures[price]) or 0.5 < measures[price] < 2
        assert measures["windows"] > 0 and measures["decision_ms_max"] >= measures["decision_ms"] > 0


def test_the_shield_stands_before_the_agent():
    bare, safe = competitors(["greedy", "greedy+covered"], "std")
    assert not hasattr(player_of(bare).agent, "tournament_report")
    played = Tournament(env="std-mini", competitors=(safe,), mode="swap", worlds=1)
    seats = play(played, jobs(played)[0]).seats
    assert sum(count for seat in seats for name, count in seat.extra.items() if name != "shield_ok") > 0


def test_decisions_are_counted_where_they_are_made():
    by_thread, together = (
        play(played, jobs(played)[0]).seats
        for played in (tournament("tests.tournament.troublemakers:SyncByName"), tournament("sync-random"))
    )
    assert all(seat.measures["windows"] > 0 for seat in (*by_thread, *together))


def test_a_world_repeats():
    played = tournament("sync-random")
    (job,) = jobs(played)
    first, second = play(played, job), play(played, job)
    assert first.outcome() == second.outcome()


def test_records_survive_a_file():
    played = tournament("nothing")
    record = play(played, jobs(played)[0])
    assert any(math.isnan(x) for seat in record.seats for x in seat.measures.values())
    assert str(WorldRecord.from_json(record.to_json())) == str(record)


def test_agents_may_report_of_themselves():
    reports = Competitor(name="r", path="tests.tournament.troublemakers:Reports")
    played = Tournament(env="std-mini", competitors=(reports,), mode="swap", worlds=1)
    record = play(played, jobs(played)[0])
    assert [seat.extra for seat in record.seats] == [{"greed": 7.0}] * 2


def test_fractional_prices_are_accepted_only_where_asked():
    from negmas.outcomes import make_issue

    issue = make_issue((1, 10), "unit_price")
    with fractional_prices(False):
        assert not issue.is_valid(2.5)
    with fractional_prices(True):
        assert issue.is_valid(2.5) and not issue.is_valid(10.5)
    assert not issue.is_valid(2.5)


def test_accepting_fractional_prices_lets_their_agents_trade():
    fractions = Competitor(name="f", path="tests.tournament.troublemakers:Fractions")
    deals = {}
    for prices in ("refuse", "accept"):
        played = Tournament(env="std-mini", competitors=(fractions,), mode="swap", worlds=1, fractional_prices=prices)
        deals[prices] = sum(seat.measures["deals"] for seat in play(played, jobs(played)[0]).seats)
    assert deals["refuse"] < deals["accept"]


def test_who_plays_does_not_change_the_economy():
    """Agents that draw random numbers in their constructors leave the penalties of the world alone."""
    made = {}
    for name in ("greedy", "tests.tournament.troublemakers:Draws"):
        played = tournament(name)
        world, _ = unwatched(played, jobs(played)[0])
        ids = [agent_id for agent_id in world.agents if agent_id in world.agent_profiles]
        made[name] = [
            [float(x) for x in table[agent_id]]
            for table in (world.agent_shortfall_penalty, world.agent_disposal_cost, world.agent_storage_cost)
            for agent_id in ids
        ]
    first, second = made.values()
    assert first == second
