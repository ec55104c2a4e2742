/* Removes devices that are not there any more: pnpremove INSTANCE-ID...
 * For Windows before 10 2004, which has no pnputil that can (docs/first-boot.md). One that is present, or that nothing tells of, is left
 * alone. Ends with 0, with 3010 where a restart has to follow, or with the first error's number. No C library; only functions that
 * Windows 2000 has. SPDX-License-Identifier: Apache-2.0 */
#define _WIN32_WINNT 0x0500
#include <windows.h>
#include <shellapi.h>
#include <setupapi.h>
#include <cfgmgr32.h>

static void say(const WCHAR *id, const char *what)
{
    char line[1025]; /* as much as wsprintf ever writes */
    DWORD written;
    WriteFile(GetStdHandle(STD_OUTPUT_HANDLE), line, wsprintfA(line, "%.400S: %s\r\n", id, what), &written, NULL);
}

static BOOL take_out(HDEVINFO set, SP_DEVINFO_DATA *device, BOOL *restart)
{
    static SP_DEVINSTALL_PARAMS_W after = { .cbSize = sizeof after };
    /* without parameters: out of the whole system, and not of one hardware profile */
    SetLastError(ERROR_GEN_FAILURE);
    if (!SetupDiCallClassInstaller(DIF_REMOVE, set, device)) return FALSE;
    if (SetupDiGetDeviceInstallParamsW(set, device, &after)) *restart |= !!(after.Flags & (DI_NEEDRESTART | DI_NEEDREBOOT));
    return TRUE;
}

static DWORD remove_absent(WCHAR *id, BOOL *restart)
{
    SP_DEVINFO_DATA device = { .cbSize = sizeof device };
    DEVINST node;
    HDEVINFO set;
    DWORD error = 0;
    CONFIGRET found = CM_Locate_DevNodeW(&node, id, CM_LOCATE_DEVNODE_NORMAL);
    if (found == CR_SUCCESS) return say(id, "present, left alone"), 0;
    if (found != CR_NO_SUCH_DEVNODE) return say(id, "not told whether it is present, left alone"), ERROR_INVALID_STATE;
    set = SetupDiCreateDeviceInfoList(NULL, NULL);
    if (!SetupDiOpenDeviceInfoW(set, id, NULL, 0, &device)) {
        error = GetLastError();
        if (error == ERROR_NO_SUCH_DEVINST) error = 0; /* nothing of it is left */
    } else if (!take_out(set, &device, restart)) error = GetLastError();
    say(id, error ? "not removed" : "removed");
    SetupDiDestroyDeviceInfoList(set);
    return error;
}

void mainCRTStartup(void)
{
    int words, n;
    WCHAR **word = CommandLineToArgvW(GetCommandLineW(), &words);
    DWORD error = 0, one;
    BOOL restart = FALSE;
    if (!word || words < 2) ExitProcess(ERROR_INVALID_PARAMETER);
    for (n = 1; n < words; n++)
        if ((one = remove_absent(word[n], &restart)) && !error) error = one;
    ExitProcess(error ? error : restart ? ERROR_SUCCESS_REBOOT_REQUIRED : 0);
}
