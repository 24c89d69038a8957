"""The slow twin of L1: the formulas of SAFETY.md, one cell at a time, in plain Python on lists. Nothing incremental."""

import math

from scml_marl_env.view import FIELDS

OFF, FEASIBLE, COVERED = 0, 1, 2
WAIT, END, ACCEPT, OFFER = 0, 1, 2, 3
SHARES = 1024


class Slow:
    """One factory of a view as Python numbers and lists, and every rule about it."""

    def __init__(self, view, b=0):
        for name in FIELDS:
            setattr(self, name, getattr(view, name)[b].tolist())
        self.n, self.leads, self.slots = self.n_lines, len(self.signed_in), len(self.exists)
        self.arrivals = [q + (self.exogenous_in if d == 0 else 0) for d, q in enumerate(self.signed_in)]
        self.due = [q + (self.exogenous_out if d == 0 else 0) for d, q in enumerate(self.signed_out)]
        self.conserves = bool(self.conserving) and not self.perishable
        self.floor = math.floor(self.balance)

    # which threads

    def active(self, k):
        return self.alive[k] and self.on_turn[k]

    def open_offer(self, k):
        return self.alive[k] and self.pending[k] and not self.on_turn[k]

    def pending_contracts(self, buying):
        return [
            (self.sent_lead[k], self.sent_quantity[k], self.sent_price[k])
            for k in range(self.slots)
            if self.open_offer(k) and self.is_buy[k] == buying
        ]

    def hope(self, k):
        """The most that thread k can bring today, case by case."""
        if not self.alive[k] or not self.is_buy[k]:
            return 0
        goes_on = self.round[k] < self.n_rounds - 1
        if goes_on:
            return self.max_quantity
        if self.on_turn[k] and self.first_mover:
            return self.max_quantity  # our offer is answered in this very round
        if self.on_turn[k]:
            return self.offer_quantity[k] if self.has_offer[k] and self.offer_lead[k] == 0 else 0
        if not self.pending[k]:
            return self.max_quantity
        return self.sent_quantity[k] if self.first_mover and self.sent_lead[k] == 0 else 0

    # sales

    def sale_ok(self, grade, lead, quantity, others=(), hoped=None):
        """Whether a sale is within its room when `others`, (lead, quantity) pairs, may come true as well."""
        hoped = sum(self.hope(k) for k in range(self.slots)) if hoped is None else hoped
        sold = list(self.due)
        for d, q in [*others, (lead, quantity)]:
            sold[d] += q
        if grade == FEASIBLE:
            kappa = min(self.n, self.stock + self.arrivals[0] + hoped) if lead == 0 else self.n
            return sold[lead] <= kappa and (self.supplied() or not self.strands(sold, hoped))
        if lead == 0 and sold[0] > min(self.n, self.usable([])):
            return False
        if self.conserves:
            net, total = [], self.stock
            for d in range(self.leads):
                total += self.arrivals[d] - sold[d]
                net.append(total)
            return sold[lead] <= self.n and min(net[lead:]) >= 0
        if self.perishable:
            there = self.arrivals[lead] + (self.stock if lead == 0 else 0)
        else:
            there = self.stock + self.arrivals[lead] + sum(max(0, a - self.n) for a in self.arrivals[:lead])
        return sold[lead] <= min(self.n, there)

    def supplied(self):
        suppliers = (k for k in range(self.slots) if self.exists[k] and self.is_buy[k])
        return self.level == 0 or any(not self.partner_bankrupt[k] for k in suppliers)

    def shortfalls(self, sold, hoped):
        stock, out = self.stock, []
        for d in range(self.leads):
            arrives = self.arrivals[d] + (hoped if d == 0 else 0)
            made = min(self.n, stock + arrives, sold[d])
            out.append(sold[d] - made)
            stock = 0 if self.perishable else stock + (arrives - made if self.conserves else max(0, arrives - made))
        return out

    def strands(self, sold, hoped):
        return any(a > b for a, b in zip(self.shortfalls(sold, hoped), self.shortfalls(self.due, hoped), strict=True))

    # money

    def payment(self, extra):
        """SCML's loop: (items, affordable items, paid, enough) with `extra` (price, quantity) lots signed last."""
        pool = self.stock + self.exogenous_in
        lots = list(zip(self.lot_price[: self.n_lots], self.lot_quantity[: self.n_lots], strict=True))
        lots += [*extra, (self.exogenous_in_cost / pool if pool else 0, pool)]
        pin, qin, usable, broke = 0, 0, 0, self.balance < 0
        for price, quantity in sorted(lots, key=lambda lot: lot[0]):
            if not broke and pin + price * quantity + quantity * self.unit_cost > self.balance:
                usable, broke = qin + int((self.balance - pin) // (price + self.unit_cost)), True
            pin += price * quantity
            qin += quantity
        return qin, qin if not broke else usable, pin, not broke

    def usable(self, extra):
        return self.payment(extra)[1]

    def today_ok(self, price, quantity, sold=None):
        sold = self.due[0] if sold is None else sold
        _, usable, _, enough = self.payment([])
        _, then, _, enough_then = self.payment([(price, quantity)])
        limit = min(self.n, sold)
        return not (enough and not enough_then) and min(then, limit) >= min(usable, limit)

    def left(self, grade):
        """Dollars that all purchases due until each lead time may cost together, and how storage is charged."""
        if grade == FEASIBLE and self.level == self.n_levels - 1:
            return [math.inf] * self.leads, 0
        start = self.balance - self.exogenous_in_cost
        if grade == FEASIBLE:
            best, tp = self.price_high[1], self.trading_price[1]
            growth = max(1.0, (best + 1) / tp) if tp > 0 else 1.0
            revenue = [self.n * best * growth**d + self.signed_revenue[d] for d in range(self.leads)]
            left = [start - sum(self.signed_cost[: d + 1]) + sum(revenue[:d]) for d in range(self.leads)]
            return [math.inf, *left[1:]], 0
        keep = self.trading_price[0] * (self.storage_rate + self.disposal_rate)
        production = self.n * self.unit_cost
        left = []
        for d in range(self.leads):
            held = [
                (0 if self.perishable and t > 0 else self.stock)
                + sum(self.arrivals[(t if self.perishable else 0) : t + 1])
                for t in range(d)
            ]
            upkeep = d * production + sum(keep * h for h in held)
            left.append(start - sum(self.signed_cost[: d + 1]) - upkeep - (production if d > 0 else 0))
        return left, math.ceil(keep * SHARES / max(1, self.price_low[0]))

    def budget_ok(self, grade, lead, cost, others=()):
        """Whether a purchase leaves enough for its own day and every later day that pays; `others`: (lead, cost)."""
        left, storage = self.left(grade)
        for k in range(lead, self.leads):
            due = grade == COVERED and k > 0 and self.signed_cost[k] + self.signed_out[k] > 0
            if not (k == lead or due or any(d == k and c > 0 for d, c in others)) or left[k] == math.inf:
                continue
            weight = sum(c * (SHARES + storage * (k - d)) for d, c in [*others, (lead, cost)] if d <= k)
            if weight > SHARES * math.floor(left[k] + 1e-9):
                return False
        return True

    def lots_ok(self, price, quantity, others, sold):
        """Whether a lot for today fits beside `others`, (price, quantity) pairs that may come true."""
        if not others:
            return self.today_ok(price, quantity, sold)
        lots = [*others, (price, quantity)]
        signed = self.lot_quantity[: self.n_lots] + ([self.stock + self.exogenous_in] if self.exogenous_in_cost else [])
        paid = self.signed_cost[0] + self.exogenous_in_cost + sum(p * q for p, q in lots)
        return paid + self.unit_cost * max([*signed, *(q for _, q in lots)]) <= self.floor

    def useful_most(self, lead):
        stock, last = self.stock, self.n_days - self.day - 1
        if self.conserves:
            arrivals = [a + (self.stock if d == 0 else 0) for d, a in enumerate(self.arrivals)]
            return max(0, min(self.n * (last + 1 - k) - sum(arrivals[k:]) for k in range(lead + 1)))
        if self.perishable:
            return max(0, self.n - self.arrivals[lead] - (stock if lead == 0 else 0))
        stock += sum(max(0, a - self.n) for a in self.arrivals[:lead])
        wanted = self.n if lead == last else 2 * self.n
        return 0 if stock >= self.n else max(0, wanted - stock - self.arrivals[lead])

    # one answer, alone

    def offer_ok(self, k, grade, useful, lead, quantity, price):
        """Whether a contract is within what its grade allows, alone."""
        if lead > self.last_lead or quantity > self.max_quantity:
            return False
        if not self.is_buy[k]:
            return grade == OFF or self.sale_ok(grade, lead, quantity)
        if useful and quantity > self.useful_most(lead):
            return False
        if grade == OFF:
            return True
        others = [(d, q * p) for d, q, p in self.pending_contracts(True)] if grade == COVERED else []
        if not self.budget_ok(grade, lead, quantity * price, others):
            return False
        return lead > 0 or self.today_ok(price, quantity)

    def cell_ok(self, k, grade, useful, lead, quantity, price):
        """The same for an offer: no smaller quantity may be forbidden (the compact form of the bounds)."""
        return all(self.offer_ok(k, grade, useful, lead, q, price) for q in range(1, quantity + 1))

    def accept_ok(self, k, grade, useful):
        if not self.has_offer[k]:
            return False
        return self.offer_ok(k, grade, useful, self.offer_lead[k], self.offer_quantity[k], self.offer_price[k])

    def agenda(self, k):
        side = 0 if self.is_buy[k] else 1
        low, high = self.price_low[side], self.price_high[side]
        return (low, 1, high - low + 1) if side == 0 else (high, -1, high - low + 1)

    def action_ok(self, k, grade, useful, grid, action):
        """The flat mask, one bit at a time."""
        if not self.active(k):
            return action == WAIT
        operation, lead, quantity, level = grid.decode(action)
        if operation in (WAIT, END):
            return operation == END
        if operation == ACCEPT:
            return self.accept_ok(k, grade, useful)
        best, sign, n_prices = self.agenda(k)
        if level >= n_prices:
            return False
        return self.cell_ok(k, grade, useful, lead, quantity, grid.price(level, n_prices, best, sign))


# one window, together


def slow_settle(slow, grid, grade, useful, action, priority):
    """(executed, reason) by the definition: everything is recomputed from the list of what may come true."""
    executed = [WAIT] * slow.slots
    reason = ["ok"] * slow.slots
    for k in range(slow.slots):
        if slow.active(k):
            executed[k] = _nearest(
                slow, grid, k, action[k], lambda k, answer: _legal(slow, grid, grade, useful, k, answer)
            )
        if executed[k] != action[k]:
            reason[k] = "illegal"
    if grade == OFF:
        return executed, reason
    for buying in (True, False):
        mine = [k for k in range(slow.slots) if slow.active(k) and slow.is_buy[k] == buying]
        order = sorted((k for k in mine if executed[k] == ACCEPT), key=lambda k: (-priority[k], k))
        order += [k for k in mine if executed[k] >= OFFER]
        settled = []
        for k in order:

            def fits(k, answer, settled=tuple(settled), buying=buying):
                return _legal(slow, grid, grade, useful, k, answer) and _fits(
                    slow, grid, grade, executed, settled, buying, contract(slow, grid, k, answer)
                )

            chosen = executed[k]
            executed[k] = _nearest(slow, grid, k, chosen, fits)
            if reason[k] == "ok" and executed[k] != chosen:
                reason[k] = _why(grid, chosen, executed[k])
            if executed[k] != END:
                settled.append(contract(slow, grid, k, executed[k]))
    return executed, reason


def contract(slow, grid, k, action):
    """(lead, quantity, price) that an answer may bring, or None."""
    if action == ACCEPT:
        return slow.offer_lead[k], slow.offer_quantity[k], slow.offer_price[k]
    if action < OFFER:
        return None
    _, lead, quantity, level = grid.decode(action)
    best, sign, n_prices = slow.agenda(k)
    return lead, quantity, grid.price(level, n_prices, best, sign)


def _legal(slow, grid, grade, useful, k, answer):
    return slow.action_ok(k, grade, useful, grid, answer)


def _fits(slow, grid, grade, executed, settled, buying, new):
    others = [*slow.pending_contracts(buying), *settled]
    lead, quantity, price = new
    if not buying:
        hoped = sum(hope_after(slow, grid, k, executed[k]) for k in range(slow.slots))
        return slow.sale_ok(grade, lead, quantity, [(d, q) for d, q, _ in others], hoped)
    if not slow.budget_ok(grade, lead, quantity * price, [(d, q * p) for d, q, p in others]):
        return False
    sold = slow.due[0] + sum(q for d, q, _ in slow.pending_contracts(False) if d == 0)
    for k in range(slow.slots):
        answer = contract(slow, grid, k, executed[k]) if slow.active(k) and not slow.is_buy[k] else None
        sold += answer[1] if answer and answer[0] == 0 else 0
    return lead > 0 or slow.lots_ok(price, quantity, [(p, q) for d, q, p in others if d == 0], sold)


def hope_after(slow, grid, k, answer):
    """What buy thread k can bring today in the worst case over our offers' fates: the least over both."""
    if not slow.alive[k] or not slow.is_buy[k]:
        return 0
    goes_on = slow.round[k] < slow.n_rounds - 1
    if slow.on_turn[k]:
        offer = contract(slow, grid, k, answer)
        if answer == ACCEPT:
            return offer[1] if offer[0] == 0 else 0
        if offer is None:
            return 0
    elif slow.pending[k]:
        offer = (slow.sent_lead[k], slow.sent_quantity[k])
    else:
        return slow.hope(k)
    accepted = offer[1] if offer[0] == 0 else 0
    refused = slow.max_quantity if goes_on else 0
    return min(accepted, refused)


def _nearest(slow, grid, k, action, allowed):
    """The answer itself if it is allowed, else the nearest that is: same day, then other days; else END."""
    if action == END or not WAIT < action < grid.n_actions or (action == ACCEPT and not slow.has_offer[k]):
        return END
    if allowed(k, action):
        return action
    best, sign, n_prices = slow.agenda(k)
    if action == ACCEPT:
        lead, quantity, price = slow.offer_lead[k], slow.offer_quantity[k], slow.offer_price[k]
        level = grid.nearest_level(price, n_prices, best, sign)
    else:
        _, lead, quantity, level = grid.decode(action)
        level = min(level, n_prices - 1)
    lead = min(lead, slow.last_lead)
    for d in sorted(range(slow.last_lead + 1), key=lambda d: (abs(d - lead), -d)):
        for q in sorted((q for q in grid.quantities if q <= quantity), reverse=True):
            if allowed(k, grid.encode(OFFER, d, q, level)):
                return grid.encode(OFFER, d, q, level)
    return END


def _why(grid, chosen, executed):
    if executed == END:
        return "ended"
    if chosen == ACCEPT:
        return "countered"
    return "shrunk" if grid.decode(chosen)[1] == grid.decode(executed)[1] else "moved"
