"""The command line options of `run`."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunOptions:
    """Options of `run`; `speed` None means maximum, `from_ms` and `to_ms` are bar open times."""

    venue: str
    klines: Path | None = None
    from_ms: int | None = None
    to_ms: int | None = None
    speed: float | None = None
    once: bool = False
    dashboard: bool = True
    port: int = 8700
    json: bool = False
    quiet: bool = False
    log_format: str = "text"
    profile: str = "alert"
    debug: bool = False
