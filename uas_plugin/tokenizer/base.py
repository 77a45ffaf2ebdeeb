"""What every tokenizer of the public API does alike: batches, streams, uploading."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uas_plugin.data.audio import first_channel
from uas_plugin.errors import UASError
from uas_plugin.tokenizer.extract import Batching, extract

Audio = str | os.PathLike | tuple[np.ndarray, int]


class TokenizerBase(ABC):
    """Audio to token ids by :meth:`encode_chunks`, which a subclass has.

    Attributes:
        sampling_rate: Hz that the encoder hears (audio at other rates is resampled).
    """

    sampling_rate: int

    @abstractmethod
    def encode_chunks(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Ids of one batch of clips: (samples,) float32 at ``sampling_rate``, at most 30 s each."""

    @abstractmethod
    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write a folder that ``load_tokenizer`` reads, and that may be uploaded as it is."""

    def encode(self, audios: Sequence[Audio], batch_size: int = 4) -> list[np.ndarray]:
        """Token ids of each audio, in order.

        Audio longer than 30 s is encoded in chunks of 30 s whose ids are joined. Ids depend neither
        on ``batch_size`` nor on the other audios (the releases' ids do; these are theirs at batch
        size 1).

        Args:
            audios: paths, or pairs of a waveform and its sampling rate in Hz. A waveform is
                (samples,) or (channels, samples), of which the first channel is taken; float in
                [-1, 1], or integers, which are divided by their type's full scale.
            batch_size: clips of 30 s encoded together; of shorter ones as many as fill that time.

        Returns:
            One int64 array per audio: (T,), of a codec (T, codebooks); empty for an audio of no
            samples.

        Raises:
            UASError: an audio cannot be used; the message names its path or place in the list.
        """
        results = []
        named = ((f"audio {k}", audio) for k, audio in enumerate(audios))
        for _, ids in self.encode_stream(named, Batching.of(batch_size)):
            if isinstance(ids, UASError):
                raise ids
            results.append(ids)
        return results

    def encode_stream(
        self, audios: Iterable[tuple[str, Any]], batching: Batching | None = None
    ) -> Iterator[tuple[str, np.ndarray | UASError]]:
        """``(key, ids)`` for any number of ``(key, audio)``, in order and in constant memory.

        An audio that cannot be used gives its UASError instead of ids, and the rest goes on.

        Args:
            audios: keys with audios as :meth:`encode` takes them, or with Lhotse cuts.
            batching: window, frame budget and readers.
        """
        return extract(self, audios, batching or Batching())

    def waveform(self, audio: Audio | Any, name: str) -> np.ndarray:
        """(samples,) float32 at ``sampling_rate``; ``name`` stands in the messages."""
        return first_channel(audio, self.sampling_rate, name)

    def push_to_hub(self, name: str, **options: Any) -> Any:
        """Upload what :meth:`save_pretrained` writes to the hub repository ``name``.

        Args:
            options: of ``huggingface_hub.HfApi.upload_folder``; the repository is made if absent.
        """
        import tempfile

        from huggingface_hub import HfApi

        with tempfile.TemporaryDirectory() as temporary:
            self.save_pretrained(Path(temporary) / "tokenizer")
            api = HfApi(token=options.pop("token", None))
            api.create_repo(name, exist_ok=True)
            return api.upload_folder(
                repo_id=name, folder_path=Path(temporary) / "tokenizer", **options
            )
