from __future__ import annotations

import os
from pathlib import Path

import pytest

from agentcanary.config import load_config, parse_config
from agentcanary.config.sections import FileSection, MetricSection, StageSection
from agentcanary.config.yaml_lines import MAX_BYTES, read_yaml
from agentcanary.errors import ConfigError

NAMES = "agent: support\nstable: support-v1\ncanary: support-v2\n"
STAGES = NAMES + "canary_stages:\n"
METRICS = NAMES + "metrics:\n"


def mistakes(text: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        parse_config(text, "canary.yaml")
    return refused.value.mistakes


# Text, then the one message it must give.
PLACES = (
    "places are header, cookie, query, path, json, form, websocket_first_frame, first_message, composite, signed_cookie"
)
ONE_MISTAKE = {
    "unknown key": (
        NAMES + "alpa: 0.05",
        "canary.yaml:4: unknown key 'alpa'; did you mean 'alpha'?",
    ),
    "known key in the wrong place": (
        NAMES + "idle_after: 30m",
        "canary.yaml:4: unknown key 'idle_after'; it is written as conversation.idle_after",
    ),
    "key that resembles nothing": (
        NAMES + "telemetry:\n  zzz: 1",
        "canary.yaml:5: unknown key 'zzz' in telemetry; known here: privacy, span",
    ),
    "unknown key in a stage": (
        STAGES + "  - name: all\n    weight: 1.0\n    cheks: []",
        "canary.yaml:7: unknown key 'cheks' in canary_stages[0]; did you mean 'checks'?",
    ),
    "no stable version": (
        "agent: support\ncanary: v2",
        "canary.yaml:1: stable is missing; write stable: support-v1",
    ),
    "empty stable version": (
        "agent: support\nstable:",
        "canary.yaml:2: stable must be text, got nothing; write text",
    ),
    "blank version": (
        "agent: support\nstable: ' '",
        "canary.yaml:2: stable must be 1 to 200 printable characters without spaces around them, got ' '",
    ),
    "the same version twice": (
        "agent: a\nstable: v1\ncanary: v1",
        "canary.yaml:3: canary must differ from stable, got 'v1' for both; name the new version, or leave it out",
    ),
    "version that YAML reads as a number": (
        "agent: a\nstable: 1.10",
        'canary.yaml:2: stable must be text, got 1.10; put it in quotes: "1.10"',
    ),
    "agent that is no file name": (
        "agent: a/b\nstable: v1",
        (
            "canary.yaml:1: agent must be 1 to 100 letters, digits, dots, dashes and underscores that begin with a "
            "letter or digit, got 'a/b'"
        ),
    ),
    "duplicate key": (
        "agent: a\nstable: v1\nstable: v2",
        "canary.yaml:3: duplicate key 'stable', already on line 2; keep one of them",
    ),
    "percent written as 5": (
        STAGES + "  - name: low\n    weight: 5\n  - {name: all, weight: 1}",
        "canary.yaml:6: canary_stages[0].weight must be at most 1, got 5; write 0.05 for 5 %",
    ),
    "percent written as 5%": (
        STAGES + "  - {name: low, weight: 5%}\n  - {name: all, weight: 1}",
        "canary.yaml:5: canary_stages[0].weight must be a number, got '5%'; write 0.05 for 5 %",
    ),
    "quoted number": (
        STAGES + "  - {name: low, weight: '0.05'}\n  - {name: all, weight: 1}",
        "canary.yaml:5: canary_stages[0].weight must be a number, got '0.05'; write 0.05 without quotes",
    ),
    "negative weight": (
        STAGES + "  - {name: low, weight: -0.05}\n  - {name: all, weight: 1}",
        "canary.yaml:5: canary_stages[0].weight must be at least 0, got -0.05; write 0.05",
    ),
    "weight that is no number": (
        STAGES + "  - {name: low, weight: .nan}\n  - {name: all, weight: 1}",
        "canary.yaml:5: canary_stages[0].weight must be a finite number, got .nan; write a number",
    ),
    "falling weight": (
        STAGES + "  - {name: a, weight: 0.5}\n  - {name: b, weight: 0.2}\n  - {name: c, weight: 1}",
        "canary.yaml:6: canary_stages[1].weight must not fall, got 0.2 after 0.5; put the stages in order",
    ),
    "last weight below 1": (
        STAGES + "  - {name: a, weight: 0.5}",
        "canary.yaml:5: the last stage must have weight 1.0, got 0.5; add a stage with weight 1.0",
    ),
    "minimum at weight 0": (
        STAGES + "  - {name: a, weight: 0, min_requests: 5}\n  - {name: b, weight: 1}",
        (
            "canary.yaml:5: canary_stages[0].weight is 0, so no conversation can ever meet its min_requests or checks; "
            "write a weight such as 0.01"
        ),
    ),
    "duplicate stage": (
        STAGES + "  - {name: a, weight: 0.5}\n  - {name: a, weight: 1}",
        "canary.yaml:6: stage 'a' has the name of canary_stages[0]; choose another",
    ),
    "no stage": (
        NAMES + "canary_stages: []",
        "canary.yaml:4: canary_stages must have at least 1 items, got a list of 0",
    ),
    "empty key": (
        NAMES + "canary_stages:",
        "canary.yaml:4: canary_stages is empty; write a value, or leave the key out",
    ),
    "stages as a mapping": (
        NAMES + "canary_stages: {initial: 0.05}",
        "canary.yaml:4: canary_stages must be a list, got a mapping; write a line with '- ' for each item, or []",
    ),
    "stage without name": (
        STAGES + "  - weight: 1",
        "canary.yaml:5: canary_stages[0].name is missing; write name: initial",
    ),
    "fraction of a conversation": (
        STAGES + "  - {name: a, weight: 1, min_requests: 1.5}",
        "canary.yaml:5: canary_stages[0].min_requests must be a whole number, got 1.5; write a whole number",
    ),
    "text for a switch": (
        STAGES + "  - {name: a, weight: 1, auto_rollback: 'yes'}",
        "canary.yaml:5: canary_stages[0].auto_rollback must be true or false, got 'yes'; write it without quotes",
    ),
    "unknown metric in a check": (
        STAGES
        + "  - name: a\n    weight: 0.1\n    checks:\n      - error_rte_increase < 0.1\n  - {name: b, weight: 1}",
        (
            "canary.yaml:8: check 'error_rte_increase < 0.1' names an unknown metric 'error_rte_increase'; "
            "did you mean 'error_rate_increase'?"
        ),
    ),
    "unknown comparison in a check": (
        STAGES
        + "  - name: a\n    weight: 0.1\n    checks:\n      - error_rate_increase > 0.1\n  - {name: b, weight: 1}",
        "canary.yaml:8: check 'error_rate_increase > 0.1' uses '>'; error_rate_increase is compared with <",
    ),
    "two checks on one metric": (
        STAGES + "  - name: a\n    weight: 0.1\n    checks: [error_rate_increase < 0.1, error_rate_increase < 0.2]\n"
        "  - {name: b, weight: 1}",
        (
            "canary.yaml:7: check 'error_rate_increase < 0.2' asks about the same metric as "
            "'error_rate_increase < 0.1'; keep one of them"
        ),
    ),
    "comparison at weight 1": (
        STAGES + "  - {name: a, weight: 1, checks: [error_rate_increase < 0.1]}",
        (
            "canary.yaml:5: check 'error_rate_increase < 0.1' cannot be met at weight 1, where nobody is on stable to "
            "compare with; move it to the stage before"
        ),
    ),
    "alpha out of range": (
        NAMES + "alpha: 5",
        "canary.yaml:4: alpha must be less than 0.5, got 5; write 0.05 for 5 %",
    ),
    "alpha that is a confidence": (
        NAMES + "alpha_promote: 0.95",
        "canary.yaml:4: alpha_promote must be less than 0.5, got 0.95; write 0.05, the share of wrong decisions",
    ),
    "alpha of zero": (
        NAMES + "alpha: 0",
        "canary.yaml:4: alpha must be more than 0, got 0",
    ),
    "margin in percent": (
        NAMES + "rollback:\n  max_error_increase: 10",
        "canary.yaml:5: rollback.max_error_increase must be less than 2, got 10; write 0.1 for 10 %",
    ),
    "negative margin": (
        NAMES + "rollback: {max_completion_drop: -0.05}",
        "canary.yaml:4: rollback.max_completion_drop must be at least 0, got -0.05; write 0.05",
    ),
    "promotion looser than rollback": (
        NAMES + "promotion: {max_completion_regression: 0.1}",
        (
            "canary.yaml:4: promotion.max_completion_regression must be within rollback.max_completion_drop (0.05), "
            "got 0.1; make it smaller"
        ),
    ),
    "promotion margin of what is not judged": (
        NAMES + "rollback: {max_completion_drop: null}\npromotion: {max_completion_regression: 0.01}",
        (
            "canary.yaml:5: promotion.max_completion_regression must be within rollback.max_completion_drop "
            "(null, so completion is not judged), got 0.01; make it smaller"
        ),
    ),
    "floor in percent": (
        NAMES + "rollback: {floor: 5}",
        "canary.yaml:4: rollback.floor is a share of conversations, got 5; write 0.05 for 5 %",
    ),
    "floor of an unknown metric": (
        NAMES + "rollback:\n  floor:\n    error_rat: 0.01",
        "canary.yaml:6: rollback.floor names an unknown metric 'error_rat'; did you mean 'error_rate'?",
    ),
    "floor of a count": (
        NAMES + "rollback: {floor: {safety_violations: 1}}",
        ("canary.yaml:4: rollback.floor.safety_violations cannot be stated: a count takes no floor; leave it out"),
    ),
    "floor of a quantile that is worse when down": (
        METRICS + "  - {name: score, kind: quantile, quantile: 0.1, worse: down, floor: 1}",
        (
            "canary.yaml:5: metrics[0].floor cannot be stated: a quantile that is worse when down takes no floor; "
            "leave it out"
        ),
    ),
    "floor that is text": (
        NAMES + "rollback: {floor: {error_rate: small}}",
        "canary.yaml:4: rollback.floor must be a number that is not negative, or one for each metric; write 0.005",
    ),
    "unknown policy": (
        NAMES + "rollback: {pinned: {harm: swich}}",
        "canary.yaml:4: rollback.pinned.harm must be 'switch' or 'finish', got 'swich'; did you mean 'switch'?",
    ),
    "unknown preset": (
        NAMES + "preset: safety-critical",
        (
            "canary.yaml:4: preset must be 'standard', 'conservative' or 'safety_critical', got 'safety-critical'; "
            "did you mean 'safety_critical'?"
        ),
    ),
    "duration without unit": (
        NAMES + "max_duration: 30",
        "canary.yaml:4: max_duration must have a unit, got 30; write 30s, 30m, 30h or 30d",
    ),
    "duration that cannot be read": (
        NAMES + "max_duration: 30 minutes",
        (
            "canary.yaml:4: max_duration must be a duration with a unit, largest first: 90s, 30m, 1h30m, 6h or 1d, "
            "got '30 minutes'"
        ),
    ),
    "duration of nothing": (
        NAMES + "look_every: 0s",
        "canary.yaml:4: look_every must be longer than 0s",
    ),
    "minutes as text": (
        NAMES + "bake_minutes: '30'",
        "canary.yaml:4: bake_minutes must be a number of minutes, got '30'; write 30",
    ),
    "negative minutes": (
        NAMES + "bake_minutes: -1",
        "canary.yaml:4: bake_minutes must be a duration from 0 to 366 days, got -1 minutes",
    ),
    "a duration stated twice": (
        NAMES + "bake: 1h\nbake_minutes: 60",
        "canary.yaml:4: bake is stated twice, with and without _minutes; keep one of them",
    ),
    "store that is no URL": (
        NAMES + "store: data.sqlite3",
        (
            "canary.yaml:4: store is not the URL of a store that is supported; "
            "write sqlite:///folder/file.sqlite3 or postgresql+psycopg://user@host/database"
        ),
    ),
    "store without driver": (
        NAMES + "store: postgresql://u:hunter2@db/x",
        (
            "canary.yaml:4: store names no driver; "
            "write sqlite:///folder/file.sqlite3 or postgresql+psycopg://user@host/database"
        ),
    ),
    "store in memory": (
        NAMES + "store: 'sqlite:///:memory:'",
        (
            "canary.yaml:4: store must name a file that all workers share, with three slashes and no options; "
            "write sqlite:///folder/file.sqlite3 or postgresql+psycopg://user@host/database"
        ),
    ),
    "store with two slashes": (
        NAMES + "store: sqlite://data.sqlite3",
        (
            "canary.yaml:4: store must name a file that all workers share, with three slashes and no options; "
            "write sqlite:///folder/file.sqlite3 or postgresql+psycopg://user@host/database"
        ),
    ),
    "store with an impossible port": (
        NAMES + "store: postgresql+psycopg://db:99999/x",
        (
            "canary.yaml:4: store is no URL; "
            "write sqlite:///folder/file.sqlite3 or postgresql+psycopg://user@host/database"
        ),
    ),
    "webhook that is no URL": (
        NAMES + "notify: [log, {webhook: hooks.example.com/T0/hunter2}]",
        "canary.yaml:4: notify[1] has a webhook that is no http or https URL; write webhook: https://host/path",
    ),
    "unknown notification": (
        NAMES + "notify: [slack]",
        "canary.yaml:4: notify[0] must be 'log' or 'webhook: https://…' or 'apprise: slack://…'",
    ),
    "short secret": (
        NAMES + "security: {cookie_secret: hunter2}",
        (
            "canary.yaml:4: security.cookie_secret must have at least 16 characters, "
            "got a value that is not shown, because it may hold a secret"
        ),
    ),
    "user without a place": (
        NAMES + "sticky_by: user",
        (
            "canary.yaml:4: sticky_by: user needs to know where the user is found; "
            "write conversation: {user_from: [header: x-user-id]}"
        ),
    ),
    "user without stickiness": (
        NAMES + "sticky: false\nsticky_by: user\nconversation: {user_from: [header: x-user]}",
        "canary.yaml:5: sticky_by: user contradicts sticky: false; leave one of them out",
    ),
    "unknown place": (
        NAMES + "conversation:\n  id_from:\n    - haeder: x-id",
        (f"canary.yaml:6: conversation.id_from[0] looks in 'haeder', which is no place; {PLACES}"),
    ),
    "place that is text": (
        NAMES + "conversation: {id_from: [x-id]}",
        (
            "canary.yaml:4: conversation.id_from[0] must be one 'place: name', such as 'header: x-session-id'; "
            f"{PLACES}; got 'x-id'"
        ),
    ),
    "composite of one place": (
        NAMES + "conversation: {id_from: [composite: [json: a]]}",
        (
            "canary.yaml:4: conversation.id_from[0] needs 2 to 10 places after composite:, "
            "such as [json: userId, json: sessionId]"
        ),
    ),
    "unknown framework": (
        NAMES + "conversation: {preset: openai-response}",
        (
            "canary.yaml:4: conversation.preset names the preset 'openai-response', which is not known; "
            "did you mean openai-responses?"
        ),
    ),
    "framework named twice": (
        NAMES + "conversation: {preset: [agui, agui]}",
        "canary.yaml:4: conversation.preset must name one preset or several different ones",
    ),
    "unknown protocol": (
        NAMES + "responses: {protocols: [soap]}",
        (
            "canary.yaml:4: responses.protocols names the protocol 'soap', which is not known; "
            "known are agui, vercel, a2a, mcp, openai-responses, openai-chat, chatkit, langgraph, adk, agno"
        ),
    ),
    "rule about two things": (
        NAMES + "responses: {error_if: [{json: a, event: b}]}",
        (
            "canary.yaml:4: responses.error_if[0] must be 'json: status' with 'one_of: [failed]' or without, "
            "or 'event: error', got {'json': 'a', 'event': 'b'}"
        ),
    ),
    "rule with a fraction": (
        NAMES + "responses: {error_if: [{json: a, one_of: [0.5]}]}",
        ("canary.yaml:4: responses.error_if[0] has one_of: [0.5]; write a list of texts, whole numbers, true or false"),
    ),
    "path without placeholder": (
        NAMES + "conversation: {id_from: [path: /threads]}",
        (
            "canary.yaml:4: conversation.id_from[0] has the path '/threads'; "
            "write it with a placeholder: /threads/{thread_id}/runs"
        ),
    ),
    "header with a space": (
        NAMES + "conversation: {id_from: [header: x id]}",
        (
            "canary.yaml:4: conversation.id_from[0] has the header 'x id'; "
            "names of headers and cookies have no spaces or separators"
        ),
    ),
    "empty JSON key": (
        NAMES + "conversation: {id_from: [json: a..b]}",
        (
            "canary.yaml:4: conversation.id_from[0] has the JSON keys 'a..b'; "
            "join keys by single dots: params.message.contextId"
        ),
    ),
    "two cookies of ours": (
        NAMES + "conversation: {id_from: [signed_cookie: a, signed_cookie: b]}",
        "canary.yaml:4: conversation.id_from names two signed cookies; keep one of them",
    ),
    "a user in our cookie": (
        NAMES + "conversation: {user_from: [signed_cookie: a]}",
        (
            "canary.yaml:4: conversation.user_from looks in a signed cookie, which holds a conversation; "
            "name a header, cookie, query, path or json"
        ),
    ),
    "metric without direction": (
        METRICS + "  - {name: cost, kind: mean}",
        "canary.yaml:5: metrics[0].worse is missing; write worse: up or worse: down",
    ),
    "metric without kind": (
        METRICS + "  - {name: cost, worse: up}",
        "canary.yaml:5: metrics[0].kind is missing; write kind: proportion, mean, ratio or quantile",
    ),
    "unknown kind": (
        METRICS + "  - {name: cost, kind: avg, worse: up}",
        "canary.yaml:5: metrics[0].kind must be 'proportion', 'mean', 'ratio' or 'quantile', got 'avg'",
    ),
    "quantile without level": (
        METRICS + "  - {name: tokens, kind: quantile, worse: up}",
        "canary.yaml:5: metrics[0].quantile is missing; write quantile: 0.95",
    ),
    "level without quantile": (
        METRICS + "  - {name: tokens, kind: mean, worse: up, quantile: 0.9}",
        "canary.yaml:5: metrics[0].quantile is for kind: quantile only; leave it out",
    ),
    "an early question about a mean": (
        METRICS + "  - {name: cost, kind: mean, worse: up, early: true}",
        "canary.yaml:5: metrics[0].early is for a proportion that is worse when up only; leave it out",
    ),
    "an early question about completion": (
        METRICS + "  - {name: task_completion_rate, early: true}",
        "canary.yaml:5: metrics[0].early is for a proportion that is worse when up only; leave it out",
    ),
    "margin of everything": (
        METRICS + "  - {name: quality, kind: mean, worse: down, rollback_margin: 1.5}",
        "canary.yaml:5: metrics[0].rollback_margin must be below 1 where down is worse, got 1.5; write 0.05 for 5 %",
    ),
    "outcome that is not observed": (
        METRICS + "  - {name: tokens, kind: mean, worse: up, outcome: turn.tokens}",
        (
            "canary.yaml:5: metrics[0].outcome 'turn.tokens' is not observed as a mean; "
            "known: turn.error (proportion or ratio), turn.aborted (proportion or ratio), "
            "turn.latency (quantile or ratio), turn.time_to_first_byte (quantile or ratio)"
        ),
    ),
    "metric twice": (
        METRICS + "  - {name: cost, kind: mean, worse: up}\n  - {name: cost, kind: mean, worse: up}",
        "canary.yaml:6: metrics[1].name 'cost' is declared twice; keep one of them",
    ),
    "metric that reads like a built-in one": (
        METRICS + "  - {name: satisfaction, kind: mean, worse: down}",
        "canary.yaml:5: metrics[0].name 'satisfaction' reads like 'user_satisfaction' in checks; choose another",
    ),
    "built-in metric redefined": (
        METRICS + "  - {name: error_rate, rollback_margin: 0.2}",
        (
            "canary.yaml:5: metrics[0].rollback_margin cannot be stated for the built-in 'error_rate', "
            "only horizon, maturity, floor, early and on_fail can; write rollback.max_error_increase"
        ),
    ),
    "metric name that checks cannot read": (
        METRICS + "  - {name: Cost per turn, kind: mean, worse: up}",
        (
            "canary.yaml:5: metrics[0].name must be 1 to 64 small letters, digits and underscores that begin with a "
            "letter, got 'Cost per turn'"
        ),
    ),
    "traffic of an unknown metric": (
        NAMES + "traffic: {stable: {error: 0.05}}",
        "canary.yaml:4: traffic.stable names an unknown metric 'error'; did you mean 'error_rate'?",
    ),
    "traffic in percent": (
        NAMES + "traffic: {stable: {error_rate: 5}}",
        "canary.yaml:4: traffic.stable.error_rate is a share of conversations, got 5; write 0.05 for 5 %",
    ),
    "digest of a token that is none": (
        NAMES + "security: {tokens: [{name: a, scopes: [read], sha256: xyz}]}",
        (
            "canary.yaml:4: security.tokens[0].sha256 must be 64 digits 0-9 and a-f, as agentcanary token prints them, "
            "got a value that is not shown, because it may hold a secret"
        ),
    ),
    "control character": (
        'agent: a\nstable: "v\\x07"',
        "canary.yaml:2: stable must be 1 to 200 printable characters without spaces around them, got 'v\\x07'",
    ),
    "half a surrogate pair": (
        'agent: a\nstable: v\ncanary: "\\ud800"',
        "canary.yaml:3: half a surrogate pair in '\\ud800'; write the character itself",
    ),
    "empty file": (
        "",
        "canary.yaml: the file is empty; write one with: agentcanary init",
    ),
    "only a comment": (
        "# later\n",
        "canary.yaml: the file is empty; write one with: agentcanary init",
    ),
    "a list": (
        "- agent: a",
        "canary.yaml:1: the file must hold keys such as 'agent: support', got a list",
    ),
    "a word": (
        "agent",
        "canary.yaml:1: the file must hold keys such as 'agent: support', got 'agent'",
    ),
    "a tab": (
        "agent: a\n\tstable: b",
        "canary.yaml:2: no valid YAML: a tab at the start of a value; indent with spaces",
    ),
    "a second document": (
        "agent: a\nstable: b\n---\nagent: c",
        "canary.yaml:3: no valid YAML: a second document begins with '---'; write one configuration a file",
    ),
    "a control character in the file": (
        "agent: a\nstable: b\x00",
        "canary.yaml:2: the character '\\x00' is not allowed in YAML; remove it",
    ),
    "an object": (
        NAMES + "notify: !!python/object/apply:os.system [ls]",
        "canary.yaml:4: the tag 'tag:yaml.org,2002:python/object/apply:os.system' is not allowed; leave it out",
    ),
    "a merge key": (
        NAMES + "rollback:\n  <<: {max_error_increase: 0.2}",
        "canary.yaml:5: merge keys (<<) are not read; write the keys out",
    ),
    "a mapping as a key": (
        NAMES + "? {a: 1}\n: 2",
        "canary.yaml:4: a key must be text; put text in quotes that begins with [, { or *",
    ),
    "a number that is too long": (
        NAMES + "alpha: " + "1" * 5000,
        "canary.yaml:4: '" + "1" * 40 + "' cannot be read as a value; put text in quotes",
    ),
    "a list within itself": (
        NAMES + "metrics: &all [*all]",
        "canary.yaml:4: an alias contains itself; write the values out",
    ),
    "too deep": (
        NAMES + "metrics: " + "[" * 5000,
        "canary.yaml:4: values are nested more than 20 deep; a configuration needs 5",
    ),
    "too large": (
        NAMES + "# " + "x" * MAX_BYTES,
        f"canary.yaml: the file has {MAX_BYTES + len(NAMES) + 2:,} bytes; a configuration may have 65,536",
    ),
}


@pytest.mark.parametrize(("text", "message"), ONE_MISTAKE.values(), ids=ONE_MISTAKE)
def test_a_mistake_gives_one_message_with_line_value_and_remedy(text: str, message: str) -> None:
    assert mistakes(text) == [message]


def test_every_mistake_is_reported_at_once_in_the_order_of_the_file() -> None:
    found = mistakes(
        "agnt: support\n"  # 1: unknown, and agent is missing
        "stable: 1.10\n"  # 2: number
        "alpha: 5\n"  # 3: percent
        "alpha: 0.05\n"  # 4: duplicate
        "canary_stages:\n"
        "  - name: initial\n"
        "    weight: 5\n"  # 7: percent
        "    checks: [error_rat_increase < 0.1]\n"  # 8: unknown metric, in a stage with another mistake
        "  - name: initial\n"  # 9: duplicate name
        "    weight: 0.5\n"
        "  - name: last\n"
        "    weight: 0.2\n"  # 12: falls, and is not 1
        "rollback:\n"
        "  max_error_increase: 10\n"  # 14: percent
        "  floor: {safety_violations: 1}\n"  # 15: no floor, in a section with another mistake
        "metrics:\n"
        "  - {name: cost, kind: avg, rollback_margin: -1}\n"  # 17: three mistakes
    )
    assert [int(mistake.split(":")[1]) for mistake in found] == [1, 1, 2, 3, 4, 7, 8, 9, 12, 12, 14, 15, 17, 17, 17]


def test_a_check_on_a_metric_with_a_mistake_is_not_called_unknown() -> None:
    found = mistakes(
        METRICS + "  - {name: cost, kind: avg, worse: up}\ncanary_stages:\n"
        "  - {name: a, weight: 0.1, checks: [cost_increase < 0.1]}\n  - {name: b, weight: 1}"
    )
    assert len(found) == 1
    assert "metrics[0].kind" in found[0]


def test_an_alias_bomb_is_refused_before_it_is_built() -> None:
    levels = [f"l{n}: &l{n} [" + ", ".join([f"*l{n - 1}"] * 10) + "]" for n in range(1, 12)]
    (found,) = mistakes("l0: &l0 [x, x, x]\n" + "\n".join(levels))
    assert "aliases make the file grow beyond 10,000 values" in found


def test_no_message_holds_a_secret() -> None:
    found = mistakes(
        NAMES + "store: mysql://u:hunter2@db/x\nsecurity: {cookie_secret: hunter2}\n"
        "notify: [{webhook: 'ftp://hooks/hunter2'}, {webhook: 7}, {webhok: 'https://hooks/hunter2'}]"
    )
    assert len(found) == 5
    assert "hunter2" not in "\n".join(found)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(tmp_path / "canary.yaml")
    message = f"{tmp_path}/canary.yaml: there is no such file; write one with: agentcanary init"
    assert refused.value.mistakes == [message]


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder; name the file in it"):
        load_config(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    file = tmp_path / "canary.yaml"
    file.write_text(NAMES)
    file.chmod(0)
    with pytest.raises(ConfigError, match="cannot be read: Permission denied"):
        load_config(file)


def test_a_path_that_cannot_be_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Not a directory"):
        load_config("/dev/null/canary.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config("canary\x00.yaml")


def test_a_file_that_is_not_utf_8_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "canary.yaml"
    file.write_bytes(b"agent: a\nstable: caf\xe9\n")
    with pytest.raises(ConfigError) as refused:
        load_config(file)
    assert refused.value.mistakes == [f"{file}:2: byte 0xe9 is not UTF-8; save the file as UTF-8"]


def test_an_endless_file_is_refused() -> None:
    with pytest.raises(ConfigError, match="a configuration may have 65,536"):
        load_config("/dev/zero")


def test_a_missing_key_has_an_example_for_every_required_key() -> None:
    required = [
        name
        for section in (FileSection, StageSection, MetricSection)
        for name, field in section.model_fields.items()
        if field.is_required()
    ]
    found = mistakes("canary_stages: [{}]\nmetrics: [{}]")
    assert len([text for text in found if " is missing; write " in text and "…" not in text]) == len(required) + 2


def test_lines_are_those_of_the_keys() -> None:
    document = read_yaml("a:\n  b:\n    - 1\n    - c: 2\n")
    assert document.data == {"a": {"b": [1, {"c": 2}]}}
    assert [document.line(path) for path in [("a",), ("a", "b"), ("a", "b", 1, "c"), ("a", "x")]] == [1, 2, 4, 1]
