"""Command line: `python reproduce.py RESULTS...` holds the figures of a run against the published ones, class by class.

RESULTS is a results folder, or a results.csv, ours or the release's. Of several, or of a folder with seeds, the mean is
compared, with its standard deviation. Exit status: 0 every class that the paper has is
reached (within the band, or better), 1 one is not, 2 wrong input, or nothing that the paper has figures for.
"""

import sys
from pathlib import Path

import click

from reporting import comparison
from reporting.paper_table import missed, read_runs, to_csv, to_json, to_text
from system.logs import log_to_screen
from system.parameters import Number


@click.command(context_settings={"show_default": True})
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--band",
    type=Number(0),
    default=comparison.BAND,
    help="Points below the paper that still count as reached.",
)
@click.option("--json", "form", flag_value="json", help="Print JSON instead of the table.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV instead of the table.")
def main(results: tuple[Path, ...], band: float, form: str | None) -> None:
    """Compare RESULTS, a results folder or a results.csv, with the figures of the paper (percent).

    Several RESULTS are repetitions of one training, as the seeds in a folder are: their mean is compared.
    """
    log_to_screen()
    try:
        rows = comparison.compare_runs(read_runs(results), band)
        if not any(row.published for row in rows):
            raise ValueError(
                f"{', '.join(map(str, results))} has no class that the paper has figures for: nothing to compare."
            )
    except (ValueError, OSError) as error:
        click.echo(error, err=True)
        sys.exit(2)
    print({"json": to_json, "csv": to_csv}.get(form, to_text)(rows), end="" if form == "csv" else "\n")
    sys.exit(1 if missed(rows) else 0)


if __name__ == "__main__":
    main()
