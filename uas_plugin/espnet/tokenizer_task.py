"""ESPnet task: train an audio tokenizer under text supervision.

It is not the codec task: there is no waveform decoder and no adversary; the text decoder that
supervises the codes is thrown away when the tokenizer is exported.
"""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from espnet2.asr.specaug.specaug import SpecAug
from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.torch_utils.device_funcs import force_gatherable
from espnet2.train.abs_espnet_model import AbsESPnetModel
from espnet2.utils.types import str_or_none

from uas_plugin.data.manifests import load_cuts
from uas_plugin.data.noise import NoisyViews
from uas_plugin.data.sampling import all_cuts, bucketed_batches, loaded, mixed, one_pass
from uas_plugin.data.shar.stream import SharStream, all_shar
from uas_plugin.errors import UASError, suggest
from uas_plugin.espnet.task import Batch, StreamFactory, UASTask
from uas_plugin.espnet.trainer import rank_and_world
from uas_plugin.tokenizer import reduce
from uas_plugin.tokenizer.augment import Warp
from uas_plugin.tokenizer.build import build_model
from uas_plugin.tokenizer.examples import FeatureCache, Targets, TokenizerDataset, collect_labels
from uas_plugin.tokenizer.seq2seq import TokenizerSeq2Seq
from uas_plugin.tokenizer.vocabulary import DecoderVocabulary, TextUnits, load_text, text_of
from uas_plugin.tokenizer.warm_start import init_from_whisper

AUTOCAST = {None: None, "bfloat16": torch.bfloat16, "float16": torch.float16}
BATCH_DEFAULTS: dict[str, Any] = {
    "max_duration": 16.0,
    "max_cut": 30.0,
    "num_buckets": 8,
    "tasks": {"uas": 0.85, "asr": 0.15},
    "max_target": 256,
    "min_text": 0,
    "cache_mb": 1024,
    "noisy_views": False,  # for the voters of LFQ
    "noise_cuts": None,  # recorded noise for them
}


class ESPnetTokenizerModel(AbsESPnetModel):
    """The training model in ESPnet's form, with warps and SpecAugment on the features.

    Args:
        model: encoder, quantizer and text decoder.
        spec_augment: options of ESPnet's SpecAug; None: no masks.
        warp: options of :class:`Warp`; None: no warps.
        autocast: ``"bfloat16"`` or ``"float16"`` (with ESPnet's ``--use_amp`` for its scaling) to
            run the layers in; losses, codebook and moving averages stay in float32.
    """

    def __init__(
        self,
        model: TokenizerSeq2Seq,
        spec_augment: dict[str, Any] | None = None,
        warp: dict[str, Any] | None = None,
        autocast: str | None = None,
    ) -> None:
        super().__init__()
        if autocast not in AUTOCAST:
            known = ", ".join(str(name) for name in AUTOCAST)
            raise UASError(f"model_conf.autocast must be one of {known}, not {autocast!r}")
        self.model, self.autocast = model, AUTOCAST[autocast]
        self.warp = Warp(**warp) if warp else None
        self.spec_augment = SpecAug(apply_time_warp=False, **spec_augment) if spec_augment else None

    def forward(
        self,
        features: torch.Tensor,
        features_lengths: torch.Tensor,
        decoder_input_ids: torch.Tensor,
        labels: torch.Tensor,
        ctc_ids: torch.Tensor,
        ctc_ids_lengths: torch.Tensor,
        noisy_features: torch.Tensor | None = None,
        **others: torch.Tensor,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
        """Loss, statistics, weight. ``features``: (B, F, M); see TokenizerDataset for the rest."""
        if self.warp is not None:
            features, features_lengths, noisy_features = self.warp(
                features, features_lengths, noisy_features
            )
        if self.training and self.spec_augment is not None:
            features, features_lengths = self.spec_augment(features, features_lengths)
        classes = {
            key.removeprefix("class_"): value
            for key, value in others.items()
            if key.startswith("class_")
        }
        device = features.device
        with torch.autocast(device.type, self.autocast, enabled=self.autocast is not None):
            loss, stats = self.model(
                features.transpose(1, 2),
                features_lengths,
                decoder_input_ids,
                labels,
                ctc_ids,
                ctc_ids_lengths,
                classes,
                None if noisy_features is None else noisy_features.transpose(1, 2),
            )
        # The same on every process: the loss is this process's part of the mean over all.
        clips = reduce.total(torch.tensor(float(len(features)), device=device))
        return force_gatherable((loss, stats, clips / reduce.world_size()), device)

    def collect_feats(
        self, features: torch.Tensor, features_lengths: torch.Tensor, **_others: Any
    ) -> dict[str, torch.Tensor]:
        """The log-mel features: (B, F, M)."""
        return {"feats": features, "feats_lengths": features_lengths}


@functools.lru_cache(maxsize=4)
def _text(path: str) -> TextUnits:
    return load_text(path)


@functools.lru_cache(maxsize=2)
def _cache(num_mel_bins: int, multiple: int, megabytes: int) -> FeatureCache:
    """One cache a process, so that features are kept from epoch to epoch."""
    return FeatureCache(num_mel_bins, multiple, megabytes * 2**20)


def _batch_conf(given: dict[str, Any]) -> dict[str, Any]:
    for key in given:
        if key not in BATCH_DEFAULTS:
            raise UASError(f"batch_conf: unknown key '{key}'.{suggest(key, BATCH_DEFAULTS)}")
    return {**BATCH_DEFAULTS, **given}


class TokenizerTask(UASTask):
    """``python -m uas_plugin.bin.tokenizer_train``."""

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the tokenizer's options to ESPnet's."""
        cls.add_common_arguments(parser)
        group = parser.add_argument_group(description="Tokenizer options")
        group.add_argument(
            "--train_cuts",
            type=yaml.safe_load,
            help="cuts.jsonl.gz or Shar of training, or a list of {cuts: ..., weight: ...} that "
            "are mixed by these shares",
        )
        group.add_argument("--valid_cuts", type=str_or_none, help="cuts.jsonl.gz of validation")
        group.add_argument("--text_model", type=str_or_none, help="bpe.model of the text stage")
        group.add_argument(
            "--whisper_text",
            type=str_or_none,
            help="folder or hub name of a Whisper model, whose text tokenizer is used instead",
        )
        parser.get_default("required").extend(["train_cuts", "valid_cuts", "text_model"])

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> ESPnetTokenizerModel:
        """The model of ``--model_conf``; labels of the class heads are read from the cuts once."""
        conf = args.model_conf
        # What is saved must be found again from any working directory.
        args.text_model = os.path.abspath(args.text_model)
        if conf.get("class_weight") and not conf.get("class_labels"):
            conf["class_labels"] = collect_labels(all_cuts(args.train_cuts), conf["class_fields"])
        vocabulary = DecoderVocabulary.of(_text(text_of(vars(args))))
        model = build_model(conf, vocabulary)
        if conf.get("init"):
            init_from_whisper(model, conf["init"], whisper_text=bool(vocabulary.starts))
        if conf.get("gradient_checkpointing"):
            model.gradient_checkpointing_enable({"use_reentrant": False})
        return ESPnetTokenizerModel(
            model, conf.get("spec_augment"), conf.get("warp"), conf.get("autocast")
        )

    @classmethod
    def build_dataset(cls, args: argparse.Namespace, mode: str, epoch: int) -> TokenizerDataset:
        """Cuts to tensors; the noisy views of an epoch differ from those of the others."""
        conf, model = _batch_conf(args.batch_conf), args.model_conf
        # Validation always reads one task: its loss must not depend on which clips have which.
        tasks = conf["tasks"] if mode == "train" else {max(conf["tasks"], key=conf["tasks"].get): 1}
        targets = Targets(
            _text(text_of(vars(args))), tasks, args.seed, conf["max_target"], conf["min_text"]
        )
        multiple = 2 * (model.get("pooling_kernel_size", 2) or 1)
        cache = _cache(model.get("num_mel_bins", 80), multiple, conf["cache_mb"])
        noise = None
        if conf["noisy_views"] and mode == "train":
            if model.get("spec_augment"):
                raise UASError("spec_augment masks one view only: set it to null with noisy_views")
            noise = NoisyViews(conf["noise_cuts"], args.seed, epoch)
        return TokenizerDataset(targets, cache, model.get("class_labels") or {}, noise)

    @classmethod
    def build_batches(cls, args: argparse.Namespace, mode: str, epoch: int) -> Iterable[Batch]:
        """One pass over the cuts of ``mode`` in batches of like duration."""
        conf = _batch_conf(args.batch_conf)
        dataset = cls.build_dataset(args, mode, epoch)
        seed = args.seed + epoch
        if mode == "train" and args.num_iters_per_epoch and not args.collect_stats:
            rank, world = rank_and_world()
            sampler = bucketed_batches(
                mixed(args.train_cuts, seed, conf["max_cut"]),
                max_duration=conf["max_duration"],
                seed=seed,
                num_buckets=conf["num_buckets"],
                rank=rank,
                world_size=world,
            )
        else:
            cuts = all_cuts(args.train_cuts) if mode == "train" else load_cuts(args.valid_cuts)
            sampler = one_pass(
                cuts,
                max_duration=conf["max_duration"],
                max_cut=conf["max_cut"],
                seed=seed,
                shuffle=mode == "train",
            )
        return loaded(dataset, sampler, args.num_workers)

    @classmethod
    def build_iter_factory(
        cls, args: argparse.Namespace, distributed_option: Any, mode: str, kwargs: Any = None
    ) -> AbsIterFactory:
        """Batches of an epoch; of Shars a stream that each epoch goes on with."""
        if mode != "train" or not all_shar(args.train_cuts):
            return super().build_iter_factory(args, distributed_option, mode, kwargs)
        if args.num_iters_per_epoch is None:
            raise UASError("training on Shars needs --num_iters_per_epoch: they have no end")
        conf, (rank, world) = _batch_conf(args.batch_conf), rank_and_world()
        stream = SharStream(
            args.train_cuts,
            **{key: conf[key] for key in ("max_duration", "max_cut", "num_buckets")},
            seed=args.seed,
            positions=Path(args.output_dir) / "data_position",
            rank=rank,
            world=world,
        )

        def begin(epoch: int, done: int) -> Iterator[Batch]:
            dataset = cls.build_dataset(args, "train", epoch)
            steps = stream.epoch(epoch, args.num_iters_per_epoch, done)
            return loaded(dataset, steps, args.num_workers)

        return StreamFactory(begin, args.num_iters_per_epoch)
