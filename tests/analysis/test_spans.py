"""Files of spans become conversations; what is broken is skipped and counted, never taken for something else."""

from __future__ import annotations

import gzip
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentcanary_analysis import TableError, analyze_result, read_spans
from agentcanary_analysis.otlp import spans_of_lines
from agentcanary_analysis.span_values import Span
from agentcanary_analysis.spans import conversations_of

T0 = 1_767_600_000
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "otlp"


def attribute(key: str, value: Any) -> dict[str, Any]:
    kind = {bool: "boolValue", int: "intValue", float: "doubleValue", str: "stringValue"}[type(value)]
    return {"key": key, "value": {kind: str(value) if kind == "intValue" else value}}


def span(
    trace: str,
    own: str,
    at: float,
    seconds: float,
    *,
    parent: str = "",
    name: str = "agentcanary.turn",
    status: int = 0,
    events: list[dict[str, Any]] | None = None,
    **attributes: Any,
) -> dict[str, Any]:
    """A span as the Collector's file exporter writes it; ``__`` in names of attributes stands for a dot."""
    begun = round((T0 + at) * 1e9)
    return {
        "traceId": trace * 16,
        "spanId": own * 8,
        "parentSpanId": parent * 8,
        "name": name,
        "kind": 1,
        "startTimeUnixNano": str(begun),
        "endTimeUnixNano": str(begun + round(seconds * 1e9)),
        "attributes": [attribute(key.replace("__", "."), value) for key, value in attributes.items()],
        "events": events or [],
        "status": {"code": status} if status else {},
        "a field of tomorrow": {"any": ["thing"]},
    }


def said(name: str, value: float | None, at: float, conversation: str | None = None) -> dict[str, Any]:
    attributes = [attribute("gen_ai.evaluation.name", name)]
    attributes += [] if value is None else [attribute("gen_ai.evaluation.score.value", float(value))]
    attributes += [] if conversation is None else [attribute("gen_ai.conversation.id", conversation)]
    return {
        "name": "gen_ai.evaluation.result",
        "timeUnixNano": str(round((T0 + at) * 1e9)),
        "attributes": attributes,
    }


def turn(own: str, conversation: str, at: float, seconds: float = 1.0, **more: Any) -> dict[str, Any]:
    more = {"gen_ai__agent__version": "v1", "agentcanary__outcome": "ok", **more}
    return span(own, own, at, seconds, agentcanary__turn=own, gen_ai__conversation__id=conversation, **more)


def line(*spans: dict[str, Any], **resource: Any) -> str:
    attributes = [attribute(key.replace("__", "."), value) for key, value in resource.items()]
    return json.dumps({"resourceSpans": [{"resource": {"attributes": attributes}, "scopeSpans": [{"spans": spans}]}]})


def written(folder: Path, *lines: str, name: str = "spans.jsonl") -> Path:
    path = folder / name
    text = "".join(f"{one}\n" for one in lines)
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def test_turns_of_a_conversation_become_one_row_counted_at_a_fixed_age(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        line(turn("b", "c-1", 60.0, 2.0, agentcanary__outcome="error")),
        line(turn("a", "c-1", 0.0, 1.5, agentcanary__weight=0.05, agentcanary__epoch=2), turn("c", "c-2", 5.0, 0.25)),
        line(turn("d", "c-2", 4000.0, 1.0, agentcanary__outcome="error", gen_ai__agent__version="v2")),
    )
    found = read_spans(path)
    assert found.seen == {"lines": 3, "out of order": 2, "spans": 4, "turns": 4}
    first, second = found.frame.to_dict("records")
    assert (first["conversation_id"], first["turns"], first["error"], first["latency_s"]) == ("c-1", 2, 1.0, 1.5)
    assert (first["weight"], first["epoch"], first["started_at"]) == (0.05, 2, T0)
    # The second turn came after the horizon: neither its error nor its version is the conversation's.
    assert (second["version"], second["turns"], second["error"]) == ("v1", 2, 0.0)


def test_a_turn_that_is_open_at_the_horizon_is_an_error_without_an_end(tmp_path: Path) -> None:
    found = read_spans(written(tmp_path, line(turn("a", "c-1", 0.0, 100.0))), horizon=60.0)
    assert found.frame[["error", "latency_s"]].to_numpy().tolist() == [[1.0, math.inf]]


def test_evaluations_are_outcomes_wherever_they_are_said(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        line(turn("a", "c-1", 0.0, events=[said("task_completion", 1.0, 1.0), said("tone", 0.25, 1.0)])),
        line(span("e", "e", 20.0, 1.0, name="judge", events=[said("satisfaction", 4.0, 21.0, "c-1")])),
        line(span("f", "f", 30.0, 1.0, name="judge", events=[said("satisfaction", 2.0, 31.0, "c-1")])),
        line(turn("b", "c-2", 0.0, events=[said("satisfaction", None, 1.0), said("safety_violation", 0.0, 2.0)])),
        line(turn("d", "c-3", 0.0, events=[said("task_completion", 1.0, 5000.0)])),
    )
    found = read_spans(path)
    rows = {row["conversation_id"]: row for row in found.frame.to_dict("records")}
    assert [rows["c-1"][name] for name in ("completed", "tone", "satisfaction")] == [1.0, 0.25, 3.0]
    assert rows["c-2"]["safety_violations"] == 0.0
    assert math.isnan(rows["c-2"]["satisfaction"])
    assert math.isnan(rows["c-3"]["completed"])
    assert found.seen["evaluations without a number"] == 1
    assert found.seen["evaluations outside the horizon"] == 1


def test_a_trace_of_another_tracer_is_a_turn_and_falls_back_to_itself(tmp_path: Path) -> None:
    root = span("a", "1", 0.0, 3.0, name="Agent Workflow")
    call = span("a", "2", 0.5, 1.0, parent="1", name="openai.chat", gen_ai__request__model="gpt-4o", status=2)
    late = span("b", "3", 9.0, 1.0, parent="9", name="openai.chat", error__type="RateLimitError", session__id="s-1")
    found = read_spans(written(tmp_path, line(call, root), line(late)), version="gen_ai.request.model")
    rows = {row["conversation_id"]: row for row in found.frame.to_dict("records")}
    assert set(rows) == {"a" * 16, "s-1"}
    # A call that failed inside a turn that did not is no error of the turn.
    assert [rows["a" * 16][name] for name in ("version", "error", "latency_s")] == ["gpt-4o", 0.0, 3.0]
    assert rows["s-1"]["error"] == 1.0
    assert found.seen["without a conversation id"] == 1
    assert found.seen["without a version"] == 1


def test_the_version_may_be_the_resources(tmp_path: Path) -> None:
    path = written(tmp_path, line(span("a", "1", 0.0, 1.0, name="chat"), service__version="2.1", service__name="bot"))
    assert read_spans(path).frame.version.tolist() == ["2.1"]
    assert read_spans(path, version="service.name").frame.version.tolist() == ["bot"]


@pytest.mark.parametrize("name", ["spans.jsonl", "spans.jsonl.gz"])
def test_what_is_broken_is_skipped_and_counted(name: str, tmp_path: Path) -> None:
    whole = line(turn("a", "c-1", 0.0))
    broken = turn("b", "c-2", 0.0) | {"startTimeUnixNano": "soon"}
    nameless = turn("d", "c-4", 0.0) | {"traceId": ""}
    path = written(
        tmp_path,
        whole,
        "{not json",
        '{"hello": "world"}',
        line(broken, nameless),
        whole,
        line(turn("c", "c-3", 1.0))[:-40],
        name=name,
    )
    found = read_spans(path)
    assert found.frame.conversation_id.tolist() == ["c-1"]
    assert found.seen == {
        "broken lines": 1,
        "broken spans": 2,
        "lines": 6,
        "not spans": 1,
        "repeated spans": 1,
        "spans": 2,
        "truncated last line": 1,
        "turns": 1,
    }


def test_a_gzip_file_that_is_still_written_gives_what_is_whole(tmp_path: Path) -> None:
    lines = [line(turn(own, f"c-{own}", 0.0)) for own in "abcdef"]
    path = written(tmp_path, *lines, name="spans.jsonl.gz")
    path.write_bytes(path.read_bytes()[:-20])
    found = read_spans(path)
    assert found.seen["truncated gzip"] == 1


def test_documents_over_many_lines_and_other_shapes_are_read(tmp_path: Path) -> None:
    pretty = json.dumps(json.loads(line(turn("a", "c-1", 0.0))), indent=2)
    python: dict[str, Any] = {
        "name": "agentcanary.turn",
        "context": {"trace_id": "0x0b", "span_id": "0x0c"},
        "parent_id": None,
        "start_time": "2026-01-05T08:00:00.250000Z",
        "end_time": "2026-01-05T08:00:01.000000Z",
        "status": {"status_code": "ERROR"},
        "attributes": {"agentcanary.turn": "t", "gen_ai.conversation.id": "c-2", "agentcanary.outcome": "error"},
        "events": [],
        "resource": {"attributes": {"service.version": "3"}},
    }
    path = written(tmp_path, pretty, json.dumps(python, indent=4), json.dumps(python | {"start_time": "later"}))
    found = read_spans(path)
    assert found.frame[["conversation_id", "version", "latency_s"]].to_numpy().tolist() == [
        ["c-1", "v1", 1.0],
        ["c-2", "3", 0.75],
    ]
    assert found.seen["broken spans"] == 1


def test_only_the_turns_of_one_agent_are_read_where_several_are_mixed(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        line(turn("a", "c-1", 0.0, gen_ai__agent__name="support"), turn("b", "c-2", 0.0, gen_ai__agent__name="sales")),
    )
    assert read_spans(path, agent="sales").frame.conversation_id.tolist() == ["c-2"]


def test_a_file_without_spans_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no span could be read"):
        read_spans(written(tmp_path, '{"resourceSpans": []}'))
    with pytest.raises(TableError, match="there is no such file"):
        read_spans(tmp_path / "nothing.jsonl")
    with pytest.raises(ValueError, match="at least one file"):
        read_spans()
    with pytest.raises(ValueError, match="horizon must be positive"):
        read_spans(written(tmp_path, line(turn("a", "c-1", 0.0))), horizon=0)


def test_spans_are_analysed_like_any_table(tmp_path: Path) -> None:
    lines = []
    for number in range(400):
        version = "v2" if number % 2 else "v1"
        failed = number % (3 if version == "v2" else 20) == 1
        lines.append(
            line(
                span(
                    f"{number:02x}",
                    f"{number:04x}",
                    number,
                    1.0,
                    agentcanary__turn=str(number),
                    gen_ai__conversation__id=f"c-{number}",
                    gen_ai__agent__version=version,
                    agentcanary__outcome="error" if failed else "ok",
                )
            )
        )
    result = analyze_result(
        str(written(tmp_path, *lines)), stable="v1", canary="v2", checks=["error_rate_increase < 0.10"]
    )
    assert result.verdict == "rollback"


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    ["traceId", "spanId", "startTimeUnixNano", "endTimeUnixNano", "attributes", "events", "status", "name", "resource"]
)


@settings(max_examples=30)
@given(st.dictionaries(FIELDS, JSON), st.binary(max_size=40))
def test_any_bytes_are_spans_or_counted(fields: dict[str, Any], noise: bytes) -> None:
    good, other = turn("a", "c-1", 0.0), turn("b", "c-2", 0.0)
    texts = [line(good), line(other | fields), json.dumps(other | fields), noise.decode(errors="replace")]
    seen: Counter[str] = Counter()
    spans = list(spans_of_lines(texts, seen))
    assert len(spans) == seen["spans"] >= 1
    found = conversations_of(spans, seen=seen)
    assert "c-1" in found.frame.conversation_id.tolist()
    assert (found.frame.latency_s >= 0).all()


def test_the_same_span_twice_is_one() -> None:
    one = Span("t", "1", "", "agentcanary.turn", 1.0, 2.0, 1.0, False, {"agentcanary.turn": "x"})
    found = conversations_of([one, one])
    assert found.frame.turns.tolist() == [1]
    assert found.seen["repeated spans"] == 1


@pytest.mark.needs("shared data")
@pytest.mark.parametrize(
    ("file", "version", "turns"),
    [
        ("openllmetry_openai_agents_v0.62.4.otlp.jsonl.gz", "gen_ai.response.model", 168),
        ("openllmetry_openai_v0.62.4.otlp.jsonl.gz", "gen_ai.request.model", 203),
        ("openinference_vercel_ai_v6_readable_spans.json", "gen_ai.request.model", 10),
        ("opentelemetry_proto_examples_trace.json", "service.name", 1),
    ],
)
def test_spans_of_other_tracers_load(file: str, version: str, turns: int) -> None:
    found = read_spans(SHARED / file, version=version)
    assert found.seen["turns"] == turns == len(found.frame)
    assert found.seen["without a conversation id"] == turns
    assert found.frame.version.notna().any()
    assert (found.frame.latency_s > 0).all()


@pytest.mark.needs("shared data")
def test_langfuse_traces_load_with_sessions_users_and_scores() -> None:
    found = read_spans(*sorted((SHARED / "langfuse").glob("*.json")), version="gen_ai.request.model")
    rows = {row["conversation_id"]: row for row in found.frame.to_dict("records")}
    assert {"session_abc", "demo-session"} <= set(rows)
    session = rows["session_abc"]
    assert [session[name] for name in ("version", "user_id", "latency_s")] == ["gpt-4o", "user_123", 0.645]
    assert found.frame.toxicity.max() == 0.8
    assert found.frame.hallucination.max() == 0.1
    assert read_spans(SHARED / "langfuse" / "autogen-2025-06-06.trace.json").frame.version.tolist() == ["1.0.0"]
