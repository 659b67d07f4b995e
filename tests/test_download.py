"""History that is fetched: from a bulk archive on loopback and from the embedded exchange, whole or not at all."""

import asyncio
import hashlib
import io
import json
import zipfile
from contextlib import asynccontextmanager

import numpy as np
import pytest
from aiohttp import web
from click.testing import CliRunner

from bot.cli.main import cli
from bot.core.errors import BotError, DataError
from bot.core.klines import Klines, aggregate
from bot.market import archive as archive_module
from bot.market import download as download_module
from bot.market import history as history_module
from bot.market.archive import Part, klines_of, plan
from bot.market.download import ASIDE, download
from bot.market.funding import FundingRates, load_funding
from bot.market.store import read_file
from bot.sim.server import Exchange
from tests.sim_tools import walk

pytestmark = pytest.mark.wire
DAY = 86_400_000
MARCH = 1_740_787_200_000  # 2025-03-01
MAY = 1_746_057_600_000  # 2025-05-01
TO = MAY + 9 * DAY
NOW = TO + 600_000


@pytest.fixture(scope="module")
def bars():
    """15m bars from March the 20th to a little after May the 10th."""
    return aggregate(walk("BTCUSDT", 51 * 1440 + 60, start_ms=MARCH + 19 * DAY), 900_000)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(archive_module, "RETRIES_S", (0.0, 0.0))
    monkeypatch.setattr(history_module, "RETRIES_S", (0.0, 0.0))
    monkeypatch.setattr(download_module, "REST_BARS", 20)  # a day of 15m bars is 96


def csv_of(klines: Klines, *, header: bool, micro: bool = False) -> bytes:
    out = io.StringIO()
    if header:
        out.write("open_time,open,high,low,close,volume,close_time,quote_volume,count,")
        out.write("taker_buy_volume,taker_buy_quote_volume,ignore\n")
    scale = 1000 if micro else 1
    for i in range(len(klines)):
        k, at = klines, int(klines.open_ms[i])
        row = [at * scale, k.open[i], k.high[i], k.low[i], k.close[i], k.volume[i], (at + k.interval_ms) * scale - 1]
        row += [k.quote_volume[i], int(k.trades[i]), k.taker_buy_volume[i], k.taker_buy_quote_volume[i], 0]
        out.write(",".join(str(v) for v in row) + "\n")
    return out.getvalue().encode()


def zipped(name: str, body: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(f"{name}.csv", body)
    return out.getvalue()


class Shelf:
    """A bulk archive on loopback: files by path, and what was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.refuse = ""  # paths that contain this answer 500
        self.cancel_after: int | None = None
        self.dead = asyncio.Event()

    def put(self, part: Part, body: bytes, *, checksum: str | None = None) -> None:
        packed = zipped(part.stem, body)
        self.files[part.path] = packed
        told = hashlib.sha256(packed).hexdigest() if checksum is None else checksum
        self.files[f"{part.path}.CHECKSUM"] = f"{told}  {part.stem}.zip\n".encode()

    async def serve(self, request: web.Request) -> web.Response:
        path = request.path.lstrip("/")
        self.asked.append(path)
        if self.refuse and self.refuse in path:
            return web.Response(status=500)
        if self.cancel_after is not None and len([a for a in self.asked if a.endswith(".zip")]) > self.cancel_after:
            self.dead.set()
            await asyncio.sleep(5)  # a line that has gone dead
        body = self.files.get(path)
        return web.Response(status=404) if body is None else web.Response(body=body)


@asynccontextmanager
async def sources(bars: Klines, funding: FundingRates | None = None):
    """Open an archive and an exchange that has all of the history; yield both with their addresses."""
    shelf = Shelf()
    app = web.Application()
    app.router.add_get("/{path:.*}", shelf.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    exchange = Exchange(
        {"BTCUSDT": {"15m": bars}}, {"BTCUSDT": funding} if funding else None, stepped=False, speed=1.0, from_ms=TO
    )
    port = await exchange.listen()
    try:
        yield shelf, f"http://127.0.0.1:{runner.addresses[0][1]}", f"http://127.0.0.1:{port}"
    finally:
        await exchange.close()
        await runner.cleanup()


def fill(shelf: Shelf, bars: Klines, *, from_ms: int = MARCH, header: bool = True, micro: bool = False) -> list[Part]:
    parts = plan("BTCUSDT", "15m", from_ms, TO, now_ms=TO)
    for part in parts:
        shelf.put(part, csv_of(bars.between(part.from_ms, part.to_ms), header=header, micro=micro))
    return parts


async def fetch(folder, archive, rest, *, from_ms=MARCH, to_ms=None, intervals=("15m",)):
    return await download(
        folder,
        symbols=["BTCUSDT"],
        intervals=intervals,
        from_ms=from_ms,
        to_ms=to_ms,
        archive_url=archive,
        rest_url=rest,
    )


def same(a: Klines, b: Klines) -> bool:
    return all(np.array_equal(getattr(a, n), getattr(b, n), equal_nan=True) for n in ("open_ms", "close", "volume"))


@pytest.mark.parametrize(("header", "micro"), [(True, False), (False, False), (False, True)])
async def test_months_and_days_come_from_the_archive_and_the_rest_over_rest(bars, tmp_path, header, micro):
    async with sources(bars) as (shelf, archive, rest):
        parts = fill(shelf, bars, header=header, micro=micro)

        report = (await fetch(tmp_path, archive, rest))[0]

    assert [p.name for p in parts] == ["2025-03", "2025-04", *(f"2025-05-0{d}" for d in range(1, 8))]
    written = read_file(tmp_path / "BTCUSDT-15m.parquet")
    assert same(written, bars.between(None, TO))
    assert report.new == report.rows == len(written)
    assert report.gaps == []
    assert not (tmp_path / ASIDE).exists()


async def test_a_second_download_fetches_only_what_is_new(bars, tmp_path):
    async with sources(bars) as (shelf, archive, rest):
        fill(shelf, bars)
        await fetch(tmp_path, archive, rest, to_ms=MAY)
        shelf.asked.clear()

        report = (await fetch(tmp_path, archive, rest))[0]

    assert not [path for path in shelf.asked if "klines" in path and ("2025-03." in path or "2025-04." in path)]
    assert report.new == (TO - MAY) // 900_000
    assert same(read_file(tmp_path / "BTCUSDT-15m.parquet"), bars.between(None, TO))


async def test_an_interrupted_download_goes_on_where_it_was_and_leaves_no_half_file(bars, tmp_path, monkeypatch):
    monkeypatch.setattr(download_module, "PARALLEL", 1)
    async with sources(bars) as (shelf, archive, rest):
        fill(shelf, bars)
        shelf.cancel_after = 3
        task = asyncio.create_task(fetch(tmp_path, archive, rest))
        await shelf.dead.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        aside = sorted(path.name for path in (tmp_path / ASIDE).iterdir())
        before = [path for path in shelf.asked if path.endswith(".zip")]
        shelf.cancel_after = None
        shelf.asked.clear()

        await fetch(tmp_path, archive, rest)
        after = [path for path in shelf.asked if path.endswith(".zip")]

    assert not (tmp_path / "BTCUSDT-15m.parquet.tmp").exists()
    assert len(aside) == 3
    assert set(before[:3]).isdisjoint(after)
    assert same(read_file(tmp_path / "BTCUSDT-15m.parquet"), bars.between(None, TO))


async def test_a_wrong_checksum_is_tried_again_and_then_had_over_rest_with_a_warning(bars, tmp_path):
    async with sources(bars) as (shelf, archive, rest):
        parts = fill(shelf, bars)
        april = parts[1]
        shelf.put(april, csv_of(bars.between(april.from_ms, april.to_ms), header=True), checksum="0" * 64)

        report = (await fetch(tmp_path, archive, rest))[0]

    assert [path for path in shelf.asked if path == april.path] == [april.path] * 3
    assert any("BTCUSDT-15m-2025-04.zip" in text and "checksum" in text for text in report.warnings)
    assert same(read_file(tmp_path / "BTCUSDT-15m.parquet"), bars.between(None, TO))


async def test_a_month_that_is_not_published_is_made_of_its_days(bars, tmp_path):
    async with sources(bars) as (shelf, archive, rest):
        parts = fill(shelf, bars)
        april = parts[1]
        del shelf.files[april.path]
        for day in archive_module.days("BTCUSDT", "15m", april.from_ms, april.to_ms, now_ms=TO):
            shelf.put(day, csv_of(bars.between(day.from_ms, day.to_ms), header=True))

        await fetch(tmp_path, archive, rest)

    assert sum("daily/klines/BTCUSDT/15m/BTCUSDT-15m-2025-04-" in p and p.endswith(".zip") for p in shelf.asked) == 30
    assert same(read_file(tmp_path / "BTCUSDT-15m.parquet"), bars.between(None, TO))


async def test_a_gap_that_nobody_can_fill_is_reported(bars, tmp_path):
    hole = (MAY - 3 * DAY, MAY - 3 * DAY + 10 * 900_000)
    keep = (bars.open_ms < hole[0]) | (bars.open_ms >= hole[1])
    holed = Klines("BTCUSDT", 900_000, **{name: column[keep] for name, column in bars.columns().items()})
    async with sources(holed) as (shelf, archive, rest):
        fill(shelf, holed)

        report = (await fetch(tmp_path, archive, rest))[0]

    assert report.gaps == [(hole[0], 10)]
    assert "1 gaps of 10 bars" in report.line()


async def test_a_hole_in_the_archive_is_filled_over_rest(bars, tmp_path):
    async with sources(bars) as (shelf, archive, rest):
        parts = fill(shelf, bars)
        april = parts[1]
        part = bars.between(april.from_ms, april.to_ms)
        keep = np.arange(len(part)) % 200 != 7
        holed = Klines("BTCUSDT", 900_000, **{name: column[keep] for name, column in part.columns().items()})
        shelf.put(april, csv_of(holed, header=True))

        report = (await fetch(tmp_path, archive, rest))[0]

    assert report.gaps == []
    assert same(read_file(tmp_path / "BTCUSDT-15m.parquet"), bars.between(None, TO))


async def test_an_archive_that_fails_is_one_sentence_and_keeps_what_was_there(bars, tmp_path):
    async with sources(bars) as (shelf, archive, rest):
        fill(shelf, bars)
        await fetch(tmp_path, archive, rest, to_ms=MAY - 20 * DAY)
        before = (tmp_path / "BTCUSDT-15m.parquet").read_bytes()
        shelf.refuse = "2025-04"

        with pytest.raises(BotError, match="archive does not answer"):
            await fetch(tmp_path, archive, rest)

    assert (tmp_path / "BTCUSDT-15m.parquet").read_bytes() == before


async def test_a_symbol_that_is_not_listed_is_one_sentence(bars, tmp_path):
    async with sources(bars) as (_, archive, rest):
        with pytest.raises(DataError, match="does not list NOSUCHUSDT"):
            await download(
                tmp_path,
                symbols=["NOSUCHUSDT"],
                intervals=["15m"],
                from_ms=MARCH,
                to_ms=None,
                archive_url=archive,
                rest_url=rest,
            )


async def test_funding_comes_by_the_month_and_the_rest_over_rest(bars, tmp_path):
    times = np.arange(MARCH, TO, DAY // 3)
    rates = FundingRates("BTCUSDT", times + 5, np.round(np.sin(times / 1e9) * 1e-4, 8))
    async with sources(bars, rates) as (shelf, archive, rest):
        for part in plan("BTCUSDT", "fundingRate", MARCH, TO, now_ms=TO):
            body = "calc_time,funding_interval_hours,last_funding_rate\n"
            inside = (times >= part.from_ms) & (times < part.to_ms)
            body += "".join(f"{t + 5},8,{r:.8f}\n" for t, r in zip(times[inside], rates.rate[inside], strict=True))
            shelf.put(part, body.encode())

        reports = await fetch(tmp_path, archive, rest, intervals=())
        shelf.asked.clear()
        again = await fetch(tmp_path, archive, rest, intervals=())

    written = load_funding(tmp_path, "BTCUSDT")
    assert reports[0].new == len(times)
    assert written.funding_ms.tolist() == times.tolist()  # without the exchange's few ms of jitter
    assert np.allclose(written.rate, rates.rate, atol=1e-9)
    assert again[0].new == 0
    assert shelf.asked == []


def test_an_archive_whose_bars_are_of_another_time_is_refused(bars, tmp_path):
    part = Part("BTCUSDT", "15m", "2025-04", MAY - 30 * DAY, MAY)

    with pytest.raises(DataError, match="another time"):
        klines_of(csv_of(bars.between(MAY, MAY + DAY), header=True), part, tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_a_command_line_download_writes_files_and_says_what_it_wrote(bars, tmp_path):
    async def run():
        async with sources(bars) as (shelf, archive, rest):
            fill(shelf, bars)
            arguments = ["download", "--symbols", "BTCUSDT", "--intervals", "15m", "--from", str(MAY), "--json"]
            arguments += ["--out", str(tmp_path), "--set", f"data.archive_url={archive}"]
            arguments += ["--set", f"data.history_url={rest}"]
            return await asyncio.to_thread(lambda: CliRunner().invoke(cli, arguments, catch_exceptions=False))

    result = asyncio.run(run())

    told = json.loads(result.stdout)
    assert result.exit_code == 0
    assert [r["file"] for r in told] == ["BTCUSDT-15m.parquet", "BTCUSDT-funding.parquet"]
    assert told[0]["rows"] == (TO - MAY) // 900_000
