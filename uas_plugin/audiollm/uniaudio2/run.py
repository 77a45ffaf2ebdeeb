"""What ``uas uniaudio2`` does: gather the requests, run the LM, decode, write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from functools import cached_property
from pathlib import Path
from typing import Any

from uas_plugin.atomic import atomic_path, write_text
from uas_plugin.audiollm.uniaudio2.inputs import (
    REASON,
    SEMANTIC,
    Inputs,
    Request,
    names_in,
)
from uas_plugin.audiollm.uniaudio2.tasks import Task, choose_prompt, get_task
from uas_plugin.codec.reasoning.branches import BranchIds, read_codes, write_codes
from uas_plugin.errors import UASError, left_out_text

NGRAM = 3
CUTS = "cuts.jsonl.gz"  # of the audio that was made, beside it
ANSWER = "answer"  # key of a cut's `custom`


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
        self.inputs = Inputs(args, task, lambda: self.tokenizer)
        self.made_of: dict[str, Request] = {}  # clip that was made -> its request

    @cached_property
    def lm(self) -> Any:
        from uas_plugin.audiollm.uniaudio2.api import load_unified_lm

        args = self.args
        if args.model is None:
            raise UASError("give the LM: --model FOLDER (or --llm_train_config)")
        lm = load_unified_lm(
            args.model,
            args.device,
            checkpoint=args.resume,
            text_tokenizer=args.text_tokenizer_path,
        )
        lm.mode = args.mode
        return lm

    @cached_property
    def tokenizer(self) -> Any:
        from uas_plugin.tokenizer.api import load_tokenizer

        found, ids = load_tokenizer(self._codec(), device=self.args.device), self.lm.ids
        sizes = found.reasoning_codebook_size, found.codebook_size
        if sizes[0] > ids.reason_codes or sizes[1] > ids.semantic_codes:
            raise UASError(
                f"the codec has {sizes[0]} and {sizes[1]} codes, the LM ids for "
                f"{ids.reason_codes} and {ids.semantic_codes}: they do not belong together"
            )
        return found

    @cached_property
    def decoder(self) -> Any:
        from uas_plugin.codec.api import load_codec

        return load_codec(self._codec(), device=self.args.device)

    def _codec(self) -> Path:
        if self.args.codec is None:
            raise UASError("give the ReasoningCodec: --codec FOLDER (or --codec_ckpt)")
        return self.args.codec

    def _answers(self, requests: Sequence[Request]) -> list[Any]:
        args, text_task = self.args, not self.task.makes_audio
        greedy = text_task and self.task.name != "speech_s2t"
        prompt = choose_prompt(
            self.task, text=args.prompt_text, path=args.prompt_json, seed=args.seed
        )
        return self.lm.generate_batch(
            self.task.name,
            [request.item for request in requests],
            prompt=prompt,
            demonstrations=self.inputs.demonstrations(),
            beams=args.beams if args.decode_type == "beamsearch" else 1,
            batch_size=args.batch_size,
            topk=1 if greedy else args.topk,
            temperature=args.temperature,
            guidance=args.cfg_scale if args.use_cfg else 1.0,
            no_repeat=NGRAM if args.decode_type == "ngram" else 0,
            seed=args.seed,
        )

    def write_text(self) -> Iterator[str]:
        """Understanding: one line a clip; of cuts also the cuts with ``custom["answer"]``."""
        requests = self.inputs.requests()
        lines, cuts, failed = [], [], self.inputs.failed
        total = len(requests) + len(failed)
        for request, answer in zip(requests, self._answers(requests), strict=True):
            if isinstance(answer, UASError):
                failed.append(f"{request.name}: {answer}")
                continue
            text = " ".join(answer.split())
            lines.append(f"{request.name}\t{text}")
            if request.cut is not None:
                cuts.append(request.cut.with_custom(ANSWER, text))
        _check_some(lines, failed, total)
        path = self.args.results or self.args.output_dir / f"{self.task.name}_results.txt"
        write_text(path, "".join(f"{line}\n" for line in lines))
        yield from lines
        yield f"{path}: {len(lines)} clips"
        if cuts:
            yield _save(cuts, self.args.output_dir / f"{self.task.name}_{CUTS}")
        yield from _left_out(failed, total)

    def write_tokens(self) -> Iterator[str]:
        """Generation, stage 1: the ids of both branches, two files a clip."""
        requests = self.inputs.requests()
        failed, folder = self.inputs.failed, self.args.output_dir
        total = len(requests) + len(failed)
        for request, answer in zip(requests, self._answers(requests), strict=True):
            if isinstance(answer, UASError):
                failed.append(f"{request.name}: {answer}")
                continue
            for clip, ids in _named(request.name, answer):
                write_codes(folder / f"{clip}{REASON}", ids.reasoning)
                write_codes(folder / f"{clip}{SEMANTIC}", ids.reconstruction)
                self.made_of[clip] = request
        _check_some(self.made_of, failed, total)
        yield f"{folder}: ids of {len(self.made_of)} clips"
        yield from _left_out(failed, total)

    def write_audio(self) -> Iterator[str]:
        """Generation, stage 2: audio of the ids, and cuts of it."""
        import soundfile

        from uas_plugin.data.manifests import cut_of_file

        args = self.args
        source = args.output_dir if args.stage == "all" else args.token_dir or args.output_dir
        # After stage 1 what it made, whatever else lies in the folder.
        names = list(self.made_of) if args.stage == "all" else names_in(source, SEMANTIC)
        if not names:
            raise UASError(f"{source} holds no *{SEMANTIC}: stage 1 makes them")
        folder, cuts = args.wav_dir or source / "wavs", []
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
            path = folder / f"{name}.wav"
            with atomic_path(path) as temporary:
                soundfile.write(temporary, wav, rate, subtype="PCM_16")
            cuts.append(cut_of_file(path, name, **self._supervision(name)))
        yield f"{folder}: {len(names)} clips"
        yield _save(cuts, folder / CUTS)

    def _supervision(self, name: str) -> dict[str, Any]:
        """What is known of a clip that was made: its text, and the cut that it was asked for."""
        request = self.made_of.get(name)
        if request is None:
            return {"custom": {"task": self.task.name}}
        source = {} if request.cut is None else {"source": request.cut.id}
        return {"text": request.item.text or "", "custom": {"task": self.task.name, **source}}


def _save(cuts: Sequence[Any], path: Path) -> str:
    from uas_plugin.data.manifests import save_cuts

    return f"{path}: {save_cuts(cuts, path)} cuts"


def _named(name: str, answer: BranchIds | tuple[BranchIds, ...]) -> list[tuple[str, BranchIds]]:
    """Clips with their names: of a separation, NAME_1 and NAME_2."""
    if isinstance(answer, BranchIds):
        return [(name, answer)]
    return [(f"{name}_{i}", ids) for i, ids in enumerate(answer, 1)]


def _check_some(made: Sized, failed: Sequence[str], total: int) -> None:
    """Raise UASError where nothing came out at all."""
    if not len(made) and failed:
        raise UASError(left_out_text([{"reason": reason} for reason in failed], total))


def _left_out(failed: Sequence[str], total: int) -> Iterator[str]:
    if failed:
        yield left_out_text([{"reason": reason} for reason in failed], total)
