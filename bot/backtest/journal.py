"""Replay of a live session: the journal's events, in order, through a fresh engine.

The engine reads no clock and no random numbers, so the same events must give the same decisions, intents, equity and
trades, to the last digit. A difference is a bug in the engine or in the journal, and is printed as a bug report.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
from pydantic import ValidationError

from bot.backtest.bars import calendar_of
from bot.backtest.models import model_for
from bot.config import Config
from bot.core.codec import encode
from bot.core.errors import DataError, DataMissing, InvariantError
from bot.core.events import Event, SessionStarted
from bot.core.records import Decision, EquityPoint, NakedSpell, TradeRecord
from bot.engine import Engine
from bot.journal import Journal
from bot.strategy.features import Features

KINDS: Final = ("intent", "decision", "trade", "equity point")
FAR: Final = 1 << 62
SHOWN: Final = 10  # differences printed per kind


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference between journal and replay."""

    kind: str  # intent, decision, trade or equity
    at: str  # sequence number of the event, open time of the bar, or trade id
    journal: str
    replay: str


@dataclass(slots=True)
class ReplayedJournal:
    """Result of a replay: counts of what was compared, and the differences."""

    session: int
    venue: str
    events: int = 0
    compared: dict[str, int] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def compare(self, kind: str, ours: dict[Any, Any], theirs: dict[Any, Any]) -> None:
        """Compare the replay's records (`ours`) with the journal's (`theirs`) by key."""
        self.compared[kind] = len(theirs)
        for key in sorted(ours.keys() | theirs.keys()):
            before, now = theirs.get(key), ours.get(key)
            if before != now:
                self.differences.append(Difference(kind, str(key), _short(before), _short(now)))

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "session": self.session,
            "venue": self.venue,
            "events": self.events,
            "compared": self.compared,
            "differences": [
                {"kind": d.kind, "at": d.at, "journal": d.journal, "replay": d.replay} for d in self.differences
            ],
            "notes": self.notes,
        }

    def lines(self) -> Iterator[str]:
        """Yield the lines of the report."""
        counted = ", ".join(f"{n} {kind}s" for kind, n in self.compared.items())
        yield f"session {self.session} ({self.venue}): {self.events} events replayed, {counted} compared"
        yield from self.notes
        if not self.differences:
            yield "everything is reproduced exactly"
            return
        yield f"BUG: {len(self.differences)} differences; please report what follows with the journal"
        for kind in self.compared:
            found = [d for d in self.differences if d.kind == kind]
            for difference in found[:SHOWN]:
                yield f"  {kind} at {difference.at}"
                yield f"    journal: {difference.journal}"
                yield f"    replay:  {difference.replay}"
            if len(found) > SHOWN:
                yield f"  ... and {len(found) - SHOWN} more {kind}s"


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 400 else f"{text[:400]} ..."


def choose_session(journal: Journal, wanted: int | None) -> dict[str, Any]:
    """Return the requested session, by default the last one whose events are still in the journal.

    Raises
    ------
    DataMissing
        The journal holds no events of it.
    """
    sessions = journal.sessions()
    for row in reversed(sessions):
        if wanted is not None and row["id"] != wanted:
            continue
        if next(journal.events(row["id"]), None) is not None:
            return row
    known = ", ".join(str(row["id"]) for row in sessions) or "none"
    named = f"session {wanted}" if wanted is not None else "a session"
    raise DataMissing(f"{journal.path} holds no events of {named} (its sessions: {known}): nothing can be replayed")


def replay_journal(config: Config, path: Path, *, session: int | None = None) -> ReplayedJournal:
    """Replay a session of the journal at `path` and compare everything it produced.

    The settings are those that the session started with, where the journal holds them, else `config`.

    Raises
    ------
    DataMissing
        There is no journal, or no session with events.
    DataError
        The session's settings are not valid in this version.
    """
    with Journal(path, read_only=True) as journal:
        row = choose_session(journal, session)
        number, venue = int(row["id"]), str(row["venue"])
        report = ReplayedJournal(number, venue)
        stored = row.get("config")
        if stored:
            config = _begun_with(stored, number)
        else:
            report.notes.append("the journal does not hold that session's settings: the present ones are used")
        memory = row.get("memory")
        engine = _engine(config, venue, memory)
        ours = _Said()
        for seq, event in journal.events(number):
            report.events += 1
            try:
                ours.take(seq, event, engine.handle(event))
            except InvariantError as error:
                report.notes.append(f"event {seq} broke a rule: {error}")
        theirs = _held(journal, number)
        _forgive_unwritten(report, ours, theirs, ended=row.get("ended_ms") is not None)
        for kind in KINDS:
            report.compare(kind, ours.of[kind], theirs.of[kind])
    return report


def _begun_with(text: str, session: int) -> Config:
    """Return the settings of a session's engine: those on record, with latency limits scaled by the venue's speed.

    Against an exchange that replays history in a separate process, limits on the bot's own latency are wall time
    (`Venue.in_wall_time`).
    """
    try:
        stored = orjson.loads(text)
        config = Config.model_validate_json(orjson.dumps(stored["config"]))
        speed = float(stored["speed"])
    except (ValidationError, KeyError, ValueError, TypeError):
        raise DataError(
            f"session {session} was begun with settings that this version does not know: replay it with the version that ran it"
        ) from None
    if speed <= 1.0:
        return config
    trade = config.trade.model_copy(update={"naked_limit_ms": round(config.trade.naked_limit_ms * speed)})
    ages = {name: round(getattr(config.entry, name) * speed) for name in ("max_data_age_ms", "leg_wait_ms")}
    return config.model_copy(update={"trade": trade, "entry": config.entry.model_copy(update=ages)})


def _engine(config: Config, venue: str, memory: str | None) -> Engine:
    known = dict(orjson.loads(memory)) if memory else None
    features = Features(config, model=model_for(config))
    return Engine(config, features, venue=venue, calendar=calendar_of(config), memory=known)


class _Said:
    """Outputs of an engine, by kind and key, encoded as in the journal."""

    def __init__(self) -> None:
        self.of: dict[str, dict[Any, Any]] = {kind: {} for kind in KINDS}
        self.records: dict[int, list[tuple[str, Any]]] = {}  # (kind, key) of the records of each event
        self.starts: list[int] = []  # sequence numbers of the session starts

    def take(self, seq: int, event: Event, outputs: list[Any]) -> None:
        if isinstance(event, SessionStarted):
            self.starts.append(seq)
        place = 0
        for n, output in enumerate(outputs):
            match output:
                case Decision():
                    self._record(seq, "decision", output.open_ms, encode(output))
                case TradeRecord():
                    self._record(seq, "trade", output.trade_id, encode(output))
                case EquityPoint():
                    self._record(seq, "equity point", (seq, n), _money(output))
                case NakedSpell():
                    pass
                case _:
                    self.of["intent"][seq, place] = encode(output)
                    place += 1

    def _record(self, seq: int, kind: str, key: Any, value: Any) -> None:
        self.of[kind][key] = value
        self.records.setdefault(seq, []).append((kind, key))


def _money(point: EquityPoint) -> tuple[int, str, str, str]:
    return point.at_ms, str(point.wallet), str(point.equity), str(point.peak)


def _forgive_unwritten(report: ReplayedJournal, ours: _Said, theirs: _Said, *, ended: bool) -> None:
    """Exclude records that a killed bot had no time to write, and add one note about them.

    Orders are recorded before they are sent; records that are only informative (decision, trade, equity) follow some
    milliseconds later. A bot killed in between leaves events without them: the last ones before the next start, the
    first of them with an intent. Anything else that is missing is a difference.
    """
    stops = [*ours.starts[1:], *([] if ended else [FAR])]
    sent = {seq for seq, _ in theirs.of["intent"]}
    for stop in stops:
        missing: list[int] = []
        for seq in sorted((s for s in ours.records if s < stop), reverse=True):
            if any(key in theirs.of[kind] for kind, key in ours.records[seq]):
                break
            missing.append(seq)
        while missing and missing[-1] not in sent:
            missing.pop()
        lost = [each for seq in missing for each in ours.records[seq]]
        for kind, key in lost:
            ours.of[kind].pop(key, None)
        if lost:
            report.notes.append(
                f"the bot was stopped between sending and recording: {len(lost)} records of event {missing[-1]} and after are "
                "not in the journal; nothing of them is compared"
            )


def _held(journal: Journal, session: int) -> _Said:
    """Return the journal's records of a session."""
    held = _Said()
    places: dict[int, int] = {}
    for seq, intent in journal.intents(session):
        place = places.get(seq, 0)
        places[seq] = place + 1
        held.of["intent"][seq, place] = encode(intent)
    held.of["decision"] = {d.open_ms: encode(d) for d in journal.decisions(session)}
    held.of["trade"] = {t.trade_id: encode(t) for t in journal.trades(session)}
    held.of["equity point"] = {key: _money(point) for key, point in journal.equity_by_event(session)}
    return held
