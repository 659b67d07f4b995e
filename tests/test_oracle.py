"""Every bar of Smart Money Concepts and SuperTrend AI against what the original scripts gave in an independent runtime.

The oracle files carry one row a bar. The kernels start cold at the first of them and are fed the klines, not the oracle's
own prices. Smart Money Concepts has to be equal (ATR 200 to rtol 1e-9: the runtime rounds it to 10 decimals), SuperTrend
AI within 1e-6 + 1e-9 of the value wherever the tie rules of TradingView and of the runtime do not decide differently
(the `..._differs_tv` columns). Besides the public columns the state is compared wherever the oracle tells it.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bot.config import Smc, SupertrendAi
from bot.indicators import supertrend as sta
from bot.structure import smc
from tests import naive_open

DATA = Path(__file__).parent / "data"
PRICES = ["open", "high", "low", "close"]
MARKETS = ["synthetic", *(pytest.param(m, marks=pytest.mark.reference) for m in ("btc_um3m", "btc_um15m"))]


@pytest.fixture
def load(request):
    """A function that reads (klines, oracle tables) of a market; `shared` is asked for only where it is needed."""

    def read(market, family, variant, *, ties=False):
        if market == "synthetic":
            bars = pd.read_parquet(DATA / "synthetic_bars.parquet")
            tables = [
                pd.read_parquet(DATA / f"synthetic_{family}_{variant}{t}.parquet") for t in ("", "_ties")[: 1 + ties]
            ]
        else:
            shared = request.getfixturevalue("shared")
            interval = market.removeprefix("btc_um")
            bars = pd.read_parquet(shared / f"klines/um/BTCUSDT-{interval}.parquet").rename(
                columns={"open_time": "time"}
            )
            names = [f"{family}_{market}_{variant}{t}.parquet" for t in ("", "_ties")[: 1 + ties]]
            tables = [pd.read_parquet(shared / "oracle" / name) for name in names]
        first, last = tables[0]["time"].iloc[[0, -1]]
        bars = bars[(bars["time"] >= first) & (bars["time"] <= last)].reset_index(drop=True)
        for table in tables:
            np.testing.assert_array_equal(table["time"], bars["time"])
        np.testing.assert_array_equal(tables[0][PRICES], bars[PRICES])
        return [(*row, 0) for row in bars[["time", *PRICES]].itertuples(index=False)], *tables

    return read


def or_nan(milliseconds):
    return float(milliseconds) if milliseconds else np.nan


def look_smc(state):
    """What the oracle tells beside the public columns, out of the state."""
    newest = (state.parsed.bars - 1) % 128
    out = {
        "parsed_high": state.parsed.high[newest],
        "parsed_low": state.parsed.low[newest],
        "trailing_top_time": or_nan(state.zones.top_ms),
        "trailing_bottom_time": or_nan(state.zones.bottom_ms),
        "trailing_bar_time": or_nan(state.zones.left_ms),
        "eh_level": state.equal_high,
        "el_level": state.equal_low,
    }
    for layer, record in (("i", state.internal), ("s", state.swing)):
        for side, pivot in (("h", record.high), ("l", record.low)):
            out[f"{layer}{side}_index"] = int(pivot.index)
            out[f"{layer}{side}_crossed"] = int(pivot.crossed)
    return {name: float(value) for name, value in out.items()}


@pytest.mark.parametrize("mitigation", ["close", "hl"])
@pytest.mark.parametrize("market", MARKETS)
def test_smart_money_concepts_equal_the_original_on_every_bar(load, market, mitigation):
    bars, oracle = load(market, "smc", mitigation)
    section = Smc(order_block_mitigation="close" if mitigation == "close" else "high_low")

    rows = naive_open.run(bars, smc, smc.smc_reset, smc.smc_step, smc.params(section), look_smc)

    ours = pd.DataFrame(rows)
    oracle["strong_high"] = oracle["drawn_bias"] == -1
    oracle["strong_low"] = oracle["drawn_bias"] == 1
    compared = [c for c in ours.columns if c.removeprefix("smc_") in oracle.columns]
    assert {c for c in smc.COLUMNS if c not in compared} == {c for c in smc.COLUMNS if "_fvg_" in c}
    assert len(compared) == len(smc.COLUMNS) - 6 + 15
    for column in compared:
        want = oracle[column.removeprefix("smc_")].to_numpy(dtype=float)
        if column == "smc_atr200":
            np.testing.assert_allclose(ours[column], want, rtol=1e-9, atol=0, err_msg=column)
        else:
            np.testing.assert_array_equal(ours[column], want, err_msg=column)


def look_sta(count):
    def look(state):
        out = {}
        for k in range(count):
            out |= {f"perf_{k}": state.clusters.value[k], f"st_{k}": state.output[k], f"trend_{k}": state.trend[k]}
        out |= {f"cluster{i}_size": np.count_nonzero(state.clusters.member[:count] == i) for i in range(3)}
        out["den"] = state.den.value if state.den.bars >= 10 else np.nan
        return {name: float(value) for name, value in out.items()}

    return look


@pytest.mark.parametrize("factors", ["1_3", "1_5"])
@pytest.mark.parametrize("market", MARKETS)
def test_supertrend_ai_equals_the_original_on_every_bar(load, market, factors):
    bars, oracle, ties = load(market, "sta", factors, ties=True)
    section = SupertrendAi(factor_min=1, factor_max=float(factors[-1]), factor_step=0.5, memory=10, cluster="best")
    count = len(sta.factors(section))

    rows = naive_open.run(bars, sta, sta.sta_reset, sta.sta_step, sta.params(section), look_sta(count))

    ours = pd.DataFrame(rows)
    # A direction that differs changes the signal on its bar and on the next.
    direction = ties["os_differs_tv"].to_numpy() == 1
    excused = {c: ties[f"{c}_differs_tv"] == 1 for c in ("ts", "os", "target_factor", "perf_idx", "perf_ama")}
    excused["signal"] = direction | np.append(False, direction[:-1])
    excused |= {f"cluster{i}_size": ties["clusters_differ_tv"] == 1 for i in range(3)}
    assert {c.removeprefix("sta_") for c in sta.COLUMNS} <= excused.keys()
    for column in ours.columns:
        name = column.removeprefix("sta_")
        got, want = ours[column].to_numpy(), oracle[name].to_numpy(dtype=float)
        equal = (np.abs(got - want) <= 1e-6 + 1e-9 * np.abs(want)) | (np.isnan(got) & np.isnan(want))
        wrong = np.flatnonzero(~equal & ~np.asarray(excused.get(name, False)))
        assert wrong.size == 0, (column, wrong.size, wrong[:5], got[wrong[:5]], want[wrong[:5]])
