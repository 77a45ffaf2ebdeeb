"""Prompt files: parts ``[system]``, ``[user]`` and ``[again]`` with slots ``{{name}}``."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from uas_plugin.errors import UASError, suggest

_PART = re.compile(r"^\[(\w+)\]\n", re.MULTILINE)
_SLOT = re.compile(r"\{\{(\w+)\}\}")
PARTS = ("system", "user", "again")
SLOTS = ("duration", "transcript", "caption", "language", "reason")


@dataclass(frozen=True)
class Prompt:
    """A prompt file; a changed wording is a new version, hence a new name and hash.

    Attributes:
        name: such as ``label.v1`` (the file's name without ``.txt``).
        sha256: of the file's bytes, in hexadecimal; stored with each label.
        parts: texts by part.
    """

    name: str
    sha256: str
    parts: Mapping[str, str]

    def fill(self, part: str, slots: Mapping[str, str]) -> str:
        """A part with its slots replaced; what is put in is not searched for slots again."""
        return _SLOT.sub(lambda match: slots[match.group(1)], self.parts[part])

    def messages(self, slots: Mapping[str, str]) -> list[dict[str, Any]]:
        """The system (where there is one) and user message of a request."""
        return [
            {"role": part, "content": self.fill(part, slots)}
            for part in ("system", "user")
            if part in self.parts
        ]


def prompt_names() -> list[str]:
    """Names of the prompts that come with the package."""
    folder = resources.files("uas_plugin.annotate") / "prompts"
    return sorted(item.name.removesuffix(".txt") for item in folder.iterdir())


def load_prompt(name: str) -> Prompt:
    """Read a prompt of the package by its name, or any file by its path (``*.txt``).

    Raises:
        UASError: no such prompt, no ``[user]`` part, an unknown part or an unknown slot.
    """
    if name.endswith(".txt"):
        path = Path(name)
        if not path.is_file():
            raise UASError(f"prompt file {name} does not exist")
        content = path.read_bytes()
    else:
        if name not in prompt_names():
            known = prompt_names()
            raise UASError(
                f"there is no prompt '{name}' (there are: {', '.join(known)}; a file of your own"
                f" ends in .txt).{suggest(name, known)}"
            )
        content = (resources.files("uas_plugin.annotate") / "prompts" / f"{name}.txt").read_bytes()
    return _parse(Path(name).name.removesuffix(".txt"), content)


def _parse(name: str, content: bytes) -> Prompt:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UASError(f"prompt {name}: not UTF-8 ({error})") from None
    pieces = _PART.split(text)
    if pieces[0].strip():
        raise UASError(f"prompt {name}: text stands before the first part, such as [user]")
    parts = {key: value.strip("\n") for key, value in zip(pieces[1::2], pieces[2::2])}
    for key in parts:
        if key not in PARTS:
            raise UASError(f"prompt {name}: unknown part [{key}].{suggest(key, PARTS)}")
    if "user" not in parts:
        raise UASError(f"prompt {name}: the part [user] is missing")
    for slot in _SLOT.findall(text):
        if slot not in SLOTS:
            raise UASError(f"prompt {name}: unknown slot '{slot}'.{suggest(slot, SLOTS)}")
    return Prompt(name, hashlib.sha256(content).hexdigest(), parts)
