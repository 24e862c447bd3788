"""Results of judges that run as a test: DeepEval. Pure.

Source:
    DeepEval: ``TestResult`` and ``MetricData`` of ``deepeval.evaluate`` (github.com/confident-ai/deepeval,
    ``deepeval/test_run/api.py``, ``deepeval/tracing/api.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agentcanary.outcome_shapes.naming import conversation_of, id_of
from agentcanary.outcome_shapes.reading import (
    MAX_ID,
    MAX_NAME,
    Reported,
    ShapeError,
    mapping,
    number,
    optional,
    prose,
    text,
)
from agentcanary.outcomes import Judge

_PASSED = {True: "passed", False: "failed", None: None}


def deepeval(item: Mapping[str, Any]) -> Iterator[Reported]:
    """A DeepEval test result: one outcome a metric, its score; a metric that failed to be measured has none.

    >>> result = {"name": "c-1", "metricsData": [{"name": "Answer Relevancy", "score": 0.8, "success": True}]}
    >>> [(found.name, found.value, found.label) for found in deepeval(result | {"conversation_id": "c-1"})]
    [('Answer Relevancy', 0.8, 'passed')]
    """
    metrics = item.get("metricsData", item.get("metrics_data"))
    if not isinstance(metrics, list):
        raise ShapeError("metrics_data is missing; send a test result with the list of its metrics")
    conversation = conversation_of(item, metadata=("metadata", "additional_metadata", "additionalMetadata"))
    test = optional(item, "id", "name", limit=MAX_ID)
    for found in metrics:
        metric = mapping(found, "metrics_data")
        failed = bool(metric.get("error"))
        success = metric.get("success")
        model = metric.get("evaluationModel", metric.get("evaluation_model"))
        name = text(metric, "name", limit=MAX_NAME)
        yield Reported(
            conversation_id=conversation,
            name=name,
            value=None if failed else number(metric.get("score"), f"score of {name}"),
            id=id_of("deepeval", test, conversation, name),
            label="failed to judge" if failed else _PASSED[success if isinstance(success, bool) else None],
            kind=Judge.LLM if model else Judge.CODE,
            explanation=prose(metric, "error", "reason"),
        )
