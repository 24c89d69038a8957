"""FactoryView from SCML's own agent-world interface: what the tournament tells an agent, and nothing else."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from scml_marl_env.view import PRICE_AVERAGE_WEIGHT, FactoryView
from scml_marl_env.world.rules import pay_inputs

# order of the issues in an SCML offer
_QUANTITY, _TIME, _PRICE = 0, 1, 2
_BUY, _SELL = 0, 1


class Deal(NamedTuple):
    """A signed contract of the factory: `slot` of the partner, delivery `day`, items, dollars per item."""

    slot: int
    day: int
    quantity: int
    price: int


def partners_of(awi: Any) -> tuple[list[str], list[str]]:
    """Suppliers and consumers of a factory, without the system, which is no partner of a thread."""
    return (
        [] if awi.is_first_level else list(awi.my_suppliers),
        [] if awi.is_last_level else list(awi.my_consumers),
    )


def partner_count(awi: Any) -> int:
    """Threads that the factory can have."""
    return sum(map(len, partners_of(awi)))


def is_conserving(awi: Any) -> bool:
    """Does production consume stock in the agent's world? Official worlds do not say so, and it does not."""
    return bool(getattr(awi._world, "conserving", False))


class AwiView:
    """Keeps one row of a `FactoryView` up to date from the AWI and the callbacks of one agent.

    Call `start_day` in `before_step`, `see` and `sent` around every window, `close_thread` when a negotiation ends.
    """

    def __init__(self, awi: Any, view: FactoryView, row: int, conserving: bool = False) -> None:
        self.awi = awi
        self.view = view
        self.row = row
        suppliers, consumers = partners_of(awi)
        self.partners: list[str] = suppliers + consumers
        self.slot = {partner: k for k, partner in enumerate(self.partners)}
        self._is_buy = np.zeros(len(self.partners), bool)
        self._is_buy[: len(suppliers)] = True
        n_slots = view.exists.shape[1]
        if len(self.partners) > n_slots:
            raise ValueError(f"The factory has {len(self.partners)} partners, but its view only {n_slots} slots.")
        self._leads = view.signed_in.shape[1]
        # by delivery day: items and dollars bought (0) and sold (1), and the purchases in order of signing
        self._due = np.zeros((2, awi.n_steps + self._leads, 2), np.int64)
        self._deals: list[Deal] = []
        self._void = np.zeros(
            awi.n_steps + self._leads, np.int64
        )  # by delivery day: purchases that a bankruptcy voided
        self._first_cash: dict[str, float] = {}
        self._clear()
        self._write_fixed(len(suppliers), len(consumers), conserving)

    def start_day(self) -> None:
        """Writes what is fixed for the day, after the day's negotiations have been created."""
        awi, view, b = self.awi, self.view, self.row
        if awi.current_step > 0:
            self._write_yesterday()
        self._deals = [deal for deal in self._deals if deal.day >= awi.current_step]
        view.day[b] = awi.current_step
        view.last_lead[b] = min(self._leads - 1, awi.n_steps - 1 - awi.current_step)
        view.balance[b] = awi.current_balance
        view.stock[b] = awi.current_inventory_input
        view.exogenous_in[b] = awi.current_exogenous_input_quantity
        view.exogenous_in_cost[b] = awi.current_exogenous_input_price
        view.exogenous_out[b] = awi.current_exogenous_output_quantity
        view.exogenous_out_revenue[b] = awi.current_exogenous_output_price
        view.storage_rate[b] = awi.current_storage_cost
        view.disposal_rate[b] = awi.current_disposal_cost
        view.shortfall_rate[b] = awi.current_shortfall_penalty
        prices = awi.trading_prices[awi.my_input_product : awi.my_output_product + 1]
        self._write_prices(prices)
        for side, issues in ((_BUY, awi.current_input_issues), (_SELL, awi.current_output_issues)):
            view.price_low[b, side] = issues[_PRICE].min_value
            view.price_high[b, side] = issues[_PRICE].max_value
        self._write_partners()
        self._write_threads()
        for name in ("bought_today", "bought_cost", "sold_today", "sold_revenue"):
            getattr(view, name)[b] = 0
        self._write_commitments()

    def see(self, offers: Mapping[str, Any], states: Mapping[str, Any] | None, asked: Iterable[str]) -> None:
        """Writes a window: partners `asked` wait for an answer, with their `offers` (quantity, day, price)."""
        view, b = self.view, self.row
        view.on_turn[b] = False
        view.has_offer[b] = False
        view.pending[b] = view.alive[b] & view.sent[b]
        for partner in asked:
            k = self.slot[partner]
            view.on_turn[b, k] = True
            view.pending[b, k] = False
            view.round[b, k] = 0 if states is None else states[partner].step
            offer = offers.get(partner)
            if offer is None:
                continue
            view.has_offer[b, k] = True
            for before, now in (
                (view.before_quantity, view.offer_quantity),
                (view.before_lead, view.offer_lead),
                (view.before_price, view.offer_price),
            ):
                before[b, k] = now[b, k]
            view.offer_quantity[b, k] = offer[_QUANTITY]
            view.offer_lead[b, k] = offer[_TIME] - view.day[b]
            view.offer_price[b, k] = offer[_PRICE]
            view.n_received[b, k] += 1
            self._remember(k, False, offer)

    def sent(self, slot: int, offer: tuple[int, int, int]) -> None:
        """Notes an offer (quantity, day, price) that the factory now makes in a thread."""
        view, b = self.view, self.row
        view.sent[b, slot] = True
        view.sent_quantity[b, slot] = offer[_QUANTITY]
        view.sent_lead[b, slot] = offer[_TIME] - view.day[b]
        view.sent_price[b, slot] = offer[_PRICE]
        self._remember(slot, True, offer)

    def close_thread(self, partner: str, agreement: Mapping[str, int] | None) -> None:
        """Notes that today's negotiation with `partner` has ended, with an agreement or None."""
        view, b, k = self.view, self.row, self.slot[partner]
        for flags in (view.alive, view.on_turn, view.has_offer, view.pending):
            flags[b, k] = False
        view.n_negotiations[b, k] += 1
        if agreement is None:
            return
        deal = Deal(k, int(agreement["time"]), int(agreement["quantity"]), int(agreement["unit_price"]))
        side = _BUY if view.is_buy[b, k] else _SELL
        self._deals.append(deal)
        self._due[side, deal.day] += deal.quantity, deal.quantity * deal.price
        view.n_deals[b, k] += 1
        view.deal_today[b, k] = True
        view.deal_quantity[b, k] += deal.quantity
        view.deal_price_ratio[b, k] += deal.price / view.trading_price[b, side]
        items, money = ((view.bought_today, view.bought_cost), (view.sold_today, view.sold_revenue))[side]
        items[b] += deal.quantity
        money[b] += deal.quantity * deal.price
        self._write_commitments()

    def void_until(self, day: int) -> int:
        """Items of purchases due until `day` that have become void with their supplier."""
        return int(self._void[: day + 1].sum())

    def _clear(self) -> None:
        for array in self.view:
            array[self.row] = 0

    def _write_fixed(self, n_suppliers: int, n_consumers: int, conserving: bool) -> None:
        awi, view, b = self.awi, self.view, self.row
        view.n_days[b] = awi.n_steps
        view.level[b] = awi.level
        view.n_levels[b] = awi.n_processes
        view.n_lines[b] = awi.n_lines
        view.unit_cost[b] = awi.profile.cost
        view.n_suppliers[b] = n_suppliers
        view.n_consumers[b] = n_consumers
        view.n_competitors[b] = awi.n_competitors
        view.conserving[b] = conserving
        view.perishable[b] = awi.is_perishable
        view.max_quantity[b] = awi.current_input_issues[_QUANTITY].max_value
        view.first_mover[b] = (awi.n_processes - 1 - awi.level) % 2 == 0  # SEMANTICS.md c.1
        view.initial_balance[b] = awi.current_balance
        view.catalog_price[b] = awi.catalog_prices[awi.my_input_product : awi.my_output_product + 1]
        n = len(self.partners)
        view.exists[b, :n] = True
        view.is_buy[b, :n] = self._is_buy
        view.partner_cash[b, :n] = 1.0

    def _write_yesterday(self) -> None:
        """What yesterday made of yesterday's books, which the view still shows."""
        view, b = self.view, self.row
        pool = int(view.stock[b] + view.exogenous_in[b])
        items, usable, _, _ = pay_inputs(
            view.lot_quantity[b], view.lot_price[b], view.n_lots[b], pool, view.exogenous_in_cost[b], view.balance[b],
            view.unit_cost[b],
        )  # fmt: skip
        sold = int(view.signed_out[b, 0] + view.exogenous_out[b])
        view.produced_before[b] = min(items, view.n_lines[b], usable, sold)
        view.shortfall_before[b] = sold - view.produced_before[b]

    def _write_prices(self, prices: np.ndarray) -> None:
        view, b = self.view, self.row
        view.trading_price[b] = prices
        if self.awi.current_step == 0:
            view.price_history[b] = prices[:, None]
            view.price_average[b] = prices
            return
        view.price_history[b, :, :-1] = view.price_history[b, :, 1:]
        view.price_history[b, :, -1] = prices
        view.price_average[b] += PRICE_AVERAGE_WEIGHT * (prices - view.price_average[b])

    def _write_partners(self) -> None:
        awi, view, b = self.awi, self.view, self.row
        bankrupt = [awi.is_bankrupt(partner) for partner in self.partners]
        if bankrupt != view.partner_bankrupt[b, : len(bankrupt)].tolist():
            view.partner_bankrupt[b, : len(bankrupt)] = bankrupt
            self._void_contracts(awi.current_step)
        for k, partner in enumerate(self.partners):
            reports = awi.reports_of_agent(partner)
            if not reports:
                continue
            report = reports[max(reports)]
            first = self._first_cash.setdefault(partner, report.cash)
            view.partner_breach[b, k] = report.breach_level
            view.partner_cash[b, k] = report.cash / first if first > 0 else 1.0

    def _void_contracts(self, today: int) -> None:
        """Contracts that a bankruptcy has voided leave the books; those of past days were executed."""
        bankrupt = self.view.partner_bankrupt[self.row]
        for deal in self._deals:
            if bankrupt[deal.slot] and deal.day >= today:
                side = _BUY if self._is_buy[deal.slot] else _SELL
                self._due[side, deal.day] -= deal.quantity, deal.quantity * deal.price
                self._void[deal.day] += deal.quantity if side == _BUY else 0
        self._deals = [deal for deal in self._deals if not (bankrupt[deal.slot] and deal.day >= today)]

    def _write_threads(self) -> None:
        view, b = self.view, self.row
        details = self.awi.current_negotiation_details
        running = details["buy"].keys() | details["sell"].keys()
        view.alive[b] = False
        for partner in running:
            if partner in self.slot:
                view.alive[b, self.slot[partner]] = True
        if running:
            info = next(iter((details["buy"] | details["sell"]).values()))
            view.n_rounds[b] = info.nmi.n_steps
        for array in (
            view.on_turn, view.round, view.has_offer, view.offer_quantity, view.offer_lead, view.offer_price,
            view.pending, view.sent, view.sent_quantity, view.sent_lead, view.sent_price, view.before_quantity,
            view.before_lead, view.before_price, view.n_received, view.history, view.n_history, view.deal_today,
        ):  # fmt: skip
            array[b] = 0

    def _write_commitments(self) -> None:
        view, b, today = self.view, self.row, int(self.view.day[self.row])
        window = self._due[:, today : today + self._leads]
        view.signed_in[b], view.signed_cost[b] = window[_BUY].T
        view.signed_out[b], view.signed_revenue[b] = window[_SELL].T
        lots = [deal for deal in self._deals if deal.day == today and self._is_buy[deal.slot]]
        view.n_lots[b] = len(lots)
        for i, deal in enumerate(lots):
            view.lot_quantity[b, i] = deal.quantity
            view.lot_price[b, i] = deal.price

    def _remember(self, slot: int, by_me: bool, offer: Any) -> None:
        history = self.view.history[self.row, slot]
        if not len(history):
            return
        lead, place = offer[_TIME] - self.view.day[self.row], self.view.n_history[self.row, slot] % len(history)
        history[place] = by_me, lead, offer[_QUANTITY], offer[_PRICE], self.view.round[self.row, slot]
        self.view.n_history[self.row, slot] += 1
