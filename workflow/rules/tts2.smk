# egs/*/tts2: ESPnet's discrete TTS (tts2_train) on token ids, rendered by our token decoder, and
# judged by the asr2 recipe's model on the tokens themselves and on those of the rendered audio.


localrules:
    stage1,
    stage2,
    stage3,
    stage4,
    stage5,
    stage6,
    stage7,


# Durations from elsewhere (k2, say) are taken as they are; nothing asks for tts2_align then.
ALIGNED = RUN.durations or f"{E}/align"


rule stage1:
    input:
        [] if RUN.durations else f"{E}/align/done",


rule stage2:
    input:
        f"{E}/data/info.json",


rule stage3:
    input:
        f"{E}/tts2_stats/done",


rule stage4:
    input:
        f"{E}/tts2/done",


rule stage5:
    input:
        f"{E}/render/audio/wav.scp",


rule stage6:
    input:
        f"{E}/judge/done",


rule stage7:
    input:
        f"{E}/report/report.html",


rule tts2_align:
    input:
        model=f"{RUN.judge}/asr2/done",
        data=f"{RUN.judge}/data/info.json",
    output:
        f"{E}/align/train",
        f"{E}/align/dev",
        touch(f"{E}/align/done"),
    log:
        f"{E}/logs/tts2_align.log",
    benchmark:
        f"{E}/benchmarks/tts2_align.tsv"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=60,
    params:
        source=RUN.judge_source,
        target=RUN.judge_target,
    shell:
        '(align="ctc_align --model $JUDGE/asr2"; data="$JUDGE/data";'
        ' uas_bin chain $align --source "$data/train/{params.source}"'
        ' --text "$data/train/{params.target}" --output "$EXP/align/train"'
        ' -- $align --source "$data/dev/{params.source}"'
        ' --text "$data/dev/{params.target}" --output "$EXP/align/dev") > {log} 2>&1'


rule tts2_export:
    input:
        config=f"{C}/export.yaml",
        dump=DUMPED,
        text=f"{RUN.judge}/data/info.json",
        train=f"{ALIGNED}/train",
        dev=f"{ALIGNED}/dev",
    output:
        f"{E}/data/info.json",
    log:
        f"{E}/logs/tts2_export.log",
    benchmark:
        f"{E}/benchmarks/tts2_export.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    shell:
        "uas export espnet-tts2 --config {input.config} --dump $DUMP/tokenizer"
        " --sets train dev test --text_from $JUDGE/data"
        " --durations train={input.train} dev={input.dev} --output_dir $EXP/data > {log} 2>&1"


rule tts2_stats:
    input:
        config=f"{C}/tts2_stats.yaml",
        data=f"{E}/data/info.json",
    output:
        touch(f"{E}/tts2_stats/done"),
    log:
        f"{E}/logs/tts2_stats.log",
    benchmark:
        f"{E}/benchmarks/tts2_stats.tsv"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=60,
    shell:
        "uas_bin espnet tts2_train --collect_stats true --write_collected_feats true"
        " --config {input.config} --ngpu 0 --output_dir $EXP/tts2_stats > {log} 2>&1"


rule tts2_train:
    input:
        config=f"{C}/tts2.yaml",
        data=f"{E}/data/info.json",
        stats=f"{E}/tts2_stats/done",
    output:
        touch(f"{E}/tts2/done"),
    log:
        f"{E}/logs/tts2_train.log",
    benchmark:
        f"{E}/benchmarks/tts2_train.tsv"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=120,
    shell:
        "(uas_bin fresh --dir $EXP/tts2 {input.config} {input.data} &&"
        " stats=$EXP/tts2_stats &&"
        " uas_bin espnet tts2_train --config {input.config} --output_dir $EXP/tts2 --resume true"
        " --train_shape_file $stats/train/text_shape --train_shape_file $stats/train/discrete_speech_shape"
        " --valid_shape_file $stats/valid/text_shape --valid_shape_file $stats/valid/discrete_speech_shape"
        ") > {log} 2>&1"


# ESPnet's inference without a vocoder writes the ids; without a file of weights it decodes with
# those that the configuration's seed begins with.
rule tts2_decode:
    input:
        config=f"{C}/decode.yaml",
        done=f"{E}/tts2/done",
    output:
        f"{E}/tts2/decode/test/feats/feats.scp",
        f"{E}/tts2/decode_untrained/test/feats/feats.scp",
    log:
        f"{E}/logs/tts2_decode.log",
    benchmark:
        f"{E}/benchmarks/tts2_decode.tsv"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=60,
    params:
        voices=RUN.test_voices,
    shell:
        '(decode="espnet tts2_inference --config {input.config}'
        " --train_config $EXP/tts2/config.yaml"
        ' --data_path_and_name_and_type $EXP/data/test/text,text,text {params.voices}";'
        " uas_bin chain $decode --model_file $EXP/tts2/valid.loss.ave.pth"
        " --output_dir $EXP/tts2/decode/test"
        " -- $decode --output_dir $EXP/tts2/decode_untrained/test) > {log} 2>&1"


rule tts2_gather:
    input:
        tts=f"{E}/tts2/decode/test/feats/feats.scp",
        untrained=f"{E}/tts2/decode_untrained/test/feats/feats.scp",
        data=f"{E}/data/info.json",
    output:
        f"{E}/render/token",
    log:
        f"{E}/logs/tts2_gather.log",
    benchmark:
        f"{E}/benchmarks/tts2_gather.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        real=RUN.test_source,
    shell:
        "uas_bin tts2_tokens --arm tts={input.tts} untrained={input.untrained} real={params.real}"
        " --tokens {output} > {log} 2>&1"


rule tts2_render:
    input:
        config=f"{C}/render.yaml",
        codec=f"{S}/codec/export/model.safetensors",
        tokens=f"{E}/render/token",
    output:
        f"{E}/render/audio/wav.scp",
    log:
        f"{E}/logs/tts2_render.log",
    benchmark:
        f"{E}/benchmarks/tts2_render.tsv"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=60,
    shell:
        "(uas_bin fresh --dir $EXP/render/audio {input} &&"
        " uas_bin codec_decode --config {input.config} --codec $SOURCE/codec/export"
        " --tokens {input.tokens} --output_dir $EXP/render/audio) > {log} 2>&1"


rule tts2_source:
    input:
        export=f"{RUN.judge}/conf/export.yaml",
        tokenizer=f"{S}/tokenizer/export/model.safetensors",
        tokens=f"{E}/render/token",
        audio=f"{E}/render/audio/wav.scp",
    output:
        f"{E}/judge/source",
    log:
        f"{E}/logs/tts2_source.log",
    benchmark:
        f"{E}/benchmarks/tts2_source.tsv"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=60,
    shell:
        "uas_bin tts2_tokens --tokens {input.tokens} --wav_scp {input.audio}"
        " --tokenizer $SOURCE/tokenizer/export --config {input.export} --source {output}"
        " > {log} 2>&1"


rule tts2_judge:
    input:
        config=f"{C}/judge.yaml",
        model=f"{RUN.judge}/asr2/done",
        source=f"{E}/judge/source",
    output:
        touch(f"{E}/judge/done"),
    log:
        f"{E}/logs/tts2_judge.log",
    benchmark:
        f"{E}/benchmarks/tts2_judge.tsv"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=60,
    shell:
        "uas_bin espnet mt_inference --config {input.config}"
        " --mt_train_config $JUDGE/asr2/config.yaml --mt_model_file $JUDGE/asr2/valid.acc.ave.pth"
        " --data_path_and_name_and_type {input.source},src_text,text"
        " --output_dir $EXP/judge > {log} 2>&1"


rule tts2_score:
    input:
        config=f"{C}/score.yaml",
        judge=f"{E}/judge/done",
        audio=f"{E}/render/audio/wav.scp",
        data=f"{E}/data/info.json",
    output:
        scores=f"{E}/score/scores.json",
        report=f"{E}/report/report.html",
    log:
        f"{E}/logs/tts2_score.log",
    benchmark:
        f"{E}/benchmarks/tts2_score.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    shell:
        "uas_bin tts2_score --config {input.config} --data $EXP/data/test"
        " --dump $DUMP/tokenizer/test --read $EXP/judge/1best_recog/text --audio {input.audio}"
        " --corpus $CORPUS --recipe $RECIPE --output {output.scores} --results $RESULTS"
        " --report {output.report} > {log} 2>&1"
