"""Benchmarks of a tokenizer alone: ``uas evaluate esc10 | esc50 | ued``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uas_plugin.atomic import write_json
from uas_plugin.bin import Parser, make_parser
from uas_plugin.evaluation.figures import Figure
from uas_plugin.evaluation.runs.options import hashes, open_run
from uas_plugin.evaluation.runs.score import FORMAT, SCORES

TITLES = {"esc10": "ESC-10", "esc50": "ESC-50", "ued": "Unit edit distance under noise"}
NAMES = tuple(TITLES)


def get_parser(name: str) -> Parser:
    """Arguments of ``uas evaluate NAME``."""
    what = {
        "ued": "Unit edit distance of a tokenizer under StableToken's noises, on any cut set "
        "(the paper: FLEURS).",
    }.get(name, f"Clusters of a tokenizer's histograms on {TITLES.get(name)}: silhouette, purity.")
    data = "--cuts fleurs/cuts.jsonl.gz" if name == "ued" else "--data ESC-50-master"
    parser = make_parser(
        f"{what} Writes scores.json and run.json, for `uas report compare`.",
        f"uas evaluate {name} {data} --model exp/mini/tokenizer/export -o exp/{name}",
    )
    parser.prog = f"uas evaluate {name}"
    add = parser.add_argument
    if name == "ued":
        add("--cuts", type=Path, required=True, help="CutSet (.jsonl.gz)")
        add("--noise_cuts", type=Path, help="recorded noise, for the kind 'real' (CutSet)")
        add("--ood_noise_cuts", type=Path, help="noise of classes not trained on, for 'real_ood'")
    else:
        add("--data", type=Path, required=True, help="folder with meta/esc50.csv and audio/")
    add("--model", required=True, metavar="[NAME=]PATH", help="tokenizer")
    add("-o", "--output", type=Path, required=True, help="folder of the run")
    add("--seed", type=int, default=0, help="of noise, k-means and intervals (default: 0)")
    add("--batch_size", type=int, default=16, help="clips of 30 s a batch (default: 16)")
    add("--device", default="cpu", help="torch device (default: cpu)")
    return parser


def main(name: str, argv: Sequence[str]) -> None:
    """Tokenize, score, write, and print the table."""
    args = get_parser(name).parse_args(argv)
    from uas_plugin.evaluation.compare import compare_runs
    from uas_plugin.evaluation.tokenizer_table import plain_text

    options = {"seed": args.seed, "batch_size": args.batch_size, "device": args.device}
    if name == "ued":
        run_ued(args.cuts, args.noise_cuts, args.ood_noise_cuts, args.model, args.output, **options)
    else:
        run_esc(name, args.data, args.model, args.output, **options)
    for table in compare_runs([args.output], published=False):
        print(plain_text(table))


def run_esc(name: str, data: Path, model: str, output: Path, **options: Any) -> dict[str, Any]:
    """Clustering of ESC-10 or ESC-50; returns the scores.

    Raises:
        UASError: files are missing, or the tokenizer cannot be loaded.
    """
    from uas_plugin.evaluation.benchmarks.esc import LABEL, esc_cuts, esc_files

    cuts = esc_cuts(data, ten=name == "esc10")
    files = hashes(esc_files(data), data)
    report = _tokens(model, cuts, {}, options, labels=[LABEL])
    found = report["models"][0]["clustering"][LABEL]
    first, *others = found["variants"]
    detail = {"variants": others, "distance": first["distance"],
              "normalisation": first["normalisation"]}  # fmt: skip
    figures = [
        Figure(id=f"{name}.silhouette", label="Silhouette", n=first["clips"],
               value=first["silhouette_euclidean"], detail=detail),
        Figure(id=f"{name}.purity", label="Purity", n=first["clips"], value=first["purity_mean"],
               baselines={"chance": found["chance_purity"]},
               detail={"spread": first["purity_std"], "by_seed": list(first["purity"])}),
    ]  # fmt: skip
    return _write(name, output, files, report, figures, options)


def run_ued(
    cuts: Path, noise: Path | None, ood: Path | None, model: str, output: Path, **options: Any
) -> dict[str, Any]:
    """Unit edit distance by kind of noise and on average; returns the scores.

    The average is the papers' (English and Chinese count alike) where both are there and no kind
    is missing; otherwise the plain mean of the kinds over all clips.

    Raises:
        UASError: files are missing, or the tokenizer cannot be loaded.
    """
    from uas_plugin.evaluation.tokenizer import read_inputs
    from uas_plugin.evaluation.tokenizer_tokens import paper_views

    found, inputs = read_inputs({"cuts": cuts, "noise": noise, "ood_noise": ood})
    views = paper_views(found["noise"], found["ood_noise"])
    report = _tokens(model, found["cuts"], views, options)
    rows = report["models"][0]["ued"]
    n = report["clips"]["scored"]
    figures = [
        Figure(id=f"ued.{kind}", label=kind.replace("_", " "), value=row["all"], n=n,
               better="lower", interval=row["interval"], detail={"edits": row["edits"],
               "clean_tokens": row["clean_tokens"], "by_language": row["by_language"]})
        for kind, row in rows["kinds"].items()
    ]  # fmt: skip
    mean = rows["average"]
    value = mean["all"] if mean["paper"] is None else mean["paper"]
    figures.append(
        Figure(id="ued.average", label="average", value=value, n=n, better="lower",
               baselines={"shuffled": rows["shuffled"]},
               detail={"over": mean["over"], "papers' mean": mean["paper"] is not None})
    )  # fmt: skip
    files = {name: facts["sha256"] for name, facts in inputs.items()}
    return _write("ued", output, files, report, figures, options)


def _tokens(
    model: str, cuts: Sequence[Any], views: Mapping[str, Any], options: Mapping[str, Any],
    labels: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    from uas_plugin.evaluation.tokenizer import compare_tokenizers
    from uas_plugin.evaluation.tokenizer_rows import Choices

    return compare_tokenizers(
        [model],
        cuts,
        views,
        labels=labels,
        choices=Choices(seed=options["seed"]),
        device=options["device"],
        batch_size=options["batch_size"],
    ).report


def _write(
    name: str,
    output: Path,
    files: Mapping[str, str],
    report: Mapping[str, Any],
    figures: Sequence[Figure],
    options: Mapping[str, Any],
) -> dict[str, Any]:
    row = report["models"][0]
    model = {key: row[key] for key in ("name", "path", "sha256", "codebook_size", "frame_rate")}
    facts = {"benchmark": name, "files": dict(files), "model": {**model, "kind": "tokenizer"},
             "conventions": report["protocol"], "seeds": [options["seed"]]}  # fmt: skip
    record = open_run(output, facts)
    left_out = report["left_out"]
    scores = {
        "format": FORMAT,
        "kind": "benchmark",
        "benchmark": name,
        "title": TITLES[name],
        "metric": "tokens",
        "run": record,
        "items": report["clips"]["scored"],
        "missing": {"items": len(left_out), "first": [one["id"] for one in left_out[:10]]},
        "responses": report["clips"]["scored"],
        "unparsed": 0,
        "empty": 0,
        "figures": [figure.to_json() for figure in figures],
        "groups": {},
    }
    write_json(output / SCORES, scores)
    return scores
