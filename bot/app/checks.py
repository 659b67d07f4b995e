"""The checks of `doctor`: each returns its finding with a remedy; a `BotError` raised in one is a finding too."""

import os
import shutil
import time
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from bot.app.connection import Connection
from bot.app.credentials import HMAC, RSA_KIND
from bot.config import Config
from bot.core import words
from bot.core.events import SessionStarted
from bot.core.files import private_folder
from bot.core.held import lock_holder
from bot.core.times import DAY_MS
from bot.execution import replies
from bot.execution.account_mode import ModeReading, judge, of_portfolio
from bot.execution.outcomes import NOT_PERMITTED, ReadFailed, Rejected, describe, translate
from bot.journal import Journal
from bot.market.events_calendar import load_calendar
from bot.market.paths import data_folder, project_file
from bot.risk.sizing import NO_MONEY

OK, WARN, FAIL = "ok", "warn", "fail"
SKEW_WARN_MS: Final = 1_000  # the bot corrects it; a machine further off has no time service
SKEW_FAIL_MS: Final = 60_000
DISK_WARN: Final = 2 << 30
DISK_FAIL: Final = 200 << 20
SLOW_DISK_MS: Final = 100.0
BAD_SIGNATURE: Final = -1022
OLD_KINDS: Final = {
    HMAC: " (the old kind: the exchange recommends Ed25519)",
    RSA_KIND: " (slow: some 20 ms for each request, where Ed25519 takes less than one)",  # measured with 2,048 bits
}


@dataclass(frozen=True, slots=True)
class Check:
    """One finding; `hint` is the remedy if something has to be done."""

    name: str
    status: str
    text: str
    hint: str = ""


def ok(name: str, text: str) -> Check:
    return Check(name, OK, text)


def warn(name: str, text: str, hint: str) -> Check:
    return Check(name, WARN, text, hint)


def failed(name: str, text: str, hint: str) -> Check:
    return Check(name, FAIL, text, hint)


@dataclass(slots=True)
class Bench:
    """State shared by the checks of a connection."""

    config: Config
    line: Connection
    session: SessionStarted | None = None
    flat: bool | None = None
    replay: bool = False
    portfolio_key: bool = False  # the key may trade with portfolio margin
    mode: ModeReading | None = None
    leverages: dict[str, int] = field(default_factory=dict)

    @property
    def symbols(self) -> tuple[str, ...]:
        return self.config.data.symbols

    @property
    def leverage(self) -> int:
        """The leverage of the venue's first stage."""
        stage = self.config.risk.stage
        steps = self.config.risk.leverage_ramp
        full = stage == "full" or (stage == "auto" and self.line.venue == "sim")
        return steps[-1] if full else steps[0]


# This machine ----------------------------------------------------------------------------------------------------------


async def settings(config: Config) -> Check:
    """Report what is traded; the configuration has been validated before."""
    risk = config.risk
    return ok(
        "settings",
        f"{', '.join(config.data.symbols)}; risk {risk.risk_fraction:.2%} a trade ({risk.dry_run_fraction:.2%} in dry run), "
        f"leverage {'/'.join(map(str, risk.leverage_ramp))}",
    )


async def calendar(config: Config) -> Check:
    """Read the event calendar."""
    name = "calendar"
    path = project_file(config.events.file)
    now_ms = time.time() * 1000
    ahead = [event for event in load_calendar(path) if event.ms > now_ms]
    if not ahead:
        return warn(name, f"{path.name} names no event to come: no blackout will apply", "bring events.csv up to date")
    return ok(name, f"{len(ahead)} events ahead")


async def alerts(config: Config) -> Check:
    """Report whether alerts have a recipient."""
    from bot.report.notify import BadAddress, addresses

    try:
        found, webhook = addresses()
    except BadAddress as error:
        return failed("alerts", str(error), "mend BOT_NOTIFY_URLS, then try `bot notify --test`")
    if not found and not webhook:
        return warn(
            "alerts", "nobody is told of alerts", "set BOT_NOTIFY_URLS in the environment, try `bot notify --test`"
        )
    return ok(
        "alerts", f"{len(found)} addresses{' and a webhook' if webhook else ''}, from level {config.notify.level}"
    )


async def disk(config: Config) -> Check:
    """Write and fsync as the journal does."""
    folder = data_folder()
    probe = folder / f".doctor-{os.getpid()}"
    hint = "free some space, or set BOT_DATA to another folder"
    try:
        private_folder(folder)
        began = time.perf_counter()
        with probe.open("wb") as file:
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
        took_ms = (time.perf_counter() - began) * 1000
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return failed("disk", f"{folder} cannot be written: {error.strerror}", hint)
    finally:
        probe.unlink(missing_ok=True)
    text = f"{free / (1 << 30):.1f} GiB free in {folder}, a write reaches the disk in {took_ms:.1f} ms"
    if free < DISK_FAIL:
        return failed("disk", text, hint)
    if free < DISK_WARN or took_ms > SLOW_DISK_MS:
        return warn("disk", text, hint)
    return ok("disk", text)


async def journal(config: Config, held_here: bool) -> Check:
    """Check that the journal can be read, and whether another bot holds it."""
    path = data_folder() / "bot.db"
    if not path.is_file():
        return ok("journal", f"none yet; {path.name} will be made in {path.parent}")
    with Journal(path, read_only=True) as found:
        sessions = found.sessions()
    text = f"{len(sessions)} sessions, {path.stat().st_size / (1 << 20):.1f} MiB"
    if not held_here and (pid := lock_holder(path.with_name("bot.db.lock"))):
        return warn("journal", f"{text}; a bot runs on it (pid {pid})", "nothing to do if that is your bot")
    return ok("journal", text)


# The exchange and the account ------------------------------------------------------------------------------------------


async def clock_skew(bench: Bench) -> Check:
    """Compare the exchange's clock with this machine's."""
    began = time.perf_counter()
    offset = await bench.line.gateway.synchronise()
    trip_ms = (time.perf_counter() - began) * 1000 / 5
    if bench.line.clock.replay or abs(bench.line.clock.offset_ms) > DAY_MS:
        bench.replay = True
        return ok("clock", f"the exchange replays history; a request takes {trip_ms:.0f} ms")
    text = f"the exchange is {offset:+.0f} ms from this machine; a request takes {trip_ms:.0f} ms"
    hint = "switch the machine's time service on (timedatectl set-ntp true)"
    if abs(offset) > SKEW_FAIL_MS:
        return failed("clock", text, hint)
    return warn("clock", text, hint) if abs(offset) > SKEW_WARN_MS else ok("clock", text)


async def keys(bench: Bench) -> Check:
    """Check the key by reading the account's settings."""
    hint = "check BINANCE_API_KEY and what signs for it, the key's futures permission and its address list"
    kind = bench.line.kind
    try:
        account = await bench.line.gateway.account_config()
    except ReadFailed as error:
        if of_portfolio(str(error)):
            (finding,) = judge(ModeReading(hedge=False, multi_assets=False, portfolio_key=True))
            return failed("keys", finding.text, finding.way_out)
        if error.code == BAD_SIGNATURE:
            hint = f"{_signer(kind)} does not belong to BINANCE_API_KEY, or key and secret are swapped"
        return failed("keys", str(error), hint)
    if not account.can_trade:
        return failed("keys", "the account may not trade", "enable futures for the key, or ask the exchange why")
    return ok("keys", f"accepted, signing with {kind}{OLD_KINDS.get(kind, '')}; the account may trade")


def _signer(kind: str) -> str:
    return "BINANCE_API_SECRET" if kind == HMAC else f"the {kind} private key"


async def permissions(bench: Bench) -> Check:
    """Check the key's permissions beyond trading."""
    name, line = "permissions", bench.line
    page = "look at the key on the exchange's API page: no withdrawals, only this machine's address"
    if not line.addresses.permissions_url:
        return warn(name, "this venue does not tell what the key may do", page)
    line.client.MARGIN_API_URL = f"{line.addresses.permissions_url.rstrip('/')}/sapi"
    try:
        told = replies.permissions(await line.client.get_account_api_permissions())
    except Exception as error:
        outcome = translate(error)
        if isinstance(outcome, Rejected) and outcome.code in NOT_PERMITTED:
            return failed(name, describe(error), "check the key and its address list")
        return warn(name, f"the exchange does not tell what the key may do: {describe(error)}", page)
    bench.portfolio_key = told.portfolio_margin
    if not told.futures:
        return failed(name, "the key may not trade futures", "enable futures for the key on the exchange's API page")
    doubts = []
    if told.withdrawals:
        doubts.append("the key may withdraw money")
    if told.internal_transfer or told.universal_transfer:
        doubts.append("the key may move money to other accounts")
    if not told.listed_addresses_only:
        doubts.append("the key works from any address")
    if doubts:
        return warn(
            name, "; ".join(doubts), "make a key that can only read and trade futures, from this machine's address"
        )
    return ok(name, "reads and trades futures, from listed addresses only, without withdrawals")


async def position_mode(bench: Bench) -> Check:
    """Check that the bot can trade on the account: one-way mode, single-asset mode, isolated margin."""
    name = "position mode"
    reading, bench.leverages = await bench.line.gateway.read_mode(bench.symbols, portfolio_key=bench.portfolio_key)
    bench.mode, found = reading, judge(reading)
    for finding in sorted(found, key=lambda finding: not finding.fatal)[:1]:
        if finding.fatal:
            return failed(name, finding.text, finding.way_out)
        return warn(name, " and ".join(f.text for f in found), finding.way_out)
    return ok(name, "one-way, single asset")


async def fees(bench: Bench) -> Check:
    """Check that fees are paid from the quote wallet, on which every limit is measured."""
    page = "switch 'use BNB for fees' off on the exchange's futures page, or hold no BNB there"
    try:
        in_bnb = await bench.line.gateway.fees_in_bnb()
    except ReadFailed as error:
        return warn("fees", str(error), page)
    if in_bnb:
        text = "paid in BNB while there is any: the day's loss and the soft stop, measured in USDT, do not see them"
        return warn("fees", text, page)
    return ok("fees", "paid in USDT")


async def margins(bench: Bench) -> Check:
    """Check margin type and leverage of each symbol."""
    name = "margin and leverage"
    if bench.mode is None:
        bench.mode, bench.leverages = await bench.line.gateway.read_mode(bench.symbols)
    crossed, leverage = bench.mode.crossed, bench.leverages
    text = ", ".join(
        f"{symbol} {'crossed' if symbol in crossed else 'isolated'} {leverage[symbol]}x" for symbol in bench.symbols
    )
    if crossed and bench.mode.multi_assets:
        return warn(name, text, "in multi-assets mode there is no isolated margin: see position mode")
    other = [symbol for symbol in bench.symbols if leverage[symbol] != bench.leverage]
    if crossed or other:
        change = f"`run` sets isolated margin and {bench.leverage}x at its start; that needs {', '.join(crossed or other)} flat"
        return warn(name, text, change)
    return ok(name, text)


async def instruments(bench: Bench) -> Check:
    """Read the filters and check that the wallet can carry the smallest trade."""
    session = bench.session = await bench.line.gateway.load_session(bench.symbols, venue=bench.line.venue)
    halted = [i.symbol for i in session.instruments if not i.trading]
    if halted:
        return failed("instruments", f"{', '.join(halted)} not in normal trading", "wait, or change data.symbols")
    room = session.wallet * bench.leverage * Decimal(str(bench.config.risk.margin_use))
    texts, small = [], []
    for instrument in session.instruments:
        price = (await bench.line.gateway.quote(instrument.symbol)).ask
        least = max(instrument.min_notional, instrument.min_qty * price)
        texts.append(f"{instrument.symbol} tick {instrument.tick:f} lot {instrument.lot:f} from {least:.0f} USDT")
        if least > room:
            small.append(instrument.symbol)
    text = f"wallet {session.wallet:.2f} USDT; {'; '.join(texts)}"
    if session.wallet <= 0:
        return warn("instruments", f"{NO_MONEY}; {'; '.join(texts)}", "transfer USDT to the futures wallet")
    if bench.symbols[0] in small:
        return failed(
            "instruments", text, f"the wallet cannot carry the smallest {bench.symbols[0]} trade: transfer funds"
        )
    if small:
        return warn("instruments", text, f"hedge legs in {', '.join(small)} will be skipped: the wallet is too small")
    return ok("instruments", text)


async def positions(bench: Bench) -> Check:
    """Look for positions and orders, and check that each position has a stop."""
    gateway = bench.line.gateway
    held, orders = await gateway.positions(), await gateway.open_orders(bench.symbols)
    mine = [p for p in held if p.symbol in bench.symbols]
    bench.flat = not mine
    if not held and not orders:
        return ok("positions", "flat, no orders")
    stops = {o.symbol for o in orders if o.algo and (o.close_position or o.reduce_only)}
    text = words.positions((p.symbol, p.qty) for p in held) or "flat"
    text += f"; {len(orders)} orders"
    naked = [p.symbol for p in mine if p.symbol not in stops]
    if naked:
        return warn(
            "positions", f"{text}; {', '.join(naked)} has no stop", "start the bot, which guards it, or `bot flatten`"
        )
    return warn("positions", text, "the bot adopts what it knows and guards the rest; `bot flatten` closes it")
