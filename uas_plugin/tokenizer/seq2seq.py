"""The training model: tokenizer encoder, text decoder under SAP supervision, auxiliary losses.

UniAudio-Token section 3: ``L = L_SAP + lambda1 L_quant + lambda2 L_commit``; with a codebook of
moving averages the quantization term is the average itself. StableToken Eq. 5: ``L = L_ASR + 0.25
L_consensus + 0.25 L_commit + L_codebook``. CTC on the transcription and class heads on pooled
states are additions for small models, off in the papers' configurations. Every term is a mean over
the joined batch of all processes.

Shapes: ``B`` batch, ``T`` token frames, ``D`` width, ``L`` text pieces, ``V`` vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.models.whisper.modeling_whisper import WhisperDecoder, WhisperPreTrainedModel

from uas_plugin.tokenizer import reduce
from uas_plugin.tokenizer.config import TokenizerConfig
from uas_plugin.tokenizer.encoder import EncoderOutput, TokenizerEncoder

IGNORE = -100


class MaskedDecoder(WhisperDecoder):
    """Whisper's decoder with a cross-attention mask, which transformers leaves out."""

    def decode(
        self,
        input_ids: Tensor,
        states: Tensor,
        state_mask: Tensor,
        cache: EncoderDecoderCache | None = None,
    ) -> Tensor:
        """Hidden states of the next-piece predictions.

        Args:
            input_ids: (B, L) int64, the pieces not yet in ``cache``.
            states: (B, T, D) encoder states; state_mask: (B, T) bool.
            cache: keys and values of earlier pieces, extended in place.

        Returns:
            (B, L, D).
        """
        past = cache.get_seq_length() if cache is not None else 0
        length = input_ids.shape[1]
        hidden = self.embed_tokens(input_ids) * self.embed_scale
        hidden = hidden + self.embed_positions.weight[past : past + length]
        hidden = F.dropout(hidden, p=self.dropout, training=self.training)
        floor = torch.finfo(hidden.dtype).min
        # One query with a cache sees everything before it: no mask is needed.
        causal = None
        if length > 1:
            causal = hidden.new_full((length, past + length), floor)
            causal = causal.triu(past + 1)[None, None]
        cross = None
        if not bool(state_mask.all()):
            cross = (~state_mask)[:, None, None, :].to(hidden.dtype) * floor
        for layer in self.layers:
            hidden = layer(
                hidden,
                causal,
                states,
                encoder_attention_mask=cross,
                past_key_values=cache,
                use_cache=cache is not None,
            )
        return self.layer_norm(hidden)


@dataclass(frozen=True)
class AuxiliaryLosses:
    """Weights and sizes of the losses beside the text cross-entropy.

    Attributes:
        ctc_weight: weight of CTC on the transcription's pieces (0: no head).
        class_weight: weight of the pooled class heads (0: none).
        class_labels: field -> sorted labels, the heads' outputs.
        label_smoothing: of the text cross-entropy.
        input_noise: share of the decoder's input pieces replaced by random ones in training, so
            that the decoder must listen instead of continuing sentences that it knows.
        text_vocab_size: pieces of the text tokenizer (CTC outputs; the blank comes after them).
    """

    ctc_weight: float = 0.0
    class_weight: float = 0.0
    class_labels: dict[str, list[str]] = field(default_factory=dict)
    label_smoothing: float = 0.0
    input_noise: float = 0.0
    text_vocab_size: int = 0


class TokenizerSeq2Seq(WhisperPreTrainedModel):
    """Audio tokenizer with the text decoder that supervises it."""

    config_class = TokenizerConfig
    main_input_name = "input_features"

    def __init__(self, config: TokenizerConfig, auxiliary: AuxiliaryLosses | None = None) -> None:
        super().__init__(config)
        self.auxiliary = auxiliary or AuxiliaryLosses()
        self.encoder = TokenizerEncoder(config)
        self.decoder = MaskedDecoder(config)
        if self.auxiliary.ctc_weight > 0:
            self.ctc_head = nn.Linear(config.d_model, self.auxiliary.text_vocab_size + 1)
        if self.auxiliary.class_weight > 0:
            self.class_heads = nn.ModuleDict(
                {
                    name: nn.Linear(config.d_model, len(labels))
                    for name, labels in sorted(self.auxiliary.class_labels.items())
                }
            )
        self.post_init()

    def logits(
        self, input_ids: Tensor, encoded: EncoderOutput, cache: EncoderDecoderCache | None = None
    ) -> Tensor:
        """Next-piece logits (B, L, V); the output matrix is the input embedding (Whisper)."""
        hidden = self.decoder.decode(input_ids, encoded.last_hidden_state, encoded.mask, cache)
        return hidden @ self.decoder.embed_tokens.weight.t()

    def new_cache(self) -> EncoderDecoderCache:
        """An empty key/value cache for step-by-step decoding."""
        return EncoderDecoderCache(DynamicCache(), DynamicCache())

    @torch.inference_mode()
    def greedy(
        self, encoded: EncoderOutput, start: Sequence[int], eos: int, max_pieces: int
    ) -> list[list[int]]:
        """The most probable pieces one after another, without the start and the end marks.

        Args:
            encoded: states of B clips.
            start: ids that begin the answer; eos: the id that ends it.
            max_pieces: longest answer.
        """
        cache, count = self.new_cache(), len(encoded.mask)
        step = torch.tensor([list(start)], device=encoded.mask.device).repeat(count, 1)
        done = torch.zeros(count, dtype=torch.bool, device=step.device)
        steps: list[Tensor] = []
        for _ in range(max_pieces):
            step = self.logits(step, encoded, cache)[:, -1:].argmax(-1)
            done |= step[:, 0] == eos
            step[done] = eos
            steps.append(step[:, 0])
            if bool(done.all()):
                break
        rows = torch.stack(steps, 1).tolist()
        return [row[: row.index(eos)] if eos in row else row for row in rows]

    def forward(
        self,
        input_features: Tensor,
        lengths: Tensor,
        decoder_input_ids: Tensor,
        labels: Tensor,
        ctc_ids: Tensor | None = None,
        ctc_lengths: Tensor | None = None,
        classes: dict[str, Tensor] | None = None,
        noisy_features: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Training loss.

        Args:
            input_features: (B, M, F) log-mel; lengths: (B,) valid mel frames.
            decoder_input_ids, labels: (B, L) int64; labels are -100 where there is no loss.
            ctc_ids: (B, C) pieces of the transcription; ctc_lengths: (B,), 0 where none is known.
            classes: field -> (B,) int64 label index, -100 where unknown.
            noisy_features: (B, M, F) a noisy view of the clips, for the voters of LFQ.

        Returns:
            The loss (scalar) and the statistics to log (scalars).
        """
        encoded = self.encoder(input_features, lengths, noisy_features=noisy_features)
        logits = self.logits(self._noisy(decoder_input_ids), encoded)
        kept = labels != IGNORE
        text = self._text_loss(logits, labels)
        stats = {"loss_text": text.detach()}
        stats["acc"] = (logits.argmax(-1) == labels)[kept].float().mean().detach()
        loss = text
        for name, value in encoded.losses.items():
            loss = loss + value
            stats[f"loss_{name}"] = value.detach()
        stats.update(encoded.stats)
        if self.auxiliary.ctc_weight > 0 and ctc_ids is not None and ctc_lengths is not None:
            ctc = self._ctc_loss(encoded, ctc_ids, ctc_lengths)
            loss = loss + self.auxiliary.ctc_weight * ctc
            stats["loss_ctc"] = ctc.detach()
        if self.auxiliary.class_weight > 0 and classes:
            heads, head_stats = self._class_loss(encoded, classes)
            loss = loss + self.auxiliary.class_weight * heads
            stats.update(head_stats)
        stats["loss"] = loss.detach()
        return loss, stats

    def _text_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy over the pieces of all processes."""
        summed = F.cross_entropy(
            reduce.wide(logits.flatten(0, 1)),
            labels.flatten(),
            ignore_index=IGNORE,
            label_smoothing=self.auxiliary.label_smoothing,
            reduction="sum",
        )
        return reduce.mean(summed, (labels != IGNORE).sum())

    def _noisy(self, input_ids: Tensor) -> Tensor:
        """Replace some pieces by random text pieces (the start token stays)."""
        if not self.training or not self.auxiliary.input_noise:
            return input_ids
        hit = torch.rand(input_ids.shape, device=input_ids.device) < self.auxiliary.input_noise
        hit[:, 0] = False
        noise = torch.randint_like(input_ids, self.auxiliary.text_vocab_size)
        return torch.where(hit, noise, input_ids)

    def _ctc_loss(self, encoded: EncoderOutput, ctc_ids: Tensor, ctc_lengths: Tensor) -> Tensor:
        """Mean over the clips that have a transcription of their CTC loss per piece."""
        known = ctc_lengths > 0
        if not bool(known.any()):
            # All parameters take part, as DDP wants it, whatever this process's clips are.
            nothing = self.ctc_head(encoded.last_hidden_state).sum() * 0.0
            return reduce.mean(nothing, known.sum())
        scores = reduce.wide(self.ctc_head(encoded.last_hidden_state[known])).log_softmax(-1)
        losses = F.ctc_loss(
            scores.transpose(0, 1),
            ctc_ids[known],
            encoded.mask[known].sum(1),
            ctc_lengths[known],
            blank=self.auxiliary.text_vocab_size,
            reduction="none",
            zero_infinity=True,
        )
        return reduce.mean((losses / ctc_lengths[known]).sum(), known.sum())

    def _class_loss(
        self, encoded: EncoderOutput, classes: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean cross-entropy of the class heads on the mean state of each clip."""
        mask = encoded.mask.unsqueeze(-1).to(encoded.last_hidden_state.dtype)
        pooled = (encoded.last_hidden_state * mask).sum(1) / mask.sum(1)
        total = pooled.new_zeros(())
        stats: dict[str, Tensor] = {}
        for name, head in self.class_heads.items():
            # Every head runs at every step, so that all parameters take part under DDP.
            scores, target = head(pooled), classes[name]
            known = target != IGNORE
            summed = F.cross_entropy(
                reduce.wide(scores), target, ignore_index=IGNORE, reduction="sum"
            )
            total = total + reduce.mean(summed + scores.sum() * 0.0, known.sum())
            # Every process reports the same keys; ESPnet leaves out the mean of nothing (nan).
            stats[f"acc_{name}"] = (scores.argmax(-1) == target)[known].float().mean().detach()
        return total / len(self.class_heads), stats
