"""FactoryView -> float32: what an agent, all agents of a factory, and a critic see. Every column named.

All numbers are ratios, mostly within [0, 1], and clipped to +-LIMIT. Prices of a thread are given as a position in
today's agenda from the factory's own point of view: 0 is its best price, 1 its worst. `side` s is 0 for buying and 1
for selling.
"""

import numpy as np

from scml_marl_env.actions import BEST_PRICE, CAN_ACCEPT, N_PRICES, QUANTITY
from scml_marl_env.kernels import kernel
from scml_marl_env.view import PRICE_DAYS, FactoryView

LIMIT = 5.0
N_BUCKETS = 4  # lead times 0, 1-2, 3-5 and 6 or more

THREAD_FEATURES = (
    # who
    "exists", "is_buy", "is_sell", "alive", "on_turn",
    # clock
    "round", "rounds_left", "last_round", "first_mover", "day", "days_left", "window",
    # the partner's offer on the table
    "has_offer", "offer_quantity", "offer_lead", "offer_position", "offer_premium", "offer_surplus", "can_accept",
    # today's agenda
    "price_low", "price_high", "n_prices",
    # what L1 allows in this thread
    "cap_at_offer", "cap_today", "cap_largest", "cap_mean",
    # own last offer in this negotiation
    "has_sent", "sent_quantity", "sent_lead", "sent_position",
    # how the partner moved between its last two offers
    "moved_position", "moved_quantity", "moved_lead", "n_received",
    # memory of the partner over the episode
    "deal_rate", "deal_quantity", "deal_premium", "breach", "cash", "deal_today", "bankrupt",
    # the factory in short
    "needed_supplies", "needed_sales", "stock", "balance", "storage_rate", "shortfall_rate", "unit_cost",
)  # fmt: skip

HISTORY_FEATURES = ("there", "by_me", "quantity", "lead", "position", "rounds_ago")

_BROADCAST_FIXED = (
    "day", "days_left", "first_level", "middle_level", "last_level", "balance", "stock", "needed_supplies",
    "needed_sales", "bought_today", "bought_cost", "sold_today", "sold_revenue", "exogenous_in", "exogenous_out",
    "exogenous_in_price", "exogenous_out_price", "signed_in_today", "signed_out_today", "alive_buy", "alive_sell",
    "offered_buy", "offered_sell", "pending_buy", "pending_sell", "storage_rate", "disposal_rate",
    "shortfall_rate", "price_in", "price_out", "unit_cost", "margin",
)  # fmt: skip
_MACRO_RESOURCES = (
    "stock", "perishable", "exogenous_in", "exogenous_out", "needed_supplies", "needed_sales", "utilisation_before",
    "shortfall_before",
)  # fmt: skip
_MACRO_FINANCE = (
    "balance", "growth", "payables", "receivables", "storage_rate", "shortfall_rate", "disposal_rate", "unit_cost",
)  # fmt: skip
_MACRO_TIME = (
    "day", "days_left", "window", "first_level", "middle_level", "last_level", "level", "n_suppliers", "n_consumers",
    "n_competitors", "n_lines", "deal_rate_buy", "deal_rate_sell", "bankrupt_partners",
)  # fmt: skip


def thread_names() -> list[str]:
    return list(THREAD_FEATURES)


def history_names(n_history: int) -> list[str]:
    """Columns of the last `n_history` offers of a thread, oldest first; missing ones are zero with `there` = 0."""
    return [f"history_{n_history - i}_{name}" for i in range(n_history) for name in HISTORY_FEATURES]


def broadcast_names(n_leads: int) -> list[str]:
    caps = [f"{side}_cap_{d}" for side in ("buy", "sell") for d in range(n_leads)]
    return [f"broadcast_{name}" for name in (*_BROADCAST_FIXED, *caps)]


def macro_names(n_leads: int) -> list[str]:
    """128 columns at a horizon of 10 days: resources 52, finance 30, market 32, time 14 (SYSTEMS.md C5)."""
    daily = [
        f"{name}_{d}"
        for d in range(n_leads)
        for name in ("virtual_stock", "signed_in", "signed_out", "free_lines", "cash", "payable")
    ]
    market = ["spot", "average", "change"] + [f"return_{i}" for i in range(PRICE_DAYS - 1)]
    market += [f"{name}_{i}" for i in range(N_BUCKETS) for name in ("premium", "pressure")]
    sided = [f"{name}_{side}" for side in ("in", "out") for name in market]
    return [f"macro_{name}" for name in (*_MACRO_RESOURCES, *_MACRO_FINANCE, *_MACRO_TIME, *daily, *sided)]


@kernel
def _clip(value: float) -> float:
    return min(max(value, -LIMIT), LIMIT)


@kernel
def _ratio(value: float, scale: float) -> float:
    return value / scale if scale > 0 else 0.0


@kernel
def put(row: np.ndarray, i: int, value: float) -> int:
    """Writes a clipped value into column `i`; returns the next column."""
    row[i] = min(max(value, -LIMIT), LIMIT)
    return i + 1


@kernel
def bucket_of(lead: int) -> int:
    if lead == 0:
        return 0
    if lead <= 2:
        return 1
    return 2 if lead <= 5 else 3


@kernel
def position(view: FactoryView, b: int, is_buy: bool, price: int) -> float:
    """0 at the factory's best price of today's agenda, 1 at its worst, 0 if there is only one."""
    side = 0 if is_buy else 1
    low, high = view.price_low[b, side], view.price_high[b, side]
    if high <= low:
        return 0.0
    return (price - low) / (high - low) if is_buy else (high - price) / (high - low)


@kernel
def needed(view: FactoryView, b: int) -> tuple[int, int]:
    """(supplies, sales) that would even out today's books, items; as `awi.needed_supplies` and `needed_sales`."""
    inputs = view.exogenous_in[b] + view.stock[b] + view.signed_in[b, 0]
    outputs = view.exogenous_out[b] + view.signed_out[b, 0]
    supplies = 0 if view.level[b] == 0 else outputs - inputs
    sales = 0 if view.level[b] == view.n_levels[b] - 1 else inputs - outputs
    return supplies, sales


@kernel
def write_thread_features(view: FactoryView, b: int, bounds: np.ndarray, out: np.ndarray) -> None:
    """Writes float32 (K, len(THREAD_FEATURES)); `bounds` int32 (K, M). Rows without a thread are zero."""
    n_leads = view.signed_in.shape[1]
    horizon = max(1, n_leads - 1)
    n_rounds, n_days = view.n_rounds[b], view.n_days[b]
    top, lines = view.max_quantity[b], view.n_lines[b]
    supplies, sales = needed(view, b)
    for k in range(out.shape[0]):
        row = out[k]
        row[:] = 0.0
        if not view.exists[b, k]:
            continue
        is_buy = view.is_buy[b, k]
        side = 0 if is_buy else 1
        spot = view.trading_price[b, side]
        i = 0
        i = put(row, i, 1.0)
        i = put(row, i, 1.0 if is_buy else 0.0)
        i = put(row, i, 0.0 if is_buy else 1.0)
        i = put(row, i, 1.0 if view.alive[b, k] else 0.0)
        i = put(row, i, 1.0 if view.on_turn[b, k] else 0.0)
        i = put(row, i, _ratio(view.round[b, k], n_rounds))
        i = put(row, i, _ratio(n_rounds - 1 - view.round[b, k], n_rounds))
        i = put(row, i, 1.0 if view.round[b, k] == n_rounds - 1 else 0.0)
        i = put(row, i, 1.0 * view.first_mover[b])
        i = put(row, i, _ratio(view.day[b], n_days))
        i = put(row, i, _ratio(n_days - view.day[b], n_days))
        i = put(row, i, view.last_lead[b] / horizon)
        if view.has_offer[b, k]:
            price, lead = view.offer_price[b, k], view.offer_lead[b, k]
            row[i] = 1.0
            row[i + 1] = _ratio(view.offer_quantity[b, k], top)
            row[i + 2] = lead / horizon
            row[i + 3] = _clip(position(view, b, is_buy, price))
            row[i + 4] = _clip(_ratio(price, spot) - 1.0)
            gain = view.trading_price[b, 1] - view.unit_cost[b] - price
            if not is_buy:
                gain = price - view.unit_cost[b] - view.trading_price[b, 0]
            row[i + 5] = _clip(_ratio(gain, view.trading_price[b, 1]))
            row[i + 6] = 1.0 * bounds[k, CAN_ACCEPT]
            if 0 <= lead < n_leads:
                row[i + 10] = _ratio(min(bounds[k, QUANTITY + lead], top), top)
        i += 7
        row[i] = _clip(_ratio(view.price_low[b, side], spot))
        row[i + 1] = _clip(_ratio(view.price_high[b, side], spot))
        row[i + 2] = _clip((view.price_high[b, side] - view.price_low[b, side] + 1) / 20.0)
        i += 4  # cap_at_offer is written with the offer
        largest, total = 0, 0
        for d in range(n_leads):
            cap = min(bounds[k, QUANTITY + d], top)
            largest = max(largest, cap)
            total += cap
        i = put(row, i, _ratio(min(bounds[k, QUANTITY], top), top))
        i = put(row, i, _ratio(largest, top))
        i = put(row, i, _ratio(total, top * n_leads))
        if view.sent[b, k]:
            row[i] = 1.0
            row[i + 1] = _ratio(view.sent_quantity[b, k], top)
            row[i + 2] = view.sent_lead[b, k] / horizon
            row[i + 3] = _clip(position(view, b, is_buy, view.sent_price[b, k]))
        i += 4
        if view.has_offer[b, k] and view.n_received[b, k] >= 2:
            row[i] = _clip(
                position(view, b, is_buy, view.offer_price[b, k]) - position(view, b, is_buy, view.before_price[b, k])
            )
            row[i + 1] = _ratio(view.offer_quantity[b, k] - view.before_quantity[b, k], top)
            row[i + 2] = (view.offer_lead[b, k] - view.before_lead[b, k]) / horizon
        row[i + 3] = _ratio(view.n_received[b, k], n_rounds)
        i += 4
        deals = view.n_deals[b, k]
        i = put(row, i, (deals + 1.0) / (view.n_negotiations[b, k] + 2.0))
        i = put(row, i, _ratio(_ratio(view.deal_quantity[b, k], deals), top))
        i = put(row, i, _clip(view.deal_price_ratio[b, k] / deals - 1.0) if deals > 0 else 0.0)
        i = put(row, i, view.partner_breach[b, k])
        i = put(row, i, view.partner_cash[b, k])
        i = put(row, i, 1.0 if view.deal_today[b, k] else 0.0)
        i = put(row, i, 1.0 if view.partner_bankrupt[b, k] else 0.0)
        row[i] = _clip(_ratio(supplies, lines))
        row[i + 1] = _clip(_ratio(sales, lines))
        row[i + 2] = _clip(_ratio(view.stock[b], lines))
        row[i + 3] = _clip(_ratio(view.balance[b], view.initial_balance[b]))
        row[i + 4] = _clip(view.storage_rate[b])
        row[i + 5] = _clip(view.shortfall_rate[b])
        row[i + 6] = _clip(_ratio(view.unit_cost[b], view.trading_price[b, 1]))


@kernel
def write_history_features(view: FactoryView, b: int, out: np.ndarray) -> None:
    """Writes float32 (K, N * len(HISTORY_FEATURES)): the last N offers of each thread, oldest first."""
    n_history = view.history.shape[2]
    horizon = max(1, view.signed_in.shape[1] - 1)
    for k in range(out.shape[0]):
        out[k, :] = 0.0
        for h in range(n_history - view.n_history[b, k], n_history):
            i = h * 6
            entry = view.history[b, k, h]
            out[k, i] = 1.0
            out[k, i + 1] = entry[0]
            out[k, i + 2] = _ratio(entry[2], view.max_quantity[b])
            out[k, i + 3] = entry[1] / horizon
            out[k, i + 4] = _clip(position(view, b, view.is_buy[b, k], entry[3]))
            out[k, i + 5] = _ratio(view.round[b, k] - entry[4], view.n_rounds[b])


@kernel
def write_broadcast(view: FactoryView, b: int, bounds: np.ndarray, out: np.ndarray) -> None:
    """Writes float32 (len(broadcast_names(L)),), the same for all threads of the factory."""
    n_leads = view.signed_in.shape[1]
    n_slots = view.exists.shape[1]
    lines, start = view.n_lines[b], view.initial_balance[b]
    supplies, sales = needed(view, b)
    alive = np.zeros(2)
    offered = np.zeros(2)
    pending = np.zeros(2)
    first = np.full(2, -1)  # a live thread of each side: all threads of a side share their room
    for k in range(n_slots):
        side = 0 if view.is_buy[b, k] else 1
        if view.alive[b, k]:
            alive[side] += 1
            if bounds[k, N_PRICES] > 0 and bounds[k, BEST_PRICE] > 0:
                first[side] = k
        if view.has_offer[b, k]:
            offered[side] += view.offer_quantity[b, k]
        if view.pending[b, k]:
            pending[side] += view.sent_quantity[b, k]
    price_in, price_out = view.trading_price[b, 0], view.trading_price[b, 1]
    i = 0
    i = put(out, i, _ratio(view.day[b], view.n_days[b]))
    i = put(out, i, _ratio(view.n_days[b] - view.day[b], view.n_days[b]))
    i = put(out, i, 1.0 if view.level[b] == 0 else 0.0)
    i = put(out, i, 1.0 if 0 < view.level[b] < view.n_levels[b] - 1 else 0.0)
    i = put(out, i, 1.0 if view.level[b] == view.n_levels[b] - 1 else 0.0)
    i = put(out, i, _ratio(view.balance[b], start))
    i = put(out, i, _ratio(view.stock[b], lines))
    i = put(out, i, _ratio(supplies, lines))
    i = put(out, i, _ratio(sales, lines))
    i = put(out, i, _ratio(view.bought_today[b], lines))
    i = put(out, i, _ratio(view.bought_cost[b], start))
    i = put(out, i, _ratio(view.sold_today[b], lines))
    i = put(out, i, _ratio(view.sold_revenue[b], start))
    i = put(out, i, _ratio(view.exogenous_in[b], lines))
    i = put(out, i, _ratio(view.exogenous_out[b], lines))
    i = put(out, i, _ratio(_ratio(view.exogenous_in_cost[b], view.exogenous_in[b]), price_in))
    i = put(out, i, _ratio(_ratio(view.exogenous_out_revenue[b], view.exogenous_out[b]), price_out))
    i = put(out, i, _ratio(view.signed_in[b, 0], lines))
    i = put(out, i, _ratio(view.signed_out[b, 0], lines))
    i = put(out, i, alive[0] / n_slots)
    i = put(out, i, alive[1] / n_slots)
    i = put(out, i, _ratio(offered[0], lines))
    i = put(out, i, _ratio(offered[1], lines))
    i = put(out, i, _ratio(pending[0], lines))
    i = put(out, i, _ratio(pending[1], lines))
    i = put(out, i, view.storage_rate[b])
    i = put(out, i, view.disposal_rate[b])
    i = put(out, i, view.shortfall_rate[b])
    i = put(out, i, _ratio(price_in, view.catalog_price[b, 0]))
    i = put(out, i, _ratio(price_out, view.catalog_price[b, 1]))
    i = put(out, i, _ratio(view.unit_cost[b], price_out))
    i = put(out, i, _ratio(price_out - price_in - view.unit_cost[b], price_out))
    for side in range(2):
        for d in range(n_leads):
            k = first[side]
            i = put(
                out,
                i,
                0.0 if k < 0 else _ratio(min(bounds[k, QUANTITY + d], view.max_quantity[b]), view.max_quantity[b]),
            )


@kernel
def write_macro(view: FactoryView, b: int, out: np.ndarray) -> None:
    """Writes float32 (len(macro_names(L)),), the factory's situation as a daily planner sees it (SYSTEMS.md C5)."""
    n_leads = view.signed_in.shape[1]
    horizon = max(1, n_leads - 1)
    n_slots = view.exists.shape[1]
    lines, start, balance = view.n_lines[b], view.initial_balance[b], view.balance[b]
    supplies, sales = needed(view, b)
    payables, receivables = 1.0 * view.exogenous_in_cost[b], 1.0 * view.exogenous_out_revenue[b]
    for d in range(n_leads):
        payables += view.signed_cost[b, d]
        receivables += view.signed_revenue[b, d]
    deals = np.zeros(2)
    negotiations = np.zeros(2)
    pressure = np.zeros((2, N_BUCKETS))
    n_bankrupt, n_partners = 0.0, 0.0
    for k in range(n_slots):
        if not view.exists[b, k]:
            continue
        side = 0 if view.is_buy[b, k] else 1
        deals[side] += view.n_deals[b, k]
        negotiations[side] += view.n_negotiations[b, k]
        n_partners += 1.0
        n_bankrupt += 1.0 if view.partner_bankrupt[b, k] else 0.0
        if view.has_offer[b, k]:
            pressure[side, bucket_of(view.offer_lead[b, k])] += view.offer_quantity[b, k]
    level, n_levels = view.level[b], view.n_levels[b]
    i = 0
    i = put(out, i, _ratio(view.stock[b], lines))
    i = put(out, i, 1.0 * view.perishable[b])
    i = put(out, i, _ratio(view.exogenous_in[b], lines))
    i = put(out, i, _ratio(view.exogenous_out[b], lines))
    i = put(out, i, _ratio(supplies, lines))
    i = put(out, i, _ratio(sales, lines))
    i = put(out, i, _ratio(view.produced_before[b], lines))
    i = put(out, i, _ratio(view.shortfall_before[b], lines))
    i = put(out, i, _ratio(balance, start))
    i = put(out, i, np.log(max(_ratio(balance, start), 0.01)))
    i = put(out, i, _ratio(payables, max(balance, 1.0)))
    i = put(out, i, _ratio(receivables, max(balance, 1.0)))
    i = put(out, i, view.storage_rate[b])
    i = put(out, i, view.shortfall_rate[b])
    i = put(out, i, view.disposal_rate[b])
    i = put(out, i, _ratio(view.unit_cost[b], view.trading_price[b, 1]))
    i = put(out, i, _ratio(view.day[b], view.n_days[b]))
    i = put(out, i, _ratio(view.n_days[b] - view.day[b], view.n_days[b]))
    i = put(out, i, view.last_lead[b] / horizon)
    i = put(out, i, 1.0 if level == 0 else 0.0)
    i = put(out, i, 1.0 if 0 < level < n_levels - 1 else 0.0)
    i = put(out, i, 1.0 if level == n_levels - 1 else 0.0)
    i = put(out, i, _ratio(level, n_levels - 1))
    i = put(out, i, view.n_suppliers[b] / n_slots)
    i = put(out, i, view.n_consumers[b] / n_slots)
    i = put(out, i, view.n_competitors[b] / 5.0)
    i = put(out, i, lines / 10.0)
    i = put(out, i, (deals[0] + 1.0) / (negotiations[0] + 2.0))
    i = put(out, i, (deals[1] + 1.0) / (negotiations[1] + 2.0))
    i = put(out, i, _ratio(n_bankrupt, n_partners))
    virtual = 1.0 * (view.stock[b] + view.exogenous_in[b] - view.exogenous_out[b])
    cash = balance - view.exogenous_in_cost[b] + view.exogenous_out_revenue[b]
    for d in range(n_leads):
        virtual += view.signed_in[b, d] - view.signed_out[b, d]
        cash += view.signed_revenue[b, d] - view.signed_cost[b, d]
        i = put(out, i, _ratio(virtual, lines))
        i = put(out, i, _ratio(view.signed_in[b, d], lines))
        i = put(out, i, _ratio(view.signed_out[b, d], lines))
        i = put(out, i, _ratio(lines - view.signed_out[b, d], lines))
        i = put(out, i, _ratio(cash, start))
        i = put(out, i, _ratio(view.signed_cost[b, d], max(balance, 1.0)))
    for side in range(2):
        spot = view.trading_price[b, side]
        prices = view.price_history[b, side]
        i = put(out, i, _ratio(spot, view.catalog_price[b, side]))
        i = put(out, i, _ratio(view.price_average[b, side], spot))
        i = put(out, i, _ratio(spot - prices[PRICE_DAYS - 2], view.catalog_price[b, side]))
        for j in range(PRICE_DAYS - 1):
            i = put(out, i, _ratio(prices[j + 1], prices[j]) - 1.0)
        items = np.zeros(N_BUCKETS)
        money = np.zeros(N_BUCKETS)
        for d in range(n_leads):
            bucket = bucket_of(d)
            items[bucket] += view.signed_in[b, d] if side == 0 else view.signed_out[b, d]
            money[bucket] += view.signed_cost[b, d] if side == 0 else view.signed_revenue[b, d]
        for bucket in range(N_BUCKETS):
            i = put(out, i, _clip(_ratio(money[bucket], items[bucket] * spot) - 1.0) if items[bucket] > 0 else 0.0)
            i = put(out, i, _ratio(pressure[side, bucket], lines))
