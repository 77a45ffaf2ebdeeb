"""The training model: losses, cached decoding, export, warm start."""

import numpy as np
import pytest
import torch

from uas_plugin.errors import UASError
from uas_plugin.tokenizer.api import load_tokenizer
from uas_plugin.tokenizer.build import build_model
from uas_plugin.tokenizer.export import encoder_only, save_tokenizer
from uas_plugin.tokenizer.features import LogMel
from uas_plugin.tokenizer.read import shuffled
from uas_plugin.tokenizer.seq2seq import IGNORE
from uas_plugin.tokenizer.warm_start import init_from_whisper

LABELS = {"gender": ["Female", "Male"], "sound": ["rain", "siren", "wind"]}
AUXILIARY = {
    "ctc_weight": 0.3,
    "class_weight": 0.5,
    "class_labels": LABELS,
    "label_smoothing": 0.05,
}


@pytest.fixture
def batch(clips):
    features, lengths = LogMel(80, 4)(clips)
    generator = torch.Generator().manual_seed(1)
    target = torch.randint(4, 50, (4, 7), generator=generator)
    labels = target.clone()
    labels[2, 4:] = IGNORE
    return {
        "input_features": features,
        "lengths": lengths,
        "decoder_input_ids": target.roll(1, 1),
        "labels": labels,
        "ctc_ids": target[:, :2],
        "ctc_lengths": torch.tensor([2, 0, 2, 2]),
        "classes": {
            "gender": torch.tensor([0, IGNORE, 1, 0]),
            "sound": torch.tensor([IGNORE, 2, IGNORE, IGNORE]),
        },
    }


def test_every_trained_parameter_gets_a_gradient(make_model, batch):
    model = make_model(**AUXILIARY).train()
    loss, stats = model(**batch)
    loss.backward()
    missing = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []
    assert {"loss_text", "loss_ctc", "loss_commit", "acc_gender", "acc_sound"} <= stats.keys()
    assert torch.isfinite(loss)


def test_input_noise_keeps_the_start_and_evaluation(make_model, batch):
    model = make_model(input_noise=0.5).train()
    ids = batch["decoder_input_ids"].repeat(50, 1)
    noisy = model._noisy(ids)
    assert torch.equal(noisy[:, 0], ids[:, 0])
    assert 0.4 < (noisy[:, 1:] != ids[:, 1:]).float().mean().item() < 0.6
    assert noisy.min() >= 0 and noisy.max() < 50
    assert torch.equal(model.eval()._noisy(ids), ids)


def test_a_few_steps_fit_a_batch(make_model, batch):
    model = make_model(**AUXILIARY, dropout=0.0).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss, stats = model(**batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(stats["loss_text"].item())
    assert losses[-1] < 0.5 * losses[0]


def test_batches_without_speech_or_labels_are_fine(make_model, batch):
    model = make_model(**AUXILIARY).train()
    batch["ctc_lengths"] = torch.zeros(4, dtype=torch.long)
    batch["classes"] = {name: torch.full((4,), IGNORE) for name in LABELS}
    loss, stats = model(**batch)
    loss.backward()
    assert torch.isfinite(loss) and stats["loss_ctc"].item() == 0.0


def test_cached_steps_equal_one_pass(make_model, batch):
    model = make_model().eval()
    with torch.no_grad():
        encoded = model.encoder(batch["input_features"], batch["lengths"])
        whole = model.logits(batch["decoder_input_ids"], encoded)
        cache = model.new_cache()
        steps = [
            model.logits(batch["decoder_input_ids"][:, k : k + 1], encoded, cache)
            for k in range(whole.shape[1])
        ]
    assert torch.allclose(whole, torch.cat(steps, 1), atol=1e-5)


def test_export_gives_the_same_ids(make_model, clips, tmp_path):
    from uas_plugin.tokenizer.api import AudioTokenizer

    encoder = encoder_only(make_model())
    save_tokenizer(encoder, tmp_path / "export")
    assert {p.name for p in (tmp_path / "export").iterdir()} >= {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }
    loaded = load_tokenizer(tmp_path / "export")
    assert len(loaded.encoder.layers) == 2
    audios = [(clip, 16000) for clip in clips]
    for a, b in zip(AudioTokenizer(encoder).encode(audios), loaded.encode(audios), strict=True):
        np.testing.assert_array_equal(a, b)


def test_unknown_setting_names_the_nearest(vocabulary):
    with pytest.raises(UASError, match="quantize_position"):
        build_model({"quantise_position": 3}, vocabulary)


def tiny_whisper(folder, **changes):
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    torch.manual_seed(5)
    sizes = {
        "d_model": 16,
        "encoder_layers": 3,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "decoder_layers": 2,
        "decoder_attention_heads": 2,
        "decoder_ffn_dim": 32,
        "vocab_size": 60,
        "pad_token_id": 1,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 1,
        "max_target_positions": 64,
    }
    model = WhisperForConditionalGeneration(WhisperConfig(**{**sizes, **changes}))
    model.save_pretrained(folder)
    return model


def test_warm_start_copies_whisper(make_model, tmp_path):
    whisper = tiny_whisper(tmp_path / "whisper")
    model = make_model()
    copied = init_from_whisper(model, str(tmp_path / "whisper"))
    state, theirs = model.state_dict(), whisper.model.state_dict()
    for key in ("encoder.layers.2.fc1.weight", "decoder.layers.1.encoder_attn.k_proj.weight"):
        assert key in copied
        assert torch.equal(state[key], theirs[key])
    # The vocabularies differ, so the text embedding is not Whisper's.
    assert "decoder.embed_tokens.weight" not in copied
    second = state["encoder.embed_positions2.weight"]
    assert torch.equal(second, theirs["encoder.embed_positions.weight"][: len(second)])


def test_warm_start_refuses_other_sizes(make_model, tmp_path):
    tiny_whisper(tmp_path / "whisper", d_model=32)
    with pytest.raises(UASError, match="d_model 32"):
        init_from_whisper(make_model(), str(tmp_path / "whisper"))
    with pytest.raises(UASError, match="not a readable Whisper"):
        init_from_whisper(make_model(), str(tmp_path / "absent"))


def test_shuffled_control_never_keeps_a_clip():
    tokens = {str(k): np.array([k]) for k in range(9)}
    mixed = shuffled(tokens, seed=4)
    assert all(mixed[key][0] != tokens[key][0] for key in tokens)
    assert sorted(int(row[0]) for row in mixed.values()) == list(range(9))
