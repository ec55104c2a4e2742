/* Installs a driver on the devices that are there, and for those that come later: pnpinstall INF DEVICE-ID...
 * For Windows 2000, XP and Server 2003, which have no pnputil (docs/first-boot.md). Ends with 0, with 3010 where a restart has to follow,
 * or with the first error's number. No C library; only functions that Windows 2000 has. SPDX-License-Identifier: Apache-2.0 */
#define _WIN32_WINNT 0x0500
#include <windows.h>
#include <shellapi.h>
#include <setupapi.h>
#include <newdev.h>

static BOOL install(const WCHAR *id, const WCHAR *inf, BOOL *restart)
{
    if (UpdateDriverForPlugAndPlayDevicesW(NULL, id, inf, INSTALLFLAG_NONINTERACTIVE, restart)) return TRUE;
    /* Windows 2000 knows no such flag: there it may ask, at a screen that nobody sees, until its time is up */
    return GetLastError() == ERROR_INVALID_FLAGS && UpdateDriverForPlugAndPlayDevicesW(NULL, id, inf, 0, restart);
}

void mainCRTStartup(void)
{
    static WCHAR folder[MAX_PATH];
    int words, n;
    WCHAR **word = CommandLineToArgvW(GetCommandLineW(), &words);
    DWORD error = 0, at;
    BOOL restart = FALSE, wanted;
    if (!word || words < 3) ExitProcess(ERROR_INVALID_PARAMETER);
    lstrcpynW(folder, word[1], MAX_PATH);
    for (at = lstrlenW(folder); at && folder[at] != '\\'; at--) folder[at] = 0;
    if (!SetupCopyOEMInfW(word[1], folder, SPOST_PATH, 0, NULL, 0, NULL, NULL)) error = GetLastError();
    for (n = 2; n < words; n++) {
        wanted = FALSE;
        if (!install(word[n], word[1], &wanted)) {
            /* no such device is there, or it has a driver that is as good */
            DWORD why = GetLastError();
            if (why != ERROR_NO_SUCH_DEVINST && why != ERROR_NO_MORE_ITEMS && !error) error = why;
        }
        restart |= wanted;
    }
    ExitProcess(error ? error : restart ? ERROR_SUCCESS_REBOOT_REQUIRED : 0);
}
