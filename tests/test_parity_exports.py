"""Exports as people really have them: read rightly, or refused with one clear sentence."""
# ruff: noqa: RUF001 -- typographic signs and other alphabets are what is tested

import numpy as np
import pytest

from bot.core.errors import BotError, DataError, DataMissing
from bot.core.types import Side
from bot.parity.alerts_log import AlertsLog, interval_of
from bot.parity.align import align
from bot.parity.csv_values import decimal_comma, number, time_ms
from bot.parity.exports import ChartData
from bot.parity.reading import read_export
from bot.parity.trades_list import TradesList
from tests.builders import START_MS, klines
from tests.conftest import ROOT
from tests.parity_exports import Sheet, save

EXPORTS = ROOT / "tests" / "data" / "exports"
RNG = np.random.default_rng(4)
CLOSES = 60_000.0 + 30.0 * RNG.normal(0, 1, 400).cumsum()
BARS = klines(np.round(CLOSES, 1))
OTHER = klines(np.round(3_000.0 + 2.0 * RNG.normal(0, 1, 400).cumsum(), 2), symbol="ETHUSDT")


def sheet(count=60, *, first=100, extra=()):
    """Bars of BARS as an export; `extra` are further columns of ones."""
    header = ["time", "open", "high", "low", "close", "Volume", *extra]
    rows = []
    for i in range(first, first + count):
        prices = (BARS.open[i], BARS.high[i], BARS.low[i], BARS.close[i], BARS.volume[i])
        rows.append([str(int(BARS.open_ms[i]) // 1000), *(repr(float(p)) for p in prices), *("1" for _ in extra)])
    return Sheet(header, rows)


def edit(change):
    """Return a writer of the sheet after `change`."""

    def write(path):
        made = sheet()
        change(made)
        return made.write(path)

    return write


def times(form):
    def change(made):
        for row in made.rows:
            row[0] = form(int(row[0]))

    return edit(change)


def iso(seconds, zone="Z", hours=0):
    return str(np.datetime64(seconds + 3600 * hours, "s")) + zone


def raw(text, encoding="utf-8"):
    def write(path):
        path.write_bytes(text.encode(encoding) if isinstance(text, str) else text)
        return path

    return write


def swap(a, b):
    def change(made):
        made.rows[a], made.rows[b] = made.rows[b], made.rows[a]

    return edit(change)


def cell(row, column, value):
    def change(made):
        made.rows[row][column] = value

    return edit(change)


def localised(path):
    made = sheet()
    made.rows = [[value.replace(".", ",") for value in row] for row in made.rows]
    made.header = ["Zeit", "Eröffnung", "Hoch", "Tief", "Schluss", "Volumen"]
    return made.write(path, delimiter=";", encoding="utf-8-sig")


def newest_first(made):
    made.rows.reverse()


def twice(made):
    made.rows.insert(11, list(made.rows[10]))


def twice_and_different(made):
    made.rows.insert(11, [*made.rows[10][:4], "60001", made.rows[10][5]])


def no_volume(made):
    made.header.pop()
    for row in made.rows:
        row.pop()


def gap(made):
    del made.rows[20:24]


def unfinished(made):
    made.rows[-1][1:] = [""] * 5


def daily(made):
    for i, row in enumerate(made.rows):
        row[0] = str(np.datetime64("2023-01-01") + i)


def weekly(made):
    for i, row in enumerate(made.rows):
        row[0] = str(np.datetime64("2023-01-01") + 7 * i)


def thousands(path):
    made = sheet()
    made.rows = [[row[0], *(f'"{float(value):,.2f}"' for value in row[1:5]), row[5]] for row in made.rows]
    return made.write(path)


def typographic(path):
    made = sheet(extra=("Wave",))
    for row in made.rows:
        row[-1] = "−1.5"
    made.rows[0][-1], made.rows[1][-1] = "∅", "(2.5)"
    return made.write(path)


RIGHT = {
    "unix seconds": (edit(lambda made: None), 60),
    "unix milliseconds": (times(lambda s: f"{s}000"), 60),
    "iso with Z": (times(iso), 60),
    "iso with an offset": (times(lambda s: iso(s, "+02:00", 2)), 60),
    "iso with a negative offset": (times(lambda s: iso(s, "-05:00", -5)), 60),
    "byte order mark": (lambda path: sheet().write(path, encoding="utf-8-sig"), 60),
    "utf-16": (lambda path: sheet().write(path, encoding="utf-16"), 60),
    "windows line ends": (lambda path: sheet().write(path, end="\r\n"), 60),
    "tabs": (lambda path: sheet().write(path, delimiter="\t"), 60),
    "semicolons and decimal commas, localised": (localised, 60),
    "thousands with commas": (thousands, 60),
    "newest first": (edit(newest_first), 60),
    "a bar twice": (edit(twice), 60),
    "no volume": (edit(no_volume), 60),
    "bars missing": (edit(gap), 56),
    "last row without prices": (edit(unfinished), 59),
    "daily dates": (edit(daily), 60),
    "last row cut off": (lambda path: raw(sheet().write(path).read_text().rstrip()[:-25])(path), 59),
    "true minus and brackets": (typographic, 60),
    "blank lines": (lambda path: raw("\n\n" + sheet().write(path).read_text() + "\n\n")(path), 60),
}


@pytest.mark.parametrize("name", RIGHT)
def test_an_odd_chart_export_is_read_with_the_right_bars(tmp_path, name):
    write, count = RIGHT[name]

    data = read_export(write(tmp_path / "export.csv"))

    assert isinstance(data, ChartData)
    assert len(data.open_ms) == count
    assert (np.diff(data.open_ms) > 0).all()
    if name != "daily dates":
        assert data.open_ms[0] == BARS.open_ms[100]
        assert data.close[0] == pytest.approx(BARS.close[100], abs=0.01)
    if name == "true minus and brackets":
        assert np.isnan(data.columns[0].values[0])
        assert data.columns[0].values[1:3].tolist() == [-2.5, -1.5]


WRONG = {
    "no file": (lambda path: path, DataMissing, "there is no file"),
    "a folder": (lambda path: path.parent, DataError, "is a folder"),
    "nothing": (raw(""), DataMissing, "is empty"),
    "blank": (raw("\n \n"), DataMissing, "is empty"),
    "0 rows": (raw("time,open,high,low,close,Volume\n"), DataMissing, "has a header but no bar"),
    "one bar": (lambda path: sheet(1).write(path), DataMissing, "one bar"),
    "a picture": (raw(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), DataError, "is no text"),
    "a workbook": (raw(b"PK\x03\x04\x14\0\0\0"), DataError, "is no text"),
    "some other CSV": (raw("name,age\nann,3\n"), DataError, "is no export of TradingView that is known"),
    "no close": (raw("time,open,high,low\n1,2,3,4\n"), DataError, "it lacks close"),
    "no time": (raw("open,high,low,close\n1,2,3,4\n"), DataError, "it lacks a time column"),
    "a word for a price": (cell(7, 4, "up"), DataError, "row 9: 'up' in column 'close' is no number"),
    "a word for a time": (cell(7, 0, "noon"), DataError, "row 9: 'noon' in column 'time' is no time"),
    "an impossible time": (cell(7, 0, "2023-02-31 10:00"), DataError, "row 9"),
    "high below low": (cell(7, 2, "1"), DataError, "is impossible"),
    "a price of 0": (cell(7, 3, "0"), DataError, "is impossible"),
    "a negative volume": (cell(7, 5, "-3"), DataError, "is impossible"),
    "rows swapped": (swap(10, 20), DataError, "row 13 "),
    "a bar twice with other values": (edit(twice_and_different), DataError, "row 13 "),
    "a row cut off in the middle": (
        edit(lambda made: made.rows[30].pop()),
        DataError,
        "row 32 has 5 cells, the header 6",
    ),
    "a row too long": (edit(lambda made: made.rows[30].append("7")), DataError, "row 32 has 7 cells, the header 6"),
    "weekly bars": (edit(weekly), DataError, "no interval that klines come in"),
    "one bar off the grid": (cell(30, 0, str(int(BARS.open_ms[130]) // 1000 + 60)), DataError, "whole number of bars"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_read_is_refused_in_one_sentence(tmp_path, name):
    write, kind, words = WRONG[name]

    with pytest.raises(BotError) as refused:
        read_export(write(tmp_path / "export.csv"))

    assert type(refused.value) is kind
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == (3 if kind is DataMissing else 1)


def test_plots_of_one_name_are_told_apart_by_their_place(tmp_path):
    made = sheet(extra=("Plot", "Line", "Plot"))

    data = read_export(made.write(tmp_path / "a.csv"))

    assert [column.label for column in data.columns] == ["Plot#1", "Line", "Plot#2"]


# ---- which market, which clock --------------------------------------------------------------------------------------


def laid(path, source):
    data = read_export(path)
    prices = (data.open, data.high, data.low, data.close)
    return align(
        data.open_ms, prices, data.volume, step_ms=data.step_ms, source=source, ticker=data.ticker, zoned=data.zoned
    )


@pytest.fixture(scope="module")
def um(tmp_path_factory):
    return save(tmp_path_factory.mktemp("data") / "um", BARS, OTHER)


def test_the_symbol_is_found_by_its_prices(tmp_path, um):
    found = laid(sheet().write(tmp_path / "whatever.csv"), um)

    assert (found.symbol, found.common, found.shift_ms) == ("BTCUSDT", 60, 0)
    assert found.same_market


@pytest.mark.parametrize("hours", [-8, 2, 5.5])
def test_the_zone_of_times_without_one_is_found_by_comparing_bars(tmp_path, um, hours):
    made = sheet()
    for row in made.rows:
        row[0] = str(np.datetime64(int(int(row[0]) + 3600 * hours), "s")).replace("T", " ")

    found = laid(made.write(tmp_path / "a.csv"), um)

    assert found.shift_ms == hours * 3_600_000
    assert found.equal.all()
    assert any(f"UTC{hours:+g} h" in sentence for sentence in found.sentences)


def test_bars_stamped_with_their_close_are_moved_and_told(tmp_path, um):
    made = sheet()
    for row in made.rows:
        row[0] = str(int(row[0]) + 180)

    found = laid(made.write(tmp_path / "a.csv"), um)

    assert found.shift_ms == 180_000
    assert any("stamps the close" in sentence for sentence in found.sentences)


def test_a_symbol_that_is_not_there_is_named_with_its_distance(tmp_path, um):
    made = sheet()
    for row in made.rows:
        row[1:5] = [repr(float(value) / 400) for value in row[1:5]]

    with pytest.raises(DataMissing, match="fit none of the symbols") as refused:
        laid(made.write(tmp_path / "a.csv"), um)

    assert "BTCUSDT, ETHUSDT" in str(refused.value)


def test_spot_beside_the_perpetual_is_named(tmp_path, um):
    made = sheet(120)
    for row in made.rows:
        row[1:5] = [f"{float(value) * 1.0004:.2f}" for value in row[1:5]]

    found = laid(made.write(tmp_path / "BINANCE_BTCUSDT, 3.csv"), um)

    assert (found.market, found.klines_market) == ("spot", "perpetual")
    assert any("this is spot BTCUSDT, the bot trades the perpetual" in sentence for sentence in found.sentences)


def test_the_one_bar_that_differs_is_named(tmp_path, um):
    made = sheet()
    made.rows[40][4] = repr(float(made.rows[40][4]) + 0.1)
    made.rows[40][2] = repr(float(made.rows[40][2]) + 0.1)

    found = laid(made.write(tmp_path / "a.csv"), um)

    assert found.same_market
    assert any(
        "1 bar differs from the klines, first that of 2024-01-01T07:00" in sentence for sentence in found.sentences
    )


# ---- lists of trades and alerts -------------------------------------------------------------------------------------

BODY = """1,Exit long,2024-01-01 10:00,Close,60100,0.1,10,0.17,10
1,Entry long,2024-01-01 09:00,Long,60000,0.1,10,0.17,10
2,Exit short,2024-01-01 12:00,Close,60200,0.1,−20,−0.3,−10
2,Entry short,2024-01-01 11:00,Short,60000,0.1,−20,−0.3,−10
"""
GENERATIONS = {
    "first": """Trade #,Type,Signal,Date/Time,Price USDT,Contracts,Profit USDT,Profit %,Cumulative profit USDT
1,Entry Long,Long,2024-01-01 09:00,60000,0.1,,,
1,Exit Long,Close,2024-01-01 10:00,60100,0.1,10,0.17,10
2,Entry Short,Short,2024-01-01 11:00,60000,0.1,—,,
2,Exit Short,Close,2024-01-01 12:00,60200,0.1,(20.00),(0.30),(10.00)
""",
    "second": "Trade #,Type,Date/Time,Signal,Price USDT,Position size (qty),Net P&L USDT,Net P&L %,Cumulative P&L USDT\n"
    + BODY,
    "third": "Trade number,Type,Date and time,Signal,Price USDT,Size (qty),Net PnL USDT,Return %,Cumulative PnL USDT\n"
    + BODY,
    "german, semicolons": """\ufeffTrade Nr.;Typ;Datum/Uhrzeit;Signal;Preis USDT;Positionsgröße (Menge);Gewinn USDT
1;Ausstieg Long;01.01.2024 10:00;Schluss;60.100,0;0,1;10,0
1;Einstieg Long;01.01.2024 09:00;Long;60.000,0;0,1;10,0
2;Ausstieg Short;01.01.2024 12:00;Schluss;60.200,0;0,1;-20,0
2;Einstieg Short;01.01.2024 11:00;Short;60.000,0;0,1;-20,0
""",
    "japanese": """トレード番号,タイプ,日時,シグナル,価格 USDT,サイズ (数量),純損益 USDT
1,ロング決済,2024-01-01 10:00,Close,60100,0.1,10
1,ロングエントリー,2024-01-01 09:00,Long,60000,0.1,10
2,ショート決済,2024-01-01 12:00,Close,60200,0.1,-20
2,ショートエントリー,2024-01-01 11:00,Short,60000,0.1,-20
""",
    "a language nobody listed": """Nro,Laji,Aika,Merkki,Hinta,Koko,Voitto
1,Osto,2024-01-01 09:00,a,60000,0.1,10
1,Pois,2024-01-01 10:00,b,60100,0.1,10
2,Myynti,2024-01-01 11:00,a,60000,0.1,-20
2,Pois,2024-01-01 12:00,b,60200,0.1,-20
""",
}


@pytest.mark.parametrize("name", GENERATIONS)
def test_a_list_of_trades_of_any_generation_gives_the_same_trades(tmp_path, name):
    path = raw(GENERATIONS[name])(tmp_path / "trades.csv")

    listed = read_export(path)

    assert isinstance(listed, TradesList)
    first, second = listed.trades
    assert (first.entry_ms, first.exit_ms) == (START_MS + 9 * 3_600_000, START_MS + 10 * 3_600_000)
    assert (first.entry_price, first.exit_price, first.qty) == (60_000.0, 60_100.0, 0.1)
    assert (second.entry_price, second.exit_price) == (60_000.0, 60_200.0)
    assert (first.profit, second.profit) == (10.0, -20.0)
    assert second.side is not first.side
    if name != "a language nobody listed":
        assert (first.side, second.side) == (Side.LONG, Side.SHORT)
    else:
        assert first.side is Side.LONG


ODD_TRADES = {
    "no trade": ("Trade #,Type,Signal,Date/Time,Price\n", DataMissing, "without a trade"),
    "a word for a price": (GENERATIONS["third"].replace("60100", "dear"), DataError, "row 2: 'dear' in column 5"),
    "ends before it begins": (
        GENERATIONS["third"].replace("01 10:00", "01 08:00"),
        DataError,
        "row 2: trade 1 ends before",
    ),
    "three rows": (
        GENERATIONS["third"] + "2,Exit short,2024-01-01 13:00,Close,60200,0.1,1,1,1\n",
        DataError,
        "more than twice",
    ),
    "two entries": (GENERATIONS["third"].replace("Exit short", "Entry short"), DataError, "two entries"),
}


@pytest.mark.parametrize("name", ODD_TRADES)
def test_a_list_of_trades_that_cannot_be_is_refused(tmp_path, name):
    text, kind, words = ODD_TRADES[name]

    with pytest.raises(kind) as refused:
        read_export(raw(text)(tmp_path / "trades.csv"))

    assert words in str(refused.value)


@pytest.mark.parametrize(
    "row",
    [
        "3,Entry long,2024-01-02 09:00,Long,60000,0.1,,,\n",
        "3,Exit long,2024-01-02 09:30,Open,60010,0.1,1,,\n3,Entry long,2024-01-02 09:00,Long,60000,0.1,1,,\n",
    ],
)
def test_an_open_trade_has_no_exit(tmp_path, row):
    listed = read_export(raw(GENERATIONS["third"] + row)(tmp_path / "trades.csv"))

    assert listed.trades[-1].exit_ms is None
    assert any("1 trade is still open" in note for note in listed.notes)


ALERTS = """Alert ID,Ticker,Name,Description,Time,Webhook status
7,"BINANCE:BTCUSDT.P, 3m",Long,"{""side"": ""buy""}",2024-01-01T10:03:01Z,Webhook successfully delivered
6,"BINANCE:BTCUSDT.P, 3m",Short,sell now,2024-01-01T09:03:01Z,Webhook failed
"""


def test_an_alerts_log_is_read_oldest_first_with_sides_from_its_words(tmp_path):
    log = read_export(raw(ALERTS)(tmp_path / "log.csv"))

    assert isinstance(log, AlertsLog)
    assert (log.symbol, log.perpetual, log.interval) == ("BTCUSDT", True, "3m")
    assert [alert.side for alert in log.alerts] == [Side.SHORT, Side.LONG]
    assert log.alerts[0].at_ms == START_MS + 9 * 3_600_000 + 181_000
    assert any("1 alerts was not delivered" in note or "webhook of 1 alerts" in note for note in log.notes)


ODD_ALERTS = {
    "no alert": ("Alert ID,Ticker,Name,Description,Time\n", DataMissing, "without an alert"),
    "no ticker": (
        ALERTS.replace('"BINANCE:BTCUSDT.P, 3m",Long', "bitcoin,Long"),
        DataError,
        "row 2: 'bitcoin' is no ticker",
    ),
    "no time": (ALERTS.replace("2024-01-01T10:03:01Z", "soon"), DataError, "row 2: 'soon'"),
    "a short row": (ALERTS.replace("6,", "6\n6,", 1), DataError, "row 3 has 1 cells"),
}


@pytest.mark.parametrize("name", ODD_ALERTS)
def test_an_alerts_log_that_cannot_be_is_refused(tmp_path, name):
    text, kind, words = ODD_ALERTS[name]

    with pytest.raises(kind) as refused:
        read_export(raw(text)(tmp_path / "log.csv"))

    assert words in str(refused.value)


def test_other_tickers_of_a_log_are_left_out_and_told(tmp_path):
    text = ALERTS + '5,"BINANCE:ETHUSDT.P, 3m",Long,buy,2024-01-01T08:00:01Z,\n'

    log = read_export(raw(text)(tmp_path / "log.csv"))

    assert len(log.alerts) == 2
    assert any("ETHUSDT.P 3m" in note for note in log.notes)


def test_the_examples_in_the_repository_are_detected_by_their_content():
    kinds = {path.name: type(read_export(path)) for path in sorted(EXPORTS.glob("*.csv"))}

    assert kinds == {"a.csv": ChartData, "b.csv": TradesList, "c.csv": AlertsLog}


@pytest.mark.parametrize(
    ("text", "comma", "value"),
    [
        ("1,234.5", False, 1234.5),
        ("1.234,5", True, 1234.5),
        ("12 345", False, 12345.0),
        ("3.2%", False, 3.2),
        ("+1e-7", False, 1e-7),
    ],
)
def test_numbers_of_all_kinds_are_read(text, comma, value):
    assert number(text, comma=comma) == value


def test_a_decimal_comma_is_told_from_thousands():
    assert decimal_comma(["1.234,56"])
    assert not decimal_comma(["12,345,678"])
    assert time_ms("13/01/2023 10:00")[0] == time_ms("01/13/2023 10:00", month_first=True)[0]
    assert interval_of("240") == "4h"
