"""The audit for programs: JSON, CSV, SARIF 2.1.0 and JUnit XML, each from the document alone."""

from p2v.audit.formats.csv_table import findings_csv, machines_csv
from p2v.audit.formats.json_document import audit_json
from p2v.audit.formats.junit import junit_xml
from p2v.audit.formats.sarif import sarif_json

__all__ = ["audit_json", "findings_csv", "junit_xml", "machines_csv", "sarif_json"]
