"""From records to figures and the report."""

TEMPLATES = [
    workflow.source_path(f"../report/{name}")
    for name in (
        "report.html.j2",
        "report.md.j2",
        "_findings.html.j2",
        "_table.html.j2",
        "_findings.md.j2",
        "_claims.md.j2",
        "style.css",
        "table.js",
    )
]


PAGES = ROOT / "report"


rule draw_figures:
    input:
        study=f"{RESULTS}/{{study}}/study.json",
        ranges=range_files,
        runs=run_files,
        published=published_files,
    output:
        figures=report(
            directory(f"{RESULTS}/{{study}}/figures"),
            patterns=["{name}.svg"],
            caption="../report/figure.rst",
            category="{study}",
            subcategory="figures",
            labels={"result": "{name}"},
        ),
        record=f"{RESULTS}/{{study}}/figures.json",
    log:
        f"{RESULTS}/{{study}}/logs/draw_figures.log",
    localrule: True
    conda:
        "../envs/report.yaml"
    script:
        "../workflow/scripts/draw_figures.py"


rule write_report:
    input:
        study=f"{RESULTS}/{{study}}/study.json",
        ranges=range_files,
        confirmations=confirmation_files,
        runs=run_files,
        published=published_files,
        figures=rules.draw_figures.output.figures,
        tables=rules.aggregate.output.tables,
        derived=[rules.draw_figures.output.record, rules.aggregate.output.record],
        templates=TEMPLATES,
    output:
        html=report(
            f"{RESULTS}/{{study}}/report.html",
            caption="../report/page.rst",
            category="{study}",
            labels={"result": "report"},
        ),
        markdown=f"{RESULTS}/{{study}}/report.md",
    log:
        f"{RESULTS}/{{study}}/logs/write_report.log",
    localrule: True
    conda:
        "../envs/report.yaml"
    script:
        "../workflow/scripts/write_report.py"


onsuccess:
    # Over all studies of the folder, those finished earlier too; no rule, so that a study finished later makes
    # nothing of another one old.
    if WORKS and list(Path(RESULTS).glob("*/report.html")):
        try:
            from rangefinder import index
        except ImportError:  # where conda brings pandas to the rules alone
            pass
        else:
            or_exit(index.write, RESULTS, PAGES)
