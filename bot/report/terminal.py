"""The running bot on a terminal: venue and mode, the twelve lights, the position in R, limits, and the last things that happened.

On a terminal it is one picture, redrawn a few times a second; piped into a file or another program it is plain lines, one
for each fill (with the word `filled`), signal, veto, closed trade and alert. A paused pager or a stopped terminal must not
stop a bot that holds a position: drawing and writing are done by a thread of their own, fed through a short queue.
"""

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from bot.core.printable import visible
from bot.core.times import utc
from bot.report.consoles import console as new_console
from bot.report.hub import Hub
from bot.report.view import figure, line, view, weight

FRAMES_A_SECOND = 4.0
NARROW = 80  # columns of a plain terminal: the lights of one side fit without a break
STYLES = {"good": "green", "bad": "bold red", "warn": "yellow", "plain": ""}


class Terminal:
    """Shows the bot on a console until closed.

    Parameters
    ----------
    hub
        Where the shell publishes what happens.
    snapshot
        Gives the engine's snapshot; called in the event loop, at most `FRAMES_A_SECOND` times a second.
    console
        Where to write; a terminal gets the picture, anything else plain lines.
    """

    def __init__(self, hub: Hub, *, snapshot: Callable[[], Mapping[str, Any]], console: Console | None = None) -> None:
        self._console = console or new_console()
        self._live = self._console.is_terminal
        self._snapshot = snapshot
        # Lines must not be lost when a replay runs flat out; a picture shows the last few only.
        self._subscription = hub.subscribe(keep=2_000 if self._live else 100_000)
        self._frames: queue.Queue[tuple[Mapping[str, Any] | None, list[Any]] | None] = queue.Queue(maxsize=8)
        self._backlog: list[Any] = []
        self._thread = threading.Thread(target=self._write, name="terminal", daemon=True)
        self._failed: BaseException | None = None

    async def run(self) -> None:
        """Feed the writer until the subscription or this task ends, then let it write the rest."""
        self._thread.start()
        try:
            while not self._subscription.closed:
                await self._subscription.wait()
                if not self._thread.is_alive():
                    raise RuntimeError("the writer to the terminal has ended")
                self._hand_over()
                await asyncio.sleep(1 / FRAMES_A_SECOND if self._live else 0.02)
        finally:
            await self._finish()

    def close(self) -> None:
        """End `run`."""
        self._subscription.close()

    def _hand_over(self) -> None:
        self._backlog += self._subscription.take()
        if self._live:
            self._backlog = self._backlog[-2_000:]
        elif not self._backlog:
            return
        # A writer that is behind gets the lines with the next frame, and the newest state then.
        if not self._frames.full():
            self._frames.put_nowait((self._snapshot() if self._live else None, self._backlog))
            self._backlog = []

    async def _finish(self) -> None:
        """Give the writer up to two seconds: a blocked pipe must not keep the bot from ending."""
        for _ in range(40):
            self._hand_over()
            if not self._backlog and not self._frames.full():
                break
            await asyncio.sleep(0.05)
        if not self._frames.full():
            self._frames.put_nowait(None)
        for _ in range(40):
            if not self._thread.is_alive():
                break
            await asyncio.sleep(0.05)
        self._subscription.close()

    def _write(self) -> None:
        try:
            if self._live:
                with Live(console=self._console, auto_refresh=False, transient=False, redirect_stdout=False) as live:
                    last: deque[tuple[str, str]] = deque(maxlen=12)
                    while (frame := self._frames.get()) is not None:
                        state, items = frame
                        last.extend((text, STYLES[weight(item)]) for item in items if (text := line(item)) is not None)
                        live.update(picture(view(state or {}), last), refresh=True)
                return
            while (frame := self._frames.get()) is not None:
                lines = [text for item in frame[1] if (text := line(item)) is not None]
                if lines:
                    self._console.file.write(visible("\n".join(lines)) + "\n")
                    self._console.file.flush()
        except (BrokenPipeError, ValueError, OSError) as error:
            # The reader is gone (`| head`): the bot goes on without a watcher. ValueError: the file was closed.
            self._failed = error
            while self._frames.get() is not None:
                pass


def picture(seen: Mapping[str, Any], last: Iterable[tuple[str, str]] = ()) -> RenderableType:
    """Return the whole picture of a `view` and the last lines with their styles."""
    events = Text()
    for text, style in last:
        events.append(text + "\n", style=style)
    return Group(
        _banner(seen),
        Columns([_lights(seen, "long"), _lights(seen, "short")], padding=(0, 1)),
        Text(_verdict(seen["verdict"]), style="dim"),
        Columns([_trade_panel(seen), _money_panel(seen)], padding=(0, 2)),
        events,
    )


def _banner(seen: Mapping[str, Any]) -> RenderableType:
    style = "bold white on red" if seen["real_money"] else "bold black on green"
    text = Text(f" {seen['mode']} ", style=style)
    parts = [seen["symbol"], _show(seen["price"], ",.1f")]
    if seen["clock_ms"] is not None:
        parts.append(f"exchange {utc(int(seen['clock_ms']), seconds=True)} UTC")
    if seen["lag_ms"] is not None:
        parts.append(f"lag {seen['lag_ms']:,.0f} ms")
    parts += [f"{name} {seen[name]}" for name in ("profile", "stage") if seen[name]]
    text.append("  " + " · ".join(parts), style="none")
    troubles = [f"NOT HEARD: {name}" for name in seen["feeds_lost"]]
    if not seen["entries"]["allowed"]:
        troubles.append(f"ENTRIES OFF {seen['entries']['reason']}".rstrip())
    for trouble in troubles:
        text.append(f"\n {trouble} ", style="bold red")
    return text


def _lights(seen: Mapping[str, Any], side: str) -> RenderableType:
    table = Table(show_header=False, box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for light in seen["sides"][side]["lights"]:
        lamp = {True: Text("●", "green"), False: Text("○", "dim"), None: Text("·", "dim")}[light["on"]]
        _row(table, lamp, light["title"], Text(light["number"], style="cyan"))
    title = f"{side.upper()} {seen['sides'][side]['count']}/6"
    return Panel(table, title=title, title_align="left", width=NARROW, padding=(0, 0, 0, 1))


def _verdict(verdict: Mapping[str, Any]) -> str:
    if verdict.get("open_ms") is None:
        return "no bar has been decided yet"
    reason = f" · {verdict['reason']}" if verdict.get("reason") else ""
    return f"bar {utc(int(verdict['open_ms']))}: {verdict.get('code') or 'no_signal'}{reason}"


def _trade_panel(seen: Mapping[str, Any]) -> RenderableType:
    table = Table(show_header=False, box=None, padding=(0, 1, 0, 0))
    trade = seen["trade"]
    if trade is None:
        _row(table, Text("no position", style="dim"))
        return Panel(table, title="Position", title_align="left", width=58)
    r = trade["r"]
    style = "dim" if r is None else "green" if r >= 0 else "red"
    _row(
        table,
        trade["side"],
        f"{_show(trade['qty'], 'g')} at {_show(trade['entry'], ',.1f')}",
        str(trade["state"] or ""),
    )
    _row(table, "now", Text(f"{_show(r, '+.2f')} R", style=style), f"risk {_show(trade['risk_quote'], ',.2f')} USDT")
    _row(table, "stop", _show(trade["stop"], ",.1f"), trade["stop_kind"])
    _row(table, "targets", f"{_show(trade['tp1'], ',.1f')} · {_show(trade['tp2'], ',.1f')}")
    for leg in seen["legs"]:
        size = f"{leg['side']} {_show(leg['qty'], 'g')} at {_show(leg['entry'], ',.2f')}"
        _row(table, str(leg["symbol"]), size, f"stop {_show(leg['stop'], ',.2f')} {leg['note']}".rstrip())
    return Panel(table, title=Text(f"Position {trade['id'] or ''}".rstrip()), title_align="left", width=58)


def _money_panel(seen: Mapping[str, Any]) -> RenderableType:
    table = Table(show_header=False, box=None, padding=(0, 1, 0, 0))
    money = seen["money"]
    _row(table, "equity", f"{_show(money['equity'], ',.2f')} USDT", f"wallet {_show(money['wallet'], ',.2f')}")
    _row(table, "day", f"{_show(money['day_r'], '+.2f')} day R", f"below peak {_show(money['drawdown'], '.2%')}")
    for row in seen["limits"]:
        _row(
            table, row["name"], Text(row["text"], style="bold red" if row["hit"] else ""), "rests" if row["hit"] else ""
        )
    ledger = seen.get("ledger")
    if ledger:
        _row(table, "repaint", Text(ledger["text"], style="bold red" if ledger["rewritten"] else ""), "")
    for row in seen.get("compared", [])[:1]:
        _row(table, "your chart", Text(row["sentence"], overflow="ellipsis", no_wrap=True), row["day"])
    for name, value in list(seen["counters"].items())[:4]:
        number = figure(value)
        _row(table, name.replace("_", " "), str(value) if number is None else f"{number:,g}", "")
    return Panel(table, title="Money and limits", title_align="left", width=58)


def _row(table: Table, *cells: str | Text) -> None:
    """Add a row of literal text: square brackets in a reason are no markup."""
    table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells))


def _show(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
