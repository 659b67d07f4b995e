"""The tables of `docs/findings.md`: format figures as Markdown between the markers of the document."""

from collections.abc import Callable
from typing import Any, Final

from bot.core.times import utc
from bot.report.monte_carlo_page import share_words
from bot.results.claims import claim_row
from bot.results.numbers import show


def line(cells: list[str]) -> str:
    """Return a row of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def grid(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join([line(head), line(["---"] * len(head)), *(line(row) for row in rows)])


def span(pair: list[float] | None, form: str = "+.2f") -> str:
    """Return an interval as text."""
    return "-" if pair is None else f"{show(pair[0], form)} to {show(pair[1], form)}"


def main_table(told: dict[str, Any]) -> str:
    """Return the table of main figures, one row per profile."""
    rows = []
    for name, found in told.items():
        f = found["figures"]
        rows.append(
            [
                f"`{name}`",
                str(f["trades"]),
                show(f["signals_per_day"]),
                f"{show(f['win_rate'], '.1%')} ({span(f['win_rate_95'], '.0%')})",
                show(f["profit_factor"]),
                f"{show(f['gross_expectancy_r'], '+.3f')} ({span(f['gross_expectancy_r_95'])})",
                show(f["avg_cost_r"]),
                f"{show(f['expectancy_r'], '+.3f')} ({span(f['expectancy_r_95'])})",
                f"{show(f['max_drawdown'], '.1%')}, {show(f['max_drawdown_r'], '.1f')} R",
                show(f["return"], "+.1%"),
            ]
        )
    head = ["profile", "trades", "signals a day", "won", "PF", "gross R a trade", "cost R", "net R a trade", "fall"]
    return grid([*head, "return"], rows)


def variant_table(told: dict[str, Any]) -> str:
    """Return the table of the same range under other assumptions, by profile."""
    rows = [
        [
            f"`{name}`",
            v["name"],
            str(v["trades"]),
            show(v["win_rate"], ".1%"),
            show(v["profit_factor"]),
            f"{show(v['expectancy_r'], '+.3f')} ({span(v['expectancy_r_95'])})",
            show(v["deviation_r"]),
            show(v["max_drawdown"], ".1%"),
        ]
        for name, found in told.items()
        for v in found["variants"]
    ]
    return grid(["profile", "run", "trades", "won", "PF", "net R a trade", "deviation R", "fall"], rows)


def claim_table(found: dict[str, Any]) -> str:
    """Return the table of claims and measurements of a profile."""
    rows = [list(claim_row(figure, claim)) for figure, claim in found["figures"]["claims"].items()]
    return grid(["claim", "claimed", "measured", "verdict"], rows)


def group_table(groups: dict[str, Any], name: str) -> str:
    """Return the table of trade groups, largest first; `name` is the header of the key."""
    rows = [
        [
            key.replace("_", " "),
            str(g["trades"]),
            show(g["win_rate"], ".0%"),
            show(g["gross_expectancy_r"], "+.2f"),
            f"{show(g['expectancy_r'], '+.2f')} ({span(g['expectancy_r_95'])})",
            show(g["total_r"], "+.1f"),
        ]
        for key, g in sorted(groups.items(), key=lambda item: -item[1]["trades"])
    ]
    return grid([name, "trades", "won", "gross R", "net R", "sum R"], rows)


def cost_table(found: dict[str, Any]) -> str:
    """Return the table of costs by part, with the level that each alone would need."""
    rows = []
    for name, part in found["needed"]["parts"].items():
        if part["needed_r"] is None:
            words = f"not enough: {show(part['left_at_zero_r'], '+.2f')} R at 0"
        else:
            words = f"to {show(part['needed_r'], '.3f')} R ({show(part['factor'], '.0%')})"
        rows.append([name, show(part["today_r"], ".3f"), words])
    return grid(["part", "R a trade", "would have to fall, alone"], rows)


def funnel_table(found: dict[str, Any]) -> str:
    """Return the table of the funnel of both sides, bars per day."""
    rows = []
    for side, told in found["figures"]["funnel"]["sides"].items():
        rows += [
            [
                side,
                step["name"],
                show(step["alone_share"], ".1%"),
                show(step["alone_per_day"], ".1f"),
                show(step["in_sequence_per_day"]),
                show(step["without_per_day"]),
            ]
            for step in told["steps"]
        ]
    return grid(["side", "condition", "share of bars", "alone a day", "in sequence", "without it"], rows)


def near_table(found: dict[str, Any]) -> str:
    """Return the table of near misses by the missing condition."""
    rows = [
        [
            name,
            str(n["bars"]),
            str(n["simulated"]),
            show(n["gross_r"], "+.2f"),
            f"{show(n['net_r'], '+.2f')} ({span(n['net_r_95'])})",
        ]
        for name, n in found["near"].items()
    ]
    return grid(["missing", "bars", "simulated", "gross R", "net R"], rows)


def chance_table(told: dict[str, Any]) -> str:
    """Return the table that compares each profile with random entries."""
    rows = []
    for name, found in told.items():
        c = found["chance"]
        if c is not None:
            rows.append(
                [
                    f"`{name}`",
                    show(c["gross_r"], "+.3f"),
                    f"{show(c['random_gross_r'], '+.3f')} ({span(c['gross_band'])})",
                    show(c["p_gross"], ".3f"),
                    show(c["net_r"], "+.3f"),
                    show(c["random_net_r"], "+.3f"),
                    show(c["p_net"], ".3f"),
                ]
            )
    return grid(["profile", "gross R", "random, gross (95 %)", "p", "net R", "random, net", "p"], rows)


def hedge_table(told: dict[str, Any]) -> str:
    """Return the table of the hedge's effect, by profile."""
    rows = [
        [
            f"`{name}`",
            str(h["matched"]),
            show(h.get("variance_removed"), ".0%"),
            show(h.get("gross_r"), "+.3f"),
            show(h.get("cost_r")),
            f"{show(h.get('difference_net_r'), '+.3f')} ({span(h.get('difference_net_r_95'))})",
            show(h.get("net_beta_median")),
        ]
        for name, found in told.items()
        if (h := found["hedge"])
    ]
    head = ["profile", "matched trades", "variance removed", "legs, gross R", "legs' cost R", "net R against none"]
    return grid([*head, "net beta"], rows)


def ruin_table(found: dict[str, Any]) -> str:
    """Return the table of Monte-Carlo quantiles, and the share of the planned risk that trades take."""
    rows = [
        [
            s["name"],
            show(s["mean_r"], "+.2f"),
            show(s["final_equity"]["0.5"] - 1, "+.0%"),
            show(s["drawdown"]["0.5"], ".0%"),
            show(s["drawdown"]["0.95"], ".0%"),
            show(s["loss"], ".0%"),
            show(s["ruin"], ".1%"),
        ]
        for s in found["monte_carlo"]
    ]
    head = ["histories", "R a trade", "median end", "fall median", "fall 95 %", "lose", "lose half"]
    return f"{grid(head, rows)}\n\n{share_words(found['monte_carlo'][0]['mean_share'])}"


def search_words(search: dict[str, Any]) -> str:
    """Return the list of the search's results, its changes, and its result on the other market."""
    winner = search["winner"]
    other, score = winner["other_market_figures"], winner["other_market"]
    sentences = [
        *search["sentences"],
        f"On the perpetuals: profit factor {show(score['profit_factor'], '.2f')} in {other['trades']} trades, "
        f"{show(other['expectancy_r'], '+.3f')} R a trade ({span(other['expectancy_r_95'])}).",
        "What it changed: " + ", ".join(f"`{name}={value}`" for name, value in winner["changes"].items()) + ".",
    ]
    return "\n".join(f"* {sentence}" for sentence in sentences)


def walk_table(told: dict[str, Any]) -> str:
    """Return the table of walk-forward slices."""
    rows = []
    for row in told["slices"]:
        cells = [f"{utc(row['from_ms'])[:10]} to {utc(row['to_ms'])[:10]}", "yes" if row["feasible"] else "no"]
        for part in ("in_sample", "out_of_sample", "today"):
            f = row[part]
            cells.append(f"{show(f['profit_factor'])} ({f['trades']}, {show(f['expectancy_r'], '+.2f')} R)")
        rows.append(cells)
    return grid(["slice", "feasible", "in sample: PF", "out of sample: PF", "today's settings: PF"], rows)


SECTIONS: Final[dict[str, Callable[[dict[str, Any]], str]]] = {
    "SPOT_MAIN": lambda t: main_table(t["profiles"]["spot"]),
    "UM_MAIN": lambda t: main_table(t["profiles"]["um"]),
    "SPOT_CLAIMS": lambda t: claim_table(t["profiles"]["spot"]["alert"]),
    "SPOT_VARIANTS": lambda t: variant_table(t["profiles"]["spot"]),
    "UM_VARIANTS": lambda t: variant_table(t["profiles"]["um"]),
    "SPOT_COSTS": lambda t: cost_table(t["profiles"]["spot"]["alert"]),
    "UM_COSTS": lambda t: cost_table(t["profiles"]["um"]["alert"]),
    "SPOT_HEDGE": lambda t: hedge_table(t["profiles"]["spot"]),
    "UM_HEDGE": lambda t: hedge_table(t["profiles"]["um"]),
    "SPOT_EXITS": lambda t: group_table(t["profiles"]["spot"]["alert"]["exits"], "exit"),
    "SPOT_VOLATILITY": lambda t: group_table(t["profiles"]["spot"]["alert"]["regimes"]["volatility"], "volatility"),
    "SPOT_FUNNEL": lambda t: funnel_table(t["profiles"]["spot"]["alert"]),
    "SPOT_NEAR": lambda t: near_table(t["profiles"]["spot"]["alert"]),
    "SPOT_CHANCE": lambda t: chance_table(t["profiles"]["spot"]),
    "UM_CHANCE": lambda t: chance_table(t["profiles"]["um"]),
    "SPOT_RUIN": lambda t: ruin_table(t["profiles"]["spot"]["alert"]),
    "WALK": lambda t: walk_table(t["walk"]),
    "SEARCH": lambda t: search_words(t["search"]),
    "WALK_WORDS": lambda t: "\n".join(f"* {sentence}" for sentence in t["walk"]["sentences"]),
}


def filled_in(document: str, told: dict[str, Any]) -> str:
    """Return the document with the text between each `<!-- NAME -->` and `<!-- /NAME -->` replaced by its section."""
    for name, make in SECTIONS.items():
        opening, closing = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, found, rest = document.partition(opening)
        if found:
            _, _, after = rest.partition(closing)
            document = f"{before}{opening}\n{make(told)}\n{closing}{after}"
    return document
