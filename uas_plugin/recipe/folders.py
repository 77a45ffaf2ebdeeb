"""Where a run keeps its files, remembered in ``exp/<corpus>/conf/run.json``."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any, Self

from uas_plugin.atomic import write_json
from uas_plugin.errors import UASError

ROOT = Path(__file__).resolve().parents[2]
"""The repository: Snakefile, workflow/ and egs/ are here."""


def from_root(path: str | Path) -> str:
    """``path`` as Snakemake (which works in ROOT) names it: relative inside ROOT, else absolute."""
    absolute = Path(os.path.abspath(path))
    return str(absolute.relative_to(ROOT)) if absolute.is_relative_to(ROOT) else str(absolute)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recorded:
    """What a run is, remembered in ``<exp>/conf/run.json``."""

    exp: str

    @property
    def conf(self) -> Path:
        """Folder of the section files."""
        return Path(self.exp) / "conf"

    def save(self) -> bool:
        """Write ``run.json`` when it differs from what is there; tells whether it did."""
        path = ROOT / self.conf / "run.json"
        value = json.loads(json.dumps(dataclasses.asdict(self)))
        if path.exists() and json.loads(path.read_text(encoding="utf-8")) == value:
            return False
        write_json(path, value)
        return True

    @classmethod
    def load(cls, conf: str | Path) -> Self:
        """Read ``run.json`` of a configuration folder.

        Raises:
            UASError: it is missing or from another version.
        """
        path = ROOT / conf / "run.json"
        try:
            value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            lists = {k: tuple(v) for k, v in value.items() if isinstance(v, list)}
            return cls(**{**value, **lists})
        except FileNotFoundError:
            raise UASError(f"{path} is missing: start the run with run.sh") from None
        except (ValueError, TypeError) as error:
            raise UASError(f"{path} cannot be read ({error}): delete it") from None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run(Recorded):
    """One run of a recipe on a corpus.

    Attributes:
        recipe: folder of the recipe.
        corpus: name of the corpus.
        size: option of the configuration group ``size``.
        data, dump, exp: the run's folders (the corpus's name is their last part).
        results: the Markdown table that the score stage writes.
        corpus_dir: folder of recordings.
        overrides: Hydra overrides of the run.
        files: group -> YAML file (``--tokenizer_config F``).
        shards: parts that a set's token dump is cut into.
        shar_parts: jobs that write the training set as a Shar; 0: its files are read.
        gpus: GPUs of a training on one node (``trainer.ngpu``); 0: the run uses none.
        ablations: tokenizer variants of the configuration.
        lm_study: arms of the study of AudioLLMs. study_seeds: each is trained once a seed.
        pretrained: whether the tokenizer (of ``uniaudio2``: the encoder) is loaded, not trained.
        trained_vocoder: whether the vocoder is one that is trained.
        spoken: tasks of decoding whose answers hold audio.
        annotate: sets whose labels come from a language model.
        pipeline: which stages and rules the recipe has (`uas_plugin.recipe.pipelines`).
        seeds: of trainings that are repeated, in pipelines that repeat some.
        refined: whether the reasoning branch (of ``uniaudio2``) is refined by rewards.
    """

    recipe: str
    corpus: str
    size: str
    data: str
    dump: str
    exp: str
    results: str
    corpus_dir: str | None = None
    overrides: tuple[str, ...] = ()
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    shards: int = 1
    shar_parts: int = 0
    gpus: int = 0
    ablations: tuple[str, ...] = ()
    lm_study: tuple[str, ...] = ()
    study_seeds: tuple[int, ...] = ()
    pretrained: bool = False
    trained_vocoder: bool = False
    spoken: tuple[str, ...] = ("tts",)
    annotate: tuple[str, ...] = ()
    pipeline: str = "uas"
    seeds: tuple[int, ...] = ()
    refined: bool = False

    @property
    def read_back(self) -> dict[str, str]:
        """Spoken answers that the tokenizer's decoder reads: name of the reading -> of the answers.

        Of speech chat also the answers to other clips' questions, the floor of its figures.
        """
        names = {task: f"{task}.none" for task in self.spoken}
        if "speech_chat" in self.spoken:
            names["speech_chat_shuffled"] = "speech_chat.shuffled"
        return names

    def fill(self, template: str) -> str:
        """Replace ``{data}``, ``{dump}``, ``{exp}`` and ``{seed}`` (the first) in a path."""
        seed = self.seeds[0] if self.seeds else ""
        return template.format(data=self.data, dump=self.dump, exp=self.exp, seed=seed)


def locate(
    recipe_dir: str | Path,
    corpus: str,
    size: str = "full",
    *,
    datadir: str | Path | None = None,
    dumpdir: str | Path | None = None,
    expdir: str | Path | None = None,
    results: str | Path | None = None,
) -> dict[str, str]:
    """Folders of a run: the arguments of ``Run`` that hold paths.

    Runs of another size than ``full`` have folders of their own (``exp/smoke/<corpus>``) and a
    RESULTS.md there, so that they never mix with real ones.
    """
    recipe = Path(os.path.abspath(recipe_dir))
    part = Path() if size == "full" else Path(size)
    exp_root = Path(expdir) if expdir else recipe / "exp" / part
    is_default = size == "full" and expdir is None
    table = Path(results) if results else (recipe if is_default else exp_root) / "RESULTS.md"
    return {
        "recipe": from_root(recipe),
        "data": from_root((Path(datadir) if datadir else recipe / "data" / part) / corpus),
        "dump": from_root((Path(dumpdir) if dumpdir else recipe / "dump" / part) / corpus),
        "exp": from_root(exp_root / corpus),
        "results": from_root(table),
    }
