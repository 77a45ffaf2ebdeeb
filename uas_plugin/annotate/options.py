"""Options of annotation: one dataclass for YAML, the command line and the code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self
from urllib.parse import urlsplit

from uas_plugin.errors import UASError, suggest

FORMATS = ("json_schema", "json_object", "text")
"""How an answer's form may be asked for, strictest first; a server may offer none of the first."""


def _option(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True, kw_only=True)
class AnnotateOptions:
    """Which models to ask, how, and what to accept; the meaning of each stands beside it."""

    url: str | None = _option(None, "OpenAI-compatible server, with its /v1")
    model: str | None = _option(None, "language model that writes the JSON")
    api_key_env: str = _option("OPENAI_API_KEY", "environment variable with the key, if any")
    caption_url: str | None = _option(None, "server of the caption model (default: url)")
    caption_model: str | None = _option(None, "audio model asked where a cut has no caption")
    caption_api_key_env: str = _option("OPENAI_API_KEY", "environment variable with its key")
    prompt: str = _option("label.v1", "prompt by name, or a file (*.txt)")
    caption_prompt: str = _option("caption.v1", "the same for captions")
    temperature: float = _option(0.0, "sampling temperature of both models")
    max_tokens: int = _option(2048, "longest answer, tokens")
    seed: int = _option(0, "sampling seed of both models")
    response_format: str = _option("auto", "auto, json_schema, json_object or text")
    repair: bool = _option(False, "read answers leniently (each liberty is stored as a warning)")
    asks: int = _option(2, "times a label is asked for: again with the reason of the rejection")
    concurrency: int = _option(32, "cuts worked on at the same time")
    num_workers: int = _option(1, "processes that share them; one asks some 300 questions a second")
    timeout_s: float = _option(120.0, "time of one request, s")
    retries: int = _option(6, "further tries of a request that failed on the way")
    backoff_s: float = _option(0.5, "wait before the first retry, s; doubles, with jitter")
    max_backoff_s: float = _option(30.0, "longest such wait, s")
    shard_size: int = _option(500, "cuts a shard")
    words_base: float = _option(40.0, "words of description allowed in any clip")
    words_per_second: float = _option(12.0, "and more for each second")
    events_base: float = _option(4.0, "events allowed in any clip")
    events_per_second: float = _option(2.0, "and more for each second")
    chars_per_second: float = _option(40.0, "most characters of a transcript a second")

    def __post_init__(self) -> None:
        for name in ("url", "caption_url"):
            _check_url(name, getattr(self, name))
        if self.response_format not in ("auto", *FORMATS):
            raise UASError(
                f"response_format '{self.response_format}' is none of auto, {', '.join(FORMATS)}"
            )
        for name in ("asks", "concurrency", "num_workers", "shard_size", "max_tokens"):
            if getattr(self, name) < 1:
                raise UASError(f"{name} must be at least 1")
        if self.num_workers > self.concurrency:
            raise UASError(
                f"num_workers {self.num_workers} is above concurrency {self.concurrency}"
            )
        if self.timeout_s <= 0 or self.retries < 0 or self.backoff_s < 0:
            raise UASError("timeout_s must be above 0, retries and backoff_s at least 0")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """From a section of the configuration (its ``sets`` belongs to the workflow).

        Raises:
            UASError: an unknown key, with the nearest known one, or a value of the wrong type.
        """
        known = {item.name: item for item in fields(cls)}
        given = {key: value for key, value in values.items() if key != "sets"}
        for key, value in given.items():
            if key not in known:
                raise UASError(f"annotate: unknown key '{key}'.{suggest(key, known)}")
            kind = option_type(known[key].default)
            if kind is float and isinstance(value, int) and not isinstance(value, bool):
                given[key] = float(value)
            elif type(value) is not kind and not (value is None and known[key].default is None):
                raise UASError(f"annotate: {key} must be {kind.__name__}, not {value!r}")
        return cls(**given)

    def sampling(self) -> dict[str, Any]:
        """What decides an answer beside the model and the messages."""
        return {
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
        }


def option_type(default: Any) -> type:
    """Type of an option, by its default (None stands for a text that may be absent)."""
    return str if default is None else type(default)


def _check_url(name: str, url: str | None) -> None:
    if url is None:
        return
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UASError(f"{name} must begin with http:// or https:// and name a host")
    if parts.username or parts.password:
        # It would stand in configuration files and logs.
        raise UASError(f"{name} must not hold a name or password: put the key in api_key_env")
