# Stage 3: the tokenizer in the two stages of the paper, its untrained baseline, and its part of
# stage 8. With a pretrained tokenizer tokenizer_pretrained.smk takes this file's place.
# Only marks and final files are outputs: Snakemake deletes outputs of a failed job, and a killed
# training must find its checkpoints again.


localrules:
    stage3,
    tokenizer_export,


rule stage3:
    input:
        expand("{e}/{tok}/export/{file}", e=E, tok=TOKENIZERS, file=EXPORT),
        [f"{E}/ablations/{name}/tokenizer/done" for name in RUN.ablations],


rule tokenizer_align:
    input:
        config=f"{C}/tokenizer_align.yaml",
        train=stored("train"),
        dev=cuts("dev"),
        text=f"{E}/text/bpe.model",
    output:
        touch(f"{E}/tokenizer_align/done"),
    log:
        f"{E}/logs/tokenizer_align.log",
    benchmark:
        f"{E}/benchmarks/tokenizer_align.tsv"
    threads: 2
    resources:
        **gpus(RUN.gpus),
        mem_mb=4000,
        runtime=60,
        nodes=1,
    params:
        shape=shape,
        train=stored_path,
    shell:
        "(export OMP_NUM_THREADS={threads}; uas_bin fresh --dir $EXP/tokenizer_align {input} &&"
        " training {params.shape} tokenizer_train --config {input.config}"
        " --train_cuts {params.train} --valid_cuts {input.dev} --text_model {input.text}"
        " --output_dir $EXP/tokenizer_align --resume true) > {log} 2>&1"


rule codebook:
    input:
        config=f"{C}/codebook.yaml",
        done=f"{E}/tokenizer_align/done",
        cuts=cuts("train"),
    output:
        trained=f"{E}/tokenizer_codebook/init.pth",
        untrained=f"{E}/tokenizer_codebook/untrained.pth",
    log:
        f"{E}/logs/codebook.log",
    benchmark:
        f"{E}/benchmarks/codebook.tsv"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=20,
    shell:
        '(make="tokenizer_codebook --config {input.config} --model $EXP/tokenizer_align'
        ' --cuts {input.cuts} --output";'
        " uas_bin chain $make {output.trained} -- $make {output.untrained} --untrained true)"
        " > {log} 2>&1"


rule tokenizer_train:
    input:
        config=f"{C}/tokenizer.yaml",
        train=stored("train"),
        dev=cuts("dev"),
        text=f"{E}/text/bpe.model",
        init=f"{E}/tokenizer_codebook/init.pth",
    output:
        touch(f"{E}/tokenizer/done"),
    log:
        f"{E}/logs/tokenizer_train.log",
    benchmark:
        f"{E}/benchmarks/tokenizer_train.tsv"
    threads: 2
    resources:
        **gpus(RUN.gpus),
        mem_mb=4000,
        runtime=120,
        nodes=1,
    params:
        shape=shape,
        train=stored_path,
    shell:
        "(export OMP_NUM_THREADS={threads}; uas_bin fresh --dir $EXP/tokenizer {input} &&"
        " training {params.shape} tokenizer_train --config {input.config}"
        " --train_cuts {params.train} --valid_cuts {input.dev} --text_model {input.text}"
        " --init_param {input.init} --output_dir $EXP/tokenizer --resume true) > {log} 2>&1"


# The options are an input here too: a pretrained tokenizer may have been exported in between.
rule tokenizer_export:
    input:
        config=f"{C}/tokenizer.yaml",
        done=f"{E}/tokenizer/done",
        untrained=f"{E}/tokenizer_codebook/untrained.pth",
    output:
        expand("{e}/{tok}/export/{file}", e=E, tok=TOKENIZERS, file=EXPORT),
    log:
        f"{E}/logs/tokenizer_export.log",
    benchmark:
        f"{E}/benchmarks/tokenizer_export.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    shell:
        '(make="tokenizer_export --model $EXP/tokenizer --output_dir";'
        " uas_bin chain $make $EXP/tokenizer/export"
        " -- $make $EXP/tokenizer_untrained/export --weights {input.untrained}) > {log} 2>&1"


# What the tokenizer's own decoder reads from real tokens, from another clip's, from the AudioLLM's
# speech, and from tokens of the token decoder's reconstructions.
rule tokenizer_decode:
    input:
        tokens=f"{P}/tokenizer/test/token",
        spoken=[f"{E}/audiollm/decode/test/{task}.none.jsonl" for task in RUN.spoken],
        recon=f"{E}/codec/decode/test/wav.scp",
        model=f"{E}/tokenizer/done",
    output:
        touch(f"{E}/tokenizer/decode/done"),
    log:
        f"{E}/logs/tokenizer_decode.log",
    benchmark:
        f"{E}/benchmarks/tokenizer_decode.tsv"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=30,
    params:
        spoken=" ".join(
            f"-- $read $out/{to}.jsonl --tokens $EXP/audiollm/decode/test/{source}.jsonl"
            for to, source in RUN.read_back.items()
        ),
    shell:
        "(out=$EXP/tokenizer/decode;"
        ' read="tokenizer_decode --model $EXP/tokenizer --output";'
        " uas_bin chain $read $out/test.jsonl --tokens {input.tokens}"
        " -- $read $out/test_shuffled.jsonl --tokens {input.tokens} --control shuffled"
        " {params.spoken}"
        " -- $read $out/recon.jsonl --wav_scp {input.recon}) > {log} 2>&1"
