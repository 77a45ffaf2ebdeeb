"""Stage 5: train the token decoder, as an ESPnet task (``--help`` lists ESPnet's options).

example:
  python -m uas_plugin.bin.codec_train --config exp/mini/conf/codec.yaml
    --train_cuts dump/mini/tokenizer/train/cuts.jsonl.gz
    --valid_cuts dump/mini/tokenizer/dev/cuts.jsonl.gz --output_dir exp/mini/codec
"""

from __future__ import annotations

from collections.abc import Sequence

from uas_plugin.espnet.main import train


def main(argv: Sequence[str] | None = None) -> None:
    """Train; ESPnet is imported here."""
    train("uas_plugin.espnet.codec_task:CodecTask", argv)


if __name__ == "__main__":
    main()
