"""Predictors of a mean opinion score (MOS, 1 to 5) from audio alone. Their name is in the table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uas_plugin.errors import UASError
from uas_plugin.evaluation.judges.measure import RATE, Item, Measure, split_spec


class DNSMOS(Measure):
    """DNSMOS P.835 and P.808 (arXiv 2110.01763) as the package ``speechmos`` carries them.

    ``ovrl`` (overall) is the figure; ``sig``, ``bak`` and ``p808`` are kept beside it. Clips of
    less than 9 s are repeated up to it, as the published script does.
    """

    name = "dnsmos"
    packages = ("speechmos", "onnxruntime")
    main_process = True  # the ONNX runtime has threads of its own

    def load(self) -> Any:
        from speechmos import dnsmos

        return dnsmos

    def measure(self, items: Sequence[Item]) -> list[Any]:
        values = []
        for item in items:
            found = self.model.run(np.clip(item.made.wave(), -1, 1), sr=RATE)
            values.append({key.removesuffix("_mos"): float(x) for key, x in found.items()})
        return values


class UTMOS(Measure):
    """UTMOS22 strong learner (arXiv 2204.02152) in the port that torch.hub gives.

    torch.hub runs the repository's own code, so it is used only where it is asked for by name.
    """

    name = "utmos"
    packages = ("torchaudio",)
    extra = "espnet"
    main_process = True
    repository, entry = "tarepan/SpeechMOS:v1.2.0", "utmos22_strong"

    def __init__(self, path: str = "", device: str = "cpu") -> None:
        self.path, self.device = path, device

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "model": self.path or self.repository, "entry": self.entry}

    def check(self) -> None:
        super().check()
        if self.path and not (Path(self.path) / "hubconf.py").is_file():
            raise UASError(
                f"utmos: {self.path} holds no hubconf.py: clone "
                f"{self.repository.replace(':', ' at ')} there and pass utmos=FOLDER (its "
                "weights go to $TORCH_HOME/hub/checkpoints)"
            )

    def fetches(self) -> str:
        return "" if self.path else self.repository

    def load(self) -> Any:
        import torch

        source = "local" if self.path else "github"
        try:
            model = torch.hub.load(
                self.path or self.repository, self.entry, source=source, trust_repo=True
            )
        except (OSError, RuntimeError, ValueError, ImportError) as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise UASError(
                f"utmos: {self.path or self.repository} cannot be loaded: {reason[0]}; clone "
                f"{self.repository.replace(':', ' at ')}, pass utmos=FOLDER, and put its weights "
                "into $TORCH_HOME/hub/checkpoints"
            ) from None
        return model.to(self.device).eval()

    def measure(self, items: Sequence[Item]) -> list[Any]:
        import torch

        values = []
        for item in items:
            wave = torch.from_numpy(item.made.wave())[None].to(self.device)
            with torch.inference_mode():
                values.append({"ovrl": float(self.model(wave, RATE))})
        return values


PREDICTORS: dict[str, Any] = {DNSMOS.name: DNSMOS, UTMOS.name: UTMOS}


def predictor(spec: str, device: str = "cpu") -> Measure:
    """A predictor by ``NAME`` or ``utmos=FOLDER``.

    Raises:
        UASError: unknown name.
    """
    name, path = split_spec(spec, list(PREDICTORS), "MOS predictor")
    if name == DNSMOS.name:
        if path:
            raise UASError("dnsmos takes no folder: its package carries the model")
        return DNSMOS()
    return UTMOS(path, device)
