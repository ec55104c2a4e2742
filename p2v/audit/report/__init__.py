"""The audit as one HTML file for people: ``report_html`` makes it, and needs nothing but the document."""

from p2v.audit.report.page import report_html

__all__ = ["report_html"]
