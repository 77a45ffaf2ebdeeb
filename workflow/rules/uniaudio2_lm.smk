# Stages 5 to 7 of the pipeline uniaudio2: ids and sequences, and the unified LM's four stages. The
# fourth is trained from the third once a seed, with auditory sentences ("stage4") and, for as many
# steps, without them ("longer").
BRANCHES = expand("{branch}.{seed}", branch=("stage4", "longer"), seed=RUN.seeds)


localrules:
    stage5,
    stage6,
    stage7,


rule stage5:
    input:
        expand("{p}/clips/{set}/info.json", p=P, set=SETS),
        f"{P}/lm/info.json",


rule stage6:
    input:
        f"{E}/lm/stage3/done",


rule stage7:
    input:
        expand("{e}/lm/{branch}/export/model.safetensors", e=E, branch=BRANCHES),


rule clips:
    input:
        config=f"{C}/clips.yaml",
        cuts=[cuts(name) for name in SETS],
        codec=f"{E}/codec/export/model.safetensors",
    output:
        expand("{p}/clips/{set}/info.json", p=P, set=SETS),
    log:
        f"{E}/logs/clips.log",
    benchmark:
        f"{E}/benchmarks/clips.tsv"
    threads: 1
    resources:
        **gpus(1),
        mem_mb=2000,
        runtime=30,
    shell:
        "uas_bin uniaudio2_clips --device $DEVICE --config {input.config} --cuts {input.cuts}"
        " --codec $EXP/codec/export --output_dir $DUMP/clips > {log} 2>&1"


rule sequences:
    input:
        config=f"{C}/lm_data.yaml",
        clips=expand("{p}/clips/{set}/info.json", p=P, set=("train", "dev")),
        text=f"{E}/text/bpe.model",
        codec=f"{E}/codec/export/config.json",
    output:
        f"{P}/lm/info.json",
        f"{P}/lm/special.json",
    log:
        f"{E}/logs/sequences.log",
    benchmark:
        f"{E}/benchmarks/sequences.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    shell:
        "uas_bin uniaudio2_sequences --config {input.config} --clips $DUMP/clips"
        " --text_model {input.text} --codec {input.codec} --output_dir $DUMP/lm > {log} 2>&1"


rule lm_stage:
    input:
        config=f"{C}/lm_stage{{number}}.yaml",
        data=f"{P}/lm/info.json",
        special=f"{P}/lm/special.json",
        before=lambda wildcards: (
            []
            if wildcards.number == "1"
            else f"{E}/lm/stage{int(wildcards.number) - 1}/done"
        ),
    output:
        touch(f"{E}/lm/stage{{number}}/done"),
    log:
        f"{E}/logs/lm_stage{{number}}.log",
    benchmark:
        f"{E}/benchmarks/lm_stage{{number}}.tsv"
    wildcard_constraints:
        number="[123]",
    threads: 2
    resources:
        **gpus(RUN.gpus),
        mem_mb=3000,
        runtime=120,
        nodes=1,
    params:
        shape=shape,
        init=lambda wildcards: (
            ""
            if wildcards.number == "1"
            else f"--init_param {E}/lm/stage{int(wildcards.number) - 1}/valid.loss.ave.pth"
        ),
    shell:
        "(export OMP_NUM_THREADS={threads}; dir=$EXP/lm/stage{wildcards.number};"
        " uas_bin fresh --dir $dir {input} &&"
        " training {params.shape} uniaudio2_train --config {input.config}"
        " --stage {wildcards.number} --special {input.special} {params.init}"
        " --train_data $DUMP/lm/base/train --valid_data $DUMP/lm/base/dev"
        " --output_dir $dir --resume true) > {log} 2>&1"


rule lm_branch:
    input:
        config=f"{C}/lm_stage4.yaml",
        data=f"{P}/lm/info.json",
        special=f"{P}/lm/special.json",
        before=f"{E}/lm/stage3/done",
        text=f"{E}/text/bpe.model",
    output:
        f"{E}/lm/{{branch}}.{{seed}}/export/model.safetensors",
    log:
        f"{E}/logs/lm_branch.{{branch}}.{{seed}}.log",
    benchmark:
        f"{E}/benchmarks/lm_branch.{{branch}}.{{seed}}.tsv"
    threads: 1
    resources:
        **gpus(RUN.gpus),
        mem_mb=3000,
        runtime=120,
        nodes=1,
    params:
        shape=shape,
        # What a branch learns from, and the stage whose losses it has.
        how=lambda wildcards: "auditory 4" if wildcards.branch == "stage4" else "base 3",
    shell:
        "(dir=$EXP/lm/{wildcards.branch}.{wildcards.seed}; read -r set stage <<< '{params.how}';"
        " uas_bin fresh --dir $dir {input} && training {params.shape} uniaudio2_train"
        " --config {input.config} --stage $stage --seed {wildcards.seed}"
        " --special {input.special} --init_param $EXP/lm/stage3/valid.loss.ave.pth"
        " --train_data $DUMP/lm/$set/train --valid_data $DUMP/lm/base/dev"
        " --output_dir $dir --resume true && uas_bin uniaudio2_export --model $dir"
        " --text_tokenizer $EXP/text --output_dir $dir/export) > {log} 2>&1"
