"""Notifications: send alerts to Telegram, Slack, Discord, e-mail and a hundred more services by URL, through apprise.

URLs contain secrets, so they come only from the environment: BOT_NOTIFY_URLS (one or several, separated by whitespace; or
BOT_NOTIFY_URLS_FILE naming a file outside the project), and BOT_WEBHOOK_URL for the webhook form of strategy 9. The same
alert is not sent twice within `notify.repeat_minutes`, and at most `notify.per_hour` are sent in an hour; suppressed alerts
are counted and reported with the next one. Critical alerts are exempt from the hourly limit. Sending is asynchronous: the
bot never waits, and a failed URL is reported by its scheme only.
"""

import asyncio
import logging
import os
import re
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from bot.config import Notify
from bot.core.errors import ConfigError
from bot.core.intents import Alert
from bot.core.redact import hide, redact
from bot.core.times import HOUR_MS, MINUTE_MS
from bot.report.hub import Hub

log = logging.getLogger(__name__)

LEVELS: Final = {"info": 0, "warning": 1, "critical": 2}
QUEUE: Final = 200
SEND_TIMEOUT_S: Final = 30.0
_APART: Final = re.compile(r"[/:@?&=,]+")
KINDS: Final = {"info": "info", "warning": "warning", "critical": "failure"}  # apprise's names


class BadAddress(ConfigError):
    """An invalid notification or webhook URL."""


def addresses() -> tuple[list[str], str]:
    """Return the notification URLs and the webhook URL from the environment, and redact them in all output.

    Raises
    ------
    BadAddress
        The file cannot be read, or a URL is invalid.
    """
    text = os.environ.get("BOT_NOTIFY_URLS", "")
    if not text and (name := os.environ.get("BOT_NOTIFY_URLS_FILE")):
        try:
            text = Path(name).read_text(encoding="utf-8")
        except OSError as error:
            raise BadAddress(f"BOT_NOTIFY_URLS_FILE cannot be read: {error.strerror}") from None
    found, webhook = text.split(), os.environ.get("BOT_WEBHOOK_URL", "").strip()
    hide_addresses(*found, webhook)
    for number, url in enumerate(found, start=1):
        if "://" not in url:
            raise BadAddress(f"address {number} of BOT_NOTIFY_URLS is no URL such as tgram://… or mailto://…")
    if webhook and urlsplit(webhook).scheme not in ("http", "https"):
        raise BadAddress("BOT_WEBHOOK_URL is no http address")
    return found, webhook


def hide_addresses(*urls: str) -> None:
    """Redact URLs and their possibly secret parts in all output: passwords, tokens, channel and chat numbers."""
    for url in urls:
        if not url:
            continue
        parts = urlsplit(url)
        hosts = {parts.hostname or ""} if "." in (parts.hostname or "") else set()
        words = [w for w in _APART.split(url.partition("://")[2]) if w not in hosts]
        odd = [w for w in words if len(w) >= 8 and (w.lower() != w or any(c.isdigit() for c in w) or len(w) >= 16)]
        hide(url, parts.password or "", *odd)


class Notifier:
    """Sends alerts, deduplicated and limited.

    Parameters
    ----------
    urls
        URLs in apprise's format.
    webhook
        URL to which the webhook form of a signal is posted; empty for none.
    now_ms
        Clock of the repetition and hourly limits.
    title
        Title of the notifications.
    """

    def __init__(
        self, settings: Notify, urls: list[str], *, webhook: str, now_ms: Callable[[], int], title: str = "bot"
    ) -> None:
        self.settings, self._urls, self._webhook, self._now_ms = settings, urls, webhook, now_ms
        hide_addresses(*urls, webhook)
        self._title = title
        self._seen: dict[str, int] = {}
        self._sent: deque[int] = deque()
        self._queue: asyncio.Queue[Alert | None] = asyncio.Queue(QUEUE)
        self._apprise: Any = None
        self.sent = self.failed = self.held_back = self.dropped = 0
        self._untold = 0

    def offer(self, alert: Alert) -> bool:
        """Queue an alert, without waiting; return whether it will be sent."""
        form = bool(self._webhook and alert.payload.get("trail"))
        if not form and not self._due(alert):
            return False
        if self._queue.full():
            self.dropped += 1
            return False
        self._queue.put_nowait(alert)
        return True

    def _due(self, alert: Alert) -> bool:
        """Whether an alert's level is high enough, it is not a repetition, and the hourly limit is not reached."""
        if not self._urls or LEVELS[alert.level] < LEVELS[self.settings.level]:
            return False
        now, key = self._now_ms(), f"{alert.level} {_shape(alert.text)}"
        last = self._seen.get(key)
        if last is not None and now - last < self.settings.repeat_minutes * MINUTE_MS:
            return self._hold()
        while self._sent and now - self._sent[0] >= HOUR_MS:
            self._sent.popleft()
        if len(self._sent) >= self.settings.per_hour and alert.level != "critical":
            return self._hold()
        if len(self._seen) > 1_000:
            self._seen = {k: at for k, at in self._seen.items() if now - at < self.settings.repeat_minutes * MINUTE_MS}
        self._seen[key] = now
        self._sent.append(now)
        return True

    def _hold(self) -> bool:
        self.held_back += 1
        self._untold += 1
        return False

    async def run(self) -> None:
        """Send queued alerts one after the other until closed."""
        while (alert := await self._queue.get()) is not None:
            await self.send(alert)

    def close(self) -> None:
        """End `run` after the queued alerts; if the queue is full, its oldest alert is dropped."""
        if self._queue.full():
            self._queue.get_nowait()
            self.dropped += 1
        self._queue.put_nowait(None)

    async def send(self, alert: Alert) -> bool:
        """Send one alert now; return whether all services accepted it."""
        good = True
        if self._webhook and alert.payload.get("trail"):
            good = await self._post(alert.payload)
        if self._urls and LEVELS[alert.level] >= LEVELS[self.settings.level]:
            untold, self._untold = self._untold, 0
            text = alert.text + (f"\n({untold} repeated or surplus alerts were held back)" if untold else "")
            good = await self._notify(alert.level, redact(text)) and good
        self.sent += good
        self.failed += not good
        return good

    async def _notify(self, level: str, text: str) -> bool:
        import apprise

        if self._apprise is None:
            self._apprise = await asyncio.to_thread(self._build)
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                result = await self._apprise.async_notify(body=text, title=self._title, notify_type=KINDS[level])
        except (TimeoutError, OSError, TypeError, apprise.exception.AppriseException) as error:
            log.warning("an alert was not sent: %s", redact(f"{type(error).__name__} {error}"))
            return False
        if not result:
            log.warning("an alert was refused by a notification service (%s)", ", ".join(self.kinds()))
        return bool(result)

    def _build(self) -> Any:
        """Create the apprise service; importing apprise is slow, so this runs in a thread."""
        import apprise

        logging.getLogger("apprise").setLevel(logging.CRITICAL)  # its messages contain URLs; ours do not
        service = apprise.Apprise()
        for number, url in enumerate(self._urls, start=1):
            if not service.add(url):
                log.warning("address %d of BOT_NOTIFY_URLS is not understood", number)
        return service

    def kinds(self) -> list[str]:
        """Return the schemes of the URLs."""
        return sorted({urlsplit(url).scheme for url in self._urls})

    async def _post(self, payload: dict[str, Any]) -> bool:
        try:
            timeout = aiohttp.ClientTimeout(total=SEND_TIMEOUT_S)
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(self._webhook, json=payload) as r,
            ):
                if r.status < 300:
                    return True
                log.warning("the webhook refused a signal: HTTP %d", r.status)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            log.warning("the webhook did not take a signal: %s", redact(f"{type(error).__name__} {error}"))
        return False

    async def watch(self, hub: Hub) -> None:
        """Queue all published alerts until the hub closes."""
        subscription = hub.subscribe(keep=1_000)
        try:
            while not subscription.closed:
                await subscription.wait()
                for item in subscription.take():
                    if isinstance(item, Alert):
                        self.offer(item)
        finally:
            subscription.close()


def _shape(text: str) -> str:
    """Replace the numbers of a text: "naked for 1503 ms" and "naked for 1611 ms" are the same alert.

    >>> _shape("BTCUSDT naked for 1503 ms")
    'BTCUSDT naked for # ms'
    """
    out: list[str] = []
    for word in text.split():
        number = word.strip("+-%:,;()").replace(".", "").replace(",", "")
        out.append("#" if number.isdigit() else word)
    return " ".join(out)


TEST_SIGNAL: Final = {
    "symbol": "BINANCE:BTCUSDT",
    "side": "BUY",
    "qty": "0",
    "sl": "0",
    "tp1": "0",
    "trail": "AI_SUPERTREND",
    "test": True,
}


async def try_addresses(settings: Notify) -> list[dict[str, Any]]:
    """Send a test alert to each URL separately and return which services accepted it.

    Raises
    ------
    ConfigError
        No URL is set, or one is invalid.
    """
    urls, webhook = addresses()
    if not urls and not webhook:
        raise ConfigError("there is no address to try: set BOT_NOTIFY_URLS or BOT_WEBHOOK_URL in the environment")
    rows: list[dict[str, Any]] = []
    alert = Alert("critical", "This is a test: alerts of the bot reach you here.")
    for url in urls:
        sender = Notifier(settings, [url], webhook="", now_ms=lambda: 0)
        rows.append({"kind": urlsplit(url).scheme, "ok": await sender.send(alert)})
    if webhook:
        sender = Notifier(settings, [], webhook=webhook, now_ms=lambda: 0)
        rows.append({"kind": "webhook", "ok": await sender.send(Alert("info", "test", dict(TEST_SIGNAL)))})
    return rows
