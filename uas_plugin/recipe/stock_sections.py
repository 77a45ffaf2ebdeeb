"""Section files of the recipes of stock ESPnet models: what each ESPnet command gets as --config.

A section of a training is a complete ESPnet configuration: the recipe's file of the group, and the
data files, which follow from the options of the export.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from uas_plugin.data.espnet_files.asr2 import Asr2Options
from uas_plugin.errors import UASError
from uas_plugin.recipe.stock_run import StockRun

Sections = dict[str, dict[str, Any]]
PARTS = (("train", "train"), ("dev", "valid"))
"""Set, and ESPnet's name of its use."""


def _data(
    files: Mapping[str, tuple[str, str]], stats: str, lengths: tuple[str, ...]
) -> dict[str, Any]:
    """ESPnet's options of data and of their lengths.

    Args:
        files: name -> (path with ``{set}``, type). lengths: names whose lengths count in a batch.
        stats: folder that the collection of statistics writes.
    """
    options: dict[str, Any] = {}
    for part, use in PARTS:
        options[f"{use}_data_path_and_name_and_type"] = [
            [path.format(set=part), name, kind] for name, (path, kind) in files.items()
        ]
        options[f"{use}_shape_file"] = [f"{stats}/{use}/{name}_shape" for name in lengths]
    return options


def asr2_sections(config: Mapping[str, Any], run: StockRun) -> tuple[StockRun, Sections]:
    """The run with the names of its test files, and its sections.

    Export, token model (``mt_train``), log-mel model (``asr_train``), decoding, scoring.

    Raises:
        UASError: the export's options do not fit.
    """
    options = Asr2Options(**config["export"])
    if options.src_lang is None:
        raise UASError("export.src_lang needs a name: the files of the training are named after it")
    data, exp = f"{run.exp}/data", run.exp
    source, target = options.files(options.src_lang)
    lists = {**options.unit_list(options.src_lang), **options.text_list()}
    paths = {
        key: f"{data}/{value}" if value and not key.endswith("type") else value
        for key, value in lists.items()
    }
    text = (f"{data}/{{set}}/{target}", "text")
    shared = {"seed": config["seed"], "ngpu": config["ngpu"]}
    tokens = {"src_text": (f"{data}/{{set}}/{source}", "text"), "text": text}
    audio = {"text": text, "speech": (f"{run.data}/{{set}}/wav.scp", "sound")}
    spoken = {key: paths[key] for key in ("token_type", "token_list", "bpemodel")}
    run = dataclasses.replace(
        run, test_source=f"{data}/test/{source}", test_target=f"{data}/test/{target}"
    )
    return run, {
        "export": dict(config["export"]),
        "asr2": {
            **config["asr2"],
            **shared,
            **paths,
            **_data(tokens, f"{exp}/asr2_stats", ("src_text", "text")),
        },
        "logmel": {
            **config["logmel"],
            **shared,
            **spoken,
            **_data(audio, f"{exp}/logmel_stats", ("speech", "text")),
        },
        "decode": {**config["decode"], **shared},
        "score": {**config["score"], "seed": config["seed"]},
    }


SECTIONS = {"asr2": asr2_sections}
