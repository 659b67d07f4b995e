"""Scheduled research (strategy 12): low-priority processes whose results are proposed to a person, never applied.

Weekly: walk-forward over the settings of Smart Trail and the blocks; monthly: the 60-day walk-forward and an
optimisation; quarterly: a Monte-Carlo stress. Each starts by downloading klines and leaves its results, its log and
`proposed.diff` in `BOT_DATA/proposals/`. The proposal is the complete settings of one result: a mixture of two was never
tested.
"""

import asyncio
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bot.config import Config
from bot.core.files import open_private, private_folder, write_private
from bot.core.redact import redact
from bot.core.words import counted

log = logging.getLogger(__name__)
SECRETS: Final = ("BINANCE_", "BOT_NOTIFY_", "BOT_WEBHOOK_")  # research needs no keys
TIMEOUT_S: Final = 12 * 3_600.0


@dataclass(frozen=True, slots=True)
class ResearchStep:
    """One command of a research run: `python -m bot ...`."""

    name: str
    words: tuple[str, ...]


def steps_of(kind: str, config: Config, *, klines: Path, out: Path) -> list[ResearchStep]:
    """Return the steps of a research run: fresh klines first, then what strategy 12 asks for.

    Parameters
    ----------
    kind
        weekly, monthly or quarterly.
    klines
        Folder of the klines.
    out
        Folder of the results.

    Raises
    ------
    ValueError
        `kind` is unknown.
    """
    symbols = ",".join(config.data.symbols)
    fetch = ResearchStep("download", ("download", "--symbols", symbols, "--intervals", "3m,15m", "--out", str(klines)))
    folder = ("--klines", str(klines))
    match kind:
        case "weekly":
            space = (
                "--space",
                "blocks,indicators",
            )  # Smart Trail and the blocks of Price Action Concepts are among them
            return [
                fetch,
                ResearchStep(
                    "walkforward", ("walkforward", *folder, *space, "--out", str(out / "walkforward"), "--json")
                ),
            ]
        case "monthly":
            trials = str(config.jobs.research_trials)
            walk = ("walkforward", *folder, "--slice", "60d", "--json")
            return [
                fetch,
                ResearchStep("walkforward", walk),
                ResearchStep("optimise", ("optimise", *folder, "--trials", trials, "--json")),
            ]
        case "quarterly":
            test = ("backtest", *folder, "--out", str(out / "backtest"), "--json")
            stress = ("montecarlo", str(out / "backtest" / "trades.parquet"), "--json")
            return [fetch, ResearchStep("backtest", test), ResearchStep("montecarlo", stress)]
    raise ValueError(f"there is no research run {kind!r}")


class Research:
    """Runs research processes one after the other and leaves their results in a folder.

    Parameters
    ----------
    common
        Arguments put before each command: `--config FILE`, `--profile NAME`.
    tell
        Called with one sentence when a run has ended.
    """

    def __init__(
        self,
        config: Config,
        *,
        folder: Path,
        klines: Path,
        today: Callable[[], str],
        tell: Callable[[str], None],
        common: Sequence[str] = (),
    ) -> None:
        self._config, self._folder, self._klines = config, folder, klines
        self._today, self._tell, self._common = today, tell, tuple(common)
        self._process: asyncio.subprocess.Process | None = None
        self._busy = asyncio.Lock()

    async def run(self, kind: str) -> None:
        """Do one research run; a failed step ends it and is named in the message."""
        async with self._busy:
            out = self._folder / f"{self._today()}-{kind}"
            private_folder(out)
            for step in steps_of(kind, self._config, klines=self._klines, out=out):
                code = await self._step(step, out)
                if code:
                    self._tell(f"{kind} research stopped: {step.name} ended with {code}; see {out / step.name}.log")
                    return
            changes = await asyncio.to_thread(self._propose, out)
            count = len(changes) // 2  # a change is two lines, the old value and the new
            words = f"proposes {counted(count, 'change')}" if count else "proposes no change"
            self._tell(f"{kind} research is done and {words}; nothing was applied: {out}")

    async def _step(self, step: ResearchStep, out: Path) -> int:
        nice = ("nice", "-n", "19") if shutil.which("nice") else ()
        environment = {name: value for name, value in os.environ.items() if not name.startswith(SECRETS)}
        paths = (out / f"{step.name}.json", out / f"{step.name}.log")
        with open_private(paths[0], "wb") as told, open_private(paths[1], "wb") as said:
            self._process = await asyncio.create_subprocess_exec(
                *nice,
                sys.executable,
                "-m",
                "bot",
                *self._common,
                *step.words,
                stdout=told,
                stderr=said,
                env=environment,
                umask=0o077,  # files of a step are as private as the rest of the bot's data
            )
            try:
                return await asyncio.wait_for(self._process.wait(), TIMEOUT_S)
            except TimeoutError:
                self._process.kill()
                return await self._process.wait()
            except asyncio.CancelledError:
                if self._process.returncode is None:
                    self._process.kill()
                    await self._process.wait()
                raise
            finally:
                self._process = None

    def _propose(self, out: Path) -> list[str]:
        """Write the changes that one result proposes as a diff of overrides; return its lines.

        Of several results the last by name is used: a walk-forward has precedence over a search, whose winner was
        evaluated only once.
        """
        values: dict[str, Any] = {}
        source = ""
        for path in sorted(out.glob("*.json")):
            try:
                result = json.loads(path.read_bytes() or b"null")
            except ValueError:
                log.warning("%s is no JSON: nothing is proposed from it", path)
                continue
            if found := settings_in(result, self._config):
                values, source = found, path.name
        lines = changes_of(self._config, values)
        if lines:
            write_private(out / "proposed.diff", ("\n".join([f"# {source}", *lines]) + "\n").encode())
        return lines

    async def close(self) -> None:
        """Terminate a running process."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()


def settings_in(result: Any, config: Config) -> dict[str, Any]:
    """Return the settings (`section.key`) that a research result would choose.

    These are those of a search's winner or of a walk-forward's newest slice, or none if it violated a constraint. Of any
    other result, they are the last table of settings in it.
    """
    match result:
        case {"winner": {} as chosen} | {"slices": [*_, {} as chosen]}:
            if chosen.get("feasible") is False:
                return {}
            result = chosen
    found = [t for t in _tables(result) if t and all(_setting(config, str(name)) is not None for name in t)]
    return dict(found[-1]) if found else {}


def _tables(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        yield value
        for inner in value.values():
            yield from _tables(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _tables(inner)


def _setting(config: Config, name: str) -> Any:
    """Return a setting's current value; None if there is no such setting."""
    if "." not in name:
        return None
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part, None)
    return value


def changes_of(config: Config, values: Mapping[str, Any]) -> list[str]:
    """Return a diff of settings, in the syntax of `--set`.

    >>> changes_of(Config(), {"overlays.smart_trail": 4, "overlays.neo_cloud": 3})
    ['- overlays.smart_trail=3', '+ overlays.smart_trail=4']
    """
    old_and_new = [(name, _setting(config, name), value) for name, value in changed(config, values).items()]
    return [redact(text) for name, old, new in old_and_new for text in (f"- {name}={old}", f"+ {name}={new}")]


def changed(config: Config, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that differ from the current ones, by name."""
    return {name: value for name, value in sorted(values.items()) if _setting(config, name) != value}
