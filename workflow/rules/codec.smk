# Stage 5: the token decoder (flow matching on mel), and its part of stage 8.


localrules:
    stage5,
    codec_export,


# A vocoder is told by its options, and by its weights where it has any.
VOCODER_WEIGHTS = (
    [f"{E}/codec/export/vocoder.safetensors"] if RUN.trained_vocoder else []
)
VOCODER = [f"{C}/vocoder.yaml", *VOCODER_WEIGHTS]


rule stage5:
    input:
        f"{E}/codec/export/model.safetensors",


rule codec_train:
    input:
        config=f"{C}/codec.yaml",
        train=f"{P}/tokenizer/train/cuts.jsonl.gz",
        dev=f"{P}/tokenizer/dev/cuts.jsonl.gz",
        marks=dumps("tokenizer", ("train", "dev")),
    output:
        touch(f"{E}/codec/done"),
    log:
        f"{E}/logs/codec_train.log",
    benchmark:
        f"{E}/benchmarks/codec_train.tsv"
    threads: 1
    resources:
        **gpus(RUN.gpus),
        mem_mb=3000,
        runtime=60,
        nodes=1,
    params:
        shape=shape,
    shell:
        "(uas_bin fresh --dir $EXP/codec {input} &&"
        " training {params.shape} codec_train --config {input.config}"
        " --train_cuts {input.train} --valid_cuts {input.dev}"
        " --output_dir $EXP/codec --resume true) > {log} 2>&1"


# The vocoder's options are an input: another vocoder may be chosen between two runs.
rule codec_export:
    input:
        config=f"{C}/vocoder.yaml",
        done=f"{E}/codec/done",
        vocoder=[f"{E}/vocoder/done"] if RUN.trained_vocoder else [],
    output:
        VOCODER_WEIGHTS,
        f"{E}/codec/export/model.safetensors",
    log:
        f"{E}/logs/codec_export.log",
    benchmark:
        f"{E}/benchmarks/codec_export.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        vocoder=(
            "--vocoder $EXP/vocoder"
            if RUN.trained_vocoder
            else f"--config {C}/vocoder.yaml"
        ),
    shell:
        "uas_bin codec_export --model $EXP/codec {params.vocoder} --output_dir $EXP/codec/export"
        " > {log} 2>&1"


rule codec_decode:
    input:
        config=f"{C}/codec_decode.yaml",
        codec=f"{E}/codec/export/model.safetensors",
        vocoder=VOCODER,
        tokens=f"{P}/tokenizer/test/token",
        cuts=cuts("test"),
    output:
        f"{E}/codec/decode/test/metrics.jsonl",
        f"{E}/codec/decode/test/wav.scp",
    log:
        f"{E}/logs/codec_decode.log",
    benchmark:
        f"{E}/benchmarks/codec_decode.tsv"
    threads: 1
    resources:
        **gpus(1),
        mem_mb=3000,
        runtime=30,
    shell:
        "(uas_bin fresh --dir $EXP/codec/decode/test {input} &&"
        " uas_bin codec_decode --device $DEVICE --config {input.config} --codec $EXP/codec/export"
        " --tokens {input.tokens} --reference_cuts {input.cuts}"
        " --output_dir $EXP/codec/decode/test) > {log} 2>&1"


# What the AudioLLM speaks.
rule codec_decode_spoken:
    input:
        config=f"{C}/codec_decode.yaml",
        codec=f"{E}/codec/export/model.safetensors",
        vocoder=VOCODER,
        tokens=f"{E}/audiollm/decode/test/{{spoken}}.none.jsonl",
    output:
        f"{E}/codec/decode/{{spoken}}/wav.scp",
    log:
        f"{E}/logs/codec_decode_spoken_{{spoken}}.log",
    benchmark:
        f"{E}/benchmarks/codec_decode_spoken_{{spoken}}.tsv"
    threads: 1
    resources:
        **gpus(1),
        mem_mb=3000,
        runtime=30,
    shell:
        "(out=$EXP/codec/decode/{wildcards.spoken}; uas_bin fresh --dir $out {input} &&"
        " uas_bin codec_decode --device $DEVICE --config {input.config} --codec $EXP/codec/export"
        " --tokens {input.tokens} --output_dir $out) > {log} 2>&1"
