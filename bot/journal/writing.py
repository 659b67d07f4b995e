"""Append to the journal: events before they are handled, the engine's outputs before they are executed."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Final, get_args

import orjson

from bot.core.codec import pack
from bot.core.events import AccountSnapshot, Event, Fill, OrderUpdate
from bot.core.intents import Intent, PlaceOrder
from bot.core.records import Decision, EquityPoint, NakedSpell, Record, TradeRecord
from bot.journal.schema import (
    DECISION,
    EQUITY,
    EVENT,
    EVENT_AGAIN,
    FILL,
    INTENT,
    NAKED,
    ORDER_FILLED,
    ORDER_NEW,
    ORDER_UPDATE,
    TRADE,
)
from bot.journal.sessions import Sessions

RECORDS: Final = get_args(Record)  # isinstance on the union takes three times as long


class Writing(Sessions):
    """The writes of a running bot."""

    def append_event(self, event: Event) -> int:
        """Record an event before it is handled and return its sequence number. Durable after the next `commit`."""
        body = orjson.dumps(pack(event)).decode()
        self._seq += 1
        self._last_event = (self._seq, event.at_ms)
        self._unsettled += 1
        self._write(self._write_event, self._seq, event, body)
        return self._seq

    def _write_event(self, seq: int, event: Event, body: str) -> None:
        name = type(event).__name__
        sql = EVENT if self.trouble is None else EVENT_AGAIN
        self._db.execute(sql, (self._session, seq, event.at_ms, name, body))
        if name == "OrderUpdate" or name == "Fill" or name == "AccountSnapshot":
            self._append_book(event)

    def append_events(self, events: Iterable[Event]) -> int:
        """Record many events that trigger no decision (the warm-up klines) at once; return the last sequence number."""
        rows = [
            (self._session, seq, event.at_ms, type(event).__name__, orjson.dumps(pack(event)).decode())
            for seq, event in enumerate(events, self._seq + 1)
        ]
        self._write(self._write_rows, rows)
        self._seq += len(rows)
        self._unsettled += len(rows)
        return self._seq

    def _write_rows(self, rows: list[tuple[int, int, int, str, str]]) -> None:
        self._db.executemany(EVENT if self.trouble is None else EVENT_AGAIN, rows)

    def append_outputs(
        self, seq: int, outputs: Iterable[Intent | Record], *, intents: bool = True, records: bool = True
    ) -> bool:
        """Record the outputs for event `seq`; return whether they include an intent: then `commit` before executing it.

        Idempotent: the outputs of a replayed event have the same keys. While an order waits to be sent, the intents may
        be recorded first and the records afterwards.

        Parameters
        ----------
        seq
            Sequence number of the event.
        outputs
            All outputs of the engine for that event, in order.
        intents, records
            Which of the two kinds to write.
        """
        wanted = []
        urgent = False
        for n, output in enumerate(outputs):
            record = isinstance(output, RECORDS)
            urgent = urgent or (intents and not record)
            if records if record else intents:
                wanted.append((n, output))
        if wanted:
            self._unsettled += len(wanted)
            self._write(self._write_outputs, seq, wanted)
        return urgent

    def _write_outputs(self, seq: int, outputs: list[tuple[int, Intent | Record]]) -> None:
        session, execute = self._session, self._db.execute
        for n, output in outputs:
            if isinstance(output, EquityPoint):
                money = (str(output.wallet), str(output.equity), str(output.peak), float(output.day_r))
                execute(EQUITY, (session, seq, n, output.at_ms, *money))
                continue
            if isinstance(output, NakedSpell):
                spell = (output.symbol, output.at_ms, output.trade_id, output.role, output.ms)
                execute(NAKED, (session, *spell))
                continue
            body = orjson.dumps(pack(output)).decode()
            if isinstance(output, Decision):
                execute(DECISION, (session, output.open_ms, output.at_ms, output.signal, output.code, body))
            elif isinstance(output, TradeRecord):
                self._append_trade(output, body)
            else:
                client_id = getattr(output, "client_id", "")
                execute(INTENT, (session, seq, n, type(output).__name__, client_id, body))
                if isinstance(output, PlaceOrder):
                    self._append_order(seq, output)

    def _append_trade(self, trade: TradeRecord, body: str) -> None:
        times = (trade.signal_ms, trade.opened_ms, trade.closed_ms)
        result = (trade.side.name, trade.exit_reason, str(trade.qty), str(trade.pnl))
        self._db.execute(TRADE, (self._session, trade.trade_id, *times, *result, body))
        self._settle_due = True

    def _append_order(self, seq: int, order: PlaceOrder) -> None:
        known, at_ms = self._last_event
        if seq != known:
            found = self._db.execute(
                "SELECT at_ms FROM events WHERE session = ? AND seq = ?", (self._session, seq)
            ).fetchone()
            at_ms = found["at_ms"] if found else 0
        price = order.price if order.trigger_price is None else order.trigger_price
        what = (
            order.client_id,
            order.symbol,
            order.side.value,
            order.order_type.value,
            str(order.qty),
            str(price or ""),
        )
        flags = (int(order.reduce_only or order.close_position), int(order.algo))
        self._db.execute(ORDER_NEW, (self._session, *what, *flags, at_ms, at_ms))

    def _append_book(self, event: Event) -> None:
        """Update the tables of orders and fills from the venue's reports."""
        execute = self._db.execute
        if isinstance(event, OrderUpdate):
            what = (event.client_id, event.symbol, event.side.value, "", str(event.qty), "", 0, int(event.algo))
            state = (event.status.value, str(event.filled_qty), str(event.average_price), event.at_ms, event.at_ms)
            execute(ORDER_UPDATE, (self._session, *what, *state, event.order_id, event.code, event.reason))
        elif isinstance(event, Fill):
            self._append_fill(event)
        elif isinstance(event, AccountSnapshot):
            for fill in event.fills:
                self._append_fill(fill)
            for order in event.orders:
                kind = (order.client_id, order.symbol, order.side.value, order.order_type.value, str(order.qty))
                flags = (str(order.price), int(order.reduce_only or order.close_position), int(order.algo))
                found = (order.status.value, str(order.filled_qty), str(order.average_price), *(2 * (order.update_ms,)))
                execute(ORDER_UPDATE, (self._session, *kind, *flags, *found, "", 0, ""))

    def _append_fill(self, fill: Fill) -> None:
        key = (self._session, fill.symbol, fill.trade_id, fill.at_ms, fill.client_id, fill.side.value)
        money = (str(fill.qty), str(fill.price), str(fill.fee), int(fill.maker), str(fill.realized))
        if self._db.execute(FILL, (*key, *money)).rowcount > 0:
            self._append_filled(fill)
        self._settle_due = True

    def _append_filled(self, fill: Fill) -> None:
        """Update an order's row from its fills: after a crash fills are fetched again, order updates are not."""
        execute = self._db.execute
        order = execute(
            "SELECT qty FROM orders WHERE session = ? AND client_id = ?", (self._session, fill.client_id)
        ).fetchone()
        if not order:
            return
        fills = execute(
            "SELECT qty, price FROM fills WHERE session = ? AND symbol = ? AND client_id = ?",
            (self._session, fill.symbol, fill.client_id),
        ).fetchall()
        filled = sum((Decimal(row["qty"]) for row in fills), Decimal(0))
        average = sum((Decimal(row["qty"]) * Decimal(row["price"]) for row in fills), Decimal(0)) / filled
        whole = 0 < Decimal(order["qty"]) <= filled
        execute(
            ORDER_FILLED,
            (str(filled), str(round(average, 8)), fill.at_ms, whole, self._session, fill.client_id),
        )

    def measure(self, name: str, value: float, *, at_ms: int) -> None:
        """Record a measurement of the bot itself (`decision_ms`, ...); durable after the next commit."""
        self._write(self._write_measure, name, value, at_ms)
