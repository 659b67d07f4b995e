"""Betas of ETH and SOL against BTC over the last hour, and the hedge ratios that follow (strategy 8).

Beta of a leg is cov(BTC, leg) / var(leg) of 3m log returns: the minimum-variance notional of the leg per unit of BTC notional.
The leg's *own* beta, cov / var(BTC), is what a unit of the leg adds to the book's net BTC beta; it keeps the hedge from reversing
the trade.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from operator import itemgetter

import numpy as np

from bot.config import Hedge as HedgeConfig


@dataclass(frozen=True, slots=True)
class Regression:
    """Betas of one leg against BTC, and the share of variance that they explain."""

    beta: float  # the hedge ratio
    own_beta: float  # return of the leg per return of BTC
    r2: float


@dataclass(frozen=True, slots=True)
class LegPlan:
    """One planned leg: its notional per unit of BTC notional, or why it is skipped."""

    symbol: str
    ratio: float
    beta: float
    own_beta: float
    r2: float
    factor: float
    skip: str = ""


@dataclass(frozen=True, slots=True)
class HedgePlan:
    """All legs, the book's net BTC beta with them, and the scale that keeps it at least `min_net_beta`."""

    legs: tuple[LegPlan, ...]
    net_beta: float
    scale: float

    @property
    def ratio(self) -> float:
        """Hedge notional per unit of BTC notional."""
        return sum(leg.ratio for leg in self.legs)


NO_MOVEMENT = 1e-18  # a sum of squared returns up to this is rounding of the logarithm
NO_HEDGE = HedgePlan((), 1.0, 1.0)


def regress(btc: Sequence[float], leg: Sequence[float], beta_of: str = "btc") -> Regression | None:
    """Regress closes of the same bars, oldest first; return None if one of the two did not move.

    >>> r = regress([100.0, 101.0, 100.0, 102.0], [50.0, 51.0, 50.0, 52.0])
    >>> round(r.beta, 4), round(r.own_beta, 4), round(r.r2, 4)
    (0.5039, 1.9847, 1.0)
    """
    x, y = _excess_returns((btc, leg))
    return _fit(x, y, beta_of)


def _fit(x: np.ndarray, y: np.ndarray, beta_of: str) -> Regression | None:
    var_x, var_y, cov = float(x @ x), float(y @ y), float(x @ y)
    if not (var_x > NO_MOVEMENT and var_y > NO_MOVEMENT and math.isfinite(cov)):
        return None
    own = cov / var_x
    return Regression(cov / var_y if beta_of == "btc" else own, own, cov * cov / (var_x * var_y))


def _excess_returns(closes: Sequence[Sequence[float]]) -> np.ndarray:
    """Return demeaned log returns, one row per series: for so few numbers the cost is numpy's call overhead."""
    logs = np.log(np.array(closes, dtype=np.float64))
    returns = logs[:, 1:] - logs[:, :-1]
    mean = np.add.reduce(returns, axis=1, keepdims=True) / returns.shape[1]  # as `mean` computes it, without its checks
    excess: np.ndarray = returns - mean
    return excess


def plan(
    btc: Mapping[int, float],
    legs: Mapping[str, Mapping[int, float]],
    *,
    last_open_ms: int,
    interval_ms: int,
    config: HedgeConfig,
) -> HedgePlan:
    """Plan the legs; a leg without all common bars is skipped.

    Parameters
    ----------
    btc, legs
        Closes by open time in ms, those of the legs by symbol.
    last_open_ms
        Open time of the newest bar.
    interval_ms
        Length of a bar.
    """
    pick = itemgetter(*range(last_open_ms - config.length * interval_ms, last_open_ms + 1, interval_ms))
    known: dict[str, Sequence[float]] = {}
    for symbol, closes in (("", btc), *legs.items()):
        with suppress(KeyError):  # a bar is missing
            known[symbol] = pick(closes)
    excess = dict(zip(known, _excess_returns(list(known.values())), strict=True)) if "" in known else {}
    weight = 0.5 if config.weight == "half" else 1.0
    planned = []
    for symbol in legs:
        if symbol not in excess:
            planned.append(LegPlan(symbol, 0.0, 0.0, 0.0, 0.0, 0.0, f"fewer than {config.length} common returns"))
            continue
        fit = _fit(excess[""], excess[symbol], config.beta_of)
        if fit is None:
            planned.append(LegPlan(symbol, 0.0, 0.0, 0.0, 0.0, 0.0, "no movement to regress"))
            continue
        factor = config.factor_base + config.factor_r2 * fit.r2
        skip = ""
        if fit.beta <= 0:
            skip = f"beta {fit.beta:.3f} is not positive"
        elif fit.r2 < config.min_r2:
            skip = f"R2 {fit.r2:.3f} < {config.min_r2}"
        ratio = 0.0 if skip else fit.beta * factor * weight
        planned.append(LegPlan(symbol, ratio, fit.beta, fit.own_beta, fit.r2, factor, skip))
    taken = sum(leg.ratio * leg.own_beta for leg in planned)
    scale = 1.0
    if taken > 0 and 1.0 - taken < config.min_net_beta:
        scale = max(0.0, (1.0 - config.min_net_beta) / taken)
        planned = [replace(leg, ratio=leg.ratio * scale) for leg in planned]
    return HedgePlan(tuple(planned), 1.0 - taken * scale, scale)
