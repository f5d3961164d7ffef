"""Command line: `python report.py RESULTS` writes RESULTS/report/index.html, a page that shows a results folder.

Exit status: 0 done; 2 wrong input.
"""

import sys
from pathlib import Path

import click

from reporting.report_page import PAGE, write
from system.logs import log_to_screen


@click.command(context_settings={"show_default": True})
@click.argument("results", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help=f"File to write (default: RESULTS/{PAGE.as_posix()}).")
def main(results: Path, out: Path | None) -> None:
    """Write the page of RESULTS, the results folder of a run."""
    log_to_screen()
    try:
        click.echo(write(results, out))
    except (ValueError, OSError) as error:
        click.echo(error, err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
