"""The latest state of venue and market: instruments, prices, funding, leverage, closed bars, lost streams."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from bot.config import Config
from bot.core.events import Funding, Quotes
from bot.core.types import Instrument, Quote, Round, Side, to_decimal
from bot.hedge.hedger import LegMarket
from bot.strategy.rules import column
from bot.strategy.series import Series

BASE_MS: Final = 180_000
FRESH_MS: Final = 2_000  # an older price cannot decide whether a stop is already passed
GUARD_DISTANCE: Final = Decimal("0.01")  # fraction of the price, where no extreme is known


@dataclass(slots=True)
class MarketState:
    """The latest external state. Times in exchange ms."""

    config: Config
    now: int = 0  # the largest exchange time seen
    instruments: dict[str, Instrument] = field(default_factory=dict)
    largest: dict[str, int] = field(default_factory=dict)  # largest leverage that a symbol's tiers allow
    quotes: dict[str, tuple[Quote, int]] = field(default_factory=dict)
    prices: dict[str, tuple[Decimal, int]] = field(default_factory=dict)  # freshest price of any kind, and its time
    funding: dict[str, Funding] = field(default_factory=dict)
    leverage: dict[str, int] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)  # streams without data, and why
    series: dict[str, Series] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Create an empty series for each symbol."""
        config = self.config
        self.series = {s: Series(config.hedge.length + 2, config.data.max_gap_bars) for s in config.data.symbols}

    def take_instruments(self, told: dict[str, Instrument]) -> None:
        """Replace the instruments by those that the venue reported."""
        self.instruments.clear()
        self.instruments.update(told)
        self.largest = {s: max(t.max_leverage for t in i.tiers) for s, i in told.items() if i.tiers}

    def take_quotes(self, event: Quotes) -> None:
        """Store the latest best prices."""
        for symbol, quote in event.quotes:
            self.quotes[symbol] = (quote, event.at_ms)
            self.take_price(symbol, (quote.bid + quote.ask) / 2, event.at_ms)

    def take_price(self, symbol: str, price: Decimal, at_ms: int) -> None:
        """Store a price of any kind if it is not older than the known one."""
        last = self.prices.get(symbol)
        if last is None or at_ms >= last[1]:
            self.prices[symbol] = (price, at_ms)

    def price(self, symbol: str) -> Decimal | None:
        """Return the price if it is fresh enough to decide whether a stop is passed."""
        last = self.prices.get(symbol)
        return last[0] if last and self.now - last[1] <= FRESH_MS else None

    def quote(self, symbol: str) -> Quote | None:
        """Return the best prices if they are not older than `entry.max_data_age_ms`."""
        last = self.quotes.get(symbol)
        return last[0] if last and self.now - last[1] <= self.config.entry.max_data_age_ms else None

    def wanted_leverage(self, symbol: str, leverage: int) -> int:
        """Return the leverage in force, or the symbol's largest if that is less."""
        return min(leverage, self.largest.get(symbol, leverage))

    def leg_market(self, symbol: str, last: Decimal | None, leverage: int) -> LegMarket | None:
        """Return the market data for opening a hedge leg; None before its first bar."""
        row, instrument = self.series[symbol].row, self.instruments.get(symbol)
        if row is None or instrument is None:
            return None
        return LegMarket(
            instrument,
            self.quote(symbol),
            last,
            column(row, "pac_supply_top"),
            column(row, "pac_demand_bottom"),
            column(row, "highest50"),
            column(row, "lowest50"),
            column(row, "atr14"),
            self.leverage.get(symbol) == self.wanted_leverage(symbol, leverage),
        )

    def guard_level(self, symbol: str, side: Side, last: Decimal) -> Decimal:
        """Return the stop of an unexplained position: beyond the extreme of the look-back, else 1 % away."""
        row, level = self.series[symbol].row, last * (1 - side.sign * GUARD_DISTANCE)
        if row is not None:
            edge = column(row, "lowest50" if side is Side.LONG else "highest50")
            beyond = edge - side.sign * self.config.hedge.stop_atr * column(row, "atr14")
            if side.sign * (float(last) - beyond) > 0:
                level = to_decimal(beyond)
        return self.instruments[symbol].price(level, Round.DOWN if side is Side.LONG else Round.UP)
