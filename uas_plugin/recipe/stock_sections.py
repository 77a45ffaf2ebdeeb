"""Section files of the recipes of stock ESPnet models: what each ESPnet command gets as --config.

A section of a training is a complete ESPnet configuration: the recipe's file of the group, and the
data files, which follow from the options of the export.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from uas_plugin.bin import load_section
from uas_plugin.data.espnet_files.asr2 import Asr2Options
from uas_plugin.data.espnet_files.sets import TokenSet
from uas_plugin.data.tokens import require_one_codebook
from uas_plugin.errors import UASError
from uas_plugin.recipe.folders import ROOT, from_root
from uas_plugin.recipe.stock_run import StockRun

Sections = dict[str, dict[str, Any]]
PARTS = (("train", "train"), ("dev", "valid"))
"""Set, and ESPnet's name of its use."""


def _data(files: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """ESPnet's options of data: name -> (path with ``{set}``, type).

    Files of lengths are no part of it: ESPnet takes the first of them for the list of utterances
    while it collects statistics, when they do not exist yet.
    """
    return {
        f"{use}_data_path_and_name_and_type": [
            [path.format(set=part), name, kind] for name, (path, kind) in files.items()
        ]
        for part, use in PARTS
    }


def asr2_sections(config: Mapping[str, Any], run: StockRun) -> tuple[StockRun, Sections]:
    """The run with the names of its test files, and its sections.

    Export, token model (``mt_train``), log-mel model (``asr_train``), decoding, scoring.

    Raises:
        UASError: the export's options do not fit.
    """
    options = Asr2Options(**config["export"])
    if options.src_lang is None:
        raise UASError("export.src_lang needs a name: the files of the training are named after it")
    data = f"{run.exp}/data"
    source, target = options.files(options.src_lang)
    lists = {**options.unit_list(options.src_lang), **options.text_list()}
    paths = {
        key: f"{data}/{value}" if value and not key.endswith("type") else value
        for key, value in lists.items()
    }
    text = (f"{data}/{{set}}/{target}", "text")
    shared = {"seed": config["seed"], "ngpu": config["ngpu"]}
    tokens = {"src_text": (f"{data}/{{set}}/{source}", "text"), "text": text}
    audio = {"text": text, "speech": (f"{data}/{{set}}/wav.scp", "sound")}
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
            **_data(tokens),
        },
        "logmel": {
            **config["logmel"],
            **shared,
            **spoken,
            **_data(audio),
        },
        "decode": {**config["decode"], **shared},
        "score": {**config["score"], "seed": config["seed"]},
    }


def tts2_sections(config: Mapping[str, Any], run: StockRun) -> tuple[StockRun, Sections]:
    """The run with the names of the judge's files, and its sections.

    Statistics (``tts2_train --collect_stats``) and training are two configurations: pitch and
    energy are collected by the first and read by the second. Computed on the fly they would be
    averaged over the wrong lengths (ESPnet 202511 takes samples for frames).

    Raises:
        UASError: the asr2 run that aligns and judges is missing, or of other tokens.
    """
    judge, options = _judge_of(run)
    tokens = TokenSet(ROOT / run.dump / "tokenizer" / "train")
    require_one_codebook(tokens.folder, "recipe tts2")
    data, stats, exp = f"{run.exp}/data", f"{run.exp}/tts2_stats", run.exp
    text = options.text_list()
    model = {
        **config["tts2"],
        "seed": config["seed"],
        "ngpu": config["ngpu"],
        "src_token_type": text["token_type"],
        "src_token_list": f"{judge.exp}/data/{text['token_list']}",
        "bpemodel": text["bpemodel"] and f"{judge.exp}/data/{text['bpemodel']}",
        "tgt_token_list": f"{data}/{config['export']['km_tag']}/tgt_tokens.txt",
    }
    # The grid of the tokens is the grid of everything else.
    grid = {"fs": tokens.info["sampling_rate"], "hop_length": tokens.n_shift}
    for kind in ("pitch", "energy"):
        model[f"{kind}_extract_conf"] = {**config["tts2"][f"{kind}_extract_conf"], **grid}
    files = {
        "text": (f"{data}/{{set}}/text", "text"),
        "discrete_speech": (f"{data}/{{set}}/text.km.{config['export']['km_tag']}", "text_int"),
        "durations": (f"{data}/{{set}}/durations", "text_int"),
        "speech": (f"{data}/{{set}}/wav.scp", "sound"),
    }
    if config["export"]["speakers"]:
        files["sids"] = (f"{data}/{{set}}/utt2sid", "text_int")
        model["tts_conf"] = {**model["tts_conf"], "spks": config["export"]["speakers"]}
    trained = {**model, **_data(files)}
    for kind in ("pitch", "energy"):
        for _, use in PARTS:
            collected = [f"{stats}/{use}/collect_feats/{kind}.scp", kind, "npy"]
            trained[f"{use}_data_path_and_name_and_type"].append(collected)
        trained[f"{kind}_normalize"] = "global_mvn"
        trained[f"{kind}_normalize_conf"] = {"stats_file": f"{stats}/train/{kind}_stats.npz"}
    source, target = options.files(str(options.src_lang))
    run = dataclasses.replace(
        run,
        test_source=f"{exp}/data/test/text.km.{config['export']['km_tag']}",
        test_target=f"{exp}/data/test/text",
        judge_source=source,
        judge_target=target,
        test_voices=(
            f"--data_path_and_name_and_type {data}/test/utt2sid,sids,text_int"
            if "sids" in files
            else ""
        ),
        durations=from_root(ROOT / config["durations"]) if config["durations"] else "",
    )
    return run, {
        "export": dict(config["export"]),
        "tts2_stats": {**model, **_data(files)},
        "tts2": trained,
        "decode": {**config["decode"], "seed": config["seed"], "ngpu": config["ngpu"]},
        "render": {**config["render"], "seed": config["seed"]},
        "judge": {**config["judge_decode"], "seed": config["seed"], "ngpu": config["ngpu"]},
        "score": {**config["score"], "seed": config["seed"]},
    }


def _judge_of(run: StockRun) -> tuple[StockRun, Asr2Options]:
    """The asr2 run that aligns and judges, and the options of its export."""
    try:
        judge = StockRun.load(f"{run.judge}/conf")
        section = load_section(ROOT / judge.conf / "export.yaml")
    except UASError:
        raise UASError(
            f"{run.judge} is no asr2 run of this source: egs/mini/asr2/run.sh makes one, or give"
            " --judge <its exp>"
        ) from None
    options = Asr2Options(**section)
    if options.case != "ts" or options.unit_bpe:
        raise UASError(
            f"{run.judge}: durations are counted in frames: run asr2 with export.repeats=keep and"
            " export.unit_bpe=0"
        )
    if (ROOT / judge.dump).resolve() != (ROOT / run.dump).resolve():
        raise UASError(
            f"{run.judge} is of other tokens ({judge.dump}): run asr2 with this --source"
        )
    return judge, options


SECTIONS = {"asr2": asr2_sections, "tts2": tts2_sections}
