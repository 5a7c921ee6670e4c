"""The package imports and starts where there is no POSIX: nothing that Windows lacks is asked
for, and no process is forked.
"""

import ast
from pathlib import Path

import pytest

import dipa

ROOT = Path(dipa.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
MODULES = {
    "curses",
    "fcntl",
    "grp",
    "posix",
    "pty",
    "pwd",
    "readline",
    "resource",
    "syslog",
    "termios",
    "tty",
}
NAMES = {
    "os": {
        "chown",
        "fork",
        "forkpty",
        "getegid",
        "geteuid",
        "getgid",
        "getloadavg",
        "getpgid",
        "getuid",
        "killpg",
        "lchown",
    }
    | {
        "mkfifo",
        "mknod",
        "nice",
        "posix_spawn",
        "sched_getaffinity",
        "sched_setaffinity",
        "setsid",
        "setuid",
        "statvfs",
    }
    | {
        "sysconf",
        "uname",
        "wait",
        "waitid",
        "O_CLOEXEC",
        "O_DIRECTORY",
        "O_NOFOLLOW",
        "O_NONBLOCK",
        "WNOHANG",
    },
    "signal": {
        "SIGALRM",
        "SIGCHLD",
        "SIGHUP",
        "SIGKILL",
        "SIGPIPE",
        "SIGQUIT",
        "SIGSTOP",
        "SIGUSR1",
        "SIGUSR2",
    }
    | {"alarm", "pause", "pthread_sigmask", "setitimer", "sigwait"},
}
# the method of multiprocessing that Windows has not, and that threads do not survive
START = "fork"


def guarded(tree: ast.Module) -> set[ast.AST]:
    """What stands in a ``try`` that expects an ImportError: a system without the module goes on
    without it.
    """
    tries = [node for node in ast.walk(tree) if isinstance(node, ast.Try)]
    expecting = [
        node
        for node in tries
        if any("ImportError" in ast.dump(handler) for handler in node.handlers)
    ]
    return {inner for node in expecting for part in node.body for inner in ast.walk(part)}


def posix_only(source: str) -> list[str]:
    """What ``source`` asks for that only POSIX has: modules, names of ``os`` and ``signal``,
    forks of multiprocessing.
    """
    tree, found = ast.parse(source), []
    safe = guarded(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [
                alias.name for alias in node.names if alias.name in MODULES and node not in safe
            ]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found += [node.module] if node.module in MODULES and node not in safe else []
            found += [
                f"{node.module}.{alias.name}"
                for alias in node.names
                if alias.name in NAMES.get(node.module, ())
            ]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found += (
                [f"{node.value.id}.{node.attr}"]
                if node.attr in NAMES.get(node.value.id, ())
                else []
            )
        elif isinstance(node, ast.Constant) and node.value == START:
            found.append(repr(START))
    return found


def test_the_reader_of_what_only_posix_has():
    assert posix_only("import os, fcntl\nfrom pwd import getpwuid\nfrom os import fork\n") == [
        "fcntl",
        "pwd",
        "os.fork",
    ]
    assert posix_only("def f():\n    os.kill(1, signal.SIGKILL)\n    get_context('fork')\n") == [
        "signal.SIGKILL",
        "'fork'",
    ]
    assert posix_only("try:\n    import resource\nexcept ImportError:\n    resource = None\n") == []
    assert posix_only("try:\n    import resource\nexcept OSError:\n    import pwd\n") == [
        "resource",
        "pwd",
    ]
    assert posix_only("def f():\n    import resource\n") == ["resource"]
    assert posix_only("from .posix import x\nos.replace(a, b)\nsignal.SIGTERM\n") == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_needs_posix(path):
    assert posix_only(path.read_text(encoding="utf-8")) == []
