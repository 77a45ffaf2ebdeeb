"""ESPnet task: train an audio tokenizer under text supervision.

It is not the codec task: there is no waveform decoder and no adversary; the text decoder that
supervises the codes is thrown away when the tokenizer is exported.
"""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Iterable
from typing import Any

import torch
from espnet2.asr.specaug.specaug import SpecAug
from espnet2.torch_utils.device_funcs import force_gatherable
from espnet2.train.abs_espnet_model import AbsESPnetModel
from espnet2.utils.types import str_or_none

from uas_plugin.data.manifests import load_cuts
from uas_plugin.data.sampling import bucketed_batches, loaded, one_pass
from uas_plugin.data.text import TextTokenizer
from uas_plugin.espnet.task import Batch, UASTask, rank_and_world
from uas_plugin.tokenizer.augment import Warp
from uas_plugin.tokenizer.build import build_model
from uas_plugin.tokenizer.examples import (
    DecoderVocabulary,
    FeatureCache,
    TokenizerDataset,
    collect_labels,
)
from uas_plugin.tokenizer.seq2seq import TokenizerSeq2Seq
from uas_plugin.tokenizer.warm_start import init_from_whisper

BATCH_DEFAULTS: dict[str, Any] = {
    "max_duration": 16.0,
    "max_cut": 30.0,
    "num_buckets": 8,
    "asr_share": 0.15,
    "max_target": 256,
    "cache_mb": 1024,
}


class ESPnetTokenizerModel(AbsESPnetModel):
    """The training model in ESPnet's form, with warps and SpecAugment on the features."""

    def __init__(
        self,
        model: TokenizerSeq2Seq,
        spec_augment: dict[str, Any] | None = None,
        warp: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
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
        **others: Any,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
        """Loss, statistics, weight. ``features``: (B, F, M); see TokenizerDataset for the rest."""
        if self.warp is not None:
            features, features_lengths = self.warp(features, features_lengths)
        if self.training and self.spec_augment is not None:
            features, features_lengths = self.spec_augment(features, features_lengths)
        classes = {
            key.removeprefix("class_"): value
            for key, value in others.items()
            if key.startswith("class_")
        }
        loss, stats = self.model(
            features.transpose(1, 2),
            features_lengths,
            decoder_input_ids,
            labels,
            ctc_ids,
            ctc_ids_lengths,
            classes,
        )
        weight = torch.tensor(float(len(features)), device=loss.device)
        return force_gatherable((loss, stats, weight), loss.device)

    def collect_feats(
        self, features: torch.Tensor, features_lengths: torch.Tensor, **_others: Any
    ) -> dict[str, torch.Tensor]:
        """The log-mel features: (B, F, M)."""
        return {"feats": features, "feats_lengths": features_lengths}


@functools.lru_cache(maxsize=4)
def _dataset(
    text_model: str,
    mel: int,
    pool: int,
    labels: tuple,
    asr_share: float,
    seed: int,
    max_target: int,
    cache_mb: int,
) -> TokenizerDataset:
    """One dataset a process, so that its features stay cached from epoch to epoch."""
    cache = FeatureCache(mel, pool, cache_mb * 2**20)
    fields = {name: list(values) for name, values in labels}
    return TokenizerDataset(TextTokenizer(text_model), cache, fields, asr_share, seed, max_target)


class TokenizerTask(UASTask):
    """``python -m uas_plugin.bin.tokenizer_train``."""

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the tokenizer's options to ESPnet's."""
        cls.add_common_arguments(parser)
        group = parser.add_argument_group(description="Tokenizer options")
        group.add_argument("--train_cuts", type=str_or_none, help="cuts.jsonl.gz of training")
        group.add_argument("--valid_cuts", type=str_or_none, help="cuts.jsonl.gz of validation")
        group.add_argument("--text_model", type=str_or_none, help="bpe.model of the text stage")
        parser.get_default("required").extend(["train_cuts", "valid_cuts", "text_model"])

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> ESPnetTokenizerModel:
        """The model of ``--model_conf``; labels of the class heads are read from the cuts once."""
        conf = args.model_conf
        # What is saved must be found again from any working directory.
        args.text_model = os.path.abspath(args.text_model)
        if conf.get("class_weight") and not conf.get("class_labels"):
            conf["class_labels"] = collect_labels(load_cuts(args.train_cuts), conf["class_fields"])
        model = build_model(conf, DecoderVocabulary.of(TextTokenizer(args.text_model)))
        if conf.get("init"):
            init_from_whisper(model, conf["init"])
        return ESPnetTokenizerModel(model, conf.get("spec_augment"), conf.get("warp"))

    @classmethod
    def build_batches(cls, args: argparse.Namespace, mode: str, epoch: int) -> Iterable[Batch]:
        """One pass over the cuts of ``mode`` in batches of like duration."""
        conf = {**BATCH_DEFAULTS, **args.batch_conf}
        labels = args.model_conf.get("class_labels") or {}
        dataset = _dataset(
            args.text_model,
            args.model_conf.get("num_mel_bins", 80),
            args.model_conf.get("pooling_kernel_size", 2) or 1,
            tuple((name, tuple(values)) for name, values in sorted(labels.items())),
            # Validation always reads the schema: its loss must not depend on which clips are ASR.
            conf["asr_share"] if mode == "train" else 0.0,
            args.seed,
            conf["max_target"],
            conf["cache_mb"],
        )
        cuts = load_cuts(args.train_cuts if mode == "train" else args.valid_cuts)
        limits = {"max_duration": conf["max_duration"], "max_cut": conf["max_cut"]}
        seed = args.seed + epoch
        if mode == "train" and args.num_iters_per_epoch and not args.collect_stats:
            rank, world = rank_and_world()
            buckets = conf["num_buckets"]
            sampler = bucketed_batches(
                cuts, **limits, seed=seed, num_buckets=buckets, rank=rank, world_size=world
            )
        else:
            sampler = one_pass(cuts, **limits, seed=seed, shuffle=mode == "train")
        return loaded(dataset, sampler, args.num_workers)
