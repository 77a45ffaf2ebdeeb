"""The schema as JSON Schema, for editors, other languages, and servers that constrain output."""

from __future__ import annotations

from typing import Any

from uas_plugin.schema.model import UnifiedAudioSchema

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_NO_VOICE = {"age", "gender", "emotion", "accent", "prosody", "timbre"}
_BOUNDS = ("maxLength", "maxItems", "pattern")


def json_schema(*, rules: bool = True) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the annotation.

    Args:
        rules: with lengths, "no blank text", and "no speech, hence no vocal attributes", so that it
            accepts what :func:`~uas_plugin.schema.parse` accepts (but for repeated keys and
            unpaired surrogates, of which JSON Schema knows nothing). Without them every construct
            is one that servers with constrained output understand.
    """
    schema = UnifiedAudioSchema.model_json_schema(by_alias=True)
    _tidy(schema, rules)
    if rules:
        nothing = {"properties": {name: {"type": "null"} for name in sorted(_NO_VOICE)}}
        schema["if"] = {"properties": {"transcription": {"type": "null"}}}
        schema["then"] = {"properties": {"paralinguistics": nothing}}
    return {"$schema": DIALECT, **schema}


def _tidy(node: Any, rules: bool) -> None:
    """Drop generated titles; state that text is not blank, or drop all bounds."""
    if isinstance(node, list):
        for item in node:
            _tidy(item, rules)
    if not isinstance(node, dict):
        return
    # "title" may also be the name of a property, and then its value is a schema.
    if isinstance(node.get("title"), str):
        del node["title"]
    if rules and node.get("type") == "string" and "enum" not in node:
        node["pattern"] = r"\S"
    if not rules:
        for key in _BOUNDS:
            node.pop(key, None)
    for item in node.values():
        _tidy(item, rules)
