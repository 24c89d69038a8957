"""Random `FactoryView`s of one factory, consistent in themselves, for tests of L1."""

import numpy as np

from scml_marl_env.actions import ActionGrid
from scml_marl_env.view import FactoryView, empty_view


def random_view(seed: int, *, small: bool = False, pending: bool = False, rich: bool | None = None) -> FactoryView:
    """A view with everything drawn: track, level, stock, contracts, money, agenda, threads and their offers.

    Args:
        seed: fixes all.
        small: a toy world for exhaustive search (n <= 3, horizon <= 2, at most 3 partners).
        pending: some threads are not on turn and hold an offer of the factory.
        rich: money that never binds; drawn if None.
    """
    rng = np.random.default_rng(seed)

    def draw(low: int, high: int) -> int:
        return int(rng.integers(low, high, endpoint=True))

    lines = draw(1, 3) if small else draw(2, 10)
    horizon = draw(0, 2) if small else draw(0, 6)
    suppliers = draw(0, 2) if small else draw(0, 5)
    consumers = draw(1, 2) if small else draw(0, 5)
    level = 1
    if suppliers == 0 and draw(0, 1):
        level = 0
    n_levels = 3 if consumers else 2
    slots = max(1, suppliers + consumers + draw(0, 1))
    n_days = draw(2, 4) if small else draw(2, 30)
    view = empty_view(1, slots, horizon + 1, 4)
    day = draw(0, n_days - 1)
    rich = bool(draw(0, 2)) if rich is None else rich
    set_all(
        view, n_days=n_days, n_rounds=draw(1, 20), level=level, n_levels=n_levels, n_lines=lines, unit_cost=draw(1, 4),
        n_suppliers=suppliers, n_consumers=consumers, conserving=draw(0, 1),
        perishable=int(horizon == 0 and draw(0, 1)),
        max_quantity=lines * (1 if small else draw(1, 3)), first_mover=draw(0, 1), day=day,
        last_lead=min(horizon, n_days - 1 - day), initial_balance=1000, stock=draw(0, 2 * lines) * draw(0, 1),
        balance=1e6 if rich else float(rng.integers(0, 60 * lines)) / 2, storage_rate=rng.uniform(0, 0.05),
        disposal_rate=0.0, shortfall_rate=rng.uniform(0.2, 1),
    )  # fmt: skip
    if view.perishable[0]:
        set_all(view, stock=0)
    if level == 0:
        set_all(view, exogenous_in=draw(0, 2 * lines), exogenous_in_cost=draw(0, 20 * lines))
    if n_levels == 2:
        set_all(view, exogenous_out=draw(0, lines), exogenous_out_revenue=draw(0, 20 * lines))
    for side, base in enumerate((draw(4, 20), draw(10, 40))):
        view.trading_price[0, side] = base + rng.uniform(0, 1)
        view.catalog_price[0, side] = base
        view.price_low[0, side] = max(1, int(0.9 * view.trading_price[0, side]))
        view.price_high[0, side] = int(1.1 * view.trading_price[0, side])
    _sign_contracts(view, rng, draw)
    view.exists[0, : suppliers + consumers] = True
    view.is_buy[0, :suppliers] = True
    round_now = draw(0, int(view.n_rounds[0]) - 1) if draw(0, 2) else int(view.n_rounds[0]) - 1
    for k in range(suppliers + consumers):
        _open_thread(view, k, rng, draw, round_now, pending)
    return view


def tight_view(seed: int) -> FactoryView:
    """A view whose money of today is short or nearly so: many lots to pay, some of them dearer than the agenda."""
    view = random_view(next(s for s in range(seed * 50, seed * 50 + 50) if _trades_today(s)), rich=False)
    rng = np.random.default_rng(seed)
    room = view.lot_quantity.shape[1]
    n = int(min(room, rng.integers(1, 6)))
    low, high = view.price_low[0, 0], view.price_high[0, 0]
    view.n_lots[0] = n
    view.lot_quantity[0, :n] = rng.integers(1, 8, size=n)
    view.lot_price[0, :n] = rng.integers(max(1, low - 2), high + 4, size=n)
    view.signed_in[0, 0] = view.lot_quantity[0, :n].sum()
    view.signed_cost[0, 0] = (view.lot_quantity[0, :n] * view.lot_price[0, :n]).sum()
    view.signed_out[0, 0] = rng.integers(0, view.n_lines[0] // 2 + 1)
    view.stock[0] = rng.integers(0, 4)
    view.unit_cost[0] = rng.integers(1, 9)
    view.balance[0] = float(rng.integers(0, 2 * view.signed_cost[0, 0] + 40)) / 1.5
    return view


def _trades_today(seed: int) -> bool:
    view = random_view(seed, rich=False)
    active = view.alive[0] & view.on_turn[0]
    return bool(view.level[0] == 1 and (active & view.is_buy[0]).sum() > 1 and not view.perishable[0])


def set_all(view: FactoryView, **values: float) -> None:
    """Writes scalars of factory 0."""
    for name, value in values.items():
        getattr(view, name)[0] = value


def _sign_contracts(view, rng, draw) -> None:
    lines, leads = int(view.n_lines[0]), int(view.last_lead[0]) + 1
    for d in range(leads):
        if view.level[0] > 0:
            for _ in range(draw(0, 2)):
                quantity, price = draw(1, int(view.max_quantity[0])), draw(3, 22)
                view.signed_in[0, d] += quantity
                view.signed_cost[0, d] += quantity * price
                if d == 0:
                    i = int(view.n_lots[0])
                    view.lot_quantity[0, i], view.lot_price[0, i] = quantity, price
                    view.n_lots[0] += 1
                if i_is_full(view):
                    break
        if view.level[0] < view.n_levels[0] - 1:
            sold = draw(0, lines + (draw(0, 9) == 0)) * draw(0, 1)
            view.signed_out[0, d] = sold
            view.signed_revenue[0, d] = sold * draw(10, 40)


def i_is_full(view: FactoryView) -> bool:
    return int(view.n_lots[0]) >= view.lot_quantity.shape[1]


def _open_thread(view, k, rng, draw, round_now, pending) -> None:
    side = 0 if view.is_buy[0, k] else 1
    largest = int(view.max_quantity[0])
    low, high = int(view.price_low[0, side]), int(view.price_high[0, side])

    def contract() -> tuple[int, int, int]:
        lead = draw(0, int(view.last_lead[0])) * draw(0, 1)
        return draw(1, largest), lead, draw(low, high)

    view.partner_bankrupt[0, k] = draw(0, 5) == 0
    view.alive[0, k] = draw(0, 5) > 0 and not view.partner_bankrupt[0, k]
    view.on_turn[0, k] = view.alive[0, k] and not (pending and draw(0, 1))
    view.round[0, k] = round_now
    mover = bool(view.first_mover[0])
    view.has_offer[0, k] = view.on_turn[0, k] and not (mover and round_now == 0)
    if view.has_offer[0, k]:
        view.offer_quantity[0, k], view.offer_lead[0, k], view.offer_price[0, k] = contract()
    if view.alive[0, k] and not view.on_turn[0, k] and draw(0, 3):
        view.pending[0, k] = True
    if view.pending[0, k] or draw(0, 1):
        view.sent[0, k] = True
        view.sent_quantity[0, k], view.sent_lead[0, k], view.sent_price[0, k] = contract()


def grid_of(view: FactoryView, rng: np.random.Generator) -> ActionGrid:
    """A grid for the view; price levels are at times fewer than the agenda's prices."""
    horizon, largest = view.signed_in.shape[1] - 1, int(view.max_quantity[0])
    return ActionGrid.covering(horizon, int(view.n_lines[0]), largest, int(rng.integers(1, 9)))
