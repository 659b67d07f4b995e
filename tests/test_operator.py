"""Commands from another terminal: they reach the running bot by its token, or the journal answers."""

import asyncio
import json
import stat
from decimal import Decimal as D

import pytest

from bot.config import Config, parse
from bot.core.errors import BotError, ConfigError, DataMissing
from bot.core.events import Fill
from bot.core.records import TradeRecord
from bot.core.types import OrderSide
from bot.journal import Journal
from bot.report import operator
from bot.report.dashboard import Dashboard
from bot.report.hub import Hub
from tests.conftest import ROOT
from tests.test_dashboard import trade

CONFIG = Config()


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("BOT_DATA", str(tmp_path))
    return tmp_path


async def test_status_and_arm_reach_the_running_bot(data, capsys):
    commands = []
    state = {"venue": "sim", "equity": "1000"}
    page = Dashboard(
        Hub(),
        host="127.0.0.1",
        port=0,
        token="the-token",
        snapshot=lambda: state,
        trades=list,
        command=lambda name, args: commands.append(name),
    )
    port = await page.start()
    operator.write_run_file(data, port=port, venue="sim", token="the-token")

    code = await asyncio.to_thread(operator.print_status, CONFIG, as_json=True)
    shown = json.loads(capsys.readouterr().out)
    await asyncio.to_thread(operator.send_command, CONFIG, "arm", as_json=True)
    told = json.loads(capsys.readouterr().out)
    await asyncio.to_thread(operator.send_command, CONFIG, "arm", as_json=False)
    words = capsys.readouterr().out
    await page.close()

    assert code == 0
    assert shown["running"] is True
    assert commands == ["arm", "arm"]
    assert told["answer"] == {"accepted": "arm"}
    assert "took `arm`" in words
    assert "{" not in words


def test_the_token_file_is_for_its_owner_only_and_goes_with_the_bot(data):
    operator.write_run_file(data, port=1, venue="sim", token="the-token")

    mode = stat.S_IMODE((data / "token").stat().st_mode)
    operator.remove_run_file(data)

    assert mode == 0o600
    assert list(data.iterdir()) == []


def test_without_a_running_bot_arm_says_so_and_status_asks_the_journal(data, capsys):
    with pytest.raises(BotError, match="no bot is running"):
        operator.send_command(CONFIG, "arm", as_json=False)
    with pytest.raises(DataMissing, match="no journal"):
        operator.print_status(CONFIG, as_json=True)
    with Journal(data / "bot.db") as journal:
        journal.open_session("sim", "sim", resume=False, at_ms=1)

    operator.print_status(CONFIG, as_json=True)

    assert json.loads(capsys.readouterr().out)["running"] is False


def test_after_a_bot_the_status_tells_what_was_open(data, capsys):
    fill = Fill(5, "rbT-en-0-0000001-01-a1", "BTCUSDT", OrderSide.SELL, D("0.025"), D("60000"), D("0.6"), True, 7)
    with Journal(data / "bot.db") as journal:
        journal.open_session("testnet", "http://127.0.0.1:1", resume=True, at_ms=1)
        journal.append_event(fill)
        journal.commit()

    operator.print_status(CONFIG, as_json=False)
    words = " ".join(capsys.readouterr().out.split())
    operator.print_status(CONFIG, as_json=True)

    assert "running no" in words
    assert "1 on testnet, left open" in words
    assert "BTCUSDT -0.025" in words
    assert json.loads(capsys.readouterr().out)["held"] == {"BTCUSDT": "-0.025"}


def test_a_bot_that_has_died_is_not_running(data):
    operator.write_run_file(data, port=1, venue="sim", token="t")
    found = json.loads((data / "run.json").read_text())
    (data / "run.json").write_text(json.dumps(found | {"pid": 2**22 + 1}))

    assert operator.running_bot() is None


def test_trades_print_as_table_json_and_csv(data, capsys):
    with Journal(data / "bot.db") as journal:
        session = journal.open_session("sim", "sim", resume=False, at_ms=1)
        seq = journal.append_event(_event())
        journal.append_outputs(seq, [trade("a"), trade("b")])
        journal.commit()
        assert len(journal.trades(session.id)) == 2

    operator.print_trades(CONFIG, as_json=True, as_csv=False, every=False)
    as_json = json.loads(capsys.readouterr().out)
    operator.print_trades(CONFIG, as_json=False, as_csv=True, every=False)
    as_csv = capsys.readouterr().out.splitlines()
    operator.print_trades(CONFIG, as_json=False, as_csv=False, every=True)

    assert [row["trade_id"] for row in as_json] == ["a", "b"]
    assert as_json[0]["fills"]
    assert len(as_csv) == 3
    assert as_csv[0].startswith("trade_id,")
    assert "LONG" in capsys.readouterr().out
    assert set(as_csv[0].split(",")) < set(TradeRecord.__dataclass_fields__)


def _event():
    from bot.core.events import TimerFired

    return TimerFired(1, "x")


def test_the_configuration_takes_no_notification_address():
    with pytest.raises(ConfigError, match="'urls'") as refused:
        parse((ROOT / "config.toml").read_text(), overrides=('notify.urls=["tgram://1234:SECRET/5"]',))

    assert "SECRET" not in str(refused.value)


def test_the_effective_configuration_reads_back_to_itself():
    config = parse((ROOT / "config.toml").read_text(), profile="creator")

    assert parse(operator.render_config(config, as_json=False)) == config
