"""Where searches keep their trials: SQLite by default, any other database, or a journal file."""

from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage, JournalStorage, RDBStorage

from bot.core.errors import ConfigError
from bot.core.files import open_private, private_folder
from bot.core.redact import redact_addresses
from bot.market.paths import data_folder


def open_storage(url: str) -> BaseStorage:
    """Return the storage of a URL: `journal://FILE`, else whatever SQLAlchemy opens.

    Raises
    ------
    ConfigError
        The URL cannot be opened: what it is and what may be given instead.
    """
    if url.startswith("journal://"):
        from optuna.storages.journal import JournalFileBackend

        path = Path(url.removeprefix("journal://"))
        if not path.parent.is_dir():
            raise ConfigError(f"--storage {url}: the folder {path.parent} does not exist; make it first")
        return JournalStorage(JournalFileBackend(str(path)))
    local = url.startswith("sqlite")
    if local and (url.rstrip("/") == "sqlite:" or ":memory:" in url):
        raise ConfigError(f"--storage {url} lives in memory, where no worker could read it: give sqlite:///FILE")
    arguments = {"connect_args": {"timeout": 60}} if local else {"pool_pre_ping": True}
    try:
        storage = RDBStorage(url, engine_kwargs=arguments)
        if local:
            _lighten(storage)
        return storage
    except Exception as error:  # every database driver has exceptions of its own
        first = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"--storage {redact_addresses(url)} cannot be opened ({type(error).__name__}: {first}); give "
            "sqlite:///FILE, postgresql+psycopg://USER@HOST/DATABASE, another SQLAlchemy URL, or journal://FILE"
        ) from None


def close_storage(storage: BaseStorage) -> None:
    """Close what a storage holds open."""
    storage.remove_session()
    behind = getattr(storage, "_backend", storage)  # Optuna puts a cache before a database
    if isinstance(behind, RDBStorage):
        behind.engine.dispose()


def _lighten(storage: RDBStorage) -> None:
    """Let SQLite survive a killed process but not wait for the disk at each of a trial's forty commits."""
    from sqlalchemy import event

    def dress(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    event.listen(storage.engine, "connect", dress)
    storage.engine.dispose()


def default_storage() -> str:
    """Return the SQLite file among the bot's data."""
    path = private_folder(data_folder()) / "studies.db"
    open_private(path, "ab").close()  # SQLite gives the files next to it the same rights
    return f"sqlite:///{path}"
