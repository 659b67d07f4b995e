"""Control runs of a back-test: the same range without the hedge, at other fees, and with random entries.

A single figure says little. The same trades without the hedge show whether the hedge was worth its cost; random entries
with the same plan and exits show whether the entries have any value. The runs share the indicator results, so each takes
only as long as its trades.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from bot.backtest.data import Prepared, prepare
from bot.backtest.market import Market
from bot.backtest.run import run_backtest
from bot.config import Config
from bot.report.backtest_parts import Controls
from bot.results import summary as metrics
from bot.results.backtest import Result
from bot.results.figures import interval
from bot.search.chance import DRAWS, against_chance, pool_of

POOL = 1_000  # random entries per side
HIGH_TAKER_FEE = 0.0005  # the venue's standard rate; the account's own is 0.04 %


def with_values(config: Config, values: dict[str, Any]) -> Config:
    """Return a validated configuration with some settings changed, by dotted name.

    >>> with_values(Config(), {"hedge.enabled": False}).hedge.enabled
    False
    """
    dumped = config.model_dump()
    for name, value in values.items():
        *path, last = name.split(".")
        place = dumped
        for part in path:
            place = place[part]
        place[last] = value
    return Config.model_validate(dumped)


def variants_of(config: Config) -> list[tuple[str, str, dict[str, Any]]]:
    """Return name, note and changed settings of each control run of `config`."""
    found: list[tuple[str, str, dict[str, Any]]] = []
    if config.hedge.enabled:
        found += [
            ("without the hedge", "hedge.enabled = false", {"hedge.enabled": False}),
            ("literal hedge", "hedge.weight = each: the whole hedge on each leg", {"hedge.weight": "each"}),
        ]
    if config.venue.sim.taker_fee != HIGH_TAKER_FEE:
        found.append(("taker fee 0.05 %", "the venue's standard rate", {"venue.sim.taker_fee": HIGH_TAKER_FEE}))
    found.append(
        (
            "no costs at all",
            "fees, spread and slippage 0: what the rules themselves make",
            {
                "venue.sim.taker_fee": 0.0,
                "venue.sim.maker_fee": 0.0,
                "backtest.spread": 0.0,
                "backtest.slippage": 0.0,
            },
        )
    )
    return found


def figures_of(name: str, note: str, result: Result) -> dict[str, Any]:
    """Return the figures of a variant for the report's table."""
    net = result.table()["net_r"]
    return {
        "name": name,
        "note": note,
        **metrics.summary_figures(result),
        "deviation_r": float(net.std(ddof=1)) if len(net) > 1 else None,
    }


def hedge_truth(result: Result, bare: Result) -> dict[str, Any]:
    """Return the effect of the hedge on the same trades: variance removed, cost and gross result.

    Trades are matched by their signal. Variance is that of the trades' gross results in R: BTC alone in `bare`
    against BTC and legs in `result`; below 0 the hedge added variance. `gross_r` is the legs' result at mid prices;
    `gross_r` - `cost_r` is their net effect, except for their funding and where BTC's own trade differed.
    """
    ours, theirs = result.table(), bare.table()
    _, at, other = np.intersect1d(ours["signal_ms"], theirs["signal_ms"], return_indices=True)
    found: dict[str, Any] = {"matched": len(at), "cost_r": metrics.costs(ours)["hedge"]}
    if len(at) < 3:
        return found
    hedged, alone = ours["gross_r"][at], theirs["gross_r"][other]
    net, net_alone = ours["net_r"][at], theirs["net_r"][other]
    legs = ours["hedge_r"][at]
    found["variance_removed"] = float(1 - hedged.var() / alone.var()) if alone.var() > 0 else None
    found["variance_removed_net"] = float(1 - net.var() / net_alone.var()) if net_alone.var() > 0 else None
    found["correlation"] = (
        float(np.corrcoef(ours["alpha_r"][at], legs)[0, 1])
        if legs.std() > 0 and ours["alpha_r"][at].std() > 0
        else None
    )
    # `hedge_r` is after the legs' spread and slippage, which `cost_r` includes too; at mid prices it is before them.
    alpha_gross = ours["alpha_r"] + ours["cost_spread_r"] + ours["cost_slippage_r"]
    found["gross_r"] = float((ours["gross_r"] - alpha_gross)[at].mean())
    found["cost_r"] = float(ours["cost_hedge_r"][at].mean())
    found["difference_net_r"] = float((net - net_alone).mean())
    found["difference_net_r_95"] = interval(net - net_alone)
    found["net_beta_median"] = float(np.median(ours["net_beta"]))
    return found


def run_controls(
    result: Result,
    market: Market,
    *,
    prepared: Prepared | None = None,
    pool: int = POOL,
    draws: int = DRAWS,
    progress: Callable[[int], None] | None = None,
) -> Controls:
    """Run the controls of `result`, over the same range and data.

    Parameters
    ----------
    prepared
        Data and indicator results of `result`'s range, computed if None.
    pool
        Random entries per side; 0 skips the test against chance.
    draws
        Random lists drawn from them.
    progress
        Called with the number of runs done.
    """
    config = result.config
    kept = prepared or prepare(config, market, from_ms=result.from_ms, to_ms=result.to_ms)
    found = [figures_of("as configured", "", result)]
    truth: dict[str, Any] = {}
    plans = variants_of(config)
    for number, (name, note, values) in enumerate(plans):
        changed = with_values(config, values)
        other = run_backtest(
            changed,
            market,
            from_ms=result.from_ms,
            to_ms=result.to_ms,
            signals_cache=kept if changed.hedge.enabled else without_legs(kept),
            profile=result.profile,
        )
        found.append(figures_of(name, note, other))
        if name == "without the hedge":
            truth = hedge_truth(result, other)
        if progress is not None:
            progress(number + 1)
    chance = None
    if pool and result.trades and result.geometry:
        table = result.table()
        entries = pool_of(config, kept, result, count=pool)
        traded = set(table["side"].tolist())
        if all(len(entries.of(side)) for side in traded):  # else a side has no random entry that filled
            compared = against_chance(table["net_r"], table["gross_r"], table["side"], entries, draws=draws)
            chance = compared.as_dict() if compared else None
    if progress is not None:
        progress(len(plans) + 1)
    return Controls(found, truth, chance)


def without_legs(prepared: Prepared) -> Prepared:
    """Return the same data with only the traded symbol, for a run without a hedge."""
    from dataclasses import replace

    first = next(iter(prepared.symbols))
    return replace(prepared, symbols={first: prepared.symbols[first]}, legs={})
