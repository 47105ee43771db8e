"""The records that a reporting rule reads, from its inputs."""

from pathlib import Path


def gathered(snakemake, **options):
    """`rangefinder.collection.collect` on a rule's study, ranges, runs, published numbers, confirmations."""
    from rangefinder import collection

    published = snakemake.input.get("published")
    return collection.collect(
        snakemake.input.study,
        snakemake.input.ranges,
        snakemake.input.runs,
        confirmations=snakemake.input.get("confirmations") or [],
        published_folder=Path(published[0]).parent if published else None,
        **options,
    )
