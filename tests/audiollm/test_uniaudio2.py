"""A tiny unified LM: tasks, batches, beams, folders, bad input."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
import torch
import yaml

import uas_plugin
from uas_plugin.audiollm.uniaudio2.api import UnifiedLM, load_unified_lm
from uas_plugin.audiollm.uniaudio2.config import (
    MARKERS,
    SpecialIds,
    StackConfig,
    UniAudio2Config,
)
from uas_plugin.audiollm.uniaudio2.decoding import FrameDecoder
from uas_plugin.audiollm.uniaudio2.frame import Sampling
from uas_plugin.audiollm.uniaudio2.generate import (
    GenerationOptions,
    beam_search,
    generate_text,
    make_batch,
    split_audio,
)
from uas_plugin.audiollm.uniaudio2.items import Item, fields_of
from uas_plugin.audiollm.uniaudio2.model import UniAudio2
from uas_plugin.audiollm.uniaudio2.packing import Packer
from uas_plugin.audiollm.uniaudio2.released import load_release, to_release
from uas_plugin.audiollm.uniaudio2.tasks import choose_prompt, get_task, tasks
from uas_plugin.audiollm.uniaudio2.text import TextIds
from uas_plugin.codec.reasoning.branches import BranchIds
from uas_plugin.errors import UASError

CHARACTERS = 60
IDS = SpecialIds(
    reason_card=20,
    reason_bos=16,
    reason_eos=17,
    reason_pad=18,
    semantic_bos=32,
    semantic_eos=33,
    semantic_pad=34,
    audio_prompt_bos=54,
    audio_prompt_eos=55,
    text_pad=62,
    text_bos=60,
    text_eos=61,
    markers={"transcription": (63, 64), "lyric": (65, 66), "caption": (67, 68)},
)
SIZES = UniAudio2Config(
    reason_card=20,
    semantic_card=36,
    text_vocab=72,
    backbone=StackConfig(2, 32, 4, 2, 48),
    understanding=StackConfig(1, 32, 4, 2, 48),
    generation=StackConfig(1, 32, 4, 2, 48),
    depth=StackConfig(1, 24, 4, 2, 32),
    max_frames=192,
)


@pytest.fixture(scope="module")
def text_folder(letters_folder):
    """A tokenizer of single characters."""
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .,?'\n-"
    return letters_folder(letters[:CHARACTERS])


@pytest.fixture(scope="module")
def lm(text_folder):
    torch.manual_seed(0)
    return UnifiedLM(UniAudio2(SIZES), IDS, TextIds(text_folder, IDS))


def audio(frames: int, seed: int = 0) -> BranchIds:
    rng = np.random.default_rng(seed)
    return BranchIds(
        rng.integers(0, IDS.reason_codes, (max(1, frames * 2 // 5), 8)),
        rng.integers(0, IDS.semantic_codes, (frames, 8)),
    )


FULL = Item(
    audio=audio(5),
    audio_prompt=audio(4, 1),
    text="say it",
    caption="calm",
    question="who?",
    answer_text="a bird",
    answer_audio=audio(6, 2),
    second_audio=audio(3, 3),
)


def test_every_task_packs_and_has_a_wording(lm):
    for name, task in tasks().items():
        assert get_task(name.lower().replace("_", "-")) is task
        prompt = choose_prompt(task) or "go on"
        fields = fields_of(task, FULL, lm.text.encode, targets=True)
        whole = lm.packer.pack(task, fields, lm.text.prompt(prompt), targets=True)
        before = lm.pack(task, FULL, prompt)
        rows = len(before)
        np.testing.assert_array_equal(whole.tokens[:rows], before.tokens)
        assert whole.loss_mask[rows:].any(axis=1).sum() > 0
        assert not whole.loss_mask[:rows].any() or name == "text_only"


def test_task_and_prompt_errors(lm, tmp_path):
    with pytest.raises(UASError, match="Did you mean 'TTS'"):
        get_task("TTSS")
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps({"tts": ["Speak."], "x": []}))
    assert choose_prompt(get_task("TTS"), path=path) == "Speak."
    with pytest.raises(UASError, match="no list of prompts for ASR .*there is: tts, x"):
        choose_prompt(get_task("ASR"), path=path)
    with pytest.raises(UASError, match="no published loop for this task"):
        lm.generate("speech_ss", FULL, published=True, topk=1)
    with pytest.raises(UASError, match="top-k must be 1 .. 36, not 50"):
        lm.generate("TTS", FULL)
    with pytest.raises(UASError, match="InstructTTS needs caption"):
        lm.pack(get_task("InstructTTS"), Item(text="a"), "p")


@pytest.mark.parametrize("branch", ["reasoning", "reconstruction"])
def test_ids_out_of_range_and_swapped(lm, branch):
    clip = audio(5)
    wrong = clip._replace(**{branch: getattr(clip, branch) + 40})
    with pytest.raises(UASError, match="holds id .*swapped"):
        lm.pack(get_task("ASR"), Item(audio=wrong), "p")


def test_more_demonstrations_than_the_context_holds(lm):
    shown = Item(audio=audio(5), answer_text="dog")
    task = get_task("sound_classification")
    one = lm.pack(task, Item(audio=audio(5, 1)), "Name it.", [shown])
    two = lm.pack(task, Item(audio=audio(5, 1)), "Name it.", [shown, shown])
    added = len(two) - len(one)
    assert added == 5 + 2 + 2 + 2 + 5  # both segments with their marks, and the word with its own
    with pytest.raises(UASError, match="with 30 demonstrations takes .* fewer demonstrations"):
        lm.pack(task, Item(audio=audio(5, 1)), "Name it.", [shown] * 30)


def test_audio_tasks_in_batches(lm):
    items = [Item(text="a"), Item(text="say this"), Item(text="b")]
    options = {"steps": 40, "topk": 1}
    together = lm.generate_batch("TTS", items, prompt="Read.", **options)
    for item, wanted in zip(items, together, strict=True):
        (alone,) = lm.generate_batch("TTS", [item], prompt="Read.", **options)
        assert type(alone) is type(wanted)
        if isinstance(alone, BranchIds):
            np.testing.assert_array_equal(alone.reasoning, wanted.reasoning)
            np.testing.assert_array_equal(alone.reconstruction, wanted.reconstruction)
        else:
            assert str(alone) == str(wanted)


def test_guidance_runs_for_a_batch(lm):
    """Rows of a guided batch are as they are alone."""
    prompts = [lm.pack(get_task("TTS"), Item(text=t), "Read.") for t in ("ab", "cdef")]
    batch = make_batch(prompts, lm.packer)
    assert len(batch.tokens) == 4
    decoder = FrameDecoder(lm.model, 4, pads=batch.pads)
    decoder.prefill(batch.tokens, batch.mask)
    position = batch.tokens.shape[1] - 1
    both = decoder.step(batch.tokens[:, -1], batch.mask[:, -1], position, Sampling(1, 1.0, 2.0))
    for row, prompt in enumerate(prompts):
        one = make_batch([prompt], lm.packer)
        decoder = FrameDecoder(lm.model, 2)
        decoder.prefill(one.tokens, one.mask)
        position = one.tokens.shape[1] - 1
        made = decoder.step(one.tokens[:, -1], one.mask[:, -1], position, Sampling(1, 1.0, 2.0))
        torch.testing.assert_close(made.text_logits[0], both.text_logits[row], atol=1e-4, rtol=1e-4)
        assert made.frames[0].tolist() == both.frames[row].tolist()


def greedy(lm, item, steps):
    batch = make_batch([lm.pack(get_task("ASR"), item, "Write.")])
    decoder = FrameDecoder(lm.model, 1)
    return generate_text(decoder, batch, IDS, GenerationOptions(topk=1, steps=steps)), batch


def log_probability(lm, batch, ids) -> float:
    rows = torch.zeros(1, len(ids), 9, dtype=torch.long)
    rows[0, :, 8] = torch.tensor(ids)
    mask = torch.zeros_like(rows, dtype=torch.bool)
    mask[..., 8] = True
    tokens = torch.cat([batch.tokens, rows], dim=1)
    logits = lm.model.text_logits(tokens, torch.cat([batch.mask, mask], dim=1))
    at = batch.tokens.shape[1] - 1
    scores = logits[0, at : at + len(ids)].log_softmax(dim=-1)
    return float(scores[range(len(ids)), ids].sum())


@torch.no_grad()
def test_beam_search_finds_no_worse_text_than_greedy(lm):
    steps, better = 5, 0
    for seed in range(4):
        (written,), batch = greedy(lm, Item(audio=audio(5, seed)), steps)
        decoder = FrameDecoder(lm.model, 8)
        found = beam_search(decoder, batch, IDS, beams=8, steps=steps, length_power=0.0)
        ends = [*written, IDS.text_eos][: steps + 1], [*found, IDS.text_eos]
        plain, beam = (log_probability(lm, batch, ids) for ids in ends)
        assert beam >= plain - 1e-4
        better += beam > plain + 1e-3
    assert better


def test_no_phrase_comes_twice(lm):
    def repeats(ids: list[int]) -> int:
        windows = [tuple(ids[i : i + 3]) for i in range(len(ids) - 2)]
        return len(windows) - len(set(windows))

    def written(no_repeat: int) -> list[int]:
        batch = make_batch([lm.pack(get_task("ASR"), Item(audio=audio(5)), "Write.")])
        decoder = FrameDecoder(lm.model, 1)
        options = GenerationOptions(topk=1, steps=60, no_repeat=no_repeat)
        return generate_text(decoder, batch, IDS, options)[0]

    assert repeats(written(0)) > 0
    assert repeats(written(3)) == 0


def test_rows_that_end_in_some_codebooks_only():
    bos, eos = np.full((1, 8), 16), np.full((1, 8), 17)
    partly = np.array([[3, 3, 3, 3, 17, 17, 3, 3]])
    semantic = np.concatenate([np.full((1, 8), 52), np.full((2, 8), 25), np.full((1, 8), 53)])
    rows = np.concatenate([bos, np.full((1, 8), 5), partly, eos, semantic])
    made = split_audio(rows, IDS)
    reasoning, reconstruction = made
    assert reasoning.tolist() == [[5] * 8, [3, 3, 3, 3, 5, 5, 3, 3]]
    assert reconstruction.tolist() == [[5] * 8] * 2
    two = split_audio(
        np.concatenate([rows, rows[:4], semantic[:2]]), IDS, ["reason", "semantic"] * 2
    )
    assert [len(codes) for codes in two] == [2, 2, 2, 1]  # the last is cut off, and taken as it is
    unfinished = split_audio(rows[:3], IDS)
    assert "did not end its reasoning in 3 frames" in str(unfinished)


def test_folder_and_release_give_the_same_model(lm, text_folder, tmp_path):
    lm.save_pretrained(tmp_path / "ours", text_folder)
    ours = uas_plugin.load_audiollm(tmp_path / "ours")
    assert ours.ids == IDS and ours.model.config == SIZES
    item = Item(audio=audio(5))
    assert ours.generate("ASR", item, prompt="p", steps=12) == lm.generate(
        "ASR", item, prompt="p", steps=12
    )
    with pytest.raises(UASError, match="holds no unified LM"):
        load_unified_lm(text_folder)


def test_release_names_unknown_sizes(tmp_path):
    options = {
        "audio_reason_card": 20,
        "reason_bos": 16,
        "reason_eos": 17,
        "reason_pad_token": 18,
        "semantic_bos": 32,
        "semantic_eos": 33,
        "semantic_pad_token": 34,
        "audio_prompt_bos": 54,
        "audio_prompt_eos": 55,
        "text_pad_token": 62,
        "llm_name": "meta-llama/Llama-3.2-3B",
        "local_model": "Llama-3.2-30M",
    }
    with pytest.raises(UASError, match="unknown local_model 'Llama-3.2-30M'.*Llama-3.2-300M"):
        load_release(tmp_path / "a.checkpoint", options)
    del options["reason_bos"]
    with pytest.raises(UASError, match="must state as integers: reason_bos"):
        load_release(tmp_path / "a.checkpoint", options)


def test_release_checkpoint(text_folder, tmp_path):
    """A folder laid out as the published one, with distributed training's prefixes."""
    sizes = dataclasses.replace(
        SIZES,
        **{
            name: StackConfig(1, 96, heads, 8, 48)
            for name, heads in {"backbone": 24, "understanding": 24, "generation": 24}.items()
        },
        depth=StackConfig(1, 64, 32, 8, 32),
    )
    torch.manual_seed(0)
    model = UniAudio2(sizes)
    state = {f"module.module.{k}": v for k, v in to_release(model.state_dict()).items()}
    torch.save({"model": state, "optimizer": {}}, tmp_path / "a.checkpoint")
    names = {"reason_pad": "reason_pad_token", "semantic_pad": "semantic_pad_token",
             "text_pad": "text_pad_token", "reason_card": "audio_reason_card"}  # fmt: skip
    options = {names.get(k, k): v for k, v in vars(IDS).items()}
    options |= {"llm_name": "Llama-3.2-3B", "local_model": "Llama-3.2-300M"}
    del options["markers"]  # a release's are Llama's reserved ids
    (tmp_path / "llm_config.yaml").write_text(yaml.safe_dump(options))
    shutil.copy(text_folder / "tokenizer.json", tmp_path)
    (tmp_path / "old.checkpoint").write_text("an earlier one, not looked at")
    os.utime(tmp_path / "old.checkpoint", (0, 0))
    lm = uas_plugin.load_audiollm(tmp_path)
    loaded, ids = lm.model, lm.ids
    assert ids.semantic_eos == IDS.semantic_eos and ids.markers == MARKERS
    assert dataclasses.replace(loaded.config, max_frames=192) == sizes
    for name, value in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value)
    packed = Packer(IDS).pack(
        get_task("ASR"),
        {"reason_seq": audio(5).reasoning, "semantic_seq": audio(5).reconstruction},
        [60, 1, 61],
        targets=False,
    )
    batch = make_batch([packed])
    with torch.no_grad():
        torch.testing.assert_close(
            loaded.text_logits(batch.tokens, batch.mask),
            model.text_logits(batch.tokens, batch.mask),
        )
