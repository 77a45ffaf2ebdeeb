"""A run of a recipe of stock ESPnet models on the tokens of another, finished run."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any, Self

from uas_plugin.errors import UASError
from uas_plugin.recipe.folders import ROOT, Recorded, from_root

SETS = ("train", "dev", "test")


@dataclasses.dataclass(frozen=True)
class Source:
    """The folders of a finished run of a uas recipe (its stages 1 to 5)."""

    corpus: str
    data: str
    dump: str
    exp: str

    @classmethod
    def read(cls, exp: str | Path) -> Self:
        """Read ``<exp>/conf/run.json``, in this checkout or in another.

        Raises:
            UASError: there is no run.
        """
        folder = Path(os.path.abspath(ROOT / exp))
        path = folder / "conf" / "run.json"
        try:
            value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            # Paths inside a checkout are relative to its root, which may be another than ours.
            own = value["exp"]
            root = folder if os.path.isabs(own) else folder.parents[len(Path(own).parts) - 1]
            data, dump = (from_root(root / value[key]) for key in ("data", "dump"))
            return cls(value["corpus"], data, dump, from_root(folder))
        except FileNotFoundError:
            raise UASError(
                f"no run in {folder}: egs/mini/uas1/run.sh --stop_stage 5 makes one, or give"
                " --source <exp>/<corpus> of another"
            ) from None
        except (ValueError, KeyError, IndexError) as error:
            raise UASError(f"{path} cannot be read ({error!r}): run its recipe again") from None


@dataclasses.dataclass(frozen=True, kw_only=True)
class StockRun(Recorded):
    """Folders and options of a run.

    Attributes:
        kind: "asr2" or "tts2": which rules (``workflow/rules/<kind>.smk``).
        recipe: folder of the recipe. corpus: of the source; also the name of the run's folder.
        size: option of the configuration group ``size``.
        data, dump: the source's manifests and tokens.
        source: the source's experiment (tokenizer, token decoder).
        judge: of tts2: the asr2 run that aligns and judges; else "".
        exp: the run's own folder. results: the Markdown table it writes.
        test_source, test_target: the test set's tokens and words, as the export writes them.
        judge_source, judge_target: names of a set's tokens and words in the judge's export.
        test_voices: of tts2: the option of decoding that names the speakers, or "".
        durations: of tts2: folder of alignments from elsewhere; "": the judge's CTC makes them.
        overrides, files: as in :class:`uas_plugin.recipe.folders.Run`.
    """

    kind: str
    recipe: str
    corpus: str
    size: str
    data: str
    dump: str
    source: str
    judge: str
    exp: str
    results: str
    test_source: str = ""
    test_target: str = ""
    judge_source: str = ""
    judge_target: str = ""
    test_voices: str = ""
    durations: str = ""
    overrides: tuple[str, ...] = ()
    files: dict[str, str] = dataclasses.field(default_factory=dict)

    def fill(self, template: str) -> str:
        """Replace the names of the run's folders in a path."""
        return template.format(**{f.name: getattr(self, f.name) for f in dataclasses.fields(self)})
