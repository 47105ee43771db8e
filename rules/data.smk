"""Data sets, prepared once as uint8 arrays."""


rule prepare_data:
    input:
        lambda wildcards: parts.source_files(dataset_of(wildcards.dataset)),
    output:
        description=f"{DATA}/{{dataset}}/dataset.json",
        arrays=[
            f"{DATA}/{{dataset}}/{part}_{kind}.npy"
            for part in ("train", "test")
            for kind in ("images", "labels")
        ],
    log:
        f"{DATA}/logs/{{dataset}}.log",
    # A download may fail in passing; data that are there and wrong fail each time, and say so once.
    retries: 3 if downloads() else 0
    localrule: True
    conda:
        "../envs/train.yaml"
    params:
        spec=lambda wildcards: dataset_of(wildcards.dataset),
    script:
        "../workflow/scripts/prepare_data.py"
