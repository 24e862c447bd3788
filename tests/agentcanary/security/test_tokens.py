"""Bearer tokens: absent means closed, scopes are kept, nothing of a token is shown."""

from __future__ import annotations

import hmac

import pytest

from agentcanary.config import Scope, Security, Token, parse_config
from agentcanary.errors import ConfigError, ForbiddenError, UnauthenticatedError
from agentcanary.security import Guard, digest_of, new_token
from agentcanary.security import tokens as tokens_module

TOKEN = "ac_a-token-of-many-characters"
OTHER = "ac_another-token-of-many-characters"


class Request:
    def __init__(self, authorization: str | None = None) -> None:
        self.headers = {} if authorization is None else {"authorization": authorization}


def guard(*scopes: Scope) -> Guard:
    return Guard([("oncall", scopes or (Scope.READ,), digest_of(TOKEN)), ("judge", [Scope.RECORD], digest_of(OTHER))])


def test_a_known_token_says_who_it_is() -> None:
    principal = guard(Scope.READ).authenticate(Request(f"Bearer {TOKEN}"), Scope.READ)
    assert (principal.name, set(principal.scopes)) == ("oncall", {Scope.READ})


def test_who_may_operate_may_read() -> None:
    assert guard(Scope.OPERATE).authenticate(Request(f"bearer  {TOKEN}"), Scope.READ).may(Scope.OPERATE)


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        TOKEN,
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        "Bearer \ud800",
    ],
)
def test_anything_else_is_nobody(authorization: str | None) -> None:
    with pytest.raises(UnauthenticatedError):
        guard(*Scope).authenticate(Request(authorization), Scope.READ)


@pytest.mark.parametrize("scope", list(Scope))
def test_without_tokens_everything_is_closed(scope: Scope) -> None:
    closed = Guard.configured(Security(), {})
    assert closed.closed
    for authorization in (None, "Bearer ", f"Bearer {TOKEN}", f"Bearer {'0' * 64}"):
        with pytest.raises(UnauthenticatedError):
            closed.authenticate(Request(authorization), scope)


def test_a_token_whose_variable_is_absent_or_empty_is_closed() -> None:
    security = Security(tokens=(Token(name="ci", scopes=frozenset(Scope), env="CI_TOKEN"),))
    assert Guard.configured(security, {}).closed
    assert Guard.configured(security, {"CI_TOKEN": ""}).closed
    assert not Guard.configured(security, {"CI_TOKEN": TOKEN}).closed


def test_a_scope_that_a_token_does_not_have_is_refused_by_name() -> None:
    with pytest.raises(ForbiddenError, match=r"'judge' has the scopes record; this needs operate"):
        guard().authenticate(Request(f"Bearer {OTHER}"), Scope.OPERATE)


@pytest.mark.parametrize(
    ("variable", "scopes"),
    [
        ("AGENTCANARY_TOKEN", set(Scope)),
        ("AGENTCANARY_READ_TOKEN", {Scope.READ}),
        ("AGENTCANARY_OPERATE_TOKEN", {Scope.READ, Scope.OPERATE}),
        ("AGENTCANARY_RECORD_TOKEN", {Scope.RECORD}),
    ],
)
def test_the_environment_gives_scopes_by_name(variable: str, scopes: set[Scope]) -> None:
    found = Guard.configured(Security(), {variable: TOKEN}).principal_of(TOKEN)
    assert found is not None
    assert found.scopes == scopes


def test_the_file_gives_tokens_by_hash() -> None:
    text = f"""
agent: support
stable: v1
security:
  tokens:
    - {{name: judge, scopes: [record], sha256: {digest_of(TOKEN).hex()}}}
"""
    found = Guard.configured(parse_config(text).security, {}).principal_of(TOKEN)
    assert found is not None
    assert found.name == "judge"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{name: a, scopes: [read]}", r"canary\.yaml:4: security\.tokens\[0\] has neither env nor sha256"),
        ("{name: a, scopes: [read], env: A, sha256: " + "ab" * 32 + "}", r"has both env and sha256"),
        ("{name: a, scopes: [admin], env: A}", r"security\.tokens\[0\]\.scopes\[0\] must be"),
        ("{name: a, scopes: [], env: A}", r"security\.tokens\[0\]\.scopes"),
        ("{name: a, scopes: [read], env: A}, {name: a, scopes: [read], env: B}", "has the name of"),
        ("{name: a, scopes: [read], sha256: ac_hunter2-token-itself}", r"security\.tokens\[0\]\.sha256"),
        ("{name: a, scopes: [read], env: ac-hunter2-token-itself}", r"security\.tokens\[0\]\.env"),
    ],
)
def test_mistakes_in_the_file_are_named_and_show_no_token(written: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        parse_config(f"agent: support\nstable: v1\nsecurity:\n  tokens: [{written}]\n")
    assert "hunter2" not in str(error.value)


def test_a_token_that_is_short_enough_to_guess_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError, match="AGENTCANARY_TOKEN must be a token of 20 to 1024 characters, got 7") as error:
        Guard.configured(Security(), {"AGENTCANARY_TOKEN": "hunter2"})
    assert "hunter2" not in str(error.value)


def test_one_token_under_two_names_is_refused() -> None:
    with pytest.raises(ConfigError, match="the same token as 'token'"):
        Guard.configured(Security(), {"AGENTCANARY_TOKEN": TOKEN, "AGENTCANARY_READ_TOKEN": TOKEN})


def test_every_known_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    class Watched:
        @staticmethod
        def compare_digest(one: bytes, other: bytes) -> bool:
            compared.append(one)
            return hmac.compare_digest(one, other)

    known = guard()
    monkeypatch.setattr(tokens_module, "hmac", Watched)
    for token in (TOKEN, OTHER, "ac_a-third-token-of-many-characters"):
        compared.clear()
        known.principal_of(token)
        assert compared == [digest_of(TOKEN), digest_of(OTHER)]


def test_a_session_ends_with_its_token() -> None:
    principal = guard().principal_of(TOKEN)
    assert principal is not None
    assert guard().by_id(principal.id) == principal
    assert Guard([("oncall", [Scope.READ], digest_of(OTHER))]).by_id(principal.id) is None
    assert guard().by_id("é\ud800") is None


def test_nothing_shows_a_token() -> None:
    known = guard()
    shown = f"{known!r}{vars(known)!r}{known.principal_of(TOKEN)!r}"
    shown += repr(Token(name="a", scopes=frozenset(), sha256=digest_of(TOKEN).hex()))
    assert TOKEN not in shown
    assert digest_of(TOKEN).hex() not in shown
    assert repr(digest_of(TOKEN)) not in shown


def test_new_tokens_are_never_the_same_twice() -> None:
    assert len({new_token() for _ in range(100)}) == 100
