"""`signals --cold`, as a person would call it, against the original scripts' output: every bar, within the masks."""

import numpy as np
import pandas as pd
import pytest

from bot.backtest.signals import write_signals
from bot.config import Config

pytestmark = pytest.mark.reference
SOURCES = {
    "btc_um3m": ("klines/um/BTCUSDT-3m.parquet", 180_000),
    "btc_um15m": ("klines/um/BTCUSDT-15m.parquet", 900_000),
    "synthetic": ("oracle/synthetic_bars.parquet", 180_000),
}
STA = {"ts": "ts", "os": "os", "target_factor": "target_factor", "perf_idx": "perf_idx", "perf_ama": "perf_ama"}


def signals(shared, tmp_path, market, oracle, **settings):
    path, step = SOURCES[market]
    values = Config().model_dump()
    for section, changes in settings.items():
        values[section] |= changes
    out = tmp_path / "signals.parquet"
    first, last = int(oracle["time"].iloc[0]), int(oracle["time"].iloc[-1])
    config = Config.model_validate(values)
    write_signals(config, shared / path, out, from_ms=first, to_ms=last + step, cold=True, quiet=True)
    table = pd.read_parquet(out)
    assert np.array_equal(table["open_time"], oracle["time"])
    return table


@pytest.mark.parametrize("market", SOURCES)
@pytest.mark.parametrize("mitigation", ["hl", "close"])
def test_smc_columns_equal_the_oracle(shared, tmp_path, market, mitigation):
    oracle = pd.read_parquet(shared / "oracle" / f"smc_{market}_{mitigation}.parquet")
    mode = "high_low" if mitigation == "hl" else "close"

    table = signals(shared, tmp_path, market, oracle, smc={"order_block_mitigation": mode})

    compared = [name for name in oracle if f"smc_{name}" in table]
    assert len(compared) == 60
    for name in compared:
        ours, theirs = table[f"smc_{name}"].to_numpy(float), oracle[name].to_numpy(float)
        same = np.isclose(ours, theirs, rtol=1e-9 if name == "atr200" else 0.0, atol=0.0, equal_nan=True)
        assert same.all(), (name, int(np.argmin(same)))
    assert ((table["smc_strong_high"] == 1) == (oracle["drawn_bias"] == -1)).all()
    assert ((table["smc_strong_low"] == 1) == (oracle["drawn_bias"] == 1)).all()


@pytest.mark.parametrize("market", SOURCES)
@pytest.mark.parametrize("factors", ["1_3", "1_5"])
def test_supertrend_ai_columns_equal_the_oracle_where_ties_do_not_decide(shared, tmp_path, market, factors):
    oracle = pd.read_parquet(shared / "oracle" / f"sta_{market}_{factors}.parquet")
    ties = pd.read_parquet(shared / "oracle" / f"sta_{market}_{factors}_ties.parquet")

    table = signals(shared, tmp_path, market, oracle, supertrend_ai={"factor_max": float(factors[2:])})

    for name in STA:
        ours, theirs = table[f"sta_{name}"].to_numpy(float), oracle[name].to_numpy(float)
        near = np.isclose(ours, theirs, rtol=1e-9, atol=1e-6, equal_nan=True)
        assert (near | (ties[f"{name}_differs_tv"] == 1)).all(), name
    differs = ties["os_differs_tv"] == 1
    excused = differs | differs.shift(1, fill_value=False)
    assert ((table["sta_signal"] == oracle["signal"]) | excused).all()
