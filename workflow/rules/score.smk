# Stage 9: every figure with its baselines, and the table of all corpora; annotations of the AudioLLM
# field by field; questions about the test clips in MMAU's layout, for other models too.


localrules:
    stage9,
    score,
    score_schema,
    questions,


rule stage9:
    input:
        f"{E}/score/scores.json",
        f"{E}/score/schema.json",
        f"{E}/score/questions/info.json",
        [f"{E}/ablations/{name}/scores.json" for name in RUN.ablations],
        STUDY_SCORES,


rule score:
    input:
        config=f"{C}/score.yaml",
        data=f"{D}/info.json",
        dumps=[mark for tok in TOKENIZERS for mark in dumps(tok)],
        llm=f"{E}/audiollm/decode/test/done",
        codec=f"{E}/codec/decode/test/metrics.jsonl",
        tokenizer=READ,
        ablations=[f"{E}/ablations/{name}/scores.json" for name in RUN.ablations],
        study=STUDY_SCORES,
        benchmarks=f"{E}/evaluate/info.json",
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


rule score_schema:
    input:
        cuts=cuts("test"),
        llm=f"{E}/audiollm/decode/test/done",
    output:
        f"{E}/score/schema.json",
    log:
        f"{E}/logs/score_schema.log",
    benchmark:
        f"{E}/benchmarks/score_schema.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    shell:
        "uas evaluate schema --hyp $EXP/audiollm/decode/test/uas.none.jsonl"
        " --ref {input.cuts} --output {output} > {log} 2>&1"


rule questions:
    input:
        cuts("test"),
    output:
        f"{E}/score/questions/info.json",
    log:
        f"{E}/logs/questions.log",
    benchmark:
        f"{E}/benchmarks/questions.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    shell:
        "uas qa --cuts {input} --output $EXP/score/questions --scored_only > {log} 2>&1"
