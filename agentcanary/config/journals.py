"""Where the journals of a configuration's workers are."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path

from sqlalchemy.engine import make_url

from agentcanary.config.values import Config


def journals_folder(config: Config) -> Path:
    """The folder of the journals: beside an SQLite file, else beside the configuration."""
    database = make_url(config.store)
    if database.get_backend_name() == "sqlite" and database.database:
        return Path(f"{database.database}.journals")
    beside = config.file.parent if config.file is not None else Path.cwd()
    # What waits for one database must never be adopted for another one.
    which = blake2b(database.set(password=None).render_as_string().encode(), digest_size=6).hexdigest()
    return beside / ".agentcanary" / f"{database.database or 'store'}-{which}.journals"
