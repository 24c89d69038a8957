"""Each defect of PenguinAgent on a day that shows it, beside what the corrected agents do on the same day."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
from negmas.sao import ResponseType

pytest.importorskip("scml_agents")

from scml_agents.scml2024.standard.team_penguin import PenguinAgent

from scml_marl_env.audit import penguin
from scml_marl_env.audit.penguin import PenguinFixed, PenguinFixedAll, PenguinShielded, PenguinShieldedCovered
from scml_marl_env.audit.watch import audited
from tests.audit.scripted import agents_of, record_of, small, world_of

TODAY, LINES = 5, 10
BUYERS = [f"buyer{i}" for i in range(10)]


class Day:
    """Day 5 of 20 at a factory of 10 lines between suppliers and ten buyers; all that Penguin reads of it."""

    n_lines, current_step, n_steps, horizon = LINES, TODAY, 20, 10
    my_suppliers, my_consumers = ["supplier"], BUYERS
    needed_supplies = needed_sales = 0

    def __init__(self, stock=0, finished=0, sales=None):
        price = SimpleNamespace(min_value=10, max_value=12)
        self.current_input_issues = self.current_output_issues = [None, None, price]
        self.current_inventory_input, self.current_inventory_output = stock, finished
        self._sales = sales or {}

    def total_sales_at(self, step):
        return 0 if step < TODAY else self._sales.get(int(step), 0)

    def total_supplies_at(self, step):
        return LINES  # it needs to buy nothing


def penguin_on(agent, day):
    """An agent on that day, in negotiations with all its buyers."""
    made = agent()
    made._awi = day
    made._negotiators = {buyer: (SimpleNamespace(nmi=None), None) for buyer in BUYERS}
    return made


def sales_at(agent, day, lead):
    return penguin_on(agent, day).needs_at(TODAY + lead, BUYERS[0])


def accepted(agent, day, offers):
    """The buyers whose offers (items for today at the best price) the agent accepts."""
    made = penguin_on(agent, day)
    responses = made.counter_all({buyer: (q, TODAY, 12) for buyer, q in zip(BUYERS, offers, strict=False)}, {})
    return [buyer for buyer, response in responses.items() if response.response == ResponseType.ACCEPT_OFFER]


def test_a_plain_day_is_the_same_for_all():
    for agent in (PenguinAgent, PenguinFixed, PenguinFixedAll):
        assert sales_at(agent, Day(stock=2), 3) == 9  # 0.7 * 10 + 2
        assert sales_at(agent, Day(stock=9), 3) == LINES
        assert sales_at(agent, Day(stock=2, sales={8: 4}), 3) == 5


def test_finished_goods_can_be_sold():
    day = Day(finished=2)
    assert sales_at(PenguinAgent, day, 3) == 7  # (a)
    assert sales_at(PenguinFixed, day, 3) == 9


def test_stock_that_another_day_takes_is_not_sold_again():
    day = Day(stock=3, sales={6: 9, 7: 8})  # 2 and 1 items more than the 7 that it plans to make
    assert sales_at(PenguinAgent, day, 3) == 10  # (a)
    assert sales_at(PenguinFixed, day, 3) == 7
    assert sales_at(PenguinFixed, day, 1) == 0  # 7 + 3 - 1 of day 7, less the 9 of the day itself


def test_from_day_two_on_it_never_accepted_a_sale_for_today():
    day = Day()
    assert accepted(PenguinAgent, day, [3, 4]) == []  # (b)
    assert sorted(accepted(PenguinFixed, day, [3, 4])) == BUYERS[:2]
    assert accepted(PenguinFixed, Day(sales={5: 11}), [3, 4]) == []


def test_the_third_day_ahead_is_tested_itself():
    day = Day(sales={7: 11})  # two days ahead is overbooked, three days ahead is free
    assert 8 not in days_offered(PenguinAgent, day)  # (c)
    assert 8 in days_offered(PenguinFixed, day)
    assert 7 not in days_offered(PenguinFixed, day)
    assert 8 not in days_offered(PenguinFixed, Day(sales={8: 11}))


def days_offered(agent, day):
    return {offer[1] for offer in penguin_on(agent, day).future_consume_offer(BUYERS).values()}


def test_offers_that_are_all_far_too_large_are_not_all_accepted():
    day = Day(sales={5: 4})  # 3 items left to sell today, and tolerance for 1 more
    assert sorted(accepted(PenguinFixed, day, [9, 9, 8])) == BUYERS[:3]  # (d), which (b) hid
    assert accepted(PenguinFixedAll, day, [9, 9, 8]) == []
    assert accepted(PenguinAgent, day, [9, 9, 8]) == []
    for agent in (PenguinFixed, PenguinFixedAll):  # one good set is enough
        assert accepted(agent, day, [9, 4, 8]) == [BUYERS[1]]
        assert accepted(agent, day, [9, 2, 8]) == [BUYERS[1]]


@pytest.mark.parametrize("agent", [PenguinFixed, PenguinFixedAll, PenguinShielded, PenguinShieldedCovered])
def test_the_penguins_play_whole_worlds(agent):
    config = small(processes=3, days=12, rounds=20)
    world = world_of(config, audited(agent))
    assert world.n_failed_negotiations == 0
    assert sum(world.n_total_agent_exceptions.values()) == 0
    assert sum(player.tournament_report()["sell_accepts"] for player in agents_of(world)) > 0
    assert record_of(world) == record_of(world_of(config, agent))


def test_without_scml_agents_the_module_says_what_to_do():
    code = (
        "import sys; sys.modules['scml_agents'] = None\n"
        "try:\n    import scml_marl_env.audit.penguin\nexcept ModuleNotFoundError as error:\n    print(error)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "pip install --no-deps scml-agents" in told
    assert penguin.__all__
