"""What `p2v record verify` says is proven: of whole files, of files that something was done to, and of none."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from converters.image import identity, open_disk
from p2v.core import jsontext
from p2v.core.errors import Usage
from p2v.record import ConversionRecord, record_digest
from p2v.record.claims import Claim, Why
from p2v.record.examining import Answer, Question, examine
from p2v.record.files import Places, State
from p2v.record.proof import Problem, ProofDocument, ProofVerdict, proof_json, proof_path
from p2v.verify import Reason
from tests.record.filling import Filler
from tests.record.making import CHANGED, Conversion, conversion


def ask(
    made: Conversion, *, files: bool = True, required: tuple[Claim, ...] = (), **places: tuple[Path, ...]
) -> Answer:
    return examine(Question(made.record, Places(made.folder, **places) if files else None, required=required))


def why(answer: Answer) -> dict[Claim, Why]:
    return {verdict.claim: verdict.why for verdict in answer.verdicts}


def prove(
    made: Conversion, *problems: Problem, by_programs: tuple[Problem, ...] = (), digest: str | None = None
) -> None:
    """A proof as `p2v prove` leaves it, with these problems."""
    verdict = ProofVerdict.FAILED if problems else ProofVerdict.GUEST_PROGRAM if by_programs else ProofVerdict.PROVEN
    filled = Filler().value(ProofDocument)
    proof = replace(
        filled, record_digest=digest or record_digest(made.loaded()), verdict=verdict, schema=1, problems=problems,
        by_programs=by_programs, disks=(replace(filled.disks[0], source=str(made.source), target=made.target.name),),
    )  # fmt: skip
    proof_path(made.record).write_text(proof_json(proof))


@pytest.mark.parametrize("checksum", [False, True])
def test_untouched_files_prove_the_copy_and_the_boot(tmp_path: Path, checksum: bool) -> None:
    answer = ask(conversion(tmp_path, checksum=checksum))
    assert why(answer) == {Claim.COPIED: Why.PROVEN, Claim.PLANNED: Why.NEVER_ASKED, Claim.BOOTS: Why.PROVEN}
    assert (answer.failures, answer.exit_code) == ((), 0)


def test_without_the_files_nothing_is_said_of_the_copy(tmp_path: Path) -> None:
    made = conversion(tmp_path, checksum=True)
    made.source.unlink()
    made.target.unlink()
    answer = ask(made, files=False)
    assert why(answer) == {Claim.COPIED: Why.NEVER_ASKED, Claim.PLANNED: Why.NEVER_ASKED, Claim.BOOTS: Why.PROVEN}
    assert answer.exit_code == 0


def test_source_that_is_gone_leaves_the_copy_unproven_and_is_no_failure(tmp_path: Path) -> None:
    made = conversion(tmp_path)
    made.source.unlink()
    answer = ask(made)
    assert why(answer)[Claim.COPIED] is Why.NOT_AT_HAND
    assert answer.exit_code == 0
    assert ask(made, required=(Claim.COPIED,)).exit_code == 1


def test_source_elsewhere_is_used_where_it_is_named(tmp_path: Path) -> None:
    made = conversion(tmp_path)
    moved = made.source.rename(tmp_path / "kept.raw")
    answer = ask(made, sources=(moved,))
    assert why(answer)[Claim.COPIED] is Why.PROVEN
    made.poke(moved, 0)
    answer = ask(made, sources=(moved,))
    assert why(answer)[Claim.COPIED] is Why.NOT_AT_HAND
    assert answer.exit_code == 1


# In the middle between two samples, so that only the content digest or the comparison can find it.
UNSAMPLED = 2 * 1024 * 1024 + 70_000


@pytest.mark.parametrize("checksum", [False, True])
def test_byte_of_the_target_outside_the_changed_ranges_is_found(tmp_path: Path, checksum: bool) -> None:
    made = conversion(tmp_path, checksum=checksum)
    made.poke(made.target, UNSAMPLED)
    answer = ask(made)
    assert answer.exit_code == 1
    assert why(answer)[Claim.COPIED] is (Why.NOT_AT_HAND if checksum else Why.FAILED)
    assert any(made.target.name in failure or "copied right" in failure for failure in answer.failures)


@pytest.mark.parametrize("place", [CHANGED[0][0], CHANGED[1][0] + CHANGED[1][1] - 1])
def test_byte_of_the_target_in_a_changed_range_is_found_and_the_range_named(tmp_path: Path, place: int) -> None:
    made = conversion(tmp_path)
    made.poke(made.target, place)
    answer = ask(made)
    assert answer.exit_code == 1
    assert any(
        f"from {offset} on" in f for f in answer.failures for offset, n in CHANGED if offset <= place < offset + n
    )


def test_byte_of_the_source_in_a_changed_range_is_found(tmp_path: Path) -> None:
    made = conversion(tmp_path)
    made.poke(made.source, CHANGED[0][0] + 7)
    (disk,) = ask(made).files.disks  # type: ignore[union-attr]
    assert f"from {CHANGED[0][0]} on" in disk.source.said


def test_target_that_was_cut_or_lengthened_or_is_no_disk_is_different(tmp_path: Path) -> None:
    made = conversion(tmp_path)
    data = made.target.read_bytes()
    for other in (data[:-512], data + bytes(512), b"", b"QFI\xfb" + data[4:]):
        made.target.write_bytes(other)
        answer = ask(made)
        assert answer.exit_code == 1
        assert why(answer)[Claim.COPIED] is not Why.PROVEN


@pytest.mark.parametrize("name", ["vm.png", "vm.boot.log"])
def test_evidence_that_was_changed_or_is_gone_is_found(tmp_path: Path, name: str) -> None:
    made = conversion(tmp_path)
    data = (tmp_path / name).read_bytes()
    for other in (data + b"x", b"A" + data[1:]):
        (tmp_path / name).write_bytes(other)
        answer = ask(made)
        assert why(answer)[Claim.BOOTS] is Why.FAILED
        assert answer.exit_code == 1
    (tmp_path / name).unlink()
    answer = ask(made)
    assert why(answer)[Claim.BOOTS] is Why.PROVEN
    assert any(name in failure for failure in answer.failures)


def test_output_names_lead_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    made = conversion(tmp_path / "in")
    record = made.loaded()
    (tmp_path / "secret").write_bytes(b"a picture")
    outputs = (record.outputs[0], replace(record.outputs[1], name="../secret"), record.outputs[2])
    made.rewrite(replace(record, outputs=outputs))
    answer = ask(made)
    assert any("../secret: is not there" in failure for failure in answer.failures)


def test_output_that_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    made = conversion(tmp_path)
    record = made.loaded()
    made.rewrite(replace(record, outputs=(*record.outputs[:2], replace(record.outputs[2], size=0))))
    (tmp_path / "vm.boot.log").unlink()
    os.mkfifo(tmp_path / "vm.boot.log")
    assert any("is no file" in failure for failure in ask(made).failures)


def test_target_is_looked_for_beside_the_record_only(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    made = conversion(tmp_path / "in")
    made.target.rename(tmp_path / "vm.raw")
    record = made.loaded()
    made.rewrite(replace(record, disks=(replace(record.disks[0], target="../vm.raw"),)))
    assert any("../vm.raw: is not there" in failure for failure in ask(made).failures)
    assert ask(made, targets=(tmp_path / "vm.raw",)).exit_code == 0


def test_device_that_is_larger_than_what_was_written_to_it_is_looked_at_as_far_as_that(tmp_path: Path) -> None:
    made = conversion(tmp_path)
    record = made.loaded()
    device = made.target.rename(tmp_path / "device")  # root alone could make a real one; only its length matters here
    with device.open("ab") as file:
        file.write(b"something else" * 1000)
    hardware = replace(record.hardware, disks=(replace(record.hardware.disks[0], is_device=True),))
    made.rewrite(replace(record, hardware=hardware, disks=(replace(record.disks[0], target=str(device)),)))
    answer = ask(made)
    assert [looked.state for disk in answer.files.disks for looked in (disk.target, disk.copied)] == [State.SAME] * 2  # type: ignore[union-attr]
    made.poke(device, CHANGED[0][0])
    assert any(f"from {CHANGED[0][0]} on" in failure for failure in ask(made).failures)


def test_qcow2_on_a_device_is_looked_at_as_such(tmp_path: Path) -> None:
    made = conversion(tmp_path)
    record = made.loaded()
    device = tmp_path / "device"  # as it is after a conversion in place
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", made.target, device], check=True)
    with open_disk(device, "qcow2") as reader:
        disk = replace(record.disks[0], target=str(device), result=identity(reader))
    hardware = replace(record.hardware, disks=(replace(record.hardware.disks[0], format="qcow2", is_device=True),))
    made.rewrite(replace(record, hardware=hardware, disks=(disk,)))
    assert [looked.target.state for looked in ask(made).files.disks] == [State.SAME]  # type: ignore[union-attr]


@pytest.mark.parametrize("ranges", [((-1, 10),), ((0, 0),), ((0, 2**40),), ((2**63, 5),), ((0, 10), (5, 10))])
def test_ranges_that_make_no_sense_are_an_answer(tmp_path: Path, ranges: tuple[tuple[int, int], ...]) -> None:
    made = conversion(tmp_path)
    record = made.loaded()
    changed = tuple(replace(record.disks[0].changed[0], offset=o, length=n) for o, n in ranges)
    made.rewrite(replace(record, disks=(replace(record.disks[0], changed=changed),)))
    answer = ask(made)
    assert answer.exit_code == 1
    assert why(answer)[Claim.COPIED] is Why.NOT_AT_HAND


def test_same_content_on_both_sides_proves_the_copy_by_the_record_alone(tmp_path: Path) -> None:
    made = conversion(tmp_path, checksum=True)
    record = made.loaded()
    disk = replace(record.disks[0], changed=(), result_content=record.disks[0].source_content)
    made.rewrite(replace(record, disks=(disk,)))
    assert why(ask(made, files=False))[Claim.COPIED] is Why.PROVEN


def _without_boot(record: ConversionRecord) -> ConversionRecord:
    return replace(record, boot=None, boot_files={})


def _failed(record: ConversionRecord) -> ConversionRecord:
    assert record.boot is not None
    return replace(record, boot=replace(record.boot, verdict=replace(record.boot.verdict, reason=Reason.KERNEL_PANIC)))


@pytest.mark.parametrize(
    "edit, expected, code", [(_without_boot, Why.NEVER_ASKED, 0), (_failed, Why.FAILED, 1)]
)  # fmt: skip
def test_boot_check_that_failed_or_was_not_asked_for(
    tmp_path: Path, edit: Callable[[ConversionRecord], ConversionRecord], expected: Why, code: int
) -> None:
    made = conversion(tmp_path)
    made.rewrite(edit(made.loaded()))
    answer = ask(made, files=False)
    assert why(answer)[Claim.BOOTS] is expected
    assert answer.exit_code == code
    assert ask(made, files=False, required=(Claim.BOOTS,)).exit_code == 1


IN_GUEST = Problem("/etc/shadow", "has another mode")


def test_proof_that_belongs_to_the_record_proves(tmp_path: Path) -> None:
    made = conversion(tmp_path)
    prove(made)
    answer = ask(made, files=False, required=tuple(Claim))
    assert set(why(answer).values()) == {Why.PROVEN}
    assert answer.exit_code == 0


def test_proof_that_found_something_fails_what_it_is_about(tmp_path: Path) -> None:
    made = conversion(tmp_path)
    prove(made, IN_GUEST)
    answer = ask(made, files=False)
    assert (why(answer)[Claim.COPIED], why(answer)[Claim.PLANNED]) == (Why.PROVEN, Why.FAILED)
    assert answer.exit_code == 1
    assert any("/etc/shadow" in clause for verdict in answer.verdicts for clause in verdict.rests_on)
    for disk in (made.target.name, str(made.source)):
        prove(made, IN_GUEST, Problem(disk, "differs at byte 7"))
        assert (why(ask(made))[Claim.COPIED], why(ask(made))[Claim.PLANNED]) == (Why.FAILED, Why.FAILED)


def test_what_a_program_of_the_guest_changed_is_not_proven_to_be_planned_and_no_failure(tmp_path: Path) -> None:
    made = conversion(tmp_path)
    prove(made, by_programs=(IN_GUEST,))
    answer = ask(made, files=False)
    assert (why(answer)[Claim.COPIED], why(answer)[Claim.PLANNED]) == (Why.PROVEN, Why.NOT_PLANNED)
    assert answer.exit_code == 0
    assert ask(made, files=False, required=(Claim.PLANNED,)).exit_code == 1


def test_proof_does_not_hide_what_the_files_show_now(tmp_path: Path) -> None:
    made = conversion(tmp_path)
    prove(made)
    made.poke(made.target, UNSAMPLED)
    assert why(ask(made))[Claim.COPIED] is Why.FAILED


def test_proof_of_another_record_or_edited_or_cut_proves_nothing_and_is_named(tmp_path: Path) -> None:
    made = conversion(tmp_path)
    prove(made, digest="0" * 64)
    answer = ask(made, files=False)
    assert why(answer)[Claim.PLANNED] is Why.NEVER_ASKED
    assert (answer.exit_code, "of another record" in answer.failures[0]) == (1, True)
    prove(made, IN_GUEST)
    text = proof_path(made.record).read_text()
    whole = {name: value for name, value in json.loads(text).items() if name != "digest"}
    contradiction = {**whole, "verdict": "proven"}
    empty = {"schema": 1}
    edited = [json.dumps({**data, "digest": jsontext.digest(data)}) for data in (contradiction, empty)]
    for other in (text.replace('"failed"', '"proven"'), text[:-10], "{}", *edited):
        proof_path(made.record).write_text(other)
        answer = ask(made, files=False)
        assert why(answer)[Claim.PLANNED] is Why.NEVER_ASKED
        assert answer.exit_code == 1


def test_broken_record_proves_nothing(tmp_path: Path) -> None:
    made = conversion(tmp_path)
    made.record.write_text(made.record.read_text().replace('"virtual_size": 8388608', '"virtual_size": 8388609'))
    answer = ask(made)
    assert (answer.verdicts, answer.exit_code) == ((), 65)
    assert any(problem.startswith("part copy:") for problem in answer.opened.problems)


def test_scrubbed_copy_proves_nothing(tmp_path: Path) -> None:
    made = conversion(tmp_path)
    made.rewrite(replace(made.loaded(), copy_of="0" * 64))
    with pytest.raises(Usage):
        ask(made)
