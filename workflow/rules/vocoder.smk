# Stage 5 where the vocoder is one that is trained (`vocoder=hift_small`): it hears the recordings.


rule vocoder_train:
    input:
        config=f"{C}/vocoder.yaml",
        train=cuts("train"),
        dev=cuts("dev"),
    output:
        touch(f"{E}/vocoder/done"),
    log:
        f"{E}/logs/vocoder_train.log",
    benchmark:
        f"{E}/benchmarks/vocoder_train.tsv"
    threads: 1
    resources:
        **gpus(RUN.gpus),
        mem_mb=3000,
        runtime=60,
        nodes=1,
    params:
        shape=shape,
    shell:
        "(uas_bin fresh --dir $EXP/vocoder {input} &&"
        " training {params.shape} vocoder_train --config {input.config}"
        " --train_cuts {input.train} --valid_cuts {input.dev}"
        " --output_dir $EXP/vocoder --resume true) > {log} 2>&1"
