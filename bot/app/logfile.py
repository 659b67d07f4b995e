"""Daily log files: terminal output is kept in `BOT_DATA/logs/bot-DATE.log` for `jobs.log_days` days."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TextIO

from bot.core.files import open_private, private_folder


class DailyFile:
    """Appends to the day's file; a full or failing disk does not stop a bot that holds a position."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._day = ""
        self._file: TextIO | None = None
        self.lost = 0  # lines that could not be written

    def write(self, text: str) -> None:
        """Append a text to the day's file."""
        try:
            day = datetime.now(UTC).strftime("%Y-%m-%d")
            if day != self._day or self._file is None:
                self.close()
                path = private_folder(self._folder) / f"bot-{day}.log"
                self._file, self._day = open_private(path, "a"), day
            self._file.write(text)
            self._file.flush()
        except OSError:
            self.lost += 1
            self._file = None

    def close(self) -> None:
        """Close the day's file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def forget_old_logs(folder: Path, keep_days: int) -> int:
    """Remove log files older than `keep_days` and return their number."""
    oldest = (datetime.now(UTC) - timedelta(days=keep_days)).strftime("%Y-%m-%d")
    old = [path for path in folder.glob("bot-*.log") if path.stem.removeprefix("bot-") < oldest]
    for path in old:
        path.unlink(missing_ok=True)
    return len(old)
