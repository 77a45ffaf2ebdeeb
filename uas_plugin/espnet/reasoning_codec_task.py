"""ESPnet task: the three phases of training a ReasoningCodec, on crops of cuts at 24 kHz.

Here stands the reconstruction phase, in which encoders, SQ-Codec and the reasoning branch are those
of a folder and stay as they are; the other two are `uas_plugin.espnet.thinking`'s.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from espnet2.torch_utils.device_funcs import force_gatherable
from espnet2.train.abs_espnet_model import AbsESPnetModel
from espnet2.utils.types import str_or_none

from uas_plugin.codec.reasoning.config import SAMPLES_PER_LATENT
from uas_plugin.codec.reasoning.encoders import FrozenEncoders
from uas_plugin.codec.reasoning.folders import load_decoder, load_encoding
from uas_plugin.codec.reasoning.mel_latents import MelLatents
from uas_plugin.codec.reasoning.small_encoders import SmallEncoders
from uas_plugin.codec.reasoning.sq_codec import SQCodec
from uas_plugin.codec.reasoning.training import (
    ReconstructionOptions,
    ReconstructionTraining,
    whole_frames,
)
from uas_plugin.errors import UASError, suggest
from uas_plugin.espnet.crops import crops, read_cuts, share_of_rank
from uas_plugin.espnet.task import Batch, UASTask
from uas_plugin.espnet.thinking import (
    REFINEMENT,
    THINKING,
    refinement_model,
    thinking_batches,
    thinking_model,
)
from uas_plugin.espnet.trainer import rank_and_world

RECONSTRUCTION = "reconstruction"
PHASES = {THINKING: thinking_model, REFINEMENT: refinement_model}
BATCH_DEFAULTS: dict[str, Any] = {"size": 16, "seconds": 12.0, "valid_clips": 64}


class ESPnetReasoningCodec(AbsESPnetModel):
    """The reconstruction phase in ESPnet's form; the frozen parts are in no checkpoint."""

    def __init__(
        self,
        training: ReconstructionTraining,
        encoders: FrozenEncoders | SmallEncoders,
        sq_codec: SQCodec | MelLatents,
    ) -> None:
        super().__init__()
        self.training_model = training
        self._frozen: list[Any] = [encoders.eval(), sq_codec.eval()]  # a list is no module

    def forward(
        self, wav: torch.Tensor, wav_lengths: torch.Tensor, utt_id: list[str] | None = None
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
        """Loss, statistics, weight (clips) of ``wav`` (B, S) at 24 kHz, S a multiple of 9600.

        Validation draws its noise from the batch's content. ``utt_id``: names that the trainer
        adds.
        """
        encoders, sq_codec = (module.to(wav.device) for module in self._frozen)
        with torch.no_grad():
            features = whole_frames(encoders(wav))
            latents = sq_codec.encode(wav[:, None]).transpose(1, 2)
        generator = None
        if not self.training:
            generator = torch.Generator().manual_seed(int(wav_lengths.sum()))
        lengths = -(-wav_lengths // SAMPLES_PER_LATENT)
        loss, stats = self.training_model(features, latents, lengths, generator)
        weight = torch.tensor(len(wav), device=loss.device)
        return force_gatherable((loss, stats, weight), loss.device)

    def collect_feats(self, wav: torch.Tensor, wav_lengths: torch.Tensor) -> dict[str, Any]:
        """The crops."""
        return {"wav": wav[..., None], "wav_lengths": wav_lengths}


class ReasoningCodecTask(UASTask):
    """``python -m uas_plugin.bin.reasoning_codec_train``."""

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the ReasoningCodec's options to ESPnet's."""
        cls.add_common_arguments(parser)
        # Of a codec each phase trains a part.
        parser.set_defaults(unused_parameters=True)
        group = parser.add_argument_group(description="ReasoningCodec options")
        group.add_argument("--train_cuts", type=str_or_none, help="cuts to train on")
        group.add_argument("--valid_cuts", type=str_or_none, help="cuts to validate on")
        group.add_argument("--codec", type=str_or_none, help="folder with encoders and SQ-Codec")
        group.add_argument(
            "--phase",
            default=RECONSTRUCTION,
            choices=(RECONSTRUCTION, *PHASES),
            help="what is trained: the reconstruction branch and the flow (default), the reasoning "
            "branch by answering questions, or the same by rewards of what it writes",
        )
        group.add_argument("--text_tokenizer", type=str_or_none, help="of thinking: its folder")
        group.add_argument(
            "--thinking", type=str_or_none, help="of refinement: finished training of thinking"
        )
        parser.get_default("required").extend(["train_cuts", "valid_cuts", "codec"])

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> AbsESPnetModel:
        """The codec of ``--codec``; ``--model_conf`` has the weights of the losses, or see
        `uas_plugin.espnet.thinking`."""
        if args.phase != RECONSTRUCTION:
            return PHASES[args.phase](args)
        known = [f.name for f in fields(ReconstructionOptions)]
        options = ReconstructionOptions(**checked("model", args.model_conf, known))
        tokenizer, decoder = load_encoding(Path(args.codec)), load_decoder(Path(args.codec))
        training = ReconstructionTraining(tokenizer.model, options)
        return ESPnetReasoningCodec(training, tokenizer.encoders, decoder.sq_codec)

    @classmethod
    def build_batches(cls, args: argparse.Namespace, mode: str, epoch: int) -> Iterable[Batch]:
        """Random crops in random order to train on, beginnings to validate on."""
        if args.phase != RECONSTRUCTION:
            return thinking_batches(args, mode, epoch)
        conf = {**BATCH_DEFAULTS, **checked("batch", args.batch_conf, BATCH_DEFAULTS)}
        train = mode == "train"
        cuts = read_cuts(args.train_cuts if train else args.valid_cuts)
        if not train:
            return _batches(cuts[: conf["valid_clips"]], conf, None)
        place = rank_and_world()
        order = share_of_rank(len(cuts), conf["size"], args.seed, epoch, place)
        rng = np.random.default_rng([args.seed, epoch, place[0]])
        return _batches([cuts[i] for i in order], conf, rng)


def _batches(
    cuts: list[Any], conf: Mapping[str, Any], rng: np.random.Generator | None
) -> Iterator[Batch]:
    for at in range(0, len(cuts), conf["size"]):
        chosen = cuts[at : at + conf["size"]]
        yield [cut.id for cut in chosen], crops(chosen, conf["seconds"], rng)


def checked(name: str, given: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """``given``, all of whose keys must be ``known``.

    Raises:
        UASError: one is not; the nearest is named.
    """
    for key in given:
        if key not in known:
            raise UASError(f"reasoning_codec.{name}: unknown key '{key}'.{suggest(key, known)}")
    return dict(given)
