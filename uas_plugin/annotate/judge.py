"""A judge behind an OpenAI-compatible server: the client and the cache of annotation.

The questions are those of `uas_plugin.metrics.judge`. All are asked at once, ``concurrency``
at a time; each vote on the same pair has a sampling seed of its own. An answer is kept as it
arrives, so a run that was stopped asks nothing twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from uas_plugin.annotate.cache import Cache, content_key
from uas_plugin.annotate.client import ChatClient, Refused, Unanswered, first_error
from uas_plugin.annotate.options import AnnotateOptions
from uas_plugin.errors import UASError
from uas_plugin.metrics.judge import SAMPLING, Question


class ServerJudge:
    """Answers a judge's questions; a `uas_plugin.metrics.judge.Judge`.

    Args:
        options: url, model, key and how to ask; temperature and length are the published judge's.
        cache: SQLite file of the answers.
    """

    def __init__(self, options: AnnotateOptions, cache: Path) -> None:
        if not options.url or not options.model:
            raise UASError("a judge needs a server and a model: --judge_url and --judge_model")
        self.options = replace(
            options,
            response_format="text",
            temperature=float(SAMPLING["temperature"]),
            max_tokens=int(SAMPLING["max_tokens"]),
        )
        self.cache = cache

    def __call__(self, questions: Sequence[Question], /) -> list[str]:
        """One text a question; "" where the server refuses it.

        Raises:
            UASError: the server is down, or has no answer after all retries; run again to go on.
        """
        with Cache(self.cache) as cache:
            try:
                return asyncio.run(self._all(questions, cache))
            except* UASError as errors:
                failure = first_error(errors)
        raise UASError(f"{str(failure).rstrip('.')}. Every answer so far is kept: run again")

    async def _all(self, questions: Sequence[Question], cache: Cache) -> list[str]:
        room = asyncio.Semaphore(self.options.concurrency)
        clients = {
            vote: _client(replace(self.options, seed=self.options.seed + vote))
            for vote in {question.vote for question in questions}
        }

        async def ask(question: Question) -> str:
            async with room:
                return await _ask(clients[question.vote], question, cache)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(ask(question)) for question in questions]
        finally:
            for client in clients.values():
                await client.close()
        return [task.result() for task in tasks]


def _client(options: AnnotateOptions) -> ChatClient:
    return ChatClient(str(options.url), str(options.model), options.api_key_env, options, None)


async def _ask(client: ChatClient, question: Question, cache: Cache) -> str:
    messages: list[dict[str, Any]] = [{"role": "user", "content": question.prompt}]
    key = content_key(["judge", client.model, client.options.sampling(), messages])
    answer = cache.get(key)
    if answer is None:
        try:
            answer = await client.ask(messages)
        except Refused:
            return ""
        except Unanswered as error:
            raise UASError(f"the judge has no answer: {error}") from None
        cache.put(key, "judge", client.model, answer)
    return answer.text
