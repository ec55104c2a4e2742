"""A boot check's evidence as text for people."""

from __future__ import annotations

from p2v.core.units import format_seconds
from p2v.verify.evidence import BootEvidence, GuestReport, Reason


def render(evidence: BootEvidence) -> str:
    """The verdict first, then what it rests on."""
    verdict = evidence.verdict
    how = "with KVM" if evidence.accelerator.value == "kvm" else "without KVM (emulated)"
    word = "passed" if evidence.booted else "NOT PROVEN" if verdict.reason is Reason.NO_EVIDENCE else "FAILED"
    lines = [f"{word}: {verdict.sentence} [{verdict.reason.value}]"]
    lines.append(_row("took", f"{format_seconds(evidence.seconds)} {how}"))
    if evidence.report:
        lines += _report(evidence.report)
    if evidence.not_instrumented:
        lines.append(_row("no report", evidence.not_instrumented))
    lines += [_row("seen" if i == 0 else "", line) for i, line in enumerate(verdict.evidence)]
    if evidence.screenshot:
        lines.append(_row("screenshot", evidence.screenshot))
    if evidence.log:
        lines.append(_row("log", evidence.log))
    if not evidence.booted and evidence.serial_tail:
        lines += ["  last lines of the console:", *(f"    {line}" for line in evidence.serial_tail[-10:])]
    return "\n".join(lines)


def _report(report: GuestReport) -> list[str]:
    rows = [_row("root", report.root_device or "unknown"), _row("kernel", report.kernel or "unknown")]
    for interface in report.interfaces:
        rows.append(_row("network", f"{interface.name}: {', '.join(interface.addresses) or 'no address'}"))
    rows += [_row("TPM", tpm) for tpm in report.tpms]
    if report.secure_boot is not None:
        rows.append(_row("secure boot", "on" if report.secure_boot else "off"))
    rows += [_row("serial no.", report.serial_number)] if report.serial_number else []
    rows += [_row("failed unit", unit) for unit in report.failed_units]
    rows += [_row("kernel says", message) for message in report.kernel_messages]
    return rows


def _row(name: str, value: str) -> str:
    return f"  {name:<12}{value}"
