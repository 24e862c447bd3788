"""ClickHouse's ``otel_traces`` as conversations: one view in SQL, so that the counting happens in the database. Pure.

The table is the one that the OpenTelemetry Collector's ClickHouse exporter makes. The rules are those of ``spans``: our
own turns, else the root of a trace; counted at a fixed age; evaluation events as outcomes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from agentcanary_analysis.metrics import DEFAULT_HORIZON
from agentcanary_analysis.span_values import (
    CONVERSATION_IDS,
    EPOCH,
    ERROR_TYPE,
    EVALUATION_EVENT,
    EVALUATION_NAME,
    EVALUATION_VALUE,
    EXCLUDED,
    OUTCOME,
    TURN,
    USER_IDS,
    VERSIONS,
    WEIGHT,
)
from agentcanary_analysis.spans import OUTCOME_COLUMNS

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?")
_EVENTS = ("task_completion", "safety_violation")


def clickhouse_view(
    view: str = "agentcanary_conversations",
    *,
    table: str = "otel_traces",
    version: str | None = None,
    outcomes: Mapping[str, str] | None = None,
    horizon: float = DEFAULT_HORIZON,
) -> str:
    """The statement that makes the view; ``analyze`` reads it through Ibis like any other table.

    Args:
        view: Name of the view, with or without a database.
        table: The spans.
        version: Attribute that names the version; None takes ``gen_ai.agent.version`` and its like.
        outcomes: Per evaluation the column that it fills; None takes the article's three.
        horizon: Age in seconds at which a conversation is counted.

    Raises:
        ValueError: If a name is no identifier, or ``horizon`` is not positive.

    >>> clickhouse_view().splitlines()[0]
    'CREATE OR REPLACE VIEW agentcanary_conversations AS'
    """
    for name in (view, table):
        if not _NAME.fullmatch(name):
            raise ValueError(f"a view or table is named like database.name, got {name!r}")
    if not 0 < horizon < 1e9:
        raise ValueError(f"horizon must be positive seconds, got {horizon}")
    columns = dict(OUTCOME_COLUMNS if outcomes is None else outcomes)
    for column in columns.values():
        if not re.fullmatch(r"[A-Za-z_]\w*", column, re.ASCII):
            raise ValueError(f"the column of an outcome is made of letters, digits and _, got {column!r}")
    versions = VERSIONS if version is None else (version,)
    return f"""CREATE OR REPLACE VIEW {view} AS
WITH
  spans AS (
    SELECT
      TraceId AS trace, ParentSpanId AS parent, SpanAttributes AS own, ResourceAttributes AS resource,
      toUnixTimestamp64Nano(Timestamp) / 1e9 AS began, began + Duration / 1e9 AS ended,
      StatusCode IN ('Error', 'STATUS_CODE_ERROR') OR own[{_text(ERROR_TYPE)}] != '' AS failed,
      own[{_text(TURN)}] != '' AS ours,
      {_first(CONVERSATION_IDS)} AS conversation, {_first(USER_IDS)} AS person, {_first(versions)} AS named,
      `Events.Name` AS event_names, `Events.Timestamp` AS event_times, `Events.Attributes` AS event_attributes
    FROM {table}
  ),
  traces AS (
    SELECT
      trace, max(ours) AS has_ours,
      argMinIf(conversation, began, conversation != '') AS any_conversation,
      argMinIf(person, began, person != '') AS any_person,
      argMinIf(named, began, named != '') AS any_named
    FROM spans GROUP BY trace
  ),
  turns AS (
    SELECT
      coalesce(nullIf(if(ours, conversation, any_conversation), ''), trace) AS conversation_id,
      nullIf(if(ours, named, any_named), '') AS version, nullIf(if(ours, person, any_person), '') AS user_id,
      began, ended, if(ours, own[{_text(OUTCOME)}] = 'error', failed) AS failed, own
    FROM spans INNER JOIN traces USING (trace)
    WHERE if(has_ours, ours, parent = '')
  ),
  firsts AS (
    SELECT
      conversation_id, min(began) AS started_at, started_at + {horizon!r} AS of_age, count() AS turns,
      argMin(version, began) AS version, argMin(user_id, began) AS user_id, argMin(own, began) AS own,
      argMin(ended, began) AS first_ended,
      groupArray((began, ended, failed)) AS all_turns
    FROM turns GROUP BY conversation_id
  ),
  said AS (
    SELECT
      coalesce(nullIf(attributes[{_text(CONVERSATION_IDS[0])}], ''), nullIf(conversation, ''),
        nullIf(any_conversation, ''), trace) AS conversation_id,
      attributes[{_text(EVALUATION_NAME)}] AS outcome,
      toFloat64OrNull(attributes[{_text(EVALUATION_VALUE)}]) AS value,
      toUnixTimestamp64Nano(moment) / 1e9 AS at
    FROM (
      SELECT trace, conversation, attributes, moment, event
      FROM spans
      ARRAY JOIN event_names AS event, event_times AS moment, event_attributes AS attributes
      WHERE event = {_text(EVALUATION_EVENT)}
    ) AS events INNER JOIN traces USING (trace)
  ),
  outcomes AS (
    SELECT
      conversation_id,
      {_comma(_outcome(name, column) for name, column in columns.items())}
    FROM said INNER JOIN firsts USING (conversation_id)
    WHERE isFinite(value) AND at >= started_at AND at <= of_age
    GROUP BY conversation_id
  )
SELECT
  conversation_id, version, user_id, started_at, turns,
  toFloat64(arrayExists(t -> (t.3 AND t.2 <= of_age) OR (t.1 <= of_age AND t.2 > of_age), all_turns)) AS error,
  if(first_ended <= of_age, first_ended - started_at, inf) AS latency_s,
  toInt64OrNull(own[{_text(EPOCH)}]) AS epoch, toFloat64OrNull(own[{_text(WEIGHT)}]) AS weight,
  nullIf(own[{_text(EXCLUDED)}], '') AS excluded,
  {_comma(columns.values())}
FROM firsts LEFT JOIN outcomes USING (conversation_id)
SETTINGS join_use_nulls = 1"""


def _text(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _first(names: tuple[str, ...]) -> str:
    """The first of these attributes that is not empty, of the span or of its resource."""
    values = (f"nullIf({where}[{_text(name)}], '')" for name in names for where in ("own", "resource"))
    return f"coalesce({', '.join(values)}, '')"


def _outcome(name: str, column: str) -> str:
    """An event happened if any value is above zero; of anything else the mean counts."""
    here = f"outcome = {_text(name)}"
    value = f"maxIf(value > 0, {here})" if name in _EVENTS else f"avgIf(value, {here})"
    return f"if(countIf({here}) > 0, toFloat64({value}), NULL) AS {column}"


def _comma(parts: Iterable[str]) -> str:
    return ",\n      ".join(parts)
