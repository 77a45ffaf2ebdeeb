# Stage 4: token ids of every set, cut into shards; a shard is complete or absent.


localrules:
    stage4,


# Joining a few shards is over before a job has started; joining thousands is a job.
if RUN.shards <= 16:

    localrules:
        dump_merge,


rule stage4:
    input:
        [mark for tok in TOKENIZERS for mark in dumps(tok)],


rule dump_shard:
    input:
        config=f"{C}/dump.yaml",
        tokenizer=[f"{E}/{{tok}}/export/{file}" for file in EXPORT],
        cuts=lambda wildcards: cuts(wildcards.set),
    output:
        f"{P}/{{tok}}/{{set}}/shard.{{shard}}/info.json",
    log:
        f"{E}/logs/dump/{{tok}}.{{set}}.{{shard}}.log",
    benchmark:
        f"{E}/benchmarks/dump/{{tok}}.{{set}}.{{shard}}.tsv"
    threads: 1
    resources:
        **gpus(1),
        mem_mb=8000 if RUN.pretrained else 2000,
        runtime=30,
    shell:
        "uas_bin tokenizer_dump --device $DEVICE"
        " --config {input.config} --tokenizer $EXP/{wildcards.tok}/export --cuts {input.cuts}"
        " --output_dir $DUMP/{wildcards.tok}/{wildcards.set} --shard {wildcards.shard}"
        " --num_shards $SHARDS > {log} 2>&1"


rule dump_merge:
    input:
        [f"{P}/{{tok}}/{{set}}/shard.{n:04d}/info.json" for n in range(RUN.shards)],
    output:
        f"{P}/{{tok}}/{{set}}/info.json",
        f"{P}/{{tok}}/{{set}}/cuts.jsonl.gz",
        f"{P}/{{tok}}/{{set}}/token",
    log:
        f"{E}/logs/dump/{{tok}}.{{set}}.log",
    benchmark:
        f"{E}/benchmarks/dump/{{tok}}.{{set}}.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "uas_bin tokenizer_dump --merge true --num_shards $SHARDS"
        " --output_dir $DUMP/{wildcards.tok}/{wildcards.set} > {log} 2>&1"
