"""Ids in urlencoded and multipart forms, built by a client and handed on as they came."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from agentcanary.conversation import Body, FormField, Found, Media, Problem, UnusableIdError, finder

PLACE = FormField("session_id")


def search(request: httpx.Request) -> tuple[Found, bytes]:
    """What is found in a client's request, and what the application reads of it."""
    content = request.read()
    messages = [{"type": "http.request", "body": content[:40], "more_body": True}]
    messages.append({"type": "http.request", "body": content[40:], "more_body": False})

    async def receive() -> Any:
        return messages.pop(0)

    async def run() -> tuple[Found, bytes]:
        scope = {"type": "http", "method": request.method, "path": "/", "headers": request.headers.raw}
        scope["headers"] = [(name.lower(), value) for name, value in request.headers.raw]
        found = await finder([("form", "session_id")]).search(scope, receive)
        return found, (await found.receive())["body"] + (await found.receive())["body"]

    return asyncio.run(run())


@pytest.mark.parametrize(
    "request_",
    [
        httpx.Request("POST", "http://x/", data={"message": "a&b", "session_id": "s-1"}),
        httpx.Request("POST", "http://x/", data={"message": "hi", "session_id": "s-1"}, files={"f": b"\x00\xff" * 99}),
        httpx.Request("POST", "http://x/", files={"f": ("session_id", b"s-2"), "session_id": (None, "s-1")}),
    ],
    ids=["urlencoded", "multipart with a file", "a file before the field"],
)
def test_a_field_of_a_form_is_found_and_the_form_handed_on(request_: httpx.Request) -> None:
    found, seen = search(request_)
    assert found.unit == "s-1"
    assert seen == request_.content


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (Body(Media.FORM, b"session_id=a&session_id=b"), Problem.IDS_DISAGREE),
        (Body(Media.FORM, b"session_id=%ff"), Problem.INVALID_UTF8),
        (Body(Media.FORM, b"session_id=a%00b"), Problem.UNPRINTABLE),
        (Body(Media.FORM, b"session_id="), Problem.EMPTY),
        (Body(Media.MULTIPART, b"--x\r\n", b"multipart/form-data; boundary=x"), Problem.MALFORMED_FORM),
        (Body(Media.MULTIPART, b"nothing", b"multipart/form-data; boundary=x"), Problem.MALFORMED_FORM),
        (Body(Media.MULTIPART, b"--x--\r\n", b"multipart/form-data"), Problem.MALFORMED_FORM),
        (
            Body(
                Media.MULTIPART,
                b'--x\r\ncontent-disposition: form-data; name="session_id"\r\n\r\na\r\n'
                b'--x\r\ncontent-disposition: form-data; name="session_id"\r\n\r\nb\r\n--x--\r\n',
                b"multipart/form-data; boundary=x",
            ),
            Problem.IDS_DISAGREE,
        ),
    ],
    ids=["two", "not UTF-8", "NUL", "empty", "cut", "no form", "no boundary", "two parts"],
)
def test_a_form_without_a_usable_id_says_what_is_wrong(body: Body, problem: Problem) -> None:
    with pytest.raises(UnusableIdError) as raised:
        PLACE.find(body)
    assert raised.value.problem is problem


def test_the_name_of_a_file_is_no_field() -> None:
    assert search(httpx.Request("POST", "http://x/", files={"session_id": ("name", b"s-1")}))[0].unit is None
