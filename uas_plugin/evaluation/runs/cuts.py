"""``uas evaluate cuts NAME``: a benchmark's recordings as a cut set, to reconstruct or tokenize."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from uas_plugin.bin import Parser, make_parser
from uas_plugin.data.manifests import cut_of_file
from uas_plugin.errors import UASError
from uas_plugin.evaluation.benchmarks import NAMES, get_benchmark
from uas_plugin.evaluation.benchmarks.base import Benchmark, Item


def get_parser() -> Parser:
    """Arguments of ``uas evaluate cuts``."""
    parser = make_parser(
        "Write the recordings of a benchmark of speech, with their texts, as a Lhotse CutSet for "
        "`uas reconstruct`,\n`uas evaluate reconstruction` and `uas evaluate ued`. Of SEED-TTS "
        "they are those of the prompts.",
        "uas evaluate cuts librispeech --data benchmarks/librispeech -o test-clean.jsonl.gz",
    )
    parser.prog = "uas evaluate cuts"
    parser.add_argument("benchmark", choices=NAMES, metavar="NAME", help="of the benchmark")
    parser.add_argument("--data", type=Path, required=True, help="its official files")
    parser.add_argument("-o", "--output", type=Path, required=True, help="CutSet (.jsonl.gz)")
    return parser


def main(argv: Sequence[str]) -> None:
    """Write the cut set."""
    args = get_parser().parse_args(argv)
    from uas_plugin.data.manifests import save_cuts

    count = save_cuts(benchmark_cuts(get_benchmark(args.benchmark), args.data), args.output)
    print(f"{args.output}: {count} cuts")


def benchmark_cuts(benchmark: Benchmark, folder: Path) -> Iterator[Any]:
    """A cut an item, named after it, with its text and language.

    Raises:
        UASError: the benchmark has no recorded speech, or a recording is missing.
    """
    if benchmark.metric == "accuracy":
        raise UASError(f"{benchmark.title} has no transcripts: its recordings are no such cut set")
    (first, *_) = benchmark.files(folder)
    for item in benchmark.items(folder):
        yield _cut(item, *_spoken(item, first.parent), benchmark.language)


def _spoken(item: Item, folder: Path) -> tuple[Path, str]:
    """Recording and text; of a text to be spoken, those of its prompt."""
    if item.audio is not None:
        return item.audio, str(item.entry["text"])
    return folder / str(item.entry["prompt_audio"]), str(item.entry["prompt_text"])


def _cut(item: Item, audio: Path, text: str, language: str | None) -> Any:
    if not audio.exists():
        raise UASError(f"item {item.id!r}: there is no recording {audio}")
    return cut_of_file(audio, item.id, text=text, language=language)
