"""The slow, obvious twin of Price Action Concepts: lists of bars, dictionaries of blocks, both sides written out.

Written from the text of premium indicators 2 and strategy 2 alone. Every window is searched anew on every bar.
"""

import math
from dataclasses import dataclass, field

NAN = math.nan


@dataclass
class Bar:
    t: int
    ms: int
    o: float
    h: float
    l: float  # noqa: E741 - the spec's letter
    c: float
    v: float
    tb: float
    filled: bool
    atr14: float = NAN
    atr200: float = NAN
    price: float = NAN  # what breaks pivots and lines; on a filler that of the last traded bar


class NaiveAtr:
    def __init__(self, length):
        self.length, self.ranges, self.value = length, [], NAN

    def update(self, true_range):
        self.ranges.append(true_range)
        n = self.length
        if len(self.ranges) == n:
            self.value = sum(self.ranges) / n
        elif len(self.ranges) > n:
            self.value = (self.value * (n - 1) + true_range) / n
        return self.value


@dataclass
class Pivots:
    """Leg pivots of one length; `leg` 0 at the start, so the first pivot is a low."""

    n: int
    leg: int = 0

    def update(self, bars):
        k = len(bars) - 1 - self.n
        if k < 0:
            return None
        after = bars[k + 1 :]
        leg = self.leg
        if bars[k].h > max(b.h for b in after):
            leg = 0
        elif bars[k].l < min(b.l for b in after):
            leg = 1
        if leg == self.leg:
            return None
        self.leg = leg
        return ("high", k, bars[k].h) if leg == 0 else ("low", k, bars[k].l)


@dataclass
class NaivePac:
    pac: object
    strategy: object
    bars: list = field(default_factory=list)

    def __post_init__(self):
        self.atr14, self.atr200 = NaiveAtr(14), NaiveAtr(200)
        self.structure_pivots = Pivots(self.pac.structure_length)
        self.block_pivots = Pivots(self.pac.order_block_length)
        self.equal_pivots = Pivots(self.pac.equal_length)
        self.line_pivots = Pivots(self.pac.trend_line_length)
        self.line_highs, self.line_lows = [], []  # pivots (bar, price)
        self.line_broken = {"high": True, "low": True}
        self.hi = self.lo = None  # dict(level, idx, crossed)
        self.last_lh = self.last_hl = False
        self.trend, self.break_index = 0, NAN
        self.low_pool, self.high_pool = [], []
        self.last_grab = {"bull": None, "bear": None}
        self.last_equal = {"high": None, "low": None}
        self.eqh, self.eql = [], []  # dict(level, born)
        self.bull_gaps, self.bear_gaps = [], []  # dict(bot, top, born)
        self.oh = self.ol = None
        self.demand, self.supply = [], []
        self.demand_breakers, self.supply_breakers = [], []
        self.created = []  # every block ever created

    # -- helpers

    def price_before(self):
        return self.bars[-2].price if len(self.bars) > 1 else NAN

    def update(self, ms, o, h, l, c, v, tb, filled):  # noqa: E741 - the spec's letter
        t = len(self.bars)
        bar = Bar(t, ms, o, h, l, c, v, tb, bool(filled))
        c1 = self.bars[-1].c if self.bars else NAN
        true_range = h - l if not self.bars else max(h - l, abs(h - c1), abs(l - c1))
        bar.atr14, bar.atr200 = self.atr14.update(true_range), self.atr200.update(true_range)
        if filled:
            bar.price = self.bars[-1].price if self.bars else NAN
        else:
            bar.price = c if self.pac.break_source == "close" else ((h + l) + (o + c)) / 4
        self.bars.append(bar)
        row = {}
        pivot = self.structure_pivots.update(self.bars)
        self.structure(bar, pivot, row)
        self.grabs(bar, pivot, row)
        self.equals(bar, self.equal_pivots.update(self.bars), row)
        self.gaps(bar, row)
        self.blocks(bar, self.block_pivots.update(self.bars), row)
        self.refine(bar)
        self.trend_lines(bar, row)
        self.report(bar, row)
        return row

    # -- 2.1

    def structure(self, bar, pivot, row):
        if pivot and pivot[0] == "high":
            self.last_lh = self.hi is not None and pivot[2] < self.hi["level"]
            self.hi = {"level": pivot[2], "idx": pivot[1], "crossed": False}
        if pivot and pivot[0] == "low":
            self.last_hl = self.lo is not None and pivot[2] > self.lo["level"]
            self.lo = {"level": pivot[2], "idx": pivot[1], "crossed": False}
        c, c1 = bar.price, self.price_before()
        event, direction, level, index = 0, 0, NAN, NAN
        if self.hi and not self.hi["crossed"] and c > self.hi["level"] and c1 <= self.hi["level"]:
            self.hi["crossed"] = True
            event = 1 if self.trend == 1 else (3 if self.last_hl else 2)
            self.trend = direction = 1
            level, index = self.hi["level"], self.hi["idx"]
        elif self.lo and not self.lo["crossed"] and c < self.lo["level"] and c1 >= self.lo["level"]:
            self.lo["crossed"] = True
            event = 1 if self.trend == -1 else (3 if self.last_lh else 2)
            self.trend = direction = -1
            level, index = self.lo["level"], self.lo["idx"]
        if event:
            self.break_index = bar.t
        row.update(pac_trend=self.trend, pac_event=event, pac_dir=direction, pac_level=level)
        row.update(pac_pivot_index=index, pac_break_index=self.break_index)

    # -- 2.3

    def grabs(self, bar, pivot, row):
        body_low, body_high = min(bar.o, bar.c), max(bar.o, bar.c)
        swept = [p for p in self.low_pool if bar.l < p and body_low > p]
        self.low_pool = [p for p in self.low_pool if p not in swept and not body_low < p]
        row["pac_grab_bull"], row["pac_grab_bull_level"] = self.grab(
            bar, "bull", swept and min(swept), body_low - bar.l
        )
        swept = [p for p in self.high_pool if bar.h > p and body_high < p]
        self.high_pool = [p for p in self.high_pool if p not in swept and not body_high > p]
        row["pac_grab_bear"], row["pac_grab_bear_level"] = self.grab(
            bar, "bear", swept and max(swept), bar.h - body_high
        )
        if pivot and pivot[0] == "low":
            self.low_pool = [*self.low_pool, pivot[2]][-5:]
        if pivot and pivot[0] == "high":
            self.high_pool = [*self.high_pool, pivot[2]][-5:]

    def grab(self, bar, side, deepest, wick):
        if not deepest or bar.filled:
            return 0, NAN
        before = self.last_grab[side]
        if before is not None and bar.t - before <= self.pac.grab_cooldown:
            return 0, NAN
        if wick / max(abs(bar.c - bar.o), 1e-12) < self.pac.grab_min_wick_body:
            return 0, NAN
        self.last_grab[side] = bar.t
        return 1, deepest

    # -- 2.4

    def equals(self, bar, pivot, row):
        row.update(pac_eqh=0, pac_eql=0, pac_eqh_level=NAN, pac_eql_level=NAN)
        self.eqh = [e for e in self.eqh if not bar.c > e["level"] and bar.t - e["born"] < 500]
        self.eql = [e for e in self.eql if not bar.c < e["level"] and bar.t - e["born"] < 500]
        if not pivot:
            return
        kind, _, level = pivot
        before, self.last_equal[kind] = self.last_equal[kind], level
        if before is None or math.isnan(bar.atr200):
            return
        if abs(level - before) < self.pac.equal_threshold * bar.atr200:
            if kind == "high":
                self.eqh = [*self.eqh, {"level": max(level, before), "born": bar.t}][-64:]
                name, shown = "pac_eqh", max(level, before)
            else:
                self.eql = [*self.eql, {"level": min(level, before), "born": bar.t}][-64:]
                name, shown = "pac_eql", min(level, before)
            if not bar.filled:
                row[name], row[name + "_level"] = 1, shown

    # -- 2.5

    def gaps(self, bar, row):
        mode = self.pac.fvg_mitigation

        def bull_lost(g):
            if mode == "close":
                return bar.c < g["bot"]
            if mode == "wick":
                return bar.l < g["bot"]
            return mode == "average" and bar.l < (g["bot"] + g["top"]) / 2

        def bear_lost(g):
            if mode == "close":
                return bar.c > g["top"]
            if mode == "wick":
                return bar.h > g["top"]
            return mode == "average" and bar.h > (g["bot"] + g["top"]) / 2

        row["pac_fvg_bull_mitigated"] = sum(bull_lost(g) for g in self.bull_gaps)
        row["pac_fvg_bear_mitigated"] = sum(bear_lost(g) for g in self.bear_gaps)
        self.bull_gaps = [g for g in self.bull_gaps if not bull_lost(g)]
        self.bear_gaps = [g for g in self.bear_gaps if not bear_lost(g)]
        row.update(pac_fvg_bull=0, pac_fvg_bear=0)
        if len(self.bars) < 3 or bar.filled:
            return
        two, one = self.bars[-3], self.bars[-2]
        threshold = self.pac.fvg_threshold

        def wide(height):
            if threshold == 0:
                return True
            if self.pac.fvg_measure == "body":
                return abs(one.c - one.o) > threshold * bar.atr14
            return height > threshold * bar.atr200

        if bar.l > two.h and one.c > two.h and one.c > one.o and wide(bar.l - two.h):
            self.bull_gaps = [*self.bull_gaps, {"bot": two.h, "top": bar.l, "born": bar.t}][-100:]
            row["pac_fvg_bull"] = 1
        if bar.h < two.l and one.c < two.l and one.c < one.o and wide(two.l - bar.h):
            self.bear_gaps = [*self.bear_gaps, {"bot": bar.h, "top": two.l, "born": bar.t}][-100:]
            row["pac_fvg_bear"] = 1

    # -- 2.2

    def lost(self, block, bar):
        mode, demand = self.pac.mitigation, block["side"] == "demand"
        if mode == "close":
            return bar.c < block["bot"] if demand else bar.c > block["top"]
        if mode == "wick":
            return bar.l < block["bot"] if demand else bar.h > block["top"]
        if self.pac.average_source == "close":
            return bar.c < block["mid"] if demand else bar.c > block["mid"]
        return bar.l < block["mid"] if demand else bar.h > block["mid"]

    def broken_or_ended(self, side, bar):
        """The other life: an active block that price goes through is broken, a broken one that closes back beyond it ends."""
        left, broken, ended = [], 0, 0
        for b in getattr(self, side):
            if b["broken_ms"] is None:
                if self.lost(b, bar):
                    b["broken_ms"] = bar.ms
                    b["touched"] = []
                    broken += 1
            elif bar.c > b["top"] if side == "demand" else bar.c < b["bot"]:
                ended += 1
                continue
            left.append(b)
        setattr(self, side, left)
        return broken, ended

    def blocks(self, bar, pivot, row):
        gone = 0
        for side in ("demand", "supply"):
            row[f"pac_{side}_broken"] = row[f"pac_{side}_mitigated"] = 0
        if not bar.filled and self.pac.block_life == "breaker":
            for side in ("demand", "supply"):
                broken, ended = self.broken_or_ended(side, bar)
                row[f"pac_{side}_broken"], row[f"pac_{side}_mitigated"] = broken, ended
                gone += ended
        elif not bar.filled:
            self.demand_breakers = [b for b in self.demand_breakers if not bar.c > b["top"]]
            self.supply_breakers = [b for b in self.supply_breakers if not bar.c < b["bot"]]
            for name, breakers in (("demand", "demand_breakers"), ("supply", "supply_breakers")):
                active = getattr(self, name)
                dead = [b for b in active if self.lost(b, bar)]
                setattr(self, name, [b for b in active if b not in dead])
                gone += len(dead)
                row[f"pac_{name}_mitigated"] = len(dead)
                if self.pac.breakers:
                    row[f"pac_{name}_broken"] = len(dead)
                    setattr(self, breakers, (getattr(self, breakers) + dead)[-60:])
        if pivot and pivot[0] == "high":
            self.oh = {"level": pivot[2], "idx": pivot[1], "crossed": False}
        if pivot and pivot[0] == "low":
            self.ol = {"level": pivot[2], "idx": pivot[1], "crossed": False}
        hidden, new = 0, None
        if self.oh and not self.oh["crossed"] and bar.price > self.oh["level"]:
            self.oh["crossed"] = True
            new = self.make("demand", self.oh["idx"], bar)
        elif self.ol and not self.ol["crossed"] and bar.price < self.ol["level"]:
            self.ol["crossed"] = True
            new = self.make("supply", self.ol["idx"], bar)
        if new:
            hidden = self.hide(new)
            getattr(self, new["side"]).append(new)
            setattr(self, new["side"], getattr(self, new["side"])[-60:])
        self.touch(bar, row)
        row.update(pac_ob_new=0, pac_ob_new_bottom=NAN, pac_ob_new_top=NAN, pac_ob_new_volume=NAN)
        row.update(pac_ob_new_buy_share=NAN, pac_ob_mitigated_n=gone, pac_ob_hidden_n=hidden)
        if new:
            own = new[self.pac.split] / 100
            row.update(pac_ob_new=1 if new["side"] == "demand" else -1, pac_ob_new_bottom=new["bot"])
            row.update(pac_ob_new_top=new["top"], pac_ob_new_volume=new["V"])
            row["pac_ob_new_buy_share"] = own if new["side"] == "demand" else 1 - own

    def make(self, side, pivot_index, bar):
        window = self.bars[pivot_index + 1 : bar.t]
        cap = self.pac.zone_cap_atr200
        if side == "demand":
            k = min(window, key=lambda b: b.l)
            bot, top = k.l, k.h
            if cap and not math.isnan(k.atr200):
                top = min(top, bot + cap * k.atr200)
        else:
            k = max(window, key=lambda b: b.h)
            bot, top = k.l, k.h
            if cap and not math.isnan(k.atr200):
                bot = max(bot, top - cap * k.atr200)
        if not top > bot:
            return None
        interval = self.bars[k.t : bar.t + 1]
        volume = sum(b.v for b in interval)

        def dominance(buy, whole):
            share = buy / whole if whole else 0.5
            return 100 * share if side == "demand" else 100 * (1 - share)

        def candle(b):
            return 1.0 if b.c > b.o else 0.0 if b.c < b.o else 0.5

        def clv(b):
            return (b.c - b.l) / (b.h - b.l) if b.h > b.l else 0.5

        three = interval[:3]
        first_is_sell = side == "demand"
        flux_buy = sum(b.v for i, b in enumerate(three) if (i > 0) == first_is_sell)
        block = {
            "side": side,
            "bot": bot,
            "top": top,
            "mid": (bot + top) / 2,
            "V": volume,
            "candle": dominance(sum(b.v * candle(b) for b in interval), volume),
            "clv": dominance(sum(b.v * clv(b) for b in interval), volume),
            "flux3": dominance(flux_buy, sum(b.v for b in three)),
            "taker": dominance(sum(b.tb for b in interval if b.v > 0), volume),
            "k": k.t,
            "born": bar.t,
            "born_ms": bar.ms,
            "touches": 0,
            "touched": [],
            "broken_ms": None,
            "r_bot": bot,
            "r_top": top,
        }
        past = [b["V"] for b in self.created][-self.pac.rank_window :]
        block["rank"] = 100 * sum(x < volume for x in past) / len(past) if len(past) >= 20 else NAN
        self.created.append(block)
        block["id"] = len(self.created)
        return block

    def hide(self, new):
        sides = {"both": ("demand", "supply"), "same": (new["side"],), "off": ()}[self.pac.hide_overlap]
        hidden = 0
        for side in sides:
            active = getattr(self, side)
            kept = [x for x in active if not (x["bot"] < new["top"] and x["top"] > new["bot"])]
            hidden += len(active) - len(kept)
            setattr(self, side, kept)
        return hidden

    def touch(self, bar, row):
        def overlaps(b, x):
            return b.l <= x["top"] and b.h >= x["bot"]

        for side in ("demand", "supply"):
            entered = within = exited = 0
            for x in getattr(self, side)[-self.pac.show :]:
                if x["born"] >= bar.t or bar.filled:
                    continue
                inside = overlaps(bar, x)
                inside_before = x["born"] < bar.t - 1 and overlaps(self.bars[-2], x)
                closed = x["bot"] <= bar.c <= x["top"]
                if self.pac.block_life == "plain" and inside:
                    within += 1
                if self.pac.block_life == "breaker" and closed:
                    within += 1
                events = {"touch": inside, "entered": inside and not inside_before, "within": closed}
                if x["broken_ms"] is not None:
                    events = {"touch": False, "entered": False, "within": closed}
                elif events["entered"]:
                    entered += 1
                    x["touches"] += 1
                elif inside_before and not inside:
                    exited += 1
                if events[self.strategy.ob_hit]:
                    x["touched"].append(bar.t)
            row[f"pac_{side}_entered"], row[f"pac_{side}_within"], row[f"pac_{side}_exited"] = entered, within, exited

    # -- 2.6

    def refine(self, bar):
        for x in self.demand + self.supply:
            if bar.t != x["born"] + 2:
                continue
            reach = 0.25 * bar.atr14
            if x["side"] == "demand":
                edges = [g["bot"] for g in self.bull_gaps if g["born"] >= x["k"] and x["mid"] <= g["bot"] <= x["top"]]
                x["r_top"] = edges[-1] if edges else x["top"]
                pools = self.low_pool + [e["level"] for e in self.eql]
                x["r_bot"] = min([p for p in pools if x["bot"] - reach <= p < x["bot"]], default=x["bot"])
            else:
                edges = [g["top"] for g in self.bear_gaps if g["born"] >= x["k"] and x["bot"] <= g["top"] <= x["mid"]]
                x["r_bot"] = edges[-1] if edges else x["bot"]
                pools = self.high_pool + [e["level"] for e in self.eqh]
                x["r_top"] = max([p for p in pools if x["top"] < p <= x["top"] + reach], default=x["top"])

    # -- trend lines

    def trend_lines(self, bar, row):
        row.update(pac_line_bull=0, pac_line_bear=0)
        if not self.pac.trend_line_length:
            return
        pivot = self.line_pivots.update(self.bars)
        if pivot:
            (self.line_highs if pivot[0] == "high" else self.line_lows).append(pivot[1:])
            self.line_broken[pivot[0]] = False
        if bar.filled:
            return
        for kind, points, name in (
            ("high", self.line_highs, "pac_line_bull"),
            ("low", self.line_lows, "pac_line_bear"),
        ):
            if len(points) < 2 or self.line_broken[kind]:
                continue
            (t0, first), (t1, second) = points[-2:]
            risen, line = (bar.price - second) * (t1 - t0), (second - first) * (bar.t - t1)
            if kind == "high" and second < first and risen > line:
                self.line_broken[kind] = True
                row[name] = 1
            if kind == "low" and second > first and risen < line:
                self.line_broken[kind] = True
                row[name] = 1

    # -- outputs

    def displayed(self):
        return self.demand[-self.pac.show :] + self.supply[-self.pac.show :]

    def share(self, x):
        if all(x is not y for y in self.displayed()):
            return NAN
        whole = sum(y["V"] for y in self.displayed())
        return 100 * x["V"] / whole if whole else 0.0

    def threshold(self):
        known = [x for x in self.created[-500:] if not math.isnan(x["taker"])]
        passes = sum(x["candle"] >= self.strategy.min_dominance for x in known)
        if len(known) < 50 or not passes:
            return NAN
        return sorted((x["taker"] for x in known), reverse=True)[passes - 1]

    def report(self, bar, row):
        show = self.pac.show
        below = [x for x in self.demand[-show:] if x["bot"] < bar.c and x["broken_ms"] is None]
        above = [x for x in self.supply[-show:] if x["top"] > bar.c and x["broken_ms"] is None]
        # The newest of equals: the lists are ordered by age.
        demand = max(reversed(below), key=lambda x: x["bot"], default=None)
        supply = min(reversed(above), key=lambda x: x["top"], default=None)
        for side, x in (("demand", demand), ("supply", supply)):
            values = [NAN] * 9
            if x:
                values = [x["id"], x["bot"], x["top"], x["mid"], x[self.pac.split], x["taker"], x["rank"]]
                values += [self.share(x), x["touches"]]
            names = ("id", "bottom", "top", "mid", "dominance", "dominance_taker", "rank", "share", "touches")
            row.update({f"pac_{side}_{n}": value for n, value in zip(names, values, strict=True)})
        for side, active in (("long", self.demand), ("short", self.supply)):
            eligible = [
                x
                for x in active
                if x[self.pac.split] >= self.strategy.min_dominance
                and x["rank"] >= self.strategy.min_rank
                and any(bar.t - self.strategy.tap_window < t <= bar.t for t in x["touched"])
                and not bar.filled
            ]
            values = [NAN] * 13
            if eligible:
                x = eligible[-1]
                values = [x["id"], x["bot"], x["top"], x[self.pac.split], x["rank"], x["taker"], self.threshold()]
                values += [x["r_bot"], x["r_top"], self.share(x), x["touches"], x["born"], x["born_ms"]]
            names = ("id", "bottom", "top", "dominance", "rank", "taker", "taker_threshold")
            names += ("refined_bottom", "refined_top", "share", "touches", "born", "born_ms")
            row.update({f"{side}_ob_{n}": value for n, value in zip(names, values, strict=True)})
