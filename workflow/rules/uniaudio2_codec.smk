# Stages 3 and 4 of the pipeline uniaudio2: a small frozen encoder, and the ReasoningCodec on it.
READING = (
    "refined" if RUN.refined else "thinking"
)  # whose reasoning branch stage 4 ends with


localrules:
    stage3,
    stage4,


rule stage3:
    input:
        f"{E}/codec/start/model.safetensors",


rule stage4:
    input:
        f"{E}/codec/export/model.safetensors",


rule encoder_train:
    input:
        config=f"{C}/encoder.yaml",
        train=cuts("train"),
        dev=cuts("dev"),
        text=f"{E}/text/bpe.model",
    output:
        touch(f"{E}/encoder/done"),
    log:
        f"{E}/logs/encoder_train.log",
    benchmark:
        f"{E}/benchmarks/encoder_train.tsv"
    threads: 2
    resources:
        **gpus(RUN.gpus),
        mem_mb=4000,
        runtime=60,
        nodes=1,
    params:
        shape=shape,
    shell:
        "(export OMP_NUM_THREADS={threads}; uas_bin fresh --dir $EXP/encoder {input} &&"
        " training {params.shape} tokenizer_train --config {input.config}"
        " --train_cuts {input.train} --valid_cuts {input.dev} --text_model {input.text}"
        " --output_dir $EXP/encoder --resume true) > {log} 2>&1"


rule codec_start:
    input:
        config=f"{C}/codec_start.yaml",
        # With codec.start.folder or codec.start.encoder the recipe trains no encoder of its own.
        encoder=[] if RUN.pretrained else f"{E}/encoder/done",
    output:
        f"{E}/codec/start/model.safetensors",
    log:
        f"{E}/logs/codec_start.log",
    benchmark:
        f"{E}/benchmarks/codec_start.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    shell:
        "uas_bin reasoning_codec_start --config {input.config} --encoder $EXP/encoder"
        " --output_dir $EXP/codec/start > {log} 2>&1"


rule reasoning_train:
    input:
        config=f"{C}/reasoning.yaml",
        start=f"{E}/codec/start/model.safetensors",
        train=cuts("train"),
        dev=cuts("dev"),
        text=f"{E}/text/bpe.model",
    output:
        f"{E}/codec/thinking/model.safetensors",
    log:
        f"{E}/logs/reasoning_train.log",
    benchmark:
        f"{E}/benchmarks/reasoning_train.tsv"
    threads: 2
    resources:
        **gpus(RUN.gpus),
        mem_mb=3000,
        runtime=60,
        nodes=1,
    params:
        shape=shape,
    shell:
        "(export OMP_NUM_THREADS={threads};"
        " uas_bin fresh --dir $EXP/codec/reasoning {input} &&"
        " training {params.shape} reasoning_codec_train --phase thinking --config {input.config}"
        " --train_cuts {input.train} --valid_cuts {input.dev} --codec $EXP/codec/start"
        " --text_tokenizer $EXP/text --output_dir $EXP/codec/reasoning --resume true &&"
        " uas_bin reasoning_codec_export --model $EXP/codec/reasoning"
        " --codec $EXP/codec/start --output_dir $EXP/codec/thinking) > {log} 2>&1"


rule refinement_train:
    input:
        config=f"{C}/refinement.yaml",
        start=f"{E}/codec/thinking/model.safetensors",
        train=cuts("train"),
        dev=cuts("dev"),
        text=f"{E}/text/bpe.model",
    output:
        f"{E}/codec/refined/model.safetensors",
    log:
        f"{E}/logs/refinement_train.log",
    benchmark:
        f"{E}/benchmarks/refinement_train.tsv"
    threads: 2
    resources:
        **gpus(RUN.gpus),
        mem_mb=3000,
        runtime=60,
        nodes=1,
    params:
        shape=shape,
    shell:
        "(export OMP_NUM_THREADS={threads};"
        " uas_bin fresh --dir $EXP/codec/refinement {input} &&"
        " training {params.shape} reasoning_codec_train --phase refinement --config {input.config}"
        " --train_cuts {input.train} --valid_cuts {input.dev} --codec $EXP/codec/thinking"
        " --thinking $EXP/codec/reasoning --output_dir $EXP/codec/refinement --resume true &&"
        " uas_bin reasoning_codec_export --model $EXP/codec/refinement"
        " --codec $EXP/codec/thinking --output_dir $EXP/codec/refined) > {log} 2>&1"


rule reconstruction_train:
    input:
        config=f"{C}/reconstruction.yaml",
        refinement=f"{C}/refinement.yaml",
        start=f"{E}/codec/{READING}/model.safetensors",
        train=cuts("train"),
        dev=cuts("dev"),
    output:
        f"{E}/codec/export/model.safetensors",
        f"{E}/codec/export/config.json",
    log:
        f"{E}/logs/reconstruction_train.log",
    benchmark:
        f"{E}/benchmarks/reconstruction_train.tsv"
    threads: 2
    resources:
        **gpus(RUN.gpus),
        mem_mb=3000,
        runtime=60,
        nodes=1,
    params:
        shape=shape,
    shell:
        "(export OMP_NUM_THREADS={threads};"
        " uas_bin fresh --dir $EXP/codec/reconstruction {input} &&"
        " training {params.shape} reasoning_codec_train --config {input.config}"
        " --train_cuts {input.train} --valid_cuts {input.dev} --codec $(dirname {input.start})"
        " --output_dir $EXP/codec/reconstruction --resume true &&"
        " uas_bin reasoning_codec_export --model $EXP/codec/reconstruction"
        " --codec $(dirname {input.start}) --output_dir $EXP/codec/export) > {log} 2>&1"
