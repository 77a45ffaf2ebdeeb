"""Stage 7: train the AudioLLM, as an ESPnet task (``--help`` lists ESPnet's options).

example:
  python -m uas_plugin.bin.audiollm_train --config exp/mini/conf/audiollm.yaml
    --train_data dump/mini/lm/train --valid_data dump/mini/lm/dev --vocab dump/mini/lm/vocab.json
    --output_dir exp/mini/audiollm
"""

from __future__ import annotations

from collections.abc import Sequence

from uas_plugin.espnet.main import train


def main(argv: Sequence[str] | None = None) -> None:
    """Train; ESPnet is imported here."""
    train("uas_plugin.espnet.audiollm_task:AudioLLMTask", argv)


if __name__ == "__main__":
    main()
