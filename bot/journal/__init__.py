"""The journal: all events, intents and records of the bot in one SQLite file.

It is a write-ahead log: an event is recorded before it is handled, and an order is recorded, in a transaction that
survives a killed process, before it is sent. After a crash the engine replays the events and so restores its state;
reconciliation finds what the exchange did meanwhile. Orders, fills, trades, decisions and equity are also stored in
separate tables for queries, and so are naked spells and measurements of the bot itself.

Entries belong to a session: one run of one account at one venue, with the settings that it was started with, across
restarts. The embedded exchange starts a new session each time; a testnet or live account resumes its last unfinished
one, and a new session takes over the limits of the last one (`memory`: equity peak, soft stop, leverage ramp, the day's
limits). Prices and money are stored as text, exact to the last digit.

Theory of operation: one connection, one sequence of transactions. Appending begins a transaction if none is open,
`commit` ends it; in WAL mode with `synchronous = normal` a commit does not wait for the disk (it takes about as long as
writing the rows). `settle` waits for it when nothing is urgent: after fills and closed trades, and at the end. It also
restarts the log, which waits for the disk once more, so that no later commit does.
"""

from bot.journal.file import Aside, Busy, Damaged, Trouble
from bot.journal.reading import Journal
from bot.journal.sessions import Session, salvage

__all__ = ["Aside", "Busy", "Damaged", "Journal", "Session", "Trouble", "salvage"]
