"""The resampling bucket of a row, computed where the rows are: one line a backend.

Tables without a ``bucket`` column get one from a 64-bit hash of the cluster (or the unit), modulo 200: uniform to one
part in 1e17. The hash is the backend's own, so buckets differ between backends, and nothing else does.

| backend | hash |
|---|---|
| pandas, PyArrow | ``pandas.util.hash_array`` (SipHash) |
| Polars | ``Expr.hash`` |
| DuckDB | ``hash`` |
| PySpark | ``xxhash64`` |
| Ibis | ``Value.hash``: the hash of the database |
"""

from __future__ import annotations

from typing import Any

import narwhals as nw
from narwhals import Implementation

from agentcanary_analysis.aggregates import RESAMPLING_BUCKETS


def with_bucket(frame: nw.LazyFrame[Any], of: str, name: str) -> nw.LazyFrame[Any]:
    """The frame with one column more: the bucket, 0 … 199, of another column.

    Args:
        frame: Any that Narwhals reads.
        of: The column that is hashed.
        name: Of the new column.

    Raises:
        TypeError: If the backend has no hash.

    >>> import pandas as pd
    >>> frame = nw.from_native(pd.DataFrame({"user": ["ann", "bob", "ann"]})).lazy()
    >>> buckets = with_bucket(frame, "user", "bucket").collect().get_column("bucket").to_list()
    >>> buckets[0] == buckets[2], 0 <= min(buckets) and max(buckets) < 200
    (True, True)
    """
    native: Any = frame.to_native()
    n = RESAMPLING_BUCKETS
    made: Any
    match frame.implementation:
        case Implementation.PANDAS:
            import pandas as pd

            made = native.assign(**{name: pd.util.hash_array(native[of].to_numpy(dtype=object)) % n})
        case Implementation.PYARROW:
            import pandas as pd
            import pyarrow as pa

            hashed = pd.util.hash_array(native[of].to_pandas().to_numpy(dtype=object)) % n
            made = native.append_column(name, pa.array(hashed.astype("int64")))
        case Implementation.POLARS:
            import polars as pl

            made = native.with_columns((pl.col(of).hash(seed=0) % n).cast(pl.Int64).alias(name))
        case Implementation.DUCKDB:
            made = native.select(f"*, (hash({_quoted(of)}) % {n})::INTEGER AS {_quoted(name)}")
        case Implementation.PYSPARK:
            from pyspark.sql import functions as f

            made = native.withColumn(name, f.pmod(f.xxhash64(f.col(of)), f.lit(n)).cast("int"))
        case Implementation.IBIS:
            made = native.mutate(**{name: ((native[of].hash() % n + n) % n).cast("int64")})
        case other:
            raise TypeError(f"there is no hash for {other}; give the table a bucket column with numbers 0 … {n - 1}")
    bucketed: nw.LazyFrame[Any] = nw.from_native(made).lazy()
    return bucketed


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
