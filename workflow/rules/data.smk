# Stage 1: a corpus as Lhotse cuts with schema annotations, and Kaldi files beside them.


localrules:
    stage1,


rule stage1:
    input:
        f"{D}/info.json",
        [cuts(name) for name in RUN.annotate],
        [stored("train")] if RUN.shar_parts else [],


rule data:
    input:
        f"{C}/data.yaml",
    output:
        f"{D}/info.json",
        expand("{d}/{set}/cuts.jsonl.gz", d=D, set=SETS),
    log:
        f"{E}/logs/data.log",
    benchmark:
        f"{E}/benchmarks/data.tsv"
    threads: 2
    resources:
        mem_mb=2000,
        runtime=30,
    shell:
        "(uas_bin fresh --dir $DATA {input} && uas_bin data_prepare --config {input}"
        " --output_dir $DATA) > {log} 2>&1"


if RUN.annotate:

    include: "annotate.smk"
