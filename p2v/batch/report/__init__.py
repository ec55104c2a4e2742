"""A batch as one HTML file for people, while it runs and afterwards: ``batch_html`` makes it, ``write_report`` puts it there."""

from p2v.batch.report.chronicle import Chronicle
from p2v.batch.report.page import batch_html
from p2v.batch.report.writing import write_report

__all__ = ["Chronicle", "batch_html", "write_report"]
