"""What `explain` tells of a bar is what the strategy saw there: flags, numbers, spells, blocks, plan."""

import io
import json
import math
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from bot.backtest.signals import resets_at
from bot.cli import main
from bot.config import Config
from bot.core.events import KlineClosed
from bot.core.klines import fill_gaps, make_klines
from bot.core.records import Decision
from bot.core.types import Side
from bot.explain.bar import explain, find_bars, see
from bot.explain.bar_detail import blocks, conditions, gates, relative_volume
from bot.journal import Journal
from bot.market import store
from bot.market.store import format_time
from bot.market.synthetic import synthetic
from bot.report.terminal import NARROW, picture
from bot.report.view import view
from bot.strategy import rules
from bot.strategy.evidence import flags, numbers
from bot.strategy.features import INDEX, Features, batch
from bot.strategy.rules import CONDITIONS, GATES, TITLES

BASE_MS = 180_000
EASY = Config.model_validate({"strategy": {"warm_up_bars": 100, "min_dominance": 50.0, "min_rank": 10.0}})


@pytest.fixture(scope="module")
def bars():
    """Nine days, with two short gaps and a long one."""
    whole = store.build(synthetic(9, 11)["BTCUSDT"], BASE_MS)
    keep = np.ones(len(whole), bool)
    keep[2_000:2_004] = keep[2_900:2_901] = keep[1_000:1_060] = False
    return make_klines("BTCUSDT", BASE_MS, columns={name: column[keep] for name, column in whole.columns().items()})


@pytest.fixture(scope="module")
def table(bars):
    """All bars with gaps filled, and every column of them from one batch pass."""
    filled, resets = fill_gaps(bars, EASY.data.max_gap_bars)
    return filled, batch(filled, EASY, resets=resets_at(len(filled), resets))


def looked_at(table):
    """Return positions that show something: each flag on and off, signals, fillers, a reset, the ends."""
    filled, rows = table
    rng = np.random.default_rng(5)
    chosen = {0, 1, 999, 1_000, 1_001, len(filled) - 1, *np.flatnonzero(filled.filled).tolist()}
    for side in ("long", "short"):
        for name in (*(f"{side}_{c}" for c in CONDITIONS), f"{side}_signal"):
            hits = np.flatnonzero(rows[:, INDEX[name]] == 1.0)
            chosen |= set(rng.choice(hits, min(4, len(hits)), replace=False).tolist())
    return sorted(chosen | set(rng.integers(0, len(filled), 40).tolist()))


@pytest.fixture(scope="module")
def views(bars, table):
    filled, _ = table
    return {i: see(EASY, bars, int(filled.open_ms[i]) + 61_000) for i in looked_at(table)}


def test_a_bar_is_seen_with_the_row_of_the_batch_and_of_the_live_step(bars, table, views):
    filled, rows = table
    features = Features(EASY)
    live = {bar.open_ms: features.step(KlineClosed(bar.close_ms, bar)) for bar in bars.rows()}

    for i, seen in views.items():
        np.testing.assert_array_equal(seen.row.values, rows[i])
        if not filled.filled[i]:
            np.testing.assert_array_equal(seen.row.values, live[int(filled.open_ms[i])].values)


def test_the_bar_before_is_known_except_at_the_start_and_after_a_reset(table, views):
    _, rows = table

    for i, seen in views.items():
        if i in (0, 1_000):
            assert seen.previous is None
        else:
            np.testing.assert_array_equal(seen.previous.values, rows[i - 1])


def test_nothing_after_the_bar_is_read(bars, views):
    seen = next(seen for i, seen in views.items() if i > 2_000 and not seen.bars.filled[-1])
    open_ms = int(seen.bars.open_ms[-1])

    after = bars.open_ms > open_ms
    columns = bars.columns()
    altered = columns | {
        name: np.where(after, columns[name] * 2, columns[name]) for name in ("open", "high", "low", "close")
    }
    other = see(EASY, make_klines("BTCUSDT", BASE_MS, columns=altered), open_ms)

    assert after.any()
    np.testing.assert_array_equal(other.row.values, seen.row.values)
    for side in Side:
        for found, same in zip(conditions(other, side), conditions(seen, side), strict=True):
            assert (found.words, found.detail, found.spell) == (same.words, same.detail, same.spell)


def test_spells_are_those_of_counting_by_hand(table, views):
    filled, rows = table

    for i, seen in views.items():
        for side in Side:
            for found in conditions(seen, side):
                flags = [value == 1.0 for value in rows[: i + 1, INDEX[f"{side.name.lower()}_{found.name}"]]]
                count = 0
                while count <= i and flags[i - count] == flags[i]:
                    count += 1
                assert found.holds == flags[i] == found.spell.holds
                if flags[i]:
                    assert found.spell[1:] == (count, filled.open_ms[i - count + 1])
                else:
                    expected = (None, None) if count > i else (count, filled.open_ms[i - count])
                    assert found.spell[1:] == expected


def decided(found, side, seen):
    """Derive a condition from the numbers that are shown with it."""
    v = found.values
    if found.name == "htf":
        return v["smc_trend"] == v["pac_trend"] == side.sign
    if found.name == "ob":
        return any(not block["against"] for block in v["blocks"])
    if found.name == "hw_cross":
        before = side.sign * (v["previous_signal"] - v["previous_hyperwave"])
        after = side.sign * (v["hyperwave"] - v["signal"])
        return before >= 0 and after > 0 and side.sign * (v["level"] - v["hyperwave"]) > 0
    if found.name == "no_overflow":
        return not (v["overflow_up"] or v["overflow_down"])
    if found.name == "conf":
        return v["state"] == side.sign and v["rating"] >= v["min_rating"]
    return v["direction"] == side.sign and side.sign * (v["close"] - v["line"]) > 0


def test_the_numbers_shown_decide_each_condition(views):
    for seen in views.values():
        if seen.row["ready"] != 1.0 or seen.bars.filled[-1]:
            continue
        for side in Side:
            for found in conditions(seen, side):
                assert decided(found, side, seen) == found.holds, (found, side)
                assert found.words


def shown(seen):
    """What page and terminal show of a bar that was decided live: (title, holds, sentence) by side, as JSON and as text."""
    held = {side: flags(seen.row, side) for side in Side}
    decision = {side.name.lower(): dict(zip(CONDITIONS, held[side], strict=True)) for side in Side}
    decision |= {"close": seen.close, "values": numbers(seen.row, held[Side.LONG], held[Side.SHORT])}
    page = json.loads(json.dumps(view({"decision": decision})))
    console = Console(file=io.StringIO(), width=NARROW)
    console.print(picture(page))
    lines = iter(line.strip("│ \n") for line in console.file.getvalue().splitlines() if line[:3] in ("│ ●", "│ ○"))
    terminal = {side: [next(lines) for _ in CONDITIONS] for side in Side}
    lights = {side: page["sides"][side.name.lower()]["lights"] for side in Side}
    return {side: [(each["title"], each["on"], each["number"]) for each in lights[side]] for side in Side}, terminal


def test_terminal_page_and_explain_say_the_same_sentence_of_the_same_bar(views):
    met = set()
    for seen in views.values():
        page, terminal = shown(seen)
        for side in Side:
            explained = [(TITLES[found.tag], found.holds, found.words) for found in conditions(seen, side)]
            assert page[side] == explained
            for line, (called, holds, words) in zip(terminal[side], explained, strict=True):
                assert line.split() == ["●" if holds else "○", *called.split(), *words.split()]
                assert words
                met.add((side, called, holds))

    assert len(met) == 2 * 6 * 2


def test_a_changed_constant_of_the_rules_changes_the_sentence_everywhere(views, monkeypatch):
    seen = next(seen for seen in views.values() if seen.row["ready"] == 1.0)

    monkeypatch.setattr(rules, "HALF_LINE", 45.5)
    page, terminal = shown(seen)

    for side, half in ((Side.LONG, "below 45.5"), (Side.SHORT, "above 45.5")):
        at = CONDITIONS.index("hw_cross")
        for told in (page[side][at][2], terminal[side][at], conditions(seen, side)[at].words):
            assert told.endswith(half)


def test_a_gate_that_does_not_hold_says_what_it_needs(views):
    met = set()
    for seen in views.values():
        for side in Side:
            for found in gates(seen, side):
                if found.words not in ("not known", "no block is hit"):
                    assert (": needs " in found.words) != found.holds
                    met.add((found.name, found.holds))

    assert {name for name, _ in met} == set(GATES)


def test_relative_volume_and_money_flow_decide_overflow(views):
    checked = 0
    for seen in views.values():
        values = conditions(seen, Side.LONG)[3].values
        if seen.row["om_ready"] != 1.0:
            continue
        heavy = relative_volume(seen) > values["volume_ratio"]
        flow, before = values["money_flow"], values["previous_money_flow"]
        assert values["overflow_up"] == (heavy and flow > values["upper"] and flow >= before)
        assert values["overflow_down"] == (heavy and flow < values["lower"] and flow <= before)
        window = seen.bars.volume[-EASY.oscillator.money_flow_length :]
        assert relative_volume(seen) == pytest.approx(window[-6:].mean() / window.mean(), rel=1e-9)
        checked += values["overflow_up"] + values["overflow_down"]
    assert checked


def test_the_first_block_without_an_obstacle_is_the_hit(views):
    hits = 0
    for seen in views.values():
        for side in Side:
            name = side.name.lower()
            free = [block for block in blocks(seen, side) if not block["against"]]
            if math.isnan(seen.row[f"{name}_ob_id"]):
                assert free == []
                continue
            hits += 1
            assert free[0]["id"] == seen.row[f"{name}_ob_id"]
            assert (free[0]["bottom"], free[0]["top"]) == (seen.row[f"{name}_ob_bottom"], seen.row[f"{name}_ob_top"])
            assert free[0]["rank"] == seen.row[f"{name}_ob_rank"]
            assert free[0]["dominance"] == seen.row[f"{name}_ob_dominance"]
    assert hits > 5


def test_gates_are_the_bits_of_the_row_and_required_as_configured(bars, views):
    strict = EASY.model_copy(
        update={
            "strategy": EASY.strategy.model_copy(
                update={"gates": EASY.strategy.gates.model_copy(update={"discount": True})}
            )
        }
    )
    for seen in views.values():
        for side in Side:
            bits = int(seen.row[f"{side.name.lower()}_gates"])
            assert [found.holds for found in gates(seen, side)] == [bool(bits >> i & 1) for i in range(len(GATES))]
            assert not any(found.required for found in gates(seen, side))

    seen = see(strict, bars, int(bars.open_ms[-1]))

    assert [found.name for found in gates(seen, Side.LONG) if found.required] == ["discount"]


@pytest.fixture
def klines(tmp_path, bars):
    folder = tmp_path / "klines"
    folder.mkdir()
    store.write(folder, bars)
    return folder


@pytest.fixture(autouse=True)
def own_data(tmp_path, monkeypatch):
    monkeypatch.setenv("BOT_DATA", str(tmp_path / "own"))


def told(klines, filled, i, config=EASY):
    return explain(config, int(filled.open_ms[i]), klines=klines, quiet=True)


def test_the_verdict_names_the_signal_the_near_miss_and_the_counts(klines, table):
    filled, rows = table
    column = {name: rows[:, INDEX[name]] for name in ("long_signal", "long_count", "short_count", "ready")}
    calm = (column["ready"] == 1) & (filled.filled == 0)
    near = np.flatnonzero(calm & (column["long_count"] == 5) & (column["short_count"] < 5))
    few = np.flatnonzero(calm & (column["long_count"] < 5) & (column["short_count"] < 5))

    miss, none = told(klines, filled, near[0]), told(klines, filled, few[0])

    (lacking,) = miss["long"]["missing"]
    assert miss["verdict"].startswith("no signal: LONG five of six: ")
    assert miss["long"]["near_miss"] == f"five of six: {TITLES[lacking]} is missing"
    assert none["verdict"] == f"no signal: LONG {none['long']['count']} of six; SHORT {none['short']['count']} of six"
    for i in np.flatnonzero(column["long_signal"] == 1)[:2]:
        found = told(klines, filled, i)
        assert found["verdict"].startswith("LONG signal")
        assert found["long"]["missing"] == []


def test_all_six_without_a_required_gate_is_told_as_such(klines, table):
    filled, rows = table
    six = np.flatnonzero(np.maximum(rows[:, INDEX["long_signal"]], rows[:, INDEX["short_signal"]]) == 1)
    side = "long" if rows[six[0], INDEX["long_signal"]] == 1 else "short"
    bits = int(rows[six[0], INDEX[f"{side}_gates"]])
    closed = next(name for i, name in enumerate(GATES) if not bits >> i & 1)
    values = EASY.model_dump(mode="json")
    values["strategy"]["gates"][closed] = True

    found = told(klines, filled, six[0], Config.model_validate(values))

    assert found[side]["closed_gates"] == [closed]
    assert f"{side.upper()} has all six, but required gates do not hold: {closed}" in found["verdict"]


def test_the_plan_is_the_strategys_and_its_r_follows_from_its_prices(klines, table):
    filled, rows = table
    hit = np.flatnonzero(rows[:, INDEX["short_ob"]] == 1)[0]

    side = told(klines, filled, hit)["short"]
    plan, block = side["plan"], side["conditions"]["ob"]["values"]

    assert plan["entry"] == pytest.approx((block["bottom"] + block["top"]) / 2, abs=0.11)
    distance = (0.6 if block["top"] - block["bottom"] < 1.2 * plan["atr"] else 0.75) * plan["atr"]
    assert plan["stop"] == pytest.approx(block["top"] + distance, abs=0.11)
    assert plan["r"] == pytest.approx(plan["stop"] - plan["entry"])
    assert plan["r_percent"] == pytest.approx(100 * plan["r"] / plan["entry"])
    assert plan["tp1"] == pytest.approx(plan["entry"] - plan["r"], abs=0.11)
    assert plan["close_beyond_entry_r"] == pytest.approx((plan["entry"] - filled.close[hit]) / plan["r"])
    assert Decimal(str(plan["entry"])) % Decimal("0.1") == 0


def test_no_plan_without_a_block(klines, table):
    filled, rows = table
    without = np.flatnonzero((rows[:, INDEX["long_ob"]] == 0) & (rows[:, INDEX["ready"]] == 1))[0]

    assert told(klines, filled, without)["long"]["plan"] is None


def test_filled_and_early_bars_say_so(klines, table):
    filled, _ = table
    filler = told(klines, filled, int(np.flatnonzero(filled.filled)[0]))
    early = told(klines, filled, 50)

    assert filler["filled"] is True
    assert "put in flat" in filler["verdict"]
    assert early["warm_up"] == {"ready": False, "needed": 100, "bars_3m": 51, "bars_15m": 10}
    assert "51 bars of 3m and 10 of 15m" in early["verdict"]


def test_the_report_is_plain_json_with_every_column(klines, table):
    filled, _ = table

    found = told(klines, filled, 700)

    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["values"].keys() == INDEX.keys()
    assert list(found["long"]["conditions"]) == list(CONDITIONS)


def test_a_decision_in_the_journal_is_told_with_what_it_saw_differently(klines, table, tmp_path):
    filled, _ = table
    open_ms = int(filled.open_ms[3_000])
    plain = told(klines, filled, 3_000)
    ours = tuple(c["holds"] for c in plain["long"]["conditions"].values())
    theirs = (not ours[0], *ours[1:])
    short = tuple(c["holds"] for c in plain["short"]["conditions"].values())
    (tmp_path / "own").mkdir()
    with Journal(tmp_path / "own" / "bot.db") as journal:
        journal.open_session("sim", "A", resume=False, at_ms=1)
        bar = filled.kline(3_000)
        seq = journal.append_event(KlineClosed(bar.close_ms + 20, bar))
        decision = Decision(bar.close_ms + 20, open_ms, theirs, short, 0, "no_signal", "just so", {"om_hyperwave": 5.0})
        journal.append_outputs(seq, [decision])
        journal.commit()

    live = told(klines, filled, 3_000)["live"]

    assert plain["live"] is None
    assert (live["venue"], live["code"], live["reason"]) == ("sim", "no_signal", "just so")
    assert live["differs"] == ["long_htf"]
    assert told(klines, filled, 3_001)["live"] is None


def test_without_klines_of_its_own_the_synthetic_market_is_explained(klines, monkeypatch):
    bars, source = find_bars(Config(), "ETHUSDT", None)
    monkeypatch.setenv("BOT_DATA", str(klines.parent))
    own, where = find_bars(Config(), "BTCUSDT", None)

    assert bars.symbol == "ETHUSDT"
    assert source.startswith("synthetic market")
    assert where == str(klines)
    assert len(own) < len(bars)


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return ended.value.code or 0, out, err


def test_the_command_prints_both_sides_and_takes_any_time_inside_the_bar(capsys, klines, table):
    filled, rows = table
    hit = int(np.flatnonzero((rows[:, INDEX["long_ob"]] == 1) & (rows[:, INDEX["ready"]] == 1))[0])
    open_ms = int(filled.open_ms[hit])
    easy = ("--set", "strategy.warm_up_bars=100", "--set", "strategy.min_dominance=50", "--set", "strategy.min_rank=10")

    code, out, err = run(capsys, "explain", open_ms + 179_999, "--klines", klines, *easy)
    _, as_json, _ = run(capsys, "explain", open_ms, "--klines", klines, "--json", *easy)

    assert (code, err) == (0, "")
    for word in (
        "HTF_BULL · 15m structure",
        "OB_SUPPLY_HIT · order block hit",
        "gate taker_confirm",
        "plan at this block",
        "warm-up: done",
    ):
        assert word in out
    assert format_time(open_ms) in out
    told = json.loads(as_json)
    assert told["verdict"] in out
    for side in ("long", "short"):
        for found in (*told[side]["conditions"].values(), *told[side]["gates"].values()):
            assert found["words"] in out


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("2030-01-01",), 3, "holds from"),
        (("2001-09-09T01:46",), 3, "holds from"),
        (("{gap}",), 3, "gap from"),
        (("noon",), 2, "noon"),
        (("2030-01-01", "--symbol", "XRPUSDT"), 3, "XRPUSDT"),
    ],
)
def test_a_bar_that_is_not_there_gets_one_sentence_and_exit_code_3(capsys, klines, bars, arguments, code, word):
    gap = int(bars.open_ms[999]) + 10 * BASE_MS

    got, out, err = run(capsys, "explain", *(a.format(gap=gap) for a in arguments), "--klines", klines)

    assert (got, out) == (code, "")
    assert word in err
    assert err.count("\n") == 1


@pytest.mark.reference
def test_a_signal_on_real_bars_is_explained_as_one(shared):
    found = explain(Config(), store.parse_time("2022-12-09T08:10"), klines=shared / "klines" / "spot", quiet=True)
    table = pd.DataFrame(found["long"]["conditions"]).T

    assert found["long"]["signal"]
    assert table["holds"].all()
    assert found["long"]["plan"]["r_percent"] == pytest.approx(0.09, abs=0.02)
