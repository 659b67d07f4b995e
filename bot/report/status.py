"""The state of the bot in a few lines, for `status`: its mode, what it holds, whether it may trade, and whether to believe it.

The same view that the dashboard shows, without the parts that only a page can show well; `--json` gives all of it.
"""

from collections.abc import Mapping
from typing import Any, Final

from bot.core.times import utc
from bot.report.compared import NOTHING

NAMED: Final = 3  # silent streams that are named; more are counted


def status_rows(seen: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return name and text of each line from a watcher's `view`."""
    clock = f", exchange {utc(seen['clock_ms'], seconds=True)} UTC" if seen["clock_ms"] else ""
    rows = [
        ("mode", f"{seen['mode']}{clock}"),
        ("profile", " · ".join(part for part in (seen["profile"], seen["stage"], seen["source"]) if part)),
        ("price", f"{seen['symbol']} {_number(seen['price'], ',.1f')}"),
        ("entries", "allowed" if seen["entries"]["allowed"] else f"OFF: {seen['entries']['reason']}"),
        ("position", _position(seen["trade"])),
    ]
    rows += [(leg["symbol"], _leg(leg)) for leg in seen["legs"]]
    rows += [("unexplained", f"{symbol} {qty}: guarded, not traded") for symbol, qty in seen["unexplained"].items()]
    money = seen["money"]
    below = "" if money["drawdown"] is None else f", {money['drawdown']:.2%} below its peak"
    rows.append(
        ("equity", f"{_number(money['equity'], ',.2f')} USDT{below}; today {_number(money['day_r'], '+.2f')} day R")
    )
    rows += [("limit hit", f"{row['name']} {row['text']}") for row in seen["limits"] if row["hit"]]
    verdict = seen["verdict"]
    if verdict["open_ms"]:
        rows.append(("last bar", f"{utc(verdict['open_ms'])}: {verdict['code']}, {verdict['reason']}"))
    for side in ("long", "short"):
        missing = [
            f"{light['title']} ({light['number']})" if light["number"] else light["title"]
            for light in seen["sides"][side]["lights"]
            if not light["on"]
        ]
        rows.append(
            (side, f"{seen['sides'][side]['count']} of 6" + (f"; lacks {', '.join(missing)}" if missing else ""))
        )
    rows.append(("streams", _streams(seen)))
    return [*rows, *truth_rows(seen["ledger"], [row["text"] for row in seen["compared"]])]


def truth_rows(ledger: Mapping[str, Any] | None, compared: list[str]) -> list[tuple[str, str]]:
    """Return the lines on whether what is shown can be believed: repaint ledger, and comparisons with the person's chart."""
    rows = [("repaint", "no ledger was closed for this session" if ledger is None else str(ledger["text"]))]
    if ledger is not None and ledger.get("first"):
        rows.append(("first miss", str(ledger["first"])))
    return rows + [("your chart", text) for text in compared or [NOTHING]]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _position(trade: Mapping[str, Any] | None) -> str:
    if trade is None:
        return "none"
    targets = ", ".join(_number(trade[name], ",.1f") for name in ("tp1", "tp2"))
    return (
        f"{trade['side']} {_number(trade['qty'], 'g')} at {_number(trade['entry'], ',.1f')} ({trade['state']}), "
        f"{_number(trade['r'], '+.2f')} R, stop {_number(trade['stop'], ',.1f')}, targets {targets}"
    )


def _leg(leg: Mapping[str, Any]) -> str:
    size = f"{leg['side']} {_number(leg['qty'], 'g')} at {_number(leg['entry'], ',.2f')}".strip()
    return f"hedge {size}, stop {_number(leg['stop'], ',.2f')} {leg['note']}".rstrip()


def _streams(seen: Mapping[str, Any]) -> str:
    silent = [row["name"] for row in seen["streams"] if not row["heard"]]
    if silent:
        more = f" and {len(silent) - NAMED} more" if len(silent) > NAMED else ""
        return f"NOT HEARD: {', '.join(silent[:NAMED])}{more}"
    lag = _number(seen["lag_ms"], ",.0f")
    return f"all {len(seen['streams'])} heard, lag {lag} ms" if seen["streams"] else "none yet"
