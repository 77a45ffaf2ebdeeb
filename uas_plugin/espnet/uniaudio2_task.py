"""ESPnet task: the four training stages of the unified LM."""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from espnet2.torch_utils.device_funcs import force_gatherable
from espnet2.train.abs_espnet_model import AbsESPnetModel
from espnet2.utils.types import str_or_none

from uas_plugin.audiollm.uniaudio2.config import ids_of_dict, lm_config, vocabularies
from uas_plugin.audiollm.uniaudio2.data import SequenceSet, batches, collate, plan
from uas_plugin.audiollm.uniaudio2.model import UniAudio2
from uas_plugin.audiollm.uniaudio2.training import UniAudio2Training, get_stage
from uas_plugin.errors import UASError, suggest
from uas_plugin.espnet.task import Batch, UASTask
from uas_plugin.espnet.trainer import rank_and_world

# row_frames None: the stage's context. drop: the paper's share of samples without conditions.
BATCH_DEFAULTS: dict[str, Any] = {"row_frames": None, "rows": 4, "drop": 0.1, "mixture": {}}


class ESPnetUniAudio2(AbsESPnetModel):
    """The LM with a stage's loss in ESPnet's form."""

    def __init__(self, training: UniAudio2Training) -> None:
        super().__init__()
        self.training_model = training

    def forward(
        self, utt_id: list[str] | None = None, **batch: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
        """Loss, statistics, weight (ids that count). ``utt_id``: names that the trainer adds."""
        loss, stats, weight = self.training_model(**batch)
        return force_gatherable((loss, stats, weight), loss.device)

    def collect_feats(self, tokens: torch.Tensor, **_others: torch.Tensor) -> dict[str, Any]:
        """The frames of the rows: (B, T, 9)."""
        lengths = torch.full((len(tokens),), tokens.shape[1], dtype=torch.long)
        return {"tokens": tokens, "tokens_lengths": lengths}


@functools.lru_cache(maxsize=4)
def _dataset(folder: str) -> SequenceSet:
    return SequenceSet(folder)


class UniAudio2Task(UASTask):
    """``python -m uas_plugin.bin.uniaudio2_train``."""

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the unified LM's options to ESPnet's."""
        cls.add_common_arguments(parser)
        # A process may have a batch without audio, or a clip whose condition is dropped.
        parser.set_defaults(unused_parameters=True)
        group = parser.add_argument_group(description="Unified LM options")
        group.add_argument("--train_data", type=str_or_none, help="folder of training sequences")
        group.add_argument("--valid_data", type=str_or_none, help="folder of validation sequences")
        group.add_argument(
            "--special",
            type=str_or_none,
            help="JSON of the marks; with it model_conf states neither marks nor vocabularies",
        )
        group.add_argument("--stage", type=int, default=3, help="1 to 4: what is trained, weights")
        parser.get_default("required").extend(["train_data", "valid_data"])

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> ESPnetUniAudio2:
        """The model of ``--model_conf``: ``lm`` (sizes) and ``special`` (marks)."""
        conf = _checked("model", args.model_conf, ("lm", "special"))
        if args.special:
            # config.yaml, which is written after this, then states the whole model.
            special = _read_special(args.special)
            sizes = vocabularies(ids_of_dict(special))
            conf = args.model_conf = {"lm": {**conf.get("lm", {}), **sizes}, "special": special}
        ids_of_dict(conf.get("special", {}))
        model = UniAudio2(lm_config(conf.get("lm", {})))
        return ESPnetUniAudio2(UniAudio2Training(model, get_stage(args.stage)))

    @classmethod
    def build_batches(cls, args: argparse.Namespace, mode: str, epoch: int) -> Iterable[Batch]:
        """One pass over the sequences of ``mode``, packed into rows."""
        conf = {**BATCH_DEFAULTS, **_checked("batch", args.batch_conf, BATCH_DEFAULTS)}
        train = mode == "train"
        data = _dataset(args.train_data if train else args.valid_data)
        rows = plan(
            data,
            row_frames=conf["row_frames"] or get_stage(args.stage).context,
            seed=args.seed,
            epoch=epoch if train else 0,
            mixture=conf["mixture"] if train else None,
        )
        rank, world = rank_and_world() if train else (0, 1)
        rng = np.random.default_rng((args.seed, epoch, rank)) if train else None
        text_pad = ids_of_dict(args.model_conf.get("special", {})).text_pad
        return _batches(data, rows, conf, text_pad, rng, (rank, world))


def _batches(
    data: SequenceSet,
    rows: list[list[int]],
    conf: Mapping[str, Any],
    text_pad: int,
    rng: np.random.Generator | None,
    place: tuple[int, int],
) -> Iterator[Batch]:
    for chosen in batches(data, rows, conf["rows"], *place):
        arrays = collate(data, chosen, text_pad=text_pad, drop=conf["drop"], rng=rng)
        names = [f"row-{row[0]}-{i}" for i, row in enumerate(chosen)]
        yield names, {name: torch.from_numpy(value) for name, value in arrays.items()}


def _read_special(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as stream:
            return json.load(stream)
    except (OSError, ValueError) as error:
        raise UASError(f"{path} is no JSON of marks: {error}") from None


def _checked(name: str, given: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    for key in given:
        if key not in known:
            raise UASError(f"uniaudio2.{name}: unknown key '{key}'.{suggest(key, known)}")
    return dict(given)
