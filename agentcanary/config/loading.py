"""canary.yaml → Config, or every mistake in it at once."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from agentcanary.config.consistency import contradictions
from agentcanary.config.mistakes import field_mistakes
from agentcanary.config.resolve import resolve
from agentcanary.config.sections import FileSection
from agentcanary.config.values import Config
from agentcanary.config.yaml_lines import MAX_BYTES, Document, Mistake, YamlError, read_yaml
from agentcanary.errors import ConfigError


def load(path: Path) -> Config:
    """The configuration in a file. See ``agentcanary.config.load_config``."""
    remedy = "write one with: agentcanary init"
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError([f"{path}: there is no such file; {remedy}"]) from None
    except IsADirectoryError:
        raise ConfigError([f"{path}: is a folder; name the file in it, such as {path / 'canary.yaml'}"]) from None
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None
    except ValueError as error:
        raise ConfigError([f"{str(path)!r}: cannot be read: {error}"]) from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if len(content) <= MAX_BYTES:
            line = content.count(b"\n", 0, error.start) + 1
            message = f"{path}:{line}: byte {content[error.start]:#04x} is not UTF-8; save the file as UTF-8"
            raise ConfigError([message]) from None
        text = content.decode("utf-8", "replace")
    return parse(text, str(path))


def parse(text: str, filename: str) -> Config:
    """The configuration in a text. See ``agentcanary.config.parse_config``."""
    try:
        document = read_yaml(text)
    except YamlError as error:
        raise _error(filename, error.mistakes) from None
    if document.data is None and not document.mistakes:
        raise _error(filename, [Mistake(0, "the file is empty; write one with: agentcanary init")])
    if not isinstance(document.data, dict):
        found = "a list" if isinstance(document.data, list) else f"{document.data!r:.60}"
        mistake = Mistake(1, f"the file must hold keys such as 'agent: support', got {found}")
        raise _error(filename, [*document.mistakes, mistake])
    sections, mistakes = _sections(document)
    if sections is None or mistakes:
        raise _error(filename, mistakes)
    file = Path(filename)
    try:
        return resolve(sections, file, file.parent.absolute())
    except ValueError as error:
        # The values check themselves once more; what they refuse is the file's mistake all the same.
        raise _error(filename, [Mistake(1, str(error))]) from error


def _sections(document: Document) -> tuple[FileSection | None, list[Mistake]]:
    found = list(contradictions(document.data))
    sections = None
    try:
        sections = FileSection.model_validate(document.data)
    except ValidationError as error:
        found += field_mistakes(error.errors(include_url=False), document)
    # What could not be read at all has its message already.
    mistakes = [Mistake(document.line(path), text) for path, text in found if path not in document.unread]
    return sections, [*document.mistakes, *mistakes]


def _error(filename: str, mistakes: list[Mistake]) -> ConfigError:
    return ConfigError(
        [
            f"{filename}:{mistake.line}: {mistake.text}" if mistake.line else f"{filename}: {mistake.text}"
            for mistake in sorted(set(mistakes))
        ]
    )
