"""The text of a first canary.yaml. Pure.

A line of ``# `` and text explains; what else begins with ``#`` is a setting, nearly all at their defaults.
"""

from __future__ import annotations

from agentcanary.durations import format_duration
from agentcanary.presets import PRESETS

_TEMPLATE = """\
# A canary release, as agentcanary reads it. Everything has a default but agent and stable.
# Check it with: agentcanary validate
# For help while you type: agentcanary schema > canary.schema.json, and name that file in your editor.

agent: {agent}
# The version that serves now, and the one that is to replace it. Without canary, only history is recorded.
stable: {stable}
canary: {canary}

# Ready-made stages:
{summaries}
preset: {preset}

# Stages of your own win over the preset's; these are those of {preset}. Weights are shares: 0.05 is 5 %.
# min_requests counts canary conversations begun in the stage. A check that names what nobody records holds the stage.
{stages}

# How much worse than stable is tolerated, relative, before the canary is rolled back. null: not judged.
#rollback:
#  max_error_increase: 0.10
#  max_completion_drop: 0.05
#  max_latency_increase: 0.50
#  max_safety_violations: 0
#  floor: 0.005                 # a difference of half a point of the conversations is not worth acting on
#  pinned: {{safety: switch, harm: switch, manual: finish}}

# What must be proven before all traffic goes to the canary, and the minimums of stages that state none.
#promotion:
#  max_completion_regression: 0.02
#  min_duration: 30m
#  min_requests: 100

# Outcomes of your own. Checks then speak of cost_increase. on_fail: warn is a dry run, pause waits for a person.
#metrics:
#  - {{name: cost, kind: mean, worse: up, rollback_margin: 0.20, on_fail: warn}}

# When no step forward is taken; rollbacks always happen.
#freeze:
#  - {{hours: '20:00-08:00', timezone: Europe/Berlin}}
#  - {{days: [fri, sat, sun], timezone: Europe/Berlin}}

# Where a request's conversation id is found; the first that is there counts.
#conversation:
#  id_from:
#    - header: x-conversation-id
#    - json: conversation_id
#    - json: session_id
#    - json: thread_id
#    - signed_cookie: agentcanary
#  idle_after: 30m

# What you know of your traffic, for what validate and plan say about the stages.
#traffic:
#  conversations_per_hour: 400
#  stable: {{error_rate: 0.05, task_completion_rate: 0.85}}

# Who is told: the log, and webhooks (CloudEvents).
#notify:
#  - log
#  - webhook: https://hooks.example.com/agentcanary
"""


def first_config(*, agent: str, stable: str, canary: str, preset: str) -> str:
    """A commented canary.yaml.

    Args:
        agent: Name of the agent.
        stable: The version that serves now.
        canary: The version that is to replace it.
        preset: Name of a preset.
    """
    return _TEMPLATE.format(
        agent=_quoted(agent),
        stable=_quoted(stable),
        canary=_quoted(canary),
        preset=preset,
        summaries="\n".join(f"# - {name}: {known.summary}" for name, known in PRESETS.items()),
        stages="\n".join(_stages(preset)),
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _stages(preset: str) -> list[str]:
    lines = ["#canary_stages:"]
    for stage in PRESETS[preset].stages:
        lines += [
            f"#  - name: {stage.name}",
            f"#    weight: {stage.weight:g}",
            f"#    duration: {format_duration(stage.duration)}",
            f"#    min_requests: {stage.min_conversations}",
            f"#    auto_rollback: {str(stage.auto_rollback).lower()}",
        ]
        if stage.checks:
            lines += ["#    checks:", *(f'#      - "{check.text}"' for check in stage.checks)]
    return lines
