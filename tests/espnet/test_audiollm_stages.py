"""The paper's stages as real ESPnet trainings: a backbone learns the new ids, then hears."""

import json

import numpy as np
import pytest
import torch
import yaml

from uas_plugin.audiollm.chat import Example
from uas_plugin.audiollm.dataset import GroupWriter
from uas_plugin.audiollm.vocabulary import Vocabulary

pytestmark = pytest.mark.slow

MODULE = "uas_plugin.bin.audiollm_train"
ENCODER = {
    "num_mel_bins": 16, "d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32, "downsample_hidden_size": 4, "output_dim": 12,
}  # fmt: skip
COMMON = {
    "seed": 7, "ngpu": 0, "num_workers": 0, "max_epoch": 1, "num_iters_per_epoch": 2,
    "keep_nbest_models": 1, "use_matplotlib": False, "optim": "adamw",
    "optim_conf": {"lr": 1.0e-2}, "batch_conf": {"row_tokens": 64, "rows": 2},
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Clips with recordings and tokens, a released backbone and a released audio encoder."""
    import soundfile
    from lhotse import MonoCut, Recording
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from uas_plugin.audiollm.audio_input import AudioInput
    from uas_plugin.data.manifests import save_cuts

    folder = tmp_path_factory.mktemp("stages")
    vocabulary = Vocabulary(text_size=40, codebook_size=16, frame_rate=25.0)
    vocabulary.save(folder / "vocab.json")
    rng, cuts = np.random.default_rng(0), []
    with GroupWriter(folder / "set", vocabulary.size) as writer:
        for number in range(8):
            path = folder / f"clip{number}.flac"
            soundfile.write(path, rng.standard_normal(4000 + 500 * number) * 0.1, 8000)
            recording = Recording.from_file(path, recording_id=path.stem)
            cuts.append(MonoCut(path.stem, 0.0, recording.duration, 0, recording=recording))
            span = vocabulary.audio_ids(rng.integers(0, 16, 12))
            prefix = [vocabulary.audio_bos, *span, vocabulary.audio_eos]
            items = [("uas", Example(prefix, [5, 6], [7, vocabulary.im_end]))]
            if number == 0:
                items.append(("asr", Example(prefix, [5], list(range(40)) + [9] * 20)))
            writer.add(path.stem, items)
        writer.finish()
    save_cuts(cuts, folder / "cuts.jsonl.gz")
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=44, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder / "backbone")
    AudioInput(ENCODER, width=16).encoder.save_pretrained(folder / "encoder")
    return folder


def train(run_module, data, folder, **changes):
    folder.mkdir()
    (folder / "train.yaml").write_text(yaml.safe_dump({**COMMON, **changes}))
    run_module(
        *(MODULE, "--config", folder / "train.yaml", "--vocab", data / "vocab.json"),
        *("--train_data", data / "set", "--valid_data", data / "set"),
        *("--train_cuts", data / "cuts.jsonl.gz", "--valid_cuts", data / "cuts.jsonl.gz"),
        *("--output_dir", folder / "exp"),
    )
    return folder / "exp"


def state(exp, data):
    from uas_plugin.audiollm.export import trained_state

    return trained_state(exp, Vocabulary.load(data))


def test_alignment_then_instruction_with_adapters(run_module, data, tmp_path):
    pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    backbone = AutoModelForCausalLM.from_pretrained(data / "backbone").state_dict()
    first = train(
        *(run_module, data, tmp_path / "alignment"),
        model_conf={"backbone": str(data / "backbone"), "stage": "alignment"},
    )
    aligned = state(first, data)
    for name, value in backbone.items():
        kept = torch.equal(aligned[f"lm.{name}"][: len(value)], value[: len(aligned[f"lm.{name}"])])
        assert kept == (name not in ("model.embed_tokens.weight", "lm_head.weight")), name
    # The one item above row_tokens is listed, and no other.
    listed = (first / "over_long.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in listed] == [{"id": "clip0", "task": "asr", "tokens": 75}]
    second = train(
        *(run_module, data, tmp_path / "instruction"),
        model_conf={
            "backbone": str(data / "backbone"),
            "audio_input": "continuous",
            "encoder": str(data / "encoder"),
            "lora": {"rank": 2},
            "start_from": str(first),
        },
    )
    # What stands in the experiment rebuilds the model: no other folder is read.
    stored = yaml.safe_load((second / "config.yaml").read_text())["model_conf"]
    assert stored["backbone"]["model_type"] == "qwen2" and stored["encoder"]["d_model"] == 16
    tuned = state(second, data)
    changed = {n for n, value in aligned.items() if not torch.equal(tuned[n], value)}
    assert "lm.model.embed_tokens.weight" in changed
    assert any(name.endswith("q_proj.weight") for name in changed)
    assert not any("norm" in name or name.endswith("bias") for name in changed)


def test_adaptation_changes_the_projection_only(run_module, data, corpus, tmp_path):
    from transformers import AutoModelForCausalLM

    from uas_plugin.audiollm.audio_input import AudioInput
    from uas_plugin.audiollm.backbone import load_backbone
    from uas_plugin.audiollm.export import AUDIO_FOLDER, export_audiollm

    exp = train(
        *(run_module, data, tmp_path / "adaptation"),
        model_conf={
            "backbone": str(data / "backbone"),
            "audio_input": "continuous",
            "encoder": str(data / "encoder"),
            "stage": "adaptation",
        },
    )
    tuned = state(exp, data)
    lm = load_backbone(data / "backbone", Vocabulary.load(data))
    assert all(torch.equal(tuned[f"lm.{name}"], value) for name, value in lm.state_dict().items())
    encoder = AudioInput(data / "encoder", width=16).encoder.state_dict()
    assert all(torch.equal(tuned[f"audio.encoder.{n}"], value) for n, value in encoder.items())
    export_audiollm(exp, data / "vocab.json", corpus, tmp_path / "export")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "export").state_dict()
    assert all(torch.equal(plain[name], value) for name, value in lm.state_dict().items())
    heard = AudioInput.load(tmp_path / "export" / AUDIO_FOLDER).state_dict()
    assert all(torch.equal(tuned[f"audio.{name}"], value) for name, value in heard.items())
