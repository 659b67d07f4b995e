"""Entry point: run a command line; report an error in one sentence and an exit code."""

import asyncio
import sys
import traceback
from types import TracebackType

import click

from bot.cli import chart, data, operator, optimise, parity, research, run, signals, venue  # noqa: F401 — each registers its commands
from bot.cli.base import cli, echo
from bot.core.errors import BotError
from bot.core.redact import redact


def main(arguments: list[str] | None = None) -> None:
    """Run a command line and exit with its code."""
    debug = "--debug" in (sys.argv if arguments is None else arguments)
    if debug:
        sys.excepthook = _traceback
    try:
        cli.main(args=arguments, prog_name="python -m bot", standalone_mode=False)
    except SystemExit:
        raise
    except BotError as error:
        if debug:
            raise
        _fail(str(error), error.exit_code)
    except click.UsageError as error:
        hint = f" (try {error.ctx.command_path} --help)" if error.ctx is not None else ""
        _fail(f"{error.format_message()}{hint}", 2)
    except click.ClickException as error:
        _fail(error.format_message(), 1)
    except (KeyboardInterrupt, click.Abort, asyncio.CancelledError):
        _fail("interrupted", 130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone: nobody is left to report to
        raise SystemExit(0) from None
    except Exception as error:
        if debug:
            raise
        _fail(f"internal error: {type(error).__name__}: {error}; --debug shows where", 1)
    raise SystemExit(0)


def _traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback without secrets: library exceptions hold the URLs of their requests."""
    echo(redact("".join(traceback.format_exception(kind, error, trace))).rstrip(), err=True)


def _fail(sentence: str, code: int) -> None:
    echo(f"bot: {redact(sentence)}", err=True)
    raise SystemExit(code) from None
