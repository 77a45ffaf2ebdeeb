"""``uas ctc``: decode and align posteriors of a CTC model, make graphs, rescore."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from uas_plugin.bin import Parser, make_parser
from uas_plugin.errors import UASError

EXAMPLE = """\
uas ctc posteriors --config exp/ctc/config.yaml --model exp/ctc/valid.loss.best.pth \\
    --tokens dump/mini/tokenizer/test/token --output exp/ctc/posteriors/test
uas ctc ngram --text data/train/text --order 3 --output exp/ctc/3gram.arpa
uas ctc graph --posteriors exp/ctc/posteriors/test --arpa exp/ctc/3gram.arpa --output exp/ctc/graph
uas ctc decode --posteriors exp/ctc/posteriors/test --graph exp/ctc/graph --nbest 20 \\
    --output exp/ctc/decode/test --text data/test/text
uas ctc rescore --nbest exp/ctc/decode/test/nbest.jsonl --audiollm exp/mini/audiollm/export \\
    --tokens dump/mini/tokenizer/test/token --output exp/ctc/rescored/test --text data/test/text
uas ctc align --posteriors exp/ctc/posteriors/test --text data/test/text \\
    --output exp/ctc/align/test"""


def get_parser() -> Parser:
    """The command's arguments."""
    parser = make_parser(__doc__ or "", EXAMPLE)
    parser.prog = "uas ctc"
    actions = parser.add_subparsers(dest="action", required=True, parser_class=Parser)
    actions.add_parser("backend", help="where k2 is: in_process, worker, or torch (no k2)")
    _add_posteriors(actions.add_parser("posteriors", help="of a trained ESPnet model with CTC"))
    _add_ngram(actions.add_parser("ngram", help="a small n-gram model of a text, as ARPA"))
    _add_graph(actions.add_parser("graph", help="HLG of a lexicon and an n-gram model (k2)"))
    _add_decode(actions.add_parser("decode", help="posteriors -> texts, n-best lists"))
    _add_rescore(actions.add_parser("rescore", help="n-best lists by another model's scores"))
    _add_align(actions.add_parser("align", help="transcripts -> durations in token frames"))
    return parser


def _add_output(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--output", type=Path, required=True, help=what)


def _add_backend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backend",
        choices=("in_process", "worker", "torch"),
        help="where k2 is, or none (default: the first of these that works; `uas doctor` tells)",
    )


def _add_posteriors(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--config", type=Path, required=True, help="config.yaml of ESPnet's training")
    add("--model", type=Path, required=True, help="its checkpoint")
    add("--tokens", type=Path, required=True, help="what the model reads: a file of a dump "
        "(`token`), or of an asr2 export")  # fmt: skip
    add("--frame_rate", type=float, help="frames a second (default: from the dump, if it is one)")
    add("--bpemodel", type=Path, help="of the text (default: where the configuration says)")
    add("--batch_size", type=int, default=16, help="clips at once (default: 16)")
    add("--device", default="cpu", help="default: cpu")
    _add_output(parser, "folder to write")


def _add_ngram(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--text", type=Path, required=True, help="Kaldi text: id, words")
    parser.add_argument("--order", type=int, default=3, help="default: 3")
    _add_output(parser, "ARPA file to write")


def _add_graph(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--posteriors", type=Path, required=True, help="of the model whose tokens are meant")
    add("--arpa", type=Path, required=True, help="n-gram model")
    add("--lexicon", type=Path, help="lines WORD token token ... (default: the words of the n-gram "
        "model, spelled with the model's tokens)")  # fmt: skip
    _add_backend(parser)
    _add_output(parser, "folder to write")


def _add_decode(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--posteriors", type=Path, required=True, help="folder")
    add("--graph", type=Path, help="folder of HLG (default: H, tokens follow each other freely)")
    add("--nbest", type=int, default=1, help="hypotheses an utterance (default: 1)")
    add("--lm_scale", type=float, default=1.0, help="weight of the graph's scores (default: 1)")
    add("--search_beam", type=float, default=20.0, help="nats (default: 20)")
    add("--output_beam", type=float, default=8.0, help="of the lattice, nats (default: 8)")
    add("--max_active", type=int, default=10000, help="states a frame (default: 10000)")
    add("--paths", type=int, default=200, help="paths drawn for --nbest; beam without k2")
    add("--text", type=Path, help="references: the word error rate is printed and written")
    _add_backend(parser)
    _add_output(parser, "folder for text and nbest.jsonl")


def _add_rescore(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--nbest", type=Path, required=True, help="nbest.jsonl of `uas ctc decode --nbest`")
    scorer = parser.add_mutually_exclusive_group(required=True)
    scorer.add_argument("--scores", type=Path, help='JSON lines {"id", "text", "score"} (nats)')
    scorer.add_argument("--arpa", type=Path, help="n-gram model")
    scorer.add_argument("--audiollm", help="folder or hub name of an AudioLLM")
    add("--tokens", type=Path, help="audio tokens that the AudioLLM hears (default: none)")
    add("--device", default="cpu", help="of the AudioLLM (default: cpu)")
    for name in ("am", "lm"):
        add(f"--{name}_scale", type=float, default=1.0, help="weight (default: 1)")
    add("--text_scale", type=float, nargs="+", default=[1.0], help="weight (default: 1); of "
        "several the one with the fewest word errors on --text is taken")  # fmt: skip
    add("--text", type=Path, help="references: the word error rate is printed and written")
    _add_output(parser, "folder for text and nbest.jsonl")


def _add_align(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--posteriors", type=Path, required=True, help="folder")
    parser.add_argument("--text", type=Path, required=True, help="transcripts: id, words")
    _add_backend(parser)
    _add_output(parser, "folder for durations, word_durations, ctm, left_out.jsonl")


def main(argv: Sequence[str]) -> None:
    """Entry point of ``uas ctc``."""
    args = get_parser().parse_args(list(argv))
    actions = {
        "backend": _backend,
        "posteriors": _posteriors,
        "ngram": _ngram,
        "graph": _graph,
        "decode": _decode,
        "rescore": _rescore,
        "align": _align,
    }
    print(json.dumps(actions[args.action](args), ensure_ascii=False))


def read_text(path: Path) -> dict[str, str]:
    """Kaldi text: id -> words.

    Raises:
        UASError: there is no such file.
    """
    if not path.exists():
        raise UASError(f"no text {path}: lines of an id and its words")
    with open(path, encoding="utf-8") as stream:
        lines = (line.split(maxsplit=1) for line in stream if line.strip())
        return {fields[0]: " ".join(fields[1:]).strip() for fields in lines}


def _backend(_args: argparse.Namespace) -> str:
    from uas_plugin.ctc.backend import find_backend

    backend = find_backend()
    logging.info("%s", backend.describe())
    return backend.kind


def _posteriors(args: argparse.Namespace) -> dict[str, Any]:
    from uas_plugin.espnet.ctc_posteriors import dump

    info = dump(
        args.config,
        args.model,
        args.tokens,
        args.output,
        frame_rate=args.frame_rate,
        bpe_model=args.bpemodel,
        batch_size=args.batch_size,
        device=args.device,
    )
    return {name: info[name] for name in ("utterances", "frames", "frame_rate")}


def _ngram(args: argparse.Namespace) -> dict[str, Any]:
    from uas_plugin.atomic import write_text
    from uas_plugin.ctc.arpa import arpa_lines, estimate

    model = estimate((text.split() for text in read_text(args.text).values()), args.order)
    write_text(args.output, "\n".join(arpa_lines(model)) + "\n")
    return {"order": model.order, "ngrams": len(model.grams)}


def _graph(args: argparse.Namespace) -> dict[str, Any]:
    from uas_plugin.ctc.arpa import BEGIN, END, UNKNOWN, read_arpa
    from uas_plugin.ctc.backend import find_backend
    from uas_plugin.ctc.graph import build_graph, spell
    from uas_plugin.ctc.lexicon import read_lexicon
    from uas_plugin.ctc.run import read_info

    info = read_info(args.posteriors)
    left_out: list[str] = []
    initial = None
    if args.lexicon:
        entries = read_lexicon(args.lexicon)
    else:
        marks = {BEGIN, END, UNKNOWN}
        words = (gram[0] for gram in read_arpa(args.arpa).grams if len(gram) == 1)
        entries, initial, left_out = spell(
            (word for word in words if word not in marks),
            info["tokens"], info.get("token_type", "word"), info.get("bpemodel"),
        )  # fmt: skip
    if left_out:
        logging.warning("%d words cannot be spelled: %s", len(left_out), " ".join(left_out[:10]))
    backend = find_backend(args.backend)
    built = build_graph(
        args.output, info["tokens"], entries, args.arpa, initial=initial, backend=backend
    )
    sizes = {name: built[name] for name in ("states", "arcs")}
    missing = len(built["words_left_out"]) + len(left_out)
    return {"words": len(built["words"]) - 1, "words_left_out": missing, **sizes}


def _decode(args: argparse.Namespace) -> dict[str, Any]:
    from uas_plugin.ctc.backend import find_backend
    from uas_plugin.ctc.run import decode

    backend = find_backend(args.backend)
    rows = decode(
        args.posteriors,
        graph=args.graph,
        backend=backend,
        nbest=args.nbest,
        lm_scale=args.lm_scale,
        search_beam=args.search_beam,
        output_beam=args.output_beam,
        max_active=args.max_active,
        paths=args.paths,
    )
    return {"backend": backend.kind, **_write(args, rows)}


def _rescore(args: argparse.Namespace) -> dict[str, Any]:
    from uas_plugin.atomic import read_jsonl
    from uas_plugin.ctc import rescore

    if args.tokens and not args.audiollm:
        raise UASError("--tokens are what an AudioLLM hears: give --audiollm too")
    if not args.nbest.exists():
        raise UASError(f"no n-best lists {args.nbest}: `uas ctc decode --nbest 20` makes them")
    if args.scores:
        scorer = rescore.file_scorer(args.scores)
    elif args.arpa:
        scorer = rescore.ngram_scorer(args.arpa)
    else:
        scorer = _audiollm_scorer(args)
    if len(args.text_scale) > 1 and not args.text:
        raise UASError("to choose among several --text_scale takes references: give --text")
    rows = list(rescore.scored(read_jsonl(args.nbest), scorer))
    found = {
        scale: list(
            rescore.weighted(rows, am_scale=args.am_scale, lm_scale=args.lm_scale, text_scale=scale)
        )
        for scale in args.text_scale
    }
    chosen = args.text_scale[0]
    if len(found) > 1:
        references = read_text(args.text)
        errors = {s: word_errors(references, best_texts(f))["wer"] for s, f in found.items()}
        chosen = min(errors, key=lambda scale: errors[scale])
    return _write(args, found[chosen], text_scale=chosen)


def _audiollm_scorer(args: argparse.Namespace) -> Any:
    import uas_plugin
    from uas_plugin.ctc.rescore import audiollm_scorer
    from uas_plugin.data.tokens import read_token_text

    tokens = read_token_text(args.tokens) if args.tokens else None
    return audiollm_scorer(uas_plugin.load_audiollm(args.audiollm, device=args.device), tokens)


def _write(
    args: argparse.Namespace, rows: Sequence[Mapping[str, Any]], **facts: Any
) -> dict[str, Any]:
    """Write ``nbest.jsonl`` and the best texts; their errors, if there are references."""
    from uas_plugin.atomic import write_json, write_jsonl, write_text

    write_jsonl(args.output / "nbest.jsonl", rows)
    best = best_texts(rows)
    lines = (f"{name} {best[name]}".rstrip() + "\n" for name in sorted(best, key=str.encode))
    write_text(args.output / "text", "".join(lines))
    result: dict[str, Any] = {
        **facts,
        "utterances": len(best),
        "without_hypothesis": sum(not row["hypotheses"] for row in rows),
    }
    if args.text:
        result.update(word_errors(read_text(args.text), best))
    write_json(args.output / "result.json", result)
    return result


def best_texts(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The first hypothesis of each n-best list; "" where there is none."""
    return {row["id"]: row["hypotheses"][0]["text"] if row["hypotheses"] else "" for row in rows}


def word_errors(references: Mapping[str, str], hypotheses: Mapping[str, str]) -> dict[str, Any]:
    """Word error rate over all utterances with a reference, and its counts; nothing normalised.

    Raises:
        UASError: no utterance has a reference with words.
    """
    import jiwer

    names = [name for name in hypotheses if references.get(name)]
    if not names:
        raise UASError("no utterance has a reference: are the ids those of the posteriors?")
    found = jiwer.process_words(
        [references[name] for name in names], [hypotheses[name] for name in names]
    )
    counts = {"substitutions", "deletions", "insertions", "hits"}
    return {"wer": found.wer, **{name: getattr(found, name) for name in sorted(counts)}}


def _align(args: argparse.Namespace) -> dict[str, Any]:
    from uas_plugin.atomic import write_jsonl, write_text
    from uas_plugin.ctc.alignment import word_durations, word_times
    from uas_plugin.ctc.backend import find_backend
    from uas_plugin.ctc.run import align, read_info
    from uas_plugin.data.durations import write_durations

    backend, info = find_backend(args.backend), read_info(args.posteriors)
    texts = read_text(args.text)
    aligned, left_out = align(args.posteriors, texts, backend=backend)
    kind = info.get("token_type", "word")
    words = {name: word_durations(a.durations, a.tokens, kind) for name, a in aligned.items()}
    write_durations(args.output / "durations", {name: a.durations for name, a in aligned.items()})
    write_durations(args.output / "word_durations", words)
    write_jsonl(args.output / "left_out.jsonl", left_out)
    if info.get("frame_rate"):
        lines: Iterable[str] = (
            f"{name} 1 {start:.3f} {length:.3f} {word}\n"
            for name in sorted(words, key=str.encode)
            for start, length, word in word_times(
                words[name], texts[name].split(), info["frame_rate"]
            )
        )
        write_text(args.output / "ctm", "".join(lines))
    frames = sum(int(a.durations.sum()) for a in aligned.values())
    score = sum(a.score for a in aligned.values()) / frames
    return {
        "backend": backend.kind,
        "aligned": len(aligned),
        "left_out": len(left_out),
        "score_per_frame": round(score, 4),
    }
