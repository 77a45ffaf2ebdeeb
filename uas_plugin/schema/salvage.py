"""Find the JSON object in what a model wrote, and close it where it was cut off."""

from __future__ import annotations

import json
import re
from typing import Any

from uas_plugin.schema.model import SchemaError
from uas_plugin.schema.text import MAX_DEPTH, MAX_TEXT, STRING, nesting

CUT = "\ufdd0cut"
"""Stands at the end of a string that the text broke off in (U+FDD0 is no character)."""

_FENCE = re.compile(r"```[a-zA-Z]*")
# What matters for the structure: whole strings, a string that never ends, marks.
_TOKEN = re.compile(STRING + r'|["{}\[\],:]', re.DOTALL)
_HALF_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_CLOSING = {"{": "}", "[": "]"}


def find_object(text: str, warnings: list[str]) -> dict[str, Any]:
    """The first JSON object in ``text``; what was dropped or closed is added to ``warnings``.

    A text that ends before its object does is closed. That is unambiguous: the last key without a
    value, or literal without an end, is dropped; a string keeps what was written of it, and ends
    with :data:`CUT`. An object that is broken in its middle is refused: nobody can tell what
    belongs where.

    Raises:
        SchemaError: no object, nested too deep, or broken; with the place.
    """
    if len(text) > MAX_TEXT:
        warnings.append(f"text cut after {MAX_TEXT} characters")
        text = text[:MAX_TEXT]
    start = text.find("{")
    if start < 0:
        raise SchemaError("", "no JSON object in the text")
    before, text = text[:start], text[start:]
    fenced = "```" in before
    if fenced:
        warnings.append("code fence removed")
    if _FENCE.sub("", before).strip():
        warnings.append("text before the object dropped")
    if nesting(text) > MAX_DEPTH:
        raise SchemaError("", f"brackets are nested deeper than {MAX_DEPTH}")
    try:
        value, end = _DECODER.raw_decode(text)
    except ValueError:
        fence = text.rfind("```") if fenced else -1
        value = _decode_broken(text[:fence] if fence > 0 else text, warnings)
    else:
        after = text[end:]
        if (_FENCE.sub("", after) if fenced else after).strip():
            warnings.append("text after the object dropped")
    if not isinstance(value, dict):
        raise SchemaError("", f"expected a JSON object, got {type(value).__name__}")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value")


_DECODER = json.JSONDecoder(strict=False, parse_constant=_no_constant)


def _decode_broken(text: str, warnings: list[str]) -> Any:
    """Without trailing commas; if it was cut off, closed; else refused."""
    tidy, candidates = _outline(text.replace(CUT, ""))
    if len(tidy) < len(text) and not candidates:
        warnings.append("trailing comma removed")
    elif candidates:
        warnings.append("cut-off text completed")
    for candidate in candidates or [tidy]:
        try:
            return _DECODER.raw_decode(candidate)[0]
        except ValueError as error:
            problem = error
    where = f" at character {problem.pos}" if isinstance(problem, json.JSONDecodeError) else ""
    raise SchemaError("", f"the JSON object is broken{where}")


def _outline(text: str) -> tuple[str, list[str]]:
    """The text without trailing commas, up to the end of its object.

    Returns:
        that text, and, where the object never ends, the ways to close it, best first.
    """
    pieces: list[str] = []
    open_brackets: list[str] = []
    done = 0  # up to where the text is in pieces
    last = ""  # the mark or string before
    comma = 0  # where in pieces the last comma stands
    for match in _TOKEN.finditer(text):
        mark = match.group()
        if mark == '"':
            break
        if mark in ("}", "]"):
            if not open_brackets or _CLOSING[open_brackets.pop()] != mark:
                raise SchemaError("", f"'{mark}' at character {match.start()} closes nothing")
            if last == "," and not text[done : match.start()].strip():
                pieces[comma] = ""
        elif mark in ("{", "["):
            open_brackets.append(mark)
        pieces += [text[done : match.start()], mark]
        done, last = match.end(), mark
        if mark == ",":
            comma = len(pieces) - 1
        if not open_brackets:
            return "".join(pieces), []
    body, rest = "".join(pieces), text[done:]
    closing = "".join(_CLOSING[bracket] for bracket in reversed(open_brackets))
    return body + rest, _closed(body, rest, last, closing)


def _closed(body: str, rest: str, last: str, closing: str) -> list[str]:
    """Ways to end ``body + rest``, where ``rest`` begins behind the last complete mark ``last``."""
    candidates = []
    if rest.lstrip().startswith('"'):
        candidates.append(f'{body}{_HALF_ESCAPE.sub("", rest)}{CUT}"{closing}')
    elif last != ",":
        candidates.append(f"{body}{rest}{closing}")
    # The value that was begun cannot be read: a key without its value says nothing.
    if last == ":":
        candidates.append(f"{body}null{closing}")
    elif last == ",":
        candidates.append(f"{body[:-1]}{closing}")
    elif last in ("{", "["):
        candidates.append(f"{body}{closing}")
    elif last.startswith('"'):  # a key without its colon
        head = body[: len(body) - len(last)].rstrip()
        candidates.append(f"{head[:-1] if head.endswith(',') else head}{closing}")
    return candidates
