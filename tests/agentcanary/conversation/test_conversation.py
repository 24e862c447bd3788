"""Finding the conversation id: the places, their order, and everything that can be wrong with an id."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcanary.conversation import (
    Body,
    Cookie,
    Extractor,
    Finder,
    Found,
    Header,
    JsonField,
    Media,
    Path,
    Problem,
    Query,
    SignedCookie,
    UnusableIdError,
    find_user,
    finder,
    is_browser,
)
from agentcanary.conversation.identity import checked, checked_json

if TYPE_CHECKING:
    from tests.agentcanary.conftest import Exchange

MakeScope = Callable[..., dict[str, Any]]
MakeExchange = Callable[..., "Exchange"]
JSON = (b"content-type", b"application/json")


def parts(body: bytes, *sizes: int) -> list[dict[str, Any]]:
    """A body as a server delivers it, in chunks."""
    cuts = [0, *sizes, len(body)]
    chunks = [body[low:high] for low, high in itertools.pairwise(cuts)]
    return [
        {"type": "http.request", "body": chunk, "more_body": number < len(chunks) - 1}
        for number, chunk in enumerate(chunks)
    ]


def search(found_by: Finder, scope: dict[str, Any], messages: list[dict[str, Any]], exchange: MakeExchange) -> Found:
    return asyncio.run(found_by.search(scope, exchange(*messages).receive))


def replayed(found: Found, count: int) -> list[Any]:
    async def read() -> list[Any]:
        return [await found.receive() for _ in range(count)]

    return asyncio.run(read())


class TestIds:
    @pytest.mark.parametrize(
        ("raw", "expected"),
        [
            (b"c-1", "c-1"),
            (b"  c-1\t", "c-1"),
            (" c-1", " c-1"),
            ("gespräch-1".encode(), "gespräch-1"),
            ("a" * 256, "a" * 256),
        ],
        ids=["plain", "around a header", "inside a document", "not ASCII", "longest"],
    )
    def test_an_id_is_taken_exactly_as_it_was_sent(self, raw: bytes | str, expected: str) -> None:
        assert checked(raw) == expected

    @pytest.mark.parametrize(
        ("raw", "problem"),
        [
            (b"", Problem.EMPTY),
            (b" \t ", Problem.EMPTY),
            ("  ", Problem.EMPTY),
            (b"a" * 257, Problem.TOO_LONG),
            (b"a" * 100_000, Problem.TOO_LONG),
            (b"\xff\xfe", Problem.INVALID_UTF8),
            (b"c\x00-1", Problem.UNPRINTABLE),
            (b"c-1\r\nset-cookie: x", Problem.UNPRINTABLE),
            ("c\u202e-1", Problem.UNPRINTABLE),
            ("c\ud800", Problem.UNPRINTABLE),
            ("c\x1f1", Problem.UNPRINTABLE),
        ],
        ids=[
            "empty", "spaces", "a space", "one too many", "far too many", "invalid UTF-8", "NUL", "line break",
            "direction override", "lone surrogate", "our separator",
        ],
    )  # fmt: skip
    def test_an_unusable_id_says_what_is_wrong(self, raw: bytes | str, problem: Problem) -> None:
        with pytest.raises(UnusableIdError) as raised:
            checked(raw)
        assert raised.value.problem is problem

    @pytest.mark.parametrize("value", [True, 1.5, ["c"], {"id": "c"}, 1 << 300], ids=str)
    def test_a_json_value_of_another_type_is_no_id(self, value: object) -> None:
        with pytest.raises(UnusableIdError) as raised:
            checked_json(value)
        assert raised.value.problem is Problem.WRONG_TYPE

    @given(st.binary(max_size=600))
    def test_any_bytes_give_a_short_printable_id_or_a_problem(self, raw: bytes) -> None:
        try:
            text = checked(raw)
        except UnusableIdError as unusable:
            problem = unusable.problem
        else:
            assert 1 <= len(text) <= 256
            assert text.isprintable()
            assert text.encode() == raw.strip(b" \t")
            return
        assert problem in (Problem.EMPTY, Problem.TOO_LONG, Problem.INVALID_UTF8, Problem.UNPRINTABLE)

    @given(st.binary(max_size=600))
    def test_the_shortcut_for_headers_accepts_what_the_rule_accepts(self, raw: bytes) -> None:
        scope: dict[str, Any] = {"headers": [(b"x-conversation-id", raw)]}
        try:
            expected: object = checked(raw)
        except UnusableIdError as unusable:
            expected = unusable.problem
        try:
            given_id: object = Header("x-conversation-id")(scope)
        except UnusableIdError as unusable:
            given_id = unusable.problem
        assert given_id == expected


class TestPlaces:
    def test_a_header_is_found_whatever_its_case_in_the_configuration(self, scope: MakeScope) -> None:
        assert Header("X-Conversation-ID")(scope("c-1")) == "c-1"
        assert Header("x-session-id")(scope("c-1")) is None

    def test_a_cookie_is_found_among_others_and_in_several_headers(self, scope: MakeScope) -> None:
        request = scope(None, (b"cookie", b"chat_x=no; other=1"), (b"cookie", b'b=2; chat="c-1"; c=3'))
        assert Cookie("chat")(request) == "c-1"
        assert Cookie("cha")(request) is None

    def test_a_query_parameter_is_decoded(self, scope: MakeScope) -> None:
        assert Query("session id")(scope(None, query=b"a=1&session%20id=c%2D1+x&session%20id=c-1%20x")) == "c-1 x"
        assert Query("session")(scope(None, query=b"session")) is None

    @pytest.mark.parametrize(
        ("path", "root", "expected"),
        [
            ("/threads/t-1/runs", "", "t-1"),
            ("/threads/t-1/runs/stream", "", "t-1"),
            ("/threads/t-1/runsx", "", None),
            ("/threads//runs", "", None),
            ("/api/threads/t-1/runs", "/api", "t-1"),
            ("/api/threads/t-1/runs", "", None),
        ],
        ids=["whole", "beginning", "longer segment", "empty", "mounted", "elsewhere"],
    )
    def test_a_path_template_matches_the_beginning(self, path: str, root: str, expected: str | None) -> None:
        assert Path("/threads/{thread_id}/runs")({"path": path, "root_path": root}) == expected

    def test_several_placeholders_make_a_composite_key(self) -> None:
        place = Path("/apps/{app}/users/{user}/sessions/{session}")
        assert place({"path": "/apps/a/users/u/sessions/s/runs"}) == "a\x1fu\x1fs"
        assert place({"path": "/apps/a/users/u"}) is None

    @pytest.mark.parametrize("template", ["/threads", "threads/{id}"])
    def test_a_path_template_without_a_placeholder_is_refused(self, template: str) -> None:
        with pytest.raises(ValueError, match="has a placeholder"):
            Path(template)

    @pytest.mark.parametrize(
        ("place", "request_of"),
        [
            (Header("x-conversation-id"), lambda make: make("a", (b"x-conversation-id", b"b"))),
            (Cookie("chat"), lambda make: make(None, (b"cookie", b"chat=a; chat=b"))),
            (Cookie("chat"), lambda make: make(None, (b"cookie", b"chat=a"), (b"cookie", b"chat=b"))),
            (Query("session"), lambda make: make(None, query=b"session=a&session=b")),
        ],
        ids=["header", "cookie", "two cookie headers", "query"],
    )
    def test_two_ids_in_one_place_that_disagree_are_none(
        self, scope: MakeScope, place: Extractor, request_of: Callable[[MakeScope], dict[str, Any]]
    ) -> None:
        with pytest.raises(UnusableIdError) as raised:
            place(request_of(scope))
        assert raised.value.problem is Problem.IDS_DISAGREE

    def test_an_id_that_is_stated_twice_is_one(self, scope: MakeScope) -> None:
        assert Header("x-conversation-id")(scope("a", (b"x-conversation-id", b"a"))) == "a"
        assert Query("session")(scope(None, query=b"session=a&session=%61")) == "a"

    def test_an_unknown_place_is_refused_by_name(self) -> None:
        with pytest.raises(ValueError, match="'body'"):
            finder([("body", "x")])


class TestJsonBodies:
    def test_the_body_is_read_and_handed_on_exactly_as_it_came(self, scope: MakeScope, exchange: MakeExchange) -> None:
        body = json.dumps({"messages": ["Grüße"] * 100, "conversation_id": "c-9"}).encode()
        messages = parts(body, 7, 300)
        found = search(finder(), scope(None, JSON, method="POST"), messages, exchange)
        assert found.unit == "c-9"
        assert replayed(found, 3) == parts(body, 7, 300)

    def test_after_the_replay_the_real_receive_answers(self, scope: MakeScope, exchange: MakeExchange) -> None:
        async def read() -> list[Any]:
            talk = exchange(*parts(b'{"session_id": "c-9"}'), disconnects=True)
            found = await finder().search(scope(None, JSON, method="POST"), talk.receive)
            return [found.unit, await found.receive(), await found.receive(), await found.receive()]

        unit, body, gone, still_gone = asyncio.run(read())
        assert unit == "c-9"
        assert body["body"] == b'{"session_id": "c-9"}'
        assert gone == still_gone == {"type": "http.disconnect"}

    def test_the_fields_are_tried_in_their_order_and_null_is_passed_over(
        self, scope: MakeScope, exchange: MakeExchange
    ) -> None:
        body = b'{"thread_id": "t", "session_id": "s", "conversation_id": null}'
        assert search(finder(), scope(None, JSON, method="POST"), parts(body), exchange).unit == "s"

    def test_keys_joined_by_dots_lead_into_the_document(self, scope: MakeScope, exchange: MakeExchange) -> None:
        places = finder([("json", "params.message.contextId")])
        body = b'{"params": {"message": {"contextId": "x-1"}}}'
        assert search(places, scope(None, JSON, method="POST"), parts(body), exchange).unit == "x-1"
        assert search(places, scope(None, JSON, method="POST"), parts(b'{"params": []}'), exchange).unit is None

    @pytest.mark.parametrize(
        ("body", "headers", "problem"),
        [
            (b'{"conversation_id": "c', (JSON,), Problem.MALFORMED_JSON),
            (b'{"conversation_id": ' + b"[" * 200_000, (JSON,), Problem.MALFORMED_JSON),
            (b'{"conversation_id": {"id": 1}}', (JSON,), Problem.WRONG_TYPE),
            (b'{"conversation_id": ""}', (JSON,), Problem.EMPTY),
            (b'{"conversation_id": "' + b"x" * 300 + b'"}', (JSON,), Problem.TOO_LONG),
            (b'{"conversation_id": "\xff"}', (JSON,), Problem.MALFORMED_JSON),
            (b'{"question": 1}', (JSON,), Problem.ABSENT),
            (b'["conversation_id"]', (JSON,), Problem.ABSENT),
            (
                gzip.compress(b'{"conversation_id": "c"}'),
                (JSON, (b"content-encoding", b"gzip")),
                Problem.COMPRESSED,
            ),
            (b'{"conversation_id": "c"}' + b" " * 2_000_000, (JSON,), Problem.BODY_TOO_LARGE),
            (
                b'{"conversation_id": "c"}',
                (JSON, (b"content-length", b"99999999999999999999")),
                Problem.BODY_TOO_LARGE,
            ),
            (
                b"conversation_id=c",
                ((b"content-type", b"application/x-www-form-urlencoded"),),
                Problem.WRONG_CONTENT_TYPE,
            ),
            (b'{"conversation_id": "c"}', ((b"content-type", b"text/plain"),), Problem.WRONG_CONTENT_TYPE),
            (b'{"conversation_id": "a", "conversation_id": "b"}', (JSON,), Problem.IDS_DISAGREE),
            (b'{"conversation_id": "a", "conversation\\u005fid": "b"}', (JSON,), Problem.IDS_DISAGREE),
            (b'{"conversation_id": "a\\u0000b"}', (JSON,), Problem.UNPRINTABLE),
            (b'{"conversation_id": "a\x00b"}', (JSON,), Problem.MALFORMED_JSON),
            (b"", (JSON,), Problem.MALFORMED_JSON),
        ],
        ids=[
            "malformed", "deep", "wrong type", "empty", "too long", "invalid UTF-8", "no field", "no object",
            "compressed", "too large", "announced too large", "a form", "plain text", "two that disagree",
            "two, one written with escapes", "NUL", "a raw NUL", "no body",
        ],
    )  # fmt: skip
    def test_a_body_without_a_usable_id_reaches_the_application_byte_for_byte(
        self,
        scope: MakeScope,
        exchange: MakeExchange,
        body: bytes,
        headers: tuple[tuple[bytes, bytes], ...],
        problem: Problem,
    ) -> None:
        cuts = tuple(range(64 * 1024, len(body), 64 * 1024))
        expected = parts(body, *cuts)
        found = search(finder(), scope(None, *headers, method="POST"), parts(body, *cuts), exchange)
        assert found.unit is None
        assert found.problem is problem
        assert replayed(found, len(expected)) == expected

    def test_a_client_that_leaves_during_the_look_is_still_seen_leaving(
        self, scope: MakeScope, exchange: MakeExchange
    ) -> None:
        half = {"type": "http.request", "body": b'{"conv', "more_body": True}
        found = search(finder(), scope(None, JSON, method="POST"), [half, {"type": "http.disconnect"}], exchange)
        assert found.problem is Problem.DISCONNECTED
        assert replayed(found, 2) == [half, {"type": "http.disconnect"}]

    @pytest.mark.parametrize(
        "request_of",
        [lambda make: make("c-1", JSON, method="POST"), lambda make: make(None, JSON), lambda make: make(None)],
        ids=["header hits", "GET", "no content type"],
    )
    def test_a_body_is_not_touched_where_it_need_not_be(
        self, scope: MakeScope, request_of: Callable[[MakeScope], dict[str, Any]]
    ) -> None:
        async def refuse() -> Any:
            raise AssertionError("the body was read")

        found = asyncio.run(finder().search(request_of(scope), refuse))
        assert found.receive is refuse

    def test_integers_are_ids(self, scope: MakeScope, exchange: MakeExchange) -> None:
        body = b'{"conversation_id": 41}'
        assert search(finder(), scope(None, JSON, method="POST"), parts(body), exchange).unit == "41"


class TestOrder:
    def test_the_first_place_that_has_an_id_counts(self, scope: MakeScope, exchange: MakeExchange) -> None:
        body = b'{"conversation_id": "from-json"}'
        request = scope("from-header", JSON, method="POST")
        assert search(finder(), request, parts(body), exchange).unit == "from-header"
        backwards = finder([("json", "conversation_id"), ("header", "x-conversation-id")])
        assert search(backwards, request, parts(body), exchange).unit == "from-json"

    def test_an_unusable_id_is_passed_over_and_remembered_as_the_reason(
        self, scope: MakeScope, exchange: MakeExchange
    ) -> None:
        both = scope(b"x" * 300, JSON, method="POST")
        assert search(finder(), both, parts(b'{"conversation_id": "c-1"}'), exchange).unit == "c-1"
        assert search(finder(), both, parts(b'{"a": 1}'), exchange).problem is Problem.TOO_LONG

    def test_an_extractor_with_a_bug_costs_no_request(self, scope: MakeScope, exchange: MakeExchange) -> None:
        def broken(_: object) -> str | None:
            raise KeyError("session")

        found = search(Finder((broken, Header("x-conversation-id"))), scope("c-1"), [], exchange)
        assert found.unit == "c-1"
        assert isinstance(found.error, KeyError)
        found = search(Finder((broken,)), scope("c-1"), [], exchange)
        assert found.problem is Problem.EXTRACTOR_FAILED

    def test_without_places_nothing_is_found(self, scope: MakeScope, exchange: MakeExchange) -> None:
        assert search(finder([]), scope("c-1"), [], exchange).problem is Problem.ABSENT


class TestTheSignedCookie:
    def test_it_gives_back_the_id_that_it_was_made_with(self, scope: MakeScope) -> None:
        cookie = SignedCookie("a secret of sixteen")
        name, value = cookie.header("c-abc", secure=True)
        assert name == b"set-cookie"
        assert {b" Path=/", b" HttpOnly", b" SameSite=Lax", b" Secure"} == set(value.split(b";")[1:])
        assert cookie(scope(None, (b"cookie", value.partition(b";")[0]))) == "c-abc"
        assert b"Secure" not in cookie.header("c-abc", secure=False)[1]

    @pytest.mark.parametrize("other", ["another secret.....", "a secret of sixteen"], ids=["secret", "value"])
    def test_a_forged_one_is_no_id(self, scope: MakeScope, other: str) -> None:
        cookie = SignedCookie("a secret of sixteen")
        pair = SignedCookie(other).header("c-abc", secure=False)[1].partition(b";")[0]
        pair = pair.replace(b"c-abc", b"c-abd") if other == cookie.secret else pair
        with pytest.raises(UnusableIdError) as raised:
            cookie(scope(None, (b"cookie", pair)))
        assert raised.value.problem is Problem.BAD_SIGNATURE

    def test_it_is_used_last_by_default(self, scope: MakeScope, exchange: MakeExchange) -> None:
        cookie = SignedCookie("a secret of sixteen")
        pair = (b"cookie", cookie.header("c-abc", secure=False)[1].partition(b";")[0])
        places = finder(cookie=cookie)
        assert search(places, scope("c-1", pair), [], exchange).unit == "c-1"
        assert search(places, scope(None, pair), [], exchange).unit == "c-abc"

    @pytest.mark.parametrize(
        ("header", "expected"),
        [
            ((b"sec-fetch-mode", b"cors"), True),
            ((b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64)"), True),
            ((b"user-agent", b"curl/8.5.0"), False),
        ],
        ids=["fetch metadata", "Mozilla", "curl"],
    )
    def test_only_browsers_are_taken_for_browsers(
        self, scope: MakeScope, header: tuple[bytes, bytes], expected: bool
    ) -> None:
        assert is_browser(scope(None, header)) is expected
        assert not is_browser({**scope(None, header), "type": "websocket"})


class TestUsers:
    def test_the_user_is_found_in_a_body_that_was_read_already(self, scope: MakeScope, exchange: MakeExchange) -> None:
        places = Finder((JsonField("user"),))
        document = Body(Media.JSON, b'{"user": "u-1"}')
        found = asyncio.run(find_user(places, scope("c-1"), exchange().receive, document))
        assert found[0] == "u-1"

    def test_the_user_is_found_in_a_body_that_was_not_read_yet(self, scope: MakeScope, exchange: MakeExchange) -> None:
        body = b'{"user": "u-1"}'

        async def look() -> tuple[str | None, bytes]:
            user, receive = await find_user(
                Finder((JsonField("user"),)), scope("c-1", JSON, method="POST"), exchange(*parts(body)).receive, None
            )
            return user, (await receive())["body"]

        assert asyncio.run(look()) == ("u-1", body)

    def test_no_user_is_no_problem(self, scope: MakeScope, exchange: MakeExchange) -> None:
        assert asyncio.run(find_user(Finder((Header("x-user"),)), scope("c-1"), exchange().receive, None))[0] is None
