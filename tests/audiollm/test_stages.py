"""Each stage changes exactly its parts; adapters merge; stages hand their weights on."""

from __future__ import annotations

import pytest
import torch

from uas_plugin.audiollm.audio_input import AUDIO_SLOT, state_count
from uas_plugin.audiollm.model import AudioLLM
from uas_plugin.audiollm.stages import STAGES, merge_lora, part_of, start_from
from uas_plugin.audiollm.vocabulary import Vocabulary
from uas_plugin.errors import UASError

SHAPE = {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "intermediate_size": 32}
ENCODER = {
    "num_mel_bins": 16, "d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32, "downsample_hidden_size": 4, "output_dim": 12, "dropout": 0.5,
}  # fmt: skip
HEARING = {"audio_input": "continuous", "encoder": ENCODER}
LORA = {"lora": {"rank": 2, "alpha": 4}}
VOCABULARY = Vocabulary(text_size=20, codebook_size=8, frame_rate=25.0)


def made(**conf) -> AudioLLM:
    torch.manual_seed(0)
    return AudioLLM(vocabulary=VOCABULARY, **{**SHAPE, **conf})


def batch(continuous: bool) -> dict[str, torch.Tensor]:
    """Two rows; with ``continuous`` the first hears 1.5 s and the second nothing."""
    slots = int(state_count(150)) if continuous else 3
    heard = [AUDIO_SLOT] * slots if continuous else VOCABULARY.audio_ids([1, 2, 3])
    rows = [[*heard, 5, 6, 7], list(range(slots + 3))]
    tokens = torch.tensor(rows)
    labels = torch.full_like(tokens, -100)
    labels[:, -3:-1] = tokens[:, -2:]
    out = {
        "tokens": tokens, "labels": labels, "tasks": (labels >= 0).long(),
        "positions": torch.arange(tokens.shape[1]).expand_as(tokens),
        "units": torch.zeros_like(tokens), "items": torch.zeros_like(tokens),
    }  # fmt: skip
    if continuous:
        generator = torch.Generator().manual_seed(2)
        out["audio"] = torch.randn(1, 16, 150, generator=generator)
        out["audio_frames"] = torch.tensor([150])
    return out


def changed_by_a_step(model: AudioLLM) -> set[str]:
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model(**batch(model.audio is not None))[0].backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    optimizer.step()
    return {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_changes_its_parts_and_no_others(stage, tied):
    model = made(stage=stage, tie_embeddings=tied, **HEARING)
    parts = {name: part_of(name, model) for name, _ in model.named_parameters()}
    assert set(parts.values()) == {"vocabulary", "projection", "layers", "encoder"}
    assert ("lm.lm_head.weight" in parts) == (not tied)
    expected = {name for name, part in parts.items() if part in STAGES[stage]}
    changed = changed_by_a_step(model)
    # A key's bias shifts all scores of a query alike: its gradient is rounding only.
    assert {n for n in changed ^ expected if not n.endswith("k_proj.bias")} == set()
    assert any(parts[name] == "encoder" for name in changed) == (stage == "joint")


def test_adapters_change_instead_of_their_layers():
    pytest.importorskip("peft")
    model = made(**HEARING, **LORA)
    changed = changed_by_a_step(model)
    layers = {name for name in changed if part_of(name, model) == "layers"}
    # B starts at zero, so the first step reaches B only.
    assert layers and all("lora_B" in name for name in layers)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert {name for name in trained if part_of(name, model) == "layers"} == {
        n for n, _ in model.named_parameters() if "lora_" in n
    }
    assert {"audio.projection.weight", "lm.model.embed_tokens.weight"} <= changed


def test_merged_adapters_give_the_same_states():
    pytest.importorskip("peft")
    model = made(**LORA)
    changed_by_a_step(model)
    model.eval()
    inputs = {k: batch(False)[k] for k in ("tokens", "positions", "units", "items")}
    with torch.no_grad():
        before = model.hidden(**inputs)
        merge_lora(model.lm)
        torch.testing.assert_close(model.hidden(**inputs), before)
    assert set(model.state_dict()) == set(made().state_dict())


def test_a_stage_starts_from_the_one_before():
    pytest.importorskip("peft")
    first = made(stage="alignment")
    changed_by_a_step(first)
    torch.manual_seed(5)
    second = AudioLLM(vocabulary=VOCABULARY, **SHAPE, **HEARING, **LORA)
    new = start_from(second, first.state_dict())
    assert new and all(name.startswith("audio.") or "lora_" in name for name in new)
    merge_lora(second.lm)
    for name, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], value)
    with pytest.raises(UASError, match="do not fit this model"):
        start_from(made(hidden_size=8), first.state_dict())
    with pytest.raises(UASError, match=r"the first is lm\.model\.layers\.1"):
        start_from(made(), made(num_layers=1).state_dict())


def test_gradient_checkpointing_gives_the_same_gradients():
    plain, checked = made(**HEARING), made(gradient_checkpointing=True, **HEARING)
    for model in (plain, checked):
        model.train()
        model(**batch(True))[0].backward()
    for (name, a), (_, b) in zip(plain.named_parameters(), checked.named_parameters()):
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, msg=name)


def test_rows_without_audio_in_a_continuous_model():
    model = made(**HEARING)
    inputs = {**batch(False), "audio": torch.zeros(0, 16, 1)}
    inputs["audio_frames"] = torch.zeros(0, dtype=torch.long)
    loss = model(**inputs)[0]
    torch.testing.assert_close(loss, made()(**batch(False))[0])
    loss.backward()
    assert model.audio.projection.weight.grad.abs().max() == 0


@pytest.mark.parametrize(
    "conf, message",
    [
        ({"stage": "adaptation"}, "audio_input=continuous"),
        ({"stage": "alignement"}, "Did you mean 'alignment'"),
        ({"audio_input": "continous", "encoder": ENCODER}, "Did you mean 'continuous'"),
        ({"audio_input": "continuous"}, "needs lm.model.encoder"),
        ({"encoder": ENCODER}, "discrete input has no encoder"),
    ],
)
def test_wrong_settings_are_named(conf, message):
    with pytest.raises(UASError, match=message):
        made(**conf)


def test_wrong_adapters_are_named():
    pytest.importorskip("peft")
    with pytest.raises(UASError, match="Did you mean 'rank'"):
        made(lora={"rnk": 2})
    with pytest.raises(UASError, match="no layer is named nothing"):
        made(lora={"targets": ["nothing"]})


def test_slots_and_audio_must_agree():
    model, inputs = made(**HEARING), batch(True)
    with pytest.raises(UASError, match="needs audio"):
        model(**{k: v for k, v in inputs.items() if not k.startswith("audio")})
    inputs["tokens"][0, 0] = 1
    with pytest.raises(UASError, match="19 slots for 20 states"):
        model(**inputs)
