"""Training losses of the ReasoningCodec (UniAudio 2.0, App. A.2).

Three phases: the reasoning branch learns to answer about audio through a small language model
(`ThinkingTraining`), is refined by rewards of what it writes (`group_advantages`, `policy_loss`),
and is then frozen while the reconstruction branch and the flow learn (`ReconstructionTraining`).
Shapes: `B` clips, `L` text ids, `W` vocabulary, `N` reasoning tokens, `D` width, `C` latent
channels, `G` answers to one question.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uas_plugin.codec.reasoning.config import INTERVAL
from uas_plugin.codec.reasoning.model import Features, ReasoningCodec
from uas_plugin.codec.reasoning.thinking import ReasoningBranch

IGNORE = -100  # label without a loss
Judge = Callable[[str, str], float]  # what was written, reference -> reward


@dataclass(frozen=True)
class ReconstructionOptions:
    """Weights and chances of the reconstruction phase; the defaults are the paper's.

    Args:
        phone, commitment: weights beside the flow's. prefix_chance: of a batch whose clips are
            given their first ``shortest`` .. ``longest`` latents. condition_drop: chance that a
            clip's condition is left out, for guidance.
    """

    phone: float = 0.1
    commitment: float = 0.5
    prefix_chance: float = 0.5
    shortest: int = 32
    longest: int = 64
    condition_drop: float = 0.1


class ReconstructionTraining(nn.Module):
    """Flow, phone and commitment losses; the reasoning branch stays as it is."""

    def __init__(self, model: ReasoningCodec, options: ReconstructionOptions | None = None) -> None:
        super().__init__()
        self.model, self.options = model, options or ReconstructionOptions()
        model.audio_thinking.requires_grad_(False)

    def train(self, mode: bool = True) -> ReconstructionTraining:
        """The frozen branch's codebooks must not move either."""
        super().train(mode)
        self.model.audio_thinking.eval()
        return self

    def forward(
        self,
        features: Features,
        latents: Tensor,
        lengths: Tensor,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and its parts.

        Args:
            features: of the frozen encoders. latents: (B, 2T, C) of the SQ-Codec. lengths: (B,)
                latent frames of real audio. generator: draws everything that is random.
        """
        options, batch = self.options, len(latents)
        draws = torch.rand(6, batch, generator=generator).to(latents.device)
        encoded = self.model.encode(features, draws[:3] if self.training else None)
        parts = (encoded.phone, encoded.structure, encoded.acoustic)
        vectors = torch.stack([part.vectors for part in parts]).sum(dim=0)
        mu = self.model.cond_feature_emb(vectors).repeat_interleave(2, dim=1)
        frames = min(mu.shape[1], latents.shape[1])
        mu, latents = mu[:, :frames], latents[:, :frames]
        dropped = draws[3] < options.condition_drop
        mu = torch.where(dropped[:, None, None], 0.0, mu)
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        flow = self.model.flow_loss(
            latents,
            mu,
            lengths.clamp(max=frames),
            self._given(draws[5], frames, generator),
            t=draws[4],
            z=noise,
        )
        phone = self.model.feature_losses(encoded, features)["phone"]
        loss = flow + options.phone * phone + options.commitment * encoded.commitment
        named = {"flow": flow, "phone": phone, "commitment": encoded.commitment, "loss": loss}
        return loss, {name: value.detach() for name, value in named.items()}

    def _given(self, draws: Tensor, frames: int, generator: torch.Generator | None) -> Tensor:
        """(B,) latents that each clip is given at its beginning, at most half of it."""
        options = self.options
        if float(torch.rand((), generator=generator)) >= options.prefix_chance:
            return torch.zeros(len(draws), dtype=torch.long, device=draws.device)
        span = options.longest - options.shortest + 1
        return (options.shortest + (draws * span).long()).clamp(max=frames // 2)


class ThinkingTraining(nn.Module):
    """A causal language model that answers from the reasoning vectors.

    Args:
        branch: the reasoning branch. llm: a causal LM of transformers, frozen or with adapters, as
            the caller wants it. commitment: weight beside the cross entropy.
    """

    def __init__(self, branch: ReasoningBranch, llm: Any, commitment: float = 1.0) -> None:
        super().__init__()
        self.branch, self.llm, self.commitment = branch, llm, commitment
        width = branch.semantic_merge_proj.out_features
        self.to_llm = nn.Linear(width, llm.config.hidden_size)

    def prefix(self, features: Features) -> tuple[Tensor, Tensor]:
        """(B, N, hidden) that stand for the audio, and the commitment loss."""
        out = self.branch(features.whisper, features.music_semantic)
        return self.to_llm(out.vectors), out.commitment

    def logits(self, prefix: Tensor, ids: Tensor) -> Tensor:
        """(B, L, W): of each id of ``ids`` (B, L) from the audio and the ids before it."""
        words = self.llm.get_input_embeddings()(ids)
        embedded = torch.cat([prefix, words], dim=1)
        out = self.llm(inputs_embeds=embedded, use_cache=False).logits
        return out[:, prefix.shape[1] - 1 : -1]

    def forward(
        self, features: Features, ids: Tensor, labels: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and its parts.

        Args:
            ids: (B, L) question and answer, padded behind. labels: (B, L) the ids whose prediction
                counts (the answer), `IGNORE` elsewhere.
        """
        prefix, commitment = self.prefix(features)
        logits = self.logits(prefix, ids).float()
        text = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE)
        loss = text + self.commitment * commitment
        counted = labels != IGNORE
        right = (logits.argmax(dim=-1) == labels)[counted].float().mean()
        named = {"text": text, "commitment": commitment, "acc": right, "loss": loss}
        return loss, {name: value.detach() for name, value in named.items()}

    @torch.no_grad()
    def sample(
        self,
        prefix: Tensor,
        question: Tensor,
        *,
        steps: int,
        end: int,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Answers (B, steps) to ``question`` (B, L), ``end`` after each answer's end."""
        words, answer, past = self.llm.get_input_embeddings(), [], None
        done = torch.zeros(len(question), dtype=torch.bool, device=question.device)
        new = torch.cat([prefix, words(question)], dim=1)
        for _ in range(steps):
            out = self.llm(inputs_embeds=new, past_key_values=past, use_cache=True)
            past = out.past_key_values
            chances = (out.logits[:, -1].float() / temperature).softmax(dim=-1)
            drawn = torch.multinomial(chances, 1, generator=generator)[:, 0]
            drawn = torch.where(done, end, drawn)
            done = done | (drawn == end)
            answer.append(drawn)
            new = words(drawn[:, None])
        return torch.stack(answer, dim=1)

    def log_probabilities(self, prefix: Tensor, question: Tensor, answer: Tensor) -> Tensor:
        """(B, steps): of every id of ``answer``."""
        logits = self.logits(prefix, torch.cat([question, answer], dim=1))
        scores = logits[:, question.shape[1] :].float().log_softmax(dim=-1)
        return scores.gather(-1, answer[..., None])[..., 0]


def rewards(answers: Sequence[str], references: Sequence[str], judge: Judge) -> Tensor:
    """(B,) the judge's verdict on each answer; a judge with a method ``many`` is asked once."""
    many = getattr(judge, "many", None)
    if many is not None:
        return torch.tensor(many(answers, references), dtype=torch.float32)
    pairs = zip(answers, references, strict=True)
    return torch.tensor([float(judge(answer, reference)) for answer, reference in pairs])


def group_advantages(rewards: Tensor, eps: float = 1e-6) -> Tensor:
    """(B, G) rewards relative to the other answers to the same question, in standard deviations."""
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    return centred / (rewards.std(dim=1, keepdim=True, correction=0) + eps)


def policy_loss(
    new: Tensor,
    old: Tensor,
    reference: Tensor,
    mask: Tensor,
    advantages: Tensor,
    *,
    clip: float = 0.2,
    kl: float = 0.04,
) -> Tensor:
    """Group relative policy optimisation (Shao et al., 2024) over the ids that were written.

    Args:
        new, old, reference: (B, L) log-probabilities of the ids by the model in training, by the
            one that wrote them, and by the one it must stay near. mask: (B, L) 1 where an id
            counts. advantages: (B,). kl: weight of the distance to ``reference``; the paper gives
            no numbers, the defaults are GRPO's.
    """
    ratio = (new - old).exp()
    gain = torch.minimum(
        ratio * advantages[:, None], ratio.clamp(1 - clip, 1 + clip) * advantages[:, None]
    )
    away = reference - new
    distance = away.exp() - away - 1
    per_answer = ((gain - kl * distance) * mask).sum(dim=1) / mask.sum(dim=1).clamp_min(1)
    return -per_answer.mean()


def whole_frames(features: Features) -> Features:
    """Features cut to a multiple of what one reasoning query stands for."""
    frames = min(
        features.whisper.shape[-1] // 2,
        features.wavlm.shape[-1] // 2,
        features.music_acoustic.shape[-1],
        features.music_semantic.shape[-1],
    )
    frames -= frames % INTERVAL
    return Features(
        features.whisper[..., : 2 * frames],
        features.wavlm[..., : 2 * frames],
        features.music_acoustic[..., :frames],
        features.music_semantic[..., :frames],
    )
