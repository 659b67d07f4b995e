"""A Pine v6 script that draws our findings on the user's own TradingView chart: blocks, breaks and signals at their bars.

The script computes nothing itself. It contains the findings as text, newest first within TradingView's limits (500 boxes,
500 lines and 500 labels per script), and it checks the feed: it counts how many of our last closes equal those of the
chart. To use it, open the Pine editor, paste, "Add to chart", on the same symbol and interval.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import numpy as np

from bot.core.times import utc
from bot.report.chart_data import ChartTape
from bot.report.charts import STATIC
from bot.report.findings import COVERED, MITIGATED, WAITING

MOST_BOXES: Final = 500  # TradingView's limits per script
MOST_LINES: Final = 500
MOST_LABELS: Final = 500
MOST_SIGNALS: Final = 200  # of the labels; the rest are for breaks
CHECKED: Final = 200  # number of closes compared with the chart's
CHUNK: Final = 3_900  # maximum characters of one string; TradingView allows 4,096
TEMPLATE: Final = "findings.pine"
BREAK_CODES: Final = {"BOS": 1, "CHoCH": 2, "CHoCH+": 3}


@dataclass(frozen=True, slots=True)
class Pine:
    """A script and the counts of what it draws."""

    text: str
    blocks: int
    breaks: int
    signals: int
    left_out: int  # findings beyond TradingView's limits

    def as_dict(self) -> dict[str, Any]:
        """Return the figures for a report."""
        counts = {"blocks": self.blocks, "breaks": self.breaks, "signals": self.signals, "left_out": self.left_out}
        return counts | {"characters": len(self.text)}


def short(value: float) -> str:
    """Return a number without superfluous digits.

    >>> short(104250.1), short(54.0), short(0.1 + 0.2)
    ('104250.1', '54', '0.3')
    """
    found = format(Decimal(repr(round(value, 8))).normalize(), "f")
    return found if found != "-0" else "0"


def chunks(rows: Iterable[Sequence[float]]) -> list[str]:
    """Return rows as strings of at most CHUNK characters: fields separated by commas, rows by semicolons."""
    texts, now = [], ""
    for row in rows:
        record = ",".join(short(value) for value in row)
        if now and len(now) + 1 + len(record) > CHUNK:
            texts.append(now)
            now = record
        else:
            now = f"{now};{record}" if now else record
    return [*texts, now]


def _filled(**values: Any) -> str:
    """Return the template with each `@NAME@` replaced."""
    text = (STATIC / TEMPLATE).read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace(f"@{name.upper()}@", str(value))
    return text


def _declared(name: str, texts: list[str]) -> str:
    return "".join(f'string {name}{i} = "{text}"\n' for i, text in enumerate(texts))


def _calls(show: str, function: str, name: str, texts: list[str]) -> str:
    lines = [f"    if {show}"]
    lines += [f"        {function}({name}{i})" for i in range(len(texts))]
    return "\n".join(lines)


def pine(
    tape: ChartTape, interval: str, *, from_ms: int | None = None, up: str = "#0072b2", down: str = "#d55e00"
) -> Pine:
    """Return the script that draws a tape's findings.

    Parameters
    ----------
    tape
        Bars with their columns.
    interval
        Name of the bars' interval, for the script's texts.
    from_ms
        Findings that end before it are omitted, UTC epoch ms.
    up, down
        Colours; the defaults are safe for colour-blind readers.
    """
    opens = tape.open_ms
    start = int(opens[0])
    since = int(np.searchsorted(opens, start if from_ms is None else from_ms))
    found = tape.found
    boxes = [box for box in found.boxes if box.end < 0 or box.end >= since]
    breaks = [part for part in found.segments if part.layer == "pac" and part.end >= since]
    side = (tape.column("long_signal") == 1.0).astype(np.int64) - (tape.column("short_signal") == 1.0)
    signals = np.flatnonzero(side)
    signals = signals[signals >= since]
    kept_signals = signals[-MOST_SIGNALS:]
    room = min(MOST_LINES, MOST_LABELS - len(kept_signals))
    kept_boxes, kept_breaks = boxes[::-1][:MOST_BOXES], breaks[::-1][:room]
    close = tape.column("close")
    states = {MITIGATED: 1, COVERED: 2, WAITING: 3}

    def place(i: int) -> int:
        return (int(opens[i]) - start) // tape.interval_ms

    data = {
        "BLOCKS": chunks(
            (
                *(place(b.start), place(b.end) if b.end >= 0 else -1, b.bottom, b.top, b.side),
                *(round(100 * b.buy_share), states.get(b.state, 0)),
            )
            for b in kept_boxes
        ),
        "BREAKS": chunks((place(p.start), place(p.end), p.price, p.side, BREAK_CODES[p.label]) for p in kept_breaks),
        "SIGNALS": chunks((place(int(i)), int(side[i])) for i in kept_signals[::-1]),
        "CLOSES": chunks((place(i), float(close[i])) for i in range(max(0, len(opens) - CHECKED), len(opens))),
    }
    declared = "".join(_declared(name, texts) for name, texts in data.items() if name != "CLOSES")
    calls = (
        ("showBlocks", "drawBlocks", "BLOCKS"),
        ("showBreaks", "drawBreaks", "BREAKS"),
        ("showSignals", "drawSignals", "SIGNALS"),
    )
    since_ms = int(opens[since]) if since < len(opens) else start
    text = _filled(
        title=f"Findings {tape.symbol} {interval}",
        symbol=tape.symbol,
        interval=interval,
        span=f"{utc(since_ms)} to {utc(int(opens[-1]) + tape.interval_ms)}",
        boxes=MOST_BOXES,
        lines=MOST_LINES,
        labels=MOST_LABELS,
        start=start,
        step=tape.interval_ms,
        up=up,
        down=down,
        data=declared + f'string CLOSES = "{data["CLOSES"][-1]}"\n',
        tolerance=short(10.0**-tape.decimals / 2),
        calls="\n".join(_calls(show, function, name, data[name]) for show, function, name in calls),
    )
    left_out = len(boxes) - len(kept_boxes) + len(breaks) - len(kept_breaks) + len(signals) - len(kept_signals)
    return Pine(text, len(kept_boxes), len(kept_breaks), len(kept_signals), left_out)
