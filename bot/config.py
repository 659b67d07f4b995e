"""The pydantic models of `config.toml`: every setting with its range and meaning, frozen; `parse` does no IO.

Rates are plain fractions (0.0004 = 0.04 %), times have their unit in the name, lengths are in bars. An invalid value
raises one sentence with the key, the value, the allowed range and, for a misspelt key, the nearest valid one.
"""

import difflib
import re
import tomllib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from bot.core.errors import ConfigError

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Level = Annotated[int, Field(ge=1, le=5)]
HOUR_MINUTE = r"^([01]\d|2[0-3]):[0-5]\d$"


class Section(BaseModel):
    """Base of all sections: frozen; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Smc(Section):
    """Smart Money Concepts."""

    internal_length: int = Field(5, ge=2, le=50, description="bars to confirm an internal pivot")
    swing_length: int = Field(50, ge=5, le=100, description="bars to confirm a swing pivot")
    equal_length: int = Field(3, ge=1, le=50, description="bars to confirm an equal high or low")
    equal_threshold: float = Field(0.1, ge=0, le=0.5, description="largest distance of equal highs, in ATR 200")
    order_block_mitigation: Literal["close", "high_low"] = Field("close", description="what removes an order block")
    order_block_filter: Literal["atr", "range"] = Field("atr", description="ATR 200 or cumulative mean range")
    confluence_filter: bool = Field(False, description="internal breaks need a wick on their side")
    fvg_auto_threshold: bool = Field(True, description="gaps need a body above twice the mean body")


class Pac(Section):
    """Price Action Concepts."""

    structure_length: int = Field(5, ge=2, le=49, description="bars to confirm an internal pivot")
    order_block_length: int = Field(5, ge=2, le=49, description="swing look-back of volumetric blocks, bars")
    break_source: Literal["close", "ohlc4"] = Field("ohlc4", description="price that breaks pivots and trend lines")
    show: int = Field(5, ge=1, le=10, description="displayed blocks a side; only these can be hit")
    block_life: Literal["plain", "breaker"] = Field(
        "breaker", description="a block that price goes through is gone, or stays as a breaker"
    )
    mitigation: Literal["close", "wick", "average"] = Field("close", description="what removes a block")
    average_source: Literal["wick", "close"] = Field("wick", description="what has to cross the mid for average")
    hide_overlap: Literal["both", "same", "off"] = Field("off", description="which overlapped older blocks go")
    split: Literal["candle", "clv", "flux3", "taker"] = Field("candle", description="buy share of a bar's volume")
    zone_cap_atr200: float = Field(0.0, ge=0, le=10, description="cap of a zone's height in ATR 200; 0 = none")
    rank_window: int = Field(100, ge=20, le=500, description="blocks that a block's volume is ranked among")
    grab_min_wick_body: float = Field(0.0, ge=0, le=10, description="smallest wick to body ratio of a grab")
    grab_cooldown: int = Field(0, ge=0, le=100, description="bars between two grabs of a side")
    equal_length: int = Field(3, ge=1, le=20, description="bars to confirm a short-term equal high or low")
    equal_threshold: float = Field(0.1, ge=0, le=0.5, description="largest distance of equal highs, in ATR 200")
    fvg_threshold: float = Field(1.2, ge=0, le=10, description="smallest size of a gap by fvg_measure; 0 = any")
    fvg_measure: Literal["gap", "body"] = Field(
        "body", description="what is measured: the gap in ATR 200, or the middle body in ATR 14"
    )
    fvg_mitigation: Literal["close", "wick", "average", "none"] = Field("close", description="what removes a gap")
    breakers: bool = Field(False, description="keep mitigated blocks as breakers of the other side")
    trend_line_length: int = Field(0, ge=0, le=49, description="bars to confirm a trend line's pivots; 0 = off")


class Oscillator(Section):
    """Oscillator Matrix."""

    money_flow_length: int = Field(35, ge=2, le=200, description="look-back of money flow, bars")
    money_flow_smooth: int = Field(6, ge=1, le=50, description="smoothing of money flow, bars")
    money_flow_weight: float = Field(0.4, ge=0, le=1, description="share of MFI against CMF")
    overflow_volume_ratio: float = Field(1.2, ge=0, le=10, description="relative volume that an overflow needs")
    overflow_side: Literal["both", "same_side"] = Field("both", description="which overflow forbids an entry")
    hyperwave_length: int = Field(7, ge=2, le=100, description="RSI length of HyperWave, bars")
    hyperwave_inner: int = Field(3, ge=1, le=20, description="inner smoothing of HyperWave, bars")
    hyperwave_source: Literal["ohlc4", "close"] = Field("ohlc4", description="price that HyperWave reads")
    hyperwave_smoothing: Literal["off", "super"] = Field("super", description="filter of the price before the RSI")
    hyperwave_smoothing_length: int = Field(3, ge=2, le=50, description="period of that filter, bars")
    hyperwave_average: Literal["sma", "ema", "rma"] = Field("ema", description="kind of the inner smoothing")
    signal_length: int = Field(3, ge=1, le=20, description="length of the signal line, bars")
    signal_average: Literal["sma", "ema"] = Field("ema", description="kind of the signal line")
    big_dot_edge: float = Field(25.0, ge=5, le=49, description="points from 50 beyond which a cross is a big dot")
    divergence_sensitivity: int = Field(20, ge=1, le=45, description="per cent; lower = fewer, longer-term")
    divergence_prominence: float = Field(32.0, ge=10, le=60, description="points an extremum stands out by, at 0 %")
    reversal_factor: int = Field(5, ge=1, le=10, description="higher = fewer reversals")
    reversal_major: Literal["cross", "volume"] = Field("volume", description="what makes a reversal a major one")
    confluence_hyperwave: Literal["50", "signal"] = Field("50", description="what HyperWave is compared with")
    confluence_money_flow: Literal["50", "threshold"] = Field("50", description="what money flow is compared with")


class Overlays(Section):
    """Signals & Overlays."""

    sensitivity: float = Field(12.0, ge=1, le=50, description="confirmation signals: higher = fewer, longer-term")
    autopilot: Literal["off", "short", "mid", "long"] = Field("off", description="cycle that sets the sensitivity")
    classifier: Literal["spec", "learned"] = Field("spec", description="who rates a signal 1 to 4")
    smart_trail: Level = Field(3, description="setting 1 to 5, higher = longer-term")
    trend_tracer: Level = Field(3, description="setting 1 to 5, higher = longer-term")
    trend_catcher: Level = Field(3, description="setting 1 to 5, higher = longer-term")
    neo_cloud: Level = Field(3, description="setting 1 to 5, higher = longer-term")
    confirmation_least: float = Field(
        0.25, ge=0.1, le=1, description="least of the five factors; the next are 0.25 apart"
    )
    confirmation_pace: float = Field(0.1, gt=0, le=1, description="share of the way to the best factor walked on a bar")
    confirmation_crossed: Literal["up", "turn"] = Field("turn", description="side of a close beyond both bands")
    confirmation_repeat: Literal["none", "turned"] = Field("none", description="signal again when turning strong")
    strong_length: int = Field(120, ge=10, le=400, description="average of strong signals and of the rating, bars")
    exit_rule: Literal["leaving", "entering"] = Field("entering", description="what momentum does at its extreme")
    exit_length: int = Field(14, ge=2, le=50, description="RSI behind the exits, bars")
    exit_level: float = Field(20.0, ge=5, le=45, description="extremes from 50: with 20 they are 70 and 30")
    tracer_factor: float = Field(8.0, ge=1, le=20, description="mean steps to the line of the Tracer at setting 3")
    catcher_length: int = Field(25, ge=12, le=54, description="bars at setting 3; 5 more or fewer a setting")
    catcher_pace: Literal["squared", "plain"] = Field("plain", description="how efficiency makes the Catcher's pace")
    catcher_fast: float = Field(2.0, ge=1, le=10, description="bars of the Catcher's average in a clean move")
    catcher_slow: float = Field(45.0, ge=10, le=300, description="bars of the Catcher's average in pure noise")
    catcher_band: float = Field(0.16, ge=0, le=1, description="dead band of the Catcher's slope, ATR 14")
    cloud_stretch: float = Field(5.0, ge=1, le=12, description="times the lengths of the Neo Cloud")
    cloud_width: float = Field(3.0, ge=0.5, le=6, description="times the ATR multiples of the Neo Cloud")


class SupertrendAi(Section):
    """SuperTrend AI (clustering)."""

    atr_length: int = Field(10, ge=1, le=100, description="bars")
    factor_min: float = Field(1.0, ge=0, le=20, description="smallest ATR factor")
    factor_max: float = Field(3.0, ge=0, le=20, description="largest ATR factor")
    factor_step: float = Field(0.5, gt=0, le=10, description="step between factors; at most 41 factors")
    memory: float = Field(10.0, ge=2, le=500, description="performance memory, bars")
    cluster: Literal["best", "average", "worst"] = Field("best", description="cluster whose factors are used")
    max_data: int = Field(0, ge=0, description="last bars that are clustered; 0 = all (a finite value repaints)")

    @model_validator(mode="after")
    def _factors(self) -> "SupertrendAi":
        if self.factor_max < self.factor_min:
            raise ValueError("factor_max must not be below factor_min")
        if int((self.factor_max - self.factor_min) / self.factor_step) + 1 > 41:
            raise ValueError("factor_min, factor_max and factor_step give more than 41 factors")
        return self


class Gates(Section):
    """Optional gates: all are always computed; true makes one a required condition that the funnel counts."""

    discount: bool = False
    money_flow_context: bool = False
    trend_tracer_up: bool = False
    trend_catcher_up: bool = False
    neo_cloud_up: bool = False
    taker_side: bool = False
    taker_confirm: bool = False


class Strategy(Section):
    """Conditions and vetoes."""

    htf_source: Literal["both", "smc", "pac"] = Field("both", description="whose 15m structure must agree")
    ob_hit: Literal["touch", "entered", "within"] = Field(
        "touch", description="a block is hit by a bar in it, by its entry, or by a close in it"
    )
    tap_window: int = Field(3, ge=1, le=50, description="bars a block hit stays valid, this bar counted")
    min_dominance: float = Field(60.0, ge=0, le=100, description="per cent of the block's volume on its side")
    min_rank: float = Field(30.0, ge=0, le=100, description="percentile of the block's volume")
    min_rating: int = Field(2, ge=1, le=4, description="smallest rating of the confirmation signal")
    require_strong: bool = Field(False, description="only strong (+) confirmation signals")
    conf_max_age: int = Field(0, ge=0, le=10_000, description="oldest confirmation signal in bars; 0 = any")
    trail_mode: Literal["direction", "price"] = Field(
        "direction", description="Smart Trail: direction and price, or price"
    )
    use_refined_edges: bool = Field(False, description="block edges refined by gaps and pools")
    max_cost_r: float = Field(0.0, ge=0, le=10, description="veto above this expected cost in R; 0 = off")
    warm_up_bars: int = Field(600, ge=0, le=10_000, description="bars of both intervals before the first signal")
    gates: Gates = Gates()


class EntrySettings(Section):
    """Order entry: from plan to position."""

    maker_timeout_ms: int = Field(700, ge=50, le=60_000, description="life of the post-only attempt, ms")
    max_slippage: float = Field(0.0006, ge=0, le=0.01, description="IOC limit beyond the ask, fraction")
    max_chase_r: float = Field(0.0, ge=0, le=10, description="give up when the price is further than this, R; 0 = off")
    post_only_retries: int = Field(1, ge=0, le=5, description="re-pricings after a post-only rejection")
    max_spread: float = Field(0.0002, gt=0, le=0.01, description="widest spread at the decision, fraction")
    max_data_age_ms: int = Field(10_000, ge=100, le=600_000, description="oldest quote at the decision, ms")
    leg_wait_ms: int = Field(3_000, ge=0, le=60_000, description="wait for the legs' bars after BTC's, ms")


class TradeSettings(Section):
    """Trade management: stops, targets and exits."""

    stop_atr_small: float = Field(0.6, gt=0, le=10, description="ATR 14 below a block lower than stop_height_atr")
    stop_atr_large: float = Field(0.75, gt=0, le=10, description="ATR 14 below a higher block")
    stop_height_atr: float = Field(1.2, gt=0, le=10, description="block height in ATR 14 that divides the two")
    catastrophe_r: float = Field(1.5, gt=0, le=20, description="closePosition stop beyond the stop, R")
    tp1_r: float = Field(1.0, gt=0, le=20, description="first target, R")
    tp1_fraction: Fraction = Field(0.3, description="share of the position at the first target")
    tp2_r: float = Field(1.5, gt=0, le=20, description="second target, R")
    tp2_fraction: Fraction = Field(0.3, description="share of the position at the second target")
    break_even: Literal["net", "entry"] = Field("net", description="break-even pays the fees, or not")
    trail_from: Literal["tp1", "entry", "tp2"] = Field("tp1", description="when the SuperTrend AI trail begins")
    trail_flip: Literal["exit", "ignore"] = Field("exit", description="flip of SuperTrend AI against the runner")
    choch_source: Literal["pac", "smc", "either"] = Field("pac", description="whose opposite CHoCH exits")
    timeout_minutes: float = Field(30.0, gt=0, le=10_000, description="hard exit after the first fill, minutes")
    timeout_runner: bool = Field(True, description="the hard exit also ends the runner")
    working_type: Literal["contract", "mark"] = Field("contract", description="price that triggers stops")
    naked_limit_ms: int = Field(1_500, ge=100, le=60_000, description="position without accepted stop, ms")

    @model_validator(mode="after")
    def _targets(self) -> "TradeSettings":
        if self.tp1_fraction + self.tp2_fraction > 1:
            raise ValueError("tp1_fraction and tp2_fraction must sum to at most 1 (100 %)")
        if self.tp2_r <= self.tp1_r:
            raise ValueError("tp2_r must lie beyond tp1_r")
        return self


class Hedge(Section):
    """Hedge legs in ETH and SOL against the BTC trade."""

    enabled: bool = Field(True, description="open hedge legs at all")
    length: int = Field(20, ge=5, le=500, description="log returns of 3m bars in the regression")
    beta_of: Literal["btc", "leg"] = Field(
        "btc", description="btc: cov/var(leg), the ratio of least variance; leg: cov/var(BTC)"
    )
    weight: Literal["half", "each"] = Field("half", description="half of the hedge on each leg, or all on each")
    factor_base: Fraction = Field(0.5, description="hedge factor at R2 = 0")
    factor_r2: Fraction = Field(0.2, description="added at R2 = 1")
    min_r2: Fraction = Field(0.2, description="a leg below is skipped")
    min_net_beta: float = Field(0.1, ge=-1, le=1, description="the book keeps at least this much BTC beta")
    stop_atr: float = Field(0.9, gt=0, le=10, description="ATR 14 of the leg beyond its block")
    stop_lookback: int = Field(50, ge=5, le=64, description="bars of the extreme used without a block")
    scale_with_alpha: bool = Field(True, description="shrink the legs when BTC scales out")


class Risk(Section):
    """Position size and risk limits."""

    risk_fraction: float = Field(0.0075, gt=0, le=0.1, description="risk per trade, fraction of equity")
    dry_run_fraction: float = Field(0.005, gt=0, le=0.1, description="the same in stage dry_run")
    throttle_drawdown: float = Field(0.08, gt=0, le=1, description="drawdown at which risk would reach 0")
    throttle_floor: Fraction = Field(0.5, description="smallest share of the risk that is left")
    max_day_loss_r: float = Field(2.5, gt=0, le=100, description="realised and open loss of the UTC day, R")
    direction_breaker_r: float = Field(3.0, gt=0, le=100, description="closed loss of the day in one direction, R")
    soft_stop_r: float = Field(6.0, gt=0, le=1000, description="fall from the equity peak, R of the peak")
    stage: Literal["auto", "dry_run", "ramp", "full"] = Field("auto", description="auto: by venue")
    leverage_ramp: tuple[int, ...] = Field((5, 10, 20), description="leverage steps; the last is the full one")
    ramp_hours: float = Field(48.0, ge=0, description="shortest stay in a step, hours")
    ramp_trades: int = Field(20, ge=0, description="closed trades in a step without a breaker")
    margin_use: Fraction = Field(0.95, description="share of the available balance that may be used")
    max_funding_rate: float = Field(0.0006, ge=0, le=0.1, description="8-hour funding that vetoes")
    funding_rule: Literal["symmetric", "positive_only"] = Field("symmetric", description="which funding vetoes")
    liquidation_gap_r: float = Field(0.5, ge=0, le=100, description="smallest distance beyond the catastrophe stop, R")
    slippage_watch: float = Field(0.0006, ge=0, le=0.1, description="rolling mean slippage that alerts, fraction")
    slippage_fills: int = Field(20, ge=1, le=1000, description="fills in that mean")

    @model_validator(mode="after")
    def _ramp(self) -> "Risk":
        steps = self.leverage_ramp
        if not steps or any(not 1 <= s <= 125 for s in steps) or list(steps) != sorted(set(steps)):
            raise ValueError("leverage_ramp must be rising leverages between 1 and 125")
        return self


class Events(Section):
    """Blackout around calendar events."""

    file: str = Field("data/events.csv", description="time_utc,name,impact; an .ics file is accepted too")
    minutes: float = Field(15.0, ge=0, le=1440, description="no entries this long before and after")
    impact: tuple[Literal["high", "medium", "low"], ...] = Field(("high",), description="impacts that count")


class VenueSim(Section):
    """Wallet and fees of the embedded exchange."""

    wallet: float = Field(1_000.0, gt=0, description="USDT")
    maker_fee: float = Field(0.0002, ge=0, le=0.01, description="fraction")
    taker_fee: float = Field(0.0004, ge=0, le=0.01, description="fraction")


class VenuePaper(Section):
    """Embedded exchange fed by live public streams."""

    wallet: float = Field(1_000.0, gt=0, description="USDT")
    stream_url: str = Field("wss://fstream.binance.com", description="public streams")
    rest_url: str = Field("https://fapi.binance.com", description="public history")


class VenueTestnet(Section):
    """Binance's test network, or any exchange that speaks its protocol."""

    rest_url: str = Field("https://demo-fapi.binance.com", description="REST base, without /fapi")
    stream_url: str = Field("wss://fstream.binancefuture.com", description="streams base")
    permissions_url: str = Field("", description="base of the key's permissions (spot REST); empty = not asked")


class VenueLive(Section):
    """The real exchange, with real money."""

    rest_url: str = Field("https://fapi.binance.com", description="REST base, without /fapi")
    stream_url: str = Field("wss://fstream.binance.com", description="streams base")
    permissions_url: str = Field(
        "https://api.binance.com", description="base of the key's permissions (spot REST); empty = not asked"
    )
    armed: bool = Field(False, description="must be true before `run --venue live` starts")


class VenueSettings(Section):
    """Settings of each venue."""

    sim: VenueSim = VenueSim()
    paper: VenuePaper = VenuePaper()
    testnet: VenueTestnet = VenueTestnet()
    live: VenueLive = VenueLive()


class Backtest(Section):
    """Assumptions of the back-test."""

    initial_equity: float = Field(1_000.0, gt=0, description="USDT")
    spread: float = Field(0.0001, ge=0, le=0.01, description="fraction of the price")
    slippage: float = Field(0.0001, ge=0, le=0.01, description="per taker fill, fraction")
    latency_ms: int = Field(80, ge=0, le=60_000, description="ms from decision to order")
    target_fill: Literal["through", "touch"] = Field(
        "through", description="a target fills when a bar trades through it, or already at it"
    )
    soft_stop: Literal["count", "halt", "rearm_next_day"] = Field(
        "count", description="what the soft stop does offline"
    )


class Sim(Section):
    """Market and latencies of the embedded exchange."""

    speed: float = Field(300.0, gt=0, description="replay seconds per second of `run --venue sim`")
    seed: int = Field(7, ge=0, description="of latencies, book and the synthetic market")
    order_latency_ms: float = Field(80.0, ge=0, le=60_000, description="request to reply, exchange ms")
    push_latency_ms: float = Field(20.0, ge=0, le=60_000, description="event to frame, exchange ms")
    spread: float = Field(
        0.00002, ge=0, le=0.01, description="half of it on either side of the price; at least one tick"
    )
    depth_notional: float = Field(30_000.0, gt=0, description="typical quantity at the best price, USDT")
    synthetic_days: int = Field(30, ge=15, le=3650, description="length of the default market")
    lead_minutes: float = Field(30.0, ge=0, description="start this long before the first signal")


class JournalSettings(Section):
    """Durability of the journal."""

    sync: Literal["normal", "full"] = Field(
        "normal", description="SQLite synchronous; normal survives a killed process"
    )


class DashboardSettings(Section):
    """The dashboard's server."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8700, ge=0, le=65535, description="0 = any free port")
    allowed_hosts: tuple[str, ...] = Field(
        (), description="names or addresses, without port, that the page answers to besides this machine's own"
    )

    @field_validator("allowed_hosts")
    @classmethod
    def _names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not re.fullmatch(r"[A-Za-z0-9._-]+|\[?[0-9A-Fa-f:.]+\]?", name):
                raise ValueError(f"allowed_hosts holds {name!r}: give names or addresses such as bot.lan, without port")
        return names


class Notify(Section):
    """Alerts; their URLs come from BOT_NOTIFY_URLS and BOT_WEBHOOK_URL."""

    level: Literal["info", "warning", "critical"] = Field("warning", description="least level that is sent")
    repeat_minutes: float = Field(60.0, ge=0, le=10_080, description="the same alert is not sent again sooner")
    per_hour: int = Field(20, ge=1, le=1000, description="alerts in an hour; critical ones always pass")


class Jobs(Section):
    """Schedule of jobs."""

    reconcile_seconds: float = Field(30.0, ge=1, le=3600, description="our book against the venue's")
    clock_seconds: float = Field(300.0, ge=10, le=3600, description="clock synchronisation")
    sentinel_minutes: float = Field(60.0, ge=1, le=1440, description="the harmless part of doctor while the bot runs")
    daily: str = Field("00:10", pattern=HOUR_MINUTE, description="daily report and upkeep, UTC")
    research: bool = Field(False, description="weekly, monthly and quarterly research runs; proposals only")
    research_at: str = Field("02:00", pattern=HOUR_MINUTE, description="when research runs start, UTC")
    research_trials: int = Field(200, ge=1, le=100_000, description="trials of the monthly optimisation")
    log_days: int = Field(30, ge=1, le=3650, description="log files that are kept, days")


class Data(Section):
    """Klines: symbols, history and download."""

    symbols: tuple[str, ...] = Field(("BTCUSDT", "ETHUSDT", "SOLUSDT"), description="alpha first, then the legs")
    history_bars: int = Field(5_000, ge=0, le=100_000, description="base bars loaded before the first decision")
    bar_close: Literal["confirmed", "early"] = Field("confirmed", description="who closes a bar")
    max_gap_bars: int = Field(10, ge=0, le=1000, description="longest gap that is filled flat")
    archive_url: str = Field("https://data.binance.vision", description="bulk archive that `download` reads")
    history_url: str = Field("https://fapi.binance.com", description="REST base of what the archive lacks")
    download_days: int = Field(365, ge=1, le=5_000, description="length of `download` without --from, days")

    @model_validator(mode="after")
    def _symbols(self) -> "Data":
        if not self.symbols or len(set(self.symbols)) != len(self.symbols):
            raise ValueError("symbols must be one or more different symbols")
        return self


class Config(Section):
    """The complete configuration after the profile and the overrides."""

    smc: Smc = Smc()
    pac: Pac = Pac()
    oscillator: Oscillator = Oscillator()
    overlays: Overlays = Overlays()
    supertrend_ai: SupertrendAi = SupertrendAi()
    strategy: Strategy = Strategy()
    entry: EntrySettings = EntrySettings()
    trade: TradeSettings = TradeSettings()
    hedge: Hedge = Hedge()
    risk: Risk = Risk()
    events: Events = Events()
    venue: VenueSettings = VenueSettings()
    backtest: Backtest = Backtest()
    sim: Sim = Sim()
    journal: JournalSettings = JournalSettings()
    dashboard: DashboardSettings = DashboardSettings()
    notify: Notify = Notify()
    jobs: Jobs = Jobs()
    data: Data = Data()


def parse(
    text: str,
    *,
    source: str = "config.toml",
    profile: str | None = None,
    overrides: tuple[str, ...] = (),
) -> Config:
    """Parse a configuration, apply the profile and the overrides, and validate the result.

    Parameters
    ----------
    text
        The configuration as TOML.
    source
        Name of the configuration in messages.
    profile
        Name of the profile to apply; None for none. All profiles are validated.
    overrides
        `section.key=value` each, applied after the profile.

    Raises
    ------
    ConfigError
        One sentence with the key, the value, the allowed range and, for a misspelt key, the nearest valid one.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source} is not valid TOML: {error}") from None
    profiles = values.pop("profile", {})
    if not isinstance(profiles, dict):
        raise ConfigError(f"{source}: [profile] must hold named tables such as [profile.alert]")
    for name, changes in profiles.items():
        _validate(_merged(values, changes), f"{source}, profile {name}")
    if profile is not None:
        if profile not in profiles:
            near = _nearest(profile, list(profiles))
            hint = f"; did you mean {near!r}?" if near else ""
            known = ", ".join(profiles) or "none"
            raise ConfigError(f"{source} has no profile {profile!r} (it has {known}){hint}")
        values = _merged(values, profiles[profile])
    said = values
    for override in overrides:
        said = _merged(said, _override(override))
    try:
        return _validate(said, source)
    except ConfigError:
        if not overrides:
            raise
        _validate(values, source)  # an error of the file itself is reported as such
        keys = ", ".join(override.partition("=")[0] for override in overrides)  # a value may be a secret
        return _validate(said, f"--set {keys}")


def _override(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    path = [part.strip() for part in key.split(".")]
    if not equals or not all(path) or len(path) < 2:
        raise ConfigError(f"--set {text!r} is not of the form section.key=value")
    try:
        parsed: Any = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()  # a bare word is a string: --set smc.order_block_mitigation=close
    for part in reversed(path):
        parsed = {part: parsed}
    return dict(parsed)


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        result[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def _validate(values: dict[str, Any], source: str) -> Config:
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{source}: {_sentence(error)}") from None


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    key = ".".join(path)
    if first["type"] == "extra_forbidden":
        fields = _fields(path[:-1])
        near = _nearest(path[-1], fields)
        place = f"[{'.'.join(path[:-1])}]" if path[:-1] else "the configuration"
        hint = f"did you mean {near!r}?" if near else f"it knows {', '.join(fields)}"
        return f"{place} has no setting {path[-1]!r}; {hint}"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"[{key}] {message}" if key else message
    section, name = ".".join(path[:-1]), path[-1]
    allowed = message[:1].lower() + message[1:]
    return f"{section}.{name} = {first['input']!r} is not allowed: {allowed}{_meaning(path)}"


def _nearest(word: str, known: list[str]) -> str | None:
    """Return the known word closest to `word`; difflib's ratio depends on the order, so both orders are compared."""

    def likeness(other: str) -> float:
        return max(
            difflib.SequenceMatcher(None, word, other).ratio(), difflib.SequenceMatcher(None, other, word).ratio()
        )

    best = max(known, key=likeness, default=None)
    return best if best is not None and likeness(best) >= 0.6 else None


def _model(path: list[str]) -> type[BaseModel] | None:
    model: type[BaseModel] = Config
    for part in path:
        field = model.model_fields.get(part)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return None
        model = field.annotation
    return model


def _fields(path: list[str]) -> list[str]:
    model = _model(path)
    return list(model.model_fields) if model else []


def _meaning(path: list[str]) -> str:
    while path and path[-1].isdigit():
        path = path[:-1]
    model = _model(path[:-1])
    field = model.model_fields.get(path[-1]) if model and path else None
    if field is None:
        return ""
    bounds = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    limits = [f"{sign} {getattr(m, k)}" for m in field.metadata for k, sign in bounds.items() if hasattr(m, k)]
    words = [f"allowed {' and '.join(limits)}"] if limits else []
    words += [field.description] if field.description else []
    return f" ({'; '.join(words)})" if words else ""
