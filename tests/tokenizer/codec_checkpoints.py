"""Tiny codecs of transformers with random weights whose codes follow their input."""

from pathlib import Path

import torch

_HUBERT = {
    "model_type": "hubert",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
_W2V_BERT = {
    "model_type": "wav2vec2-bert",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "feature_projection_input_dim": 160,
    "output_hidden_size": 16,
    "conv_depthwise_kernel_size": 7,
}


def _dac_part(ratios: list[int], channels: int) -> dict:
    return {
        "model_type": "dac",
        "encoder_hidden_size": 2,
        "decoder_hidden_size": channels,
        "hidden_size": 16,
        "downsampling_ratios": ratios,
        "upsampling_ratios": ratios,
    }


_FSQ = {
    "hidden_size": 64,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "encoder_hidden_size": 2,
    "quantization_dim": 80,
    "quantization_levels": [4, 4],
    "semantic_model_config": _W2V_BERT,
}
_MIMI = {
    "num_filters": 2,
    "hidden_size": 16,
    "codebook_size": 16,
    "codebook_dim": 8,
    "vector_quantization_hidden_dimension": 8,
    "num_quantizers": 4,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 16,
    "layer_scale_initial_scale": 1.0,
    "upsample_groups": 16,
}
#: kind -> (prefix of the classes, settings, feature extractor, its settings)
SETTINGS: dict[str, tuple[str, dict, str, dict]] = {
    "dac": (
        "Dac",
        # 44.1 kHz and 512 samples a frame: 30 s are no whole number of frames.
        {
            "encoder_hidden_size": 2,
            "decoder_hidden_size": 32,
            "n_codebooks": 3,
            "codebook_size": 16,
            "codebook_dim": 4,
            "downsampling_ratios": [2, 4, 8, 8],
            "sampling_rate": 44100,
        },
        "Dac",
        {"hop_length": 512, "sampling_rate": 44100},
    ),
    "encodec": (
        "Encodec",
        {
            "num_filters": 2,
            "hidden_size": 8,
            "num_lstm_layers": 1,
            "codebook_size": 16,
            "target_bandwidths": [0.6, 1.2, 2.4],
        },
        "Encodec",
        {},
    ),
    "higgs": (
        "HiggsAudioV2Tokenizer",
        {
            "codebook_size": 16,
            "codebook_dim": 8,
            "target_bandwidths": [0.15, 0.35],
            "acoustic_model_config": _dac_part([8, 5, 4, 2, 3], 32),
            "semantic_model_config": _HUBERT,
        },
        "Dac",
        {"hop_length": 960, "sampling_rate": 24000},
    ),
    "mimi": ("Mimi", _MIMI, "Encodec", {}),
    "neucodec": ("NeuCodec", _FSQ, "NeuCodec", {}),
    "xcodec": (
        "Xcodec",
        {
            "codebook_size": 16,
            "target_bandwidths": [0.25, 0.75],
            "acoustic_model_config": _dac_part([8, 5, 4, 2], 16),
            "semantic_model_config": _HUBERT,
        },
        "Dac",
        {"hop_length": 320, "sampling_rate": 16000},
    ),
    "xcodec2": ("Xcodec2", _FSQ, "Xcodec2", {}),
}


def build(kind: str):
    """``(model, feature extractor)``."""
    import transformers

    prefix, settings, extractor_prefix, extractor_settings = SETTINGS[kind]
    torch.manual_seed(0)
    config = getattr(transformers, f"{prefix}Config")(**settings)
    model = getattr(transformers, f"{prefix}Model")(config).eval()
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Conv1d) and prefix == "Dac" and "encoder" in name:
            torch.nn.init.kaiming_normal_(module.weight)  # fresh ones hardly hear their input
    extractor_class = getattr(transformers, f"{extractor_prefix}FeatureExtractor")
    extractor = extractor_class(**extractor_settings)
    _spread_codes(model, extractor)
    return model, extractor


def save(kind: str, folder: Path) -> Path:
    """Write a checkpoint as releases are written."""
    model, extractor = build(kind)
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder


def direct_codes(model, extractor, *waveforms, count: int | None = None) -> torch.Tensor:
    """(B, codebooks, T) codes by transformers alone, from clips that its extractor pads."""
    audio = list(waveforms) if len(waveforms) > 1 else waveforms[0]
    rate = extractor.sampling_rate
    inputs = dict(extractor(audio, sampling_rate=rate, return_tensors="pt"))
    kind = model.config.model_type
    if kind not in ("encodec", "xcodec2", "neucodec"):
        inputs = {"input_values": inputs["input_values"]}
    if count is not None:
        inputs |= {"dac": {"n_quantizers": count}, "mimi": {"num_quantizers": count}}[kind]
    with torch.inference_mode():
        codes = model.encode(**inputs).audio_codes
    return codes[0] if kind == "encodec" else codes


@torch.no_grad()
def _spread_codes(model, extractor) -> None:
    """Set codebooks to vectors that occur: fresh ones are zero, or far from any latent."""
    books = [m for m in model.modules() if hasattr(m, "quantize") and hasattr(m, "codebook_size")]
    for book in books:
        book.quantize = _filling(book)
    latents = []
    projected = hasattr(model.quantizer, "project_in")
    if projected:
        hook = model.quantizer.register_forward_pre_hook(lambda _, args: latents.append(args[0]))
    samples = 3 * extractor.sampling_rate
    noise = 0.3 * torch.randn(samples) * torch.linspace(0, 1, samples)
    asked = getattr(model.config, "target_bandwidths", [None])[-1]
    inputs = dict(
        extractor(noise.numpy(), sampling_rate=extractor.sampling_rate, return_tensors="pt")
    )
    if not projected:
        inputs = {"input_values": inputs["input_values"]}
    model.encode(**inputs, **({} if asked is None else {"bandwidth": asked}))
    for book in books:
        del book.quantize
    if projected:
        hook.remove()
        linear = model.quantizer.project_in
        values = linear(latents[0]).reshape(-1, linear.out_features)
        linear.weight /= values.std(0)[:, None]
        linear.bias.copy_((linear.bias - values.mean(0)) / values.std(0))


def _filling(book):
    """``quantize`` that first fills the codebook from the latents that it is given."""

    def quantize(latents):
        table = book.embed_sum if hasattr(book, "embed_sum") else book.embed
        rows = latents[torch.arange(len(table)) % len(latents)]
        table.copy_(rows + 0.1 * latents.std() * torch.randn(table.shape))
        if hasattr(book, "_embed"):
            book._embed = None
        return type(book).quantize(book, latents)

    return quantize
