"""The engine, and the configuration's file, which is read as data before Snakemake reads it."""

import sys
from pathlib import Path


def checkout():
    """The project's folder: this file's checkout, or what Snakemake keeps of a repository on a git host.

    For `snakefile: github(…)` it fetches files one by one as they are named, each to its place in a copy of the tree. An
    import needs the whole package, so all of it is named here, from the list that Snakemake's own clone has.
    """
    here = workflow.current_basedir
    if not hasattr(here, "hosted_repo"):
        return Path(here).parent
    listed = here.hosted_repo.repo.git.ls_tree(
        "-r", "--name-only", here.ref, "--", "workflow", "report"
    )
    for name in listed.splitlines():
        found = Path(workflow.source_path(f"../{name}"))
    return Path(str(found).removesuffix(name))


ROOT = checkout()
sys.path.insert(0, str(ROOT / "workflow/scripts"))

from rangefinder import study as studies  # noqa: E402
from rangefinder import validation  # noqa: E402
from rangefinder.errors import InputError  # noqa: E402


def or_exit(function, *args, **kwargs):
    """Call a function of the engine; bad input ends Snakemake with its one line instead of a traceback."""
    try:
        return function(*args, **kwargs)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


# A module is given its configuration; the file of this name in its folder is none of ours.
CONFIG = "the module's config" if workflow.modifier.skip_configfile else studies.CONFIG
# Files of the command line are read by Snakemake before any of this; what it made of them counts only if they are data.
CONFIG_FILES = [
    str(file)
    for file in workflow.config_settings.configfiles
    if Path(file).suffix != ".json"
]
if not workflow.modifier.skip_configfile:
    for file in [*([CONFIG] if Path(CONFIG).exists() else []), *CONFIG_FILES]:
        or_exit(studies.check_config_file, file)


def elsewhere():
    """Where single keys of the configuration stand instead of in its file: on the command line, or in a file of it."""
    if workflow.modifier.skip_configfile:
        return {}
    files = {key: file for file in CONFIG_FILES for key in validation.read_yaml(file)}
    return files | dict.fromkeys(workflow.config_settings.config, "--config")
