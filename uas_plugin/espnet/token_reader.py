"""``reader: uas_tokens``: a token dump in the data of ESPnet's SpeechLM loader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from uas_plugin.data.tokens import TEXT_NAME, codebooks_of, read_token_info
from uas_plugin.errors import UASError


class TokenReader:
    """Ids of a dumped set by utterance: (T,) int64, or (T, C) of C > 1 codebooks.

    Only where each line begins is kept in memory.

    Args:
        folder: ``<dump>/<set>``.
        valid_ids: utterances that are kept (None: all), as ESPnet gives them.

    Raises:
        UASError: the dump is missing or unfinished.
    """

    def __init__(self, folder: str, valid_ids: Iterable[str] | None = None) -> None:
        self.path = Path(folder) / TEXT_NAME
        self.codebooks = codebooks_of(read_token_info(folder))
        wanted = None if valid_ids is None else set(valid_ids)
        self.starts: dict[str, int] = {}
        start = 0
        with open(self.path, "rb") as stream:
            for line in stream:
                utt = line.split(b" ", 1)[0].strip().decode()
                if wanted is None or utt in wanted:
                    self.starts[utt] = start
                start += len(line)

    def __getitem__(self, utt: str) -> np.ndarray:
        if utt not in self.starts:
            raise UASError(f"'{utt}' is not in the token dump {self.path.parent}")
        with open(self.path, "rb") as stream:
            stream.seek(self.starts[utt])
            ids = np.array(stream.readline().split()[1:], dtype=np.int64)
        return ids.reshape(-1, self.codebooks) if self.codebooks > 1 else ids

    def __contains__(self, utt: object) -> bool:
        return utt in self.starts

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[str]:
        return iter(self.starts)

    def keys(self) -> Iterable[str]:
        """The utterances."""
        return self.starts.keys()
