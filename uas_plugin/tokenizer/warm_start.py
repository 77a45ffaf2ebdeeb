"""Start a tokenizer from a Whisper checkpoint (the papers start from whisper-large-v3)."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from uas_plugin.errors import UASError
from uas_plugin.tokenizer.seq2seq import TokenizerSeq2Seq

# Tables that may have more rows here than there.
_GROWING = ("decoder.embed_positions.weight", "decoder.embed_tokens.weight")


def _starts_with(ours: Tensor, theirs: Tensor) -> bool:
    return ours.shape[1:] == theirs.shape[1:] and len(ours) > len(theirs)


def init_from_whisper(
    model: TokenizerSeq2Seq, source: str, whisper_text: bool = False
) -> list[str]:
    """Copy every weight of a Whisper model that this model has, in name and shape.

    The second position table starts from the first rows of Whisper's (papers 1.1). A longer table
    of the decoder's positions starts with Whisper's. The text embedding is copied only under
    Whisper's vocabulary; the marks added to it start at the mean of its rows.

    Args:
        source: folder of a saved model, or its name on a hub.
        whisper_text: the text decoder has Whisper's vocabulary, added marks at its end.

    Returns:
        Names of the weights copied.

    Raises:
        UASError: the source is no Whisper model, or its sizes differ from the configuration's.
    """
    from transformers import WhisperForConditionalGeneration

    try:
        whisper: Any = WhisperForConditionalGeneration.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise UASError(f"init: {source} is not a readable Whisper model: {error}") from None
    theirs = whisper.model.state_dict()
    ours = model.state_dict()
    copied = [key for key in ours if key in theirs and ours[key].shape == theirs[key].shape]
    if "encoder.conv1.weight" not in copied or "encoder.layers.0.fc1.weight" not in copied:
        raise UASError(
            f"init: the sizes of {source} (d_model {whisper.config.d_model}, "
            f"{whisper.config.num_mel_bins} mel bins) are not those of the configuration"
        )
    if not whisper_text:
        # Another vocabulary of the same size has other meanings.
        copied = [key for key in copied if key != "decoder.embed_tokens.weight"]
    with torch.no_grad():
        for key in copied:
            ours[key].copy_(theirs[key])
        for key in _GROWING if whisper_text else _GROWING[:1]:
            if key not in copied and _starts_with(ours[key], theirs[key]):
                ours[key][: len(theirs[key])] = theirs[key]
                copied.append(key)
                if key == "decoder.embed_tokens.weight":
                    ours[key][len(theirs[key]) :] = theirs[key].mean(0)
        second = ours["encoder.embed_positions2.weight"]
        second.copy_(theirs["encoder.embed_positions.weight"][: len(second)])
    skipped = [key for key in theirs if key not in copied]
    logging.info("init from %s: %d weights copied, not: %s", source, len(copied), skipped)
    return copied
