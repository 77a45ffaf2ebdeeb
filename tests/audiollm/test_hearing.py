"""Decoding with continuous input: the clips stand where training puts them, batched or alone."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from uas_plugin.atomic import read_jsonl
from uas_plugin.audiollm.api import AudioLLMGenerator, load_audiollm
from uas_plugin.audiollm.audio_input import AUDIO_FOLDER, AUDIO_SLOT, pad_mels
from uas_plugin.audiollm.chat import qa_messages, uas_messages
from uas_plugin.audiollm.decode import decode_set
from uas_plugin.audiollm.grpo import GRPO, GRPOOptions
from uas_plugin.audiollm.hearing import cut_mel, embed_prompts
from uas_plugin.audiollm.model import AudioLLM
from uas_plugin.audiollm.options import DecodeOptions
from uas_plugin.errors import UASError

ENCODER = {
    "num_mel_bins": 16, "d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32, "downsample_hidden_size": 4, "output_dim": 12,
}  # fmt: skip


@pytest.fixture(scope="module")
def ear(made, tmp_path_factory) -> SimpleNamespace:
    """A model with continuous input, and the test cuts of the made dump with recordings."""
    from lhotse import Recording

    from uas_plugin.data.tokens import load_token_cuts

    torch.manual_seed(0)
    model = AudioLLM(
        vocabulary=made.vocabulary, hidden_size=32, num_layers=2, num_heads=2,
        intermediate_size=64, audio_input="continuous", encoder=ENCODER,
    ).eval()  # fmt: skip
    # As loud as a trained projection: what is heard must reach the answer.
    torch.nn.init.normal_(model.audio.projection.weight, std=1.0)
    folder, rng, cuts = tmp_path_factory.mktemp("ear"), np.random.default_rng(0), []
    for number, cut in enumerate(load_token_cuts(made.dump / "test")):
        path = folder / f"{cut.id}.flac"
        time = np.arange(6000 + 400 * number) / 8000
        tone = np.sin(2 * np.pi * 150 * (1 + number) * time)
        soundfile.write(path, 0.3 * tone + 0.02 * rng.standard_normal(len(time)), 8000)
        cut.recording = Recording.from_file(path, recording_id=cut.id)
        cut.duration = cut.recording.duration
        cuts.append(cut)
    llm = AudioLLMGenerator(model.lm, made.vocabulary, made.text, audio=model.audio)
    return SimpleNamespace(model=model, llm=llm, cuts=cuts, folder=folder)


def test_prompts_are_embedded_as_in_training(ear, made):
    chats = [uas_messages({"audio": cut}) for cut in ear.cuts[:3]]
    for cut, prompt in zip(ear.cuts, [ear.llm.encode(chat) for chat in chats]):
        tokens = torch.tensor([prompt])
        at = prompt.index(AUDIO_SLOT)
        assert prompt[at - 1] == made.vocabulary.audio_bos
        mel = cut_mel(cut, 16)
        audio, frames = (torch.from_numpy(value) for value in pad_mels([mel], 16))
        with torch.no_grad():
            wanted = ear.model.embed(tokens, audio, frames)
        found = embed_prompts(ear.llm.lm, ear.llm.audio, tokens, [prompt])
        torch.testing.assert_close(found, wanted)


def test_a_batch_answers_as_each_alone_and_hears(ear):
    chats = [
        qa_messages({"audio": cut}, "Which sound is heard?", ["rain", "siren"])
        for cut in ear.cuts[:6]
    ]
    chats.append(qa_messages(None, "Which sound is heard?", ["rain", "siren"]))
    together = ear.llm.generate_batch(chats, max_new_tokens=8)
    for chat, answer in zip(chats, together):
        alone = ear.llm.generate(chat, max_new_tokens=8)
        assert alone.token_ids.tolist() == answer.token_ids.tolist()
    streamed = "".join(p.text for p in ear.llm.stream(chats[0], max_new_tokens=8))
    assert streamed == together[0].text
    scores = ear.llm.score_choices(chats, [["rain", "siren"]] * len(chats))
    (single,) = ear.llm.score_choices(chats[2:3], [["rain", "siren"]])
    assert single == pytest.approx(scores[2], abs=1e-4)
    assert len({round(row[0], 6) for row in scores}) == len(chats)


def test_a_path_a_waveform_and_a_cut_are_the_same_audio(ear, tmp_path):
    wave = np.random.default_rng(1).standard_normal(16000).astype(np.float32) * 0.1
    path = tmp_path / "clip.wav"
    soundfile.write(path, wave, 16000, subtype="FLOAT")
    parts = [{"path": str(path)}, {"audio": (wave, 16000)}]
    prompts = [ear.llm.encode(uas_messages(part)) for part in parts]
    assert prompts[0] == prompts[1] and prompts[0].count(AUDIO_SLOT) == 13
    np.testing.assert_array_equal(prompts[0].mels[0], prompts[1].mels[0])
    assert ear.llm.with_tokens(uas_messages(parts[0])) == uas_messages(parts[0])


def test_what_it_cannot_hear_is_named(ear):
    with pytest.raises(UASError, match="knows no tokens of input"):
        ear.llm.encode(uas_messages([1, 2]))
    with pytest.raises(UASError, match="does not exist"):
        ear.llm.encode(uas_messages({"path": "nowhere.wav"}))
    with pytest.raises(UASError, match="hears through an encoder"):
        GRPO(ear.llm, GRPOOptions())


def test_a_set_is_decoded_from_its_recordings(ear, made, tmp_path):
    tokens = {cut.id: np.arange(3) for cut in ear.cuts}
    options = DecodeOptions(
        tasks=("qa",), controls=("none", "shuffled", "no_audio"), likelihood=True,
        text={"max_new_tokens": 4},
    )  # fmt: skip
    files = decode_set(ear.llm, ear.cuts, tokens, tmp_path, options)
    rows = {path.stem: list(read_jsonl(path)) for path in files}
    first = [[row["choice_logprobs"] for row in found] for found in rows.values()]
    assert set(rows) == {"qa.none", "qa.shuffled", "qa.no_audio"}
    for row in rows["qa.none"]:
        assert len(row["choice_logprobs"]) == len(row["item"]["choices"])
    assert first[0] != first[1] and first[1] != first[2]


def test_an_export_is_loaded_with_its_ear(ear, made, tmp_path):
    import shutil

    ear.llm.lm.save_pretrained(tmp_path)
    made.vocabulary.save(tmp_path / "vocab.json")
    shutil.copyfile(made.text.path, tmp_path / "bpe.model")
    ear.llm.audio.save(tmp_path / AUDIO_FOLDER)
    again = load_audiollm(tmp_path)
    chat = uas_messages({"audio": ear.cuts[0]})
    answers = [llm.generate(chat, max_new_tokens=6) for llm in (ear.llm, again)]
    assert answers[0].token_ids.tolist() == answers[1].token_ids.tolist()
