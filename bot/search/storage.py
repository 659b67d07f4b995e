"""Storage of search trials: SQLite by default, any other database, or a journal file."""

from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage, JournalStorage, RDBStorage

from bot.core.errors import ConfigError
from bot.core.files import open_private, private_folder
from bot.core.redact import redact_addresses
from bot.market.paths import data_folder


def open_storage(url: str) -> BaseStorage:
    """Open the storage at a URL: `journal://FILE`, or any URL that SQLAlchemy opens.

    Raises
    ------
    ConfigError
        The URL cannot be opened; the message lists valid forms.
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
    except Exception as error:  # each database driver has its own exceptions
        first = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"--storage {redact_addresses(url)} cannot be opened ({type(error).__name__}: {first}); give "
            "sqlite:///FILE, postgresql+psycopg://USER@HOST/DATABASE, another SQLAlchemy URL, or journal://FILE"
        ) from None


def close_storage(storage: BaseStorage) -> None:
    """Close the connections of a storage."""
    storage.remove_session()
    behind = getattr(storage, "_backend", storage)  # Optuna wraps a database in a cache
    if isinstance(behind, RDBStorage):
        behind.engine.dispose()


def _lighten(storage: RDBStorage) -> None:
    """Set SQLite to WAL: safe against a killed process, without a disk sync at each of a trial's forty commits."""
    from sqlalchemy import event

    def dress(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    event.listen(storage.engine, "connect", dress)
    storage.engine.dispose()


def default_storage() -> str:
    """Return the URL of the SQLite file in the bot's data folder."""
    path = private_folder(data_folder()) / "studies.db"
    open_private(path, "ab").close()  # SQLite gives its side files the same permissions
    return f"sqlite:///{path}"
