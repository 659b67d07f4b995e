"""docs/indicators.md names every indicator column and only settings that exist, and repeats the shipped model's results."""

import itertools
import re
from pathlib import Path

import pytest

from bot.backtest import models
from bot.config import Config
from bot.strategy import kernel as k

TEXT = (Path(__file__).resolve().parent.parent / "docs" / "indicators.md").read_text(encoding="utf-8")
WORDS = re.findall(r"`([^`]+)`", TEXT)


def expanded(word: str) -> list[str]:
    """Names that a word with braces stands for: {a,b} each of them, {0..4} the numbers.

    Braces are not nested.
    """
    parts = []
    for part in re.split(r"(\{[^}]*\})", word):
        numbers = re.fullmatch(r"\{(\d+)\.\.(\d+)\}", part)
        if numbers:
            parts.append([str(i) for i in range(int(numbers[1]), int(numbers[2]) + 1)])
        else:
            parts.append(part.strip("{}").split(",") if part.startswith("{") else [part])
    return ["".join(choice) for choice in itertools.product(*parts)]


NAMES = {name for word in WORDS for name in expanded(word)}


def test_every_indicator_column_is_in_the_table():
    missing = [name for name in k.SUITE_COLUMNS if name not in NAMES]

    assert missing == []


def test_every_column_of_the_table_exists():
    columns = {name for name in NAMES if re.match(r"(smc|sta|pac|om|so|long_ob|short_ob)_[a-z0-9_]+$", name)}

    assert columns - set(k.COLUMNS) == set()


def test_every_setting_of_the_five_families_is_named_and_no_other():
    sections = {"smc", "pac", "oscillator", "overlays", "supertrend_ai"}
    settings = {f"{s}.{name}" for s in sections for name in type(getattr(Config(), s)).model_fields}
    named = {m[1] for word in WORDS if (m := re.match(r"([a-z_]+(?:\.[a-z0-9_]+)+)(?: = .*)?$", word))}
    named = {name for name in named if not name.endswith((".py", ".md", ".toml"))}

    assert settings - named == set()
    for name in named:
        value = Config()
        for part in name.split("."):
            value = getattr(value, part)


def test_the_documented_results_are_those_of_the_shipped_model():
    model = models.load_model()
    unseen = model["holdout"]
    low, high = unseen["auc_interval"]

    assert f"{unseen['auc']:.3f} ({low:.3f} to {high:.3f})" in TEXT
    assert " · ".join(f"{fold['auc']:.3f}" for fold in model["cross_validation"]) in TEXT
    assert f"{unseen['brier']:.4f}; always saying the base rate {unseen['brier_of_base_rate']:.4f}" in TEXT
    assert ("no better than the base rate" in TEXT) == (not unseen["better_than_base_rate"])
    for i, row in enumerate(unseen["calibration"], 1):
        ends = f"{100 * row['from']:.1f} to {100 * row['to']:.1f}"
        line = f"| {i} | {ends} | {row['count']} | {100 * row['predicted']:.1f} | {100 * row['reached']:.1f} |"
        assert line in TEXT
    for value in "1234":
        ours, rule = unseen["ratings"][value], unseen["ratings_by_rule"][value]
        left = f"| {value} | {ours['count']} | {100 * ours['reached']:.1f} |"
        assert f"{left} {rule['count']} | {100 * rule['reached']:.1f} |" in TEXT


@pytest.mark.parametrize("word", ["script", "docs", "equiv.", "fit", "alerts", "own"])
def test_every_source_is_explained(word):
    assert f"*{word}*" in TEXT
