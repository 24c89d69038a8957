"""The current day for human eyes: `day_table` tells it, `day_picture` draws it. Both only read, at any moment."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from scml_marl_env.array_env import ArrayEnv

WIDTH, HEIGHT = 960, 640
_NO_WORLD = "No world yet: call reset() first."
_OVERSAMPLE = 2  # drawn larger and reduced, which smooths edges

_PAGE, _PANEL, _EDGE, _GRID = "#eef1f5", "#ffffff", "#d5dae1", "#e9ecf1"
_INK, _MUTED = "#1f2630", "#6b7684"
_OURS, _THEIRS = "#2f6fde", "#e8762c"
_IN, _OUT, _GOOD, _BAD = "#8a63d2", "#16978a", "#2c9f4b", "#d1343f"
_MADE = "#9fd6ad"
_STATE_COLOURS = {"us": _OURS, "partner": _THEIRS, "deal": _GOOD, "ended": "#aab2bd", "bankrupt": _BAD}


class _Thread(NamedTuple):
    """One thread in words. `kind` is a key of `_STATE_COLOURS`."""

    slot: int
    partner: str
    side: str
    round: str
    theirs: str
    ours: str
    kind: str
    state: str


def day_table(game: ArrayEnv) -> str:
    """The current day as plain text, one block for each controlled factory."""
    blocks = [_factory_table(game, factory) for factory in range(game.engine.n_factories)]
    return "\n\n".join(blocks) if blocks else _NO_WORLD


def day_picture(game: ArrayEnv) -> np.ndarray:
    """The current day as uint8 (640, 960, 3): the factory whose window it is, the first one when it is nobody's."""
    canvas = _Canvas()
    if game.engine.n_factories == 0:
        canvas.text(24, 20, _NO_WORLD, 16)
        return canvas.pixels()
    factory = game.window or 0
    _draw_header(canvas, game, factory)
    _draw_threads(canvas, game, factory)
    _draw_commitments(canvas, game, factory)
    _draw_production(canvas, game, factory)
    _draw_balance(canvas, game, factory)
    return canvas.pixels()


def _factory_table(game: ArrayEnv, f: int) -> str:
    view, results = game.engine.view, game.engine.results[f]
    lines = [
        f"{_title(game, f)}: {_situation(game, f)}",
        f"  balance    {_balance(game, f):,.0f} dollars of {view.initial_balance[f]:,.0f}",
        f"  stock      {_stock(game, f)} items, {view.n_lines[f]} lines at {view.unit_cost[f]} dollars an item",
        f"  exogenous  in {_lot(view.exogenous_in[f], view.exogenous_in_cost[f])}, "
        f"out {_lot(view.exogenous_out[f], view.exogenous_out_revenue[f])}",
    ]
    for side, name, noun in ((0, "buy", "input "), (1, "sell", "output")):
        agenda = f"{name} at {view.price_low[f, side]} to {view.price_high[f, side]}"
        lines.append(f"  {noun}     trading price {view.trading_price[f, side]:.2f}, {agenda}")
    if results:
        last = results[-1]
        lines.append(
            f"  day {last.day:<6} bought {last.bought}, produced {last.produced}, sold {last.sold}, "
            f"short {last.shortfall}, profit {last.profit:+,.1f}"
        )
    leads = range(int(view.last_lead[f]) + 1)
    due = [["day", *(str(view.day[f] + d) for d in leads)]]
    due.append(["receive", *(str(view.signed_in[f, d]) for d in leads)])
    due.append(["deliver", *(str(view.signed_out[f, d]) for d in leads)])
    threads = [["thread", "partner", "side", "round", "their offer", "our last offer", "state"]]
    threads += [
        [str(t.slot), t.partner, t.side, t.round, t.theirs or "-", t.ours or "-", t.state] for t in _threads(game, f)
    ]
    return "\n".join([*lines, "", *_aligned(due, right=True), "", *_aligned(threads)])


def _title(game: ArrayEnv, f: int) -> str:
    view = game.engine.view
    return f"day {view.day[f]} of {view.n_days[f]}, factory {f}, level {view.level[f]} of {view.n_levels[f]}"


def _situation(game: ArrayEnv, f: int) -> str:
    if game.engine.world is not None and game.engine.is_bankrupt(f):
        return "bankrupt"
    if game.window is None:
        return "the episode is over"
    waiting = int(game.engine.view.on_turn[f].sum())
    if game.window != f:
        return f"factory {game.window} decides"
    return f"{waiting} thread{'s wait' if waiting != 1 else ' waits'} for an answer"


def _threads(game: ArrayEnv, f: int) -> list[_Thread]:
    """The threads of a factory; slots without a partner are left out."""
    view = game.engine.view
    names = game.engine.partners_of(f) if game.engine.world is not None else []
    rows = []
    for k in np.flatnonzero(view.exists[f]):
        kind, state = _state(game, f, int(k))
        theirs = _offer(view.offer_quantity[f, k], view.offer_price[f, k], view.offer_lead[f, k])
        ours = _offer(view.sent_quantity[f, k], view.sent_price[f, k], view.sent_lead[f, k])
        rows.append(
            _Thread(
                slot=int(k),
                partner=names[k] if k < len(names) else f"partner {k}",
                side="buy" if view.is_buy[f, k] else "sell",
                round=f"{view.round[f, k] + 1}/{view.n_rounds[f]}",
                theirs=theirs if view.n_received[f, k] else "",
                ours=ours if view.sent[f, k] else "",
                kind=kind,
                state=state,
            )
        )
    return rows


def _state(game: ArrayEnv, f: int, k: int) -> tuple[str, str]:
    view = game.engine.view
    if view.partner_bankrupt[f, k]:
        return "bankrupt", "partner bankrupt"
    if view.deal_today[f, k]:
        if not view.n_history[f, k]:
            return "deal", "deal"
        _, lead, quantity, price, _ = view.offers(f, k)[-1]  # an agreement is the last offer that was made
        return "deal", f"deal {quantity} @ {price} on day {view.day[f] + lead}"
    if not view.alive[f, k]:
        return "ended", "ended"
    if view.on_turn[f, k] and game.window is not None:
        return "us", "waits for us"
    return ("ended", "cut off") if game.window is None else ("partner", "waits for partner")


def _offer(quantity: int, price: int, lead: int) -> str:
    return f"{quantity} @ {price} in {lead} d" if lead else f"{quantity} @ {price} today"


def _lot(quantity: int, dollars: int) -> str:
    return f"{quantity} for {dollars} dollars" if quantity else "nothing"


def _balance(game: ArrayEnv, f: int) -> float:
    return game.engine.final_balance(f) if game.window is None else float(game.engine.view.balance[f])


def _stock(game: ArrayEnv, f: int) -> int:
    results = game.engine.results[f]
    return results[-1].stock if game.window is None and results else int(game.engine.view.stock[f])


def _aligned(rows: Sequence[Sequence[str]], right: bool = False) -> list[str]:
    """Lines of a table; the first column is set to the left, the others too unless `right`."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [f"{row[i]:>{w}}" if right and i else f"{row[i]:<{w}}" for i, w in enumerate(widths)]
        lines.append("  " + "  ".join(cells).rstrip())
    return lines


class _Canvas:
    """A page in pixels of the finished picture, drawn `_OVERSAMPLE` times larger."""

    def __init__(self) -> None:
        self._image = Image.new("RGB", (WIDTH * _OVERSAMPLE, HEIGHT * _OVERSAMPLE), _PAGE)
        self._draw = ImageDraw.Draw(self._image)
        self._fonts: dict[int, ImageFont.ImageFont | ImageFont.FreeTypeFont] = {}

    def text(self, x: float, y: float, words: str, size: int = 12, colour: str = _INK, anchor: str = "la") -> None:
        font = self._fonts.setdefault(size, ImageFont.load_default(size * _OVERSAMPLE))
        self._draw.text((x * _OVERSAMPLE, y * _OVERSAMPLE), words, colour, font, anchor)

    def box(self, x: float, y: float, width: float, height: float, colour: str, edge: str | None = None) -> None:
        if width > 0 and height > 0:
            self._draw.rectangle(self._scaled(x, y, x + width, y + height), colour, edge, width=_OVERSAMPLE)

    def panel(self, x: float, y: float, width: float, height: float, title: str) -> None:
        corners = self._scaled(x, y, x + width, y + height)
        self._draw.rounded_rectangle(corners, 6 * _OVERSAMPLE, _PANEL, _EDGE, _OVERSAMPLE)
        self.text(x + 12, y + 8, title, 13)

    def path(self, points: Sequence[tuple[float, float]], colour: str, width: float = 1) -> None:
        if len(points) > 1:
            flat = [self._scaled(*point) for point in points]
            self._draw.line(flat, colour, round(width * _OVERSAMPLE), joint="curve")

    def dot(self, x: float, y: float, radius: float, colour: str, ring: str = _PANEL) -> None:
        corners = self._scaled(x - radius, y - radius, x + radius, y + radius)
        self._draw.ellipse(corners, colour, ring, _OVERSAMPLE)

    def pixels(self) -> np.ndarray:
        return np.array(self._image.reduce(_OVERSAMPLE))

    @staticmethod
    def _scaled(*numbers: float) -> tuple[float, ...]:
        return tuple(number * _OVERSAMPLE for number in numbers)


def _draw_header(canvas: _Canvas, game: ArrayEnv, f: int) -> None:
    view, engine = game.engine.view, game.engine
    canvas.text(16, 10, _title(game, f), 20)
    canvas.text(16, 38, _situation(game, f), 13, _MUTED)
    balance, start = _balance(game, f), float(view.initial_balance[f])
    figures = [
        ("balance", f"{balance:,.0f}", f"{balance / start - 1:+.1%}" if start else ""),
        ("stock", f"{_stock(game, f)}", "items"),
        ("input price", f"{view.trading_price[f, 0]:.1f}", "dollars"),
        ("output price", f"{view.trading_price[f, 1]:.1f}", "dollars"),
    ]
    for i, (name, number, unit) in enumerate(figures):
        x = 560 + 102 * i
        canvas.text(x, 8, name, 11, _MUTED)
        canvas.text(x, 20, number, 18)
        canvas.text(x, 42, unit, 11, _BAD if unit.startswith("-") else _MUTED)
    done = min(1.0, len(engine.results[f]) / max(1, int(view.n_days[f])))
    canvas.box(0, 58, WIDTH, 3, _EDGE)
    canvas.box(0, 58, WIDTH * done, 3, _OURS)


def _draw_threads(canvas: _Canvas, game: ArrayEnv, f: int) -> None:
    x, y, width, height = 12, 72, 588, 556
    canvas.panel(x, y, width, height, "Threads")
    for i, (name, colour) in enumerate((("our offers", _OURS), ("their offers", _THEIRS))):
        canvas.dot(x + 168 + 96 * i, y + 16, 5, colour)
        canvas.text(x + 178 + 96 * i, y + 9, name, 11, _MUTED)
    canvas.text(x + width - 12, y + 9, "height: price, size: items, line: trading price", 11, _MUTED, "ra")
    threads = _threads(game, f)
    room = height - 54
    lane = max(22, min(132, room // max(1, len(threads))))
    shown = threads[: room // lane]
    for i, thread in enumerate(shown):
        _draw_lane(canvas, game, f, thread, x + 8, y + 30 + i * lane, width - 16, lane - 4)
    if len(shown) < len(threads):
        canvas.text(x + 12, y + height - 18, f"and {len(threads) - len(shown)} threads more", 11, _MUTED)
    elif threads:
        bottom = y + 30 + len(shown) * lane
        canvas.text(x + 154, bottom, "round 1", 10, _MUTED)
        canvas.text(x + 432, bottom, f"round {game.engine.view.n_rounds[f]}", 10, _MUTED, "ra")


def _draw_lane(
    canvas: _Canvas, game: ArrayEnv, f: int, thread: _Thread, x: float, y: float, width: float, height: float
) -> None:
    view, k, colour = game.engine.view, thread.slot, _STATE_COLOURS[thread.kind]
    live = thread.kind in ("us", "partner", "deal")
    canvas.box(x, y, width, height, "#f7f9fb" if live else "#f1f3f6")
    canvas.box(x, y, 4, height, colour)
    middle = y + height / 2
    two_lines, three_lines = height >= 32, height >= 40
    canvas.text(x + 12, middle - 7 if two_lines else middle, thread.partner, 12, _INK if live else _MUTED, "lm")
    if two_lines:
        canvas.text(x + 12, middle + 8, f"{thread.side}, round {thread.round}", 11, _MUTED, "lm")
    offers = [f"they {thread.theirs}" if thread.theirs else "", f"we {thread.ours}" if thread.ours else ""]
    if not three_lines:
        offers = offers[:1] if thread.kind == "us" else offers[1:]
    words = [thread.state, *offers] if two_lines else [thread.state]
    for i, line in enumerate(words):
        ink = colour if live and i == 0 else _MUTED
        canvas.text(x + 436, middle + 14 * (i - (len(words) - 1) / 2), line, 12 if i == 0 else 11, ink, "lm")

    left, right, top, bottom = x + 146, x + 424, y + 3, y + height - 3
    side = 0 if thread.side == "buy" else 1
    low, high = int(view.price_low[f, side]), int(view.price_high[f, side])
    reach = float(np.clip(height / 8, 4, 11))  # of the largest dot

    def place(round_: float, price: float) -> tuple[float, float]:
        share = np.clip((price - low) / max(1, high - low), 0, 1)
        across = left + 8 + (right - left - 16) * (round_ + 0.25) / max(1, int(view.n_rounds[f]))
        return across, bottom - reach - (bottom - top - 2 * reach) * float(share)

    canvas.box(left, top, right - left, bottom - top, _PANEL, _GRID)
    fair = place(0, float(view.trading_price[f, side]))[1]
    canvas.path([(left, fair), (right, fair)], _EDGE)
    if two_lines:
        canvas.text(left - 4, bottom, str(low), 10, _MUTED, "rd")
        canvas.text(left - 4, top, str(high), 10, _MUTED, "ra")
    history = view.offers(f, k)
    points = [place(offer[4] + 0.5 * offer[0], offer[3]) for offer in history]
    for mine, ink in ((1, _OURS), (0, _THEIRS)):
        canvas.path([p for p, offer in zip(points, history, strict=True) if offer[0] == mine], ink, 1.5)
    for i, (point, offer) in enumerate(zip(points, history, strict=True)):
        radius = max(2.5, reach * (offer[2] / max(1, int(view.max_quantity[f]))) ** 0.5)
        agreed = thread.kind == "deal" and i == len(points) - 1
        canvas.dot(*point, radius + 1.5 * agreed, _OURS if offer[0] else _THEIRS, _GOOD if agreed else _PANEL)


def _draw_commitments(canvas: _Canvas, game: ArrayEnv, f: int) -> None:
    view = game.engine.view
    x, y, width, height = 612, 72, 336, 190
    canvas.panel(x, y, width, height, "Signed, by delivery day")
    canvas.box(x + 168, y + 11, 9, 9, _IN)
    canvas.text(x + 181, y + 9, "receive", 11, _MUTED)
    canvas.box(x + 232, y + 11, 9, 9, _OUT)
    canvas.text(x + 245, y + 9, "deliver", 11, _MUTED)
    n, first = view.signed_in.shape[1], int(view.day[f])
    received, delivered = view.signed_in[f].copy(), view.signed_out[f].copy()
    forced = int(view.exogenous_in[f]), int(view.exogenous_out[f])
    received[0] += forced[0]
    delivered[0] += forced[1]
    highest = max(int(view.n_lines[f]), int(received.max()), int(delivered.max()), 1)
    left, bottom, rise = x + 30, y + height - 38, height - 80
    step = (width - 44) / n
    bar = min(22.0, step * 0.36)
    level = bottom - rise * int(view.n_lines[f]) / highest
    canvas.path([(left, level), (x + width - 12, level)], _EDGE)
    canvas.text(left - 5, level, str(int(view.n_lines[f])), 10, _MUTED, "rm")
    canvas.path([(left, bottom), (x + width - 12, bottom)], _MUTED)
    for d in range(n):
        centre = left + step * (d + 0.5)
        for items, colour, start in ((received[d], _IN, centre - bar), (delivered[d], _OUT, centre)):
            tall = rise * int(items) / highest
            canvas.box(start, bottom - tall, bar - 1, tall, colour)
            if items:
                canvas.text(start + bar / 2, bottom - tall - 2, str(items), 9, _MUTED, "md")
        if first + d < int(view.n_days[f]):
            canvas.text(centre, bottom + 4, "today" if d == 0 else str(first + d), 10, _MUTED, "ma")
    words = f"today includes exogenous: receive {forced[0]}, deliver {forced[1]}"
    canvas.text(x + 12, y + height - 4, words if any(forced) else "line: capacity of a day", 10, _MUTED, "ld")


def _draw_production(canvas: _Canvas, game: ArrayEnv, f: int) -> None:
    x, y, width, height = 612, 272, 336, 172
    canvas.panel(x, y, width, height, "Items by day")
    for i, (name, colour) in enumerate((("produced", _MADE), ("short", _BAD), ("stock", _INK))):
        canvas.box(x + 116 + 74 * i, y + 11, 9, 9, colour)
        canvas.text(x + 129 + 74 * i, y + 9, name, 11, _MUTED)
    results, n_days = game.engine.results[f], max(1, int(game.engine.view.n_days[f]))
    highest = max([int(game.engine.view.n_lines[f])] + [max(r.produced + r.shortfall, r.stock) for r in results])
    left, bottom, rise = x + 30, y + height - 24, height - 64
    step = (width - 44) / n_days
    _draw_axes(canvas, left, bottom, width - 42, rise, str(highest), "0", n_days)
    for r in results:
        start, gap = left + step * r.day, min(1.0, step * 0.15)
        made, short = rise * r.produced / highest, rise * r.shortfall / highest
        canvas.box(start + gap, bottom - made, step - 2 * gap, made, _MADE)
        canvas.box(start + gap, bottom - made - short, step - 2 * gap, short, _BAD)
    canvas.path([(left + step * (r.day + 0.5), bottom - rise * r.stock / highest) for r in results], _INK, 1.5)


def _draw_balance(canvas: _Canvas, game: ArrayEnv, f: int) -> None:
    x, y, width, height = 612, 454, 336, 174
    canvas.panel(x, y, width, height, "Balance by day")
    results, n_days = game.engine.results[f], max(1, int(game.engine.view.n_days[f]))
    start = float(game.engine.view.initial_balance[f])
    balances = [start, *(r.balance for r in results)]
    low, high = min(balances), max(balances)
    low, high = (low, high) if high - low > 1 else (low - 1, high + 1)
    left, bottom, rise = x + 52, y + height - 24, height - 64
    step = (width - 66) / n_days
    _draw_axes(canvas, left, bottom, width - 64, rise, f"{high:,.0f}", f"{low:,.0f}", n_days)
    points = [(left + step * i, bottom - rise * (b - low) / (high - low)) for i, b in enumerate(balances)]
    canvas.path([(left, points[0][1]), (x + width - 12, points[0][1])], _EDGE)
    colour = _GOOD if balances[-1] >= start else _BAD
    canvas.path(points, colour, 2)
    canvas.dot(*points[-1], 4, colour)
    canvas.text(x + width - 12, y + 9, f"{balances[-1] - start:+,.0f} dollars", 11, colour, "ra")


def _draw_axes(
    canvas: _Canvas, left: float, bottom: float, width: float, rise: float, high: str, low: str, n_days: int
) -> None:
    canvas.path([(left, bottom - rise), (left + width, bottom - rise)], _GRID)
    canvas.path([(left, bottom), (left + width, bottom)], _MUTED)
    canvas.text(left - 5, bottom - rise, high, 10, _MUTED, "rm")
    canvas.text(left - 5, bottom, low, 10, _MUTED, "rm")
    canvas.text(left, bottom + 5, "day 0", 10, _MUTED)
    canvas.text(left + width, bottom + 5, f"day {n_days}", 10, _MUTED, "ra")
