"""ESPnet task: train the AudioLLM on packed rows."""

from __future__ import annotations

import argparse
import functools
import inspect
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.torch_utils.device_funcs import force_gatherable
from espnet2.train.abs_espnet_model import AbsESPnetModel
from espnet2.train.trainer import Trainer
from espnet2.utils.nested_dict_action import NestedDictAction
from espnet2.utils.types import str_or_none

from uas_plugin.atomic import write_jsonl
from uas_plugin.audiollm.audio_input import encoder_mel_bins
from uas_plugin.audiollm.continuous import ContinuousGroups
from uas_plugin.audiollm.dataset import GroupDataset
from uas_plugin.audiollm.export import TRAINING_OPTIONS, text_beside, trained_state
from uas_plugin.audiollm.model import AudioLLM, load_codebook, qwen2_config
from uas_plugin.audiollm.options import from_section
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
from uas_plugin.audiollm.shards import ShardStream, shard_folders
from uas_plugin.audiollm.stages import start_from
from uas_plugin.audiollm.validation import (
    ValidationDecoder,
    ValidationOptions,
    choose_items,
    figures,
)
from uas_plugin.audiollm.vocabulary import Vocabulary
from uas_plugin.errors import UASError, suggest
from uas_plugin.espnet.task import Batch, StreamFactory, UASTask
from uas_plugin.espnet.trainer import UASTrainer, rank_and_world

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
    """The language model in ESPnet's form.

    Args:
        validation: decodes answers behind every epoch; None: loss alone.
    """

    def __init__(self, model: AudioLLM, validation: ValidationDecoder | None = None) -> None:
        super().__init__()
        self.model, self.validation = model, validation

    def forward(
        self, utt_id: list[str] | None = None, **batch: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
        """Loss, statistics, weight (answer tokens); see ``AudioLLM.forward``.

        ``utt_id``: names that ESPnet's trainer adds.
        """
        # The weights may be of half precision (DeepSpeed); then so is what an encoder hears.
        kind = next(self.model.parameters()).dtype
        batch = {n: v.to(kind) if v.is_floating_point() else v for n, v in batch.items()}
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


class DecodingTrainer(Trainer):
    """A trainer that decodes a few items of the development set behind every epoch."""

    @classmethod
    def validate_one_epoch(
        cls, model: Any, iterator: Any, reporter: Any, options: Any, distributed_option: Any
    ) -> None:
        """Validate; the first process also decodes, reports the figures and keeps the answers."""
        super().validate_one_epoch(model, iterator, reporter, options, distributed_option)
        own = getattr(model, "module", model)  # of DDP and of DeepSpeed's engine
        decoder = getattr(own, "validation", None)
        sharded = getattr(model, "zero_optimization_partition_weights", bool)()
        if decoder is None or sharded or rank_and_world()[0]:
            return
        rows = decoder.decode(own.model.lm)
        if not rows:
            return
        folder = Path(options.output_dir) / "decoded"
        folder.mkdir(exist_ok=True)
        write_jsonl(folder / f"{reporter.get_epoch()}epoch.jsonl", rows)
        reporter.register(figures(rows), torch.ones(1))
        reporter.next()


class AudioLLMTrainer(DecodingTrainer, UASTrainer):
    """The trainer of the AudioLLM."""


class AudioLLMTask(UASTask):
    """``python -m uas_plugin.bin.audiollm_train``."""

    trainer = AudioLLMTrainer

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
        group.add_argument("--text_model", type=str_or_none, help="text tokenizer, to decode")
        group.add_argument(
            "--valid_decode_conf",
            action=NestedDictAction,
            default={},
            help="answers to decode behind every epoch: items (of a task), max_new_tokens",
        )
        parser.get_default("required").extend(["train_data", "valid_data", "vocab"])

    @classmethod
    def deepspeed_trainer(cls) -> type[Trainer]:
        """The trainer of ``--use_deepspeed true``."""
        from uas_plugin.espnet.deepspeed_trainer import UASDeepSpeedTrainer

        class AudioLLMDeepSpeedTrainer(DecodingTrainer, UASDeepSpeedTrainer):
            """DeepSpeed's, with decoding."""

        return AudioLLMDeepSpeedTrainer

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
        return ESPnetAudioLLM(model, cls._validation(args, model))

    @classmethod
    def _validation(cls, args: argparse.Namespace, model: AudioLLM) -> ValidationDecoder | None:
        options = from_section(ValidationOptions, args.valid_decode_conf, "lm.train.valid_decode")
        if not options.items:
            return None
        if args.text_model is None or model.audio is not None:
            raise UASError(
                "valid_decode_conf needs --text_model and a model with discrete audio input"
            )
        data, text = _discrete(args.valid_data), text_beside(args.vocab, args.text_model)
        items = choose_items(data, model.vocabulary, text, options.items)
        return ValidationDecoder(items, model.vocabulary, text, options)

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

    @classmethod
    def build_iter_factory(
        cls, args: argparse.Namespace, distributed_option: Any, mode: str, kwargs: Any = None
    ) -> AbsIterFactory:
        """Batches of an epoch; sharded training data is a stream that each epoch goes on with."""
        folders = shard_folders(args.train_data) if mode == "train" else None
        if folders is None:
            return super().build_iter_factory(args, distributed_option, mode, kwargs)
        if args.num_iters_per_epoch is None or args.model_conf.get("audio_input") == "continuous":
            raise UASError(
                "sharded LM data needs --num_iters_per_epoch and a model with discrete audio input"
            )
        conf, (rank, world) = _batch_options(args.batch_conf), rank_and_world()
        stream = ShardStream(
            folders,
            conf["mixture"],
            row_tokens=conf["row_tokens"],
            rows=conf["rows"],
            seed=args.seed,
            rank=rank,
            world=world,
            positions=Path(args.output_dir) / "data_position",
        )
        begin = functools.partial(_stream_batches, stream, args, conf)
        return StreamFactory(begin, args.num_iters_per_epoch)


def _stream_batches(
    stream: ShardStream,
    args: argparse.Namespace,
    conf: Mapping[str, Any],
    epoch: int,
    done: int,
) -> Iterator[Batch]:
    vocabulary = Vocabulary.load(args.vocab)
    noise = conf["code_noise"], conf["answer_noise"]
    for step in stream.epoch(epoch, args.num_iters_per_epoch, done):
        rng = np.random.default_rng((args.seed, *step.key))
        yield from _batches(step.data, [step.rows], vocabulary, noise, rng)


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
