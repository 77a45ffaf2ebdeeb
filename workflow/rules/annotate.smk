# Part of stage 1, where annotate.sets names sets: labels from captions through a server. Shards and
# answers are no outputs, since Snakemake would delete them with a failed job: they are what the next
# run goes on from.


rule annotate:
    input:
        config=f"{C}/annotate.yaml",
        cuts=f"{D}/{{set}}/cuts.jsonl.gz",
    output:
        f"{D}/annotated/{{set}}/cuts.jsonl.gz",
    log:
        f"{E}/logs/annotate.{{set}}.log",
    benchmark:
        f"{E}/benchmarks/annotate.{{set}}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=1440,
    shell:
        "uas_bin annotate --config {input.config} --cuts {input.cuts}"
        " --output_dir $DATA/annotated/{wildcards.set} > {log} 2>&1"
