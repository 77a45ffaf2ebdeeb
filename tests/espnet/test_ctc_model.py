"""A CTC model on audio tokens in stock ESPnet: training, reload, posteriors, texts, durations."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import uas_plugin.espnet  # noqa: F401  importing it is what registers
from uas_plugin.atomic import write_json
from uas_plugin.ctc.cli import main
from uas_plugin.data.durations import read_durations
from uas_plugin.errors import UASError

SIZE = 12  # codes; three of a letter's own say it
TEXTS = ("ab", "ba", "aab", "b", "abb", "bab")


@pytest.fixture(scope="module")
def dump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dump of codes that tell letters, as the token dump stage names its files."""
    root = tmp_path_factory.mktemp("dump")
    rng = np.random.default_rng(0)
    lines, texts = [], []
    for number in range(48):
        text = TEXTS[number % len(TEXTS)]
        codes = [rng.integers(8, SIZE)]
        for letter in text:
            start = 0 if letter == "a" else 4
            codes += [*rng.integers(start, start + 4, 3), rng.integers(8, SIZE)]
        lines.append(f"u{number:02d} {' '.join(map(str, codes))}\n")
        texts.append(f"u{number:02d} {text}\n")
    (root / "token").write_text("".join(lines))
    (root / "text").write_text("".join(texts))
    (root / "tokens.txt").write_text("<blank>\n<unk>\na\nb\n<sos/eos>\n")
    write_json(root / "info.json", {"codebook_size": SIZE, "frame_rate": 25.0})
    return root


def options(dump: Path, loss: str) -> dict[str, Any]:
    """A complete ESPnet configuration; the loss is chosen in YAML alone."""
    found: dict[str, Any] = {
        "frontend": "uas_tokens", "frontend_conf": {"embed_dim": 16, "codebook_size": SIZE},
        "specaug": None, "normalize": None,
        "encoder": "transformer",
        "encoder_conf": {
            "output_size": 16, "attention_heads": 2, "linear_units": 32, "num_blocks": 1,
            "input_layer": "linear", "dropout_rate": 0.0, "positional_dropout_rate": 0.0,
        },
        "decoder": "transformer", "decoder_conf": {"num_blocks": 1},
        "model": "uas_ctc", "model_conf": {"ctc_loss": loss, "ctc_weight": 1.0},
        "token_type": "char", "token_list": str(dump / "tokens.txt"),
        "optim": "adam", "optim_conf": {"lr": 0.02}, "max_epoch": 8, "batch_type": "unsorted",
        "batch_size": 8, "num_workers": 0, "num_att_plot": 0, "use_tensorboard": False,
        "best_model_criterion": [["valid", "loss", "min"]], "keep_nbest_models": 1,
    }  # fmt: skip
    for use in ("train", "valid"):
        found[f"{use}_data_path_and_name_and_type"] = [
            [str(dump / "token"), "speech", "text_int"], [str(dump / "text"), "text", "text"],
        ]  # fmt: skip
        found[f"{use}_shape_file"] = [str(dump / "text")]
    return found


@pytest.fixture(scope="module")
def trained(dump: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from espnet2.tasks.asr import ASRTask

    folder = tmp_path_factory.mktemp("ctc")
    (folder / "train.yaml").write_text(yaml.safe_dump(options(dump, "k2")))
    words = ["--config", str(folder / "train.yaml"), "--output_dir", str(folder / "exp")]
    ASRTask.main(cmd=[*words, "--ngpu", "0"])
    return folder / "exp"


def ask(capsys: pytest.CaptureFixture[str], *argv: object) -> dict[str, Any]:
    main([str(word) for word in argv])
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_from_tokens_to_texts_and_durations(
    trained: Path, dump: Path, tmp_path: Path, capsys: Any
) -> None:
    found = ask(
        capsys, "posteriors", "--config", trained / "config.yaml",
        "--model", trained / "valid.loss.best.pth", "--tokens", dump / "token",
        "--output", tmp_path / "posteriors",
    )  # fmt: skip
    frames = {
        line.split()[0]: len(line.split()) - 1 for line in (dump / "token").read_text().splitlines()
    }
    assert found == {"utterances": 48, "frames": sum(frames.values()), "frame_rate": 25.0}
    common = ("--posteriors", tmp_path / "posteriors", "--text", dump / "text")
    found = ask(capsys, "decode", *common, "--backend", "torch", "--output", tmp_path / "out")
    assert found["wer"] < 0.1
    ask(capsys, "align", *common, "--backend", "torch", "--output", tmp_path / "align")
    durations = read_durations(tmp_path / "align/durations")
    assert {key: int(d.sum()) for key, d in durations.items()} == frames
    # A letter lies within a frame or two of where its codes are.
    centres = np.cumsum(durations["u00"]) - durations["u00"] / 2
    np.testing.assert_allclose(centres, [2.5, 6.5], atol=2)


def test_espnets_own_inference_reads_the_model(trained: Path, dump: Path) -> None:
    from espnet2.bin.asr_inference import Speech2Text

    reader = Speech2Text(
        trained / "config.yaml", trained / "valid.loss.best.pth", ctc_weight=1.0, beam_size=3
    )
    codes = np.array((dump / "token").read_text().splitlines()[0].split()[1:], dtype=np.int64)
    assert reader(codes)[0][0] == "ab"


def test_loss_is_that_of_stock_ctc(trained: Path, caplog: pytest.LogCaptureFixture) -> None:
    from espnet2.tasks.asr import ASRTask

    with caplog.at_level(logging.WARNING):
        model, _ = ASRTask.build_model_from_file(
            str(trained / "config.yaml"), str(trained / "valid.loss.best.pth"), "cpu"
        )
    if model.criterion_ctc.kind == "torch":
        assert "k2 is not in this interpreter" in caplog.text
    encoded = torch.randn(3, 9, 16, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([5, 9, 1])
    targets, sizes = torch.tensor([[2, 2, -1], [2, 3, 3], [3, 3, 3]]), torch.tensor([2, 3, 3])
    stock = model.ctc(encoded, lengths, targets, sizes)
    ours, _ = model._calc_ctc_loss(encoded, lengths, targets, sizes)
    torch.testing.assert_close(ours, stock)


def test_wrong_options_are_named(dump: Path) -> None:
    from espnet2.tasks.asr import ASRTask

    for conf, message in (
        ({"ctc_loss": "k3"}, "ctc_loss: 'k3' is none of k2, torch"),
        ({"ctc_weight": 0.0}, "ctc_weight is above 0"),
    ):
        made = options(dump, "torch")
        made["model_conf"] = conf
        parser = ASRTask.get_parser()
        args = parser.parse_args(["--output_dir", "unused"])
        vars(args).update(made)
        with pytest.raises(UASError, match=message):
            ASRTask.build_model(args)
