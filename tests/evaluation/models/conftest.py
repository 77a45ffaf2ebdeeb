"""Small random models in folders, as their users would have them, and a few questions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from uas_plugin.evaluation.models.base import Query, item_seed

CHOICES = ("dog bark", "siren", "rain", "bell")
MARKS = {
    "audio_token": "<|AUDIO|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
    "image_token": "<|IMAGE|>",
    "video_token": "<|VIDEO|>",
    "vision_bos_token": "<|vision_bos|>",
    "vision_eos_token": "<|vision_eos|>",
}
#: Qwen's chat form; audio is one token, which a front end makes as many as the encoder has states.
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'audio' %}<|audio_bos|><|AUDIO|><|audio_eos|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def clips(tmp_path_factory) -> list[str]:
    """Paths of clips of different lengths."""
    folder = tmp_path_factory.mktemp("clips")
    paths = []
    for k, seconds in enumerate((0.5, 1.3, 0.9, 2.0, 0.6)):
        generator = np.random.default_rng(k)
        wave = 0.1 * generator.standard_normal(int(16_000 * seconds))
        wave += 0.3 * np.sin(2 * np.pi * (200 + 150 * k) * np.arange(len(wave)) / 16_000)
        paths.append(str(folder / f"{k}.wav"))
        soundfile.write(paths[-1], wave.astype(np.float32), 16_000)
    return paths


@pytest.fixture
def ask(clips):
    """Make questions about the clips; keyword arguments are of :class:`Query`."""

    def make(count: int = 5, words: str = "Which sound is heard?", **more) -> list[Query]:
        queries = []
        for k in range(count):
            options = "\n".join(f"{'ABCD'[j]}. {text}" for j, text in enumerate(CHOICES))
            content = [
                {"type": "audio", "path": clips[k % len(clips)]},
                {"type": "text", "text": f"{words * (1 + k % 3)}\n\n{options}"},
            ]
            values = {"choices": CHOICES, "max_new_tokens": 8, "seed": item_seed(0, str(k)), **more}
            queries.append(
                Query(f"q{k}", "choice", ({"role": "user", "content": content},), **values)
            )
        return queries

    return make


def save_tokenizer(folder: Path, template: str | None = TEMPLATE) -> int:
    """A byte-level Qwen2 tokenizer without merges; its size."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2Tokenizer

    tokenizer = Qwen2Tokenizer(
        vocab={letter: k for k, letter in enumerate(sorted(ByteLevel.alphabet()))},
        merges=[],
        unk_token=None,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        extra_special_tokens=MARKS,
    )
    tokenizer.add_tokens(["<|im_start|>"], special_tokens=True)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def _ids(folder: Path) -> dict[str, int]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    marks = {name: tokenizer.convert_tokens_to_ids(token) for name, token in MARKS.items()}
    return {**marks, "end": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id}


def text_config(size: int, ids: dict[str, int], **more) -> dict:
    return {
        "vocab_size": size,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.3,
        "eos_token_id": ids["end"],
        "pad_token_id": ids["pad"],
        "bos_token_id": None,
        **more,
    }


def finish(model, ids: dict[str, int], folder: Path) -> Path:
    model.generation_config.update(eos_token_id=ids["end"], pad_token_id=ids["pad"])
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory) -> Path:
    """A Qwen2 language model."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    folder = tmp_path_factory.mktemp("models") / "tiny-text"
    size = save_tokenizer(folder)
    ids = _ids(folder)
    torch.manual_seed(0)
    return finish(Qwen2ForCausalLM(Qwen2Config(**text_config(size, ids))), ids, folder)


@pytest.fixture(scope="session")
def qwen2_audio_folder(tmp_path_factory) -> Path:
    """A Qwen2-Audio with its processor."""
    import torch
    from transformers import (
        AutoTokenizer,
        Qwen2AudioConfig,
        Qwen2AudioForConditionalGeneration,
        Qwen2AudioProcessor,
        WhisperFeatureExtractor,
    )

    folder = tmp_path_factory.mktemp("models") / "tiny-qwen2-audio"
    size = save_tokenizer(folder)
    ids = _ids(folder)
    extractor = WhisperFeatureExtractor(feature_size=16, chunk_length=4)
    processor = Qwen2AudioProcessor(extractor, AutoTokenizer.from_pretrained(folder), TEMPLATE)
    processor.save_pretrained(folder)
    extractor.save_pretrained(folder)
    torch.manual_seed(1)
    config = Qwen2AudioConfig(
        audio_config={
            "num_mel_bins": 16, "encoder_layers": 1, "encoder_attention_heads": 2,
            "encoder_ffn_dim": 32, "d_model": 16, "max_source_positions": 200, "init_std": 0.3,
        },
        text_config={"model_type": "qwen2", **text_config(size, ids)},
        audio_token_id=ids["audio_token"],
    )  # fmt: skip
    return finish(Qwen2AudioForConditionalGeneration(config), ids, folder)


@pytest.fixture(scope="session")
def omni_folder(tmp_path_factory) -> Path:
    """A Qwen2.5-Omni's thinker with tokenizer and feature extractor."""
    import torch
    from transformers import (
        Qwen2_5OmniThinkerConfig,
        Qwen2_5OmniThinkerForConditionalGeneration,
        WhisperFeatureExtractor,
    )

    folder = tmp_path_factory.mktemp("models") / "tiny-omni"
    size = save_tokenizer(folder)
    ids = _ids(folder)
    WhisperFeatureExtractor(feature_size=16, chunk_length=4).save_pretrained(folder)
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10_000.0}
    torch.manual_seed(2)
    config = Qwen2_5OmniThinkerConfig(
        audio_config={
            "num_mel_bins": 16, "encoder_layers": 1, "encoder_attention_heads": 2,
            "encoder_ffn_dim": 32, "d_model": 16, "max_source_positions": 200, "n_window": 25,
            "output_dim": 32,
        },
        vision_config={
            "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2,
            "out_hidden_size": 32, "fullatt_block_indexes": [0],
        },
        text_config=text_config(size, ids, rope_parameters=rope),
        audio_token_id=ids["audio_token"],
        image_token_id=ids["image_token"],
        video_token_id=ids["video_token"],
        vision_start_token_id=ids["vision_bos_token"],
        vision_end_token_id=ids["vision_eos_token"],
        audio_start_token_id=ids["audio_bos_token"],
        audio_end_token_id=ids["audio_eos_token"],
    )  # fmt: skip
    return finish(Qwen2_5OmniThinkerForConditionalGeneration(config), ids, folder)


@pytest.fixture(scope="session")
def audiollm_folder(tmp_path_factory) -> Path:
    """An exported AudioLLM that names an audio tokenizer beside it."""
    import torch

    from uas_plugin.audiollm.chat import CHAT_SYMBOLS, prompt_corpus
    from uas_plugin.audiollm.model import AudioLLM
    from uas_plugin.audiollm.vocabulary import Vocabulary
    from uas_plugin.data.text import MODEL_NAME, TextTokenizer, train_text_tokenizer
    from uas_plugin.tokenizer.api import AudioTokenizer
    from uas_plugin.tokenizer.build import build_model
    from uas_plugin.tokenizer.vocabulary import DecoderVocabulary

    folder = tmp_path_factory.mktemp("models") / "tiny-audiollm"
    lines = [*prompt_corpus(), *CHOICES, "Which sound is heard?"]
    train_text_tokenizer(lines, folder, symbols=CHAT_SYMBOLS, pieces=128, min_merges=32)
    torch.manual_seed(3)
    shape = {
        "d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32,
        "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32,
        "max_source_positions": 1500, "max_target_positions": 32, "quantize_position": 1,
        "quantize_vocab_size": 32, "encoder_residual_source_position": 1,
        "encoder_residual_target_position": 1, "init_std": 0.2,
    }  # fmt: skip
    whole = build_model(shape, DecoderVocabulary(text_vocab_size=50, eos=2, pad=3))
    with torch.no_grad():
        whole.encoder.codebook.weight.normal_()
    AudioTokenizer(whole.encoder).save_pretrained(folder / "tokenizer")
    text = TextTokenizer(folder / MODEL_NAME)
    vocabulary = Vocabulary(
        text_size=text.vocab_size,
        codebook_size=32,
        frame_rate=25.0,
        text_sha256=text.sha256,
        tokenizer="tokenizer",
    )
    vocabulary.save(folder / "vocab.json")
    model = AudioLLM(
        vocabulary=vocabulary,
        hidden_size=32,
        num_layers=2,
        num_heads=2,
        intermediate_size=64,
        max_positions=384,
    )
    for weights in model.lm.parameters():
        if weights.dim() > 1:  # far from uniform, so that answers differ
            torch.nn.init.normal_(weights, std=0.4)
    model.lm.save_pretrained(folder)
    return folder
