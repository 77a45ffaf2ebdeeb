"""Validation against ``workflow/schemas/config.schema.json`` with one-line messages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from uas_plugin.errors import UASError, suggest
from uas_plugin.recipe.folders import ROOT

SCHEMA = ROOT / "workflow" / "schemas" / "config.schema.json"


def validate_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Check what ``snakemake --config`` was given; returns it with defaults filled in.

    Raises:
        UASError: an unknown key or a value of the wrong type.
    """
    schema = _schema()
    _validate(dict(settings), schema, "--config")
    defaults = {k: v["default"] for k, v in schema["properties"].items() if "default" in v}
    return {**defaults, **settings}


def validate_composed(config: Mapping[str, Any]) -> None:
    """Check a composed configuration.

    Raises:
        UASError: a missing or unknown key, or a value of the wrong type or range.
    """
    schema = _schema()
    kind = "composed" if "pipeline" not in config else f"composed_{config['pipeline']}"
    _validate(dict(config), {"$ref": f"#/$defs/{kind}", "$defs": schema["$defs"]}, "configuration")


def _schema() -> dict[str, Any]:
    return json.loads(SCHEMA.read_text(encoding="utf-8"))


def _validate(value: dict[str, Any], schema: dict[str, Any], where: str) -> None:
    import jsonschema

    errors = jsonschema.Draft202012Validator(schema).iter_errors(value)
    error = next(iter(sorted(errors, key=lambda e: [str(p) for p in e.absolute_path])), None)
    if error is None:
        return
    path = ".".join(str(part) for part in error.absolute_path)
    if error.validator == "additionalProperties":
        known = error.schema["properties"]
        key = next(k for k in error.instance if k not in known)
        name = f"{path}.{key}" if path else key
        raise UASError(f"unknown key '{name}' in {where}.{suggest(key, known)}")
    raise UASError(f"{where}: {path + ': ' if path else ''}{error.message}")
