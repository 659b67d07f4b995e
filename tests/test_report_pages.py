"""The pages that reports leave: whole in one file, drawn by a real browser, readable on a phone, in light and in dark."""

import json
import re
import shutil

import numpy as np
import pytest

from bot.report.backtest_money import distance_words
from bot.report.backtest_page import write_page
from bot.report.backtest_parts import Controls, verdict
from bot.report.monte_carlo_page import monte_carlo_page, sentences
from bot.report.page import Page, json_inside, table
from bot.report.search_page import search_page
from bot.report.walk_forward_page import walk_forward_page
from bot.results.numbers import show
from bot.results.summary import report_figures, summary_figures
from bot.search import monte_carlo
from bot.search.chance import Pool, against_chance
from bot.search.controls import figures_of
from tests.research_tools import DAY, START, random_result, result, trade


@pytest.fixture(scope="module")
def made():
    return random_result(120, days=100)


@pytest.fixture(scope="module")
def other(made):
    rng = np.random.default_rng(1)
    table = made.table()
    pool = Pool(rng.choice((1, -1), 900), rng.normal(-0.6, 1.2, 900), rng.normal(0, 1.2, 900))
    chance = against_chance(table["net_r"], table["gross_r"], table["side"], pool).as_dict()
    rows = [figures_of("as configured", "", made), figures_of("without the hedge", "", made)]
    return Controls(rows, {"variance_removed": 0.1, "cost_r": 0.15}, chance)


@pytest.fixture(scope="module")
def folder(made, other, tmp_path_factory):
    place = tmp_path_factory.mktemp("pages")
    write_page(made, place / "report.html", other)
    write_page(result([], days=3), place / "empty.html")
    results = made.table()["net_r"]
    simulations = [s.as_dict() for s in monte_carlo.study(results, monte_carlo.Sizing(), runs=200)]
    told = {"source": "trades.parquet", "trades": len(results), "runs": 200, "seed": 7, "simulations": simulations}
    told["sizing"] = {"ruin": 0.5, "soft_stop_r": 6.0}
    (place / "montecarlo.html").write_text(monte_carlo_page(told).html())
    (place / "walkforward.html").write_text(walk_forward_page(walked()).html())
    (place / "optimise.html").write_text(search_page(searched(), contour()).html())
    return place


def walked():
    part = {"profit_factor": 0.4, "trades": 20, "expectancy_r": -0.3, "gross_r": 0.1, "max_drawdown": 0.05}
    row = {"from_ms": START, "to_ms": START + 30 * DAY, "feasible": True, "settings": {"trade.tp1_r": 1.0}}
    row |= dict.fromkeys(("in_sample", "out_of_sample", "today"), part)
    together = {"profit_factor": 0.4, "expectancy_r_95": [-0.5, -0.1], "profit_factor_r_95": [0.2, 0.6]}
    told = {"slices": [row, row | {"from_ms": START + 30 * DAY}], "target_profit_factor": 1.4, "trials": 50}
    return told | {"sentences": ["0 of 2 slices"], "out_of_sample": together}


def searched():
    part = {"profit_factor": 0.4, "trades": 20, "expectancy_r": -0.3, "gross_r": 0.1, "max_drawdown": 0.05}
    fold = {"from_ms": START, "to_ms": START + DAY, "trades": 3, "profit_factor_r": None, "expectancy_r": -0.2}
    winner = {"number": 1, "feasible": True, "settings": {"trade.tp1_r": 1.0}, "train": part, "holdout": part}
    return {
        "task": {"from_ms": START, "to_ms": START + DAY, "holdout_from_ms": START, "holdout_to_ms": START + DAY},
        "trials": 2,
        "feasible": 1,
        "winner": winner | {"folds": [fold], "train_figures": {}},
        "default": {"train": part},
        "deflated_sharpe": {"probability": 0.1, "sharpe_daily": 0.1, "expected_best_of_chance": 0.2, "trials": 2},
        "overfitting": {"probability": 0.5, "splits": 70, "days": 30, "loss_probability": 0.9, "settings": 1},
        "chance": {"share_as_good": 0.5, "median_best_of_chance": 0.6},
        "importance": {"trade.tp1_r": 0.7, "trade.tp2_r": 0.3},
        "best": [{"number": 1, **part, "feasible": True}],
        "history": [{"number": i, "value": 0.4, "feasible": bool(i), "trades": 20} for i in range(2)],
        "sentences": ["Best of 2 trials"],
    }


def contour():
    values = {"x": [1, 2], "y": [1, 2], "z": [[1, 2], [3, 4]], "type": "contour"}
    return {"data": [values], "layout": {"xaxis": {}, "yaxis": {}, "template": {}}}


@pytest.fixture(scope="module")
def browser():
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        pytest.skip("no chromium and chromedriver on this machine")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,900"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    yield driver
    driver.quit()


PAGES = ("report", "empty", "montecarlo", "walkforward", "optimise")


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (390, "dark")])
def test_a_page_draws_itself_at_every_width_without_a_network(browser, folder, name, width, scheme):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    browser.get(f"file://{folder}/{name}.html")

    figures = "return [...document.querySelectorAll('.plot')].map((p) => p.querySelectorAll('svg *').length)"
    assert all(parts > 3 for parts in browser.execute_script(figures))
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map((e) => e.name)")
    assert [name for name in loaded if not name.startswith(("data:", "blob:"))] == []
    assert browser.get_log("browser") == []
    dark = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", dark)[:3])) < 200) is (scheme == "dark")


def test_the_report_says_everything_a_person_asks(folder):
    page = (folder / "report.html").read_text()

    for heading in (
        *("At a glance", "Equity and drawdown", "The recipe&#x27;s claims beside what was measured", "By month"),
        *("Results in R", "How trades ended", "How far trades went", "What a trade costs", "BTC and hedge apart"),
        *("Better than chance?", "Why so seldom: long", "Why so seldom: short", "Near misses: five of six"),
        *("By hour", "By side and regime", "Every trade", "Data and settings", "What was assumed"),
    ):
        assert f"<h2>{heading}</h2>" in page
    assert "0" * 16 in page  # the hash of the data


def section(page, heading):
    return page.split(f"<h2>{heading}</h2>")[1].split("<h2>")[0]


def test_every_claim_that_gets_a_verdict_from_few_trades_is_named(tmp_path):
    few = result([trade(-0.5, at_ms=START + i * DAY) for i in range(18)], days=20)
    write_page(few, tmp_path / "report.html")

    claims = report_figures(few)["claims"]
    told = section((tmp_path / "report.html").read_text(), "The recipe&#x27;s claims beside what was measured")

    assert "Fewer than 30 trades give no verdict on a claim about trades; " in told
    words = {"signals_per_day": "signals per day", "day_drawdown_r": "worst day", "max_drawdown": "deepest fall"}
    assert {name for name, claim in claims.items() if claim["met"] is not None} == set(words)
    assert f"{', '.join(list(words.values())[:2])} and {words['max_drawdown']} get one after a day" in told


def test_costs_are_told_beside_the_median_stop_of_these_trades(made, folder):
    columns = made.table()
    assert np.median(columns["stop_distance"]) == pytest.approx(0.001)

    assert "in the median 0.10% of the price: a cost of 0.1 % of the price is 1.00 R" in section(
        (folder / "report.html").read_text(), "What a trade costs"
    )
    assert "0.25% of the price: a cost of 0.1 % of the price is 0.40 R" in distance_words(0.0025)
    assert distance_words(None) == ""


def test_a_study_tells_how_much_of_the_planned_risk_its_trades_took(made, folder):
    table = made.table() | {"uncut_qty": made.table()["uncut_qty"] * 2}
    known = [s.as_dict() for s in monte_carlo.study(table["net_r"], monte_carlo.Sizing(), columns=table, runs=200)]
    told = {"trades": 120, "runs": 200, "simulations": known, "sizing": {"ruin": 0.5}}

    assert sentences(told)[-1].endswith("the share of its planned risk that it really took: 50% in the mean.")
    assert "The list does not tell what each trade risked of its plan" in (folder / "montecarlo.html").read_text()


def test_text_of_the_data_cannot_become_markup(folder):
    page = (folder / "report.html").read_text()

    assert "a sentence about &lt;the entry&gt;" in page
    assert json_inside({"x": "</script><b>"}) == '{"x":"\\u003c/script>\\u003cb>"}'
    assert table(["<i>"], [["<b>"]]).count("&lt;") == 2


def test_numbers_that_json_lacks_become_null():
    assert json.loads(json_inside({"x": [float("nan"), float("inf"), np.float64(1.5)]})) == {"x": [None, None, 1.5]}
    assert show(float("nan")) == "\N{EN DASH}"


def test_a_page_is_written_whole_or_not_at_all(tmp_path):
    page = Page("A title")

    with pytest.raises(OSError, match="none"):
        page.write(tmp_path / "none" / "report.html")

    assert list(tmp_path.iterdir()) == []


def test_the_verdict_follows_the_numbers(other):
    losing = summary_figures(result([trade(-0.5, at_ms=START + i * DAY) for i in range(30)], days=40))
    winning = summary_figures(result([trade(0.5, at_ms=START + i * DAY) for i in range(30)], days=40))

    assert verdict(losing, Controls())[0] == "bad"
    assert verdict(losing, Controls())[1][0].startswith("It lost money")
    assert verdict(winning, Controls())[0] == "good"
    assert verdict(winning, other)[1][2].startswith("Its entries are")
    assert "nothing to judge" in verdict(summary_figures(result([], days=2)), Controls())[1][0]
