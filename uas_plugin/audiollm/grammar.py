"""Text that follows the schema's grammar, with llguidance.

Of the kept libraries with wheels (llguidance, xgrammar, outlines-core), llguidance fits best: it
needs no other package (xgrammar brings triton and a TVM runtime), takes a vocabulary as plain bytes
of each id, so that sentencepiece pieces and the marks behind them need no conversion, works out the
mask of a step when it is asked for (some 50 microseconds here) where outlines-core first builds an
automaton over the whole vocabulary, and can leave the spelling of forced text to the model.

The grammar is :func:`uas_plugin.schema.json_schema` in the one spelling of
:func:`uas_plugin.schema.dumps`. What a JSON Schema for servers cannot say is added: text is not
blank, no voice without speech, the lengths that ``parse`` accepts. An answer that runs out of room
is closed (:meth:`SchemaGrammar.closing`), so that every answer parses.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from uas_plugin.data.text import TextTokenizer
from uas_plugin.errors import UASError
from uas_plugin.schema import json_schema
from uas_plugin.schema.model import MAX_EVENTS, MAX_PHRASE, MAX_TRANSCRIPTION

# The spelling of `schema.dumps`.
_SPELLING = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}
# No control characters, which JSON would have to escape, and a first character that is no space
# (blank text is no text). The classes are what str.strip() takes away.
_BLANK = r"\s\x1c-\x1f\x85\ufeff"
_CONTROL = r"\x00-\x1f\x7f"
# The longest texts that close an answer: from its begin, with an event in either list.
_MARK = b"<mark>"  # stands for a special token
_EVENT = '{"label": "x", "characteristic": null}'
_LONGEST = tuple(
    '{"transcription": "x", "paralinguistics": {"age": "Elderly", "gender": "Female", '
    '"emotion": "Happiness", "accent": null, "prosody": null, "timbre": null}, '
    f'"nonLinguisticEvents": {{"description": null, "discreteEvents": [{discrete}], '
    f'"continuousEvents": [{continuous}]}}}}'
    for discrete, continuous in ((_EVENT, ""), ("", _EVENT))
)


def require_llguidance() -> Any:
    """The library.

    Raises:
        UASError: it is not installed.
    """
    try:
        import llguidance
    except ImportError:
        raise UASError("constraint 'uas' needs llguidance: pip install llguidance") from None
    return llguidance


class _Pieces:
    """A vocabulary in the form that llguidance reads: ``tokens``, bytes of each id."""

    bos_token_id = None

    def __init__(self, tokens: list[bytes], end: int, encode: Callable[[bytes], list[int]]) -> None:
        self.tokens, self.eos_token_id, self._encode = tokens, end, encode
        self.special_token_ids = [i for i, token in enumerate(tokens) if token == _MARK]

    def __call__(self, text: bytes) -> list[int]:
        # For text that the grammar leaves no choice about: in the pieces of training, then.
        return self._encode(bytes(text))


def _wrap(library: Any, pieces: _Pieces) -> Any:
    wrapper = library.TokenizerWrapper(pieces)
    return library.LLTokenizer(wrapper, n_vocab=len(pieces.tokens))


def bounded_schema(
    transcription: int = MAX_TRANSCRIPTION, phrase: int = MAX_PHRASE, events: int = MAX_EVENTS
) -> dict[str, Any]:
    """The JSON Schema whose texts are exactly those that ``schema.dumps`` writes.

    Args:
        transcription, phrase: most characters of a transcription and of any other text.
        events: most entries of a list.
    """
    schema = json_schema(rules=False)
    _bound(schema, phrase, events)
    speech = {name: dict(value) for name, value in schema["properties"].items()}
    speech["transcription"] = _text(transcription)
    silence = {
        **schema["properties"], "transcription": {"type": "null"},
        "paralinguistics": {"type": "null"},
    }  # fmt: skip
    rest = {key: schema[key] for key in ("type", "required", "additionalProperties")}
    branches = [{**rest, "properties": properties} for properties in (speech, silence)]
    return {"$defs": schema["$defs"], "anyOf": branches, "x-guidance": _SPELLING}


def _text(longest: int) -> dict[str, str]:
    first = f"[^{_BLANK}{_CONTROL}]"
    return {"type": "string", "pattern": f"^{first}[^{_CONTROL}]{{0,{longest - 1}}}$"}


def _bound(node: Any, phrase: int, events: int) -> None:
    if isinstance(node, list):
        for item in node:
            _bound(item, phrase, events)
    if not isinstance(node, dict):
        return
    if node.get("type") == "string" and "enum" not in node:
        node.update(_text(phrase))
    if node.get("type") == "array":
        node["maxItems"] = events
    for item in node.values():
        _bound(item, phrase, events)


class SchemaGrammar:
    """The grammar over the pieces of a text tokenizer.

    Args:
        text: the tokenizer. end: id that ends an answer, above all pieces.
    """

    def __init__(self, text: TextTokenizer, end: int) -> None:
        library = require_llguidance()
        self.text, self.end = text, end
        self.bytes_of = text.piece_bytes()
        tokens = [*self.bytes_of, *[_MARK] * (end + 1 - text.vocab_size)]
        for i in text.control_ids:
            tokens[i] = _MARK
        self._tokenizer = _wrap(library, _Pieces(tokens, end, text.encode_bytes))
        # Where only one text can follow, any piece that begins it is right, not only the one that
        # llguidance would choose: a model is trained on pieces that go beyond the forced text.
        schema = json.dumps(bounded_schema())
        self._grammar = f'%llguidance {{"no_forcing": true}}\nstart: %json {schema}'
        error = library.LLMatcher.validate_grammar(self._grammar, self._tokenizer)
        if error:
            raise UASError(f"llguidance does not take the schema's grammar: {error}")
        self._matcher = library.LLMatcher(self._tokenizer, self._grammar)

    @cached_property
    def _bytes(self) -> Any:
        """A matcher over single bytes; 256 is the end."""
        library = require_llguidance()
        tokens = [bytes([i]) for i in range(256)] + [_MARK]
        return library.LLMatcher(_wrap(library, _Pieces(tokens, 256, list)), self._grammar)

    def matcher(self) -> Any:
        """A fresh state: nothing is written yet."""
        return self._matcher.deep_copy()

    @cached_property
    def room(self) -> int:
        """Tokens, end mark included, that are always enough to close an answer.

        Raises:
            UASError: the tokenizer cannot write the schema.
        """
        if any(self.text.decode(self.text.encode(text)) != text for text in _LONGEST):
            raise UASError(f"{self.text.path} has no pieces for the schema's text")
        rests = (text[at:] for text in _LONGEST for at in range(len(text)))
        # And the rest of a piece of the skeleton's, an escaped character, the end.
        return max(len(self.text.encode(rest)) for rest in rests) + 4 + self.text.split_bytes

    def closing(self, written: bytes) -> bytes:
        """The shortest text that makes ``written``, a prefix of a schema's text, complete."""
        state, rest = self._bytes.deep_copy(), bytearray()
        if not state.consume_tokens(list(written)):
            raise UASError(f"no schema begins with {written[-80:]!r}")
        while not state.is_accepting():
            choice = _close(state.compute_logit_bias())
            rest.append(choice)
            state.consume_token(choice)
        return bytes(rest)


def _close(bias: bytes) -> int:
    """The byte that leads to the end on the shortest way; ``bias`` above 0: it may stand here."""
    # Inside a string nearly everything may stand; outside it, next to nothing.
    inside = bias[ord("z")] and bias[ord("}")]
    order = b'"x' if inside else b']}n,":'
    found = next((byte for byte in order if bias[byte]), None)
    if found is None:  # in the middle of a word of the schema's, or of a character
        found = next(byte for byte in range(256) if bias[byte])
    return found


class SchemaGuide:
    """Where one answer is in the grammar (a :class:`~uas_plugin.audiollm.guides.Guide`)."""

    def __init__(self, grammar: SchemaGrammar) -> None:
        self.grammar, self._state = grammar, grammar.matcher()
        self._ids: list[int] = []
        self._forced: list[int] | None = None

    def mask(self, allowed: np.ndarray, left: int) -> None:
        grammar = self.grammar
        if self._forced is None and left <= grammar.room:
            closing = grammar.closing(b"".join(grammar.bytes_of[i] for i in self._ids))
            self._forced = [*grammar.text.encode_bytes(closing), grammar.end][::-1]
        if self._forced is not None:
            allowed[:] = False
            allowed[self._forced[-1]] = True
            return
        bits = np.frombuffer(self._state.compute_bitmask(), dtype=np.uint8)
        inside = np.unpackbits(bits, count=grammar.end + 1, bitorder="little").astype(bool)
        allowed[: grammar.end + 1] &= inside
        allowed[grammar.end + 1 :] = False

    def accept(self, token: int) -> None:
        if self._forced is not None:
            self._forced.pop()
        elif token != self.grammar.end:
            self._ids.append(token)
            self._state.consume_token(token)
