"""One cut: caption, question, answer, check; cached and shared answers."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
from dataclasses import dataclass
from typing import Any

from uas_plugin.annotate.cache import Answer, Cache, content_key
from uas_plugin.annotate.client import ChatClient, Refused, Unanswered
from uas_plugin.annotate.options import AnnotateOptions
from uas_plugin.annotate.prompt import Prompt, load_prompt
from uas_plugin.annotate.rules import Facts, Rejection, check_answer, facts_of
from uas_plugin.data.audio import SAMPLING_RATE, load_audio
from uas_plugin.errors import UASError

NOBODY = "(nobody speaks)"
_KEPT_ANSWER = 2000  # characters of a rejected answer that rejected.jsonl keeps


@dataclass(frozen=True)
class Outcome:
    """What became of a cut: the cut with its label, or a row of ``rejected.jsonl``."""

    cut: Any = None
    rejected: dict[str, Any] | None = None


class Labeller:
    """Labels cuts with one language model, and captions them with another where needed.

    Attributes:
        hits: questions whose answer was in the cache, or on its way for another cut.
    """

    def __init__(
        self,
        options: AnnotateOptions,
        cache: Cache,
        writer: ChatClient,
        captioner: ChatClient | None,
    ) -> None:
        self.options, self.cache = options, cache
        self.writer, self.captioner = writer, captioner
        self.prompt = load_prompt(options.prompt)
        self.caption_prompt = load_prompt(options.caption_prompt)
        self.hits = 0
        self._on_the_way: dict[str, asyncio.Future[Answer]] = {}

    async def label(self, cut: Any) -> Outcome:
        """Label one cut; what can be told about this cut alone is a rejection, not an error.

        Raises:
            UASError: the server is down or refuses the key or the model, or the disk is full.
        """
        answer = None
        try:
            facts = facts_of(cut, self.options)
            caption, source = await self._caption(cut, facts)
            messages = self.prompt.messages(_slots(facts, caption))
            for ask in range(self.options.asks):
                answer = await self._answer(self.writer, "label", messages)
                try:
                    schema, warnings = check_answer(answer, facts, self.options)
                    break
                except Rejection as why:
                    if ask + 1 == self.options.asks or "again" not in self.prompt.parts:
                        raise
                    messages = [*messages, *self._again(answer, why, facts, caption)]
        except Rejection as why:
            return Outcome(rejected=self._row(cut, why, answer))
        except Refused as error:
            return Outcome(rejected=self._row(cut, Rejection("refused", str(error)), None))
        except Unanswered as error:
            return Outcome(rejected=self._row(cut, Rejection("unanswered", str(error)), None))
        assert answer is not None
        supervision = cut.supervisions[0]
        supervision.custom = {
            **(supervision.custom or {}),
            "caption": caption,
            "uas": schema.to_dict(),
            "uas_source": {**self._source(answer, self.prompt), **source, "warnings": warnings},
        }
        return Outcome(cut=cut)

    def _again(self, answer: Answer, why: Rejection, facts: Facts, caption: str) -> list[dict]:
        """The failed answer, and why it failed, as further messages."""
        slots = {**_slots(facts, caption), "reason": str(why)}
        return [
            {"role": "assistant", "content": answer.text},
            {"role": "user", "content": self.prompt.fill("again", slots)},
        ]

    async def _caption(self, cut: Any, facts: Facts) -> tuple[str, dict[str, Any]]:
        """The cut's caption, and where it is from; asked for where none is given."""
        if facts.caption is not None:
            return facts.caption, {"caption": "given"}
        if self.captioner is None:
            raise Rejection("no_caption", "custom.caption is absent, and there is no caption_model")
        try:
            wav = await asyncio.to_thread(wav_bytes, cut)
        except UASError as error:
            raise Rejection("audio", str(error)) from None
        messages = self.caption_prompt.messages(_slots(facts, ""))
        question, parts = messages[-1]["content"], [
            {"type": "input_audio", "input_audio": {"data": _base64(wav), "format": "wav"}}
        ]  # fmt: skip
        spoken = [*messages[:-1], {"role": "user", "content": [*parts, _text(question)]}]
        # Megabytes of base64 need not go through the hash: the audio's own stands for them.
        keyed = [*messages, hashlib.sha256(wav).hexdigest()]
        answer = await self._answer(self.captioner, "caption", spoken, keyed)
        if answer.finish == "length":
            raise Rejection("cut_off", "the caption reached max_tokens", "caption")
        if not answer.text.strip():
            raise Rejection("empty", "the caption is empty", "caption")
        return answer.text.strip(), {"caption": self._source(answer, self.caption_prompt)}

    async def _answer(
        self, client: ChatClient, kind: str, messages: list[dict[str, Any]], keyed: Any = None
    ) -> Answer:
        """From the cache, from the same question on its way, or from the server."""
        wanted = self.options.response_format if kind == "label" else "text"
        key = content_key([kind, client.model, self.options.sampling(), wanted, keyed or messages])
        found = self.cache.get(key)
        if found is not None:
            self.hits += 1
            return found
        if key in self._on_the_way:
            self.hits += 1
            return await asyncio.shield(self._on_the_way[key])
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._on_the_way[key] = future
        try:
            answer = await client.ask(messages)
            self.cache.put(key, kind, client.model, answer)
            future.set_result(answer)
            return answer
        except (UASError, Refused, Unanswered) as error:
            future.set_exception(error)
            future.exception()  # nobody else may be waiting for it
            raise
        finally:
            del self._on_the_way[key]
            future.cancel()

    def _source(self, answer: Answer, prompt: Prompt) -> dict[str, Any]:
        return {
            "model": answer.model,
            "prompt": prompt.name,
            "prompt_sha256": prompt.sha256,
            "sampling": self.options.sampling(),
            "response_format": answer.format,
        }

    def _row(self, cut: Any, why: Rejection, answer: Answer | None) -> dict[str, Any]:
        row = {"id": cut.id, "category": why.rule, "field": why.field, "reason": why.reason}
        if answer is not None:
            row["answer"] = answer.text[:_KEPT_ANSWER]
        return row


def _slots(facts: Facts, caption: str) -> dict[str, str]:
    return {
        "duration": f"{facts.duration:.1f}",
        "transcript": NOBODY if facts.transcript is None else facts.transcript,
        "caption": caption,
        "language": facts.language or "unknown",
        "reason": "",
    }


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def wav_bytes(cut: Any) -> bytes:
    """A cut's audio as a WAV file: 16 kHz, mono, 16 bits.

    Raises:
        UASError: it cannot be read.
    """
    import soundfile

    stream = io.BytesIO()
    soundfile.write(stream, load_audio(cut), SAMPLING_RATE, format="WAV", subtype="PCM_16")
    return stream.getvalue()
