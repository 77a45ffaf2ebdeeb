# Stage 9: every figure with its baselines, and the table of all corpora.


localrules:
    stage9,


rule stage9:
    input:
        f"{E}/score/scores.json",
        [f"{E}/ablations/{name}/scores.json" for name in RUN.ablations],


rule score:
    input:
        config=f"{C}/score.yaml",
        data=f"{D}/info.json",
        dumps=[mark for tok in TOKENIZERS for mark in dumps(tok)],
        llm=f"{E}/audiollm/decode/test/done",
        codec=f"{E}/codec/decode/test/metrics.jsonl",
        tokenizer=READ,
        ablations=[f"{E}/ablations/{name}/scores.json" for name in RUN.ablations],
    output:
        f"{E}/score/scores.json",
    log:
        f"{E}/logs/score.log",
    benchmark:
        f"{E}/benchmarks/score.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    shell:
        "uas_bin chain score --config {input.config} --data_dir $DATA --dump_dir $DUMP"
        " --exp_dir $EXP --output_dir $EXP/score"
        " -- results --recipe_dir $RECIPE --exp_root $EXP_ROOT --output $RESULTS > {log} 2>&1"
