"""The plugin's entries in ESPnet's tables of choices (``frontend: uas_tokens`` and others).

ESPnet 202511 has no entry points for plugins, but each ``ClassChoices`` is a table that is read
when a task's parser is built and again when its model is. An entry added in between two imports is
therefore seen by the argument parser, by ``--print_config``, by training, and when a checkpoint is
loaded. A task's module takes 10 to 20 s to import, so an entry is added when (and if) its module is
imported, by a finder that waits for its name; a module that is there already gets it at once.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

NAME = "uas_tokens"


@dataclass(frozen=True)
class Entry:
    """One entry of one table.

    Attributes:
        module: ESPnet's module that holds the table. table: its name there.
        target: ``module:Class`` of ours. name: of the choice.
    """

    module: str
    table: str
    target: str
    name: str = NAME

    def add(self, module: ModuleType) -> None:
        """Add the class to the table of ``module``.

        Raises:
            TypeError: it is not of the kind that the table takes.
        """
        where, _, name = self.target.partition(":")
        entry = getattr(import_module(where), name)
        table = getattr(module, self.table)
        kind = getattr(table, "base_type", None)
        if kind is not None and not issubclass(entry, kind):
            raise TypeError(f"{self.module}.{self.table} takes {kind}, not {entry}")
        # In place: tasks keep references to the table. SpeechLM's table is a plain dictionary.
        getattr(table, "classes", table)[self.name] = entry


_FRONTEND = "uas_plugin.espnet.token_frontend:TokenFrontend"
_WITH_FRONTENDS = ("asr", "asr_transducer", "cls", "s2t", "slu", "st")
ENTRIES = (
    *(Entry(f"espnet2.tasks.{t}", "frontend_choices", _FRONTEND) for t in _WITH_FRONTENDS),
    Entry("espnet2.tasks.gan_codec", "codec_choices", "uas_plugin.espnet.token_codec:TokenCodec"),
    Entry("espnet2.tasks.asr", "model_choices", "uas_plugin.espnet.ctc_model:CTCModel", "uas_ctc"),
    Entry(
        "espnet2.speechlm.dataloader.dataset",
        "reader_types",
        "uas_plugin.espnet.token_reader:TokenReader",
    ),
)


class _Loader(importlib.abc.Loader):
    """Runs a module as its own loader does, then adds the entries."""

    def __init__(self, inner: Any, entries: Sequence[Entry]) -> None:
        self.inner, self.entries = inner, entries

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.inner.exec_module(module)
        for entry in self.entries:
            entry.add(module)

    def __getattr__(self, name: str) -> Any:  # get_source, get_data, ...: the module's own loader's
        return getattr(self.inner, name)


class _Finder(importlib.abc.MetaPathFinder):
    """Waits for the modules whose tables get entries."""

    def __init__(self) -> None:
        self.waiting: dict[str, list[Entry]] = {}

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        entries = self.waiting.get(name)
        if entries is None:
            return None
        sys.meta_path.remove(self)  # the real finders are asked next
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, entries)
        return spec


def install() -> None:
    """Add the entries now or when their modules come; a second call changes nothing."""
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    finder = _Finder()
    for entry in ENTRIES:
        finder.waiting.setdefault(entry.module, []).append(entry)
        module = sys.modules.get(entry.module)
        # A module that is being imported right now has no table yet: its loader is done with it.
        if module is not None and hasattr(module, entry.table):
            entry.add(module)
    sys.meta_path.insert(0, finder)
