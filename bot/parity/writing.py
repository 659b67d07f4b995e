"""Write a comparison: its page and its figures in one folder."""

from pathlib import Path

import orjson

from bot.core.errors import ConfigError
from bot.parity.compare import Comparison
from bot.report import compare_page
from bot.report.charts import write_page
from bot.report.page import plain


def checked_out(path: Path) -> None:
    """Reject an output file that could not be written, before the long computation.

    Raises
    ------
    ConfigError
        It is a folder, or its folder does not exist (one sentence).
    """
    if path.is_dir():
        raise ConfigError(f"--out {path} is a folder: name a file")
    if not path.parent.is_dir():
        raise ConfigError(f"--out {path}: the folder {path.parent} does not exist; make it first")


def write_comparison(folder: Path, found: Comparison) -> Path:
    """Write `compare.html` and `compare.json` into a folder and return the page's path.

    Raises
    ------
    ConfigError
        The folder is a file or cannot be created.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out {folder} is a file: name a folder")
    page = compare_page.page(found.report, found.page)
    data = orjson.dumps(plain(found.report), option=orjson.OPT_INDENT_2).decode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {folder} cannot be made: {error.strerror}") from None
    write_page(folder / "compare.html", page)
    write_page(folder / "compare.json", data)
    return folder / "compare.html"
