# `run.sh --lm_study true`: AudioLLMs with other supervision or input on a short, equal budget (part
# of stages 6, 7 and 9). They take the run's tokens and answer questions only.
STUDY = [
    f"{E}/lm_study/{arm}/seed{seed}" for arm in RUN.lm_study for seed in RUN.study_seeds
]
STUDY_SCORES = [f"{E}/lm_study/scores.json"] if STUDY else []


rule lm_study_data:
    input:
        config=f"{C}/lm_study/{{arm}}/lm_data.yaml",
        tokens=dumps("tokenizer"),
        text=f"{E}/text/bpe.model",
    output:
        f"{P}/lm_study/{{arm}}/info.json",
        f"{P}/lm_study/{{arm}}/vocab.json",
    log:
        f"{E}/logs/lm_study/{{arm}}.data.log",
    benchmark:
        f"{E}/benchmarks/lm_study/{{arm}}.data.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    shell:
        "(out=$DUMP/lm_study/{wildcards.arm}; uas_bin fresh --dir $out {input} &&"
        " uas_bin lm_data --config {input.config} --tokens_dir $DUMP/tokenizer"
        " --text_model {input.text} --output_dir $out) > {log} 2>&1"


rule lm_study_arm:
    input:
        train=f"{C}/lm_study/{{arm}}/audiollm.yaml",
        decode=f"{C}/lm_study/{{arm}}/decode.yaml",
        info=f"{P}/lm_study/{{arm}}/info.json",
        vocab=f"{P}/lm_study/{{arm}}/vocab.json",
        text=f"{E}/text/bpe.model",
    output:
        touch(f"{E}/lm_study/{{arm}}/seed{{seed}}/done"),
    log:
        f"{E}/logs/lm_study/{{arm}}.seed{{seed}}.log",
    benchmark:
        f"{E}/benchmarks/lm_study/{{arm}}.seed{{seed}}.tsv"
    threads: 1
    resources:
        **gpus(RUN.gpus),
        mem_mb=3000,
        runtime=60,
    shell:
        "(out=$EXP/lm_study/{wildcards.arm}/seed{wildcards.seed}; data=$DUMP/lm_study/{wildcards.arm};"
        " uas_bin fresh --dir $out {input};"
        " uas_bin audiollm_train --config {input.train} --seed {wildcards.seed}"
        " --train_data $data/train --valid_data $data/dev --vocab {input.vocab}"
        " --train_cuts $DUMP/tokenizer/train/cuts.jsonl.gz"
        " --valid_cuts $DUMP/tokenizer/dev/cuts.jsonl.gz --output_dir $out --resume true;"
        " uas_bin chain audiollm_export --model $out --vocab {input.vocab}"
        " --text_model {input.text} --output_dir $out/export"
        " -- audiollm_decode --config {input.decode} --model $out/export"
        " --tokens_dir $DUMP/tokenizer --set test --output_dir $out/decode) > {log} 2>&1"


rule lm_study_score:
    input:
        config=f"{C}/score.yaml",
        data=f"{D}/info.json",
        done=[f"{run}/done" for run in STUDY],
    output:
        f"{E}/lm_study/scores.json",
    log:
        f"{E}/logs/lm_study_score.log",
    benchmark:
        f"{E}/benchmarks/lm_study_score.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        runs=STUDY,
    shell:
        "uas_bin score --lm_study {params.runs} --config {input.config} --data_dir $DATA"
        " --dump_dir $DUMP --exp_dir $EXP --output_dir $EXP/lm_study > {log} 2>&1"
