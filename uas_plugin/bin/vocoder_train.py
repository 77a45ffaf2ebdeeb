"""Stage 5: train the HiFT vocoder, as an ESPnet task (``--help`` lists ESPnet's options).

example:
  python -m uas_plugin.bin.vocoder_train --config exp/mini/conf/vocoder.yaml
    --train_cuts data/mini/train/cuts.jsonl.gz --valid_cuts data/mini/dev/cuts.jsonl.gz
    --output_dir exp/mini/vocoder
"""

from __future__ import annotations

from collections.abc import Sequence

from uas_plugin.espnet.main import train


def main(argv: Sequence[str] | None = None) -> None:
    """Train; ESPnet is imported here."""
    train("uas_plugin.espnet.vocoder_task:VocoderTask", argv)


if __name__ == "__main__":
    main()
