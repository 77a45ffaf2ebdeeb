# Stages 6 and 7: data and training of the AudioLLM, and stage 8: decoding.


localrules:
    stage6,
    stage7,
    stage8,
    audiollm_export,


include: "lm_study.smk"


rule stage6:
    input:
        f"{P}/lm/info.json",
        [f"{P}/lm_study/{arm}/info.json" for arm in RUN.lm_study],


rule stage7:
    input:
        f"{E}/audiollm/export/model.safetensors",
        [f"{run}/done" for run in STUDY],


rule stage8:
    input:
        f"{E}/audiollm/decode/test/done",
        f"{E}/codec/decode/test/metrics.jsonl",
        [f"{E}/codec/decode/{task}/wav.scp" for task in RUN.spoken],
        READ,


rule lm_data:
    input:
        config=f"{C}/lm_data.yaml",
        tokens=dumps("tokenizer"),
        text=f"{E}/text/bpe.model",
    output:
        f"{P}/lm/info.json",
        f"{P}/lm/vocab.json",
    log:
        f"{E}/logs/lm_data.log",
    benchmark:
        f"{E}/benchmarks/lm_data.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    shell:
        "(uas_bin fresh --dir $DUMP/lm {input} && uas_bin lm_data --config {input.config}"
        " --tokens_dir $DUMP/tokenizer --text_model {input.text} --output_dir $DUMP/lm) > {log} 2>&1"


rule audiollm_train:
    input:
        config=f"{C}/audiollm.yaml",
        info=f"{P}/lm/info.json",
        vocab=f"{P}/lm/vocab.json",
    output:
        touch(f"{E}/audiollm/done"),
    log:
        f"{E}/logs/audiollm_train.log",
    benchmark:
        f"{E}/benchmarks/audiollm_train.tsv"
    threads: 1
    resources:
        **gpus(RUN.gpus),
        mem_mb=3000,
        runtime=120,
        nodes=1,
    params:
        shape=shape,
    shell:
        "(uas_bin fresh --dir $EXP/audiollm {input} &&"
        " training {params.shape} audiollm_train --config {input.config}"
        " --train_data $DUMP/lm/train --valid_data $DUMP/lm/dev --vocab {input.vocab}"
        " --train_cuts $DUMP/tokenizer/train/cuts.jsonl.gz"
        " --valid_cuts $DUMP/tokenizer/dev/cuts.jsonl.gz --text_model $EXP/text"
        " --output_dir $EXP/audiollm --resume true) > {log} 2>&1"


rule audiollm_export:
    input:
        done=f"{E}/audiollm/done",
        vocab=f"{P}/lm/vocab.json",
        text=f"{E}/text/bpe.model",
    output:
        f"{E}/audiollm/export/model.safetensors",
    log:
        f"{E}/logs/audiollm_export.log",
    benchmark:
        f"{E}/benchmarks/audiollm_export.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    shell:
        "uas_bin audiollm_export --model $EXP/audiollm --vocab {input.vocab}"
        " --text_model {input.text} --output_dir $EXP/audiollm/export > {log} 2>&1"


rule audiollm_decode:
    input:
        config=f"{C}/decode.yaml",
        model=f"{E}/audiollm/export/model.safetensors",
        tokens=dumps("tokenizer", ["test"]),
    output:
        touch(f"{E}/audiollm/decode/test/done"),
        [f"{E}/audiollm/decode/test/{task}.none.jsonl" for task in RUN.spoken],
    log:
        f"{E}/logs/audiollm_decode.log",
    benchmark:
        f"{E}/benchmarks/audiollm_decode.tsv"
    threads: 1
    resources:
        **gpus(1),
        mem_mb=3000,
        runtime=60,
    shell:
        "(uas_bin fresh --dir $EXP/audiollm/decode/test {input} &&"
        " uas_bin audiollm_decode --device $DEVICE --config {input.config}"
        " --model $EXP/audiollm/export --tokens_dir $DUMP/tokenizer --set test"
        " --output_dir $EXP/audiollm/decode/test) > {log} 2>&1"
