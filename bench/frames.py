"""The cost of reading one frame: decoding with the typed model and its event, against picking the fields by hand.

`python -m bench.frames` prints both in the same run, for the most frequent frames. By hand is what the bot did before it
had models: it validates less, and is kept only for this comparison. CPU time is measured, so that load on the machine
does not affect it.
"""

import argparse
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import orjson

from bot.execution import wire

MS = 1_789_478_280_000
FRAMES: dict[str, dict[str, Any]] = {
    "kline": {
        "e": "kline", "E": MS + 41, "s": "BTCUSDT", "k": {
            "t": MS - 180_000, "T": MS - 1, "s": "BTCUSDT", "i": "3m", "f": 7030000001, "L": 7030002110, "o": "76936.20",
            "c": "76950.00", "h": "76999.90", "l": "76901.00", "v": "61.204", "n": 2110, "x": True, "q": "4709881.10200",
            "V": "33.020", "Q": "2541100.20100", "B": "0"},
    },
    "bookTicker": {
        "e": "bookTicker", "u": 8811223344556, "E": MS, "T": MS, "s": "ETHUSDT", "b": "2475.10", "B": "12.345",
        "a": "2475.11", "A": "3.002", "st": 1,
    },
    "order update": {
        "e": "ORDER_TRADE_UPDATE", "T": MS, "E": MS + 3, "o": {
            "s": "BTCUSDT", "c": "rbS-en-0-00k3f9x-01-a1", "S": "BUY", "o": "LIMIT", "f": "GTX", "q": "0.012", "p": "76940.00",
            "ap": "76940.00000", "sp": "0", "x": "TRADE", "X": "PARTIALLY_FILLED", "i": 8886774, "l": "0.005", "z": "0.005",
            "L": "76940.00", "N": "USDT", "n": "0.07694000", "T": MS, "t": 6123457001, "b": "538.58", "a": "0", "m": True,
            "R": False, "wt": "CONTRACT_PRICE", "ot": "LIMIT", "ps": "BOTH", "cp": False, "pP": False, "si": 0, "ss": 0,
            "rp": "0", "V": "EXPIRE_MAKER", "pm": "NONE", "gtd": 0, "er": "0"},
    },
    "account update": {
        "e": "ACCOUNT_UPDATE", "T": MS, "E": MS + 4, "a": {
            "m": "ORDER", "B": [{"a": "BNB", "wb": "0.5", "cw": "0.5", "bc": "0"},
                                {"a": "USDT", "wb": "999.92306000", "cw": "961.45306000", "bc": "0"}],
            "P": [{"s": "BTCUSDT", "pa": "0.005", "ep": "76940.0", "bep": "76955.388", "cr": "0", "up": "0.01200000",
                   "mt": "isolated", "iw": "38.47000000", "ps": "BOTH", "ma": "USDT"}]},
    },
}  # fmt: skip


def by_hand(payload: dict[str, Any]) -> tuple[Any, ...]:
    """Pick the fields of a frame and convert them, without range checks."""
    number = Decimal
    match payload["e"]:
        case "kline":
            bar = payload["k"]
            values = tuple(float(bar[key]) for key in "ohlcvV")
            return int(payload["E"]), str(bar["s"]), str(bar["i"]), int(bar["t"]), values, bar["x"] is True
        case "bookTicker":
            return int(payload["E"]), str(payload["s"]), *(number(payload[key]) for key in "bBaA")
        case "ORDER_TRADE_UPDATE":
            order = payload["o"]
            numbers = tuple(number(order[key]) for key in ("q", "z", "ap", "l", "L", "n", "rp"))
            words = tuple(str(order[key]) for key in ("s", "c", "S", "x", "X", "i", "ot"))
            return int(payload["E"]), int(order["T"]), int(order["t"]), numbers, words
        case _:
            change = payload["a"]
            wallets = tuple((line["a"], number(line["wb"]), number(line["bc"])) for line in change["B"])
            held = tuple((line["s"], *(number(line[key]) for key in ("pa", "ep", "iw", "up"))) for line in change["P"])
            return int(payload["E"]), change["m"], wallets, held


def spans_us(read: Callable[[dict[str, Any]], Any], raw: bytes, rounds: int) -> list[float]:
    """Return the CPU times of `rounds` reads, µs, sorted."""
    spans = []
    for _ in range(rounds):
        began = time.thread_time_ns()
        read(orjson.loads(raw))
        spans.append((time.thread_time_ns() - began) / 1_000)
    return sorted(spans)


def main() -> None:
    parser = argparse.ArgumentParser(description="what reading one frame costs")
    parser.add_argument("--rounds", type=int, default=50_000)
    rounds = parser.parse_args().rounds
    print(f"{'frame':16}{'by hand p50':>14}{'p99':>9}{'model p50':>14}{'p99':>9}{'  (µs)'}")
    for name, payload in FRAMES.items():
        raw = orjson.dumps(payload)
        figures = []
        for read in (by_hand, lambda frame: wire.events_of(frame, latest_ms=MS + 30_000)):
            spans_us(read, raw, 1_000)
            spans = spans_us(read, raw, rounds)
            figures += [spans[rounds // 2], spans[int(rounds * 0.99)]]
        print(f"{name:16}{figures[0]:14.2f}{figures[1]:9.2f}{figures[2]:14.2f}{figures[3]:9.2f}")


if __name__ == "__main__":
    main()
