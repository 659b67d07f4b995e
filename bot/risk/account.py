"""Our own money: wallet, equity, funding (strategy 7).

Equity is computed from fills, not from the exchange's account messages, because those may arrive before or after their fill and
would make equity jump: base + sum over symbols of (cash + quantity * last price - fees). Funding and transfers are added to the
base as they arrive, and the base is set to the exchange's wallet whenever both books are flat.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from bot.core.events import AccountUpdate
from bot.orders.state import ZERO, Ledger

FUNDING_FEE: Final = "FUNDING_FEE"
TRANSFERS: Final = frozenset(
    {
        "DEPOSIT",
        "WITHDRAW",
        "ADMIN_DEPOSIT",
        "ADMIN_WITHDRAW",
        "ASSET_TRANSFER",
        "COIN_SWAP_DEPOSIT",
        "COIN_SWAP_WITHDRAW",
    }
)
_CENT: Final = Decimal("0.00000001")
_KEPT: Final = 64  # account messages remembered to detect duplicates


@dataclass(slots=True)
class Account:
    """The wallet of the bot. Money in quote."""

    ledger: Ledger
    base: Decimal = ZERO
    last: dict[str, Decimal] = field(default_factory=dict)  # last price by symbol
    seen: list[tuple[int, str, Decimal, Decimal]] = field(default_factory=list)
    funding_paid: Decimal = ZERO
    kept: tuple[tuple[Decimal, int], Decimal] | None = None  # the wallet, cached until something is booked

    def update(self, event: AccountUpdate) -> Decimal:
        """Book a balance change without a trade and return the funding in it (positive = received)."""
        if event.reason == "ORDER" or not event.balance_change:
            return ZERO
        key = (event.at_ms, event.reason, event.balance_change, event.wallet)
        if key in self.seen:
            return ZERO
        self.seen.append(key)
        del self.seen[:-_KEPT]
        self.base += event.balance_change
        if event.reason != FUNDING_FEE:
            return ZERO
        self.funding_paid -= event.balance_change
        return event.balance_change

    @property
    def unrealised(self) -> Decimal:
        """Unrealised result at the last prices."""
        total, last = ZERO, self.last
        for symbol, holding in self.ledger.holdings.items():
            if holding.qty and symbol in last:
                total += holding.qty * last[symbol] - holding.cost
        return total

    @property
    def equity(self) -> Decimal:
        """Wallet plus the unrealised result."""
        return self.wallet + self.unrealised

    @property
    def wallet(self) -> Decimal:
        """The base plus the realised result of closed quantities, less fees."""
        key = (self.base, self.ledger.booked)
        if self.kept is None or self.kept[0] != key:
            realised = sum([h.cash + h.cost - h.fees for h in self.ledger.holdings.values()], ZERO)
            self.kept = (key, (self.base + realised).quantize(_CENT))
        return self.kept[1]

    def settle(self) -> None:
        """Add the result of closed positions to the base."""
        self.base += self.ledger.settle_cash()

    def sync(self, wallet: Decimal) -> Decimal:
        """Adopt the exchange's wallet while both books are flat; return the difference."""
        self.settle()
        difference = wallet - self.base
        self.base = wallet
        return difference
