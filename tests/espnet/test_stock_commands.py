"""``python -m uas_plugin.bin.espnet``: ESPnet's own commands; both discrete tasks for real."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))

from made_dump import TEXTS, make_dump  # noqa: E402

from uas_plugin.bin import espnet  # noqa: E402
from uas_plugin.data.espnet_files.asr2 import Asr2Options, export_asr2  # noqa: E402
from uas_plugin.data.espnet_files.tts2 import Tts2Options, export_tts2  # noqa: E402
from uas_plugin.errors import UASError  # noqa: E402

SETS = ["train", "dev"]
COMMON = {
    "optim": "adadelta", "max_epoch": 1, "batch_type": "unsorted", "batch_size": 3, "ngpu": 0,
    "num_workers": 0, "num_att_plot": 0, "use_tensorboard": False,
}  # fmt: skip
LAYERS = {"attention_heads": 2, "linear_units": 32, "num_blocks": 1}


@pytest.fixture(scope="module")
def dump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dump")
    for name in SETS:
        make_dump(root, name, size=32)
    return root


def data(files: dict[str, tuple[str, str]]) -> dict:
    """ESPnet's data options of both sets."""
    return {
        f"{use}_data_path_and_name_and_type": [
            [path.format(part), name, kind] for name, (path, kind) in files.items()
        ]
        for part, use in (("train", "train"), ("dev", "valid"))
    }


def train(command: str, folder: Path, options: dict, *words: str, lengths: str) -> Path:
    """Collect statistics and train; returns the folder of the training."""
    config = folder / "train.yaml"
    config.write_text(yaml.safe_dump({**COMMON, **options}))
    stats, exp = folder / "stats", folder / "exp"
    collect = ["--collect_stats", "true", *words, "--output_dir", str(stats)]
    espnet.main([command, "--config", str(config), *collect])
    if "--write_collected_feats" in words:
        for use in ("train", "valid"):
            for kind in ("pitch", "energy"):
                path = stats / use / "collect_feats" / f"{kind}.scp"
                options[f"{use}_data_path_and_name_and_type"].append([str(path), kind, "npy"])
        config.write_text(yaml.safe_dump({**COMMON, **options}))
    shapes = [
        word
        for use in ("train", "valid")
        for word in (f"--{use}_shape_file", str(stats / use / f"{lengths}_shape"))
    ]
    espnet.main([command, "--config", str(config), *shapes, "--output_dir", str(exp)])
    return exp


def test_asr2_files_are_what_mt_train_reads_and_its_ctc_aligns_them(
    dump: Path, tmp_path: Path
) -> None:
    from uas_plugin.espnet.ctc_alignment import align

    info = export_asr2(dump, SETS, tmp_path / "data", Asr2Options(text_tokens="word"))
    base = f"{tmp_path}/data"
    options = {
        "model": "discrete_asr",
        "model_conf": {"ctc_weight": 0.3},
        "frontend_conf": {"embed_dim": 16},
        "encoder": "transformer",
        "encoder_conf": {"output_size": 16, "input_layer": None, **LAYERS},
        "decoder": "transformer",
        "decoder_conf": LAYERS,
        **{key: info[key] for key in ("token_type", "src_token_type")},
        **{key: f"{base}/{info[key]}" for key in ("token_list", "src_token_list")},
        **data({
            "src_text": (f"{base}/{{}}/{info['src_text']}", "text"),
            "text": (f"{base}/{{}}/{info['text']}", "text"),
        }),
    }  # fmt: skip
    exp = train("mt_train", tmp_path, options, lengths="src_text")
    # ESPnet counted as many tokens as the dump has.
    lengths = dict(
        line.split() for line in (tmp_path / "stats" / "train" / "src_text_shape").open()
    )
    assert sum(map(int, lengths.values())) == info["sets"]["train"]["num_units"]
    config = yaml.safe_load((exp / "config.yaml").read_text())
    assert len(config["src_token_list"]) == 32 + 3
    words = ["--mt_train_config", str(exp / "config.yaml"), "--beam_size", "1"]
    words += ["--mt_model_file", str(exp / "valid.acc.ave.pth"), "--lm_weight", "0"]
    source = f"{base}/dev/{info['src_text']}"
    words += ["--data_path_and_name_and_type", f"{source},src_text,text", "--maxlenratio", "-3"]
    espnet.main(["mt_inference", *words, "--output_dir", str(tmp_path / "out")])
    assert len((tmp_path / "out" / "1best_recog" / "text").read_text().splitlines()) == 5

    weights = exp / "valid.acc.ave.pth"
    text, ali = f"{base}/dev/{info['text']}", tmp_path / "ali"
    assert align(exp / "config.yaml", weights, source, text, ali) == {"aligned": 5, "left_out": 0}
    # What the aligner wrote is what the export of tts2 takes.
    tts2 = Tts2Options(train="dev", text_from=base, durations={"dev": str(ali)}, speakers=2)
    counts = export_tts2(dump, ["dev"], tmp_path / "tts2", tts2)["sets"]["dev"]
    assert counts["num_utts"] == 5 and counts["not_aligned"] == 0


def test_tts2_files_are_what_tts2_train_reads(dump: Path, tmp_path: Path) -> None:
    durations = {}
    for name in SETS:
        rows = []
        for line in (dump / name / "token").read_text().splitlines():
            place, frames = int(line.split()[0][-1]), len(line.split()) - 1
            count = len(TEXTS[place].split())
            if count:
                rows.append(f"{name}-{place} {frames - count + 1}{' 1' * (count - 1)}\n")
        durations[name] = str(tmp_path / f"ali.{name}")
        Path(durations[name]).write_text("".join(rows))
    info = export_tts2(
        dump, SETS, tmp_path / "data", Tts2Options(text_tokens="word", durations=durations)
    )
    base = f"{tmp_path}/data"
    grid = {"fs": info["sampling_rate"], "n_fft": 1024, "hop_length": info["n_shift"]}
    options = {
        "tts": "fastspeech2",
        "tts_conf": {
            "adim": 16, "aheads": 2, "elayers": 1, "eunits": 16, "dlayers": 1, "dunits": 16,
            "postnet_layers": 0, "duration_predictor_chans": 16, "pitch_predictor_chans": 16,
            "energy_predictor_chans": 16,
        },
        "pitch_extract": "dio", "pitch_extract_conf": {**grid, "reduction_factor": 1},
        "energy_extract": "energy", "energy_extract_conf": grid,
        "src_token_type": "word", "src_token_list": f"{base}/{info['src_token_list']}",
        "tgt_token_list": f"{base}/{info['tgt_token_list']}",
        **data({
            "text": (f"{base}/{{}}/text", "text"),
            "discrete_speech": (f"{base}/{{}}/{info['discrete_speech']}", "text_int"),
            "durations": (f"{base}/{{}}/durations", "text_int"),
            "speech": (f"{base}/{{}}/wav.scp", "sound"),
        }),
    }  # fmt: skip
    collect = ("--write_collected_feats", "true")
    exp = train("tts2_train", tmp_path, options, *collect, lengths="discrete_speech")
    state = torch.load(next(exp.glob("*epoch.pth")), weights_only=True)
    assert any(key.startswith("tts.") for key in state)
    words = ["--train_config", str(exp / "config.yaml"), "--model_file", str(exp / "latest.pth")]
    words += ["--data_path_and_name_and_type", f"{base}/dev/text,text,text"]
    espnet.main(["tts2_inference", *words, "--output_dir", str(tmp_path / "out")])
    from uas_plugin.data.espnet_files.spoken import read_arm

    found = read_arm(tmp_path / "out" / "feats" / "feats.scp")
    assert len(found) == 5
    ids = np.concatenate(list(found.values()))
    assert ids.min() >= 0 and ids.max() < info["num_units"]


def test_a_command_that_espnet_does_not_have_is_named() -> None:
    for name in ("no_such_train", "../asr_train"):
        with pytest.raises(UASError, match="ESPnet has no command"):
            espnet.main([name])
