"""What the README shows runs as it stands there."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentcanary import Canary

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = {
    language: re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    for language in ("python", "yaml")
}


async def talk(app: Any, canary: Canary) -> list[dict[str, str]]:
    """A conversation of two turns."""
    await canary.start()
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://agent") as http:
            turns = [{"conversation_id": "c-1", "message": message} for message in ("hello", "and now?")]
            return [(await http.post("/chat", json=turn)).json() for turn in turns]
    finally:
        await canary.stop()


def test_the_application_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("canary.yaml").write_text(BLOCKS["yaml"][0])
    names: dict[str, Any] = {}
    exec(compile(BLOCKS["python"][0], "README.md", "exec", dont_inherit=True), names)  # our own text
    first, second = asyncio.run(talk(names["app"], names["canary"]))
    assert first["reply"].endswith("You said: hello")
    assert first["version"] == second["version"]
    assert names["canary"].store.current("support") is not None


def test_the_notebook_line_of_the_readme_runs() -> None:
    exec(compile(BLOCKS["python"][1], "README.md", "exec", dont_inherit=True), {})  # our own text


def test_every_file_that_the_readme_links_to_is_there() -> None:
    root = Path(__file__).parents[2]
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (root / link).exists()] == []
