"""Spans → the table of conversations that ``analyze`` reads: one row a conversation, counted at a fixed age.

Our own spans (``agentcanary.turn``) are turns. Of other tracers a trace is a turn: its root span gives latency and
error, the conversation id comes from any span of the trace, and is the trace's own id where there is none. Evaluation
events are outcomes. Spans can be sampled away: what the store counted is the ledger, this is for what never met it.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from agentcanary_analysis.frame_columns import TableError
from agentcanary_analysis.metrics import DEFAULT_HORIZON
from agentcanary_analysis.otlp import spans_of_lines
from agentcanary_analysis.span_values import (
    AGENT,
    CONVERSATION_IDS,
    EPOCH,
    ERROR_TYPE,
    EXCLUDED,
    OUTCOME,
    ROLLOUT,
    TURN,
    USER_IDS,
    VERSIONS,
    WEIGHT,
    Evaluation,
    Span,
    number_or_none,
)

if TYPE_CHECKING:
    import pandas as pd

# The article's outcomes, by the column that they fill; any other outcome fills a column of its own name.
OUTCOME_COLUMNS = {
    "task_completion": "completed",
    "safety_violation": "safety_violations",
    "satisfaction": "satisfaction",
}
_EVENTS = ("completed", "safety_violations")
_LARGEST = 1e30


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spans:
    """What was read of spans.

    Attributes:
        frame: One row a conversation: conversation_id, version, user_id, agent, rollout, started_at (Unix seconds),
            turns, error, latency_s (of the first turn), epoch, weight, excluded, and a column an outcome.
        seen: What was read and what was skipped, by name: ``spans``, ``turns``, ``truncated last line``,
            ``broken lines``, ``broken spans``, ``repeated spans``, ``out of order``, ``without a conversation id``,
            ``without a version``, …
    """

    frame: pd.DataFrame
    seen: Mapping[str, int]


def read_spans(
    *paths: str | Path, version: str | None = None, agent: str | None = None, horizon: float = DEFAULT_HORIZON
) -> Spans:
    """The conversations in files of spans.

    Args:
        *paths: OTLP JSON lines of the Collector's or Python's file exporter, one OTLP JSON document, JavaScript's
            readable spans or Langfuse trace exports; plain or gzip, in any order.
        version: Attribute that names the version, of a span or its resource: ``gen_ai.request.model``. None takes
            ``gen_ai.agent.version``, then ``langfuse.version``, then ``service.version``.
        agent: Only this agent's turns, where spans of several are mixed.
        horizon: Age in seconds at which a conversation is counted; later turns and outcomes are not its.

    Raises:
        TableError: If a file is not there or holds no spans.
        ValueError: If ``horizon`` is not positive.
    """
    if not paths:
        raise ValueError("read_spans needs at least one file")
    seen: Counter[str] = Counter()
    spans = [span for path in paths for span in spans_of_lines(_lines(Path(path), seen), seen)]
    if not spans:
        counted = ", ".join(f"{count} {name}" for name, count in sorted(seen.items()) if count)
        raise TableError(f"{', '.join(str(path) for path in paths)}: no span could be read ({counted or 'empty'})")
    return conversations_of(spans, version=version, agent=agent, horizon=horizon, seen=seen)


def _lines(path: Path, seen: Counter[str]) -> Iterator[str]:
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
        with (
            gzip.open(path, "rt", encoding="utf-8", errors="replace")
            if zipped
            else path.open(encoding="utf-8", errors="replace") as text
        ):
            yield from text
    except (EOFError, zlib.error):
        # The file was still being written; what is whole before that was read.
        seen["truncated gzip"] += 1
    except FileNotFoundError:
        raise TableError(f"{path}: there is no such file") from None
    except OSError as error:
        raise TableError(f"{path}: {error.strerror or error}") from None


class _Turn(NamedTuple):
    conversation: str
    named: bool
    version: str | None
    user: str | None
    start: float
    end: float
    latency: float
    error: bool
    attributes: Mapping[str, Any]


def conversations_of(
    spans: Iterable[Span],
    *,
    version: str | None = None,
    agent: str | None = None,
    horizon: float = DEFAULT_HORIZON,
    seen: Counter[str] | None = None,
) -> Spans:
    """The conversations in spans; see ``read_spans``.

    Args:
        spans: In any order.
        version: Attribute that names the version.
        agent: Only this agent's turns.
        horizon: Age in seconds at which a conversation is counted.
        seen: What was counted while reading.

    >>> turn = {"agentcanary.turn": "t1", "gen_ai.conversation.id": "c1", "gen_ai.agent.version": "v2"}
    >>> found = conversations_of([Span("a", "1", "", "agentcanary.turn", 100.0, 102.5, 2.5, False, turn)])
    >>> found.frame[["conversation_id", "version", "latency_s", "error"]].values.tolist()
    [['c1', 'v2', 2.5, 0.0]]
    """
    import pandas as pd

    if not 0 < horizon < math.inf:
        raise ValueError(f"horizon must be positive seconds, got {horizon}")
    counts: Counter[str] = Counter() if seen is None else seen
    names = VERSIONS if version is None else (version,)
    traces = _traces(spans, counts)
    turns: defaultdict[str, list[_Turn]] = defaultdict(list)
    evaluations: defaultdict[str, list[Evaluation]] = defaultdict(list)
    for members in traces.values():
        made = list(_turns(members, names, agent))
        for turn in made:
            turns[turn.conversation].append(turn)
            counts["turns"] += 1
            counts["without a conversation id"] += not turn.named
        for span in members:
            home = span.first(CONVERSATION_IDS) or (made[0].conversation if made else span.trace)
            for said in span.evaluations:
                at = span.end if said.at is None else said.at
                evaluations[said.conversation or home].append(said._replace(at=at))
    counts["evaluations of unknown conversations"] += sum(
        len(found) for conversation, found in evaluations.items() if conversation not in turns
    )
    rows = [_row(key, found, evaluations.get(key, ()), horizon, counts) for key, found in turns.items()]
    frame = pd.DataFrame(rows, columns=_columns(rows))
    return Spans(frame=frame, seen={name: count for name, count in sorted(counts.items()) if count})


def _traces(spans: Iterable[Span], counts: Counter[str]) -> dict[str, list[Span]]:
    """The spans by trace, each once, in the order in which they started."""
    traces: defaultdict[str, dict[str, Span]] = defaultdict(dict)
    latest = -math.inf
    for span in spans:
        if not isinstance(span, Span):
            raise TypeError(f"spans must be a series of Span, got {span!r:.80}; files of them are read by read_spans")
        if span.id in traces[span.trace]:
            counts["repeated spans"] += 1
        # Spans are written as they end; only of those that end apart the order tells anything.
        counts["out of order"] += span.end < latest
        latest = max(latest, span.end) if math.isfinite(span.end) else latest
        # An exporter that tries again sends the same span; the first one is as good.
        traces[span.trace].setdefault(span.id, span)
    return {trace: sorted(members.values(), key=lambda span: span.start) for trace, members in traces.items()}


def _turns(members: Sequence[Span], names: tuple[str, ...], agent: str | None) -> Iterator[_Turn]:
    """The turns of one trace: our own spans, else its root."""
    ours = [span for span in members if TURN in span.attributes]
    for span in ours:
        if agent is None or span.attributes.get(AGENT) == agent:
            found = span.first(CONVERSATION_IDS)
            outcome = span.attributes.get(OUTCOME)
            yield _turn(span, found, span.first(names), span.first(USER_IDS), error=outcome == "error")
    if ours:
        return
    known = {span.id for span in members}
    roots = [span for span in members if span.parent not in known]
    if agent is not None and all(span.attributes.get(AGENT) != agent for span in members):
        return
    conversation, version, user = (
        next((found for span in members if (found := span.first(wanted)) is not None), None)
        for wanted in (CONVERSATION_IDS, names, USER_IDS)
    )
    # A trace whose root was lost has several tops: together they are the turn.
    first = roots[0]
    end = max(span.end for span in roots)
    duration = first.duration if end == first.end else end - first.start
    whole = first._replace(end=end, duration=duration, error=any(_failed(span) for span in roots))
    yield _turn(whole, conversation, version, user, error=whole.error)


def _failed(span: Span) -> bool:
    return span.error or bool(span.attributes.get(ERROR_TYPE))


def _turn(span: Span, conversation: str | None, version: str | None, user: str | None, *, error: bool) -> _Turn:
    return _Turn(
        conversation=conversation or span.trace,
        named=conversation is not None,
        version=version,
        user=user,
        start=span.start,
        end=span.end,
        latency=span.duration,
        error=error,
        attributes=span.attributes,
    )


def _row(
    conversation: str,
    turns: list[_Turn],
    evaluations: Sequence[Evaluation],
    horizon: float,
    counts: Counter[str],
) -> dict[str, Any]:
    """One conversation at the age of ``horizon``, with the same rules as the store's counting."""
    turns.sort(key=lambda turn: turn.start)
    first = turns[0]
    at = first.start + horizon
    # A turn that was open at that age had no end, so it is an error and its latency has no limit.
    open_then = any(turn.start <= at < turn.end for turn in turns)
    failed = any(turn.error and turn.end <= at for turn in turns)
    counts["without a version"] += first.version is None
    row = {
        "conversation_id": conversation,
        "version": first.version,
        "user_id": first.user,
        "agent": first.attributes.get(AGENT),
        "rollout": first.attributes.get(ROLLOUT),
        "started_at": first.start,
        "turns": len(turns),
        "error": float(open_then or failed),
        "latency_s": first.latency if first.end <= at else math.inf,
        "epoch": first.attributes.get(EPOCH),
        "weight": first.attributes.get(WEIGHT),
        "excluded": first.attributes.get(EXCLUDED),
    }
    said: defaultdict[str, list[float]] = defaultdict(list)
    for one in evaluations:
        value = number_or_none(one.value)
        if value is None or abs(value) > _LARGEST:
            counts["evaluations without a number"] += value is None
        elif one.at is not None and first.start <= one.at <= at:
            said[OUTCOME_COLUMNS.get(one.name, one.name)].append(value)
        else:
            counts["evaluations outside the horizon"] += 1
    for name, values in said.items():
        if name in row:
            counts["outcomes named like a column"] += 1
            continue
        events = name in _EVENTS
        row[name] = float(any(value > 0 for value in values)) if events else math.fsum(values) / len(values)
    return row


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every column that some row fills, in the order in which they appear; those that none does are left out."""
    always = ("conversation_id", "version", "started_at", "turns", "error", "latency_s")
    names = dict.fromkeys(name for row in rows for name in row)
    return [name for name in names if name in always or any(row.get(name) is not None for row in rows)]
