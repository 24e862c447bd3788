"""Finding the conversation that a request belongs to."""

from agentcanary.conversation.body import Body, Media
from agentcanary.conversation.extractors import Cookie, Extractor, Header, Path, Query
from agentcanary.conversation.finder import Finder, Found, find_user
from agentcanary.conversation.forms import FormField
from agentcanary.conversation.identity import MAX_LENGTH, OURS_TO_GIVE, SEPARATOR, Problem, UnusableIdError
from agentcanary.conversation.json_reader import JsonField, JsonReader
from agentcanary.conversation.made import Made, MadeHeader, MadeValue, made_in
from agentcanary.conversation.named_places import DEFAULT_PLACES, PLACES, finder
from agentcanary.conversation.places import Composite, FirstFrame, FirstMessage, Place
from agentcanary.conversation.presets import PRESETS, REGENERATION, USER_FEEDBACK, Preset, Signal
from agentcanary.conversation.signed_cookie import SignedCookie, is_browser

__all__ = [
    "DEFAULT_PLACES",
    "MAX_LENGTH",
    "OURS_TO_GIVE",
    "PLACES",
    "PRESETS",
    "REGENERATION",
    "SEPARATOR",
    "USER_FEEDBACK",
    "Body",
    "Composite",
    "Cookie",
    "Extractor",
    "Finder",
    "FirstFrame",
    "FirstMessage",
    "FormField",
    "Found",
    "Header",
    "JsonField",
    "JsonReader",
    "Made",
    "MadeHeader",
    "MadeValue",
    "Media",
    "Path",
    "Place",
    "Preset",
    "Problem",
    "Query",
    "Signal",
    "SignedCookie",
    "UnusableIdError",
    "find_user",
    "finder",
    "is_browser",
    "made_in",
]
