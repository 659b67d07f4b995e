"""Resume a session: replay the journal's events through a fresh engine, and handle a replay that does not restore the state.

The engine is a pure function of its events and settings. A session is therefore replayed with the settings that it was begun
with, and every resulting order must be the one on record. When settings or program have changed, the open trade of an
unfinished session is managed to its end with the old settings; when flat, a new session begins with the new ones. When the
replay contradicts the record, its state is discarded: a new session begins, and what the exchange holds is guarded like any
position that no trade explains. When the record or its settings cannot be read, the journal is set aside and the same is done
with a new one.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import orjson
from pydantic import ValidationError

from bot.app.venues import TradingVenue
from bot.config import Config
from bot.core.errors import InvariantError
from bot.core.events import KlineClosed
from bot.core.intents import PlaceOrder
from bot.engine import Engine
from bot.journal import Damaged, Journal, Session

LONG_SESSION: Final = 400_000  # a flat session with more events is ended instead of resumed


@dataclass(slots=True)
class ReplayedSession:
    """The result of a replay."""

    last_open: dict[str, int] = field(default_factory=dict)  # open time of each symbol's newest bar
    last_ms: int = 0
    fault: str = ""  # why its state cannot be trusted
    damaged: bool = False  # whether the cause is an unreadable journal


def settings_text(config: Config, venue: TradingVenue) -> str:
    """Return the settings of a session as text, with the speed of the venue, which scales some of them."""
    return orjson.dumps({"config": config.model_dump(mode="json"), "speed": venue.speed}).decode()


def engine_settings(session: Session, config: Config, venue: TradingVenue) -> Config:
    """Return the settings that a session's engine was begun with; the current ones if they are not on record.

    Raises
    ------
    Damaged
        This version cannot read them.
    """
    if session.config is None:
        return venue.in_wall_time(config)
    try:
        stored = orjson.loads(session.config)
        begun_with = Config.model_validate_json(orjson.dumps(stored["config"]))
        return replace(venue, speed=float(stored["speed"])).in_wall_time(begun_with)
    except (ValidationError, KeyError, ValueError, TypeError):
        raise Damaged(f"session {session.id} was begun with settings that this version does not know") from None


def same_settings(session: Session, config: Config) -> bool:
    """Return whether a session was begun with these settings."""
    if session.config is None:
        return True
    try:
        return bool(orjson.loads(session.config)["config"] == config.model_dump(mode="json"))
    except (KeyError, ValueError, TypeError):
        return False


def replay(
    journal: Journal, session: Session, engine: Engine, *, on_bar: Callable[[KlineClosed], None]
) -> ReplayedSession:
    """Replay a session's journalled events through a fresh engine, and compare its orders with those on record.

    Parameters
    ----------
    engine
        A fresh engine with the session's settings.
    on_bar
        Called with each bar after the engine has handled it.
    """
    result = ReplayedSession()
    try:
        _compare(journal, session, engine, result, on_bar=on_bar)
    except Damaged as error:
        result.fault, result.damaged = str(error), True
    return result


def _compare(
    journal: Journal,
    session: Session,
    engine: Engine,
    result: ReplayedSession,
    *,
    on_bar: Callable[[KlineClosed], None],
) -> None:
    sent = {i.client_id: i for _, i in journal.intents(session.id) if isinstance(i, PlaceOrder)}
    for seq, event in journal.events(session.id):
        try:
            outputs = engine.handle(event)
        except InvariantError as error:
            result.fault = f"event {seq} breaks a rule: {error}"
            return
        except Exception as error:  # else the same event would end every start before the account is reconciled
            result.fault = f"event {seq} cannot be handled: {type(error).__name__}: {error}"
            return
        result.last_ms = max(result.last_ms, event.at_ms)
        if isinstance(event, KlineClosed) and not event.early:
            result.last_open[event.kline.symbol] = event.kline.open_ms
            on_bar(event)
        for output in outputs:
            if isinstance(output, PlaceOrder) and sent.pop(output.client_id, None) != output:
                result.fault = f"event {seq} leads to order {output.client_id}, which is not on record like this"
                return
    if sent:
        result.fault = f"order {next(iter(sent))} is on record, and nothing leads to it"
