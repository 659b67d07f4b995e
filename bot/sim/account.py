"""The account's money: wallet, one-way positions with isolated or cross margin, fees, funding and liquidation.

All amounts are Decimal, booked to 8 decimals, so that always `wallet = deposits + realized - fees - funding`. A
position's entry price is the average of its opening fills; closing releases isolated margin in proportion and books the
realized PnL at once. The liquidation price is the isolated-margin formula of venue notes 2.9: long
`(entry q - iw - cum) / (q (1 - mmr))`, short `(entry q + iw + cum) / (q (1 + mmr))`, with the tier of the position's
notional. Hedge mode, multi-asset mode and assets other than USDT are not modelled.
"""

from dataclasses import dataclass, field
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal
from typing import Final

from bot.sim.errors import Refused
from bot.sim.filters import SymbolRules

CENT: Final = Decimal("0.00000001")  # the exchange books 8 decimals
ZERO: Final = Decimal(0)


def booked(amount: Decimal) -> Decimal:
    """Round an amount to the 8 decimals that the exchange keeps."""
    return amount.quantize(CENT, rounding=ROUND_HALF_EVEN)


@dataclass(slots=True)
class VenuePosition:
    """One symbol's position and settings; `qty` is signed, `cost` is the entry value of the open quantity."""

    rules: SymbolRules
    qty: Decimal = ZERO
    cost: Decimal = ZERO
    isolated_wallet: Decimal = ZERO
    leverage: int = 20
    isolated: bool = False
    realized: Decimal = ZERO  # accumulated, before fees
    updated_ms: int = 0
    warned: bool = False  # MARGIN_CALL sent

    @property
    def sign(self) -> int:
        """+1 long, -1 short, 0 flat."""
        return (self.qty > 0) - (self.qty < 0)

    @property
    def entry(self) -> Decimal:
        """Average entry price; 0 when flat."""
        return (self.cost / abs(self.qty)).quantize(CENT) if self.qty else ZERO

    def notional(self, mark: Decimal) -> Decimal:
        """Return the signed notional at `mark`."""
        return self.qty * mark

    def unrealized(self, mark: Decimal) -> Decimal:
        """Return the unrealized PnL at `mark`, before fees."""
        return booked(self.qty * mark - self.sign * self.cost)

    def maintenance(self, mark: Decimal) -> Decimal:
        """Return the maintenance margin at `mark`."""
        notional = abs(self.qty) * mark
        tier = self.rules.tier(notional)
        return booked(max(ZERO, notional * tier.rate - tier.cum))

    def initial(self, mark: Decimal) -> Decimal:
        """Return the initial margin at `mark`."""
        return booked(abs(self.qty) * mark / self.leverage)

    def liquidation(self, mark: Decimal) -> Decimal:
        """Return the price at which margin falls to maintenance margin; 0 if flat or in cross margin."""
        if not self.qty or not self.isolated:
            return ZERO
        size = abs(self.qty)
        tier = self.rules.tier(size * mark)
        margin = self.sign * (self.isolated_wallet + tier.cum)
        price = (self.cost - margin) / (size * (1 - self.sign * tier.rate))
        return max(ZERO, price.quantize(CENT, rounding=ROUND_DOWN))


@dataclass(slots=True)
class Booking:
    """Realized PnL and fee of one fill."""

    realized: Decimal
    fee: Decimal


@dataclass(slots=True)
class VenueAccount:
    """Wallet and positions of the single user."""

    wallet: Decimal
    positions: dict[str, VenuePosition]
    deposits: Decimal = field(init=False)
    realized: Decimal = ZERO
    fees: Decimal = ZERO
    funding: Decimal = ZERO  # positive = paid

    def __post_init__(self) -> None:
        """Count the opening balance as a deposit."""
        self.deposits = self.wallet

    def fill(self, symbol: str, sign: int, *, qty: Decimal, price: Decimal, rate: Decimal, at_ms: int) -> Booking:
        """Book a fill: first close the opposite position, then open with the rest.

        Parameters
        ----------
        sign
            +1 for a buy, -1 for a sell.
        qty, price
            Base units, above 0, and quote units.
        rate
            Commission as a fraction of the notional.
        """
        p = self.positions[symbol]
        held = abs(p.qty)
        closing = min(held, qty) if p.sign == -sign else ZERO
        realized = ZERO
        if closing:
            cost = p.cost if closing == held else booked(p.cost * closing / held)
            realized = booked(p.sign * (price * closing - cost))
            p.isolated_wallet -= p.isolated_wallet if closing == held else booked(p.isolated_wallet * closing / held)
            p.cost -= cost
            p.qty += sign * closing
        opening = qty - closing
        if opening:
            p.cost += price * opening
            p.qty += sign * opening
            if p.isolated:
                p.isolated_wallet += booked(price * opening / p.leverage)
        fee = booked(qty * price * rate)
        p.realized += realized
        p.updated_ms = at_ms
        if not p.qty:
            p.warned = False
        self.realized += realized
        self.fees += fee
        self.wallet += realized - fee
        return Booking(realized, fee)

    def transfer(self, amount: Decimal) -> None:
        """Book a deposit or, if `amount` is negative, a withdrawal."""
        self.deposits += booked(amount)
        self.wallet += booked(amount)

    def charge(self, symbol: str, fee: Decimal) -> None:
        """Book a fee that is not a commission (liquidation)."""
        self.fees += fee
        self.wallet -= fee

    def pay_funding(self, symbol: str, rate: Decimal, *, mark: Decimal, at_ms: int) -> Decimal:
        """Settle funding of the open position and return the amount paid; longs pay a positive rate.

        Parameters
        ----------
        rate
            Fraction of the notional.
        mark
            Mark price at the funding time.
        """
        p = self.positions[symbol]
        paid = booked(p.notional(mark) * rate)
        if p.isolated:
            p.isolated_wallet -= paid
        p.updated_ms = at_ms
        self.funding += paid
        self.wallet -= paid
        return paid

    def move_margin(self, symbol: str, amount: Decimal, *, marks: dict[str, Decimal], reserved: Decimal) -> None:
        """Add `amount` to an isolated position's margin, or remove it if negative.

        Parameters
        ----------
        amount
            USDT.
        marks
            Mark prices by symbol.
        reserved
            Margin of open orders, USDT.

        Raises
        ------
        Refused
            -4054 without an isolated position, -2019 above the available balance, -4051 below the required margin.
        """
        p = self.positions[symbol]
        if not p.qty or not p.isolated:
            raise Refused(-4054)
        if amount > 0 and amount > self.available(marks, reserved):
            raise Refused(-2019)
        if amount < 0:
            floor = p.initial(marks[symbol]) - min(ZERO, p.unrealized(marks[symbol]))
            if p.isolated_wallet + amount < floor:
                raise Refused(-4051)
        p.isolated_wallet += booked(amount)

    @property
    def cross_wallet(self) -> Decimal:
        """The wallet without isolated margins."""
        return self.wallet - sum((p.isolated_wallet for p in self.positions.values()), ZERO)

    def unrealized(self, marks: dict[str, Decimal], *, cross_only: bool = False) -> Decimal:
        """Return the unrealized PnL of all (or only the cross) positions."""
        return sum(
            (p.unrealized(marks[s]) for s, p in self.positions.items() if p.qty and not (cross_only and p.isolated)),
            ZERO,
        )

    def cross_margin(self, marks: dict[str, Decimal], *, maintenance: bool = False) -> Decimal:
        """Return initial (or maintenance) margin of the cross positions."""
        cross = [(p, marks[s]) for s, p in self.positions.items() if p.qty and not p.isolated]
        return sum(((p.maintenance(m) if maintenance else p.initial(m)) for p, m in cross), ZERO)

    def available(self, marks: dict[str, Decimal], reserved: Decimal) -> Decimal:
        """Return the balance available for new orders; `reserved` is the margin of open orders."""
        free = self.cross_wallet + self.unrealized(marks, cross_only=True) - self.cross_margin(marks) - reserved
        return max(ZERO, free)

    def is_liquidated(self, symbol: str, marks: dict[str, Decimal]) -> bool:
        """Return whether the position's margin has fallen to maintenance margin."""
        p, mark = self.positions[symbol], marks[symbol]
        if not p.qty:
            return False
        if p.isolated:
            return p.isolated_wallet + p.unrealized(mark) <= p.maintenance(mark)
        balance = self.cross_wallet + self.unrealized(marks, cross_only=True)
        return balance <= self.cross_margin(marks, maintenance=True)

    def bankruptcy(self, symbol: str) -> Decimal:
        """Return the price at which the isolated margin (in cross margin: the cross wallet) is used up."""
        p = self.positions[symbol]
        margin = p.isolated_wallet if p.isolated else max(ZERO, self.cross_wallet)
        return max(ZERO, (p.cost - p.sign * margin) / abs(p.qty))
