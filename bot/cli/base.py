"""Shared by all commands: the group, the global options, times and ranges.

Global options are valid before and after the command. Exit codes: 0 success, 1 failure, 2 wrong usage or configuration, 3 data
missing, 130 interrupted.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from bot.core.errors import ConfigError
from bot.core.printable import visible, visible_json

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass
class CommandSettings:
    """The values of the global options, and the configuration read with them."""

    config: str | None = None
    profile: str | None = None
    overrides: tuple[str, ...] = ()
    json: bool = False
    quiet: bool = False
    debug: bool = False
    log_format: str = "text"
    extra: dict[str, Any] = field(default_factory=dict)

    def load(self) -> Any:
        """Read, override and validate the configuration.

        Raises
        ------
        ConfigError
            The file cannot be read or is not UTF-8, or see `config.parse`.
        """
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
        """Return the configuration file: as named, else in the current folder, else the project's own."""
        if self.config is not None:
            return Path(self.config)
        here = Path("config.toml")
        return here if here.is_file() else ROOT / "config.toml"


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    settings = ctx.meta.setdefault("bot.settings", CommandSettings())
    name = str(param.name)
    if name == "overrides":
        settings.overrides += tuple(value)
    elif value not in (None, False):
        setattr(settings, name, value)


def common_options(function: Callable[..., Any]) -> Callable[..., Any]:
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
    """Turn a click option into one that is stored in the settings and not passed to the command."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        result = option(function)
        params = getattr(result, "__click_params__", None) or getattr(result, "params", [])
        params[-1].callback = _remember
        params[-1].expose_value = False
        return result

    return decorate


def settings_of() -> CommandSettings:
    return click.get_current_context().meta.setdefault("bot.settings", CommandSettings())


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@common_options
def cli() -> None:
    """Trade Binance USDⓈ-M futures on signals computed locally."""


def command(*args: Any, group: click.Group = cli, **kwargs: Any) -> Callable[..., Any]:
    """Register a command that also takes the global options."""

    def decorate(function: Callable[..., Any]) -> Any:
        return group.command(*args, **kwargs)(common_options(function))

    return decorate


def _time(context: click.Context, option: click.Parameter, text: str | None) -> int | None:
    """Parse a time with the command line, so that an invalid one is reported before anything long starts."""
    if text is None:
        return None
    from bot.market.store import parse_time

    try:
        return parse_time(text)
    except ConfigError as error:
        raise ConfigError(f"{option.opts[0]}: {error}") from None


def klines_option(required: bool = False) -> Callable[..., Any]:
    return click.option("--klines", metavar="DIR", required=required, help="Folder with SYMBOL-INTERVAL.parquet files.")


def range_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--from` and `--to`; an empty range raises `ConfigError`."""

    @functools.wraps(function)
    def checked(*args: Any, from_ms: int | None, to_ms: int | None, **more: Any) -> Any:
        if from_ms is not None and to_ms is not None and from_ms >= to_ms:
            raise ConfigError("--to must be later than --from")
        return function(*args, from_ms=from_ms, to_ms=to_ms, **more)

    until, since = "Up to this bar open time, exclusive.", "From this bar open time (2023-01-01, ...T12:03, ms)."
    bounded = click.option("--to", "to_ms", metavar="T", callback=_time, help=until)(checked)
    return click.option("--from", "from_ms", metavar="T", callback=_time, help=since)(bounded)


def speed_of(text: str | None, default: float) -> float | None:
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


def echo(text: str, *, err: bool = False) -> None:
    """Print text, which may come from a foreign file, with its control characters made visible."""
    click.echo(visible(text), err=err)


def echo_json(value: Any) -> None:
    import json

    click.echo(visible_json(json.dumps(value, indent=2, default=str)))
