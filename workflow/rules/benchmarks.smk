# Stage 9, benchmarks that need no foreign data: the trained AudioLLM beside what it must beat, and
# the tokens under noise. Their table stands in RESULTS.md.


rule benchmarks:
    input:
        config=f"{C}/decode.yaml",
        cuts=cuts("test"),
        model=f"{E}/audiollm/export/model.safetensors",
        tokenizer=[f"{E}/tokenizer/export/{file}" for file in EXPORT],
    output:
        f"{E}/evaluate/info.json",
    log:
        f"{E}/logs/benchmarks.log",
    benchmark:
        f"{E}/benchmarks/benchmarks.tsv"
    threads: 1
    resources:
        mem_mb=8000 if RUN.pretrained else 3000,
        runtime=60,
    shell:
        "(uas_bin fresh --dir $EXP/evaluate {input} &&"
        " uas_bin benchmarks --config {input.config} --cuts {input.cuts}"
        " --model $EXP/audiollm/export --tokenizer $EXP/tokenizer/export"
        " --output_dir $EXP/evaluate) > {log} 2>&1"
