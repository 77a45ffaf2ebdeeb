"""Train a stage of the unified LM, as an ESPnet task (``--help`` lists ESPnet's options).

The model goes on from an earlier stage with ``--init_param FILE.pth``.

example:
  python -m uas_plugin.bin.uniaudio2_train --config exp/conf/uniaudio2.yaml --stage 3
    --train_data dump/uniaudio2/train --valid_data dump/uniaudio2/dev
    --output_dir exp/uniaudio2_stage3
"""

from __future__ import annotations

from collections.abc import Sequence

from uas_plugin.espnet.main import train


def main(argv: Sequence[str] | None = None) -> None:
    """Train; ESPnet is imported here."""
    train("uas_plugin.espnet.uniaudio2_task:UniAudio2Task", argv)


if __name__ == "__main__":
    main()
