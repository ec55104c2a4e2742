"""The programs that come with the source: built from it, to the byte, and using nothing that Windows 2000 has not."""

from __future__ import annotations

import hashlib
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from drivers.windows.firstboot.program import PROGRAMS, Program

SOURCE = Path(__file__).parents[3] / "drivers/windows/firstboot"
COMPILERS = ("i686-w64-mingw32-gcc", "x86_64-w64-mingw32-gcc")
# other versions of the compiler and its linker give other bytes
BUILT_WITH = ("12-win32", "2.40")
ALL = [(name, arch, program) for name, builds in PROGRAMS.items() for arch, program in builds.items()]
LINES_AT_MOST = {"firstboot": 199, "pnpinstall": 60, "pnpremove": 60}
MACHINES = {"x86": 0x014C, "x64": 0x8664}
SUBSYSTEMS = {"x86": (4, 0), "x64": (5, 2)}

# What Windows 2000 has of what the programs use, by the requirements in Microsoft's Platform SDK.
IN_WINDOWS_2000 = {
    "cfgmgr32.dll": {"CM_Locate_DevNodeW"},
    "advapi32.dll": {
        "AdjustTokenPrivileges", "DeleteService", "InitiateSystemShutdownW", "LookupPrivilegeValueW", "OpenProcessToken",
        "OpenSCManagerW", "OpenServiceW", "RegDeleteKeyW", "RegOpenKeyExW", "RegQueryValueExW", "RegisterServiceCtrlHandlerW",
        "SetServiceStatus", "StartServiceCtrlDispatcherW",
    },
    "kernel32.dll": {
        "AssignProcessToJobObject", "CreateEventW", "CreateFileW", "CreateJobObjectW", "CreateProcessW", "ExitProcess",
        "ExpandEnvironmentStringsW", "FlushFileBuffers", "GetCommandLineW", "GetCurrentProcess", "GetExitCodeProcess",
        "GetFileSize", "GetLastError", "GetModuleFileNameW", "GetStdHandle", "GetSystemTime", "GetTickCount",
        "MoveFileExW", "MultiByteToWideChar",
        "QueryInformationJobObject", "ReadFile", "ResumeThread", "SetCurrentDirectoryW", "SetEnvironmentVariableW", "SetEvent",
        "SetInformationJobObject", "SetLastError", "TerminateJobObject", "TerminateProcess", "WaitForSingleObject", "WriteFile",
        "lstrcmpA", "lstrcpyA", "lstrcpynW", "lstrlenW",
    },
    "newdev.dll": {"UpdateDriverForPlugAndPlayDevicesW"},
    "setupapi.dll": {
        "SetupCopyOEMInfW", "SetupDiCallClassInstaller", "SetupDiCreateDeviceInfoList", "SetupDiDestroyDeviceInfoList",
        "SetupDiGetDeviceInstallParamsW", "SetupDiOpenDeviceInfoW",
    },
    "shell32.dll": {"CommandLineToArgvW"},
    "user32.dll": {"wsprintfA", "wsprintfW", "wvsprintfA"},
}  # fmt: skip


def _version(program: str) -> str:
    """The first line of what it says of itself; empty where it is not there."""
    if shutil.which(program) is None:
        return ""
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.partition("\n")[0]


def _why_not_built() -> str:
    """Why the same bytes cannot be expected here; empty where they can."""
    for compiler in COMPILERS:
        linker = compiler.replace("gcc", "ld")
        found = [_version(each) for each in (compiler, linker)]
        if not all(found):
            return f"{compiler} is not installed"
        if not all(wanted in has for wanted, has in zip(BUILT_WITH, found, strict=True)):
            return f"{' and '.join(found)} are here; the programs were built by {' and '.join(BUILT_WITH)}"
    return ""


@pytest.mark.parametrize("name, arch, program", ALL, ids=[f"{name}-{arch}" for name, arch, _ in ALL])
def test_a_program_is_what_plans_say_of_it(name: str, arch: str, program: Program) -> None:
    data = Path(program.source).read_bytes()
    assert Path(program.source) == SOURCE / f"{name}-{arch}.exe"
    assert (len(data), hashlib.sha256(data).hexdigest()) == (program.size, program.sha256)


@pytest.mark.skipif(bool(_why_not_built()), reason=_why_not_built())
def test_the_source_gives_the_same_bytes(tmp_path: Path) -> None:
    # elsewhere, so that no path can have got into them
    source = tmp_path / "the source of the programs"
    source.mkdir()
    for path in (SOURCE / "build", *SOURCE.glob("*.c")):
        shutil.copy(path, source)
    built = tmp_path / "built"
    built.mkdir()
    subprocess.run(["sh", str(source / "build"), str(built)], check=True, capture_output=True)
    for name, arch, program in ALL:
        assert (built / f"{name}-{arch}.exe").read_bytes() == Path(program.source).read_bytes(), (name, arch)


@pytest.mark.parametrize("name, arch, program", ALL, ids=[f"{name}-{arch}" for name, arch, _ in ALL])
def test_a_program_asks_for_nothing_that_windows_2000_has_not(name: str, arch: str, program: Program) -> None:
    data = Path(program.source).read_bytes()
    (at,) = struct.unpack_from("<I", data, 0x3C)
    machine, _, stamp = struct.unpack_from("<HHI", data, at + 4)
    assert (machine, stamp) == (MACHINES[arch], 0)
    assert struct.unpack_from("<HH", data, at + 24 + 48) == SUBSYSTEMS[arch]
    found = _imports(program.source)
    assert found
    for library, functions in found.items():
        assert functions <= IN_WINDOWS_2000.get(library, set()), library


def _imports(path: str) -> dict[str, set[str]]:
    shown = subprocess.run(["objdump", "-p", path], capture_output=True, text=True, check=True).stdout
    found: dict[str, set[str]] = {}
    library = ""
    for line in shown.splitlines():
        if "DLL Name:" in line:
            library = line.split(":")[1].strip().lower()
        elif library and (entry := re.fullmatch(r"\t[0-9a-f]+\s+\d+\s+(\w+)", line)) is not None:
            found.setdefault(library, set()).add(entry.group(1))
    return found


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_can_be_read_in_one_go(name: str) -> None:
    assert len((SOURCE / f"{name}.c").read_text().splitlines()) <= LINES_AT_MOST[name]
