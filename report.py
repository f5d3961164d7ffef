"""Command line: `python report.py RESULTS` writes RESULTS/report/index.html, a page that shows a results folder.

With --table it prints a table of one or several RESULTS instead, with mean and deviation where there are seeds.

Exit status: 0 done; 2 wrong input.
"""

import sys
from pathlib import Path

import click

from artifacts.layout import results_folders
from reporting import spread
from reporting.report_page import PAGE, write
from system.logs import log_to_screen


@click.command(context_settings={"show_default": True})
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help=f"File to write (default: RESULTS/{PAGE.as_posix()}).")
@click.option(
    "--table",
    "form",
    type=click.Choice([*spread.FORMS, spread.CSV]),
    help="Print a table instead: of one RESULTS a row per class, of several a row for each.",
)
def main(results: tuple[Path, ...], out: Path | None, form: str | None) -> None:
    """Write the page of RESULTS, the results folder of a run; one for each of its seeds."""
    log_to_screen()
    folders = [folder for path in results for folder in results_folders(path)]
    if out is not None and (form is not None or len(folders) > 1):
        raise click.UsageError("--out is for the page of one results folder.")
    try:
        if form is not None:
            click.echo(spread.written(results, form), nl=False)
            return
        for folder in folders:
            click.echo(write(folder, out))
    except (ValueError, OSError) as error:
        click.echo(error, err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
