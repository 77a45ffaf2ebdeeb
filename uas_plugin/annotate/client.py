"""Asking an OpenAI-compatible server: retries, back-off, time-outs, response formats."""

from __future__ import annotations

import asyncio
import email.utils
import json
import logging
import os
import random
import time
from collections.abc import Mapping
from typing import Any

from uas_plugin.annotate.cache import Answer
from uas_plugin.annotate.options import FORMATS, AnnotateOptions
from uas_plugin.errors import UASError

MAX_RETRY_AFTER_S = 300.0
# So many requests in a row that used up their retries (or twice as many as are in flight) mean that
# the server is gone, even when something on its port still answers.
GIVE_UP_AFTER = 16
_PROBE_S = 10.0


class ServerDown(UASError):
    """The server does not answer any more: the run stops with what it has."""


class Unanswered(Exception):
    """One request used up its retries while the server is alive; a later run asks it again."""


class Refused(Exception):
    """The server will not answer this request, whatever the number of tries."""


class _Transient(Exception):
    """A failure that may pass; ``wait`` is what the server asked for, in s."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class ChatClient:
    """One model behind one server. Use it from one event loop.

    Attributes:
        requests, retries: what was sent in this run, and how much of it again.
        model: the model's name in requests.
    """

    def __init__(
        self, url: str, model: str, key_env: str, options: AnnotateOptions, schema: dict | None
    ) -> None:
        """``schema``: JSON schema of an answer; None for free text.

        Raises:
            UASError: the package openai is not installed.
        """
        try:
            import httpx2
            import openai
        except ImportError:
            raise UASError(
                "asking a server needs the packages openai and aiohttp: "
                "local/setup.sh --extra annotate"
            ) from None
        # Each request would be a line of the log.
        for name in ("httpx", "httpx2", "openai"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self.url, self.model, self.options = url, model, options
        self._key_env = key_env
        self._key = os.environ.get(key_env, "")
        room = options.concurrency + 8
        limits = httpx2.Limits(max_connections=room, max_keepalive_connections=room)
        self._openai, self._response_type = openai, httpx2.Response
        self._client = openai.AsyncOpenAI(
            base_url=url,
            # A server of one's own often wants no key, but the client insists on some text.
            api_key=self._key or "none",
            max_retries=0,
            timeout=options.timeout_s,
            # aiohttp's transport costs a third of the default one's time a request.
            http_client=openai.DefaultAioHttpClient(limits=limits),
        )
        self._formats = self._response_formats(schema)
        self._random = random.Random()
        self._not_before = 0.0
        self._failed_in_row = 0
        self._down: ServerDown | None = None
        self.requests = self.retries = self.successes = 0

    def _response_formats(self, schema: dict | None) -> list[tuple[str, dict[str, Any]]]:
        """(name, request fields) of the response formats to try, strictest first."""
        if schema is None:
            return [("text", {})]
        wrapped = {"name": "unified_audio_schema", "strict": True, "schema": schema}
        fields: dict[str, dict[str, Any]] = {
            "json_schema": {"response_format": {"type": "json_schema", "json_schema": wrapped}},
            "json_object": {"response_format": {"type": "json_object"}},
            "text": {},
        }
        asked = self.options.response_format
        return [(name, fields[name]) for name in (FORMATS if asked == "auto" else (asked,))]

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def ask(
        self, messages: list[dict[str, Any]], body: Mapping[str, Any] | None = None
    ) -> Answer:
        """The model's answer to messages in OpenAI's form.

        Args:
            body: more fields of the request, or other values than the options' (``seed``, ...).

        Raises:
            Refused: the server rejects this request.
            Unanswered: the tries are used up, though the server lives.
            ServerDown: the tries are used up and the server is gone.
            UASError: the server rejects the key, the model or the address.
        """
        reason = ""
        for attempt in range(self.options.retries + 1):
            if self._down is not None:
                raise self._down
            await self._wait_for_permission()
            self.retries += attempt > 0
            try:
                # The client's own time-out is one between two packets: it would let a server that
                # sends a byte now and then go on for ever.
                async with asyncio.timeout(self.options.timeout_s):
                    answer = await self._ask_once(messages, body or {})
            except TimeoutError:
                failure = _Transient(f"no answer within {self.options.timeout_s:g} s")
            except _Transient as error:
                failure = error
            else:
                self.successes += 1
                self._failed_in_row = 0
                return answer
            reason = str(failure)
            if attempt < self.options.retries:
                await self._back_off(attempt, failure.wait)
        raise await self._give_up(reason)

    async def _wait_for_permission(self) -> None:
        """After a 429 with Retry-After, nobody asks before that time."""
        while (wait := self._not_before - time.monotonic()) > 0:
            await asyncio.sleep(wait)

    async def _back_off(self, attempt: int, asked_for: float | None) -> None:
        longest = min(self.options.max_backoff_s, self.options.backoff_s * 2**attempt)
        jitter = self._random.uniform(0, longest)
        if asked_for is not None:
            wait = min(asked_for, MAX_RETRY_AFTER_S)
            self._not_before = max(self._not_before, time.monotonic() + wait)
            # Those who waited together should not come back together.
            jitter = self._random.uniform(0, max(self.options.backoff_s, 0.1 * wait))
            jitter += wait
        await asyncio.sleep(jitter)

    async def _ask_once(self, messages: list[dict[str, Any]], body: Mapping[str, Any]) -> Answer:
        """Send the request, in a less strict response format where a stricter one is refused."""
        refusal = ""
        formats = self._formats
        for level, (name, fields) in enumerate(formats):
            try:
                answer = await self._send(messages, name, {**fields, **body})
            except Refused as error:
                refusal = refusal or str(error)
                continue
            # Another request that was on its way may have found it out first.
            if level and self._formats is formats:
                # Only the success of the next format shows that the format was what it refused.
                logging.warning(
                    "the server refuses the response format %s (%s): going on with %s",
                    formats[0][0], refusal, name,
                )  # fmt: skip
                self._formats = formats[level:]
            return answer
        raise Refused(refusal)

    async def _send(self, messages: list[dict[str, Any]], name: str, fields: dict) -> Answer:
        openai = self._openai
        self.requests += 1
        body = {"model": self.model, "messages": messages, **self.options.sampling(), **fields}
        try:
            # The plain response: building the client's typed objects would take longer than the
            # rest of a request.
            response = await self._client.post(
                "/chat/completions",
                cast_to=self._response_type,
                body=body,
                options={"security": {"bearer_auth": True}},  # no other key of the environment
            )
        except openai.APIStatusError as error:
            raise self._of_status(error) from None
        except (openai.APIConnectionError, *_client_errors()) as error:
            cause = error.__cause__ or error
            raise _Transient(self._clean(f"{type(cause).__name__} {cause}")) from None
        return _read(response.content, name, self.model)

    def _of_status(self, error: Any) -> Exception:
        """What an error status means for the request, or for the run."""
        status = error.status_code
        reason = self._clean(f"{status}: {error.message}")
        if status in (408, 409, 425, 429) or status >= 500:
            return _Transient(reason, _retry_after(error.response.headers.get("retry-after")))
        if status == 401 or (status in (403, 404) and not self.successes):
            return UASError(
                f"the server answers {reason}. Check url, model '{self.model}', and the key in"
                f" ${self._key_env} ({'set' if self._key else 'not set'})"
            )
        return Refused(reason)

    async def _give_up(self, reason: str) -> Exception:
        """The error of a request without an answer: is it this request, or the server?"""
        self._failed_in_row += 1
        most = max(GIVE_UP_AFTER, 2 * self.options.concurrency)
        if self._failed_in_row < most and await self._is_alive():
            return Unanswered(reason)
        self._down = self._down or ServerDown(f"the server at {self.url} does not answer: {reason}")
        return self._down

    async def _is_alive(self) -> bool:
        """Whether the server's list of models can be read, or is at least refused in words."""
        openai = self._openai
        limit = min(_PROBE_S, self.options.timeout_s)
        try:
            async with asyncio.timeout(limit):
                await self._client.get("/models", cast_to=self._response_type)
        except openai.APIStatusError as error:
            return error.status_code < 500
        except (TimeoutError, openai.APIConnectionError, *_client_errors()):
            return False
        return True

    def _clean(self, text: str) -> str:
        """One short line without the key, which some servers repeat in their errors."""
        if self._key:
            text = text.replace(self._key, "***")
        return " ".join(text.split())[:300]


def first_error(errors: BaseExceptionGroup) -> UASError:
    """One of the errors: with a server that is down, all say the same."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, UASError)
    return error


def _client_errors() -> tuple[type[Exception], ...]:
    """What the transport raises beside the errors that openai knows, such as for broken headers."""
    import aiohttp
    import httpx2

    return aiohttp.ClientError, httpx2.HTTPError


def _read(content: bytes, name: str, model: str) -> Answer:
    """The answer in a response's body.

    Raises:
        _Transient: the body is no chat completion (half of one, or an error page with status 200).
    """
    try:
        body = json.loads(content)
        choice = body["choices"][0]
        text = choice["message"]["content"]
        usage = body.get("usage") or {}
        counts = [int(usage.get(f"{kind}_tokens") or 0) for kind in ("prompt", "completion")]
        finish, reported = choice.get("finish_reason"), body.get("model") or model
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise _Transient(f"the response is no chat completion ({type(error).__name__})") from None
    if text is not None and not isinstance(text, str):
        raise _Transient("the response's message is no text")
    return Answer(text or "", finish, name, str(reported), *counts)


def _retry_after(header: str | None) -> float | None:
    """Seconds that a Retry-After header asks for, given in seconds or as a date."""
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return None
