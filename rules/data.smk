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
    # A download may fail in passing; a file that is there and wrong fails each time, and says so.
    retries: 0 if config["data_dir"] or not config["download"] else 3
    localrule: True
    conda:
        "../envs/train.yaml"
    params:
        spec=lambda wildcards: dataset_of(wildcards.dataset),
    script:
        "../workflow/scripts/prepare_data.py"
