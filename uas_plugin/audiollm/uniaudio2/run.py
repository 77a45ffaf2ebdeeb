"""What ``uas uniaudio2`` does: gather the clips, run the LM, decode, write."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from uas_plugin.atomic import atomic_path, write_text
from uas_plugin.audiollm.uniaudio2.items import Item
from uas_plugin.audiollm.uniaudio2.tasks import Task, choose_prompt, get_task
from uas_plugin.codec.reasoning.branches import BranchIds, check_rates, read_codes, write_codes
from uas_plugin.errors import UASError

REASON, SEMANTIC = "_reason.pt", "_semantic.pt"
NGRAM = 3


def run(args: Any) -> Iterator[str]:
    """Run the task of ``args`` (see `cli.get_parser`); lines that say what was written.

    Raises:
        UASError: an input is missing, or does not go with the task.
    """
    task = get_task(args.task)
    session = Session(args, task)
    if args.stage != "2":
        yield from session.write_tokens() if task.makes_audio else session.write_text()
    if task.makes_audio and args.stage != "1":
        yield from session.write_audio()


class Session:
    """Models and inputs of one command, loaded when they are needed."""

    def __init__(self, args: Any, task: Task) -> None:
        self.args, self.task = args, task

    @cached_property
    def lm(self) -> Any:
        from uas_plugin.audiollm.uniaudio2.api import load_unified_lm

        args = self.args
        if args.model is None:
            raise UASError("give the LM: --model FOLDER (or --llm_train_config)")
        return load_unified_lm(
            args.model,
            args.device,
            checkpoint=args.resume,
            text_tokenizer=args.text_tokenizer_path,
        )

    @cached_property
    def tokenizer(self) -> Any:
        from uas_plugin.tokenizer.api import load_tokenizer

        return load_tokenizer(self._codec(), device=self.args.device)

    @cached_property
    def decoder(self) -> Any:
        from uas_plugin.codec.api import load_codec

        return load_codec(self._codec(), device=self.args.device)

    def _codec(self) -> Path:
        if self.args.codec is None:
            raise UASError("give the ReasoningCodec: --codec FOLDER (or --codec_ckpt)")
        return self.args.codec

    def _answers(self, items: Sequence[tuple[str, Item]]) -> list[Any]:
        args, text_task = self.args, not self.task.makes_audio
        greedy = text_task and self.task.name != "speech_s2t"
        prompt = choose_prompt(
            self.task, text=args.prompt_text, path=args.prompt_json, seed=args.seed
        )
        return self.lm.generate_batch(
            self.task.name,
            [item for _, item in items],
            prompt=prompt,
            demonstrations=self.demonstrations(),
            beams=args.beams if args.decode_type == "beamsearch" else 1,
            batch_size=args.batch_size,
            topk=1 if greedy else args.topk,
            temperature=args.temperature,
            guidance=args.cfg_scale if args.use_cfg else 1.0,
            no_repeat=NGRAM if args.decode_type == "ngram" else 0,
            seed=args.seed,
        )

    def write_text(self) -> Iterator[str]:
        """Understanding: one line a clip."""
        items = self.items()
        lines, failed = [], []
        for (name, _), answer in zip(items, self._answers(items), strict=True):
            if isinstance(answer, UASError):
                failed.append(f"{name}: {answer}")
            else:
                lines.append(f"{name}\t{' '.join(answer.split())}")
        path = self.args.results or self.args.output_dir / f"{self.task.name}_results.txt"
        write_text(path, "".join(f"{line}\n" for line in lines))
        yield from lines
        yield f"{path}: {len(lines)} clips"
        yield from _left_out(failed, len(items))

    def write_tokens(self) -> Iterator[str]:
        """Generation, stage 1: the ids of both branches, two files a clip."""
        items, failed, folder = self.items(), [], self.args.output_dir
        made = 0
        for (name, _), answer in zip(items, self._answers(items), strict=True):
            if isinstance(answer, UASError):
                failed.append(f"{name}: {answer}")
                continue
            for clip, ids in _named(name, answer):
                write_codes(folder / f"{clip}{REASON}", ids.reasoning)
                write_codes(folder / f"{clip}{SEMANTIC}", ids.reconstruction)
                made += 1
        yield f"{folder}: ids of {made} clips"
        yield from _left_out(failed, len(items))

    def write_audio(self) -> Iterator[str]:
        """Generation, stage 2: audio of the ids."""
        import soundfile

        args = self.args
        source = args.output_dir if args.stage == "all" else args.token_dir or args.output_dir
        names = _names(source, SEMANTIC)
        if not names:
            raise UASError(f"{source} holds no *{SEMANTIC}: stage 1 makes them")
        folder = args.wav_dir or source / "wavs"
        for name in names:
            reasoning = None
            if args.with_reasoning:
                reasoning = read_codes(source / f"{name}{REASON}")
            wav, rate = self.decoder.decode(
                read_codes(source / f"{name}{SEMANTIC}"),
                reasoning,
                n_steps=args.codec_steps,
                window_seconds=args.codec_duration,
                seed=args.seed,
            )
            with atomic_path(folder / f"{name}.wav") as temporary:
                soundfile.write(temporary, wav, rate, subtype="PCM_16")
        yield f"{folder}: {len(names)} clips"

    def items(self) -> list[tuple[str, Item]]:
        """``(name, request)`` of every clip that the arguments name."""
        args, question = self.args, self._question()
        prompt = self._one_audio(args.audio_prompt) if args.audio_prompt else None
        common = {"caption": args.caption, "question": question, "audio_prompt": prompt}
        if not self.task.takes_audio or self.task.inputs[0].startswith("audio_prompt"):
            return [(n, self._spoken(text, common)) for n, text in self.texts()]
        texts = args.text or None
        found = []
        for name, audio, own in self.audios():
            text = texts or own
            if self.task.text_inputs == ("text_seq",) and not text:
                raise UASError(f"{self.task.name} needs --text")
            found.append((name, Item(audio=audio, text=text, **common)))
        return found

    def _spoken(self, text: str, common: dict[str, Any]) -> Item:
        values = dict(common)
        if "transcription_seq" in self.task.inputs and "caption_seq" in self.task.inputs:
            values["caption"] = values["caption"] or text  # as the published command
        return Item(text=text, **values)

    def texts(self) -> list[tuple[str, str]]:
        """``(name, text)``: of --text, the lines of --text_file, or the cuts' supervisions."""
        args = self.args
        if args.text:
            return [("utt_0", args.text)]
        if args.text_file:
            lines = _read(args.text_file).splitlines()
            rows = [(f"utt_{i}", line.strip()) for i, line in enumerate(lines) if line.strip()]
        elif args.cuts:
            from uas_plugin.data.manifests import load_cuts

            rows = [(cut.id, _text_of(cut)) for cut in load_cuts(args.cuts)]
        else:
            rows = []
        if not rows:
            raise UASError(f"{self.task.name} needs --text, --text_file or --cuts with texts")
        return rows

    def audios(self) -> list[tuple[str, BranchIds, str]]:
        """``(name, ids, text)`` of every audio that is given, as tokens or as sound."""
        args = self.args
        if args.reason_pt or args.semantic_pt:
            if not (args.reason_pt and args.semantic_pt):
                raise UASError("--reason_pt and --semantic_pt go together")
            name = args.reason_pt.name.removesuffix(REASON).removesuffix(".pt")
            return [(name, _pair(args.reason_pt, args.semantic_pt, name), "")]
        if args.token_dir and args.stage != "2":
            names = _names(args.token_dir, REASON)
            if not names:
                raise UASError(f"{args.token_dir} holds no *{REASON}")
            folder = args.token_dir
            return [
                (n, _pair(folder / f"{n}{REASON}", folder / f"{n}{SEMANTIC}", n), "") for n in names
            ]
        sources = self._sounds()
        ids = self.tokenizer.encode_stream(((n, s) for n, s, _ in sources), args.batch_size)
        found, failed = [], []
        for (name, _, text), (_, one) in zip(sources, ids, strict=True):
            if isinstance(one, UASError):
                failed.append(f"{name}: {one}")
            else:
                found.append((name, one, text))
        if not found:
            raise UASError(f"no audio could be used: {failed[0]}")
        return found

    def _sounds(self) -> list[tuple[str, Any, str]]:
        args = self.args
        if args.audio:
            return [(args.audio.stem, args.audio, "")]
        if args.audio_dir:
            paths = sorted(args.audio_dir.glob("*.wav"))
            if not paths:
                raise UASError(f"{args.audio_dir} holds no *.wav")
            return [(path.stem, path, "") for path in paths]
        if args.cuts:
            from uas_plugin.data.manifests import load_cuts

            return [(cut.id, cut, _text_of(cut)) for cut in load_cuts(args.cuts)]
        raise UASError(
            f"{self.task.name} needs audio: --audio, --audio_dir, --cuts, --token_dir, or "
            "--reason_pt with --semantic_pt"
        )

    def demonstrations(self) -> list[Item]:
        """The solved examples of --demonstrations; paths are relative to the file."""
        path = self.args.demonstrations
        if path is None:
            return []
        items = []
        for number, line in enumerate(_read(path).splitlines(), 1):
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
            sounds = ("audio", "audio_prompt", "answer_audio", "second_audio")
            values: dict[str, Any] = {
                key: self._one_audio(path.parent / value) if key in sounds else value
                for key, value in row.items()
            }
            items.append(Item(**values))
        return items

    def _one_audio(self, path: Path) -> BranchIds:
        return self.tokenizer.encode([path])[0]

    def _question(self) -> str | None:
        args = self.args
        if args.question:
            return args.question
        return _read(args.question_file).strip() if args.question_file else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UASError(f"{path}: cannot be read: {error.strerror}") from None


def _names(folder: Path, suffix: str) -> list[str]:
    return sorted(path.name.removesuffix(suffix) for path in folder.glob(f"*{suffix}"))


def _named(name: str, answer: BranchIds | tuple[BranchIds, ...]) -> list[tuple[str, BranchIds]]:
    """Clips with their names: of a separation, NAME_1 and NAME_2."""
    if isinstance(answer, BranchIds):
        return [(name, answer)]
    return [(f"{name}_{i}", ids) for i, ids in enumerate(answer, 1)]


def _pair(reason: Path, semantic: Path, name: str) -> BranchIds:
    ids = BranchIds(read_codes(reason), read_codes(semantic))
    check_rates(ids, name)
    return ids


def _text_of(cut: Any) -> str:
    return " ".join(s.text for s in cut.supervisions if s.text)


def _left_out(failed: Sequence[str], total: int) -> Iterator[str]:
    if failed:
        from uas_plugin.errors import left_out_text

        yield left_out_text([{"reason": reason} for reason in failed], total)
