"""A first codebook by k-means over the states that enter the quantizer (stage 1 to stage 2)."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from uas_plugin.atomic import atomic_path
from uas_plugin.data.manifests import load_cuts
from uas_plugin.data.sampling import one_pass, seeded
from uas_plugin.errors import UASError
from uas_plugin.progress import progress
from uas_plugin.tokenizer.build import build_model, load_trained
from uas_plugin.tokenizer.config import TokenizerConfig
from uas_plugin.tokenizer.encoder import TokenizerEncoder
from uas_plugin.tokenizer.examples import FeatureCache
from uas_plugin.tokenizer.features import CHUNK_SECONDS, pad_features
from uas_plugin.tokenizer.seq2seq import TokenizerSeq2Seq
from uas_plugin.tokenizer.vocabulary import DecoderVocabulary


@torch.no_grad()
def collect_states(
    encoder: TokenizerEncoder, batches: Iterable[Any], max_frames: int
) -> np.ndarray:
    """States entering the quantizer: (N, D) float32 with N at most ``max_frames``."""
    cache = FeatureCache(encoder.config.num_mel_bins, encoder.config.padding_multiple, 0)
    kept: list[np.ndarray] = []
    frames = 0
    for cuts in progress(batches, desc="states for k-means"):
        features, lengths = pad_features([cache.get(cut) for cut in cuts])
        encoded = encoder(features, lengths)
        assert encoded.pre_quant is not None
        kept.append(encoded.pre_quant[encoded.mask].numpy())
        frames += len(kept[-1])
        if frames >= max_frames:
            break
    if not kept:
        raise UASError("no cuts to make a codebook from")
    return np.concatenate(kept)[:max_frames]


def fit_codebook(states: np.ndarray, size: int, seed: int, iterations: int) -> tuple:
    """k-means: centres (K, D) float32 and the frames of each (K,) int64.

    Raises:
        UASError: fewer frames than codes.
    """
    from sklearn.cluster import KMeans

    if len(states) < size:
        raise UASError(f"{len(states)} frames are too few for a codebook of {size} codes")
    means = KMeans(size, n_init=1, max_iter=iterations, random_state=seed).fit(states)
    logging.info("k-means over %d frames: inertia %.4g", len(states), means.inertia_)
    return means.cluster_centers_.astype(np.float32), np.bincount(means.labels_, minlength=size)


def set_codebook(
    encoder: TokenizerEncoder, centres: np.ndarray, counts: np.ndarray, frames_per_batch: float
) -> None:
    """Put centres into the codebook, with moving counts as a steady state would have them."""
    expected = torch.from_numpy(counts / counts.sum() * frames_per_batch).float().clamp(min=1e-2)
    with torch.no_grad():
        encoder.codebook.weight.copy_(torch.from_numpy(centres))
        encoder.ema_count.copy_(expected)
        encoder.ema_weight.copy_(encoder.codebook.weight * expected.unsqueeze(1))
        encoder.quantize_updates.zero_()


def init_codebook(
    exp_dir: Path, cuts_path: Path, conf: dict[str, Any], output: Path, untrained: bool
) -> None:
    """Write the weights that stage 2 starts from (``--init_param``).

    Args:
        exp_dir: the finished alignment training.
        cuts_path: training cuts.
        conf: max_frames, iterations, seed, batch_duration (s of audio of a training batch).
        untrained: take a freshly initialised model instead, as the baseline of the scores.
    """
    model, text, options = load_trained(exp_dir)
    if untrained:
        torch.manual_seed(conf["seed"])
        model = build_model(options["model_conf"], DecoderVocabulary.of(text)).eval()
    encoder = model.encoder
    if encoder.config.quantizer_type == "lfq":
        # Its codes are the corners of a cube: there is nothing to place.
        save_weights(model, output)
        return
    # Shuffled, so that a large corpus is sampled from more than its beginning.
    batches = one_pass(load_cuts(cuts_path), max_duration=60.0, seed=conf["seed"], shuffle=True)
    states = collect_states(encoder, batches, conf["max_frames"])
    size = encoder.config.quantize_vocab_size
    centres, counts = fit_codebook(states, size, conf["seed"], conf["iterations"])
    rate = 100.0 / (2 * encoder.config.pool)
    set_codebook(encoder, centres, counts, conf["batch_duration"] * rate)
    save_weights(model, output)


def untrained_encoder(
    config: TokenizerConfig, cuts: Sequence[Any], *, seed: int, max_frames: int, iterations: int
) -> TokenizerEncoder:
    """An encoder of random weights; a VQ codebook is fitted to its own states by k-means.

    Args:
        config: of the encoder to be like.
        cuts: audio for the states; of longer cuts the first 30 s.
        seed: of the weights, of the order of the cuts and of k-means; torch's own is left alone.
        max_frames: states for k-means at most.
        iterations: of k-means at most.

    Raises:
        UASError: the cuts give fewer states than there are codes.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = TokenizerEncoder(copy.deepcopy(config)).eval()
    if config.quantizer_type == "vq":
        heads = [
            c if c.duration <= CHUNK_SECONDS else c.truncate(duration=CHUNK_SECONDS) for c in cuts
        ]
        order = seeded("untrained", seed).permutation(len(heads))
        states = collect_states(encoder, [[heads[k]] for k in order], max_frames)
        centres, _ = fit_codebook(states, config.quantize_vocab_size, seed, iterations)
        with torch.no_grad():
            encoder.codebook.weight.copy_(torch.from_numpy(centres))
    return encoder


def save_weights(model: TokenizerSeq2Seq, output: Path) -> None:
    """A state dict under the names of the ESPnet model."""
    state = {f"model.{key}": value for key, value in model.state_dict().items()}
    with atomic_path(output) as temporary:
        torch.save(state, temporary)
