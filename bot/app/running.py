"""The interface of the running bot for its helpers, such as upkeep and shutdown."""

from typing import Any, Protocol

from bot.app.halt import Halt
from bot.app.loop import Loop
from bot.app.options import RunOptions
from bot.app.supervision import Supervision
from bot.app.venues import TradingVenue
from bot.config import Config
from bot.engine import Engine
from bot.execution.client import HardenedBSM, LocalClient
from bot.execution.executor import Executor
from bot.execution.gateway import Gateway
from bot.execution.limits import RequestLimits
from bot.execution.streams import Streams
from bot.execution.tasks import Tasks
from bot.journal import Journal, Session
from bot.report.hub import Hub


class Running(Protocol):
    """A bot that has started."""

    config: Config
    options: RunOptions
    venue: TradingVenue
    journal: Journal
    session: Session | None
    engine: Engine
    loop: Loop
    hub: Hub
    halt: Halt
    quiet: bool
    failure: BaseException | None
    supervision: Supervision
    tasks: Tasks
    limits: RequestLimits
    client: LocalClient
    sockets: HardenedBSM
    gateway: Gateway
    executor: Executor | None
    streams: Streams | None

    def ending(self) -> str:
        """Return why the bot stops, and what the exchange held at that time."""

    def snapshot(self) -> dict[str, Any]:
        """Return the engine's state, completed by what only the shell knows."""
