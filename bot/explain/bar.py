"""Why there was or wasn't a signal on one closed bar: `explain TIME`.

All bars up to the one in question are stepped as the bot would have stepped them, nothing after it is read. What stood
there is then told side by side: the six conditions and the gates with the numbers compared, for how long each has held, what
a trade would have looked like, and, where the journal holds that bar, what was decided live.
"""

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from bot.backtest.market import load_market
from bot.backtest.models import model_for
from bot.backtest.signals import load_bars, resets_at
from bot.config import Config
from bot.core.errors import BotError, DataMissing
from bot.core.jit import records
from bot.core.klines import Klines, fill_gaps
from bot.core.records import Decision
from bot.core.types import Denied, Instrument, Side, to_decimal
from bot.explain.bar_detail import PAST, Finding, Seen, block_line, conditions, gates
from bot.journal import Journal
from bot.market import store
from bot.market.paths import data_folder
from bot.market.store import format_time
from bot.report.progress import progress
from bot.sim.filters import rules_for
from bot.strategy import kernel as k
from bot.strategy import setup
from bot.strategy.features import CHUNK, INDEX, FeatureRow, compile_steps, step_columns
from bot.strategy.rules import CONDITIONS, NAMES, TITLES
from bot.strategy.wording import counted, number, price

PIPED_WIDTH = 160  # columns of the table when nobody's terminal says


def find_bars(config: Config, symbol: str, folder: Path | None) -> tuple[Klines, str]:
    """Return a symbol's 3m bars and where they come from: a folder or file, BOT_DATA/klines, else the synthetic market."""
    if folder is not None:
        return load_bars(folder, symbol=symbol, interval="3m", default_symbol=symbol), str(folder)
    own = data_folder() / "klines"
    if own.is_dir() and store.scan(own).intervals(config.data.symbols[0]):
        return store.load(own, symbol, "3m"), str(own)
    market = load_market(config, None)
    if symbol not in market.bars:
        raise DataMissing(
            f"the {market.source} has no {symbol}: it has {', '.join(market.bars)}; name klines with --klines"
        )
    return market.base(symbol), market.source


def _no_bar(bars: Klines, source: str, config: Config, at_ms: int) -> DataMissing:
    """Return the one sentence for a time at which the data have no bar."""
    after = int(np.searchsorted(bars.open_ms, at_ms))
    name = f"no closed bar of {bars.symbol} {bars.interval} at {format_time(at_ms)}"
    if 0 < after < len(bars):
        left, right = int(bars.open_ms[after - 1]) + bars.interval_ms, int(bars.open_ms[after])
        return DataMissing(
            f"{name}: it lies in a gap from {format_time(left)} to {format_time(right)}, longer than the "
            f"{config.data.max_gap_bars} bars that are filled"
        )
    span = f"from {format_time(int(bars.open_ms[0]))} to {format_time(bars.end_ms)}" if len(bars) else "nothing"
    return DataMissing(f"{name}: {source} holds {span}")


def see(config: Config, bars: Klines, at_ms: int, *, source: str = "the data") -> Seen:
    """Step all bars up to the one that contains `at_ms`, and return it with everything known at its close.

    Raises
    ------
    DataMissing
        No bar contains that time.
    """
    filled, long_gaps = fill_gaps(bars, config.data.max_gap_bars)
    last = int(np.searchsorted(filled.open_ms, at_ms, side="right")) - 1
    if last < 0 or at_ms >= int(filled.open_ms[last]) + filled.interval_ms:
        raise _no_bar(bars, source, config, at_ms)
    filled = filled.part(0, last + 1)
    resets = resets_at(last + 1, [0, *(i for i in long_gaps if i <= last)])
    params = records(k.PARAMS, 1)
    params[0] = k.params(config, base_ms=filled.interval_ms, model=model_for(config), last_index=last)
    stepper = k.Stepper(params)
    columns = step_columns(filled)
    past = np.empty((last + 1, len(PAST)))
    taken = [INDEX[name] for name in PAST]
    rows, previous = np.empty((CHUNK, len(k.COLUMNS))), None
    # The bar itself is stepped alone, so that the row before it is at hand.
    for first, stop in [*((i, min(i + CHUNK, last)) for i in range(0, last, CHUNK)), (last, last + 1)]:
        if stop > last and last > 0 and not resets[last]:
            previous = FeatureRow(rows[(last - 1) % CHUNK].copy())
        part = tuple(column[first:stop] for column in columns)
        stepper.run(0, part, resets[first:stop], rows[: stop - first])
        past[first:stop] = rows[: stop - first, taken]
    return Seen(
        config=config,
        bars=filled,
        row=FeatureRow(rows[0].copy()),
        previous=previous,
        state=stepper.states[0],
        clock=stepper.clocks[0],
        params=params[0],
        past={name: past[:, i] for i, name in enumerate(PAST)},
    )


def _instrument(config: Config, symbol: str, close: float) -> Instrument:
    """Return the filters that the embedded exchange has for a symbol: prices of a plan lie on its ticks."""
    rules = rules_for(symbol, close)
    fees = config.venue.sim
    return Instrument(
        symbol,
        rules.tick,
        rules.step,
        rules.step,
        rules.max_qty,
        rules.market_max_qty,
        rules.min_notional,
        rules.tiers,
        to_decimal(fees.maker_fee),
        to_decimal(fees.taker_fee),
    )


def _plan(seen: Seen, side: Side) -> dict[str, Any] | None:
    """Return the prices that a signal of this side would have planned; None while no block is hit."""
    if seen.row[f"{side.name.lower()}_ob"] != 1.0:
        return None
    close_ms = int(seen.bars.open_ms[-1]) + seen.bars.interval_ms
    plan = setup.plan(
        seen.row,
        side,
        signal_ms=close_ms,
        sequence=close_ms // seen.bars.interval_ms,
        instrument=_instrument(seen.config, seen.bars.symbol, seen.close),
        config=seen.config.trade,
        refined=seen.config.strategy.use_refined_edges,
    )
    if isinstance(plan, Denied):
        return {"denied": plan.reason}
    risk = float(plan.risk_per_unit)
    return {
        **{name: float(getattr(plan, name)) for name in ("entry", "stop", "tp1", "tp2", "catastrophe", "atr")},
        "r": risk,
        "r_percent": 100.0 * risk / float(plan.entry),
        "close_beyond_entry_r": side.sign * (seen.close - float(plan.entry)) / risk,
    }


def _finding(found: Finding) -> dict[str, Any]:
    told: dict[str, Any] = {"tag": found.tag, "holds": found.holds, "words": found.words, "detail": found.detail}
    if found.spell is None:
        told["required"] = found.required
    else:
        told |= {"bars": found.spell.bars, "since_ms" if found.holds else "last_true_ms": found.spell.at_ms}
    return told | {"values": found.values}


def _side(seen: Seen, side: Side) -> dict[str, Any]:
    six, optional = conditions(seen, side), gates(seen, side)
    missing = [found.tag for found in six if not found.holds]
    return {
        "signal": seen.row[f"{side.name.lower()}_signal"] == 1.0,
        "count": int(seen.row[f"{side.name.lower()}_count"]),
        "missing": missing,
        "near_miss": f"five of six: {TITLES[missing[0]]} is missing" if len(missing) == 1 else None,
        "closed_gates": [found.name for found in optional if found.required and not found.holds],
        "conditions": {found.name: _finding(found) for found in six},
        "gates": {found.name: _finding(found) for found in optional},
        "plan": _plan(seen, side),
    }


def _warm_up(seen: Seen) -> dict[str, Any]:
    return {
        "ready": seen.row["ready"] == 1.0,
        "needed": seen.config.strategy.warm_up_bars,
        "bars_3m": int(seen.clock.ltf._bars),
        "bars_15m": int(seen.clock["htf"]._bars),
    }


def _verdict(filled: bool, warm: dict[str, Any], sides: dict[str, dict[str, Any]]) -> str:
    """Return in one sentence why there was or wasn't a signal."""
    if filled:
        return "no signal: this bar is missing in the data and was put in flat, nothing is signalled on such a bar"
    if not warm["ready"]:
        return (
            f"no signal: the indicators have seen {warm['bars_3m']} bars of 3m and {warm['bars_15m']} of 15m, "
            f"{warm['needed']} of both are needed"
        )
    signals = [name.upper() for name, told in sides.items() if told["signal"]]
    if len(signals) == 2:
        return "no trade: both sides signal at once, which cannot be followed"
    if signals:
        return f"{signals[0]} signal: all six conditions and every required gate hold"
    words = []
    for name, told in sides.items():
        if not told["missing"]:
            words.append(
                f"{name.upper()} has all six, but required gates do not hold: {', '.join(told['closed_gates'])}"
            )
        elif told["near_miss"]:
            words.append(f"{name.upper()} {told['near_miss']}")
        else:
            words.append(f"{name.upper()} {told['count']} of six")
    return f"no signal: {'; '.join(words)}"


def live_decision(open_ms: int, six: dict[str, list[bool]]) -> dict[str, Any] | None:
    """Return what the newest session that decided on this bar made of it, and which conditions it saw differently.

    A bot knows `data.history_bars` bars when it starts, a session of the embedded exchange may have played other klines:
    differences are told, not judged.
    """
    path = data_folder() / "bot.db"
    if not path.is_file():
        return None
    try:
        with Journal(path, read_only=True) as journal:
            for session in reversed(journal.sessions()):
                for decision in journal.decisions(session["id"], from_ms=open_ms, to_ms=open_ms + 1):
                    return _told(session, decision, six)
    except BotError as error:
        return {"unreadable": str(error)}
    return None


def _told(session: dict[str, Any], decision: Decision, six: dict[str, list[bool]]) -> dict[str, Any]:
    live = {"long": decision.long, "short": decision.short}
    differs = [
        f"{side}_{name}"
        for side, flags in live.items()
        for name, ours, theirs in zip(CONDITIONS, six[side], flags, strict=True)
        if ours != theirs
    ]
    return {
        "session": session["id"],
        "venue": session["venue"],
        "at_ms": decision.at_ms,
        "signal": decision.signal,
        "code": decision.code,
        "reason": decision.reason,
        "differs": differs,
        "values": decision.values,
    }


def explain(
    config: Config, at_ms: int, *, symbol: str | None = None, klines: Path | None = None, quiet: bool = False
) -> dict[str, Any]:
    """Return all evidence of the closed bar that contains `at_ms`, as plain values (unknown numbers are None).

    Parameters
    ----------
    at_ms
        UTC epoch ms, anywhere inside the bar.
    symbol
        Default: the alpha symbol, the only one that the bot decides on.
    klines
        Folder or kline file; all its earlier bars warm the indicators up.

    Raises
    ------
    DataMissing
        No bar contains that time, or there are no such klines.
    """
    alpha = config.data.symbols[0]
    bars, source = find_bars(config, symbol or alpha, klines)
    with progress("preparing the indicators", 6, quiet=quiet) as advance:
        for done, _, _ in compile_steps(config, model=model_for(config)):
            advance(done)
    seen = see(config, bars, at_ms, source=source)
    sides = {side.name.lower(): _side(seen, side) for side in Side}
    warm, filled = _warm_up(seen), bool(seen.bars.filled[-1])
    six = {name: [told["holds"] for told in side["conditions"].values()] for name, side in sides.items()}
    open_ms = int(seen.bars.open_ms[-1])
    report = {
        "symbol": bars.symbol,
        "source": source,
        "open_ms": open_ms,
        "close_ms": open_ms + bars.interval_ms,
        "open_time": format_time(open_ms),
        "bar": {name: float(getattr(seen.bars, name)[-1]) for name in ("open", "high", "low", "close", "volume")},
        "filled": filled,
        "warm_up": warm,
        "verdict": _verdict(filled, warm, sides),
        "decides": bars.symbol == alpha,
        "live": live_decision(open_ms, six) if bars.symbol == alpha else None,
        **sides,
        "values": seen.row.as_dict(),
    }
    plain: dict[str, Any] = _plain(report)
    return plain


def _plain(value: Any) -> Any:
    """Return `value` with NaN, which JSON does not have, as None."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _held(told: dict[str, Any]) -> str:
    if told["bars"] is None:
        return "never so far"
    if told["holds"]:
        return "this bar" if told["bars"] == 1 else f"for {counted(told['bars'])}"
    return f"{counted(told['bars'])} ago"


def _mark(told: dict[str, Any]) -> str:
    return "[green]yes[/]" if told["holds"] else "[red]no[/]" if told.get("required", True) else "[dim]no[/]"


def _plan_line(plan: dict[str, Any]) -> str:
    if "denied" in plan:
        return f"plan: none, {plan['denied']}"
    names = ("entry", "stop", "tp1", "tp2", "catastrophe")
    prices = ", ".join(f"{name} {price(plan[name])}" for name in names)
    return (
        f"plan at this block: {prices}; R {price(plan['r'])} = {plan['r_percent']:.3f} % of the price, the close is "
        f"{number(plan['close_beyond_entry_r'], 2)} R beyond the entry"
    )


def print_explanation(report: dict[str, Any]) -> None:
    """Print the report of `explain` as tables."""
    from rich.table import Table

    from bot.report.consoles import console as new_console

    console = new_console()
    if not console.is_terminal:
        console = new_console(width=PIPED_WIDTH)
    bar = report["bar"]
    prices = "  ".join(f"{name} {price(value)}" for name, value in bar.items())
    console.print(f"[bold]{report['symbol']} 3m, bar opened {report['open_time']}[/]  {prices}", highlight=False)
    console.print(f"[bold]{report['verdict']}[/]", highlight=False)
    if not report["decides"]:
        console.print("The bot decides on its alpha symbol alone; this is what the same rules say here.")
    for name in ("long", "short"):
        side = report[name]
        table = Table("condition", "holds", "since / last", "numbers", title=f"{name.upper()}: {side['count']} of six")
        for told in side["conditions"].values():
            table.add_row(TITLES[told["tag"]], _mark(told), _held(told), f"{told['words']}\n[dim]{told['detail']}[/]")
        table.add_section()
        for gate, told in side["gates"].items():
            needed = "required" if told["required"] else "optional"
            table.add_row(f"gate {gate}", _mark(told), needed, told["words"])
        console.print(table, highlight=False)
        if side["plan"] is not None:
            console.print(_plan_line(side["plan"]), highlight=False)
        else:
            blocks = sorted(
                side["conditions"]["ob"]["values"]["blocks"], key=lambda block: abs(block["distance_percent"])
            )
            console.print("\n".join(f"  {block_line(block)}" for block in blocks), highlight=False)
    _print_rest(console, report)


def _print_rest(console: Any, report: dict[str, Any]) -> None:
    warm, live = report["warm_up"], report["live"]
    console.print(
        f"warm-up: {'done' if warm['ready'] else 'not done'}, {warm['bars_3m']} bars of 3m and {warm['bars_15m']} of 15m seen "
        f"({warm['needed']} needed), from {report['source']}",
        highlight=False,
    )
    if live is None:
        return
    if "unreadable" in live:
        console.print(f"journal: {live['unreadable']}", highlight=False)
        return
    when = datetime.fromtimestamp(live["at_ms"] / 1000, UTC).isoformat(timespec="milliseconds")
    console.print(
        f"decided live in session {live['session']} ({live['venue']}) at {when}: {live['code']}, {live['reason']}",
        highlight=False,
    )
    if live["differs"]:
        differs = (each.partition("_") for each in live["differs"])
        told = ", ".join(
            f"{side} {TITLES[NAMES[Side[side.upper()]][CONDITIONS.index(name)]]}" for side, _, name in differs
        )
        console.print(f"  conditions seen differently then: {told}", highlight=False)
