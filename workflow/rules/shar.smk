# Stage 1 where the training set is stored as a Lhotse Shar (`storage=shar`).


localrules:
    shar_order,
    shar_join,


rule shar_order:
    input:
        config=f"{C}/storage.yaml",
        cuts=cuts("train"),
    output:
        f"{D}/shar/train/order.jsonl.gz",
    log:
        f"{E}/logs/shar_order.log",
    benchmark:
        f"{E}/benchmarks/shar_order.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=60,
    shell:
        "(uas_bin fresh --dir $DATA/shar/train {input} && uas export shar --step order"
        " --config {input.config} --cuts {input.cuts} --output_dir $DATA/shar/train)"
        " > {log} 2>&1"


rule shar_part:
    input:
        f"{D}/shar/train/order.jsonl.gz",
    output:
        touch(f"{D}/shar/train/parts/{{shard}}"),
    log:
        f"{E}/logs/shar/{{shard}}.log",
    benchmark:
        f"{E}/benchmarks/shar/{{shard}}.tsv"
    threads: 2
    resources:
        mem_mb=2000,
        runtime=240,
    params:
        parts=RUN.shar_parts,
    shell:
        "uas export shar --step write --output_dir $DATA/shar/train --part {wildcards.shard}"
        " --parts {params.parts} --num_workers {threads} > {log} 2>&1"


rule shar_join:
    input:
        [f"{D}/shar/train/parts/{n:04d}" for n in range(RUN.shar_parts)],
    output:
        f"{D}/shar/train/info.json",
    log:
        f"{E}/logs/shar_join.log",
    benchmark:
        f"{E}/benchmarks/shar_join.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
    shell:
        "uas export shar --step join --output_dir $DATA/shar/train > {log} 2>&1"
