"""ESPnet task: train the token decoder (flow matching on mels).

It is not ESPnet's codec task: the tokens are given, and there is no adversary at this stage.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from espnet2.torch_utils.device_funcs import force_gatherable
from espnet2.train.abs_espnet_model import AbsESPnetModel
from espnet2.train.distributed_utils import get_rank
from espnet2.utils.types import str_or_none

from uas_plugin.codec.clips import ClipDataset, open_dataset
from uas_plugin.codec.config import DecoderConfig, decoder_config
from uas_plugin.codec.crops import CropDataset, batch_config
from uas_plugin.codec.decoder import TokenToMel
from uas_plugin.codec.features import is_made, prepare_features, read_stats, source_key
from uas_plugin.codec.layers import length_mask
from uas_plugin.data.tokens import read_token_info
from uas_plugin.espnet.task import Batch, UASTask
from uas_plugin.espnet.trainer import rank_and_world

VALID_STEPS = 2  # Euler steps behind the validation's mel distance
WAIT_SECONDS = 3600  # for rank 0 to finish the features


class ESPnetCodec(AbsESPnetModel):
    """The token decoder in ESPnet's form."""

    def __init__(self, model: TokenToMel) -> None:
        super().__init__()
        self.model = model

    def forward(self, **batch: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
        """Loss, statistics, weight (clips). Validation draws its noise from the batch's content."""
        batch.pop("utt_id", None)
        generator = None
        if not self.training:
            generator = torch.Generator().manual_seed(int(batch["tokens"].sum()))
        stats = self.model(**batch, generator=generator)
        loss = stats["loss"]
        stats["loss"] = loss.detach()
        if not self.training:
            stats["mel_l1"] = self._distance(batch, generator)
        weight = torch.tensor(len(batch["tokens"]), device=loss.device)
        return force_gatherable((loss, stats, weight), loss.device)

    def _distance(
        self, batch: dict[str, torch.Tensor], generator: torch.Generator | None
    ) -> torch.Tensor:
        """Mean absolute distance of a sample to the target, standardised log-mel."""
        mel, lengths = batch["mel"], batch["mel_lengths"]
        z = torch.randn(mel.transpose(1, 2).shape, generator=generator).to(mel.device)
        made = self.model.generate(
            batch["tokens"], batch["tokens_lengths"], lengths, z, n_steps=VALID_STEPS
        )
        mask = length_mask(lengths, mel.shape[1]).transpose(1, 2)
        error = (self.model.normalise(made) - self.model.normalise(mel)).abs() * mask
        return error.sum() / (mask.sum() * mel.shape[2])

    def collect_feats(
        self, mel: torch.Tensor, mel_lengths: torch.Tensor, **_others: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """The log-mels of the crops."""
        return {"mel": mel, "mel_lengths": mel_lengths}


def feature_folder(args: argparse.Namespace, mode: str) -> Path:
    """Where the features of the training or the validation cuts lie."""
    return Path(args.output_dir) / "features" / ("train" if mode == "train" else "valid")


def made_once(make: Callable[[], None], folder: Path, key: str, args: argparse.Namespace) -> None:
    """Let rank 0 ``make`` the features with ``key`` in ``folder``; the others wait for them."""
    # torch.distributed is not up yet: ESPnet's worker starts it.
    if (get_rank(args.dist_rank, args.dist_launcher) or 0) == 0:
        make()
        return
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        if is_made(folder, key):
            return
        time.sleep(0.5)
    raise TimeoutError(f"{folder} was not made within {WAIT_SECONDS} s")


@functools.lru_cache(maxsize=4)
def _dataset(
    folder: Path, decoder: DecoderConfig, batch: tuple[tuple[str, Any], ...]
) -> CropDataset | ClipDataset:
    return open_dataset(folder, decoder, batch_config(dict(batch)))


class CodecTask(UASTask):
    """``python -m uas_plugin.bin.codec_train``."""

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the token decoder's options to ESPnet's."""
        cls.add_common_arguments(parser)
        group = parser.add_argument_group(description="Token decoder options")
        group.add_argument("--train_cuts", type=str_or_none, help="dumped cuts to train on")
        group.add_argument("--valid_cuts", type=str_or_none, help="dumped cuts to validate on")
        parser.get_default("required").extend(["train_cuts", "valid_cuts"])

    @classmethod
    def main_worker(cls, args: argparse.Namespace) -> None:
        """Take the tokenizer's numbers from the dump, make the features once, then train."""
        info = read_token_info(Path(args.train_cuts).parent)
        numbers = {"vocab_size": info["codebook_size"], "frame_rate": info["frame_rate"]}
        args.model_conf = {**args.model_conf, **numbers}
        config = decoder_config(args.model_conf)
        batch_config(args.batch_conf)
        for mode, cuts in (("train", Path(args.train_cuts)), ("valid", Path(args.valid_cuts))):
            folder = feature_folder(args, mode)
            make = functools.partial(prepare_features, cuts, folder, config)
            made_once(make, folder, source_key(cuts, config), args)
        super().main_worker(args)

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> ESPnetCodec:
        """The decoder of ``--model_conf``, normalising by the statistics of the training set."""
        model = TokenToMel(decoder_config(args.model_conf))
        stats = read_stats(feature_folder(args, "train"))
        model.mel_mean.copy_(torch.from_numpy(stats["mean"]))
        model.mel_std.copy_(torch.from_numpy(stats["std"]))
        return ESPnetCodec(model)

    @classmethod
    def build_batches(cls, args: argparse.Namespace, mode: str, epoch: int) -> Iterable[Batch]:
        """Random crops or whole clips to train on, fixed ones to validate on."""
        data = _dataset(
            feature_folder(args, mode),
            decoder_config(args.model_conf),
            tuple(sorted(args.batch_conf.items())),
        )
        if mode == "train":
            return data.train_batches(args.seed, epoch, *rank_and_world())
        return data.valid_batches()
