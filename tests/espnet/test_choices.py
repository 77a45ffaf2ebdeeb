"""The plugin's choices in real ESPnet: parser, --print_config, training, reload, codec tools."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
import yaml

import uas_plugin.espnet  # noqa: F401  importing it is what registers
from uas_plugin.errors import UASError

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))

from made_dump import RATE, make_dump  # noqa: E402

ENCODER = {
    "output_size": 16, "attention_heads": 2, "linear_units": 32, "num_blocks": 1,
    "input_layer": "linear",
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny tokenizer with random weights, exported."""
    from uas_plugin.tokenizer.config import TokenizerConfig
    from uas_plugin.tokenizer.encoder import TokenizerEncoder
    from uas_plugin.tokenizer.export import save_tokenizer

    torch.manual_seed(0)
    config = TokenizerConfig(
        d_model=32, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=64,
        quantize_vocab_size=32, quantize_position=1,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(TokenizerEncoder(config), folder)
    return folder


@pytest.fixture(scope="module")
def dump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dump")
    for name in ("train", "dev"):
        make_dump(root, name, size=32)
        cuts = (root / name / "token").read_text().splitlines()
        texts = [f"{line.split()[0]} {'ab' * (1 + place % 2)}\n" for place, line in enumerate(cuts)]
        (root / name / "text").write_text("".join(texts))
        wavs = [f"{line.split()[0]} {root / name / line.split()[0]}.wav\n" for line in cuts]
        (root / name / "wav.scp").write_text("".join(wavs))
    (root / "tokens.txt").write_text("<blank>\n<unk>\na\nb\n<sos/eos>\n")
    return root


def asr_options(dump: Path, frontend: dict, speech: tuple[str, str]) -> dict:
    """A complete ESPnet configuration of a tiny ASR; the frontend is chosen in YAML alone."""
    options: dict = {
        "frontend": "uas_tokens",
        "frontend_conf": {"embed_dim": 16, **frontend},
        "specaug": None, "normalize": None,
        "encoder": "transformer", "encoder_conf": ENCODER,
        "decoder": "transformer",
        "decoder_conf": {"attention_heads": 2, "linear_units": 32, "num_blocks": 1},
        "token_type": "char", "token_list": str(dump / "tokens.txt"),
        "optim": "adadelta", "max_epoch": 1, "batch_type": "unsorted", "batch_size": 3,
        "num_workers": 0, "num_att_plot": 0, "use_tensorboard": False,
    }  # fmt: skip
    for part, use in (("train", "train"), ("dev", "valid")):
        options[f"{use}_data_path_and_name_and_type"] = [
            [str(dump / part / speech[0]), "speech", speech[1]],
            [str(dump / part / "text"), "text", "text"],
        ]
        options[f"{use}_shape_file"] = [str(dump / part / "text")]
    return options


def test_parser_and_print_config_know_the_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    from espnet2.tasks.asr import ASRTask
    from espnet2.tasks.gan_codec import GANCodecTask

    for task, choice, option in (
        (ASRTask, "frontend", "codebook_size=8192"),
        (GANCodecTask, "codec", "tokenizer=folder"),
    ):
        words = [f"--{choice}", "uas_tokens", f"--{choice}_conf", option]
        args = task.get_parser().parse_args(words)
        key, value = option.split("=")
        assert getattr(args, choice) == "uas_tokens"
        assert str(getattr(args, f"{choice}_conf")[key]) == value
        # ESPnet prints the configuration of the program's own command line.
        monkeypatch.setattr(sys, "argv", ["train", *words, "--print_config"])
        out = io.StringIO()
        task.print_config(file=out)
        printed = yaml.safe_load(out.getvalue())
        assert printed[choice] == "uas_tokens" and str(printed[f"{choice}_conf"][key]) == value
        # Our class's defaults are shown as those of ESPnet's own are.
        assert printed[f"{choice}_conf"]["fs"] == RATE


def test_every_table_has_its_entry() -> None:
    from importlib import import_module

    from uas_plugin.espnet.registry import ENTRIES, install

    install()
    for entry in ENTRIES:
        table = getattr(import_module(entry.module), entry.table)
        found = getattr(table, "classes", table)[entry.name]
        assert f"{found.__module__}:{found.__name__}" == entry.target


def test_importing_the_plugin_imports_no_task() -> None:
    code = (
        "import sys, uas_plugin.espnet\n"
        "assert not [m for m in sys.modules if m.startswith(('espnet', 'torch', 'transformers'))]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("kind", ["tokens", "waveforms"])
def test_asr_trains_is_saved_and_reads_again(
    kind: str, dump: Path, tokenizer_dir: Path, tmp_path: Path
) -> None:
    from espnet2.bin.asr_inference import Speech2Text
    from espnet2.tasks.asr import ASRTask

    from uas_plugin.tokenizer.api import load_tokenizer

    if kind == "tokens":
        options = asr_options(dump, {"codebook_size": 32}, ("token", "text_int"))
    else:
        options = asr_options(dump, {"tokenizer": str(tokenizer_dir)}, ("wav.scp", "sound"))
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(options))
    words = ["--config", str(tmp_path / "train.yaml"), "--output_dir", str(tmp_path / "exp")]
    ASRTask.main(cmd=[*words, "--ngpu", "0"])
    config, weights = tmp_path / "exp" / "config.yaml", tmp_path / "exp" / "valid.acc.ave.pth"
    state = torch.load(weights, weights_only=True)
    # The tokenizer is frozen and stays out of the checkpoint.
    frontend = {key for key in state if key.startswith("frontend")}
    assert frontend == {"frontend.embed.weight"}
    reader = Speech2Text(config, weights, beam_size=1, maxlenratio=-3)
    np.testing.assert_array_equal(
        reader.asr_model.frontend.embed.weight.detach(), state["frontend.embed.weight"]
    )
    wav, _ = sf.read(dump / "dev" / "dev-0.wav", dtype="float32")
    ids = load_tokenizer(tokenizer_dir).encode([(wav, RATE)])[0]
    given = ids if kind == "tokens" else wav
    assert len(reader(np.asarray(given))) == 1
    # The model hears the same tokens as the dump would hold.
    speech = torch.as_tensor(given, dtype=torch.float32)[None]
    out, lengths = reader.asr_model.frontend(speech, torch.tensor([speech.shape[1]]))
    expected = state["frontend.embed.weight"][torch.as_tensor(ids)]
    assert lengths.tolist() == [len(ids)]
    torch.testing.assert_close(out[0].detach(), expected)


def test_frontend_adds_codebooks_and_ignores_padding() -> None:
    from uas_plugin.espnet.token_frontend import TokenFrontend

    frontend = TokenFrontend(codebook_size=10, num_codebooks=2, embed_dim=4).eval()
    ids = torch.tensor([[1, 2, 3, 4], [5, 6, -1, -1]])
    vectors, lengths = frontend(ids, torch.tensor([4, 2]))
    table = frontend.embed.weight
    assert vectors.shape == (2, 2, 4) and lengths.tolist() == [2, 1]
    torch.testing.assert_close(vectors[0, 1], table[3] + table[14])
    torch.testing.assert_close(vectors[1, 0], table[5] + table[16])
    flat = TokenFrontend(codebook_size=10, num_codebooks=2, embed_dim=4, sum_codebooks=False).eval()
    vectors, lengths = flat(ids.float(), torch.tensor([4, 2]))
    assert vectors.shape == (2, 4, 4) and lengths.tolist() == [4, 2]
    torch.testing.assert_close(vectors[0, 3], flat.embed.weight[14])


def test_wrong_input_is_named() -> None:
    from uas_plugin.espnet.token_frontend import TokenFrontend

    with pytest.raises(UASError, match="give frontend_conf.codebook_size"):
        TokenFrontend()
    frontend = TokenFrontend(codebook_size=10, num_codebooks=2)
    with pytest.raises(UASError, match="ids from 3 to 11 in a codebook of 10"):
        frontend(torch.tensor([[3, 11]]), torch.tensor([2]))
    with pytest.raises(UASError, match="no whole frames of 2 codebooks"):
        frontend(torch.tensor([[3, 1, 1]]), torch.tensor([3]))
    with pytest.raises(UASError, match="half precision"):
        frontend(torch.tensor([[3.0, 1.0]]).half(), torch.tensor([2]))


def test_codec_tools_of_espnet_use_the_tokenizer(tokenizer_dir: Path, tmp_path: Path) -> None:
    from espnet2.bin.gan_codec_inference import AudioCoding
    from espnet2.tasks.gan_codec import GANCodecTask

    from uas_plugin.tokenizer.api import load_tokenizer

    options = {
        **GANCodecTask.get_default_config(),
        "codec": "uas_tokens",
        "codec_conf": {"tokenizer": str(tokenizer_dir)},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(options))
    coding = AudioCoding(tmp_path / "config.yaml")
    wav = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    codes = coding(torch.as_tensor(wav), encode_only=True)["codes"]
    ids = load_tokenizer(tokenizer_dir).encode([(wav, RATE)])[0]
    np.testing.assert_array_equal(codes[0, 0], ids)
    assert coding.model.meta_info() == {
        "fs": RATE, "num_streams": 1, "frame_shift": 640, "code_size_per_stream": [32],
    }  # fmt: skip
    with pytest.raises(UASError, match="give codec_conf.decoder"):
        coding.decode(codes)
    # A checkpoint of it, which has no weights, loads again.
    torch.save(coding.model.state_dict(), tmp_path / "model.pth")
    again = AudioCoding(tmp_path / "config.yaml", tmp_path / "model.pth")
    np.testing.assert_array_equal(again(torch.as_tensor(wav), encode_only=True)["codes"], codes)


def test_espnetez_trains_with_the_frontend(dump: Path, tmp_path: Path) -> None:
    ez = pytest.importorskip("espnetez", reason="espnetez needs its extra packages")

    options = ez.from_yaml("asr", str(_written(dump, tmp_path)))
    assert options["frontend"] == "uas_tokens"
    options["token_list"] = (dump / "tokens.txt").read_text().split()
    trainer = ez.Trainer(
        task="asr",
        train_config=options,
        train_dump_dir=str(dump / "train"),
        valid_dump_dir=str(dump / "dev"),
        data_info={"speech": ["token", "text_int"], "text": ["text", "text"]},
        output_dir=str(tmp_path / "exp"),
        stats_dir=str(tmp_path / "stats"),
        ngpu=0,
    )
    trainer.collect_stats()
    trainer.train()
    assert (tmp_path / "exp" / "valid.acc.ave.pth").exists()


def _written(dump: Path, tmp_path: Path) -> Path:
    options = asr_options(dump, {"codebook_size": 32}, ("token", "text_int"))
    drop = [key for key in options if "data_path" in key or "shape_file" in key]
    for key in drop:
        del options[key]
    path = tmp_path / "ez.yaml"
    path.write_text(yaml.safe_dump(options))
    return path


@pytest.mark.parametrize("audio", ["uas_tokens", "lhotse_audio", "text"])
def test_speechlm_loader_reads_our_dumps(audio: str, tmp_path: Path) -> None:
    from espnet2.speechlm.dataloader.iterator import DataIteratorFactory

    from uas_plugin.data.espnet_files.speechlm import export_speechlm
    from uas_plugin.data.tokens import read_token_text

    make_dump(tmp_path / "dump", "dev", codebooks=2)
    info = export_speechlm(tmp_path / "dump", "dev", tmp_path / "out", audio=audio)
    factory = DataIteratorFactory(
        unregistered_specifier=info["specifiers"][0],
        registered_specifier="",
        stats_dir=info["stats_dir"],
        collate_fn=lambda items: items,
        batchfy_method="bucket",
        batch_size=100,
        num_workers=0,
    )
    items = dict(item for batch in factory.build_iter() for item in batch)
    tokens = read_token_text(tmp_path / "dump" / "dev")
    assert len(items) == info["num_examples"] == 5
    for key, item in items.items():
        ids = tokens[key[-1] if isinstance(key, tuple) else key]
        if audio == "uas_tokens":
            np.testing.assert_array_equal(item["audio1"], ids)
        elif audio == "text":
            assert item["audio1"].split() == [str(unit) for unit in ids.reshape(-1)]
        else:
            wave, rate = item["audio1"]
            assert (wave.shape, rate) == ((1, len(ids) * 640), RATE)
        assert item["text1"]
