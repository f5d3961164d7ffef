"""Command line: `python status.py RESULTS [--watch [SECONDS]] [--collect]` shows how far the classes are.

Whatever trains there is left alone: this only reads. Exit status: 0; 1 if a class failed; 2 for wrong input.
"""

import sys
import time
from pathlib import Path

import click

from artifacts.layout import RESULTS_FILE, results_folders
from reporting import report_page
from reporting.class_table import DONE, FAILED, Row, read, to_text
from system.logs import log_to_screen
from system.parameters import Number

LONGEST = 86_400  # seconds between two looks


@click.command(context_settings={"show_default": True})
@click.argument("results", type=click.Path(path_type=Path))
@click.option(
    "--watch",
    type=Number(0, LONGEST, min_open=True),
    is_flag=False,
    flag_value=5,
    metavar="[SECONDS]",
    help="Show it again every so many seconds (default 5) until every class is done or failed.",
)
@click.option(
    "--collect", is_flag=True, help="First make results.csv and the report again from the files of the classes."
)
def main(results: Path, watch: float | None, collect: bool) -> None:
    """Show how far the classes of the folder RESULTS are."""
    log_to_screen()
    try:
        if collect:
            _collect(results)
        rows = show(results)
        while watch is not None and {row.state for row in rows} - {DONE, FAILED}:
            time.sleep(watch)
            click.clear()
            rows = show(results)
    except (ValueError, OSError) as error:
        click.echo(error, err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(1 if any(row.state == FAILED for row in rows) else 0)


def show(results: Path) -> list[Row]:
    """Print the table of a results folder, or of each of its seeds, and return all rows.

    Raises:
        FileNotFoundError: nothing was ever begun there.
    """
    everything = []
    for folder in results_folders(results):
        rows = read(folder)
        if rows and folder != results:
            click.echo(f"{folder.name}:")
        click.echo(to_text(rows) if rows else "", nl=bool(rows))
        everything += rows
    if not everything:
        raise FileNotFoundError(f"{results} holds no classes: give the --results_path of a run.")
    return everything


def _collect(results: Path) -> None:
    """Make what is derived from the classes' files.

    Raises:
        FileNotFoundError: there are none.
    """
    for folder in results_folders(results):
        found, page = report_page.collect(folder)
        if not found:
            raise FileNotFoundError(f"{folder} holds no result of any class yet: wait for one.")
        where = f"{folder / RESULTS_FILE}{f', and on one page in {page}' if page else ''}"
        click.echo(f"{len(found)} results are in {where}.")


if __name__ == "__main__":
    main()
