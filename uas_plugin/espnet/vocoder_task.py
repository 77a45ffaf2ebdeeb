"""ESPnet task: train the HiFT vocoder against HiFi-GAN's discriminators.

Trainer, discriminators and losses are ESPnet's; the network, the F0 that it learns and the data are
ours. HiFTNet (arXiv 2309.09493) has further losses (TPRLS) and another discriminator beside the
multi-period one; they are left out, and so is its pretrained F0 network: the predictor learns from
WORLD's F0. Shapes: `B` batch, `S` samples, `F` mel frames, `M` mel bins, `H` harmonics.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from espnet2.gan_tts.hifigan import HiFiGANMultiScaleMultiPeriodDiscriminator
from espnet2.gan_tts.hifigan.loss import (
    DiscriminatorAdversarialLoss,
    FeatureMatchLoss,
    GeneratorAdversarialLoss,
    MelSpectrogramLoss,
)
from espnet2.tasks.abs_task import optim_classes
from espnet2.torch_utils.device_funcs import force_gatherable
from espnet2.train.abs_gan_espnet_model import AbsGANESPnetModel
from espnet2.train.gan_trainer import GANTrainer
from espnet2.utils.types import str_or_none

from uas_plugin.codec.hift import HiFTGenerator
from uas_plugin.codec.mel import MelConfig, log_mel
from uas_plugin.codec.source import Excitation
from uas_plugin.codec.vocoder import HiFT
from uas_plugin.codec.vocoder_config import (
    LossConfig,
    SegmentConfig,
    VocoderTraining,
    segment_config,
    vocoder_training,
)
from uas_plugin.codec.waves import SegmentDataset, prepare_waves, waves_key
from uas_plugin.errors import UASError
from uas_plugin.espnet.codec_task import feature_folder, made_once
from uas_plugin.espnet.task import Batch, UASTask, fill_schedule
from uas_plugin.espnet.trainer import UASTrainer, rank_and_world

Stats = dict[str, torch.Tensor]


class UASGANTrainer(UASTrainer, GANTrainer):
    """ESPnet's GAN trainer with the resume of UASTrainer."""


@contextlib.contextmanager
def frozen(module: torch.nn.Module) -> Iterator[None]:
    """Compute no gradients of the weights of ``module`` inside the block."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)


class ESPnetVocoder(AbsGANESPnetModel):
    """Generator and discriminators in the form that ESPnet's GAN trainer wants.

    Args:
        generator: the vocoder's network.
        discriminator: waveforms (B, 1, S) -> for each discriminator, its layers' outputs.
        mel: the grid of the generator's input.
        losses: weights of the generator's losses.
    """

    def __init__(
        self,
        generator: HiFTGenerator,
        discriminator: torch.nn.Module,
        mel: MelConfig,
        losses: LossConfig,
    ) -> None:
        super().__init__()
        self.generator, self.discriminator = generator, discriminator
        self.mel, self.losses = mel, losses
        self.adversarial = GeneratorAdversarialLoss()
        self.telling_apart = DiscriminatorAdversarialLoss()
        self.feature_matching = FeatureMatchLoss()
        # As in HiFi-GAN the loss hears the whole band, the network's input ends at fmax.
        self.mel_distance = MelSpectrogramLoss(
            fs=mel.sampling_rate,
            n_fft=mel.n_fft,
            hop_length=mel.hop_length,
            win_length=mel.win_length,
            n_mels=mel.n_mels,
            fmin=int(mel.fmin),
            fmax=None,
            log_base=None,
        )
        self._made: torch.Tensor | None = None

    def forward(
        self,
        wav: torch.Tensor,
        f0: torch.Tensor,
        forward_generator: bool = True,
        **_others: Any,
    ) -> dict[str, Any]:
        """Loss, statistics and weight of one turn of a batch.

        Args:
            wav: (B, S) in [-1, 1], S = F * hop_length. f0: (B, F) in Hz, 0 where unvoiced.
            forward_generator: the generator's turn, else the discriminators'.
        """
        turn = self._generator_turn if forward_generator else self._discriminator_turn
        loss, stats = turn(wav, f0)
        weight = torch.tensor(len(wav), device=loss.device)
        loss, stats, weight = force_gatherable((loss, stats, weight), loss.device)
        optimizer = 0 if forward_generator else 1
        return {"loss": loss, "stats": stats, "weight": weight, "optim_idx": optimizer}

    def generate(self, mel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Waveforms (B, 1, S) and F0 (B, F) of log-mels (B, M, F); validation's noise is fixed."""
        generator = None
        if not self.training:
            generator = torch.Generator(mel.device).manual_seed(0)
        network = self.generator
        f0 = network.f0(mel)
        options: dict[str, Any] = {"generator": generator, "device": mel.device}
        shape = len(mel), network.source.count
        phase = (2 * torch.rand(*shape, 1, **options) - 1) * torch.pi
        phase[:, 0] = 0
        samples = mel.shape[2] * network.config.hop_length
        excitation = Excitation(phase, torch.randn(*shape, samples, **options))
        spectrum = network.spectrum(mel, network.excite(f0, excitation))
        return network.synthesise(spectrum)[:, None], f0

    def _generator_turn(self, wav: torch.Tensor, f0: torch.Tensor) -> tuple[torch.Tensor, Stats]:
        real = wav[:, None]
        mel = log_mel(wav, self.mel).transpose(1, 2)
        made, predicted = self.generate(mel)
        # The discriminators' turn, which comes next, needs no second run of the generator.
        self._made = made.detach()
        with frozen(self.discriminator):
            judged = self.discriminator(made)
            with torch.no_grad():
                known = self.discriminator(real)
        parts = {
            "adversarial": self.adversarial(judged),
            "feature_matching": self.feature_matching(judged, known),
            "mel": self.mel_distance(made, real),
            "f0": F.l1_loss(predicted, f0),
        }
        loss = torch.stack([getattr(self.losses, key) * part for key, part in parts.items()]).sum()
        stats = {"loss": loss.detach(), **{key: part.detach() for key, part in parts.items()}}
        if not self.training:
            heard = log_mel(made[:, 0], self.mel).transpose(1, 2)
            stats["mel_l1"] = (heard - mel).abs().mean()
        return loss, stats

    def _discriminator_turn(
        self, wav: torch.Tensor, _f0: torch.Tensor
    ) -> tuple[torch.Tensor, Stats]:
        made, self._made = self._made, None
        if made is None or len(made) != len(wav):
            with torch.no_grad():
                made, _ = self.generate(log_mel(wav, self.mel).transpose(1, 2))
        real, fake = self.telling_apart(self.discriminator(made), self.discriminator(wav[:, None]))
        loss = real + fake
        return loss, {
            "discriminator": loss.detach(),
            "discriminator_real": real.detach(),
            "discriminator_fake": fake.detach(),
        }

    def collect_feats(self, wav: torch.Tensor, **_others: torch.Tensor) -> Stats:
        """The log-mels of the segments: (B, F, M)."""
        mel = log_mel(wav, self.mel)
        return {"mel": mel, "mel_lengths": torch.full((len(mel),), mel.shape[1])}


def start_f0(network: HiFTGenerator, mean: float, deviation: float) -> None:
    """Give the F0 predictor's last layer the scale of the data, Hz.

    It predicts Hz without any normalisation, and a step of the optimiser moves a weight by its
    learning rate at most: from PyTorch's initial values it would need thousands of steps.
    """
    with torch.no_grad():
        network.f0_predictor.classifier.weight.mul_(max(deviation, 1.0))
        network.f0_predictor.classifier.bias.fill_(mean)


@functools.lru_cache(maxsize=4)
def _dataset(folder: Path, batch: SegmentConfig) -> SegmentDataset:
    return SegmentDataset(folder, batch)


class VocoderTask(UASTask):
    """``python -m uas_plugin.bin.vocoder_train``."""

    num_optimizers = 2
    trainer = UASGANTrainer

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the vocoder's options to ESPnet's."""
        cls.add_common_arguments(parser)
        group = parser.add_argument_group(description="Vocoder options")
        group.add_argument("--train_cuts", type=str_or_none, help="cuts of recordings to train on")
        group.add_argument("--valid_cuts", type=str_or_none, help="cuts to validate on")
        parser.get_default("required").extend(["train_cuts", "valid_cuts"])
        parser.set_defaults(
            # The discriminators' turn must find the waveforms that the generator's has made.
            generator_first=True,
            # In each turn one of the two networks is without gradient.
            unused_parameters=True,
            best_model_criterion=[["valid", "mel_l1", "min"]],
        )

    @classmethod
    def main_worker(cls, args: argparse.Namespace) -> None:
        """Check the options, prepare the waveforms once, then train."""
        config = vocoder_training(args.model_conf)
        segment_config(args.batch_conf)
        if args.optim_groups:
            raise UASError("the vocoder's training has one group a network: optim, optim2")
        for mode, cuts in (("train", Path(args.train_cuts)), ("valid", Path(args.valid_cuts))):
            folder = feature_folder(args, mode)
            make = functools.partial(prepare_waves, cuts, folder, config.mel)
            made_once(make, folder, waves_key(cuts, config.mel), args)
        super().main_worker(args)

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> ESPnetVocoder:
        """The networks of ``--model_conf``; the F0 predictor starts at the training set's scale."""
        config = vocoder_training(args.model_conf)
        data = _dataset(feature_folder(args, "train"), segment_config(args.batch_conf))
        model = make_model(config)
        start_f0(model.generator, *data.f0_statistics())
        return model

    @classmethod
    def build_optimizers(cls, args: argparse.Namespace, model: Any) -> list[Any]:
        """One optimiser for the generator, the second for the discriminators."""
        networks = model.generator, model.discriminator
        optimizers = []
        for suffix, network in zip(("", "2"), networks, strict=True):
            fill_schedule(args, suffix)
            kind = optim_classes[getattr(args, f"optim{suffix}")]
            optimizers.append(kind(network.parameters(), **getattr(args, f"optim{suffix}_conf")))
        return optimizers

    @classmethod
    def build_batches(cls, args: argparse.Namespace, mode: str, epoch: int) -> Iterable[Batch]:
        """Random segments to train on, fixed ones to validate on."""
        data = _dataset(feature_folder(args, mode), segment_config(args.batch_conf))
        if mode == "train":
            return data.train_batches(args.seed, epoch, *rank_and_world())
        return data.valid_batches()


def make_model(config: VocoderTraining) -> ESPnetVocoder:
    """Networks with random weights.

    Raises:
        UASError: sizes of the vocoder that do not fit the mel grid, or unknown options.
    """
    generator = HiFT(config.mel, **config.hift).network
    try:
        discriminator = HiFiGANMultiScaleMultiPeriodDiscriminator(**config.discriminator_conf)
    except (TypeError, ValueError) as error:
        raise UASError(f"vocoder.model.discriminator_conf: {error}") from None
    return ESPnetVocoder(generator, discriminator, config.mel, config.losses)
