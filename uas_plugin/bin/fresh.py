"""Empty a folder unless it was begun from exactly these inputs.

Stages that resume (trainings, decoding, data) keep what they find in their folder. That is right
after a kill and wrong after a changed option or input: this command, run before them, tells the
two apart by a record of the inputs that it leaves in the folder.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from uas_plugin.atomic import write_json
from uas_plugin.bin import Parser, make_parser, run_main
from uas_plugin.errors import UASError

RECORD = ".made_from.json"
HASHED_BYTES = 1 << 26  # larger inputs are told apart by size and time: reading them takes too long


def get_parser() -> Parser:
    """Options of the command."""
    parser = make_parser(
        "Empty a folder unless it was begun from exactly these inputs.",
        "python -m uas_plugin.bin.fresh --dir exp/mini/codec exp/mini/conf/codec.yaml",
    )
    parser.add_argument("--dir", type=Path, required=True, help="folder of a resumable stage")
    parser.add_argument("inputs", nargs="+", type=Path, help="files that the stage reads")
    return parser


def fingerprint(inputs: Iterable[Path]) -> dict[str, str]:
    """``{path: sha256 of the content}``; size and time for files above 64 MiB."""
    result = {}
    for path in inputs:
        try:
            status = path.stat()
            if status.st_size > HASHED_BYTES:
                result[str(path)] = f"{status.st_size} bytes at {status.st_mtime_ns}"
            else:
                result[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise UASError(f"cannot read input {path}: {error.strerror}") from None
    return result


def freshen(folder: Path, inputs: Sequence[Path]) -> bool:
    """Empty ``folder`` unless its record equals the inputs; returns whether it is to be resumed.

    ``UAS_FRESH=true`` in the environment empties it in any case.

    Raises:
        UASError: an unreadable input, or a folder with files in it that no stage began.
    """
    wanted = fingerprint(inputs)
    record = folder / RECORD
    if record.exists():
        known = json.loads(record.read_text(encoding="utf-8"))
        if known == wanted and os.environ.get("UAS_FRESH") != "true":
            return True
        changed = [k for k in {**known, **wanted} if known.get(k) != wanted.get(k)]
        reason = f"{', '.join(changed)} changed" if changed else "asked for"
        logging.info("%s is begun anew: %s", folder, reason)
    elif any(path.is_file() for path in folder.rglob("*")):
        raise UASError(f"{folder} holds files of another origin: move them away first")
    # The record goes last: killed in between, the folder still counts as begun from the old inputs.
    for path in sorted(folder.glob("*"), key=lambda p: p == record):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    record.unlink(missing_ok=True)
    write_json(record, wanted)
    return False


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point."""
    args = get_parser().parse_args(argv)
    freshen(args.dir, args.inputs)


if __name__ == "__main__":
    run_main(main)
