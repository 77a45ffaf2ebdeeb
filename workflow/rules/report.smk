# Stage 10: one self-contained HTML file.


localrules:
    stage10,
    report,


rule stage10:
    input:
        f"{E}/report/report.html",


rule report:
    input:
        config=f"{C}/report.yaml",
        scores=f"{E}/score/scores.json",
        schema=f"{E}/score/schema.json",
        questions=f"{E}/score/questions/info.json",
        audio=[f"{E}/codec/decode/{task}/wav.scp" for task in RUN.spoken],
    output:
        report(
            f"{E}/report/report.html", category="Report", labels={"corpus": RUN.corpus}
        ),
    log:
        f"{E}/logs/report.log",
    benchmark:
        f"{E}/benchmarks/report.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    shell:
        "uas_bin report --config {input.config}"
        " --data_dir $DATA --dump_dir $DUMP --exp_dir $EXP --output {output} > {log} 2>&1"
