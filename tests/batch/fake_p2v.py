"""A stand-in for p2v that speaks its JSON events and exit codes; what it does stands in the first source file, as JSON.

    copies     bytes that it says it copies, in ten pieces
    seconds    how long the copy takes
    first      what it does the first time, then: {"error": {...}} | {"signal": N} | {"exit": N} | "hang" | "deaf"
    always     what it does each time
    says       events that it says before it copies, each with its fields
    boots      false: exit code 3
    until      limit that it waits for in the middle of its copy, as soon as `after` is a file

Run as ``python -ISE fake_p2v.py convert ...``: nothing but the standard library, for it is started hundreds of times.
"""

import json
import os
import select
import signal
import sys
import time
from typing import Any


def say(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, "at": 0.0, **fields}), file=sys.stderr, flush=True)


def act(deed: object) -> None:
    if deed == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if deed in ("hang", "deaf"):
        say("phase-started", phase="waiting", title="Waiting", total_bytes=None)
        time.sleep(3600)
    if isinstance(deed, dict) and "signal" in deed:
        os.kill(os.getpid(), deed["signal"])
        time.sleep(60)
    if isinstance(deed, dict) and "error" in deed:
        say("error", **deed["error"])
        sys.exit(deed["error"]["exit_code"])
    if isinstance(deed, dict) and "exit" in deed:
        print("p2v: something that is no event", file=sys.stderr)
        sys.exit(deed["exit"])


def heed(until: int | None, after: str) -> list[int]:
    limits: list[int] = []
    while until is not None and (limits[-1:] != [until] or (after and not os.path.exists(after))):
        if select.select([0], [], [], 0.05)[0]:
            for line in os.read(0, 4096).splitlines():
                limits.append(json.loads(line)["limit"])
                say("limit", limit=limits[-1])
    return limits


def copy(wish: dict[str, Any]) -> list[int]:
    total, seconds = int(str(wish.get("copies", 1000))), float(str(wish.get("seconds", 0)))
    say("phase-started", phase="copy", title="Copying", total_bytes=total)
    limits = heed(wish.get("until"), wish.get("after", ""))
    for piece in range(10):
        time.sleep(seconds / 10)
        say("bytes-done", phase="copy", count=total * (piece + 1) // 10 - total * piece // 10)
    say("phase-finished", phase="copy", seconds=seconds, failed=False)
    return limits


def convert(words: list[str]) -> int:
    options = dict(word[2:].partition("=")[::2] for word in words if word.startswith("--"))
    source = next(word for word in words if not word.startswith("--"))
    with open(source, encoding="utf-8") as file:
        wish = json.load(file)
    folder, name = options["output"], options["name"]
    os.makedirs(folder, exist_ok=True)
    runs = os.path.join(folder, f"{name}.runs")
    before = os.path.getsize(runs) if os.path.exists(runs) else 0
    with open(runs, "a", encoding="ascii") as file:
        file.write("r")
    act(wish.get("always"))
    if not before:
        act(wish.get("first"))
    for each in wish.get("says", []):
        say(**each)
    limits = copy(wish)
    result = os.path.join(folder, f"{name}.made")
    if os.path.exists(result):
        say("error", code="target-exists", exit_code=73, message=f"{result}: exists already", hint="")
        return 73
    with open(result, "x", encoding="ascii") as file:
        json.dump({name: options.get(name) for name in ("fence", "limit", "share")} | {"told": limits}, file)
    return 3 if wish.get("boots") is False and "verify" in options else 0


def main(words: list[str]) -> int:
    if words[0] == "convert":
        return convert(words[1:])
    if words[0] == "inspect":
        print(json.dumps({"facts": {"os": {"kind": "linux", "id": "debian", "hostname": "secret"}}, "sources": []}))
    return 0


sys.exit(main(sys.argv[1:]))
