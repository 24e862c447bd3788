"""Schema versions: from an empty store to the present tables, by Alembic."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect

from agentcanary.errors import StoreRefusedError

HEAD = "0004"


def revision_of(connection: Connection) -> str | None:
    """The schema version of a store, None for an empty one.

    Raises:
        StoreRefusedError: If it holds tables, but none of ours.
    """
    tables = inspect(connection).get_table_names()
    if "alembic_version" in tables:
        found: str | None = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
        return found
    if tables:
        raise StoreRefusedError(
            f"the store holds tables of something else ({', '.join(sorted(tables)[:3])}, …); give agentcanary its own"
        )
    return None


def migrate(connection: Connection, store: str) -> None:
    """Bring a store to the present schema, within the transaction of ``connection``.

    Raises:
        StoreRefusedError: If a newer release has written it.
    """
    # Alembic is imported only when there is something to migrate: it costs more than opening the store.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    found = revision_of(connection)
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    if found is not None and found not in {
        script.revision for script in ScriptDirectory.from_config(config).walk_revisions()
    }:
        raise StoreRefusedError(
            f"store {store} has the schema {found!r}, which this release does not know (it knows {HEAD!r} and older); "
            f"install the release that wrote it"
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
