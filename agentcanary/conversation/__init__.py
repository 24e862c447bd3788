"""Finding the conversation that a request belongs to."""

from agentcanary.conversation.body import JsonField
from agentcanary.conversation.extractors import Cookie, Extractor, Header, Path, Query
from agentcanary.conversation.finder import DEFAULT_PLACES, Finder, Found, find_user, finder
from agentcanary.conversation.identity import MAX_LENGTH, Problem, UnusableIdError
from agentcanary.conversation.signed_cookie import SignedCookie, is_browser

__all__ = [
    "DEFAULT_PLACES",
    "MAX_LENGTH",
    "Cookie",
    "Extractor",
    "Finder",
    "Found",
    "Header",
    "JsonField",
    "Path",
    "Problem",
    "Query",
    "SignedCookie",
    "UnusableIdError",
    "find_user",
    "finder",
    "is_browser",
]
