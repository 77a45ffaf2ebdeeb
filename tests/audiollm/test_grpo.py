"""Learning from rewards: the objective by hand, and a reward that rises on clips never learned."""

from __future__ import annotations

import copy
import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uas_plugin.audiollm import grpo, grpo_run, packing, rewards
from uas_plugin.audiollm.api import AudioLLMGenerator
from uas_plugin.audiollm.chat import qa_messages
from uas_plugin.audiollm.dataset import GroupDataset
from uas_plugin.audiollm.model import AudioLLM
from uas_plugin.data.manifests import custom_of
from uas_plugin.data.targets import uas_target
from uas_plugin.data.text import MODEL_NAME
from uas_plugin.data.tokens import load_token_cuts, read_token_text
from uas_plugin.errors import UASError
from uas_plugin.qa.labels import cut_items

QUICK = grpo.GRPOOptions(
    steps=20, prompts=16, group=8, max_new_tokens=12, lr=1e-3, beta=0.01, seed=1
)


@pytest.fixture(scope="module")
def finetuned(made) -> AudioLLMGenerator:
    """A model after a short supervised training: it answers with options, often the wrong one."""
    torch.manual_seed(0)
    model = AudioLLM(
        vocabulary=made.vocabulary, hidden_size=48, num_layers=2, num_heads=2, intermediate_size=96
    )
    data, optimizer = GroupDataset(made.lm / "train"), torch.optim.AdamW(model.parameters(), 3e-3)
    for epoch in range(1):
        units = packing.plan_epoch(data, {"qa": 2}, row_tokens=256, seed=0, epoch=epoch)
        for rows in packing.share_rows(list(packing.pack(data, units, row_tokens=256)), 4):
            arrays = packing.collate(data, rows, pad=made.vocabulary.pad)
            model(**{k: torch.from_numpy(v) for k, v in arrays.items()})[0].backward()
            optimizer.step()
            optimizer.zero_grad()
    return AudioLLMGenerator(model.lm.eval(), made.vocabulary, made.text)


def questions(made, name: str) -> list[grpo.Prompt]:
    folder = made.dump / name
    codes, out = read_token_text(folder), []
    for cut in load_token_cuts(folder):
        for item in cut_items(cut, made.vocabulary.labels, n_choices=4, seed=0):
            messages = qa_messages(codes[cut.id], item["question"], item["choices"])
            reward = rewards.choice_reward(item["choices"], item["answer"])
            out.append(grpo.Prompt(messages, reward))
    return out


def copied(llm: AudioLLMGenerator) -> AudioLLMGenerator:
    return AudioLLMGenerator(copy.deepcopy(llm.lm), llm.vocabulary, llm.text)


def test_the_reward_rises_on_clips_never_learned(finetuned, made):
    llm, learned, held_out = copied(finetuned), questions(made, "train"), questions(made, "test")
    # Drawn answers, as in the objective; eight to a question.
    drawing = {"max_new_tokens": 12, "do_sample": True, "seeds": range(8 * len(held_out))}
    before = grpo.mean_reward(llm, held_out * 8, **drawing)
    curve = [step["reward"] for step in grpo.GRPO(llm, QUICK).train(learned)]
    after = grpo.mean_reward(llm, held_out * 8, **drawing)
    print(f"held-out {before:.3f} -> {after:.3f}; drawn {curve[0]:.3f} -> {curve[-1]:.3f}")
    assert np.mean(curve[-5:]) > np.mean(curve[:5]) + 0.1
    assert after > before + 0.1


def test_the_same_seed_learns_the_same(finetuned, made):
    prompts, runs = questions(made, "train")[:6], []
    options = grpo.GRPOOptions(steps=2, prompts=2, group=2, max_new_tokens=4, lr=1e-3)
    for _ in range(2):
        runs.append(list(grpo.GRPO(copied(finetuned), options).train(prompts)))
    assert runs[0] == runs[1]


def test_probabilities_are_those_of_the_drawing(finetuned, made):
    """A padded row, an ended answer and an unended one: each as it is alone."""
    learner = grpo.GRPO(copied(finetuned), QUICK)
    given_, found = [[5, 6, 7, 8], [9, 10]], [[11, 12], [13] * QUICK.max_new_tokens]
    answers = learner._answers(given_, found, torch.tensor([[0.0, 1.0]]))
    assert answers.answered.sum(dim=1).tolist() == [3, QUICK.max_new_tokens]
    end, lm = made.vocabulary.im_end, finetuned.lm
    with torch.no_grad():
        together = learner.log_probabilities(lm, answers)
        for row, (prompt, answer) in enumerate(zip(given_, [[*found[0], end], found[1]])):
            logits = lm(torch.tensor([[*prompt, *answer]])).logits[0].float()
            logits[:, ~learner.allowed] = float("-inf")
            at = torch.arange(len(prompt), len(prompt) + len(answer))
            alone = logits.log_softmax(dim=-1)[at - 1, torch.tensor(answer)]
            torch.testing.assert_close(together[row, at], alone, rtol=1e-4, atol=1e-5)
    assert together[~answers.answered].abs().max() == 0


def made_answers(advantages, answered) -> grpo.Answers:
    answered = torch.tensor(answered, dtype=torch.bool)
    empty = torch.zeros(answered.shape)
    return grpo.Answers(empty, empty, answered, torch.zeros(2), torch.tensor(advantages))


def test_the_objective_by_hand():
    answers = made_answers([1.0, -1.0], [[0, 1, 1], [0, 0, 1]])
    old = torch.log(torch.tensor([[1.0, 0.5, 0.5], [1.0, 1.0, 0.5]]))
    now = torch.log(torch.tensor([[1.0, 0.7, 0.5], [1.0, 1.0, 0.3]]))
    loss, kl = grpo.grpo_loss(now, old, old, answers, clip=0.2, beta=0.5)
    gains = (1.2 + 1.0) / 2, -0.8  # ratios 1.4 and 0.6 are followed to 1.2 and 0.8
    kls = (5 / 7 - np.log(5 / 7) - 1) / 2, 5 / 3 - np.log(5 / 3) - 1
    assert kl.item() == pytest.approx(np.mean(kls), rel=1e-5)
    assert loss.item() == pytest.approx(0.5 * np.mean(kls) - np.mean(gains), rel=1e-5)


@given(st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_advantages_are_relative_to_the_group(values):
    worth = torch.tensor(values)
    advantages = grpo.group_advantages(worth)
    assert advantages.sum(dim=1).abs().max() < 1e-2
    moved = grpo.group_advantages(worth + 3.0)
    torch.testing.assert_close(moved, advantages, rtol=0, atol=2e-2)
    same = worth.std(dim=1, correction=0) == 0
    assert (advantages[same].abs() < 1e-2).all()


def test_schema_rewards(made):
    kinds = {custom_of(cut)["kind"]: cut for cut in load_token_cuts(made.dump / "test")}
    right, sound = (uas_target(kinds[kind]) for kind in ("speech", "sound"))
    reward, silent = (
        rewards.schema_reward(custom_of(kinds[kind])["uas"]) for kind in ("speech", "sound")
    )
    assert reward(right) == silent(sound) == rewards.valid_schema(right) == 1.0
    assert reward("nothing of the kind") == rewards.valid_schema("{") == 0.0
    wrong, worth = json.loads(right), [1.0]

    def worse() -> bool:
        worth.append(reward(json.dumps(wrong)))
        return rewards.VALID_SHARE < worth[-1] < worth[-2]

    wrong["transcription"] = wrong["transcription"].rsplit(" ", 1)[0]  # a word is left out
    assert worse()
    wrong["paralinguistics"]["gender"] = "Male" if "Female" in right else "Female"
    assert worse()
    wrong["nonLinguisticEvents"]["discreteEvents"] = [{"label": "bell", "characteristic": None}]
    assert worse()  # an invented event
    invented = {**json.loads(sound), "transcription": "hello"}
    invented["paralinguistics"] = json.loads(right)["paralinguistics"]
    assert silent(json.dumps(invented)) < 1.0  # invented speech


def test_choice_rewards():
    reward = rewards.choice_reward(["rain", "bell"], "bell")
    assert [reward(text) for text in ("bell", "B", "rain", "neither")] == [1, 1, 0, 0]


def test_the_command_writes_a_model_to_load(finetuned, made, tmp_path, capsys):
    import uas_plugin
    from uas_plugin.bin.audiollm_grpo import main

    start, out = tmp_path / "start", tmp_path / "out"
    finetuned.lm.save_pretrained(start)
    made.vocabulary.save(start / "vocab.json")
    shutil.copyfile(made.text.path, start / MODEL_NAME)
    config = tmp_path / "grpo.yaml"
    config.write_text("{steps: 2, prompts: 4, group: 4, max_new_tokens: 8, lr: 1.0e-3, beta: 0.0}")
    main(
        ["--config", str(config), "--model", str(start), "--tokens_dir", str(made.dump)]
        + ["--output_dir", str(out), "--tasks", "uas", "asr", "qa"]
    )
    assert "mean reward on dev: " in capsys.readouterr().out
    curve = [json.loads(line) for line in (out / "grpo.jsonl").read_text().splitlines()]
    assert len(curve) == 2 and all(0 <= step["reward"] <= 1 for step in curve)
    before, after = (uas_plugin.load_audiollm(f).lm.state_dict() for f in (start, out))
    assert any(not torch.equal(before[name], after[name]) for name in before)
    with pytest.raises(UASError, match="another folder"):
        main(
            ["--config", str(config), "--model", str(start), "--tokens_dir", str(made.dump)]
            + ["--output_dir", str(start)]
        )
    with pytest.raises(UASError, match="no reward for tts"):
        grpo_run.make_prompts([], {}, {}, ["tts"])


def start_folder(finetuned, made, folder):
    finetuned.lm.save_pretrained(folder)
    made.vocabulary.save(folder / "vocab.json")
    shutil.copyfile(made.text.path, folder / MODEL_NAME)
    return folder


def test_a_stopped_run_goes_on_to_the_same_result(finetuned, made, tmp_path, monkeypatch):
    start = start_folder(finetuned, made, tmp_path / "start")
    settings_ = {"prompts": 2, "group": 2, "max_new_tokens": 4, "lr": 1e-3, "save_every": 2}
    options = grpo.GRPOOptions(steps=5, judge_every=2, **settings_)

    def run(name):
        return grpo_run.run_grpo(start, made.dump, tmp_path / name, options, tasks=["qa"])

    whole = run("whole")
    learn = grpo.GRPO.learn

    def killed(self, answers):
        if self.step == 3:  # behind the checkpoint of step 2
            raise KeyboardInterrupt
        return learn(self, answers)

    monkeypatch.setattr(grpo.GRPO, "learn", killed)
    with pytest.raises(KeyboardInterrupt):
        run("parts")
    monkeypatch.undo()
    assert not (tmp_path / "parts" / "grpo.json").exists()
    assert run("parts") == whole
    for name in ("grpo.jsonl", "grpo.json", "model.safetensors"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    curve = [json.loads(line) for line in (tmp_path / "whole" / "grpo.jsonl").open()]
    assert [row["step"] for row in curve if "dev_reward" in row] == [2, 4]
    assert not list((tmp_path / "parts").glob("checkpoint*"))


def test_a_checkpoint_of_another_run_is_refused(finetuned, made, tmp_path):
    start, out = start_folder(finetuned, made, tmp_path / "start"), tmp_path / "out"
    few = {"steps": 1, "prompts": 1, "group": 2, "max_new_tokens": 2}
    out.mkdir()
    learner = grpo.GRPO(copied(finetuned), grpo.GRPOOptions(**few))
    begun = {"model": "other", "tasks": ["qa"]}
    torch.save({**learner.state(), "begun": begun, "curve": []}, out / "checkpoint.pth")
    with pytest.raises(UASError, match="begun with another .*model.*remove it first"):
        grpo_run.run_grpo(start, made.dump, out, grpo.GRPOOptions(**few), tasks=["qa"])


def test_wrong_options_are_named(finetuned):
    with pytest.raises(UASError, match="two answers or more"):
        grpo.GRPOOptions(group=1)
    with pytest.raises(UASError, match="clip in"):
        grpo.GRPOOptions(clip=1.5)
    with pytest.raises(UASError, match="no prompt"):
        next(grpo.GRPO(copied(finetuned), QUICK).train([]))
