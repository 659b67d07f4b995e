"""The operator's commands: one function each, the work itself stands in the rooms below.

Global options are valid before and after the command. Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 wanted
data missing, 130 interrupted. Errors are one sentence on standard error; `--debug` adds the traceback.
"""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from bot.core.errors import BotError, ConfigError

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Settings:
    """What the global options said, and the configuration read with them."""

    config: str | None = None
    profile: str | None = None
    overrides: tuple[str, ...] = ()
    json: bool = False
    quiet: bool = False
    debug: bool = False
    log_format: str = "text"
    extra: dict[str, Any] = field(default_factory=dict)

    def load(self) -> Any:
        """Read, override and validate the configuration; see `config.parse` for the errors."""
        from bot.config import parse

        path = self.path()
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}; name another with --config FILE") from None
        except UnicodeDecodeError:
            raise ConfigError(f"{path} is not UTF-8 text; name another with --config FILE") from None
        return parse(text, source=path.name, profile=self.profile, overrides=self.overrides)

    def path(self) -> Path:
        """Return the configuration file: as named, else here, else the project's own."""
        if self.config is not None:
            return Path(self.config)
        here = Path("config.toml")
        return here if here.is_file() else ROOT / "config.toml"


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    settings = ctx.meta.setdefault("bot.settings", Settings())
    name = str(param.name)
    if name == "overrides":
        settings.overrides += tuple(value)
    elif value not in (None, False):
        setattr(settings, name, value)


def _common(function: Callable[..., Any]) -> Callable[..., Any]:
    options = [
        click.option("--json", is_flag=True, help="Machine-readable output."),
        click.option("--config", metavar="FILE", help="Configuration file (default config.toml)."),
        click.option("--profile", metavar="NAME", help="Named set of overrides in the configuration."),
        click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Override one setting."),
        click.option("--log-format", type=click.Choice(["text", "json"]), help="Form of the log on standard error."),
        click.option("--quiet", is_flag=True, help="No progress and no log below warnings."),
        click.option("--debug", is_flag=True, help="Tracebacks of errors."),
    ]
    for option in reversed(options):
        function = option_callback(option)(function)
    return function


def option_callback(option: Callable[..., Any]) -> Callable[..., Any]:
    """Turn a click option into one that is remembered in the settings and not handed to the command."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        result = option(function)
        params = getattr(result, "__click_params__", None) or getattr(result, "params", [])
        params[-1].callback = _remember
        params[-1].expose_value = False
        return result

    return decorate


def _settings() -> Settings:
    return click.get_current_context().meta.setdefault("bot.settings", Settings())


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@_common
def cli() -> None:
    """Trade Binance USDⓈ-M futures on signals that are computed here."""


def command(*args: Any, group: click.Group = cli, **kwargs: Any) -> Callable[..., Any]:
    """Register a command that takes the global options too."""

    def decorate(function: Callable[..., Any]) -> Any:
        return group.command(*args, **kwargs)(_common(function))

    return decorate


def _time(text: str | None) -> int | None:
    if text is None:
        return None
    from bot.market.store import parse_time

    return parse_time(text)


def _klines_option(required: bool = False) -> Callable[..., Any]:
    return click.option("--klines", metavar="DIR", required=required, help="Folder with SYMBOL-INTERVAL.parquet files.")


def _range_options(function: Callable[..., Any]) -> Callable[..., Any]:
    function = click.option("--to", "to", metavar="T", help="Up to this bar open time, exclusive.")(function)
    return click.option("--from", "from_", metavar="T", help="From this bar open time (2023-01-01, ...T12:03, ms).")(
        function
    )


@command()
@click.option(
    "--venue", type=click.Choice(["sim", "testnet"]), default="sim", show_default=True, help="Where to trade."
)
@_klines_option()
@_range_options
@click.option("--speed", metavar="X", help="Replay speed of sim, a number or max (default sim.speed).")
@click.option("--once", is_flag=True, help="End when the replay ends and print the session report.")
@click.option("--no-dashboard", is_flag=True, help="Do not serve the dashboard.")
@click.option("--port", type=click.IntRange(0, 65535), help="The dashboard's port (default dashboard.port).")
def run(
    venue: str,
    klines: str | None,
    from_: str | None,
    to: str | None,
    speed: str | None,
    once: bool,
    no_dashboard: bool,
    port: int | None,
) -> None:
    """Run the bot: one process, signals, orders, protection."""
    settings = _settings()
    config = settings.load()
    if venue != "sim" and (klines or from_ or to or speed or once):
        raise ConfigError("--klines, --from, --to, --speed and --once replay history and belong to --venue sim")
    from bot.app.options import RunOptions
    from bot.app.run import run_bot

    options = RunOptions(
        venue=venue,
        klines=Path(klines) if klines else None,
        from_ms=_time(from_),
        to_ms=_time(to),
        speed=_speed(speed, config.sim.speed),
        once=once,
        dashboard=not no_dashboard,
        port=config.dashboard.port if port is None else port,
        json=settings.json,
        quiet=settings.quiet,
        log_format=settings.log_format,
        profile=settings.profile or "alert",
    )
    raise SystemExit(asyncio.run(run_bot(config, options)))


def _speed(text: str | None, default: float) -> float | None:
    if text is None:
        return default
    if text == "max":
        return None
    try:
        value = float(text)
    except ValueError:
        raise ConfigError(f"--speed {text!r} is neither a number nor max") from None
    if not 0 < value < 1e9:
        raise ConfigError(f"--speed {text} must be above 0")
    return value


@command()
@click.option("--port", type=click.IntRange(0, 65535), default=8787, show_default=True, help="0 takes any free port.")
@_klines_option()
@_range_options
@click.option("--speed", default="1", show_default=True, metavar="X", help="Replay seconds per second, at most 60.")
@click.option("--faults", metavar="FILE", help="JSON list of faults to begin with.")
def exchange(port: int, klines: str | None, from_: str | None, to: str | None, speed: str, faults: str | None) -> None:
    """Serve the embedded exchange alone, for any Binance futures client."""
    settings = _settings()
    config = settings.load()
    factor = _speed(speed, 1.0)
    if factor is None or factor > 60:
        raise ConfigError("exchange --speed is at most 60: clients of a free-running clock need wall time to answer")
    from bot.app.serve import serve_exchange

    code = serve_exchange(
        config,
        port=port,
        klines=Path(klines) if klines else None,
        from_ms=_time(from_),
        to_ms=_time(to),
        speed=factor,
        faults=Path(faults) if faults else None,
        quiet=settings.quiet,
        log_format=settings.log_format,
    )
    raise SystemExit(asyncio.run(code))


@cli.group()
@_common
def data() -> None:
    """Klines at rest."""


@command("check", group=data)
@click.argument("folder", required=False, metavar="[DIR]")
def data_check(folder: str | None) -> None:
    """Report gaps, duplicates and impossible bars of every kline file (default data/klines)."""
    from bot.market.checks import run_check
    from bot.market.paths import data_folder

    settings = _settings()
    report, code = run_check(Path(folder) if folder else data_folder() / "klines")
    click.echo(report.json() if settings.json else "\n".join(report.lines()))
    raise SystemExit(code)


@command()
@click.option("--out", required=True, metavar="DIR", help="Folder to write the kline files to.")
@click.option("--days", type=click.IntRange(1, 3650), default=30, show_default=True, help="Length of the market.")
@click.option("--seed", type=click.IntRange(min=0), help="Same seed, same market (default sim.seed).")
def synth(out: str, days: int, seed: int | None) -> None:
    """Write the synthetic market as kline files."""
    from bot.market.synthetic import write_market

    settings = _settings()
    config = settings.load()
    files = write_market(Path(out), days, config.sim.seed if seed is None else seed)
    if settings.json:
        _echo_json([str(path) for path in files])
    else:
        click.echo(f"{len(files)} files with {days} days written to {out}")


@command()
@click.option("--klines", required=True, metavar="DIR_OR_FILE", help="Folder, or one kline file.")
@click.option("--symbol", metavar="S", help="Default BTCUSDT, or the file's.")
@click.option("--interval", type=click.Choice(["3m", "15m"]), help="Default 3m, or the file's.")
@click.option("--out", required=True, metavar="FILE", help="Parquet, or CSV by the file's ending.")
@_range_options
@click.option("--cold", is_flag=True, help="Start the indicators at --from, with nothing before.")
def signals(
    klines: str, symbol: str | None, interval: str | None, out: str, from_: str | None, to: str | None, cold: bool
) -> None:
    """Write every indicator value, condition and gate per closed bar."""
    from bot.research.signals import write_signals

    settings = _settings()
    summary = write_signals(
        settings.load(),
        Path(klines),
        Path(out),
        symbol=symbol,
        interval=interval,
        from_ms=_time(from_),
        to_ms=_time(to),
        cold=cold,
        quiet=settings.quiet,
    )
    if settings.json:
        _echo_json(summary)
    else:
        click.echo(summary["sentence"])


@command()
@click.argument("time", metavar="TIME")
@click.option("--symbol", metavar="S", help="Default BTCUSDT, which alone is decided on.")
@_klines_option()
def explain(time: str, symbol: str | None, klines: str | None) -> None:
    """Tell why there was or wasn't a signal on the closed bar that contains TIME (2023-01-01T12:03, ms)."""
    from bot.market.store import parse_time
    from bot.research.explain import explain as explain_bar
    from bot.research.explain import print_explanation

    settings = _settings()
    report = explain_bar(
        settings.load(), parse_time(time), symbol=symbol, klines=Path(klines) if klines else None, quiet=settings.quiet
    )
    if settings.json:
        _echo_json(report)
    else:
        print_explanation(report)


@command()
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated values.")
@click.option("--all", "every", is_flag=True, help="All sessions of the journal, not only the last.")
def trades(as_csv: bool, every: bool) -> None:
    """List the trades of the last session."""
    from bot.report.operator import print_trades

    settings = _settings()
    print_trades(settings.load(), as_json=settings.json, as_csv=as_csv, every=every)


@command()
def status() -> None:
    """Show the state of the running bot, or of the last session."""
    from bot.report.operator import print_status

    settings = _settings()
    raise SystemExit(print_status(settings.load(), as_json=settings.json))


@command()
def arm() -> None:
    """Allow entries again after a soft stop."""
    from bot.report.operator import send_command

    settings = _settings()
    raise SystemExit(send_command(settings.load(), "arm", as_json=settings.json))


@command("show-config")
def show_config() -> None:
    """Print the effective configuration, secrets redacted."""
    from bot.report.operator import render_config

    settings = _settings()
    config = settings.load()
    click.echo(render_config(config, as_json=settings.json))


def _echo_json(value: Any) -> None:
    import json

    click.echo(json.dumps(value, indent=2, default=str))


def main(arguments: list[str] | None = None) -> None:
    """Run a command line and exit with its code."""
    debug = "--debug" in (sys.argv if arguments is None else arguments)
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
        sys.stderr.close()  # the reader of our output went away: nothing is left to say it to
        raise SystemExit(0) from None
    except Exception as error:
        if debug:
            raise
        _fail(f"internal error: {type(error).__name__}: {error}; --debug shows where", 1)
    raise SystemExit(0)


def _fail(sentence: str, code: int) -> None:
    click.echo(f"bot: {sentence}", err=True)
    raise SystemExit(code) from None
