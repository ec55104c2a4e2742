"""A machine of a batch as the command line of ``p2v convert`` that converts it: the only place that builds one."""

from __future__ import annotations

from p2v.batch.jobs import MachineJob, Verify


def convert_arguments(machine: MachineJob) -> tuple[str, ...]:
    """The words after ``p2v convert``. Values are written ``--option=value``, so that none is taken for an option."""
    verify = ("--verify",) if machine.verify is Verify.BOOT else ()
    keys = tuple(f"--key={key}" for key in machine.keys)
    return (
        *(str(path) for path in machine.sources),
        f"--output={machine.folder}",
        f"--name={machine.name}",
        f"--format={machine.disk_format}",
        *verify,
        *keys,
        *machine.options,
    )
