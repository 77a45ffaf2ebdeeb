"""The three phases of training a ReasoningCodec, tiny."""

from __future__ import annotations

import pytest
import torch

from uas_plugin.codec.reasoning.model import Features
from uas_plugin.codec.reasoning.refinement import (
    RefinementOptions,
    RefinementTraining,
    _counted,
)
from uas_plugin.codec.reasoning.training import (
    IGNORE,
    ReconstructionOptions,
    ReconstructionTraining,
    ThinkingTraining,
    group_advantages,
    policy_loss,
    rewards,
    whole_frames,
)
from uas_plugin.errors import UASError

END = 1


def features(batch: int = 2, frames: int = 20) -> Features:
    torch.manual_seed(1)
    shapes = ((16, 2 * frames + 3), (16, 2 * frames), (16, frames), (16, frames))
    return whole_frames(Features(*(torch.randn(batch, *shape) for shape in shapes)))


@pytest.fixture
def codec(tiny_codec):
    return tiny_codec.make()[0]


def small_lm():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=12,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=0,
        eos_token_id=END,
    )
    return LlamaForCausalLM(config)


def test_reconstruction_learns_and_leaves_the_reasoning_branch_alone(codec):
    model = codec
    training = ReconstructionTraining(model).train()
    before = {k: v.clone() for k, v in model.audio_thinking.state_dict().items()}
    latents = torch.randn(2, 20, 4)
    lengths = torch.tensor([20, 14])
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=5e-3)

    def valid() -> float:
        training.eval()
        with torch.no_grad():
            made = training(features(), latents, lengths, torch.Generator().manual_seed(0))[1]
        training.train()
        return float(made["flow"])

    start = valid()
    for step in range(40):
        generator = torch.Generator().manual_seed(step)
        loss, stats = training(features(), latents, lengths, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert valid() < 0.8 * start
    wanted = stats["flow"] + 0.1 * stats["phone"] + 0.5 * stats["commitment"]
    assert float(stats["loss"]) == pytest.approx(float(wanted), rel=1e-5)
    for name, value in model.audio_thinking.state_dict().items():
        torch.testing.assert_close(value, before[name], atol=0, rtol=0)


def test_given_latents_and_dropped_conditions_are_what_they_say(codec):
    options = ReconstructionOptions(prefix_chance=1.0, shortest=2, longest=4, condition_drop=1.0)
    training = ReconstructionTraining(codec, options)
    draws = torch.tensor([0.0, 0.5, 0.99])
    assert training._given(draws, 20, None).tolist() == [2, 3, 4]
    assert training._given(draws, 6, None).tolist() == [2, 3, 3]
    made = []
    for seed in (0, 1):  # without its condition, the flow does not depend on the audio
        torch.manual_seed(seed)
        heard = Features(*(torch.randn_like(x) for x in vars(features()).values()))
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            stats = training.eval()(heard, torch.ones(2, 20, 4), torch.tensor([20, 20]), generator)
        made.append(float(stats[1]["flow"]))
    assert made[0] == pytest.approx(made[1], rel=1e-5)


def test_thinking_learns_to_answer(codec):
    training = ThinkingTraining(codec.audio_thinking, small_lm()).train()
    ids = torch.tensor([[3, 4, 5, END], [3, 4, 7, END]])  # the same question, two answers
    labels = ids.clone()
    labels[:, :2] = IGNORE
    heard = features()
    optimizer = torch.optim.Adam(training.parameters(), lr=5e-3)
    for _ in range(80):
        loss, stats = training(heard, ids, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # Only the audio tells the two apart, so the tokens carry it.
    assert float(stats["acc"]) == 1.0
    training.eval()
    prefix, _ = training.prefix(heard)
    answers = training.sample(
        prefix, ids[:, :2], steps=3, end=END, temperature=1e-3, generator=torch.manual_seed(0)
    )
    assert answers.tolist() == [[5, END, END], [7, END, END]]
    with torch.no_grad():
        scores = training.log_probabilities(prefix, ids[:, :2], ids[:, 2:])
        logits = training.logits(prefix, ids)[:, 2:].log_softmax(-1)
    torch.testing.assert_close(scores, logits.gather(-1, ids[:, 2:, None])[..., 0])


def test_advantages_and_policy_loss_by_hand():
    made = group_advantages(torch.tensor([[1.0, 3.0], [2.0, 2.0]]))
    torch.testing.assert_close(made, torch.tensor([[-1.0, 1.0], [0.0, 0.0]]), atol=1e-4, rtol=0)
    old = torch.log(torch.tensor([[0.5, 0.5]]))
    mask = torch.tensor([[1.0, 0.0]])
    same = policy_loss(old, old, old, mask, torch.tensor([2.0]))
    assert float(same) == pytest.approx(-2.0)
    new = torch.log(torch.tensor([[0.75, 0.1]]))  # ratio 1.5 is clipped at 1.2
    clipped = policy_loss(new, old, new, mask, torch.tensor([2.0]))
    assert float(clipped) == pytest.approx(-2.4)
    away = float(policy_loss(new, new, old, mask, torch.tensor([0.0]), kl=1.0))
    ratio = torch.tensor(0.5 / 0.75)
    assert away == pytest.approx(float(ratio - ratio.log() - 1))


def likes(answer: str, reference: str) -> float:
    return float(answer == reference)


def test_refinement_raises_the_reward(codec):
    """The judge likes one word: after some rounds it is written more often."""
    policy, reference = (ThinkingTraining(codec.audio_thinking, small_lm()) for _ in range(2))
    policy.commitment = 0.0
    options = RefinementOptions(group=8, steps=1)
    training = RefinementTraining(
        policy, reference, [3, 4], END, lambda ids: " ".join(map(str, ids)), likes, options
    )
    assert not any("reference" in name for name in training.state_dict())
    heard = features(1)
    books = [name for name, _ in policy.named_buffers() if "_codebook" in name]
    before = {name: policy.state_dict()[name].clone() for name in books}
    optimizer = torch.optim.Adam(policy.llm.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    scores = []
    for _ in range(30):
        loss, stats = training.train()(heard, ["6"], generator)
        scores.append(float(stats["reward"]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert sum(scores[-5:]) / 5 > sum(scores[:5]) / 5 + 0.2
    assert books and all(torch.equal(policy.state_dict()[name], before[name]) for name in books)
    judged = [
        float(training.eval()(heard, ["6"], torch.Generator().manual_seed(1))[0]) for _ in range(2)
    ]
    assert judged[0] == judged[1] < 0
    with pytest.raises(UASError, match="group is 2 or more"):
        RefinementOptions(group=1)


def test_ids_of_an_answer_count_up_to_its_end():
    answers = torch.tensor([[5, END, END, END], [5, 6, 7, 8], [END, END, END, END]])
    assert _counted(answers, END).tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]


def test_a_judge_of_many_is_asked_once():
    class Many:
        calls = 0

        def many(self, answers, references):
            self.calls += 1
            return [float(len(a)) for a in answers]

        def __call__(self, answer, reference):
            raise AssertionError

    judge = Many()
    assert rewards(["a", "bc"], ["", ""], judge).tolist() == [1.0, 2.0] and judge.calls == 1
