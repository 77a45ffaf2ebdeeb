"""What ``uas uniaudio2`` starts from: requests of files, folders, tokens, texts and cuts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from uas_plugin.audiollm.uniaudio2.items import Item
from uas_plugin.audiollm.uniaudio2.tasks import AUDIO_KINDS, Task, kind_of
from uas_plugin.codec.reasoning.branches import (
    CODEBOOKS,
    BranchIds,
    check_rates,
    ids_of_cut,
    read_codes,
)
from uas_plugin.errors import UASError

REASON, SEMANTIC = "_reason.pt", "_semantic.pt"
SOUNDS = ("audio", "audio_prompt", "answer_audio", "second_audio")  # fields of a demonstration


class Request(NamedTuple):
    """One thing to do; ``name`` is what its files begin with, ``cut`` where it came from a cut."""

    name: str
    item: Item
    cut: Any = None


class _Heard(NamedTuple):
    name: str
    ids: BranchIds
    text: str = ""
    cut: Any = None


class Inputs:
    """The requests that the arguments of the command name (see `cli.get_parser`).

    Args:
        tokenizer: gives the ReasoningCodec's tokenizer; called only if there is audio to encode.

    Attributes:
        failed: recordings that could not be used, and why; complete after `requests`.
    """

    def __init__(self, args: Any, task: Task, tokenizer: Callable[[], Any]) -> None:
        self.args, self.task, self.tokenizer = args, task, tokenizer
        self.failed: list[str] = []

    def requests(self) -> list[Request]:
        """Every request, in order.

        Raises:
            UASError: an input that the task needs is missing or malformed.
        """
        args = self.args
        prompt = self.sound(args.audio_prompt) if args.audio_prompt else None
        common = {"caption": args.caption, "question": self._question(), "audio_prompt": prompt}
        if not self.task.inputs:
            return [Request("utt_0", Item())]
        if not self.task.takes_audio or self.task.inputs[0].startswith("audio_prompt"):
            return [Request(n, self._spoken(text, common), cut) for n, text, cut in self._texts()]
        found = []
        for name, ids, own, cut in self._audios():
            text = args.text or own or None
            if self.task.text_inputs == ("text_seq",) and not text:
                raise UASError(f"{self.task.name} needs --text")
            found.append(Request(name, Item(audio=ids, text=text, **common), cut))
        return found

    def _spoken(self, text: str, common: dict[str, Any]) -> Item:
        values = dict(common)
        if "transcription_seq" in self.task.inputs and "caption_seq" in self.task.inputs:
            values["caption"] = values["caption"] or text  # as the published command
        return Item(text=text, **values)

    def _texts(self) -> list[tuple[str, str, Any]]:
        """Name, text and cut: of --text, the lines of --text_file, or the cuts' supervisions."""
        args, rows = self.args, list[tuple[str, str, Any]]()
        if args.text:
            return [("utt_0", args.text, None)]
        if args.text_file:
            lines = read_text(args.text_file).splitlines()
            rows = [(f"utt_{i}", s.strip(), None) for i, s in enumerate(lines) if s.strip()]
        elif args.cuts:
            rows = [(_name(cut.id), text, cut) for cut, text in _cuts(args.cuts) if text]
        if not rows:
            raise UASError(f"{self.task.name} needs --text, --text_file or --cuts with texts")
        return rows

    def _audios(self) -> Iterator[_Heard]:
        """Every audio that is given, as ids or as sound."""
        args = self.args
        if args.reason_pt or args.semantic_pt:
            yield self._token_files()
            return
        if args.token_dir and args.stage != "2":
            yield from self._token_folder(args.token_dir)
            return
        count = 0
        for heard in self._encoded():
            count += 1
            yield heard
        if not count:
            raise UASError(f"no audio could be used: {self.failed[0]}")

    def _branches(self) -> set[str]:
        """Kinds of ids that the task looks at."""
        return {kind_of(f) for f in self.task.inputs} & set(AUDIO_KINDS)

    def _token_files(self) -> _Heard:
        reason, semantic = self.args.reason_pt, self.args.semantic_pt
        needed = self._branches()
        if "reason" in needed and not reason or "semantic" in needed and not semantic:
            both = needed >= {"reason", "semantic"}
            which = "--reason_pt and --semantic_pt go together" if both else (
                f"{self.task.name} needs --{needed.pop()}_pt"
            )  # fmt: skip
            raise UASError(which)
        name = (reason or semantic).name
        for suffix in (REASON, SEMANTIC, ".pt"):
            name = name.removesuffix(suffix)
        return _Heard(name, pair(reason, semantic, name))

    def _token_folder(self, folder: Path) -> Iterator[_Heard]:
        names = names_in(folder, REASON)
        if not names:
            raise UASError(f"{folder} holds no *{REASON}")
        for name in names:
            ids = pair(folder / f"{name}{REASON}", folder / f"{name}{SEMANTIC}", name)
            yield _Heard(name, ids)

    def _encoded(self) -> Iterator[_Heard]:
        """Ids of the recordings, in order; cuts of a token dump bring theirs."""
        sources = self._sounds()
        dumped: dict[str, BranchIds] = {}
        for name, _, _, cut in sources:
            ids = ids_of_cut(cut) if cut is not None else None
            if ids is not None:
                dumped[name] = ids
        rest = [(name, source) for name, source, *_ in sources if name not in dumped]
        made: Iterator[tuple[str, Any]] = iter(())
        if rest:
            made = self.tokenizer().encode_stream(rest, self.args.batch_size)
        for name, _, text, cut in sources:
            found = dumped[name] if name in dumped else next(made)[1]
            if isinstance(found, UASError):
                self.failed.append(f"{name}: {found}")
            else:
                yield _Heard(name, found, text, cut)

    def _sounds(self) -> list[tuple[str, Any, str, Any]]:
        """Name, source, text and cut of every recording."""
        args = self.args
        if args.audio:
            return [(args.audio.stem, args.audio, "", None)]
        if args.audio_dir:
            paths = sorted(args.audio_dir.glob("*.wav"))
            if not paths:
                raise UASError(f"{args.audio_dir} holds no *.wav")
            return [(path.stem, path, "", None) for path in paths]
        if args.cuts:
            found = [(_name(cut.id), cut, text, cut) for cut, text in _cuts(args.cuts)]
            if not found:
                raise UASError(f"{args.cuts} holds no cuts")
            return found
        raise UASError(
            f"{self.task.name} needs audio: --audio, --audio_dir, --cuts, --token_dir, or "
            "--reason_pt with --semantic_pt"
        )

    def demonstrations(self) -> list[Item]:
        """The solved examples of --demonstrations; paths are relative to the file.

        Raises:
            UASError: a line is no such example; its number is named.
        """
        path = self.args.demonstrations
        if path is None:
            return []
        items = []
        for number, line in enumerate(read_text(path).splitlines(), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise UASError(f"{path}, line {number}: no JSON: {error}") from None
            if not isinstance(row, dict):
                raise UASError(f"{path}, line {number}: expected an object")
            unknown = sorted(set(row) - set(Item.__dataclass_fields__))
            if unknown:
                known = ", ".join(Item.__dataclass_fields__)
                raise UASError(f"{path}, line {number}: unknown {unknown[0]}; known: {known}")
            values: dict[str, Any] = {
                key: self.sound(path.parent / value) if key in SOUNDS else value
                for key, value in row.items()
            }
            items.append(Item(**values))
        return items

    def sound(self, path: Path) -> BranchIds:
        """Ids of a recording, or of ``NAME_reason.pt`` with the file beside it."""
        if path.name.endswith(REASON):
            name = path.name.removesuffix(REASON)
            return pair(path, path.with_name(f"{name}{SEMANTIC}"), name)
        return self.tokenizer().encode([path])[0]

    def _question(self) -> str | None:
        args = self.args
        if args.question:
            return args.question
        return read_text(args.question_file).strip() if args.question_file else None


def read_text(path: Path) -> str:
    """A text file.

    Raises:
        UASError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UASError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UASError(f"{path}: is no text in UTF-8") from None


def names_in(folder: Path, suffix: str) -> list[str]:
    """Names of the clips that have a file with ``suffix`` in ``folder``."""
    return sorted(path.name.removesuffix(suffix) for path in folder.glob(f"*{suffix}"))


def pair(reason: Path | None, semantic: Path | None, name: str) -> BranchIds:
    """Ids of two token files; of a branch without a file none.

    Raises:
        UASError: a file is missing or malformed, or the two are swapped or of different clips.
    """
    nothing = np.zeros((0, CODEBOOKS), dtype=np.int64)
    ids = BranchIds(*(nothing if path is None else read_codes(path) for path in (reason, semantic)))
    if reason and semantic:
        check_rates(ids, name)
    return ids


def _cuts(path: Path) -> Iterator[tuple[Any, str]]:
    from uas_plugin.data.manifests import load_cuts

    for cut in load_cuts(path):
        yield cut, " ".join(s.text for s in cut.supervisions if s.text)


def _name(cut_id: str) -> str:
    """A cut's id as the beginning of a file's name."""
    return cut_id.replace("/", "_")
