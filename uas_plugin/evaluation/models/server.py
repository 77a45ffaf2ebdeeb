"""Any model behind an OpenAI-compatible server: audio goes as ``input_audio``, base64 WAV.

The client is that of annotation: it repeats what fails on the way, obeys Retry-After, and stops
when the server is gone. Answers are kept by the run, not here.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from uas_plugin.errors import UASError
from uas_plugin.evaluation.models.base import Message, ModelOptions, Query
from uas_plugin.evaluation.models.content import named, part_wave, parts_of

RATE = 16_000  # Hz of the audio that is sent


class ServerModel:
    """A model of a server behind the seam.

    A constrained question asks for ``{"answer": OPTION}`` by a JSON schema, which such servers
    enforce while decoding; a server that answers something else is named as one that does not.

    Args:
        url: with its /v1. model: its name there. options: how it is asked.
        key_env: environment variable with the key, if any.
    """

    def __init__(
        self, url: str, model: str, options: ModelOptions, key_env: str = "OPENAI_API_KEY"
    ) -> None:
        from uas_plugin.annotate.options import AnnotateOptions

        self.url, self.model, self.options, self.key_env = url, model, options, key_env
        self._client_options = AnnotateOptions(
            url=url,
            model=model,
            response_format="text",
            temperature=options.temperature,
            concurrency=options.concurrency,
        )

    @property
    def name(self) -> str:
        return self.model

    def provenance(self) -> dict[str, Any]:
        """The server's address and what it is asked for: of its weights it tells nothing."""
        return {
            "kind": "openai",
            "server": self.url,
            "model": self.model,
            "sampling": self._sampling(),
            "constrained_by": "json_schema",
            "audio": f"wav, {RATE} Hz",
        }

    def _sampling(self) -> dict[str, Any]:
        if not self.options.temperature:
            return {"temperature": 0.0}
        return {"temperature": self.options.temperature, "top_p": self.options.top_p}

    def respond(self, items: Sequence[Query], /) -> list[str]:
        """The answers to ``items``; "" where the server refuses a question, with a warning.

        Raises:
            UASError: the server is down, rejects key or model, refuses every one of several
                questions, or has no answer after all retries.
        """
        from uas_plugin.annotate.client import first_error

        try:
            return asyncio.run(self._all(items))
        except* UASError as errors:
            failure = first_error(errors)
        raise failure

    async def _all(self, items: Sequence[Query]) -> list[str]:
        from uas_plugin.annotate.client import ChatClient

        client = ChatClient(self.url, self.model, self.key_env, self._client_options, None)
        room = asyncio.Semaphore(self.options.concurrency)

        async def ask(query: Query) -> str | Exception:
            async with room:
                return await self._ask(client, query)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(ask(query)) for query in items]
        finally:
            await client.close()
        return _unless_all_refused([task.result() for task in tasks], items)

    async def _ask(self, client: Any, query: Query) -> str | Exception:
        from uas_plugin.annotate.client import Refused, Unanswered

        # Reading and encoding audio must not hold up the answers of others.
        messages = await asyncio.to_thread(_messages, query)
        body = {**self._sampling(), "seed": query.seed, "max_tokens": query.max_new_tokens}
        if query.constrained:
            body["response_format"] = _one_of(query.choices)
        try:
            answer = await client.ask(messages, body)
        except Refused as error:
            return error
        except Unanswered as error:
            raise UASError(f"item {query.id}: no answer: {error}; run again to go on") from None
        return _chosen(answer.text, query) if query.constrained else answer.text.strip()


def _unless_all_refused(answers: Sequence[str | Exception], items: Sequence[Query]) -> list[str]:
    """The answers, "" for a refusal; a server that refuses everything cannot be asked like this."""
    refused = [k for k, answer in enumerate(answers) if isinstance(answer, Exception)]
    if len(refused) == len(answers) > 1:
        raise UASError(f"the server refuses all {len(answers)} questions: {answers[0]}")
    for k in refused:
        logging.warning("item %s: the server refuses it, no answer: %s", items[k].id, answers[k])
    return ["" if isinstance(answer, Exception) else answer for answer in answers]


def _messages(query: Query) -> list[dict[str, Any]]:
    """The messages in OpenAI's form."""
    return [_message(query, message) for message in query.messages]


def _message(query: Query, message: Message) -> dict[str, Any]:
    if isinstance(message["content"], str):
        return {"role": message["role"], "content": message["content"]}
    content = []
    for part in parts_of(message):
        if part["type"] == "text":
            content.append({"type": "text", "text": part["text"]})
            continue
        try:
            data = _wav(part)
        except UASError as error:
            raise named(query, error) from None
        content.append({"type": "input_audio", "input_audio": {"data": data, "format": "wav"}})
    return {"role": message["role"], "content": content}


def _wav(part: Mapping[str, Any]) -> str:
    """Base64 of a 16-bit WAV file with a part's audio."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, part_wave(part, RATE), RATE, format="WAV", subtype="PCM_16")
    return base64.b64encode(file.getvalue()).decode("ascii")


def _one_of(choices: Sequence[str]) -> dict[str, Any]:
    """The response format whose answers are ``{"answer": one of choices}``."""
    schema = {
        "type": "object",
        "properties": {"answer": {"type": "string", "enum": list(choices)}},
        "required": ["answer"],
        "additionalProperties": False,
    }
    return {
        "type": "json_schema",
        "json_schema": {"name": "choice", "strict": True, "schema": schema},
    }


def _chosen(text: str, query: Query) -> str:
    try:
        answer = json.loads(text)["answer"]
    except (ValueError, KeyError, TypeError):
        answer = None
    if answer not in query.choices:
        raise UASError(
            f"item {query.id}: the server was asked for one of the options by a JSON schema and "
            f"answers {text[:60]!r}: it does not constrain answers; leave constrained choice off"
        )
    return answer


def load(where: str, options: ModelOptions) -> ServerModel:
    """``openai:URL#NAME``, see :func:`uas_plugin.evaluation.models.load_model`.

    Raises:
        UASError: there is no model's name, or the URL is not one of a server.
    """
    url, mark, model = where.partition("#")
    if not mark or not model:
        raise UASError(
            f"model 'openai:{where}': name the server's model behind a '#' "
            "(openai:http://HOST:PORT/v1#NAME)"
        )
    return ServerModel(url.rstrip("/"), model, options)
