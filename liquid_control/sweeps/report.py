"""The report of a study, as a page and as Markdown files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from liquid_control.checkpoints.durable import replacing, write_text
from liquid_control.monitoring.report.page import Chapter, Picture, page
from liquid_control.recipes import CommandError
from liquid_control.sweeps.appendix import appendix
from liquid_control.sweeps.chapters import Chapters
from liquid_control.sweeps.comparison import compare
from liquid_control.sweeps.figures import LEADING, MOST, styles_of
from liquid_control.sweeps.markdown import to_markdown
from liquid_control.sweeps.results import StudyResults, write_results
from liquid_control.sweeps.scores import Scores
from liquid_control.sweeps.statistics import check_installed
from liquid_control.sweeps.summary import facts, in_short

FIGURES = "figures"
SUBTITLE = "The results of the runs of this study, and how certain they are."


@dataclass(frozen=True)
class StudyReport:
    """A report, and the figures in it.

    Attributes:
        title: The name of the study.
        facts: Short facts of the header, by name.
        chapters: Its chapters.
    """

    title: str
    facts: Mapping[str, str]
    chapters: Sequence[Chapter]

    @property
    def pictures(self) -> dict[str, Picture]:
        """The pictures by file name."""
        parts = (part for chapter in self.chapters for part in chapter.parts)
        found = [part for part in parts if isinstance(part, Picture)]
        return {f"{part.title.lower().replace(' ', '_')}.png": part for part in found}

    def html(self) -> str:
        """Return a page that needs no other file."""
        return page(self.title, SUBTITLE, self.facts, self.chapters)

    def markdown(self) -> str:
        """Return Markdown, whose pictures are in a folder next to it."""
        files = {part.title: f"{FIGURES}/{name}" for name, part in self.pictures.items()}
        return to_markdown(self.title, SUBTITLE, self.facts, self.chapters, files)


def write_report(study: StudyResults, report: StudyReport, folder: Path) -> list[Path]:
    """Write results.csv, figures, report.md and report.html; return the paths of the last three.

    Raises:
        CommandError: The folder cannot be written to, or its figures are a link.
    """
    pictures = folder / FIGURES
    if pictures.is_symlink():
        raise CommandError(f"{pictures} is a link; remove it, or choose another --output")
    table, text, html = (folder / name for name in ("results.csv", "report.md", "report.html"))
    try:
        write_results(table, study.rows())
        for name, picture in report.pictures.items():
            with replacing(pictures / name) as partial:
                partial.write_bytes(picture.image)
        write_text(text, report.markdown())
        write_text(html, report.html())
    except OSError as error:
        where = error.filename or folder
        raise CommandError(f"{where} cannot be written: {error.strerror or error}") from error
    return [table, text, html]


def report_on_study(
    study: StudyResults, limits: Mapping[str, float] = MappingProxyType({})
) -> StudyReport:
    """Return the report of a study, without chapters that have no data.

    Args:
        study: The study.
        limits: Returns whose steps and seconds are reported, by task; "" stands for all others. By
            default they are at 80 % of the way from random actions to the best recipe.

    Raises:
        CommandError: The library rliable is missing.
    """
    check_installed()
    comparison = compare(study)
    names = comparison.variants
    shown = names if len(names) <= MOST else comparison.leading(LEADING)
    scores = Scores(study, comparison)
    view = Chapters(scores, styles_of(names, shown), limits)
    chapters = [
        *view.results(),
        *view.all_tasks(),
        *view.learning_curves(),
        *view.control_rates(),
        *view.thresholds(),
        *view.improvements(),
        *appendix(study),
    ]
    return StudyReport(study.name, facts(scores), [in_short(scores), *chapters])
