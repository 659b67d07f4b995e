"""Operator commands from another terminal: state, trades, commands to the bot, and the effective configuration.

A running bot writes `run.json` (process, port, venue, host) and `token` (mode 0600) to BOT_DATA; commands are sent to its
page with that token. If no bot is running, the state comes from the journal.
"""

import csv
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

from bot.config import Config
from bot.core.errors import BotError, DataMissing
from bot.core.files import private_folder, write_private
from bot.core.printable import visible, visible_json
from bot.core.records import TradeRecord
from bot.core.redact import redact
from bot.core.types import REAL_VENUES
from bot.core.words import positions
from bot.journal import Journal
from bot.market.paths import data_folder
from bot.market.store import format_time
from bot.report.compared import Compared, sentence
from bot.report.doors import netloc
from bot.report.ledger import FOLDER, left
from bot.report.status import status_rows, truth_rows
from bot.results.trades import trade_row

SECRET_WORDS = ("key", "secret", "token", "password")


def write_run_file(folder: Path, *, port: int, venue: str, token: str, host: str = "127.0.0.1") -> None:
    """Write the address and the token of this process for `status`, `arm` and `flatten`.

    Parameters
    ----------
    folder
        BOT_DATA.
    port, host
        Address on which the page listens.
    venue
        Name of the venue.
    token
        Secret that commands must carry.
    """
    private_folder(folder)
    for name, text in (
        ("token", token),
        ("run.json", json.dumps({"pid": os.getpid(), "port": port, "venue": venue, "host": host})),
    ):
        write_private(folder / name, text.encode())


def remove_run_file(folder: Path) -> None:
    """Remove the address and the token."""
    for name in ("run.json", "token"):
        (folder / name).unlink(missing_ok=True)


def running_bot() -> dict[str, Any] | None:
    """Return the contents of `run.json` if the bot of BOT_DATA is running, else None."""
    try:
        found: dict[str, Any] = json.loads((data_folder() / "run.json").read_text(encoding="utf-8"))
        pid = int(found["pid"])
    except (OSError, ValueError, KeyError):
        return None
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass  # it runs, as another user
    except OSError:
        return None
    return found


def ask(bot: dict[str, Any], path: str, body: dict[str, Any] | None = None) -> Any:
    """Send a request to the running bot's page and return its JSON.

    Raises
    ------
    BotError
        The bot does not answer or rejects the request, or the token file cannot be read.
    """
    try:
        token = (data_folder() / "token").read_text(encoding="utf-8").strip()
    except OSError as error:
        raise BotError(f"the token file of the running bot cannot be read: {error.strerror}") from None
    # A page that listens on a network address is not reachable at 127.0.0.1, but accepts that name in the Host header.
    host = str(bot.get("host", "127.0.0.1"))
    request = urllib.request.Request(
        f"http://{netloc('127.0.0.1' if host in ('', '0.0.0.0', '::') else host, bot['port'])}{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"X-Token": token, "Content-Type": "application/json", "Host": f"127.0.0.1:{bot['port']}"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as reply:
            return json.loads(reply.read() or b"null")
    except urllib.error.HTTPError as error:
        text = error.read().decode(errors="replace")[:200]
        raise BotError(f"the running bot (pid {bot['pid']}) refused: {error.code} {text}") from None
    except (OSError, ValueError) as error:
        raise BotError(f"the running bot (pid {bot['pid']}) does not answer on port {bot['port']}: {error}") from None


def print_status(config: Config, *, as_json: bool) -> int:
    """Print the state of the running bot, or of the journal's last session; return the exit code.

    Raises
    ------
    DataMissing
        No bot is running and the journal is empty.
    """
    bot = running_bot()
    if bot is not None:
        seen = ask(bot, "/api/status")
        if as_json:
            _print_pairs({"running": True, **bot, **seen}, as_json=True)
        else:
            _print_pairs({"running": f"pid {bot['pid']}, http://127.0.0.1:{bot['port']}"}, status_rows(seen))
        return 0
    compared = Compared(data_folder()).rows()
    with Journal(data_folder() / "bot.db", read_only=True) as journal:
        sessions = journal.sessions()
        if not sessions:
            raise DataMissing("no bot is running and the journal holds no session; `run` starts one")
        last = sessions[-1]
        points = journal.equity(last["id"], last=1)
        held = journal.held(last["id"]) if last["ended_ms"] is None else {}
    ledger = left(data_folder() / FOLDER, last["id"])
    equity, at = (str(points[-1].equity), format_time(points[-1].at_ms)) if points else (None, None)
    ended = last["ended_ms"] is not None
    if as_json:
        values = {
            "running": False,
            "session": last["id"],
            "venue": last["venue"],
            "trades": last["trades"],
            "ended": ended,
        }
        told = {"held": {symbol: str(qty) for symbol, qty in held.items()}, "ledger": ledger, "compared": compared}
        _print_pairs({**values, "equity": equity, "at": at, **told}, as_json=True)
        return 0
    words = {
        "running": "no",
        "session": f"{last['id']} on {last['venue']}, {'ended' if ended else 'left open'}",
        "trades": f"{last['trades']} closed",
        "equity": f"{equity} USDT at {at}" if points else "not known yet",
    }
    if held and last["venue"] in REAL_VENUES:
        words["last known"] = (
            f"{positions(held.items())}; `run` takes it up again, `flatten` looks at the exchange and closes it"
        )
    _print_pairs(words, truth_rows(ledger, [sentence(row) for row in compared]))
    return 0


def send_command(config: Config, name: str, *, as_json: bool) -> int:
    """Send one command to the running bot and print its reply; BotError if none is running."""
    bot = running_bot()
    if bot is None:
        raise BotError(f"no bot is running on {data_folder()}: start it, then {name} it")
    answer = ask(bot, "/api/command", {"name": name})
    if as_json:
        _print_pairs({"command": name, "answer": answer}, as_json=True)
    else:
        took = f"the running bot (pid {bot['pid']}, {bot['venue']}) took `{name}`"
        print(visible(f"{took}; its terminal and page show what came of it"))
    return 0


def _print_pairs(values: dict[str, Any], rows: Iterable[tuple[str, str]] = (), *, as_json: bool = False) -> None:
    if as_json:
        print(visible_json(json.dumps(values, indent=2, default=str)))
        return
    from rich.table import Table
    from rich.text import Text

    from bot.report.consoles import console

    table = Table(show_header=False, box=None)
    for name, value in (*values.items(), *rows):
        table.add_row(name, Text(str(value)))
    console().print(table)


def print_trades(config: Config, *, as_json: bool, as_csv: bool, every: bool) -> None:
    """Print the trades of the last session, or of all sessions.

    Parameters
    ----------
    as_json, as_csv
        Print JSON or CSV instead of a table.
    every
        Print the trades of all sessions.

    Raises
    ------
    DataMissing
        The journal holds no session.
    """
    with Journal(data_folder() / "bot.db", read_only=True) as journal:
        sessions = journal.sessions()
        if not sessions:
            raise DataMissing("the journal holds no session; `run` starts one")
        trades = journal.trades(None if every else sessions[-1]["id"])
    rows = [trade_row(trade) for trade in trades if trade.fills]
    if as_json:
        print(visible_json(json.dumps(rows, indent=2)))
        return
    if as_csv:
        columns = [field.name for field in fields(TradeRecord) if field.name not in ("fills", "notes")]
        writer = csv.DictWriter(sys.stdout, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows({k: visible(v) if isinstance(v, str) else v for k, v in row.items()} for row in rows)
        return
    from bot.report.consoles import console
    from bot.report.session import trades_table

    console().print(trades_table(rows, last=len(rows)) if rows else "no trades yet")


def render_config(config: Config, *, as_json: bool) -> str:
    """Return the effective configuration as TOML or JSON, with anything named like a secret redacted."""
    values = _redacted(config.model_dump(mode="json"))
    if as_json:
        return visible_json(json.dumps(values, indent=2))
    lines: list[str] = []
    _toml(values, "", lines)
    return "\n".join(lines).strip()


def _redacted(values: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            result[name] = _redacted(value)
        elif name == "urls" or any(word in name.split("_") for word in SECRET_WORDS):
            result[name] = ["***" for _ in value] if isinstance(value, list) else "***"
        elif isinstance(value, list):
            result[name] = [redact(item) if isinstance(item, str) else item for item in value]
        else:
            result[name] = redact(value) if isinstance(value, str) else value
    return result


def _toml(values: dict[str, Any], prefix: str, lines: list[str]) -> None:
    plain = {name: value for name, value in values.items() if not isinstance(value, dict)}
    if plain and prefix:
        lines.append(f"\n[{prefix}]")
    lines += [f"{name} = {visible_json(json.dumps(value))}" for name, value in plain.items()]
    for name, value in values.items():
        if isinstance(value, dict):
            _toml(value, f"{prefix}.{name}" if prefix else name, lines)
