# Stages 8 to 10 of the pipeline uniaudio2.
MODEL = f"{E}/lm/stage4.{RUN.seeds[0]}/export/model.safetensors"


localrules:
    stage8,
    stage9,
    stage10,


rule stage8:
    input:
        f"{E}/decode/tasks/done",
        expand("{e}/decode/{branch}/few_shot.jsonl", e=E, branch=BRANCHES),


rule stage9:
    input:
        f"{E}/score/scores.json",


rule stage10:
    input:
        f"{E}/report/report.html",


rule decode_tasks:
    input:
        config=f"{C}/decode.yaml",
        data=f"{C}/lm_data.yaml",
        model=MODEL,
        codec=f"{E}/codec/export/model.safetensors",
        clips=expand("{p}/clips/{set}/info.json", p=P, set=("train", "test")),
    output:
        touch(f"{E}/decode/tasks/done"),
    log:
        f"{E}/logs/decode_tasks.log",
    benchmark:
        f"{E}/benchmarks/decode_tasks.tsv"
    threads: 1
    resources:
        **gpus(1),
        mem_mb=3000,
        runtime=60,
    shell:
        "(uas_bin fresh --dir $EXP/decode/tasks {input} &&"
        " uas_bin uniaudio2_decode --device $DEVICE --config {input.config} --data_config {input.data}"
        " --model $(dirname {input.model}) --codec $EXP/codec/export --clips $DUMP/clips"
        " --output_dir $EXP/decode/tasks) > {log} 2>&1"


rule decode_few_shot:
    input:
        config=f"{C}/decode.yaml",
        data=f"{C}/lm_data.yaml",
        model=f"{E}/lm/{{branch}}.{{seed}}/export/model.safetensors",
        clips=expand("{p}/clips/{set}/info.json", p=P, set=("train", "test")),
    output:
        f"{E}/decode/{{branch}}.{{seed}}/few_shot.jsonl",
    log:
        f"{E}/logs/decode_few_shot.{{branch}}.{{seed}}.log",
    benchmark:
        f"{E}/benchmarks/decode_few_shot.{{branch}}.{{seed}}.tsv"
    threads: 1
    resources:
        **gpus(1),
        mem_mb=2000,
        runtime=30,
    shell:
        "uas_bin uniaudio2_decode --device $DEVICE --config {input.config} --data_config {input.data}"
        " --model $(dirname {input.model}) --codec $EXP/codec/export --clips $DUMP/clips"
        " --few_shot --output_dir $EXP/decode/{wildcards.branch}.{wildcards.seed} > {log} 2>&1"


rule uniaudio2_score:
    input:
        config=f"{C}/score.yaml",
        data=f"{D}/info.json",
        clips=expand("{p}/clips/{set}/info.json", p=P, set=SETS),
        lm=f"{P}/lm/info.json",
        tasks=f"{E}/decode/tasks/done",
        few_shot=expand("{e}/decode/{branch}/few_shot.jsonl", e=E, branch=BRANCHES),
    output:
        f"{E}/score/scores.json",
    log:
        f"{E}/logs/uniaudio2_score.log",
    benchmark:
        f"{E}/benchmarks/uniaudio2_score.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    shell:
        "uas_bin chain uniaudio2_score --config {input.config} --data_dir $DATA --dump_dir $DUMP"
        " --exp_dir $EXP --output {output} -- uniaudio2_results --recipe_dir $RECIPE"
        " --exp_root $EXP_ROOT --output $RESULTS > {log} 2>&1"


rule uniaudio2_report:
    input:
        config=f"{C}/report.yaml",
        scores=f"{E}/score/scores.json",
    output:
        report(
            f"{E}/report/report.html", category="Report", labels={"corpus": RUN.corpus}
        ),
    log:
        f"{E}/logs/uniaudio2_report.log",
    benchmark:
        f"{E}/benchmarks/uniaudio2_report.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    shell:
        "uas_bin uniaudio2_report --config {input.config} --data_dir $DATA --dump_dir $DUMP"
        " --exp_dir $EXP --output {output} > {log} 2>&1"
