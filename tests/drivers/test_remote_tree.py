"""A guest's tree read by a confined child through the process that can reach it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

from drivers.confinement import Limits, confined_over_tree
from drivers.remote_tree import BadQuestion, RemoteTree, answer_one
from drivers.tree import FileType, GuestTree
from p2v.core.errors import ReaderCrashed
from p2v.core.units import MIB
from tests.drivers.memory_tree import InMemoryTree, Link

BIG = os.urandom(3 * MIB + 17)


@pytest.fixture
def tree() -> InMemoryTree:
    files = {"/etc/hostname": b"here\n", "/boot/initrd": BIG, "/etc/odd\udcff": b"x", "/usr/bin/sh": b""}
    return InMemoryTree({**files, "/bin": Link("usr/bin")})


def test_every_question_is_answered_as_the_tree_itself_would(tree: InMemoryTree) -> None:
    def read(remote: GuestTree) -> Any:
        kind = remote.lstat("/bin").type
        return {
            "whole": remote.read("/etc/hostname").decode(),
            "range": [len(remote.read_range("/boot/initrd", 10 * MIB, 5)), sum(remote.read_range("/boot/initrd", 99, 77))],
            "names": remote.list("/etc"),
            "exists": [remote.exists("/etc/hostname"), remote.exists("/nowhere")],
            "link": [kind is FileType.SYMLINK, remote.readlink("/bin")],
            "size": remote.lstat("/boot/initrd").size,
        }

    assert confined_over_tree(read, tree) == {
        "whole": "here\n",
        "range": [len(BIG) - 5, sum(BIG[77:176])],
        "names": list(tree.list("/etc")),
        "exists": [True, False],
        "link": [True, "usr/bin"],
        "size": len(BIG),
    }


def test_what_is_not_there_and_what_is_too_large_are_the_trees_own_errors(tree: InMemoryTree) -> None:
    def read(remote: GuestTree) -> Any:
        said = []
        for function in (
            lambda: remote.read("/nowhere"),
            lambda: remote.lstat("/nowhere"),
            lambda: remote.readlink("/etc/hostname"),
            lambda: remote.read("/boot/initrd", 100),
        ):
            try:
                function()
            except (FileNotFoundError, ValueError) as error:
                said.append(type(error).__name__)
        return said

    assert confined_over_tree(read, tree) == ["FileNotFoundError", "FileNotFoundError", "FileNotFoundError", "ValueError"]


def test_the_child_cannot_read_the_host_though_the_tree_can_be_asked(tree: InMemoryTree) -> None:
    def read(remote: GuestTree) -> Any:
        try:
            os.open("/etc/hostname", os.O_RDONLY)
        except OSError:
            return remote.read("/etc/hostname").decode()
        return "read the host's"

    assert confined_over_tree(read, tree) == "here\n"


def test_a_tree_that_fails_as_a_whole_ends_the_child(tree: InMemoryTree) -> None:
    class Gone(InMemoryTree):
        def exists(self, path: str) -> bool:
            raise RuntimeError("the appliance ended")

    with pytest.raises(RuntimeError, match="appliance ended"):
        confined_over_tree(lambda remote: remote.exists("/"), Gone({}))


@pytest.mark.parametrize(
    "question",
    [
        b"nonsense\n",
        b"[]\n",
        b'["write", "/etc/hostname", "x"]\n',
        b'["__class__", "/"]\n',
        b'["read", "/x", -1]\n',
        b'["read", "/x", 1e99]\n',
        b'["read", 7, 8]\n',
        b'["read_range", "/x", 999999999999, 0]\n',
        b'["read_range", "/x", 1, -5]\n',
        b'["exists", "/"]\n["exists", "/"]\n',
        b"[" * 20_000 + b"\n",
        b'["exists", "' + b"x" * 70_000 + b'"]\n',
    ],
)
def test_a_child_that_was_taken_over_gets_no_further(question: bytes, tree: InMemoryTree) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(question)
        with pytest.raises(BadQuestion):
            answer_one(ours.fileno(), tree)

    def misbehave(remote: GuestTree) -> Any:
        assert isinstance(remote, RemoteTree)
        os.write(remote.descriptor, question)
        return remote.exists("/")

    with pytest.raises(ReaderCrashed):
        confined_over_tree(misbehave, tree)


def _hang(remote: GuestTree) -> Any:
    while True:
        remote.exists("/")


def _half_a_question(remote: GuestTree) -> Any:
    assert isinstance(remote, RemoteTree)
    os.write(remote.descriptor, b'["exis')
    os.read(remote.descriptor, 1)


@pytest.mark.parametrize("function", [_hang, _half_a_question])
def test_a_child_that_never_ends_is_ended(
    function: Callable[[GuestTree], Any], tree: InMemoryTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drivers.remote_tree._QUESTION_SECONDS", 0.5)
    with pytest.raises(ReaderCrashed):
        confined_over_tree(function, tree, limits=Limits(seconds=1.0))


def test_the_end_of_the_questions_is_told(tree: InMemoryTree) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        theirs.close()
        assert not answer_one(ours.fileno(), tree)
