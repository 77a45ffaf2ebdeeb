"""The unified LM: experts around a text backbone, and a depth decoder over the codebooks.

UniAudio 2.0, section 4.3. A frame is a text id or eight audio ids. Shapes: `B` rows, `T` frames,
`D` width, `Q` = 8 codebooks, `V` audio ids of a codebook, `W` text ids, `N` audio frames.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from uas_plugin.audiollm.uniaudio2.config import CODEBOOKS, TEXT, UniAudio2Config
from uas_plugin.audiollm.uniaudio2.stack import LlamaStack, StaticCache


class Caches(NamedTuple):
    """One a stack; the experts' are left out to prefill the backbone alone."""

    backbone: StaticCache | None
    understanding: StaticCache | None
    generation: StaticCache | None


class Logits(NamedTuple):
    """``text`` (B, T, W) of the next frame; ``audio`` (N, Q, V) of the wanted audio frames."""

    text: Tensor
    audio: Tensor


class UniAudio2(nn.Module):
    """The network; `uas_plugin.audiollm.uniaudio2.decoding` runs it frame by frame."""

    def __init__(self, config: UniAudio2Config) -> None:
        super().__init__()
        self.config = config
        width, depth = config.backbone.width, config.depth
        self.text_embeddings = nn.Embedding(config.text_vocab, width)
        self.audio_embeddings = nn.Embedding(CODEBOOKS * config.audio_vocab, width)
        self.understanding = LlamaStack(config.understanding)
        self.backbone = LlamaStack(config.backbone)
        self.generation = LlamaStack(config.generation)
        self.text_head = nn.Linear(width, config.text_vocab, bias=False)
        self.projection = nn.Linear(width, depth.width, bias=False)
        self.depth = LlamaStack(depth)
        heads = torch.empty(CODEBOOKS, depth.width, config.audio_vocab)
        self.audio_head = nn.Parameter(heads.normal_(std=depth.width**-0.5))
        rows = torch.arange(CODEBOOKS) * config.audio_vocab
        self.register_buffer("first_rows", rows, persistent=False)

    def embed_audio(self, ids: Tensor) -> Tensor:
        """(..., Q, D) of audio ids (..., Q)."""
        return self.audio_embeddings(ids + self.first_rows)

    def hidden(
        self,
        tokens: Tensor,
        tokens_mask: Tensor,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
        caches: Caches | None = None,
    ) -> Tensor:
        """Final states (B, T, D) of frames.

        Audio frames pass the understanding expert on the way in and the generation expert on the
        way out; to the experts all other frames are zeros, which still take part in attention.

        Args:
            tokens, tokens_mask: (B, T, 9) ids and which of them are there.
            positions, mask: see `LlamaStack.forward`; by default the rows begin at 0.
        """
        if positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
        at = caches or Caches(None, None, None)
        # An expert without a cache among others sees this call's frames only, in their order.
        outside = caches is not None and at.understanding is None
        expert_mask = None if outside else mask
        audio, text = tokens_mask[..., :TEXT], tokens_mask[..., TEXT:]
        is_audio = audio.any(dim=-1, keepdim=True)
        x = (self.embed_audio(tokens[..., :TEXT]) * audio[..., None]).sum(dim=-2)
        x = self.understanding(x, positions, expert_mask, at.understanding)
        words = self.text_embeddings(tokens[..., TEXT]) * text
        h = self.backbone(torch.where(is_audio, x, words), positions, mask, at.backbone)
        heard = torch.where(is_audio, h, 0.0)
        out = self.generation(heard, positions, expert_mask, at.generation)
        return torch.where(is_audio, out, h * text)

    def depth_logits(self, h: Tensor, ids: Tensor) -> Tensor:
        """(N, Q, V) of states ``h`` (N, D) and the audio ids (N, Q) that follow them."""
        before = self.embed_audio(ids)[:, :-1]
        x = self.projection(torch.cat([h[:, None], before], dim=1))
        steps = torch.arange(CODEBOOKS, device=h.device)[None]
        return torch.einsum("nqd,qdv->nqv", self.depth(x, steps), self.audio_head)

    def forward(self, tokens: Tensor, tokens_mask: Tensor) -> Logits:
        """Logits of the frames 1 .. T - 1 from those before them.

        Args:
            tokens, tokens_mask: (B, T, 9). The audio logits are of all audio frames but a row's
                first frame, rows one after the other; `audio_targets` gives their ids.
        """
        h = self.hidden(tokens[:, :-1], tokens_mask[:, :-1])
        wanted = tokens_mask[:, 1:, :TEXT].any(dim=-1)
        audio = self.depth_logits(h[wanted], tokens[:, 1:, :TEXT][wanted])
        return Logits(self.text_head(h), audio)

    def text_logits(self, tokens: Tensor, tokens_mask: Tensor) -> Tensor:
        """(B, T, W): of the text id after each frame."""
        return self.text_head(self.hidden(tokens, tokens_mask))


def audio_targets(tokens: Tensor, tokens_mask: Tensor, loss_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Ids (N, Q) and loss mask (N, 9) of the frames whose audio logits `UniAudio2` makes."""
    wanted = tokens_mask[:, 1:, :TEXT].any(dim=-1)
    return tokens[:, 1:, :TEXT][wanted], loss_mask[:, 1:][wanted]
