"""The project's own chain: actions, permissions, the lock, line ends."""

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
# scripts, and text whose hash is kept
TEXT = [
    "Makefile",
    ".ci/run",
    "scripts/stage",
    "scripts/lock.py",
    "dipa/cli.py",
    ".github/workflows/test.yml",
    "constraints.txt",
]
TEXT += ["x.sh", "x.yaml", "x.json", "x.jsonl", "x.ipynb"]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """What a command prints on both outputs; it has to succeed."""
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | environment, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


# --- actions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit_with_their_version(workflow):
    uses = re.findall(r"^.*\buses:.*$", workflow.read_text(encoding="utf-8"), re.MULTILINE)
    assert uses
    for line in uses:
        assert re.search(r"uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


def test_one_action_has_one_commit():
    pins = {
        pin
        for workflow in WORKFLOWS
        for pin in re.findall(r"uses: (\S+)@(\S+) # (\S+)", workflow.read_text())
    }
    assert len(pins) == len({action for action, _, _ in pins})


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_jobs_have_the_permissions_they_need(workflow):
    content = yaml.safe_load(workflow.read_text(encoding="utf-8"))
    assert content["permissions"] == {}, "what a job does not name it does not have"
    for job in content["jobs"].values():
        steps = job["steps"]
        deploys = any("actions/deploy-pages@" in step.get("uses", "") for step in steps)
        assert job["permissions"] == (
            {"pages": "write", "id-token": "write"} if deploys else {"contents": "read"}
        )
        checkouts = [step for step in steps if "actions/checkout@" in step.get("uses", "")]
        assert len(checkouts) == (0 if deploys else 1)
        assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_updates_are_proposed_for_actions_and_packages():
    updates = yaml.safe_load(read(".github/dependabot.yml"))["updates"]
    assert {update["package-ecosystem"] for update in updates} == {"github-actions", "pip"}
    assert all((ROOT / update["directory"].lstrip("/")).is_dir() for update in updates)
    assert all(update["cooldown"]["default-days"] >= 7 for update in updates), (
        "not what came out yesterday"
    )


def test_hooks_from_elsewhere_are_pinned_by_commit():
    revisions = re.findall(r"^    rev: (.*)$", read(".pre-commit-config.yaml"), re.MULTILINE)
    assert revisions and all(
        re.fullmatch(r"[0-9a-f]{40} # frozen: v\d+\.\d+\.\d+", rev) for rev in revisions
    )


# --- the lock -------------------------------------------------------------------------------------


def pins(name: str) -> list[Requirement]:
    """The requirements of a file, without comments, options and hashes."""
    lines = (re.sub(r" *(#.*|\\)$", "", line).strip() for line in read(name).splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("-")]


def exact(name: str) -> dict[str, str]:
    """The version of each package that a file fixes."""
    return {
        canonicalize_name(pin.name): str(pin.specifier)
        for pin in pins(name)
        if str(pin.specifier).startswith("==")
    }


def test_both_locks_hold_the_same_versions_and_those_of_the_requirements():
    lock = exact("constraints.txt")
    assert len(lock) == len(pins("constraints.txt"))
    assert exact("requirements-locked.txt") == lock
    assert exact("requirements.txt").items() <= lock.items()


def test_every_locked_package_has_hashes_and_nothing_is_built():
    body = read("requirements-locked.txt").split("--only-binary :all:\n")[1]
    blocks = re.split(r"\n(?=\S)", body.strip())
    assert len(blocks) == len(exact("constraints.txt"))
    for block in blocks:
        assert re.fullmatch(r"\S+==\S+( \\\n    --hash=sha256:[0-9a-f]{64})+", block), block


def test_make_install_asks_for_hashes_unless_another_index_may_be_named():
    on_platform = re.search(
        r"^ON_LOCKED_PLATFORM := (.*?[^\\])\n", read("Makefile"), re.MULTILINE | re.DOTALL
    )[1]
    line = on_platform.replace("\\\n\t", "")
    fake = (
        "import platform, sys; sys.version_info = {}; platform.system = lambda: {!r}; "
        "platform.machine = lambda: {!r}; "
    )
    cases = {
        ((3, 11, 7), "Linux", "x86_64"): 0,
        ((3, 11, 4), "Linux", "x86_64"): 1,
        ((3, 12, 0), "Linux", "x86_64"): 1,
        ((3, 11, 7), "Darwin", "x86_64"): 1,
        ((3, 11, 7), "Linux", "aarch64"): 1,
    }
    for case, status in cases.items():
        assert (
            subprocess.run([sys.executable, "-c", fake.format(*case) + line]).returncode == status
        ), case
    plain = run("make", "-n", "-B", "install", cwd=ROOT)
    other = run("make", "-n", "-B", "install", "PIP_ARGS=--index-url x", cwd=ROOT)
    assert "if false;" in other and "if false;" not in plain
    for text in (plain, other):
        assert (
            'then packages="--require-hashes -r requirements-locked.txt"; else '
            'packages="-r requirements.txt"; fi' in text
        )


def test_pins_without_a_marker_can_be_installed_on_every_supported_python():
    oldest = re.search(r'^requires-python = ">=(.*)"$', read("pyproject.toml"), re.MULTILINE)[1]
    for pin in pins("requirements.txt"):
        if pin.marker is None:
            installed = distribution(pin.name)
            assert pin.specifier.contains(installed.version), (
                f"{pin}: {installed.version} is installed"
            )
            assert SpecifierSet(installed.metadata["Requires-Python"]).contains(f"{oldest}.0"), (
                f"{pin}: not for {oldest}"
            )


# --- line ends ------------------------------------------------------------------------------------


@pytest.fixture
def windows(tmp_path) -> Path:
    """A checkout by a git that is told to write CRLF, of the files that a build starts with."""
    origin, checkout = tmp_path / "origin", tmp_path / "check out"
    kept = [".gitattributes", "Makefile", "constraints.txt", ".ci", ".github", "scripts"]
    for name in kept:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        (origin / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, origin / name)
    for script in (".ci/run", "scripts/stage"):
        (origin / script).chmod(0o755)
    author = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false")
    run("git", "init", "-q", cwd=origin)
    run("git", "add", "-A", cwd=origin)
    run("git", *author, "commit", "-q", "-m", "x", cwd=origin)
    run("git", "clone", "-q", "-c", "core.autocrlf=true", origin, checkout, cwd=tmp_path)
    return checkout


def test_scripts_and_text_have_lf_whatever_git_is_told(windows):
    attributes = run("git", "check-attr", "eol", "--", *TEXT, cwd=windows).splitlines()
    assert attributes == [f"{name}: eol: lf" for name in TEXT]
    binary = run(
        "git", "check-attr", "text", "--", "x.npz", "x.safetensors", "x.png", cwd=windows
    ).splitlines()
    assert all(line.endswith("text: unset") for line in binary)
    texts = [
        path
        for path in windows.rglob("*")
        if path.is_file() and ".git" not in path.relative_to(windows).parts
    ]
    assert len(texts) > 10 and not any(b"\r" in path.read_bytes() for path in texts)


def test_scripts_run_from_a_checkout_with_crlf(windows, tmp_path):
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "make").write_text('#!/bin/sh\necho "made $*"\n')
    (programs / "make").chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    assert "made test" in run(windows / ".ci" / "run", cwd=tmp_path, PATH=path)
    staged = run(windows / "scripts" / "stage", "a title", "echo", "said", cwd=tmp_path)
    assert re.search(r"==> a title\nsaid\n==> a title: done", staged)
    assert "make test" in run("make", "help", cwd=windows)
