"""The bot's memory: every event that came in, every intent and decision that went out, kept in one SQLite file.

The rule is write-ahead: an event is recorded before it is handled, and an order is recorded, in a transaction that
survives a killed process, before it is sent. After a crash the events are read back, the engine handles them again and
knows what it knew; what the exchange did meanwhile is found by reconciliation. Orders, fills, trades, decisions and equity
are kept in tables of their own for the person who asks, and so are naked spells and what was measured of the bot itself.

Entries belong to a session: one engagement of one account at one venue, with the settings that it was begun with. The
embedded exchange starts a new one each time; a test network or live account resumes its last unfinished one, and a new session
takes over what the last one left (`memory`: equity peak, soft stop, leverage ramp, the day's limits). Prices and money are
stored as text, to the digit.

Theory of operation: one connection, one stream of transactions. Appending begins a transaction when none is open, `commit`
ends it; in WAL mode with `synchronous = normal` a commit writes without waiting for the disk (about as long as the rows
themselves), and the wait is taken in `settle`, when nothing is urgent: after fills and closed trades, and at the end. The log is
begun anew there too, which waits for the disk once more, so that no later commit does.
"""

from bot.journal.file import Aside, Busy, Damaged, Trouble
from bot.journal.reading import Journal
from bot.journal.sessions import Session, salvage

__all__ = ["Aside", "Busy", "Damaged", "Journal", "Session", "Trouble", "salvage"]
