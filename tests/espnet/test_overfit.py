"""A small flow and a small HiFT learn two utterances by heart in a bounded number of steps.

The proof that losses, conditioning, export and synthesis belong together: from the tokens alone,
the trained pair comes much nearer to the recordings than the same pair untrained.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from uas_plugin.codec.config import decoder_config
from uas_plugin.codec.decoder import TokenToMel
from uas_plugin.codec.mel import MelConfig, audio_log_mel, log_mel, mel_frames

pytestmark = pytest.mark.slow

REALMINI = Path(
    os.environ.get("UAS_REALMINI", Path(__file__).parents[2] / ".." / "shared/data/realmini")
).resolve()
MEL = MelConfig()
RATE, CODES = 25.0, 64
FLOW_STEPS, VOCODER_STEPS = 250, 250
FLOW = {
    "vocab_size": CODES,
    "frame_rate": RATE,
    "encoder": {"channels": 64, "blocks": 2},
    "estimator": {"channels": 64, "blocks": 4, "time_channels": 64},
    "cfm": {"prior_weight": 1.0},
}
HIFT = {
    "base_channels": 48,
    "f0_channels": 48,
    "resblock_kernel_sizes": [3, 7],
    "resblock_dilation_sizes": [[1, 3], [1, 3]],
    "source_resblock_kernel_sizes": [7, 7],
    "source_resblock_dilation_sizes": [[1, 3], [1, 3]],
}
DISCRIMINATORS = {
    "scales": 1,
    "follow_official_norm": False,
    "scale_discriminator_params": {
        "channels": 8,
        "max_downsample_channels": 32,
        "max_groups": 4,
        "downsample_scales": [4, 4, 4],
    },
    "periods": [2, 5],
    "period_discriminator_params": {
        "channels": 8,
        "max_downsample_channels": 32,
        "downsample_scales": [3, 3, 3],
    },
}


def recorded() -> list[np.ndarray]:
    """Two spoken utterances of two to four seconds at MEL's rate."""
    from uas_plugin.data.audio import load_audio

    with open(REALMINI / "metadata.jsonl", encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    spoken = [r for r in rows if r["kind"] == "speech" and 2.0 < r["duration_s"] < 4.0]
    speakers = {row["speaker"]: row for row in reversed(spoken)}
    chosen = sorted(speakers.values(), key=lambda row: row["id"])[:2]
    return [load_audio(REALMINI / row["path"], MEL.sampling_rate) for row in chosen]


def synthesized() -> list[np.ndarray]:
    """Two gliding voices with pauses and hiss."""
    rng = np.random.default_rng(0)
    wavs = []
    for pitch, formant in ((110, 700), (210, 1100)):
        times = np.arange(int(2.5 * MEL.sampling_rate)) / MEL.sampling_rate
        phase = 2 * np.pi * np.cumsum(pitch * (1 + 0.2 * np.sin(3 * times))) / MEL.sampling_rate
        tones = sum(
            np.exp(-(((k * pitch - formant) / 900) ** 2)) * np.sin(k * phase) for k in range(1, 25)
        )
        speaking = (np.sin(5 * times) > -0.3).astype(float)
        hiss = 0.02 * rng.normal(size=len(times)) * (np.sin(2 * times) > 0.8)
        wavs.append((0.1 * tones * speaking + hiss).astype(np.float32))
    return wavs


@pytest.fixture
def utterances() -> list[np.ndarray]:
    """Real recordings where they are at hand (UAS_REALMINI)."""
    torch.set_num_threads(1)
    return recorded() if REALMINI.is_dir() else synthesized()


def token_pairs(wavs: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Tokens (N,) and mel (F, M): the nearest of 64 mean spectra is a stand-in for a tokenizer."""
    from sklearn.cluster import KMeans

    mels = [audio_log_mel(wav, MEL.sampling_rate, MEL) for wav in wavs]
    per_token = MEL.sampling_rate / MEL.hop_length / RATE
    slices = []
    for mel in mels:
        ends = np.arange(1, int(len(mel) / per_token) + 1) * per_token
        slices.append(np.stack([mel[int(e - per_token) : max(int(e), 1)].mean(0) for e in ends]))
    fit = KMeans(CODES, n_init=1, random_state=0).fit(np.concatenate(slices))
    pairs = []
    for rows, mel in zip(slices, mels, strict=True):
        tokens = fit.predict(rows).astype(np.int64)
        pairs.append((tokens, mel[: mel_frames(len(tokens), RATE, MEL)]))
    return pairs


def train_flow(pairs: list[tuple[np.ndarray, np.ndarray]], steps: int) -> TokenToMel:
    torch.manual_seed(0)
    model = TokenToMel(decoder_config(FLOW))
    frames = np.concatenate([mel for _, mel in pairs])
    model.mel_mean.copy_(torch.from_numpy(frames.mean(0)))
    model.mel_std.copy_(torch.from_numpy(frames.std(0)))
    batch = [
        torch.nn.utils.rnn.pad_sequence([torch.as_tensor(p[i]) for p in pairs], batch_first=True)
        for i in (0, 1)
    ]
    lengths = [torch.tensor([len(pair[i]) for pair in pairs]) for i in (0, 1)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, max(steps, 1) + 1)
    for _ in range(steps):
        loss = model(batch[0], lengths[0], batch[1], lengths[1])["loss"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()


def train_vocoder(wavs: list[np.ndarray], steps: int):
    """A HiFT trained as the task does it: the generator's turn, then the discriminators'."""
    from uas_plugin.codec.vocoder import HiFT
    from uas_plugin.codec.vocoder_config import vocoder_training
    from uas_plugin.codec.waves import f0_of
    from uas_plugin.espnet.vocoder_task import make_model, start_f0

    torch.manual_seed(0)
    model = make_model(
        vocoder_training({"hift": HIFT, "discriminator_conf": DISCRIMINATORS})
    ).train()
    f0s = [f0_of(wav, MEL) for wav in wavs]
    start_f0(model.generator, float(np.concatenate(f0s).mean()), float(np.concatenate(f0s).std()))
    networks = model.generator, model.discriminator
    optimizers = [
        torch.optim.AdamW(network.parameters(), lr, betas=(0.8, 0.99))
        for network, lr in zip(networks, (2e-3, 5e-4), strict=True)
    ]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizers[0], 2e-3, max(steps, 1) + 1)
    rng, segment = np.random.default_rng(0), 32
    for _ in range(steps):
        parts, targets = [], []
        for wav, f0 in zip(wavs * 2, f0s * 2, strict=True):
            start = int(rng.integers(0, len(f0) - segment))
            parts.append(wav[start * MEL.hop_length : (start + segment) * MEL.hop_length])
            targets.append(f0[start : start + segment])
        batch = {
            "wav": torch.from_numpy(np.stack(parts)),
            "f0": torch.from_numpy(np.stack(targets)),
        }
        for turn in (True, False):
            made = model(forward_generator=turn, **batch)
            made["loss"].backward()
            optimizers[made["optim_idx"]].step()
            for optimizer in optimizers:
                optimizer.zero_grad()
        schedule.step()
    return HiFT.of(model.generator.fold_weight_norm(), MEL)


def mean_distance(wavs: list[np.ndarray], pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Mean absolute difference of the log-mels of ``wavs`` to those of ``pairs``, natural log."""
    found = []
    for wav, (_, mel) in zip(wavs, pairs, strict=True):
        heard = log_mel(torch.from_numpy(wav), MEL).numpy()
        frames = min(len(heard), len(mel))
        found.append(np.abs(heard[:frames] - mel[:frames]).mean())
    return float(np.mean(found))


def test_two_utterances_are_learned_by_heart(utterances, tmp_path):
    from uas_plugin.codec.api import load_codec
    from uas_plugin.codec.export import save_codec

    pairs = token_pairs(utterances)
    found = {}
    for name, flow_steps, vocoder_steps in (
        ("untrained", 0, 0),
        ("trained", FLOW_STEPS, VOCODER_STEPS),
    ):
        vocoder = train_vocoder(utterances, vocoder_steps)
        save_codec(train_flow(pairs, flow_steps), tmp_path / name, vocoder=vocoder)
        codec = load_codec(tmp_path / name)
        wavs, _ = codec.decode_batch([tokens for tokens, _ in pairs], n_steps=4)
        copies = codec.vocode([torch.from_numpy(mel) for _, mel in pairs])
        found[name] = mean_distance(wavs, pairs)
        found[f"{name}, vocoder alone"] = mean_distance(copies, pairs)
    print(found)  # shown by pytest -s, and where the test fails
    assert found["trained"] < 0.5 * found["untrained"]
    assert found["trained, vocoder alone"] < 0.5 * found["untrained, vocoder alone"]
