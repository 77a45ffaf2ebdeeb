"""Train an audio tokenizer as an ESPnet task.

example:
  python -m uas_plugin.bin.tokenizer_train --config exp/mini/conf/tokenizer.yaml \\
      --train_cuts data/mini/train/cuts.jsonl.gz --valid_cuts data/mini/dev/cuts.jsonl.gz \\
      --text_model exp/mini/text/bpe.model --output_dir exp/mini/tokenizer --resume true
"""

from uas_plugin.espnet.main import train

if __name__ == "__main__":
    train("uas_plugin.espnet.tokenizer_task:TokenizerTask")
