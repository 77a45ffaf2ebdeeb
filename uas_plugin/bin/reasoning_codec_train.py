"""Train the reconstruction phase of a ReasoningCodec, as an ESPnet task.

``--codec`` is a folder with encoders, SQ-Codec and a reasoning branch (docs/uniaudio2.md).

example:
  python -m uas_plugin.bin.reasoning_codec_train --config exp/conf/reasoning_codec.yaml
    --train_cuts data/mini/train.jsonl.gz --valid_cuts data/mini/dev.jsonl.gz
    --codec exp/reasoning_start --output_dir exp/reasoning_codec
"""

from __future__ import annotations

from collections.abc import Sequence

from uas_plugin.espnet.main import train


def main(argv: Sequence[str] | None = None) -> None:
    """Train; ESPnet is imported here."""
    train("uas_plugin.espnet.reasoning_codec_task:ReasoningCodecTask", argv)


if __name__ == "__main__":
    main()
