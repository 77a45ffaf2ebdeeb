"""ReasoningCodec against the published code, on every golden set."""

from __future__ import annotations

import pytest
import torch

from uas_plugin.codec.reasoning.config import ReasoningCodecConfig, config_of_state
from uas_plugin.codec.reasoning.flow import KNOWN
from uas_plugin.codec.reasoning.model import Features, ReasoningCodec, film, upsample


@pytest.fixture(scope="module")
def given(uniaudio2_codec, golden):
    return golden(uniaudio2_codec)


@pytest.fixture(scope="module")
def codec(given):
    state = given.tensors("codec_weights")
    head_dim = given.facts("codec_config")["dit"]["attention_head_dim"]
    model = ReasoningCodec(config_of_state(state, head_dim)).eval()
    model.load_state_dict(state)
    return model


@pytest.fixture(scope="module")
def encoded(given):
    """Features and, by case, what the published code made of them."""
    found = given.tensors("codec_encode")
    names = ("whisper", "wavlm", "bestrq_acoustic", "bestrq_semantic")
    cases = sorted({key.split(".")[0] for key in found} - {"in"})
    assert cases
    features = Features(*(found[f"in.{name}"] for name in names))
    return features, {name: given.below(found, f"{name}.") for name in cases}


def test_sizes(codec, given):
    facts, config = given.facts("codec_config"), codec.config
    wanted = {
        "codec_dim": config.width,
        "whisper_dim": config.whisper_dim,
        "wavlm_dim": config.wavlm_dim,
        "bestrq_dim": config.music_dim,
        "latent_dim": config.latent_dim,
        "dim_heads": config.thinking_head_dim,
        "think_depth": config.thinking_depth,
        "reason_K": config.reasoning_codes,
        "reason_d": config.reasoning_code_dim,
        "rec_K": config.codes,
        "rec_d": config.code_dim,
    }
    assert wanted == {name: facts[name] for name in wanted}
    flow, dit = config.flow, facts["dit"]
    assert flow.num_layers == dit["num_layers"]
    assert flow.max_positions == dit["num_positional_embeddings"]
    assert (flow.num_heads, flow.in_channels) == (dit["num_attention_heads"], dit["in_channels"])
    assert flow.norm_eps == dit["norm_eps"]


@torch.no_grad()
def test_reasoning_branch(codec, encoded, golden):
    features, cases = encoded
    branch = codec.audio_thinking
    for case in cases.values():
        halved = branch.down_sampling_layer_whisper(features.whisper)
        golden.close(halved, case["think_whisper_25hz"])
        merged = branch.merge(features.whisper, features.music_semantic)
        golden.close(merged, case["think_merged_25hz"])
        x = branch.with_queries(merged)
        golden.close(x, case["think_with_query"])
        for i, block in enumerate(branch.encoder_transformers):
            x = block(x)
            golden.close(x, case[f"think_block{i}_out"])
        golden.close(x, case["think_encoder_out"])
        golden.close(branch.queries(merged), case["think_query_out"])
        out = branch(features.whisper, features.music_semantic)
        golden.same(out.ids, case["reason_codes"])
        golden.close(out.vectors, case["reason_quantized"])


@torch.no_grad()
def test_reconstruction_branch(codec, encoded, golden):
    features, cases = encoded
    for case in cases.values():
        golden.close(codec.d_conv_whisper(features.whisper), case["dconv_whisper_out"])
        golden.close(codec.d_conv_wavlm(features.wavlm), case["dconv_wavlm_out"])
        acoustic = codec.d_conv_embedding_acoustic(features.music_acoustic)
        golden.close(acoustic, case["dconv_bestrq_acoustic_out"])
        semantic = codec.d_conv_embedding_semantic(features.music_semantic)
        golden.close(semantic, case["dconv_bestrq_semantic_out"])
        condition = codec.reason_adaptor(case["reason_quantized"])
        golden.close(condition, case["reason_adaptor_out"])
        names = ("phone", "semantic", "acoustic")
        on = case["rand_draws"] >= 0.2
        for i, (name, x) in enumerate(zip(names, codec.branches(features), strict=True)):
            golden.close(x, case[f"film_{name}_in"])
            raised = upsample(condition, x.shape[1])
            golden.close(raised, case[f"film_{name}_cond"])
            modulation = getattr(codec, f"time_film_{name}")(raised)
            golden.close(film(x, modulation, on[i]), case[f"film_{name}_out"])


@torch.no_grad()
def test_ids_and_features(codec, encoded, golden):
    features, cases = encoded
    for case in cases.values():
        out = codec.encode(features, case["rand_draws"])
        golden.same(out.reasoning.ids, case["reason_codes"])
        golden.same(out.reconstruction_ids, case["rec_codes"])
        parts = {"phone": out.phone, "semantic": out.structure, "acoustic": out.acoustic}
        for name, part in parts.items():
            golden.close(part.vectors, case[f"{name}_quantized"])
        total = sum(part.vectors for part in parts.values())
        golden.close(codec.reconstruction_vectors(case["rec_codes"]), total)
        golden.close(codec.cond_feature_emb(total), case["merge_features"])
        golden.close(
            codec.with_reasoning(total, out.reasoning.vectors), case["feature_combine_out"]
        )
        structure = codec.structure_semantic_decoder(out.structure.vectors.transpose(1, 2))
        golden.close(structure, case["structure_decoder_out"])
        phone = codec.pronunciation_decoder(out.phone.vectors.transpose(1, 2))
        golden.close(phone, case["pronunciation_decoder_out"])


@torch.no_grad()
def test_film_is_always_on_unless_asked(codec, encoded, golden):
    features, cases = encoded
    plain = codec.encode(features)
    always = [case for case in cases.values() if case["rand_draws"].ge(0.2).all()]
    assert always
    for case in always:
        golden.same(plain.reasoning.ids, case["reason_codes"])
        golden.same(plain.reconstruction_ids, case["rec_codes"])


@torch.no_grad()
def test_decode(codec, given, golden):
    found = given.tensors("codec_decode")
    facts = given.facts("codec_config")["decode_cases"]
    assert facts
    for name, options in facts.items():
        case = given.below(found, f"{name}.")
        length = int(case["in.latent_length"])
        known = case["in.true_latents"][:, : int(case["in.incontext_length"])]
        reasoning = case.get("in.reason_codes_bqt")
        assert (reasoning is not None) == options["reason"]
        made = codec.latents(
            case["in.rec_codes_bqt"].transpose(1, 2),
            case["in.noise"],
            None if reasoning is None else reasoning.transpose(1, 2),
            known=known,
            lengths=torch.tensor([length]),
            n_steps=int(case["in.num_steps"]),
            guidance=float(case["in.guidance_scale"]),
        )
        golden.close(made, case["out.latents"])


@torch.no_grad()
def test_batches_and_no_guidance(codec, given, golden):
    """Where the published solver fails; rows of a batch are as they are alone."""
    errors = given.facts("codec_config")["error_probes"]
    assert {"batch_2_decode_with_guidance", "guidance_scale_1.0_decode"} <= set(errors)
    ids = given.tensors("codec_encode")["film_all_on.rec_codes"]
    noise = torch.randn(
        len(ids), 2 * ids.shape[1], codec.config.latent_dim, generator=torch.manual_seed(0)
    )
    for guidance in (1.0, 1.5):
        together = codec.latents(ids, noise, n_steps=3, guidance=guidance)
        alone = [
            codec.latents(ids[i : i + 1], noise[i : i + 1], n_steps=3, guidance=guidance)
            for i in range(len(ids))
        ]
        golden.close(together, torch.cat(alone))


@torch.no_grad()
def test_vectors_of_ids(codec, given, golden):
    found = given.tensors("codec_decode")
    want = given.below(found, "vq_from_indices.out.")
    ids = found["reason_noctx.in.rec_codes_bqt"].transpose(1, 2)
    golden.same(ids[..., :1].contiguous(), found["vq_from_indices.in.phone"])
    reasoning = found["reason_noctx.in.reason_codes_bqt"].transpose(1, 2)
    golden.close(codec.vq_pronunciation_semantic.lookup(ids[..., :1]), want["phone"])
    golden.close(codec.vq_structure_semantic.lookup(ids[..., 1:2]), want["semantic"])
    golden.close(codec.vq_acoustic.lookup(ids[..., 2:]), want["acoustic"])
    golden.close(codec.audio_thinking.reasoning_vq.lookup(reasoning), want["reason"])


def test_flow(codec, given, golden):
    case = given.tensors("codec_flow")
    flow = codec.cfm_wrapper
    with torch.no_grad():
        out = flow.estimator(case["in.est_x"], case["in.est_t"])
        golden.close(out, case["out.estimator_out"])
        noise, mu, given_latents = (
            case[f"in.euler_{name}"] for name in ("noise", "mu", "incontext")
        )
        grid = case["in.euler_t_span"]
        torch.testing.assert_close(grid, torch.linspace(0, 1, len(grid)))
        options = {"n_steps": len(grid) - 1, "guidance": float(case["in.euler_guidance"])}
        steps = torch.arange(noise.shape[1])[None]
        nothing = torch.zeros_like(given_latents)
        made = flow.solve(noise, mu, nothing, steps < 0, **options)
        golden.close(made, case["out.euler_g15"])
        count = int(case["in.euler_incontext_length"])
        made = flow.solve(noise, mu, given_latents, steps < count, **options)
        golden.close(made, case["out.euler_g15_ctx"])
        names = ("x1", "mu", "incontext", "latent_masks")
        inputs = [case[f"in.loss_{name}"] for name in names]
        assert (case["in.loss_latent_masks"] == KNOWN).any()
        loss = flow.loss(*inputs, t=case["in.loss_t"], z=case["in.loss_z"])
        golden.close(loss, case["out.loss"])
        half = torch.full_like(case["in.loss_t"], 0.5)
        loss = flow.loss(*inputs, t=half, z=case["in.loss_z"])
        golden.close(loss, case["out.loss_validation_t05"])


def test_full_size(uniaudio2_sizes, golden):
    """Names and shapes of the release, without making its weights."""
    entries = golden(uniaudio2_sizes).facts("fullsize_state_dict")
    entries = entries["codec_state_dict_without_ssl_encoders"]
    with torch.device("meta"):
        state = ReasoningCodec(ReasoningCodecConfig()).state_dict()
    assert len(state) == sum(entry["count"] for entry in entries.values())
    left = dict(state)
    for name, entry in entries.items():
        first, last = entry.get("first", name), entry.get("last", name)
        for key in {first, last}:
            assert tuple(state[key].shape) == tuple(entry["shape"]), key
        fitting = [key for key in left if same_family(key, name, entry["shape"], left[key])]
        assert len(fitting) == entry["count"], name
        for key in fitting:
            del left[key]
    assert not left


def same_family(key: str, name: str, shape: list[int], value: torch.Tensor) -> bool:
    """``key`` is one of the tensors that the entry ``name`` stands for."""
    mine, theirs = key.split("."), name.split(".")
    return (
        len(mine) == len(theirs)
        and all(b == "{i}" and a.isdigit() or a == b for a, b in zip(mine, theirs, strict=True))
        and tuple(value.shape) == tuple(shape)
    )
