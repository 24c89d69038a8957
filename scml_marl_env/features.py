"""FactoryView -> float32: what an agent, all agents of a factory, and a critic see. Every column named.

All numbers are ratios, mostly within [0, 1], and clipped to +-LIMIT. Prices of a thread are given as a position in
today's agenda from the factory's own point of view: 0 is its best price, 1 its worst. `side` s is 0 for buying and 1
for selling.
"""

from typing import NamedTuple

import numpy as np

from scml_marl_env import view as at
from scml_marl_env.actions import CAN_ACCEPT, CAN_END, QUANTITY
from scml_marl_env.kernels import inlined, lean
from scml_marl_env.view import PRICE_DAYS, FactoryView

LIMIT = 5.0
BUCKETS = ((0, 0), (1, 2), (3, 5), (6, 1 << 30))
"""First and last lead time of the buckets of the market features."""

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
    market += [f"{name}_{i}" for i in range(len(BUCKETS)) for name in ("premium", "pressure")]
    sided = [f"{name}_{side}" for side in ("in", "out") for name in market]
    return [f"macro_{name}" for name in (*_MACRO_RESOURCES, *_MACRO_FINANCE, *_MACRO_TIME, *daily, *sided)]


class Scale(NamedTuple):
    """What the offers of a side are measured by. Factors of 0 where there is nothing to measure by."""

    best: int  # dollars, the factory's best price of today's agenda
    sign: int  # 1 for buying, -1 for selling
    per_span: float  # 1 / (worst price - best price)
    per_spot: float  # 1 / trading price
    per_item: float  # 1 / largest quantity
    per_day: float  # 1 / horizon
    per_round: float  # 1 / rounds of a negotiation


@inlined
def _ratio(value: float, scale: float) -> float:
    return value / scale if scale > 0 else 0.0


@inlined
def _per(scale: float) -> float:
    """The factor that turns a number into its ratio to `scale`, 0 if that is none."""
    return 1.0 / scale if scale > 0 else 0.0


@inlined
def put(row: np.ndarray, i: int, value: float) -> int:
    """Writes a clipped value into column `i`; returns the next column."""
    row[i] = min(max(value, -LIMIT), LIMIT)
    return i + 1


@inlined
def lay(row: np.ndarray, i: int, value: float) -> int:
    """Writes a value into column `i`, to be clipped with the rest of its row; returns the next column."""
    row[i] = value
    return i + 1


@inlined
def clip(row: np.ndarray) -> None:
    """Clips a row of float32."""
    low, high = np.float32(-LIMIT), np.float32(LIMIT)
    for i in range(row.shape[0]):
        row[i] = min(max(row[i], low), high)


@inlined
def copy(source: np.ndarray, target: np.ndarray) -> None:
    """Writes the numbers of one row into another (`target[:] = source` would allocate, since they may overlap)."""
    for i in range(target.shape[0]):
        target[i] = source[i]


@inlined
def scale_of(view: FactoryView, b: int, side: int) -> Scale:
    """The `Scale` of a side of factory `b`."""
    ints = view.ints[b]
    low, high = ints[at.PRICE_LOW + side], ints[at.PRICE_HIGH + side]
    return Scale(
        high if side else low,
        -1 if side else 1,
        _per(high - low),
        _per(view.floats[b, at.TRADING_PRICE + side]),
        _per(ints[at.MAX_QUANTITY]),
        1.0 / max(1, view.signed.shape[2] - 1),
        _per(ints[at.N_ROUNDS]),
    )


@inlined
def position(scale: Scale, price: int) -> float:
    """0 at the factory's best price of today's agenda, 1 at its worst, 0 if there is only one."""
    return scale.sign * (price - scale.best) * scale.per_span


@lean
def needed(view: FactoryView, b: int) -> tuple[int, int]:
    """(supplies, sales) that would even out today's books, items; as `awi.needed_supplies` and `needed_sales`."""
    ints, signed = view.ints[b], view.signed[b]
    inputs = ints[at.EXOGENOUS_IN] + ints[at.STOCK] + signed[at.SIGNED_IN, 0]
    outputs = ints[at.EXOGENOUS_OUT] + signed[at.SIGNED_OUT, 0]
    supplies = 0 if ints[at.LEVEL] == 0 else outputs - inputs
    sales = 0 if ints[at.LEVEL] == ints[at.N_LEVELS] - 1 else inputs - outputs
    return supplies, sales


@inlined
def write_thread_features(view: FactoryView, b: int, bounds: np.ndarray, out: np.ndarray, column: int) -> int:
    """Writes THREAD_FEATURES of every slot and returns the column behind them. Rows without a thread are zero.

    Args:
        view: `FactoryView`.
        b: which factory of it.
        bounds: int32 (K, M), of `write_bounds` with the same view: active threads of a side have the same caps.
        out: float32 (K, at least column + len(THREAD_FEATURES)).
        column: of the first feature.
    """
    flags = view.flags[b]
    end = column + len(THREAD_FEATURES)
    for k in range(out.shape[0]):
        if not flags[k, at.EXISTS]:
            out[k, column:end] = 0.0
    for side in range(2):
        scale = scale_of(view, b, side)
        first = -1
        for k in range(out.shape[0]):
            if not flags[k, at.EXISTS] or flags[k, at.IS_BUY] == (side == 1):
                continue
            if first < 0:
                first = k
                _write_side(view, b, side, bounds, scale, out[k, column:end])
            else:
                copy(out[first, column:end], out[k, column:end])
        for k in range(out.shape[0]):
            if flags[k, at.EXISTS] and flags[k, at.IS_BUY] == (side == 0):
                _write_thread(view, b, k, bounds[k], scale, out[k, column:end])
    return end


@inlined
def _write_side(view: FactoryView, b: int, side: int, bounds: np.ndarray, scale: Scale, row: np.ndarray) -> None:
    """Writes what the threads of a side have in common, and zero into the other columns."""
    ints, floats = view.ints[b], view.floats[b]
    row[:] = 0.0
    per_day, per_line = _per(ints[at.N_DAYS]), _per(ints[at.N_LINES])
    row[0] = 1.0
    row[1 + side] = 1.0
    row[8] = ints[at.FIRST_MOVER]
    row[9] = ints[at.DAY] * per_day
    row[10] = (ints[at.N_DAYS] - ints[at.DAY]) * per_day
    row[11] = ints[at.LAST_LEAD] * scale.per_day
    low, high = ints[at.PRICE_LOW + side], ints[at.PRICE_HIGH + side]
    put(row, 19, low * scale.per_spot)
    put(row, 20, high * scale.per_spot)
    put(row, 21, (high - low + 1) / 20.0)
    k = active_thread(view, b, side, bounds)
    if k >= 0:
        n_leads, top = view.signed.shape[2], ints[at.MAX_QUANTITY]
        largest, total = 0, 0
        for d in range(n_leads):
            cap = min(bounds[k, QUANTITY + d], top)
            largest = max(largest, cap)
            total += cap
        row[23] = min(bounds[k, QUANTITY], top) * scale.per_item
        row[24] = largest * scale.per_item
        row[25] = total * scale.per_item / n_leads
    supplies, sales = needed(view, b)
    put(row, 41, supplies * per_line)
    put(row, 42, sales * per_line)
    put(row, 43, ints[at.STOCK] * per_line)
    put(row, 44, _ratio(floats[at.BALANCE], floats[at.INITIAL_BALANCE]))
    put(row, 45, floats[at.STORAGE_RATE])
    put(row, 46, floats[at.SHORTFALL_RATE])
    put(row, 47, _ratio(ints[at.UNIT_COST], floats[at.TRADING_PRICE + 1]))


@inlined
def _write_thread(view: FactoryView, b: int, k: int, bounds: np.ndarray, scale: Scale, row: np.ndarray) -> None:
    """Writes what is a thread's own into a row with everything else; `bounds` int32 (M,)."""
    flags, threads, memory = view.flags[b, k], view.threads[b, k], view.memory[b, k]
    last_round = view.ints[b, at.N_ROUNDS] - 1
    row[3] = 1.0 if flags[at.ALIVE] else 0.0
    row[4] = 1.0 if flags[at.ON_TURN] else 0.0
    row[5] = threads[at.ROUND] * scale.per_round
    row[6] = (last_round - threads[at.ROUND]) * scale.per_round
    row[7] = 1.0 if threads[at.ROUND] == last_round else 0.0
    if flags[at.HAS_OFFER]:
        _write_offer(view, b, k, bounds, scale, row)
    if not bounds[CAN_END]:
        row[23] = row[24] = row[25] = 0.0
    if flags[at.SENT]:
        row[26] = 1.0
        row[27] = threads[at.SENT_QUANTITY] * scale.per_item
        row[28] = threads[at.SENT_LEAD] * scale.per_day
        put(row, 29, position(scale, threads[at.SENT_PRICE]))
    row[33] = threads[at.N_RECEIVED] * scale.per_round
    deals = threads[at.N_DEALS]
    put(row, 34, (deals + 1.0) / (threads[at.N_NEGOTIATIONS] + 2.0))
    if deals > 0:
        per_deal = 1.0 / deals
        put(row, 35, threads[at.DEAL_QUANTITY] * per_deal * scale.per_item)
        put(row, 36, memory[at.DEAL_PRICE_RATIO] * per_deal - 1.0)
    put(row, 37, memory[at.PARTNER_BREACH])
    put(row, 38, memory[at.PARTNER_CASH])
    row[39] = 1.0 if flags[at.DEAL_TODAY] else 0.0
    row[40] = 1.0 if flags[at.PARTNER_BANKRUPT] else 0.0


@inlined
def _write_offer(view: FactoryView, b: int, k: int, bounds: np.ndarray, scale: Scale, row: np.ndarray) -> None:
    """Writes the offer on the table, and how it differs from the one before."""
    threads, unit_cost = view.threads[b, k], view.ints[b, at.UNIT_COST]
    input_price, output_price = view.floats[b, at.TRADING_PRICE], view.floats[b, at.TRADING_PRICE + 1]
    price, lead, quantity = threads[at.OFFER_PRICE], threads[at.OFFER_LEAD], threads[at.OFFER_QUANTITY]
    gain = output_price - unit_cost - price if scale.sign > 0 else price - unit_cost - input_price
    row[12] = 1.0
    row[13] = quantity * scale.per_item
    row[14] = lead * scale.per_day
    put(row, 15, position(scale, price))
    put(row, 16, price * scale.per_spot - 1.0 if scale.per_spot > 0 else -1.0)
    put(row, 17, _ratio(gain, output_price))
    row[18] = bounds[CAN_ACCEPT]
    if 0 <= lead < view.signed.shape[2]:
        row[22] = min(bounds[QUANTITY + lead], view.ints[b, at.MAX_QUANTITY]) * scale.per_item
    if threads[at.N_RECEIVED] >= 2:
        put(row, 30, position(scale, price) - position(scale, threads[at.BEFORE_PRICE]))
        row[31] = (quantity - threads[at.BEFORE_QUANTITY]) * scale.per_item
        row[32] = (lead - threads[at.BEFORE_LEAD]) * scale.per_day


@inlined
def active_thread(view: FactoryView, b: int, side: int, bounds: np.ndarray) -> int:
    """A slot of a side that may act, or -1; all of them have the same caps in int32 (K, M) `bounds`."""
    for k in range(bounds.shape[0]):
        if bounds[k, CAN_END] and view.flags[b, k, at.IS_BUY] == (side == 0):
            return k
    return -1


@inlined
def write_history_features(view: FactoryView, b: int, out: np.ndarray, column: int) -> int:
    """Writes the last N offers of each thread into float32 (K, ...) `out`, oldest first; returns the column behind."""
    n_history = view.history.shape[2]
    end = column + n_history * len(HISTORY_FEATURES)
    buy, sell = scale_of(view, b, 0), scale_of(view, b, 1)
    for k in range(out.shape[0]):
        row = out[k, column:end]
        row[:] = 0.0
        scale = buy if view.flags[b, k, at.IS_BUY] else sell
        n_offers, now = view.threads[b, k, at.N_HISTORY], view.threads[b, k, at.ROUND]
        n_kept = min(n_offers, n_history)
        place = n_offers % n_history if n_offers > n_history else 0
        for h in range(n_history - n_kept, n_history):
            offer, cells = view.history[b, k, place], row[h * len(HISTORY_FEATURES) : (h + 1) * len(HISTORY_FEATURES)]
            cells[0] = 1.0
            cells[1] = offer[0]
            cells[2] = offer[2] * scale.per_item
            cells[3] = offer[1] * scale.per_day
            put(cells, 4, position(scale, offer[3]))
            cells[5] = (now - offer[4]) * scale.per_round
            place = place + 1 if place + 1 < n_history else 0
    return end


@inlined
def _count_side(view: FactoryView, b: int, side: int) -> tuple[int, int, int]:
    """(threads alive, items offered, items of own offers that are pending) of a side."""
    flags, threads = view.flags[b], view.threads[b]
    alive, offered, pending = 0, 0, 0
    for k in range(flags.shape[0]):
        if flags[k, at.IS_BUY] == (side == 0):
            alive += flags[k, at.ALIVE]
            offered += threads[k, at.OFFER_QUANTITY] if flags[k, at.HAS_OFFER] else 0
            pending += threads[k, at.SENT_QUANTITY] if flags[k, at.PENDING] else 0
    return alive, offered, pending


@inlined
def write_broadcast(view: FactoryView, b: int, bounds: np.ndarray, out: np.ndarray, column: int) -> int:
    """Writes what is the same for all threads of the factory into a float32 row; returns the column behind.

    Args:
        view: `FactoryView`.
        b: which factory of it.
        bounds: as for `write_thread_features`.
        out: float32 (at least column + len(broadcast_names(L)),).
        column: of the first feature.
    """
    row, ints, floats, signed = out[column:], view.ints[b], view.floats[b], view.signed[b]
    n_leads, n_slots = view.signed.shape[2], view.flags.shape[1]
    level, last_level = ints[at.LEVEL], ints[at.N_LEVELS] - 1
    per_day, per_line, per_dollar = _per(ints[at.N_DAYS]), _per(ints[at.N_LINES]), _per(floats[at.INITIAL_BALANCE])
    price_in, price_out = floats[at.TRADING_PRICE], floats[at.TRADING_PRICE + 1]
    per_output = _per(price_out)
    supplies, sales = needed(view, b)
    alive_buy, offered_buy, pending_buy = _count_side(view, b, 0)
    alive_sell, offered_sell, pending_sell = _count_side(view, b, 1)
    i = 0
    i = lay(row, i, ints[at.DAY] * per_day)
    i = lay(row, i, (ints[at.N_DAYS] - ints[at.DAY]) * per_day)
    i = lay(row, i, 1.0 if level == 0 else 0.0)
    i = lay(row, i, 1.0 if 0 < level < last_level else 0.0)
    i = lay(row, i, 1.0 if level == last_level else 0.0)
    i = lay(row, i, floats[at.BALANCE] * per_dollar)
    i = lay(row, i, ints[at.STOCK] * per_line)
    i = lay(row, i, supplies * per_line)
    i = lay(row, i, sales * per_line)
    i = lay(row, i, ints[at.BOUGHT_TODAY] * per_line)
    i = lay(row, i, ints[at.BOUGHT_COST] * per_dollar)
    i = lay(row, i, ints[at.SOLD_TODAY] * per_line)
    i = lay(row, i, ints[at.SOLD_REVENUE] * per_dollar)
    i = lay(row, i, ints[at.EXOGENOUS_IN] * per_line)
    i = lay(row, i, ints[at.EXOGENOUS_OUT] * per_line)
    i = lay(row, i, _ratio(ints[at.EXOGENOUS_IN_COST], ints[at.EXOGENOUS_IN] * price_in))
    i = lay(row, i, _ratio(ints[at.EXOGENOUS_OUT_REVENUE], ints[at.EXOGENOUS_OUT] * price_out))
    i = lay(row, i, signed[at.SIGNED_IN, 0] * per_line)
    i = lay(row, i, signed[at.SIGNED_OUT, 0] * per_line)
    i = lay(row, i, alive_buy / n_slots)
    i = lay(row, i, alive_sell / n_slots)
    i = lay(row, i, offered_buy * per_line)
    i = lay(row, i, offered_sell * per_line)
    i = lay(row, i, pending_buy * per_line)
    i = lay(row, i, pending_sell * per_line)
    i = lay(row, i, floats[at.STORAGE_RATE])
    i = lay(row, i, floats[at.DISPOSAL_RATE])
    i = lay(row, i, floats[at.SHORTFALL_RATE])
    i = lay(row, i, _ratio(price_in, floats[at.CATALOG_PRICE]))
    i = lay(row, i, _ratio(price_out, floats[at.CATALOG_PRICE + 1]))
    i = lay(row, i, ints[at.UNIT_COST] * per_output)
    i = lay(row, i, (price_out - price_in - ints[at.UNIT_COST]) * per_output)
    top, per_item = ints[at.MAX_QUANTITY], _per(ints[at.MAX_QUANTITY])
    for side in range(2):
        k = active_thread(view, b, side, bounds)
        for d in range(n_leads):
            row[i + d] = min(bounds[k, QUANTITY + d], top) * per_item if k >= 0 else 0.0
        i += n_leads
    clip(row[:i])
    return column + i


@inlined
def write_macro(view: FactoryView, b: int, out: np.ndarray, column: int) -> int:
    """Writes the factory's situation as a daily planner sees it (SYSTEMS.md C5); returns the column behind.

    Args:
        view: `FactoryView`.
        b: which factory of it.
        out: float32 (at least column + len(macro_names(L)),).
        column: of the first feature.
    """
    row = out[column:]
    i = _write_business(view, b, row)
    i = _write_days(view, b, row, i)
    first = i
    for side in range(2):
        i += _write_market(view, b, side, row[i:])
    _write_pressure(view, b, row, first)
    clip(row[:i])
    return column + i


@inlined
def _write_business(view: FactoryView, b: int, row: np.ndarray) -> int:
    """Resources, finance and time, without what is told for each day; returns the next column."""
    ints, floats, signed = view.ints[b], view.floats[b], view.signed[b]
    n_leads, n_slots = view.signed.shape[2], view.flags.shape[1]
    balance, level, last_level = floats[at.BALANCE], ints[at.LEVEL], ints[at.N_LEVELS] - 1
    per_day, per_line, per_slot = _per(ints[at.N_DAYS]), _per(ints[at.N_LINES]), 1.0 / n_slots
    growth, per_dollar = _ratio(balance, floats[at.INITIAL_BALANCE]), 1.0 / max(balance, 1.0)
    supplies, sales = needed(view, b)
    payables, receivables = ints[at.EXOGENOUS_IN_COST], ints[at.EXOGENOUS_OUT_REVENUE]
    for d in range(n_leads):
        payables += signed[at.SIGNED_COST, d]
        receivables += signed[at.SIGNED_REVENUE, d]
    rate_buy, rate_sell, bankrupt = _rates(view, b)
    i = 0
    i = lay(row, i, ints[at.STOCK] * per_line)
    i = lay(row, i, ints[at.PERISHABLE])
    i = lay(row, i, ints[at.EXOGENOUS_IN] * per_line)
    i = lay(row, i, ints[at.EXOGENOUS_OUT] * per_line)
    i = lay(row, i, supplies * per_line)
    i = lay(row, i, sales * per_line)
    i = lay(row, i, ints[at.PRODUCED_BEFORE] * per_line)
    i = lay(row, i, ints[at.SHORTFALL_BEFORE] * per_line)
    i = lay(row, i, growth)
    i = lay(row, i, np.log(max(growth, 0.01)))
    i = lay(row, i, payables * per_dollar)
    i = lay(row, i, receivables * per_dollar)
    i = lay(row, i, floats[at.STORAGE_RATE])
    i = lay(row, i, floats[at.SHORTFALL_RATE])
    i = lay(row, i, floats[at.DISPOSAL_RATE])
    i = lay(row, i, _ratio(ints[at.UNIT_COST], floats[at.TRADING_PRICE + 1]))
    i = lay(row, i, ints[at.DAY] * per_day)
    i = lay(row, i, (ints[at.N_DAYS] - ints[at.DAY]) * per_day)
    i = lay(row, i, ints[at.LAST_LEAD] / max(1, n_leads - 1))
    i = lay(row, i, 1.0 if level == 0 else 0.0)
    i = lay(row, i, 1.0 if 0 < level < last_level else 0.0)
    i = lay(row, i, 1.0 if level == last_level else 0.0)
    i = lay(row, i, _ratio(level, last_level))
    i = lay(row, i, ints[at.N_SUPPLIERS] * per_slot)
    i = lay(row, i, ints[at.N_CONSUMERS] * per_slot)
    i = lay(row, i, ints[at.N_COMPETITORS] / 5.0)
    i = lay(row, i, ints[at.N_LINES] / 10.0)
    i = lay(row, i, rate_buy)
    i = lay(row, i, rate_sell)
    return lay(row, i, bankrupt)


@inlined
def _rates(view: FactoryView, b: int) -> tuple[float, float, float]:
    """(share of negotiations with suppliers that ended in a deal, with consumers, share of partners bankrupt)."""
    flags, threads = view.flags[b], view.threads[b]
    deals_buy, ended_buy, deals, ended, partners, bankrupt = 0, 0, 0, 0, 0, 0
    for k in range(flags.shape[0]):
        if not flags[k, at.EXISTS]:
            continue
        partners += 1
        bankrupt += flags[k, at.PARTNER_BANKRUPT]
        deals += threads[k, at.N_DEALS]
        ended += threads[k, at.N_NEGOTIATIONS]
        deals_buy += threads[k, at.N_DEALS] if flags[k, at.IS_BUY] else 0
        ended_buy += threads[k, at.N_NEGOTIATIONS] if flags[k, at.IS_BUY] else 0
    rate_buy = (deals_buy + 1.0) / (ended_buy + 2.0)
    return rate_buy, (deals - deals_buy + 1.0) / (ended - ended_buy + 2.0), _ratio(bankrupt, partners)


@inlined
def _write_days(view: FactoryView, b: int, row: np.ndarray, i: int) -> int:
    """What is signed for each day, and the stock and cash that follow; returns the next column."""
    ints, floats, signed = view.ints[b], view.floats[b], view.signed[b]
    lines, per_line, per_start = ints[at.N_LINES], _per(ints[at.N_LINES]), _per(floats[at.INITIAL_BALANCE])
    per_dollar = 1.0 / max(floats[at.BALANCE], 1.0)
    virtual = ints[at.STOCK] + ints[at.EXOGENOUS_IN] - ints[at.EXOGENOUS_OUT]
    cash = floats[at.BALANCE] - ints[at.EXOGENOUS_IN_COST] + ints[at.EXOGENOUS_OUT_REVENUE]
    for d in range(signed.shape[1]):
        virtual += signed[at.SIGNED_IN, d] - signed[at.SIGNED_OUT, d]
        cash += signed[at.SIGNED_REVENUE, d] - signed[at.SIGNED_COST, d]
        cells = row[i + 6 * d : i + 6 * d + 6]  # fixed columns: no look at the sign of an index
        cells[0] = virtual * per_line
        cells[1] = signed[at.SIGNED_IN, d] * per_line
        cells[2] = signed[at.SIGNED_OUT, d] * per_line
        cells[3] = (lines - signed[at.SIGNED_OUT, d]) * per_line
        cells[4] = cash * per_start
        cells[5] = signed[at.SIGNED_COST, d] * per_dollar
    return i + 6 * signed.shape[1]


@inlined
def _write_market(view: FactoryView, b: int, side: int, row: np.ndarray) -> int:
    """Prices of the input (side 0) or the output, and zero for the pressure; returns the number of columns."""
    floats, signed = view.floats[b], view.signed[b]
    spot, per_catalog = floats[at.TRADING_PRICE + side], _per(floats[at.CATALOG_PRICE + side])
    prices = floats[at.PRICE_HISTORY + side * PRICE_DAYS :]
    i = lay(row, 0, spot * per_catalog)
    i = lay(row, i, _ratio(floats[at.PRICE_AVERAGE + side], spot))
    i = lay(row, i, (spot - prices[PRICE_DAYS - 2]) * per_catalog)
    for j in range(PRICE_DAYS - 1):
        i = lay(row, i, _ratio(prices[j + 1], prices[j]) - 1.0)
    for soonest, latest in BUCKETS:
        items, money = 0, 0
        for d in range(soonest, min(latest + 1, signed.shape[1])):
            items += signed[at.SIGNED_IN + side, d]
            money += signed[at.SIGNED_COST + side, d]
        i = lay(row, i, _ratio(money, items * spot) - 1.0 if items > 0 else 0.0)
        i = lay(row, i, 0.0)
    return i


@inlined
def _write_pressure(view: FactoryView, b: int, row: np.ndarray, first: int) -> None:
    """Adds the items on the table by side and lead time to the market columns, which start at `first`."""
    flags, threads = view.flags[b], view.threads[b]
    per_line = _per(view.ints[b, at.N_LINES])
    prices, width = PRICE_DAYS + 2, PRICE_DAYS + 2 + 2 * len(BUCKETS)
    for k in range(flags.shape[0]):
        if flags[k, at.HAS_OFFER]:
            market = first if flags[k, at.IS_BUY] else first + width
            row[market + prices + 2 * bucket_of(threads[k, at.OFFER_LEAD]) + 1] += threads[k, at.OFFER_QUANTITY]
    for side in range(2):
        for bucket in range(len(BUCKETS)):
            i = first + side * width + prices + 2 * bucket + 1
            row[i] *= per_line


@inlined
def bucket_of(lead: int) -> int:
    """Index into BUCKETS."""
    if lead == 0:
        return 0
    if lead <= 2:
        return 1
    return 2 if lead <= 5 else 3
