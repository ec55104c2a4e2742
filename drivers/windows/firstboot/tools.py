"""How a step reaches Windows' own programs: whole paths, so that no folder of PATH comes between. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from drivers.windows.facts import WindowsFacts

_BY_ARCHITECTURE = {"i386": "x86", "x86_64": "x64", "aarch64": "x86"}
_POWERSHELL = "WindowsPowerShell\\v1.0\\powershell.exe"
_POWERSHELL_CAN_SINCE = (6, 2)
_SERVICE_RUNS_SINCE = (5, 0)


def program(name: str) -> str:
    """The quoted path of a program of Windows, for scripts."""
    return f'"%SystemRoot%\\System32\\{name}"'


@dataclass(frozen=True, slots=True)
class GuestTools:
    """What the guest's Windows has for steps. ``program``: which build of the service program it runs.

    ``folder``: System32 as the service program sees it. Windows for ARM64 runs the x86 build and shows it another
    System32; its own is then called Sysnative, and what is started from there sees System32 again.
    """

    program: str
    folder: str
    version: tuple[int, int]
    build: int

    @property
    def is_emulated(self) -> bool:
        """Whether the programs are another processor's, which Windows lets run and does not let at its devices."""
        return self.folder.endswith("Sysnative")

    @property
    def has_network_cmdlets(self) -> bool:
        """Whether its PowerShell has Get-NetAdapter and the like: Windows 8 and Server 2012, and later."""
        return self.version >= _POWERSHELL_CAN_SINCE

    def command(self, name: str) -> str:
        """The quoted path of a program, for the service program's list."""
        return f'"{self.folder}\\{name}"'

    def batch_file(self, name: str) -> str:
        """The command line that runs a batch file beside the service program."""
        return f"{self.command('cmd.exe')} /d /c .\\{name}"

    def script(self, name: str) -> str:
        """The command line that runs a script of the Windows Script Host beside the service program."""
        return f'{self.command("cscript.exe")} //nologo "%P2V_FOLDER%\\{name}"'

    def powershell(self, name: str) -> str:
        """The command line that runs a PowerShell script beside the service program.

        It is read as text: a policy that only signed script files may run, which nobody can change for one script, says nothing of
        commands.
        """
        inner = f"& ([ScriptBlock]::Create([IO.File]::ReadAllText($env:P2V_FOLDER + '\\{name}')))"
        return f'{self.command(_POWERSHELL)} -NoProfile -NonInteractive -Command "{inner}"'


def tools_of(windows: WindowsFacts) -> GuestTools | None:
    """None where there is no first start: NT 4.0 has nothing of what steps need, and other processors no program."""
    build = _BY_ARCHITECTURE.get(windows.arch)
    if build is None or windows.version.number < _SERVICE_RUNS_SINCE:
        return None
    folder = "%SystemRoot%\\Sysnative" if windows.arch == "aarch64" else "%SystemRoot%\\System32"
    return GuestTools(build, folder, windows.version.number, windows.version.build)
