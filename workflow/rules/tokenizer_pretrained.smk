# Stage 3 of a run whose tokenizer is not trained here: it is loaded and saved, nothing more.


localrules:
    stage3,


rule stage3:
    input:
        expand("{e}/tokenizer/export/{file}", e=E, file=EXPORT),


rule tokenizer_pretrained:
    input:
        f"{C}/tokenizer_pretrained.yaml",
    output:
        expand("{e}/tokenizer/export/{file}", e=E, file=EXPORT),
    log:
        f"{E}/logs/tokenizer_pretrained.log",
    benchmark:
        f"{E}/benchmarks/tokenizer_pretrained.tsv"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=60,
    shell:
        "(uas_bin fresh --dir $EXP/tokenizer {input} &&"
        " uas_bin tokenizer_export --pretrained {input}"
        " --output_dir $EXP/tokenizer/export) > {log} 2>&1"
