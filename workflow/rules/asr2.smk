# egs/*/asr2: ESPnet's discrete ASR (mt_train) on token ids, and ESPnet's ASR on log-mel beside it.
# `uas_bin espnet NAME` is ESPnet's own command, with the plugin's choices in it. A section file is
# all that a training is told: data, token lists, model.


localrules:
    stage1,
    stage2,
    stage3,
    stage4,
    stage5,


rule stage1:
    input:
        f"{E}/data/info.json",


rule stage2:
    input:
        f"{E}/asr2_stats/done",
        f"{E}/logmel_stats/done",


rule stage3:
    input:
        f"{E}/asr2/done",
        f"{E}/logmel/done",


rule stage4:
    input:
        f"{E}/asr2/decode/test/done",
        f"{E}/asr2/decode_untrained/test/done",
        f"{E}/logmel/decode/test/done",


rule stage5:
    input:
        f"{E}/score/scores.json",


rule asr2_export:
    input:
        config=f"{C}/export.yaml",
        dump=DUMPED,
    output:
        f"{E}/data/info.json",
    log:
        f"{E}/logs/asr2_export.log",
    benchmark:
        f"{E}/benchmarks/asr2_export.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    shell:
        "uas export espnet-asr2 --config {input.config} --dump $DUMP/tokenizer"
        " --sets train dev test --output_dir $EXP/data > {log} 2>&1"


# Two commands in one process: importing ESPnet takes 10 to 20 s.
rule asr2_stats:
    input:
        asr2=f"{C}/asr2.yaml",
        logmel=f"{C}/logmel.yaml",
        data=f"{E}/data/info.json",
    output:
        touch(f"{E}/asr2_stats/done"),
        touch(f"{E}/logmel_stats/done"),
    log:
        f"{E}/logs/asr2_stats.log",
    benchmark:
        f"{E}/benchmarks/asr2_stats.tsv"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=30,
    shell:
        '(stats="--collect_stats true --ngpu 0";'
        " uas_bin chain espnet mt_train $stats --config {input.asr2} --output_dir $EXP/asr2_stats"
        " -- espnet asr_train $stats --config {input.logmel} --output_dir $EXP/logmel_stats)"
        " > {log} 2>&1"


rule asr2_train:
    input:
        config=f"{C}/asr2.yaml",
        data=f"{E}/data/info.json",
        stats=f"{E}/asr2_stats/done",
    output:
        touch(f"{E}/asr2/done"),
    log:
        f"{E}/logs/asr2_train.log",
    benchmark:
        f"{E}/benchmarks/asr2_train.tsv"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=120,
    shell:
        "(uas_bin fresh --dir $EXP/asr2 {input.config} {input.data} &&"
        " stats=$EXP/asr2_stats &&"
        " uas_bin espnet mt_train --config {input.config} --output_dir $EXP/asr2 --resume true"
        " --train_shape_file $stats/train/src_text_shape --train_shape_file $stats/train/text_shape"
        " --valid_shape_file $stats/valid/src_text_shape --valid_shape_file $stats/valid/text_shape"
        ") > {log} 2>&1"


rule logmel_train:
    input:
        config=f"{C}/logmel.yaml",
        data=f"{E}/data/info.json",
        stats=f"{E}/logmel_stats/done",
    output:
        touch(f"{E}/logmel/done"),
    log:
        f"{E}/logs/logmel_train.log",
    benchmark:
        f"{E}/benchmarks/logmel_train.tsv"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=120,
    shell:
        "(uas_bin fresh --dir $EXP/logmel {input.config} {input.data} &&"
        " stats=$EXP/logmel_stats &&"
        " uas_bin espnet asr_train --config {input.config} --output_dir $EXP/logmel --resume true"
        " --train_shape_file $stats/train/speech_shape --train_shape_file $stats/train/text_shape"
        " --valid_shape_file $stats/valid/speech_shape --valid_shape_file $stats/valid/text_shape"
        ") > {log} 2>&1"


# Without a file of weights ESPnet decodes with those that the configuration's seed begins with.
rule asr2_decode:
    input:
        config=f"{C}/decode.yaml",
        done=f"{E}/asr2/done",
    output:
        touch(f"{E}/asr2/decode/test/done"),
        touch(f"{E}/asr2/decode_untrained/test/done"),
    log:
        f"{E}/logs/asr2_decode.log",
    benchmark:
        f"{E}/benchmarks/asr2_decode.tsv"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=60,
    params:
        source=RUN.test_source,
    shell:
        '(decode="espnet mt_inference --config {input.config}'
        " --mt_train_config $EXP/asr2/config.yaml"
        ' --data_path_and_name_and_type {params.source},src_text,text";'
        " uas_bin chain $decode --mt_model_file $EXP/asr2/valid.acc.ave.pth"
        " --output_dir $EXP/asr2/decode/test"
        " -- $decode --output_dir $EXP/asr2/decode_untrained/test) > {log} 2>&1"


rule logmel_decode:
    input:
        config=f"{C}/decode.yaml",
        done=f"{E}/logmel/done",
    output:
        touch(f"{E}/logmel/decode/test/done"),
    log:
        f"{E}/logs/logmel_decode.log",
    benchmark:
        f"{E}/benchmarks/logmel_decode.tsv"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=60,
    shell:
        "uas_bin espnet asr_inference --config {input.config}"
        " --asr_train_config $EXP/logmel/config.yaml"
        " --asr_model_file $EXP/logmel/valid.acc.ave.pth"
        " --data_path_and_name_and_type $EXP/data/test/wav.scp,speech,sound"
        " --output_dir $EXP/logmel/decode/test > {log} 2>&1"


rule asr2_score:
    input:
        config=f"{C}/score.yaml",
        asr2=f"{E}/asr2/decode/test/done",
        untrained=f"{E}/asr2/decode_untrained/test/done",
        logmel=f"{E}/logmel/decode/test/done",
    output:
        f"{E}/score/scores.json",
    log:
        f"{E}/logs/asr2_score.log",
    benchmark:
        f"{E}/benchmarks/asr2_score.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        ref=RUN.test_target,
    shell:
        "(text=decode/test/1best_recog/text;"
        " uas_bin asr2_score --config {input.config} --ref {params.ref} --dump $DUMP/tokenizer/test"
        " --hyp asr2=$EXP/asr2/$text untrained=$EXP/asr2/decode_untrained/test/1best_recog/text"
        " logmel=$EXP/logmel/$text --corpus $CORPUS --recipe $RECIPE --output {output}"
        " --results $RESULTS) > {log} 2>&1"
