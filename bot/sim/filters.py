"""Symbol rules: tick, lot, minimum notional, price bands and maintenance tiers; the embedded exchange's defaults.

Numbers are those of the live exchange in 2026 (venue notes 2.8 and 2.9); the ETH and SOL columns are partly older, so a
client reads them from exchangeInfo instead of assuming them. Inside the exchange prices are integer ticks and
quantities integer lots: comparisons are exact and money is computed from them in Decimal.
"""

import re
from dataclasses import dataclass, replace
from decimal import Decimal
from decimal import Decimal as D
from typing import Any, Final

from bot.core.types import Tier
from bot.sim.errors import Refused

NUMBER: Final = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?")
WHOLE: Final = re.compile(r"[0-9]{1,18}")  # ASCII only: "²".isdigit() is true, but int() rejects it


def _tiers(*rows: tuple[str, int, str, str]) -> tuple[Tier, ...]:
    return tuple(Tier(D(cap), leverage, D(rate), D(cum)) for cap, leverage, rate, cum in rows)


BTC_TIERS: Final = _tiers(
    ("300000", 150, "0.0040", "0"),
    ("800000", 100, "0.0050", "300"),
    ("3000000", 75, "0.0065", "1500"),
    ("12000000", 50, "0.0100", "12000"),
    ("70000000", 25, "0.0200", "132000"),
    ("100000000", 20, "0.0250", "482000"),
)
ETH_TIERS: Final = (
    *BTC_TIERS[:4],
    *_tiers(("50000000", 25, "0.0200", "132000"), ("65000000", 20, "0.0250", "382000")),
)
SOL_TIERS: Final = _tiers(
    ("50000", 100, "0.0050", "0"),
    ("400000", 75, "0.0065", "75"),
    ("1000000", 50, "0.0100", "1475"),
    ("4000000", 25, "0.0200", "11475"),
    ("8000000", 20, "0.0250", "31475"),
    ("40000000", 10, "0.05", "231475"),
)


@dataclass(frozen=True, slots=True)
class SymbolRules:
    """One symbol's filters and tiers; prices in quote, quantities in base units."""

    symbol: str
    tick: Decimal
    price_digits: int  # decimals of written prices; Binance's pricePrecision, not the tick
    step: Decimal
    qty_digits: int
    min_price: Decimal
    max_price: Decimal
    max_qty: Decimal
    market_max_qty: Decimal
    min_notional: Decimal
    tiers: tuple[Tier, ...]
    percent_up: Decimal = D("1.0500")
    percent_down: Decimal = D("0.9500")
    take_bound: Decimal = D("0.05")
    trigger_protect: Decimal = D("0.0500")
    liquidation_fee: Decimal = D("0.012500")
    tick_every: int = 1  # order prices are multiples of so many ticks; above 1 after the filter was made coarser
    step_every: int = 1
    status: str = "TRADING"

    @property
    def tick_size(self) -> Decimal:
        """Tick size of order prices."""
        return self.tick * self.tick_every

    @property
    def step_size(self) -> Decimal:
        """Step size of order quantities; also the minimum quantity."""
        return self.step * self.step_every

    @property
    def asset(self) -> str:
        """The base asset."""
        return self.symbol.removesuffix("USDT")

    def price(self, ticks: int) -> Decimal:
        """Return a price with the symbol's decimals.

        >>> DEFAULTS["BTCUSDT"].price(600001)
        Decimal('60000.10')
        """
        return (self.tick * ticks).quantize(D(1).scaleb(-self.price_digits))

    def qty(self, lots: int) -> Decimal:
        """Return a quantity with the symbol's decimals."""
        return (self.step * lots).quantize(D(1).scaleb(-self.qty_digits))

    def average(self, cost: int, lots: int) -> Decimal:
        """Return the average price of `lots` whose `cost` is in ticks x lots; 0 without lots."""
        return (self.tick * cost / lots).quantize(D(1).scaleb(-max(self.price_digits, 5))) if lots else D(0)

    def notional(self, cost: int) -> Decimal:
        """Return a cost in ticks x lots as money."""
        return self.tick * self.step * cost

    def tier(self, notional: Decimal) -> Tier:
        """Return the maintenance tier of a position's notional."""
        return next((tier for tier in self.tiers if notional <= tier.cap), self.tiers[-1])

    def cap(self, leverage: int) -> Decimal:
        """Return the largest notional that `leverage` allows."""
        return max((tier.cap for tier in self.tiers if tier.max_leverage >= leverage), default=D(0))

    def ticks(self, value: Decimal) -> int:
        """Validate a limit price and return it in ticks.

        Raises
        ------
        Refused
            -4001, -1111, -4013, -4002 or -4014: not positive, too precise, too low, too high or off the tick.
        """
        if value <= 0:
            raise Refused(-4001)
        if _decimals(value) > self.price_digits:
            raise Refused(-1111)
        if value < self.min_price:
            raise Refused(-4013)
        if value > self.max_price:
            raise Refused(-4002)
        if value % self.tick_size:
            raise Refused(-4014)
        return int(value / self.tick)

    def lots(self, value: Decimal, *, market: bool = False) -> int:
        """Validate a quantity and return it in lots.

        Raises
        ------
        Refused
            -4003, -1111, -4004, -4005 or -4023: not positive, too precise, too small, too large or off the step.
        """
        if value <= 0:
            raise Refused(-4003)
        if _decimals(value) > self.qty_digits:
            raise Refused(-1111)
        if value < self.step_size:
            raise Refused(-4004)
        if value > (self.market_max_qty if market else self.max_qty):
            raise Refused(-4005)
        if value % self.step_size:
            raise Refused(-4023)
        return int(value / self.step)

    def check_band(self, price: Decimal, mark: Decimal, *, buy: bool) -> None:
        """Reject a limit price too far beyond the mark (PERCENT_PRICE).

        Raises
        ------
        Refused
            -4016 if a buy is too high, -4024 if a sell is too low.
        """
        if buy and price > mark * self.percent_up:
            raise Refused(-4016, f"{(mark * self.percent_up).quantize(self.tick):f}")
        if not buy and price < mark * self.percent_down:
            raise Refused(-4024, f"{(mark * self.percent_down).quantize(self.tick):f}")

    def changed(self, *, tick: str = "", step: str = "", min_notional: str = "") -> "SymbolRules":
        """Return these rules with other filters.

        Inside the exchange prices and quantities are integer multiples of the recorded market's tick and lot, so
        filters can become coarser than those, and fine again, but never finer.

        Raises
        ------
        Refused
            -1130 if a filter is not a positive number, or not a multiple of the recorded tick or lot.

        >>> DEFAULTS["BTCUSDT"].changed(tick="0.50").tick_size
        Decimal('0.50')
        """
        every = {"tick_every": (tick, self.tick), "step_every": (step, self.step)}
        values: dict[str, Any] = {}
        for name, (text, unit) in every.items():
            if text:
                times = _positive(text) / unit
                if times != int(times) or times < 1:
                    raise Refused(-1130, text=f"{name[:4]} {text} of {self.symbol} must be a multiple of {unit:f}")
                values[name] = int(times)
        if min_notional:
            values["min_notional"] = _positive(min_notional)
        return replace(self, **values)

    def exchange_info(self) -> dict[str, Any]:
        """Return the symbol's exchangeInfo object."""
        step, tick = f"{self.step_size:f}", f"{self.tick_size.quantize(D(1).scaleb(-self.price_digits)):f}"
        filters: list[dict[str, Any]] = [
            {"filterType": "PRICE_FILTER", "minPrice": f"{self.min_price:f}", "maxPrice": f"{self.max_price:f}",
             "tickSize": tick},
            {"filterType": "LOT_SIZE", "minQty": step, "maxQty": f"{self.max_qty:f}", "stepSize": step},
            {"filterType": "MARKET_LOT_SIZE", "minQty": step, "maxQty": f"{self.market_max_qty:f}", "stepSize": step},
            {"filterType": "MAX_NUM_ORDERS", "limit": 200},
            {"filterType": "MIN_NOTIONAL", "notional": f"{self.min_notional:f}"},
            {"filterType": "PERCENT_PRICE", "multiplierUp": f"{self.percent_up:f}",
             "multiplierDown": f"{self.percent_down:f}", "multiplierDecimal": "4"},
            {"filterType": "POSITION_RISK_CONTROL", "positionControlSide": "NONE"},
        ]  # fmt: skip
        return {
            "symbol": self.symbol,
            "pair": self.symbol,
            "contractType": "PERPETUAL",
            "deliveryDate": 4133404800000,
            "onboardDate": 1569398400000,
            "status": self.status,
            "maintMarginPercent": "2.5000",
            "requiredMarginPercent": "5.0000",
            "baseAsset": self.asset,
            "quoteAsset": "USDT",
            "marginAsset": "USDT",
            "pricePrecision": self.price_digits,
            "quantityPrecision": self.qty_digits,
            "baseAssetPrecision": 8,
            "quotePrecision": 8,
            "underlyingType": "COIN",
            "underlyingSubType": [],
            "triggerProtect": f"{self.trigger_protect:f}",
            "liquidationFee": f"{self.liquidation_fee:f}",
            "marketTakeBound": f"{self.take_bound:f}",
            "maxMoveOrderLimit": 10000,
            "filters": filters,
            "orderTypes": ["LIMIT", "MARKET", "STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET",
                           "TRAILING_STOP_MARKET"],
            "timeInForce": ["GTC", "IOC", "FOK", "GTX", "GTD"],
            "permissionSets": ["GRID", "COPY"],
        }  # fmt: skip

    def brackets(self) -> dict[str, Any]:
        """Return the symbol's leverageBracket object: numbers, not strings."""
        rows, floor = [], D(0)
        for number, tier in enumerate(self.tiers, start=1):
            rows.append(
                {
                    "bracket": number,
                    "initialLeverage": tier.max_leverage,
                    "notionalCap": int(tier.cap),
                    "notionalFloor": int(floor),
                    "maintMarginRatio": float(tier.rate),
                    "cum": float(tier.cum),
                }
            )
            floor = tier.cap
        return {"symbol": self.symbol, "brackets": rows}


def _decimals(value: Decimal) -> int:
    exponent = value.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 99


def _positive(text: str) -> Decimal:
    if not NUMBER.fullmatch(text) or D(text) <= 0:
        raise Refused(-1130, text=f"a filter must be a positive number, not {text!r}")
    return D(text)


def number(params: dict[str, str], name: str, *, required: bool = False) -> Decimal | None:
    """Parse a decimal parameter; None if absent. Exponents are rejected: Binance takes plain digits only.

    Raises
    ------
    Refused
        -1102 if it is required and absent, -1100 if it is malformed.
    """
    text = params.get(name)
    if text is None or text == "":
        if required:
            raise Refused(-1102, name)
        return None
    if not NUMBER.fullmatch(text):
        raise Refused(-1100, name)
    return D(text)


def _rules(
    symbol: str, tick: str, digits: int, step: str, lots: int, *limits: str, tiers: tuple[Tier, ...]
) -> SymbolRules:
    low, high, most, market, notional = map(D, limits)
    return SymbolRules(symbol, D(tick), digits, D(step), lots, low, high, most, market, notional, tiers)


DEFAULTS: Final[dict[str, SymbolRules]] = {
    rules.symbol: rules
    for rules in (
        _rules("BTCUSDT", "0.10", 2, "0.001", 3, "556.80", "4529764", "1000", "120", "50", tiers=BTC_TIERS),
        _rules("ETHUSDT", "0.01", 2, "0.001", 3, "39.86", "306177", "10000", "2000", "20", tiers=ETH_TIERS),
        _rules("SOLUSDT", "0.01", 4, "0.01", 2, "0.4200", "6857", "1000000", "5000", "5", tiers=SOL_TIERS),
    )
}


def rules_for(symbol: str, price: float) -> SymbolRules:
    """Return a symbol's rules: the defaults, or generic ones with a tick of about 1/10,000 of `price`.

    >>> rules_for("XUSDT", 0.5).tick, rules_for("XUSDT", 250.0).step
    (Decimal('0.00001'), Decimal('0.001'))
    """
    if symbol in DEFAULTS:
        return DEFAULTS[symbol]
    magnitude = D(repr(price)).adjusted()
    tick = D(1).scaleb(min(-1, magnitude - 4))
    step = D(1).scaleb(min(0, magnitude - 5)) if price >= 1 else D(1)
    digits = max(0, -int(tick.as_tuple().exponent))
    lots = max(0, -int(step.as_tuple().exponent))
    return SymbolRules(
        symbol, tick, digits, step, lots, tick, tick * 10**9, step * 10**9, step * 10**8, D(5), SOL_TIERS
    )
