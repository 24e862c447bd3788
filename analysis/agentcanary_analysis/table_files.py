"""Files of conversations: csv, csv.gz and Parquet as tables, spans as the table that is made of them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from agentcanary_analysis.frame_columns import TableError

_SPANS = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz", ".json", ".json.gz", ".otlp", ".otlp.gz")
_MEMORY = "400MB"


def read_table(path: str | Path) -> Any:
    """The table in a file.

    Args:
        path: ``.csv`` and ``.csv.gz`` are read into memory; ``.parquet`` (also a folder of them, or a pattern with
            ``*``) is read by DuckDB, column by column, so it may be larger than memory; ``.jsonl``, ``.json`` and their
            ``.gz`` are spans, see ``read_spans``.

    Returns:
        What ``analyze`` takes: a pandas frame or a DuckDB relation.

    Raises:
        TableError: If the file is not there, is of another kind or cannot be read.
    """
    if not str(path):
        raise TableError("the path of a table is empty; name a file, or a folder of Parquet files")
    file = Path(path)
    name = file.name.lower()
    parquet = name.endswith((".parquet", ".pq")) or file.is_dir()
    if not file.exists() and "*" not in str(file):
        raise TableError(f"{file}: there is no such file")
    if file.is_dir():
        if not any(file.glob("**/*.parquet")):
            raise TableError(f"{file}: the folder holds no Parquet file")
        file = file / "**" / "*.parquet"
    if parquet:
        return _parquet(file)
    if name.endswith((".csv", ".csv.gz")):
        return _csv(file)
    if is_spans(file):
        from agentcanary_analysis.spans import read_spans

        return read_spans(file).frame
    raise TableError(f"{file}: files are read by their ending: .csv, .csv.gz, .parquet, .jsonl, .jsonl.gz, .json")


def is_spans(path: str | Path) -> bool:
    """True for what is read as spans, by its ending.

    >>> is_spans("traces.otlp.jsonl.gz"), is_spans("table.csv.gz")
    (True, False)
    """
    return Path(path).name.lower().endswith(_SPANS)


def _csv(file: Path) -> Any:
    import pandas as pd

    try:
        return pd.read_csv(file)
    except (ValueError, OSError, EOFError) as error:  # ParserError and EmptyDataError are ValueErrors
        raise TableError(f"{file}: not a table of comma-separated values: {error}") from None


def _parquet(file: Path) -> Any:
    if find_spec("duckdb") is None:
        if find_spec("pyarrow") is None:
            raise TableError(f"{file}: Parquet needs the extra: pip install 'agentcanary[warehouse]'")
        import pandas as pd

        return pd.read_parquet(file)
    import duckdb

    # Bounded memory: what does not fit goes to disk. The order of rows means nothing here.
    connection = duckdb.connect(config={"memory_limit": _MEMORY, "preserve_insertion_order": "false"})
    try:
        return connection.read_parquet(str(file))
    except duckdb.Error as error:
        raise TableError(f"{file}: not a Parquet file: {str(error).splitlines()[0]}") from None
