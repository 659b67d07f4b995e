"""Process setup before trading: logs, the stop signal, compiled kernels."""

import asyncio
import logging
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TextIO, cast

import structlog

from bot.app.logfile import DailyFile
from bot.config import Config
from bot.core.printable import visible
from bot.core.redact import redact
from bot.report.progress import say


class StandardError:
    """The current standard error and the day's log file: secrets are redacted, and no error here stops the bot.

    A closed terminal must not end a bot with a position; a key must not reach a log, whatever library writes it.
    """

    def __init__(self) -> None:
        self.file: DailyFile | None = None

    def write(self, text: str) -> None:
        text = visible(redact(text))
        with suppress(ValueError, OSError):
            sys.stderr.write(text)
        if self.file is not None:
            self.file.write(text)

    def flush(self) -> None:
        with suppress(ValueError, OSError):
            sys.stderr.flush()


STANDARD_ERROR = StandardError()
# Stamped with machine time: `at_ms` in a line is the exchange's.
STAMPED: Final[list[Any]] = [
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure_logging(log_format: str, *, quiet: bool, debug: bool = False, folder: Path | None = None) -> None:
    """Send logs to standard error as text or JSON lines; libraries log warnings and above, with `debug` everything.

    Parameters
    ----------
    log_format
        "text" or "json".
    quiet
        Log only warnings and above.
    debug
        Log everything.
    folder
        Where daily log files are kept as well; None for none.
    """
    # A plain traceback: rich's, with the values of all variables, blocks the loop for most of a second.
    lines = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    processors: list[Any] = [structlog.processors.add_log_level, lines]
    if log_format == "json":
        processors = [*STAMPED, structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    least = logging.DEBUG if debug else logging.WARNING if quiet else logging.INFO
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, STANDARD_ERROR)),
    )
    STANDARD_ERROR.file = DailyFile(folder) if folder is not None else None
    handler = logging.StreamHandler(cast(TextIO, STANDARD_ERROR))
    handler.setFormatter(library_form(log_format))
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, handlers=[handler])


def library_form(log_format: str) -> logging.Formatter:
    """Return the formatter of messages that libraries and our own packages send through `logging`: text, or JSON."""
    if log_format != "json":
        return logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    own = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_logger_name, *STAMPED],
        processors=[own, structlog.processors.format_exc_info, structlog.processors.JSONRenderer()],
    )


async def interrupted() -> int:
    """Wait for a stop signal and return the exit code: 130 for Ctrl-C, 0 for SIGTERM (a service manager's normal stop)."""
    loop = asyncio.get_running_loop()
    asked: asyncio.Future[int] = loop.create_future()

    def ask(code: int) -> None:
        if not asked.done():
            asked.set_result(code)

    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 0)):
        _on_signal(loop, number, ask, code)
    return await asked


def _on_signal(loop: asyncio.AbstractEventLoop, number: int, ask: Callable[[int], None], code: int) -> None:
    """Handle a signal in the loop; on Windows the loop cannot, and the interpreter's handler passes it on."""
    try:
        loop.add_signal_handler(number, ask, code)
    except NotImplementedError:
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(ask, code))


def compile_kernels(config: Config, *, quiet: bool) -> float:
    """Compile every kernel, or load it from the cache, with progress output; return the seconds it took."""
    from bot.backtest.models import model_for
    from bot.strategy.features import compile_steps

    began = time.perf_counter()
    for done, total, name in compile_steps(config, model=model_for(config)):
        say(f"compiling {done}/{total} {name} ({time.perf_counter() - began:.1f} s)", quiet=quiet)
    seconds = time.perf_counter() - began
    say(f"compiled in {seconds:.1f} s", quiet=quiet)
    return seconds
