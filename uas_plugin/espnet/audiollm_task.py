"""ESPnet task: train the AudioLLM on packed rows."""

from __future__ import annotations

import argparse
import functools
import inspect
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from espnet2.torch_utils.device_funcs import force_gatherable
from espnet2.train.abs_espnet_model import AbsESPnetModel
from espnet2.utils.types import str_or_none

from uas_plugin.atomic import write_jsonl
from uas_plugin.audiollm.audio_input import encoder_mel_bins
from uas_plugin.audiollm.continuous import ContinuousGroups
from uas_plugin.audiollm.dataset import GroupDataset
from uas_plugin.audiollm.export import TRAINING_OPTIONS, trained_state
from uas_plugin.audiollm.model import AudioLLM, load_codebook, qwen2_config
from uas_plugin.audiollm.packing import (
    Row,
    collate,
    corrupt_answers,
    corrupt_audio,
    over_long,
    pack,
    plan_epoch,
    plan_valid,
    share_rows,
)
from uas_plugin.audiollm.stages import start_from
from uas_plugin.audiollm.vocabulary import Vocabulary
from uas_plugin.errors import UASError, suggest
from uas_plugin.espnet.task import Batch, UASTask, rank_and_world

BATCH_DEFAULTS: dict[str, Any] = {
    "row_tokens": 512,
    "rows": 3,
    "code_noise": 0.0,
    "answer_noise": 0.0,
    "mixture": {"uas": 1.0, "asr": 1.0, "qa": 1.0, "tts": 1.0},
}


MODEL_OPTIONS = (
    tuple(
        name
        for made in (qwen2_config, AudioLLM)
        for name in inspect.signature(made).parameters
        if name not in ("vocabulary", "codebook", "shape")
    )
    + TRAINING_OPTIONS
)


class ESPnetAudioLLM(AbsESPnetModel):
    """The language model in ESPnet's form."""

    def __init__(self, model: AudioLLM) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, utt_id: list[str] | None = None, **batch: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
        """Loss, statistics, weight (answer tokens); see ``AudioLLM.forward``.

        ``utt_id``: names that ESPnet's trainer adds.
        """
        loss, stats, weight = self.model(**batch)
        return force_gatherable((loss, stats, weight), loss.device)

    def collect_feats(self, tokens: torch.Tensor, **_others: torch.Tensor) -> dict[str, Any]:
        """The ids of the rows: (B, L, 1)."""
        lengths = torch.full((len(tokens),), tokens.shape[1], dtype=torch.long)
        return {"tokens": tokens[..., None], "tokens_lengths": lengths}


@functools.lru_cache(maxsize=4)
def _discrete(folder: str) -> GroupDataset:
    return GroupDataset(folder)


@functools.lru_cache(maxsize=4)
def _continuous(folder: str, cuts: str, vocab: str, mel_bins: int) -> ContinuousGroups:
    return ContinuousGroups(folder, cuts, Vocabulary.load(vocab), mel_bins)


def _dataset(args: argparse.Namespace, train: bool) -> GroupDataset:
    """The set of ``--train_data`` or ``--valid_data``, heard as ``--model_conf`` says."""
    folder = args.train_data if train else args.valid_data
    if args.model_conf.get("audio_input") != "continuous":
        return _discrete(folder)
    cuts = args.train_cuts if train else args.valid_cuts
    if cuts is None:
        raise UASError("audio_input continuous needs --train_cuts and --valid_cuts")
    return _continuous(folder, cuts, args.vocab, encoder_mel_bins(args.model_conf["encoder"]))


class AudioLLMTask(UASTask):
    """``python -m uas_plugin.bin.audiollm_train``."""

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the AudioLLM's options to ESPnet's."""
        cls.add_common_arguments(parser)
        group = parser.add_argument_group(description="AudioLLM options")
        group.add_argument("--train_data", type=str_or_none, help="folder of the training items")
        group.add_argument("--valid_data", type=str_or_none, help="folder of the validation items")
        group.add_argument("--vocab", type=str_or_none, help="vocab.json of the LM data stage")
        group.add_argument("--train_cuts", type=str_or_none, help="its recordings (continuous)")
        group.add_argument("--valid_cuts", type=str_or_none, help="its recordings (continuous)")
        parser.get_default("required").extend(["train_data", "valid_data", "vocab"])

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> ESPnetAudioLLM:
        """The model of ``--model_conf``; the codebook that starts it lies beside ``--vocab``."""
        conf = dict(args.model_conf)
        _check_keys("lm.model", conf, MODEL_OPTIONS)
        use_codebook, start = conf.pop("init_codebook", True), conf.pop("start_from", None)
        codebook = load_codebook(Path(args.vocab).with_name("codebook.npy"))
        model = AudioLLM(
            vocabulary=Vocabulary.load(args.vocab),
            codebook=codebook if use_codebook else None,
            **conf,
        )
        if start is not None:
            new = start_from(model, trained_state(start, model.vocabulary))
            logging.info("started from %s; new: %s", start, ", ".join(new) or "nothing")
        # What ESPnet stores beside the weights rebuilds the model without these folders.
        stored = {"backbone": model.lm, "encoder": model.audio and model.audio.encoder}
        configs = {key: stored[key].config.to_dict() for key in stored if key in conf}
        args.model_conf = {**args.model_conf, **configs}
        return ESPnetAudioLLM(model)

    @classmethod
    def build_batches(cls, args: argparse.Namespace, mode: str, epoch: int) -> Iterable[Batch]:
        """One pass over the groups of ``mode``, packed into rows."""
        conf = _batch_options(args.batch_conf)
        train = mode == "train"
        data = _dataset(args, train)
        if train and rank_and_world()[0] == 0:
            _list_over_long(data, conf["row_tokens"], Path(args.output_dir))
        if train:
            units = plan_epoch(
                data,
                conf["mixture"],
                row_tokens=conf["row_tokens"],
                seed=args.seed,
                epoch=epoch,
            )
        else:
            units = plan_valid(data, row_tokens=conf["row_tokens"], mixture=conf["mixture"])
        rank, world = rank_and_world() if train else (0, 1)
        rows = list(pack(data, units, row_tokens=conf["row_tokens"]))
        shared = share_rows(rows, conf["rows"], rank=rank, world=world)
        vocabulary = Vocabulary.load(args.vocab)
        if not train:
            return _batches(data, shared, vocabulary)
        noise = conf["code_noise"], conf["answer_noise"]
        rng = np.random.default_rng((args.seed, epoch, rank))
        return _batches(data, shared, vocabulary, noise, rng)


@functools.lru_cache(maxsize=1)
def _list_over_long(data: GroupDataset, row_tokens: int, folder: Path) -> None:
    """Once a training: log and list in ``over_long.jsonl`` what no row can hold.

    Raises:
        UASError: that is everything.
    """
    dropped = over_long(data, row_tokens)
    write_jsonl(folder / "over_long.jsonl", dropped)
    if not dropped:
        return
    items = len(data.segments) - len(data)
    logging.warning(
        "%s: %d of %d items are above lm.batch.row_tokens=%d and never shown: %s",
        *(data.folder, len(dropped), items, row_tokens, folder / "over_long.jsonl"),
    )
    if len(dropped) == items:
        raise UASError(
            f"{data.folder}: every item is above lm.batch.row_tokens={row_tokens}: raise it"
        )


def _check_keys(name: str, given: dict[str, Any], known: Iterable[str]) -> None:
    for key in given:
        if key not in known:
            raise UASError(f"{name}: unknown key '{key}'.{suggest(key, known)}")


def _batch_options(given: dict[str, Any]) -> dict[str, Any]:
    _check_keys("lm.batch", given, BATCH_DEFAULTS)
    return {**BATCH_DEFAULTS, **given}


def _batches(
    data: GroupDataset,
    shared: Iterable[Sequence[Row]],
    vocabulary: Vocabulary,
    noise: tuple[float, float] = (0.0, 0.0),
    rng: np.random.Generator | None = None,
) -> Iterator[Batch]:
    ids = data.ids()
    codes = {"audio_start": vocabulary.audio_start, "size": vocabulary.codebook_size}
    for chosen in shared:
        arrays = collate(data, chosen, pad=vocabulary.pad)
        if rng is not None:
            corrupt_audio(arrays, noise[0], **codes, rng=rng)
            corrupt_answers(arrays, noise[1], text_size=vocabulary.text_size, **codes, rng=rng)
        if isinstance(data, ContinuousGroups):
            arrays.update(data.hear(chosen))
        # A row is named for its first group; a cut may have two groups, so its number is added.
        first = [data.group_of(row[0][0]) for row in chosen]
        names = [f"{ids[group]}-g{group}" for group in first]
        yield names, {name: torch.from_numpy(value) for name, value in arrays.items()}
