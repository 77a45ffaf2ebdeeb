"""The unified LM against the published code, on every golden set."""

from __future__ import annotations

import pytest
import torch

from uas_plugin.audiollm.uniaudio2.config import TEXT, UniAudio2Config
from uas_plugin.audiollm.uniaudio2.decoding import (
    FrameDecoder,
    Sampling,
    audio_frame,
    text_frame,
)
from uas_plugin.audiollm.uniaudio2.losses import audio_loss, stream_loss
from uas_plugin.audiollm.uniaudio2.model import UniAudio2, audio_targets
from uas_plugin.audiollm.uniaudio2.released import (
    STACKS,
    config_of_state,
    from_release,
    load_model,
    to_release,
)
from uas_plugin.audiollm.uniaudio2.sampling import sample


@pytest.fixture(scope="module")
def given(uniaudio2_lm, golden):
    return golden(uniaudio2_lm)


@pytest.fixture(scope="module")
def model(given):
    facts, state = given.facts("lm_config"), given.tensors("lm_weights")
    sections = dict(zip(STACKS.values(), ("backbone", "understanding", "generation", "decoder")))
    heads = {ours: facts[section]["n_head"] for ours, section in sections.items()}
    args = facts["args"]
    config = config_of_state(
        state, heads, args["audio_reason_vocab_size"], facts["backbone"]["block_size"]
    )
    assert config.semantic_card == args["audio_semantic_vocab_size"]
    for ours, section in sections.items():
        stack, wanted = getattr(config, ours), facts[section]
        assert stack.layers == wanted["n_layer"] and stack.width == wanted["n_embd"]
        assert stack.kv_heads == wanted["n_query_groups"]
        assert stack.inner == wanted["intermediate_size"]
    return load_model(config, from_release(state, config), "the set")


def test_names_go_both_ways(model, given, golden):
    state = given.tensors("lm_weights")
    back = to_release(model.state_dict())
    assert set(back) == set(state)
    for name, value in state.items():
        golden.same(back[name], value)


@torch.no_grad()
def test_forward_and_losses(model, given, golden):
    case = given.tensors("lm_forward")
    tokens, mask, loss_mask = (case[f"in.{name}"] for name in ("seq", "tokens_mask", "loss_mask"))
    out = model(tokens, mask)
    golden.close(out.text, case["out.text_logits"])
    golden.close(out.audio, case["out.ci_logits"])
    golden.close(model.text_logits(tokens, mask), case["out.forward_text_logits"])
    labels, chosen = audio_targets(tokens, mask, loss_mask)
    golden.same(labels, case["out.choosed_label"])
    golden.same(chosen, case["out.choosed_mask"])
    loss, accuracy = stream_loss(
        out.text, tokens[:, 1:, TEXT], loss_mask[:, 1:, TEXT], int(case["in.text_pad"])
    )
    golden.close(loss, case["out.loss_text"])
    golden.close(accuracy, case["out.acc_text"])
    loss, accuracy = stream_loss(out.audio[:, 0], labels[:, 0], chosen[:, 0], 0)
    golden.close(loss, case["out.loss_zero"])
    golden.close(accuracy, case["out.acc_zero"])
    weights = case["in.residual_weights"].tolist()
    audio = audio_loss(out.audio, labels, chosen, weights, int(case["in.audio_ignore"]))
    golden.close(audio.total, case["out.loss_residual"])
    golden.close(audio.losses, case["out.residual_loss_per_codebook"])
    golden.close(audio.accuracies, case["out.residual_acc_per_codebook"])


@torch.no_grad()
def test_losses_alone(given, golden):
    case = given.tensors("lm_losses_sampling")
    loss, accuracy = stream_loss(
        case["in.text_logits"], case["in.text_y"], case["in.text_mask"], ignore=-1
    )
    golden.close(loss, case["out.text_loss"])
    golden.close(accuracy, case["out.text_acc"])
    # Where the first had no label, the second has label 0, which it ignores.
    loss, accuracy = stream_loss(
        case["in.text_logits"], case["in.text_y"].clamp(min=0), case["in.text_mask"], ignore=0
    )
    golden.close(loss, case["out.zero_loss"])
    golden.close(accuracy, case["out.zero_acc"])
    logits, labels, mask = (case[f"in.ci_{name}"] for name in ("logits", "y", "mask"))
    weights = given.tensors("lm_forward")["in.residual_weights"].tolist()
    for name, given_weights in {"w3": [1.0] * 3, "w8": weights}.items():
        made = audio_loss(logits, labels, mask, given_weights, int(case["in.ci_ignore"]))
        golden.close(made.total, case[f"out.residual_{name}_loss"])
        golden.close(made.losses, case[f"out.residual_{name}_loss_per_codebook"])
        golden.close(made.accuracies, case[f"out.residual_{name}_acc_per_codebook"])


def test_sampling(given, golden):
    case = given.tensors("lm_losses_sampling")
    logits, draws = case["in.sample_logits"], case["in.exp_draws"]
    options = {"topk": 5, "temperature": 0.7}
    made = sample(logits, draws, **options)[:, None]
    golden.same(made, case["out.sample_text"])
    golden.same(made, case["out.sample_audio"])
    forbidden = torch.arange(logits.shape[1]) < 6
    made = sample(logits, draws, forbidden=forbidden, **options)[:, None]
    golden.same(made, case["out.sample_audio_forbid6"])


def test_frame_by_frame(model, given, golden):
    found, runs = given.tensors("lm_generate"), given.facts("lm_config")["runs"]
    assert runs
    vocab = torch.arange(model.config.audio_vocab)
    for name, run in runs.items():
        case = given.below(found, f"{name}.")
        prompt, mask = [case["prompt"]], [case["prompt_mask"]]
        if "uncond_prompt" in case:
            prompt.append(case["uncond_prompt"])
            mask.append(case["uncond_prompt_mask"])
        tokens, tokens_mask = torch.stack(prompt), torch.stack(mask)
        decoder = FrameDecoder(model, len(tokens))
        backbone_only = run["prefill"] == "forward"
        made = decoder.prefill(tokens, tokens_mask, backbone_only=backbone_only, logits=True)
        golden.close(made, case["prefill_text_logits"])
        sampling = Sampling(run["topk"], run["temperature"], run["cfg_scale"])
        feed = audio_frame if run["mode"] == "audio" else text_frame
        frame, frame_mask = tokens[:, -1], tokens_mask[:, -1]
        for s in range(run["steps"]):
            golden.same(torch.cat([frame, frame_mask.long()], dim=-1), case["fed"][s])
            step = decoder.step(
                frame,
                frame_mask,
                tokens.shape[1] - 1 + s,
                sampling,
                forbidden=vocab < run["forbid_prefix"][s],
            )
            golden.close(step.text_logits, case["text_logits"][s])
            golden.close(step.audio_logits, case["audio_logits"][s])
            golden.close(step.raw_text_logits, case["raw_text_logits"][s])
            frames = step.frames.repeat(len(tokens) // len(step.frames), 1)
            golden.same(frames, case["frames"][s])
            frame, frame_mask = feed(frames)


def test_prompts_filled_up_in_front(model, given, golden):
    """Frames of padding in front, more for one row than for the other, change nothing."""
    found, runs = given.tensors("lm_generate"), given.facts("lm_config")["runs"]
    names = [
        name
        for name, run in runs.items()
        if run["mode"] == "audio" and run["cfg_scale"] == 1 and not any(run["forbid_prefix"])
    ]
    assert names
    prompts = [found[f"{name}.prompt"] for name in names]
    masks = [found[f"{name}.prompt_mask"] for name in names]
    longest = max(map(len, prompts)) + 3
    pads = torch.tensor([longest - len(p) for p in prompts])

    def padded(rows):
        return torch.stack([torch.cat([r.new_zeros(longest - len(r), 9), r]) for r in rows])

    tokens, tokens_mask = padded(prompts), padded(masks)
    decoder = FrameDecoder(model, len(names), pads=pads)
    decoder.prefill(tokens, tokens_mask)
    frame, frame_mask = tokens[:, -1], tokens_mask[:, -1]
    for s in range(min(6, *(runs[name]["steps"] for name in names))):
        step = decoder.step(frame, frame_mask, longest - 1 + s, Sampling(1, 0.9))
        for row, name in enumerate(names):
            golden.close(step.text_logits[row], found[f"{name}.text_logits"][s, 0])
            golden.same(step.frames[row], found[f"{name}.frames"][s, 0])
        frame, frame_mask = audio_frame(step.frames)


def test_full_size(uniaudio2_sizes, golden):
    """Names and shapes of the release, without making its weights."""
    facts = golden(uniaudio2_sizes).facts("fullsize_state_dict")
    config = UniAudio2Config()
    with torch.device("meta"):
        state = to_release(UniAudio2(config).state_dict())
    numbers = {"V": config.audio_vocab, "8*V": 8 * config.audio_vocab}
    wanted = {}
    for name, entry in facts["lm_state_dict"].items():
        shape = tuple(numbers.get(n, n) for n in entry["shape"])
        wanted |= {name.replace("{i}", str(i)): shape for i in range(entry["count"])}
    assert {name: tuple(value.shape) for name, value in state.items()} == wanted
