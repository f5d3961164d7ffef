"""One page that shows a results folder: `python report.py RESULTS` writes RESULTS/report/index.html.

The page holds everything in itself: it opens from a disk, without a network. It is made from the class folders
(result.json, evidence.json, review/, model.json, run.json), and equal ones give equal bytes.
"""

import sys
from pathlib import Path

import click

from reporting.report_page import PAGE, write


@click.command(context_settings={"show_default": True})
@click.argument("results", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help=f"File to write (default: RESULTS/{PAGE.as_posix()}).")
def main(results: Path, out: Path | None) -> None:
    """Write the page of RESULTS, the results folder of a run."""
    try:
        print(write(results, out))
    except (ValueError, FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
