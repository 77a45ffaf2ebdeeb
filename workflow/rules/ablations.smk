# `run.sh --ablations true`: variants of the tokenizer on a short, equal budget (part of stages 3
# and 9). Only the tokenizer is trained: what it reads from its own tokens is scored.


rule ablation_train:
    input:
        align=f"{C}/ablations/{{ablation}}/tokenizer_align.yaml",
        codebook=f"{C}/ablations/{{ablation}}/codebook.yaml",
        train=f"{C}/ablations/{{ablation}}/tokenizer.yaml",
        train_cuts=cuts("train"),
        dev_cuts=cuts("dev"),
        text=f"{E}/text/bpe.model",
    output:
        touch(f"{E}/ablations/{{ablation}}/tokenizer/done"),
    log:
        f"{E}/logs/ablations/{{ablation}}.train.log",
    benchmark:
        f"{E}/benchmarks/ablations/{{ablation}}.train.tsv"
    threads: 1
    resources:
        **gpus(RUN.gpus),
        mem_mb=4000,
        runtime=120,
    shell:
        "(out=$EXP/ablations/{wildcards.ablation}; uas_bin fresh --dir $out {input};"
        ' train="uas_bin tokenizer_train --train_cuts {input.train_cuts}'
        ' --valid_cuts {input.dev_cuts} --text_model {input.text} --resume true";'
        " $train --config {input.align} --output_dir $out/tokenizer_align;"
        " uas_bin tokenizer_codebook --config {input.codebook} --model $out/tokenizer_align"
        " --cuts {input.train_cuts} --output $out/codebook.pth;"
        " $train --config {input.train} --init_param $out/codebook.pth"
        " --output_dir $out/tokenizer) > {log} 2>&1"


rule ablation_score:
    input:
        done=f"{E}/ablations/{{ablation}}/tokenizer/done",
        dump=f"{C}/ablations/{{ablation}}/dump.yaml",
        score=f"{C}/ablations/{{ablation}}/score.yaml",
        cuts=cuts("test"),
    output:
        f"{E}/ablations/{{ablation}}/scores.json",
    log:
        f"{E}/logs/ablations/{{ablation}}.score.log",
    benchmark:
        f"{E}/benchmarks/ablations/{{ablation}}.score.tsv"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=30,
    shell:
        "(out=$EXP/ablations/{wildcards.ablation}; dump=$DUMP/ablations/{wildcards.ablation};"
        ' read="tokenizer_decode --model $out/tokenizer --tokens $dump/tokenizer/test";'
        " uas_bin chain tokenizer_export --model $out/tokenizer --output_dir $out/tokenizer/export"
        " -- tokenizer_dump --config {input.dump} --tokenizer $out/tokenizer/export"
        " --cuts {input.cuts} --output_dir $dump/tokenizer/test"
        " -- tokenizer_dump --merge true --output_dir $dump/tokenizer/test"
        " -- $read --output $out/tokenizer/decode/test.jsonl"
        " -- $read --output $out/tokenizer/decode/test_shuffled.jsonl --control shuffled"
        " -- score --ablation --config {input.score} --data_dir $DATA --dump_dir $dump"
        " --exp_dir $out --output_dir $out) > {log} 2>&1"
