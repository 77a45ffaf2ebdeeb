"""The HTTP side: routes, and the exchange with one client."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from uas_plugin.errors import UASError
from uas_plugin.serve.answer import Writer, event
from uas_plugin.serve.batching import Batcher, Job
from uas_plugin.serve.body import BodyReader
from uas_plugin.serve.engine import Ask, End, Engine, Piece
from uas_plugin.serve.errors import APIError, ClientGone
from uas_plugin.serve.options import ServeOptions
from uas_plugin.serve.request import ChatRequest, Offer, parse_chat

UPLOADS = 16  # bodies of full size that may be on their way together
GONE = 499  # nginx's status for a client that left; nobody reads it
Handler = Callable[[Request], Awaitable[Response]]


class Exchange:
    """The jobs of one request and its client, who may leave or run out of time.

    Args:
        batcher: has the jobs. jobs: of this request. request: whose end is watched.
        timeout: seconds for the whole answer.
    """

    def __init__(self, batcher: Batcher, jobs: list[Job], request: Request, timeout: float) -> None:
        self.batcher, self.jobs, self.timeout = batcher, jobs, timeout
        self._open = set(jobs)
        self._end = asyncio.get_running_loop().time() + timeout
        self._left = asyncio.create_task(self._watch(request))

    @staticmethod
    async def _watch(request: Request) -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    async def next(self, job: Job) -> Piece | End:
        """The next event of ``job``.

        Raises:
            ClientGone: the client left.
            APIError: the job failed, or time is up.
        """
        getter = asyncio.create_task(job.events.get())
        left = self._end - asyncio.get_running_loop().time()
        try:
            await asyncio.wait(
                (getter, self._left), timeout=left, return_when=asyncio.FIRST_COMPLETED
            )
            if getter.done():
                found = getter.result()
                if not isinstance(found, Piece):
                    self._open.discard(job)
                if isinstance(found, Exception):
                    raise as_api_error(found)
                return found
        finally:
            getter.cancel()
        if self._left.done():
            raise ClientGone
        raise APIError(504, f"no answer within {self.timeout:g} s", code="timeout")

    async def whole(self, job: Job) -> tuple[list[Piece], End]:
        """All of an answer."""
        pieces: list[Piece] = []
        while isinstance(found := await self.next(job), Piece):
            pieces.append(found)
        return pieces, found

    def close(self) -> None:
        """Stop watching; what is not finished is not wanted any more."""
        self._left.cancel()
        for job in self._open:
            self.batcher.abandon(job)


class EventStream(Response):
    """An answer in server-sent events; ``first`` has come already, so the status is known."""

    media_type = "text/event-stream"

    def __init__(
        self, exchange: Exchange, writer: Writer, first: Piece | End, *, include_usage: bool
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-store"})
        del self.headers["content-length"]
        self.exchange, self.writer, self.first = exchange, writer, first
        self.include_usage = include_usage

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        try:
            await send(start)
            async for content in self._events():
                await send({"type": "http.response.body", "body": content, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except (ClientGone, OSError):
            logging.debug("a client left its stream")
        finally:
            self.exchange.close()

    async def _events(self) -> AsyncIterator[bytes]:
        yield self.writer.opening()
        found, job = self.first, self.exchange.jobs[0]
        try:
            while isinstance(found, Piece):
                for content in await asyncio.to_thread(self.writer.events, found):
                    yield content
                found = await self.exchange.next(job)
            for content in self.writer.closing(found, include_usage=self.include_usage):
                yield content
        except APIError as error:  # too late for a status
            yield event(error.to_dict())


class Service:
    """The handlers of one server.

    Args:
        engine: has the model. name: the model's. options: limits.
        api_key: wanted of clients as a bearer token; None: anybody is answered.
    """

    def __init__(
        self, engine: Engine, name: str, options: ServeOptions, api_key: str | None = None
    ) -> None:
        self.engine, self.options, self._api_key = engine, options, api_key
        codec = engine.codec
        self.sampling_rate = codec.sampling_rate if codec is not None else 0
        self.offer = Offer(name, options, codec is not None, engine.format_options)
        self.reader = BodyReader(
            options.max_body, budget=UPLOADS * options.max_body, timeout=options.read_timeout
        )
        self.batcher: Batcher

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Work while the server runs."""
        self.batcher = Batcher(
            self.engine.run,
            max_batch=self.options.max_batch,
            wait=self.options.wait_ms / 1000,
            max_waiting=self.options.max_waiting,
        )
        self.batcher.start()
        try:
            yield
        finally:
            await self.batcher.close()

    def private(self, handler: Handler) -> Handler:
        """``handler`` for clients that have the key."""

        async def checked(request: Request) -> Response:
            given = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
            key = self._api_key
            # Headers come as latin-1, whatever the client wrote.
            if key is not None and not hmac.compare_digest(given.encode("latin-1"), key.encode()):
                message = "no or a wrong API key: send 'Authorization: Bearer KEY'"
                raise APIError(401, message, code="invalid_api_key")
            return await handler(request)

        return checked

    async def health(self, _: Request) -> Response:
        """Whether requests are worked on, and how many."""
        healthy = self.batcher.healthy
        content = {"status": "ok" if healthy else "unavailable", **self.batcher.load()}
        return JSONResponse(content, 200 if healthy else 503)

    def _model(self) -> dict[str, Any]:
        return {"id": self.offer.model, "object": "model", "created": 0, "owned_by": "uas_plugin"}

    async def models(self, _: Request) -> Response:
        """The one model."""
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def model(self, request: Request) -> Response:
        """The model of a name."""
        name = request.path_params["name"]
        if name != self.offer.model:
            message = f"the model '{name}' does not exist here"
            raise APIError(404, message, param="model", code="model_not_found")
        return JSONResponse(self._model())

    async def chat(self, request: Request) -> Response:
        """Answer a conversation."""
        self.batcher.check_room()  # before anything is uploaded
        raw = await self.reader.read(request)
        asked = await asyncio.to_thread(parse_chat, raw, self.offer)
        del raw
        jobs = [Job(asked.options, Ask(asked, seed)) for seed in asked.seeds]
        self.batcher.submit(jobs)
        exchange = Exchange(self.batcher, jobs, request, self.options.timeout)
        writer = Writer(self.offer.model, asked.audio_format, self.sampling_rate)
        try:
            if asked.stream:
                return await self._stream(exchange, writer, asked)
            choices = [await exchange.whole(job) for job in jobs]
        except BaseException:
            exchange.close()
            raise
        exchange.close()
        return JSONResponse(await asyncio.to_thread(writer.completion, choices))

    @staticmethod
    async def _stream(exchange: Exchange, writer: Writer, asked: ChatRequest) -> Response:
        first = await exchange.next(exchange.jobs[0])
        return EventStream(exchange, writer, first, include_usage=asked.include_usage)


def as_api_error(error: Exception) -> APIError:
    """What a client is told of ``error``; the reason of an error that is ours stays in the log."""
    if isinstance(error, APIError):
        return error
    if isinstance(error, UASError):
        return APIError(400, str(error), param="messages", code="invalid_value")
    return APIError(500, "the model failed on this request; the server's log has the reason")


def _answer_error(_: Request, error: Exception) -> Response:
    refused = as_api_error(error)
    return JSONResponse(refused.to_dict(), refused.status, refused.headers)


def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}"
    known = "POST /v1/chat/completions, GET /v1/models, GET /health"
    refused = APIError(error.status_code, f"{message}; there is {known}")
    return JSONResponse(refused.to_dict(), refused.status, error.headers)


def _answer_nobody(_: Request, __: Exception) -> Response:
    return Response(status_code=GONE)


def make_app(
    engine: Engine, name: str, options: ServeOptions, api_key: str | None = None
) -> Starlette:
    """The ASGI application; arguments as of :class:`Service`."""
    service = Service(engine, name, options, api_key)
    routes = [
        Route("/health", service.health),
        Route("/v1/models", service.private(service.models)),
        Route("/v1/models/{name:path}", service.private(service.model)),
        Route("/v1/chat/completions", service.private(service.chat), methods=["POST"]),
    ]
    handlers: dict[Any, Any] = {
        APIError: _answer_error,
        HTTPException: _answer_http_error,
        ClientGone: _answer_nobody,
        ClientDisconnect: _answer_nobody,
        Exception: _answer_error,
    }
    return Starlette(routes=routes, exception_handlers=handlers, lifespan=service.lifespan)
