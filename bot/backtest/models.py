"""Stored models: load a trained classifier and report its quality.

A model is a JSON file of plain numbers in `data/models/` (coefficients, the data it was trained on, its results on
unseen data); it contains no code. Callers that build the indicators pass on the result of `model_for`.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from bot.config import Config
from bot.core.errors import ConfigError
from bot.core.jit import record
from bot.core.printable import visible
from bot.indicators import rating
from bot.market.paths import project_file

MODEL = project_file("data/models/confirmation.json")


def load_model(path: Path = MODEL) -> Mapping[str, Any]:
    """Read a model and validate its numbers.

    Raises
    ------
    ConfigError
        The file is missing or invalid.
    """
    try:
        model = json.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f'overlays.classifier = "learned" needs {path}: {error.strerror}') from error
    except ValueError as error:
        raise ConfigError(f"{path} is no JSON: {error}") from error
    if not isinstance(model, dict):
        raise ConfigError(f"{path} holds no model: an object was expected")
    rating.learned_params(record(rating.RATING_PARAMS), model, {})
    return model


def model_for(config: Config, path: Path = MODEL) -> Mapping[str, Any] | None:
    """Return the model that the configuration asks for; None if it uses the specification's rule."""
    return load_model(path) if config.overlays.classifier == "learned" else None


def _percent(value: float | None) -> str:
    return "    -" if value is None else f"{100 * value:5.1f}"


def report_text(model: Mapping[str, Any]) -> str:
    """Return range, scores and calibration curve of a model as a table for the terminal."""
    training, unseen, data = model["training"], model["holdout"], model["data"]
    low, high = unseen["auc_interval"]
    gain_low, gain_high = unseen["brier_gain_interval"]
    lines = [
        f"{data['symbol']} {data['interval']}, {data['bars']} bars, {data['from']} to {data['to']}",
        f"trained   {training['from']} to {training['to']}: {training['signals']} signals, "
        f"{100 * training['base_rate']:.1f} % won, {training['gap_signals']} skipped after them",
        f"held out  {unseen['from']} to {unseen['to']}: {unseen['signals']} signals, {100 * unseen['base_rate']:.1f} % won",
        "AUC in cross-validation: " + ", ".join(f"{fold['auc']:.3f}" for fold in model["cross_validation"]),
        f"AUC held out: {unseen['auc']:.3f}, 95 % interval {low:.3f} to {high:.3f}",
        f"Brier held out: {unseen['brier']:.4f}, of the base rate {unseen['brier_of_base_rate']:.4f}, "
        f"95 % interval of the gain {gain_low:+.4f} to {gain_high:+.4f}",
        "better than the base rate: " + ("yes" if unseen["better_than_base_rate"] else "no"),
        "",
        "rating   learned: count  won %   by rule: count  won %",
    ]
    for value in ("1", "2", "3", "4"):
        ours, rule = unseen["ratings"][value], unseen["ratings_by_rule"][value]
        left = f"{value:>6}   {ours['count']:14d}  {_percent(ours['reached'])}"
        lines.append(f"{left}   {rule['count']:14d}  {_percent(rule['reached'])}")
    lines += ["", "calibration   from %   to %   count   predicted %   won %"]
    for i, row in enumerate(unseen["calibration"], 1):
        ends = f"{_percent(row['from']):>8}  {_percent(row['to'])}"
        lines.append(
            f"{i:>11}  {ends}   {row['count']:5d}         {_percent(row['predicted'])}   {_percent(row['reached'])}"
        )
    return "\n".join(lines)


def print_report(model: Mapping[str, Any], stream: TextIO | None = None) -> None:
    """Print `report_text`."""
    print(visible(report_text(model)), file=stream or sys.stdout)
