# Stage 2: BPE over the training targets, pieces of the JSON skeleton as single symbols.


localrules:
    stage2,


rule stage2:
    input:
        f"{E}/text/bpe.model",


rule text:
    input:
        config=f"{C}/text.yaml",
        cuts=cuts("train"),
    output:
        f"{E}/text/bpe.model",
    log:
        f"{E}/logs/text.log",
    benchmark:
        f"{E}/benchmarks/text.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "uas_bin text_train --config {input.config} --cuts {input.cuts}"
        " --output_dir $EXP/text > {log} 2>&1"
