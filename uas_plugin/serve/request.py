"""The body of a chat completion: its JSON, checked, as what the model is asked.

Known arguments that this server cannot honour are refused, unless they ask for nothing (None, or a
penalty of 0): an answer that silently lacks what was asked for is worse than none.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from uas_plugin.audiollm.generation import GenerationOptions
from uas_plugin.errors import UASError, suggest
from uas_plugin.serve.audio import decode_audio
from uas_plugin.serve.errors import APIError
from uas_plugin.serve.options import ServeOptions

MAX_CHOICES = 16
MAX_STOPS = 4
SEED_LIMIT = 2**63
VOICE = "default"
STREAMED = "pcm16"  # the one format whose pieces need no common header
# Bookkeeping of OpenAI's service, without meaning for an answer.
IGNORED = ("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key")
# Asked for with these values, they change nothing.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "prediction": (),
    "reasoning_effort": (),
    "verbosity": (),
    "web_search_options": (),
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _TextPart(_Strict):
    type: Literal["text"]
    text: str


class _AudioData(_Strict):
    data: str
    format: Literal["wav", "flac", "mp3"]


class _AudioPart(_Strict):
    type: Literal["input_audio"]
    input_audio: _AudioData


class _SpokenTurn(_Strict):
    """Audio of an earlier answer, as clients send it back; only its words are used."""

    id: str | None = None
    transcript: str | None = None
    data: str | None = None
    expires_at: int | None = None


class _Message(_Strict):
    role: Literal["system", "developer", "user", "assistant"]
    content: list[Annotated[_TextPart | _AudioPart, Field(discriminator="type")]] = []
    name: str | None = None
    audio: _SpokenTurn | None = None
    refusal: None = None
    tool_calls: None = None
    function_call: None = None
    annotations: list[Any] | None = None

    @field_validator("content", mode="before")
    @classmethod
    def _parts(cls, value: Any) -> Any:
        if isinstance(value, str):
            return [{"type": "text", "text": value}]
        return [] if value is None else value


class _Voice(_Strict):
    format: Literal["wav", "flac", "pcm16"] | None = None
    voice: str = VOICE


class _StreamOptions(_Strict):
    include_usage: bool = False
    include_obfuscation: bool = False


class _Body(_Strict):
    model: str
    messages: list[_Message] = Field(min_length=1)
    modalities: list[Literal["text", "audio"]] | None = Field(None, min_length=1, max_length=2)
    audio: _Voice | None = None
    stream: bool | None = False
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    min_tokens: int | None = Field(None, ge=0)
    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0)
    constraint: str | None = None
    n: int | None = Field(1, ge=1, le=MAX_CHOICES)
    seed: int | None = Field(None, ge=-SEED_LIMIT, lt=SEED_LIMIT)
    stop: str | list[str] | None = None
    response_format: dict[str, Any] | None = None


@dataclass(frozen=True)
class ChatRequest:
    """What the model is asked.

    Args:
        messages: as :meth:`AudioLLMGenerator.generate` takes them.
        options: of the generation, without a seed; requests of equal options share a batch.
        seeds: one per choice.
        stop: texts before which an answer ends.
        audio_format: of the audio that is wanted, or None.
        stream: answer in pieces; include_usage: with a count of tokens at the end.
    """

    messages: list[dict[str, Any]]
    options: GenerationOptions
    seeds: tuple[int, ...]
    stop: tuple[str, ...] = ()
    audio_format: str | None = None
    stream: bool = False
    include_usage: bool = False


@dataclass(frozen=True)
class Offer:
    """What a server can do.

    Args:
        model: the name it goes by. limits: of requests. audio_out: whether it has a token decoder.
        format_options: generation options for a ``response_format`` other than text; it raises
            UASError for one that the model does not know. None where it knows none.
    """

    model: str
    limits: ServeOptions
    audio_out: bool = False
    format_options: Callable[[dict[str, Any]], Mapping[str, Any]] | None = None


def parse_chat(raw: bytes, offer: Offer) -> ChatRequest:
    """Read and check a body.

    Raises:
        APIError: 400 (404 for another model's name), with the argument at fault.
    """
    body = _checked(_json_object(raw))
    if body.model != offer.model:
        raise APIError(
            404,
            f"the model '{body.model}' does not exist here: this server has '{offer.model}'",
            param="model",
            code="model_not_found",
        )
    modality, audio_format = _output(body, offer)
    if body.stream and (body.n or 1) > 1:
        raise APIError(400, "n must be 1 with stream: send several requests", param="n")
    stop = [body.stop] if isinstance(body.stop, str) else body.stop or []
    if len(stop) > MAX_STOPS or not all(stop):
        raise APIError(400, f"stop takes up to {MAX_STOPS} texts, none empty", param="stop")
    first = secrets.randbelow(SEED_LIMIT) if body.seed is None else body.seed
    return ChatRequest(
        messages=_messages(body.messages, offer.limits.max_audio_seconds),
        options=_generation(body, modality, offer),
        seeds=tuple((first + i) % SEED_LIMIT for i in range(body.n or 1)),
        stop=tuple(stop),
        audio_format=audio_format,
        stream=bool(body.stream),
        include_usage=bool(body.stream_options and body.stream_options.include_usage),
    )


def _json_object(raw: bytes) -> dict[str, Any]:
    def no_number(name: str) -> Any:
        raise ValueError(f"{name} is no JSON")

    try:
        value = json.loads(raw, parse_constant=no_number)
        if b"\\ud" in raw or b"\\uD" in raw:
            json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        raise APIError(400, f"the body is no JSON: {error}", code="invalid_json") from None
    if not isinstance(value, dict):
        raise APIError(400, "the body must be a JSON object", code="invalid_json")
    return value


def _checked(value: dict[str, Any]) -> _Body:
    known = _Body.model_fields
    arguments = {}
    for name, given in value.items():
        if name in known:
            arguments[name] = given
        elif name in NEUTRAL:
            if given is not None and given not in NEUTRAL[name]:
                message = f"'{name}' is not supported by this server: leave it out"
                raise APIError(400, message, param=name, code="unsupported_parameter")
        elif name not in IGNORED:
            hint = suggest(name, known)
            message = f"unknown argument '{name}'.{hint}"
            raise APIError(400, message, param=name, code="unknown_parameter")
    try:
        return _Body.model_validate(arguments)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        param = _path(first["loc"])
        message = f"{param}: {first['msg'][0].lower()}{first['msg'][1:]}"
        raise APIError(400, message, param=param, code="invalid_value") from None


def _path(location: tuple[int | str, ...]) -> str:
    """``messages[0].content[1].text`` of pydantic's location, which also names the part's type."""
    text = ""
    for i, step in enumerate(location):
        if i > 1 and location[i - 2] == "content" and isinstance(location[i - 1], int):
            continue
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _output(body: _Body, offer: Offer) -> tuple[str | None, str | None]:
    """The modality of the generation and the format of the audio that is wanted."""
    wanted = set(body.modalities or ["text"])
    if "audio" not in wanted:
        if body.audio is not None:
            message = 'audio is asked for, but modalities is not ["text", "audio"]'
            raise APIError(400, message, param="modalities")
        return "text", None
    if not offer.audio_out:
        raise APIError(
            400,
            "this server answers in text only: it was started without a token decoder (--codec)",
            param="modalities",
            code="unsupported_modality",
        )
    voice = body.audio or _Voice()
    if voice.voice != VOICE:
        message = f"this server has one voice, '{VOICE}'"
        raise APIError(400, message, param="audio.voice", code="unknown_voice")
    kind = voice.format or (STREAMED if body.stream else "wav")
    if body.stream and kind != STREAMED:
        message = f"audio comes in pieces with stream: set audio.format to {STREAMED}"
        raise APIError(400, message, param="audio.format")
    return (None if "text" in wanted else "audio"), kind


def _generation(body: _Body, modality: str | None, offer: Offer) -> GenerationOptions:
    limits = offer.limits
    asked = body.max_completion_tokens or body.max_tokens
    longest = asked or min(limits.default_new_tokens, limits.max_new_tokens)
    if longest > limits.max_new_tokens:
        name = "max_completion_tokens" if body.max_completion_tokens else "max_tokens"
        message = f"at most {limits.max_new_tokens} tokens are generated, not {longest}"
        raise APIError(400, message, param=name)
    values: dict[str, Any] = {
        "modality": modality,
        "max_new_tokens": longest,
        "min_new_tokens": body.min_tokens or 0,
        **_response_format(body.response_format, modality, offer),
    }
    if body.temperature:  # 0, and no word about it, are the most probable answer
        drawing = {"top_p": body.top_p, "top_k": body.top_k}
        values |= {"do_sample": True, "temperature": float(body.temperature)}
        values |= {name: value for name, value in drawing.items() if value is not None}
    if body.constraint is not None:
        values["constraint"] = body.constraint
    try:
        options = GenerationOptions.make(values)
    except UASError as error:
        raise APIError(400, str(error)) from None
    if options.modality != modality:  # a constraint has its own
        needs = ["text", "audio"] if options.modality is None else [options.modality]
        message = f"constraint '{options.constraint}' needs modalities {json.dumps(needs)}"
        raise APIError(400, message, param="constraint")
    return options


def _response_format(
    wanted: dict[str, Any] | None, modality: str | None, offer: Offer
) -> Mapping[str, Any]:
    """The generation options that a ``response_format`` stands for."""
    kind = (wanted or {"type": "text"}).get("type")
    if kind not in ("text", "json_object", "json_schema"):
        message = f"response_format.type {kind!r} is none of text, json_object, json_schema"
        raise APIError(400, message, param="response_format.type", code="invalid_value")
    if kind == "text" or wanted is None:
        return {}

    def refuse(message: str) -> APIError:
        return APIError(400, message, param="response_format", code="unsupported_response_format")

    if offer.format_options is None:
        raise refuse(f"this model cannot be held to {kind}: leave response_format out")
    if modality != "text":
        raise refuse(f'{kind} is for text answers: set modalities to ["text"]')
    if kind == "json_schema":
        given = wanted.get("json_schema")
        if not isinstance(given, dict) or not isinstance(given.get("schema"), dict):
            raise refuse("response_format.json_schema.schema must be a JSON schema")
    try:
        return offer.format_options(wanted)
    except UASError as error:
        raise refuse(str(error)) from None


def _messages(turns: list[_Message], max_seconds: float) -> list[dict[str, Any]]:
    """Messages for the model: audio decoded, at most ``max_seconds`` in all."""
    if not any(turn.role == "user" for turn in turns):
        message = "there is no message of the user to answer"
        raise APIError(400, message, param="messages", code="invalid_value")
    found = []
    for i, turn in enumerate(turns):
        parts: list[dict[str, Any]] = []
        for j, part in enumerate(turn.content):
            if isinstance(part, _TextPart):
                parts.append({"type": "text", "text": part.text})
                continue
            param = f"messages[{i}].content[{j}].input_audio"
            if turn.role != "user":
                raise APIError(400, f"{param}: only the user's turns hold audio", param=param)
            given = part.input_audio
            wav, rate = decode_audio(given.data, given.format, max_seconds=max_seconds, param=param)
            max_seconds -= wav.shape[-1] / rate
            parts.append({"type": "audio", "audio": (wav, rate)})
        parts += _spoken(turn, f"messages[{i}].audio")
        role = "system" if turn.role == "developer" else turn.role
        found.append({"role": role, "content": parts})
    return found


def _spoken(turn: _Message, param: str) -> list[dict[str, Any]]:
    """The words of a turn that was spoken by the model."""
    if turn.audio is None or any(isinstance(part, _TextPart) for part in turn.content):
        return []
    if turn.role != "assistant" or turn.audio.transcript is None:
        message = f"{param}: answers are not kept here: send the turn's text as content"
        raise APIError(400, message, param=param)
    return [{"type": "text", "text": turn.audio.transcript}]
