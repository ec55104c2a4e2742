/* Runs the steps of steps.txt once, as a service at a guest's first start, and removes itself (docs/first-boot.md).
 * What it is about to do stands in result.txt, on the disk, before it does it: a try counts when it begins, a restart when it is
 * asked for. So a kill, a crash or a power cut at any point uses up some of what is bounded; where nothing can be written nothing
 * is done. No C library; only functions that Windows 2000 has. SPDX-License-Identifier: Apache-2.0 */
#define _WIN32_WINNT 0x0500
#include <windows.h>
enum { STEPS = 32, NAME = 32, COMMAND = 1024, LIST_BYTES = 32768, RESULT_BYTES = 65536, TIME_CHARS = 21 };
enum { LOG_BYTES = 64 << 20, POLL_MS = 200, PAUSE_MS = 5000, DONE_RESTART = 3010, DONE_RESTARTING = 1641, RESTART_FIRST = 3017 };

/* The first is the head of the list: in it seconds are starts, and tries restarts. */
static struct step { char name[NAME]; DWORD seconds, tries; WCHAR command[COMMAND]; } steps[STEPS];
static DWORD step_count, result_bytes, restart_wanted;
static char result[RESULT_BYTES + 1];
static WCHAR program[MAX_PATH], *service;
static HANDLE result_file, log_file, stop_asked;
static SERVICE_STATUS_HANDLE status;
static SERVICE_STATUS state = { .dwServiceType = SERVICE_WIN32_OWN_PROCESS, .dwCurrentState = SERVICE_RUNNING,
                                .dwControlsAccepted = SERVICE_ACCEPT_STOP | SERVICE_ACCEPT_SHUTDOWN };

static HANDLE open_file(const WCHAR *name, DWORD access, DWORD how) { /* children inherit it */
    static SECURITY_ATTRIBUTES inherited = { sizeof inherited, NULL, TRUE };
    return CreateFileW(name, access, FILE_SHARE_READ | FILE_SHARE_WRITE, &inherited, how, FILE_ATTRIBUTE_NORMAL, NULL);
}

/* Puts a line with the time into log and result; FALSE unless it is on the disk. */
static BOOL note(const char *format, ...) {
    char line[512];
    DWORD length, written;
    SYSTEMTIME t;
    va_list args;
    GetSystemTime(&t);
    length = wsprintfA(line, "%04u-%02u-%02uT%02u:%02u:%02uZ ", t.wYear, t.wMonth, t.wDay, t.wHour, t.wMinute, t.wSecond);
    va_start(args, format);
    length += wvsprintfA(line + length, format, args);
    length += wsprintfA(line + length, "\r\n");
    WriteFile(log_file, line, length, &written, NULL);
    if (result_bytes + length > RESULT_BYTES || !WriteFile(result_file, line, length, &written, NULL)) return FALSE;
    if (written != length || !FlushFileBuffers(result_file)) return FALSE;
    lstrcpyA(result + result_bytes, line);
    result_bytes += length;
    return TRUE;
}

/* How many lines of the result begin so, behind their time. */
static DWORD count(const char *format, ...) {
    char text[128];
    const char *at = result, *end = result + result_bytes;
    DWORD found = 0;
    va_list args;
    va_start(args, format);
    wvsprintfA(text, format, args);
    while (at < end) {
        const char *wanted = text, *has = at + TIME_CHARS;
        while (*wanted && has < end && *has == *wanted) has++, wanted++;
        found += !*wanted;
        while (at < end && *at++ != '\n') {}
    }
    return found;
}

static BOOL number(const char **at, DWORD *value) {
    const char *first = *at;
    for (*value = 0; **at >= '0' && **at <= '9' && *at - first < 6; ++*at) *value = *value * 10 + (**at - '0');
    return *at > first && *(*at)++ == ' ';
}
/* Lines of NAME, SECONDS, TRIES and a command, in UTF-8. */
static BOOL read_steps(void) {
    static char list[LIST_BYTES + 1];
    char *next = list;
    DWORD length = 0, i;
    if (!ReadFile(open_file(L"steps.txt", GENERIC_READ, OPEN_EXISTING), list, LIST_BYTES, &length, NULL)) return FALSE;
    while (*next) {
        const char *at = next;
        struct step *s = &steps[step_count];
        while (*next && *next != '\r' && *next != '\n') next++;
        if (*next) *next++ = 0;
        if (!*at || *at == '#') continue;
        if (step_count++ == STEPS) return FALSE;
        for (i = 0; *at && *at != ' ' && i < NAME - 1; i++) s->name[i] = *at++;
        if (!i || *at++ != ' ' || !number(&at, &s->seconds) || !number(&at, &s->tries)
            || !*at || !MultiByteToWideChar(CP_UTF8, 0, at, -1, s->command, COMMAND)) return FALSE;
    }
    return length < LIST_BYTES && !lstrcmpA(steps[0].name, "p2v-firstboot-1");
}

/* Runs a step once, with all that it starts, and notes how it ended. ``code``: its own, or -1 where it did not end by itself. */
static BOOL run(struct step *s, DWORD *code) {
    static WCHAR command[8192];
    static STARTUPINFOW how = { .cb = sizeof how, .dwFlags = STARTF_USESTDHANDLES };
    static JOBOBJECT_EXTENDED_LIMIT_INFORMATION limits = { .BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE };
    JOBOBJECT_BASIC_ACCOUNTING_INFORMATION job_has;
    PROCESS_INFORMATION process;
    DWORD flags = CREATE_SUSPENDED | CREATE_NO_WINDOW, begun = GetTickCount();
    DWORD length = ExpandEnvironmentStringsW(s->command, command, 8192);
    BOOL stopped, late, ended, gone;
    HANDLE job = CreateJobObjectW(NULL, NULL);
    *code = (DWORD)-1;
    how.hStdInput = open_file(L"NUL", GENERIC_READ, OPEN_EXISTING);
    how.hStdOutput = how.hStdError = log_file;
    if (!length || length > 8192 || !CreateProcessW(NULL, command, NULL, NULL, TRUE, flags, NULL, NULL, &how, &process))
        return note("absent %s %u", s->name, GetLastError());
    SetInformationJobObject(job, JobObjectExtendedLimitInformation, &limits, sizeof limits);
    AssignProcessToJobObject(job, process.hProcess);
    ResumeThread(process.hThread);
    do { /* an uninstaller may copy itself, start the copy and end: it is done when that is */
        stopped = WaitForSingleObject(stop_asked, POLL_MS) == WAIT_OBJECT_0;
        late = (GetTickCount() - begun) / 1000 >= s->seconds || GetFileSize(log_file, NULL) > LOG_BYTES;
        ended = WaitForSingleObject(process.hProcess, 0) == WAIT_OBJECT_0;
        gone = !QueryInformationJobObject(job, JobObjectBasicAccountingInformation, &job_has, sizeof job_has, NULL)
            || !job_has.ActiveProcesses;
    } while (!(ended && gone) && !stopped && !late);
    if (ended) GetExitCodeProcess(process.hProcess, code);
    TerminateJobObject(job, 1);
    TerminateProcess(process.hProcess, 1); /* where it could not be put into the job */
    return ended ? note("exit %s %u", s->name, *code) : note(stopped ? "stopped %s" : "limit %s", s->name);
}

/* FALSE where no restart is left. */
static BOOL restart(const char *why) {
    static TOKEN_PRIVILEGES wanted = { .PrivilegeCount = 1, .Privileges[0].Attributes = SE_PRIVILEGE_ENABLED };
    HANDLE token = NULL;
    if (count("restart ") >= steps[0].tries || !note("restart %s", why)) return FALSE;
    LookupPrivilegeValueW(NULL, L"SeShutdownPrivilege", &wanted.Privileges[0].Luid);
    OpenProcessToken(GetCurrentProcess(), TOKEN_ADJUST_PRIVILEGES, &token);
    AdjustTokenPrivileges(token, FALSE, &wanted, 0, NULL, NULL);
    if (!InitiateSystemShutdownW(NULL, NULL, 5, TRUE, TRUE)) note("no-restart %u", GetLastError());
    return TRUE;
}

/* Out of the running control set by the service manager, and out of the others, where nobody ever started it. */
static void remove_service(void) {
    WCHAR key[128];
    HKEY select = NULL;
    DWORD now = 0, size = sizeof now;
    SC_HANDLE own = OpenServiceW(OpenSCManagerW(NULL, NULL, SC_MANAGER_CONNECT), service, DELETE);
    if (!DeleteService(own)) note("not-removed %u", GetLastError());
    RegOpenKeyExW(HKEY_LOCAL_MACHINE, L"SYSTEM\\Select", 0, KEY_READ, &select);
    RegQueryValueExW(select, L"Current", NULL, NULL, (BYTE *)&now, &size);
    for (DWORD n = 1; now && n < 100; n++)
        if (n != now && wsprintfW(key, L"SYSTEM\\ControlSet%03u\\Services\\%.60s", n, service)) RegDeleteKeyW(HKEY_LOCAL_MACHINE, key);
    MoveFileExW(program, NULL, MOVEFILE_DELAY_UNTIL_REBOOT);
}

/* TRUE once every step is done or given up; FALSE where the service has to end before. */
static BOOL run_steps(void) {
    DWORD code;
    for (struct step *s = &steps[1]; s < steps + step_count; s++)
        while (!count("exit %s 0\r", s->name) && !count("exit %s 3010\r", s->name) && !count("exit %s 1641\r", s->name)) {
            DWORD tried = count("try %s ", s->name);
            if (WaitForSingleObject(stop_asked, tried && tried < s->tries ? PAUSE_MS : 0) == WAIT_OBJECT_0) return FALSE;
            if (tried >= s->tries && !count("failed %s\r", s->name) && !note("failed %s", s->name)) return FALSE;
            if (tried >= s->tries) break;
            if (!note("try %s %u", s->name, tried + 1) || !run(s, &code)) return FALSE;
            restart_wanted |= code == DONE_RESTART || code == DONE_RESTARTING;
            if (code == RESTART_FIRST && tried + 1 < s->tries && restart(s->name)) return FALSE;
        }
    return TRUE;
}

static void work(void) {
    log_file = open_file(L"log.txt", FILE_APPEND_DATA | SYNCHRONIZE | FILE_READ_ATTRIBUTES, OPEN_ALWAYS);
    result_file = open_file(L"result.txt", GENERIC_READ | GENERIC_WRITE, OPEN_ALWAYS);
    if (!ReadFile(result_file, result, RESULT_BYTES, &result_bytes, NULL)
        || (result_bytes && result[result_bytes - 1] != '\n' && !note("torn"))) return; /* a kill cut the line off */
    if (!count("finished ")) {
        if (!note("start %u", count("start ") + 1)) return;
        if (!read_steps() || count("start ") > steps[0].seconds) note("given-up");
        else if (!run_steps()) return;
        if (!note("finished %u", count("failed ") + count("given-up"))) return;
    }
    remove_service();
    if (restart_wanted) restart("finished");
}

static void WINAPI handle(DWORD control) {
    if (control == SERVICE_CONTROL_STOP || control == SERVICE_CONTROL_SHUTDOWN) SetEvent(stop_asked);
    SetServiceStatus(status, &state);
}

static void WINAPI serve(DWORD argc, WCHAR **argv) {
    service = argc ? argv[0] : L"p2v-firstboot";
    status = RegisterServiceCtrlHandlerW(service, handle);
    handle(SERVICE_CONTROL_INTERROGATE);
    work();
    state.dwCurrentState = SERVICE_STOPPED;
    SetServiceStatus(status, &state);
}

void mainCRTStartup(void) {
    static const SERVICE_TABLE_ENTRYW table[] = { { (WCHAR *)L"", serve }, { 0 } };
    DWORD at = GetModuleFileNameW(NULL, program, MAX_PATH);
    while (at && program[at] != '\\') at--;
    program[at] = 0;
    SetCurrentDirectoryW(program);
    SetEnvironmentVariableW(L"P2V_FOLDER", program);
    program[at] = '\\';
    stop_asked = CreateEventW(NULL, TRUE, FALSE, NULL);
    ExitProcess(!StartServiceCtrlDispatcherW(table));
}
