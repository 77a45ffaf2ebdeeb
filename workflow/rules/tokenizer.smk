# Stage 3: the tokenizer in the two stages of the paper, and its untrained baseline.
# Only marks and final files are outputs: Snakemake deletes outputs of a failed job, and a killed
# training must find its checkpoints again.


localrules:
    stage3,


rule stage3:
    input:
        expand("{e}/{tok}/export/model.safetensors", e=E, tok=TOKENIZERS),
        [f"{E}/ablations/{name}/tokenizer/done" for name in RUN.ablations],


rule tokenizer_align:
    input:
        config=f"{C}/tokenizer_align.yaml",
        train=cuts("train"),
        dev=cuts("dev"),
        text=f"{E}/text/bpe.model",
    output:
        touch(f"{E}/tokenizer_align/done"),
    log:
        f"{E}/logs/tokenizer_align.log",
    benchmark:
        f"{E}/benchmarks/tokenizer_align.tsv"
    threads: 2
    resources:
        mem_mb=4000,
        runtime=60,
    shell:
        "(export OMP_NUM_THREADS={threads}; uas_bin fresh --dir $EXP/tokenizer_align {input} &&"
        " uas_bin tokenizer_train --config {input.config}"
        " --train_cuts {input.train} --valid_cuts {input.dev} --text_model {input.text}"
        " --output_dir $EXP/tokenizer_align --resume true) > {log} 2>&1"


rule codebook:
    input:
        config=f"{C}/codebook.yaml",
        done=f"{E}/tokenizer_align/done",
        cuts=cuts("train"),
    output:
        trained=f"{E}/tokenizer_codebook/init.pth",
        untrained=f"{E}/tokenizer_codebook/untrained.pth",
    log:
        f"{E}/logs/codebook.log",
    benchmark:
        f"{E}/benchmarks/codebook.tsv"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=20,
    shell:
        '(make="tokenizer_codebook --config {input.config} --model $EXP/tokenizer_align'
        ' --cuts {input.cuts} --output";'
        " uas_bin chain $make {output.trained} -- $make {output.untrained} --untrained true)"
        " > {log} 2>&1"


rule tokenizer_train:
    input:
        config=f"{C}/tokenizer.yaml",
        train=cuts("train"),
        dev=cuts("dev"),
        text=f"{E}/text/bpe.model",
        init=f"{E}/tokenizer_codebook/init.pth",
    output:
        touch(f"{E}/tokenizer/done"),
    log:
        f"{E}/logs/tokenizer_train.log",
    benchmark:
        f"{E}/benchmarks/tokenizer_train.tsv"
    threads: 2
    resources:
        mem_mb=4000,
        runtime=120,
    shell:
        "(export OMP_NUM_THREADS={threads}; uas_bin fresh --dir $EXP/tokenizer {input} &&"
        " uas_bin tokenizer_train --config {input.config}"
        " --train_cuts {input.train} --valid_cuts {input.dev} --text_model {input.text}"
        " --init_param {input.init} --output_dir $EXP/tokenizer --resume true) > {log} 2>&1"


rule tokenizer_export:
    input:
        done=f"{E}/tokenizer/done",
        untrained=f"{E}/tokenizer_codebook/untrained.pth",
    output:
        f"{E}/tokenizer/export/model.safetensors",
        f"{E}/tokenizer_untrained/export/model.safetensors",
    log:
        f"{E}/logs/tokenizer_export.log",
    benchmark:
        f"{E}/benchmarks/tokenizer_export.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    shell:
        '(make="tokenizer_export --model $EXP/tokenizer --output_dir";'
        " uas_bin chain $make $EXP/tokenizer/export"
        " -- $make $EXP/tokenizer_untrained/export --weights {input.untrained}) > {log} 2>&1"
