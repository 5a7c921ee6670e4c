"""Run folders: verified when read, refused before any work where they are not whole, one writer
each, time added up.
"""

import contextlib
import dataclasses
import errno
import hashlib
import importlib
import json
import os
import random
import shutil
import tempfile
import threading
import time
import warnings
from pathlib import Path

import pytest
import yaml
from batteries import refuses
from filelock import FileLock
from tiny_runs import tiny

from dipa import cli, experiments, files
from dipa.checks import InputError
from dipa.experiments import manifest, working, writing
from dipa.experiments.config import Config
from dipa.experiments.problem import Problem
from dipa.experiments.working import Clock
from dipa.operators.measure import measure

# the module: its name in the package is the function
student = importlib.import_module("dipa.training.student")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Three runs that the tests copy: trained with two seeds, and a baseline."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIPA_CACHE", str(tmp_path_factory.mktemp("cache")))
        root = tmp_path_factory.mktemp("recorded")
        configs = {"trained": tiny(), "other seed": tiny(seed=1), "baseline": tiny("baseline")}
        return {
            name: experiments.run(config, root, progress=False).path
            for name, config in configs.items()
        }


@pytest.fixture
def folder(recorded, tmp_path) -> Path:
    """A copy of the trained run under its own name."""
    return shutil.copytree(recorded["trained"], tmp_path / "runs" / recorded["trained"].name)


def unsealed(folder: Path) -> Path:
    """The run as a version before 0.3.0 would have written it: without list, checksum and
    version.
    """
    made = json.loads((folder / "manifest.json").read_text())
    del made["files"], made["checksum"], made["versions"]["dipa"]
    (folder / "manifest.json").write_text(json.dumps(made))
    return folder


def no_work(monkeypatch):
    """From here on a run that begins to work fails the test."""
    monkeypatch.setattr(Problem, "build", lambda config: pytest.fail("the run began to work"))


@contextlib.contextmanager
def without_rights():
    """As a user whom permissions bind, where the tests run as root; in a folder that this user
    can reach.
    """
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name), _as_nobody if os.geteuid() == 0 else contextlib.nullcontext


@contextlib.contextmanager
def _as_nobody():
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


# --- what the manifest holds ----------------------------------------------------------------------


def test_the_manifest_lists_the_hash_of_every_file_and_of_itself(recorded):
    for folder in recorded.values():
        made = json.loads((folder / "manifest.json").read_text())
        others = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()
        }
        del others["manifest.json"]
        assert made["files"] == others
        checksum = made.pop("checksum")
        assert checksum == hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()


def test_the_manifest_says_version_precision_cache_and_attempts(recorded):
    trained, baseline = (
        experiments.Run(recorded[name]).manifest for name in ("trained", "baseline")
    )
    import dipa

    assert trained["versions"]["dipa"] == dipa.__version__
    assert trained["precision"] == {
        "training": dipa.device.precision("auto", dipa.device.choose("cpu")),
        "evaluation": "float32",
    }
    assert baseline["precision"] == {"training": None, "evaluation": "float32"}
    runs = [experiments.Run(recorded[name]) for name in ("trained", "baseline")]
    assert [run.precision for run in runs] == [trained["precision"]["training"], "float32"]
    assert [run.place for run in runs] == [
        f"{run.manifest['device']}, {run.precision}" for run in runs
    ]
    assert isinstance(trained["cached"], dict) and trained["attempts"] == 1


@pytest.mark.parametrize("precision", ["bf16", "float32"])
def test_the_precision_is_that_of_the_denoiser(tmp_path, precision):
    made = experiments.run(
        tiny("l-dipa-supervised", f"solver.precision={precision}"), tmp_path, progress=False
    ).manifest
    assert made["precision"]["training"] == precision


def test_an_end_to_end_network_trains_in_its_own_precision(tmp_path):
    small = ("network.features=4", "network.blocks=1", "solver.precision=bf16")
    made = experiments.run(tiny("e2e-single-pixel", *small), tmp_path, progress=False).manifest
    assert made["precision"] == {"training": "float32", "evaluation": "float32"}


def test_the_manifest_says_what_came_from_the_cache(tmp_path):
    """[read, all] batches of each role; of the teacher's targets, images."""
    first, second = (
        experiments.run(tiny("l-dipa-imitation"), tmp_path / name, progress=False) for name in "ab"
    )
    count = first.manifest["cached"]["targets"][1]
    assert first.manifest["cached"] == {
        "baseline": [0, 1],
        "student": [0, 1],
        "teacher": [0, 1],
        "targets": [0, count],
    }
    assert second.manifest["cached"] == {
        "baseline": [1, 1],
        "student": [0, 1],
        "teacher": [1, 1],
        "targets": [count, count],
    }


# --- damage ---------------------------------------------------------------------------------------


def change(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))


def digit(path: Path) -> None:
    """The first digit of the first PSNR becomes another one."""
    at = path.read_bytes().index(b'"psnr": ') + len(b'"psnr": ')
    content = bytearray(path.read_bytes())
    content[at] = ord("9") if content[at] != ord("9") else ord("8")
    path.write_bytes(content)


def in_its_place(path: Path) -> None:
    path.unlink()
    path.mkdir()


def circle(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def seed(path: Path) -> None:
    """The preconditioner of the same method, trained with another seed."""
    (other,) = path.parents[2].glob("*/l-dipa-distilled-smoke-s1-*/preconditioner.safetensors")
    shutil.copyfile(other, path)


def without_list(path: Path) -> None:
    made = json.loads(path.read_text())
    del made["files"], made["checksum"]
    path.write_text(json.dumps(made))


DAMAGE = {
    "a digit of a metric": ("metrics.json", digit),
    "metrics of another kind": ("metrics.json", lambda path: path.write_text("[]")),
    "metrics cut": ("metrics.json", lambda path: path.write_text('{"student": ')),
    "metrics missing": ("metrics.json", Path.unlink),
    "metrics as a folder": ("metrics.json", in_its_place),
    "history cut at a line": (
        "history.jsonl",
        lambda path: path.write_text(path.read_text().splitlines()[0] + "\n"),
    ),
    "history cut in a line": (
        "history.jsonl",
        lambda path: path.write_bytes(path.read_bytes()[:-9]),
    ),
    "history as a link in a circle": ("history.jsonl", circle),
    "broken YAML": ("config.yaml", lambda path: path.write_text("preset: [")),
    "another configuration": ("config.yaml", lambda path: change(path, b"seed: 0", b"seed: 7")),
    "no UTF-8": ("config.yaml", lambda path: path.write_bytes(b"\xff\xfe")),
    "an empty configuration": ("config.yaml", lambda path: path.write_text("")),
    "another seed's preconditioner": ("preconditioner.safetensors", seed),
    "no preconditioner": ("preconditioner.safetensors", Path.unlink),
    "no examples": ("examples.npz", Path.unlink),
    "examples cut": ("examples.npz", lambda path: path.write_bytes(path.read_bytes()[:100])),
    "a number of the manifest": (
        "manifest.json",
        lambda path: change(path, b'"threads": 1', b'"threads": 3'),
    ),
    "a manifest without its list": ("manifest.json", without_list),
    "a manifest cut": ("manifest.json", lambda path: path.write_bytes(path.read_bytes()[:-9])),
    "a manifest of NaN": ("manifest.json", lambda path: path.write_text('{"seconds": NaN}')),
    "a manifest as deep as no stack": (
        "manifest.json",
        lambda path: path.write_text("[" * 100_000),
    ),
    "a manifest as a folder": ("manifest.json", in_its_place),
}
READERS = {
    "config.yaml": lambda run: run.config,
    "manifest.json": lambda run: run.manifest,
    "metrics.json": lambda run: run.metrics,
    "history.jsonl": lambda run: run.history,
    "examples.npz": lambda run: run.examples,
    "replay.npz": lambda run: run.replay,
    "preconditioner.safetensors": lambda run: run.preconditioner(),
    "network.safetensors": lambda run: run.network(),
}


@pytest.fixture
def damaged(recorded, folder, request):
    """The folder with one damage, beside a run that is whole and another seed's."""
    for name in ("other seed", "baseline"):
        shutil.copytree(recorded[name], folder.parent / recorded[name].name)
    name, damage = DAMAGE[request.param]
    damage(folder / name)
    return folder, name


@pytest.mark.parametrize("damaged", DAMAGE, indirect=True)
def test_a_damaged_file_is_refused_by_name_when_it_is_read(damaged):
    folder, name = damaged
    text = refuses(lambda: READERS[name](experiments.Run(folder)), name)
    assert str(folder) in text


@pytest.mark.parametrize("damaged", DAMAGE, indirect=True)
def test_a_listing_names_a_damaged_folder_and_leaves_it_out(damaged):
    folder, name = damaged
    with pytest.warns(UserWarning, match="left out") as caught:
        found = experiments.find_runs(folder.parent)
    assert len(found) == 2 and folder not in [run.path for run in found]
    (warning,) = caught
    assert str(folder) in str(warning.message) and name in str(warning.message)


@pytest.mark.parametrize("damaged", DAMAGE, indirect=True)
def test_a_damaged_folder_is_refused_before_any_work(damaged, monkeypatch):
    folder, name = damaged
    no_work(monkeypatch)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir() if path.exists()}
    refuses(lambda: experiments.run(tiny(), folder.parent, progress=False), str(folder), name)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir() if path.exists()} == before


def test_a_file_that_is_not_the_runs_is_never_read_and_named_by_verify(folder):
    """A user's own notes are no damage."""
    (folder / "network.safetensors").touch()
    (folder / ".DS_Store").touch()
    found = experiments.Run(folder)
    refuses(found.network, "network.safetensors", "no such file")
    assert [run.path for run in experiments.find_runs(folder.parent)] == [folder]
    assert "DS_Store" not in refuses(
        lambda: found.verify(sealed=True), folder.name, "network.safetensors"
    )


@pytest.mark.parametrize("name", [name for name in READERS if name != "network.safetensors"])
def test_a_file_without_permission_is_refused_by_name(recorded, name):
    with without_rights() as (root, user):
        folder = shutil.copytree(recorded["trained"], root / recorded["trained"].name)
        (folder / name).chmod(0)
        with user():
            refuses(lambda: READERS[name](experiments.Run(folder)), name)


def test_a_folder_without_permission_is_named_and_left_out(recorded):
    with without_rights() as (root, user):
        folder = shutil.copytree(recorded["trained"], root / recorded["trained"].name)
        folder.chmod(0)
        with user(), pytest.warns(UserWarning, match=f"left out.*{folder.name}"):
            assert experiments.find_runs(root) == []
        folder.chmod(0o755)


def spoilt(content: bytes, draw: random.Random) -> bytes:
    """Cut, or with some bytes changed, or with a stretch doubled."""
    at, length = draw.randrange(len(content)), draw.randrange(1, 40)
    kind = draw.choice(("cut", "changed", "doubled"))
    if kind == "cut":
        return content[:at]
    if kind == "doubled":
        return content[: at + length] + content[at:]
    return (
        content[:at]
        + bytes(byte ^ draw.randrange(1, 256) for byte in content[at : at + length])
        + content[at + length :]
    )


def test_no_damage_to_any_byte_is_missed(folder):
    """Each file spoilt at random places; the manifest too, unless it still says the same in
    other spaces.
    """
    draw = random.Random(0)
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        for content in (spoilt(whole, draw) for _ in range(40)):
            path.write_bytes(content)
            if not (path.name == "manifest.json" and says_the_same(content, whole)):
                refuses(experiments.Run(folder).verify, path.name)
        path.write_bytes(whole)
    experiments.Run(folder).verify(sealed=True)


def says_the_same(content: bytes, whole: bytes) -> bool:
    try:
        return json.loads(content) == json.loads(whole)
    except ValueError:
        return False


def test_whatever_is_in_a_folder_without_hashes_it_is_read_or_refused_by_name(folder):
    """Older folders: nothing but the content itself can show damage, and no damage may be more
    than one line.
    """
    draw, refused = random.Random(1), 0
    unsealed(folder)
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        for _ in range(60):
            path.write_bytes(spoilt(whole, draw))
            try:
                READERS[path.name](experiments.Run(folder))
            except InputError as error:
                assert "\n" not in str(error) and path.name in str(error)
                refused += 1
        path.write_bytes(whole)
    assert refused > 100
    experiments.Run(folder).verify()


# --- older folders, sealed afterwards -------------------------------------------------------------


def test_an_older_folder_is_read_but_not_called_verified(folder):
    before = experiments.Run(folder).metrics
    old = experiments.Run(unsealed(folder))
    old.verify()
    assert old.metrics == before and [run.path for run in experiments.find_runs(folder.parent)] == [
        folder
    ]
    refuses(lambda: old.verify(sealed=True), folder.name, "scripts/seal.py")


def test_sealing_adds_the_hashes_once_and_says_when(folder):
    before = json.loads((unsealed(folder) / "manifest.json").read_text())
    assert writing.seal(folder, {"date": "today", "commit": None})
    sealed = experiments.Run(folder)
    sealed.verify(sealed=True)
    assert sealed.manifest["sealed"] == {"date": "today", "commit": None}
    assert {name: sealed.manifest[name] for name in before} == before
    kept = (folder / "manifest.json").read_bytes()
    assert (
        not writing.seal(folder, {"date": "tomorrow"})
        and (folder / "manifest.json").read_bytes() == kept
    )
    digit(folder / "metrics.json")
    refuses(experiments.Run(folder).verify, "metrics.json")


def test_a_folder_changed_on_purpose_is_sealed_again_where_it_still_holds_together(
    folder, recorded
):
    digit(folder / "metrics.json")
    (folder / "truths.npz").write_bytes(b"more")
    refuses(lambda: writing.seal(folder, {}), "metrics.json")
    assert writing.seal(folder, {"date": "today"}, again=True)
    experiments.Run(folder).verify(sealed=True)
    assert "truths.npz" in experiments.Run(folder).manifest["files"]
    shutil.copyfile(
        recorded["other seed"] / "preconditioner.safetensors", folder / "preconditioner.safetensors"
    )
    refuses(lambda: writing.seal(folder, {}, again=True), "preconditioner.safetensors")


@pytest.mark.parametrize("name", ["metrics.json", "preconditioner.safetensors"])
def test_sealing_refuses_what_does_not_hold_together(recorded, folder, name):
    unsealed(folder)
    if name == "metrics.json":
        (folder / name).write_text("{")
    else:  # a whole file of another configuration, in a manifest so old that it holds no hash of it
        made = json.loads((folder / "manifest.json").read_text())
        del made["trained"]
        (folder / "manifest.json").write_text(json.dumps(made))
        shutil.copyfile(recorded["other seed"] / name, folder / name)
    kept = (folder / "manifest.json").read_bytes()
    refuses(lambda: writing.seal(folder, {}), name)
    assert (folder / "manifest.json").read_bytes() == kept


def test_a_large_trained_file_may_be_missing_where_the_manifest_says_so(
    folder, monkeypatch, tmp_path
):
    name = "preconditioner.safetensors"
    size = (folder / name).stat().st_size
    monkeypatch.setattr(manifest, "LARGEST", size - 1)
    copy = writing.copy_run(experiments.Run(folder), tmp_path / "copied" / folder.name)
    copy.verify(sealed=True)
    assert (
        copy.manifest["left_out"] == [name]
        and copy.manifest["files"] == experiments.Run(folder).manifest["files"]
    )
    assert copy.metrics == experiments.Run(folder).metrics
    refuses(copy.preconditioner, name, "left out of this copy")
    (folder / name).unlink()
    refuses(experiments.Run(folder).verify, name)  # nothing says that it is left out here


def test_an_older_copy_without_its_large_file_is_sealed_with_the_hash_of_then(folder, monkeypatch):
    name, known = "preconditioner.safetensors", experiments.Run(folder).manifest["trained"]
    (unsealed(folder) / name).unlink()
    refuses(lambda: writing.seal(folder, {}), name)
    monkeypatch.setattr(manifest, "LARGEST", known["bytes"] - 1)
    writing.seal(folder, {})
    sealed = experiments.Run(folder)
    sealed.verify(sealed=True)
    assert sealed.manifest["files"][name] == known["sha256"] and sealed.manifest["left_out"] == [
        name
    ]


def test_a_damaged_run_is_not_copied(folder, tmp_path):
    digit(folder / "metrics.json")
    refuses(
        lambda: writing.copy_run(experiments.Run(folder), tmp_path / "copied" / folder.name),
        "metrics.json",
    )
    assert not (tmp_path / "copied").exists()


def test_a_copy_is_whole_or_not_there(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(
        shutil,
        "copyfile",
        lambda *paths: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")),
    )
    with pytest.raises(OSError, match="No space left"):
        writing.copy_run(experiments.Run(folder), tmp_path / "copied" / folder.name)
    assert list((tmp_path / "copied").iterdir()) == []


# --- dipa verify ----------------------------------------------------------------------------------


def test_verify_names_each_damaged_run_and_counts(recorded, folder, capsys):
    shutil.copytree(recorded["baseline"], folder.parent / "deeper" / recorded["baseline"].name)
    assert cli.main(["verify", str(folder.parent)]) == 0
    assert capsys.readouterr().out == "2 runs verified: every file is as it was written\n"
    digit(folder / "metrics.json")
    unsealed(folder.parent / "deeper" / recorded["baseline"].name)
    assert cli.main(["verify", str(folder.parent)]) == 2
    out, err = capsys.readouterr()
    first, second = sorted(out.splitlines())
    assert "metrics.json" in first and "scripts/seal.py" in second
    assert err.count("\n") == 1 and "2 of 2" in err
    assert cli.main(["verify", str(folder)]) == 2  # one run folder itself


@pytest.mark.parametrize("name", ["empty", "missing"])
def test_verify_of_nothing_is_no_success(tmp_path, capsys, name):
    (tmp_path / "empty").mkdir()
    assert cli.main(["verify", str(tmp_path / name)]) == 2
    assert name in capsys.readouterr().err


def test_the_recorded_runs_are_as_they_were_written():
    folders = list(
        experiments.run_folders(Path(__file__).parents[1] / "book" / "results", deep=True)
    )
    assert len(folders) >= 55
    for folder in folders:
        experiments.Run(folder).verify(sealed=True)


# --- refused before any work ----------------------------------------------------------------------


def as_file(path: Path) -> None:
    path.write_text("no folder")


def as_link(path: Path) -> None:
    path.symlink_to("nowhere")


def with_config_alone(path: Path) -> None:
    path.mkdir()
    (path / "config.yaml").write_text(yaml.safe_dump(dataclasses.asdict(tiny("baseline"))))


@pytest.mark.parametrize("make", [as_file, as_link, Path.mkdir, with_config_alone])
def test_what_is_no_whole_run_is_refused_before_any_work(tmp_path, monkeypatch, capsys, make):
    config = tiny("baseline")
    make(tmp_path / config.run_name)
    no_work(monkeypatch)
    refuses(
        lambda: experiments.run(config, tmp_path, progress=False),
        config.run_name,
        "manifest.json",
        "move the folder away",
    )
    monkeypatch.setattr(experiments, "resolve", lambda *arguments, **options: config)
    assert cli.main(["run", "baseline", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == [config.run_name]


def test_a_place_that_cannot_be_written_is_refused_before_any_work(monkeypatch):
    no_work(monkeypatch)
    with without_rights() as (root, user):
        root.chmod(0o555)
        with user():
            refuses(
                lambda: experiments.run(tiny("baseline"), root, progress=False),
                str(root),
                "Permission denied",
            )
            refuses(
                lambda: experiments.run(tiny("baseline"), root / "new", progress=False),
                str(root),
                "Permission denied",
            )
        (root / "file").touch()
        refuses(
            lambda: experiments.run(tiny("baseline"), root / "file" / "runs", progress=False),
            "Not a directory",
        )


def test_a_finished_run_is_read_where_nothing_can_be_written(recorded, monkeypatch):
    no_work(monkeypatch)
    with without_rights() as (root, user):
        folder = shutil.copytree(recorded["trained"], root / recorded["trained"].name)
        working.working(folder).mkdir()
        root.chmod(0o555)
        with user():
            assert experiments.run(tiny(), root, progress=False).path == folder


# --- one writer -----------------------------------------------------------------------------------


def test_who_comes_second_says_so_waits_and_reads(tmp_path, folder, monkeypatch, capsys):
    """The holder of the lock puts a finished folder there while the second one waits."""
    no_work(monkeypatch)
    monkeypatch.setattr(working, "PATIENCE", 0.05)
    target, said = tmp_path / folder.name, threading.Event()
    monkeypatch.setattr(working, "_say", lambda text, say=working._say: (say(text), said.set()))

    def hold(taken: threading.Event) -> None:
        with FileLock(tmp_path / f".{folder.name}.lock"):
            taken.set()
            assert said.wait(30)
            shutil.copytree(folder, target)

    taken = threading.Event()
    holder = threading.Thread(target=hold, args=(taken,))
    holder.start()
    assert taken.wait(30)
    assert experiments.run(tiny(), tmp_path, progress=False).path == target
    holder.join()
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "waiting" in err and f".{folder.name}.lock" in err


def test_the_lock_of_a_killed_process_does_not_block_and_is_swept(tmp_path):
    config = tiny("baseline")
    (tmp_path / f".{config.run_name}.lock").touch()
    experiments.run(config, tmp_path, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == [config.run_name]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named_and_the_run_made(
    tmp_path, monkeypatch, capsys, number
):
    def refuse(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    made = experiments.run(tiny("baseline"), tmp_path, progress=False)
    made.verify(sealed=True)
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "no locks" in err and str(tmp_path) in err


def leftovers(root: Path, name: str) -> dict[str, Path]:
    """What a killed process can leave of the run ``name``."""
    found = {
        "folder": root / f".{name}.0123abcd.writing",
        "old folder": root / f".{name}.writing",
        "lock": root / f".{name}.lock",
        "file": root / f".{name}.working" / ".checkpoint.pt.0123abcd.partial",
        "checkpoint": root / f".{name}.working" / "checkpoint.pt",
        "note": root / f".{name}.working" / "seconds.json",
    }
    for path in found.values():
        (path if path.suffix == ".writing" else path.parent).mkdir(parents=True, exist_ok=True)
        if path.suffix != ".writing":
            path.touch()
    return found


def test_leftovers_are_swept_but_not_what_resumes_a_run(tmp_path, folder):
    """Of a killed run the checkpoint stays; of a finished one nothing; what belongs to no run
    is not touched.
    """
    killed = leftovers(tmp_path, tiny(seed=3).run_name)
    shutil.copytree(folder, tmp_path / folder.name)
    leftovers(tmp_path, folder.name)
    mine = [tmp_path / name for name in (".mine.writing", ".mine.working", ".cache")]
    for path in mine:
        path.mkdir()
    experiments.run(tiny(), tmp_path, progress=False)
    kept = [killed["checkpoint"].parent, *mine, tmp_path / folder.name]
    assert sorted(path for path in tmp_path.iterdir() if path.name != "runs") == sorted(kept)
    assert sorted(killed["checkpoint"].parent.iterdir()) == sorted(
        [killed["checkpoint"], killed["note"]]
    )


def test_what_another_process_still_writes_is_not_swept(tmp_path, folder):
    name = tiny(seed=3).run_name
    with FileLock(tmp_path / f".{name}.lock"):
        left = leftovers(tmp_path, name)
        experiments.run(tiny(), folder.parent, progress=False)
        working.sweep_all(tmp_path)
        assert all(path.exists() for path in left.values())
    working.sweep_all(tmp_path)
    assert [name for name, path in left.items() if path.exists()] == ["checkpoint", "note"]


def test_a_refused_run_leaves_nothing(tmp_path):
    config = experiments.resolve("baseline", "small")  # needs MNIST, which the tests do not have
    refuses(lambda: experiments.run(config, tmp_path, progress=False), "mnist")
    assert list(tmp_path.iterdir()) == []


# --- seconds --------------------------------------------------------------------------------------


@pytest.fixture
def hand(monkeypatch):
    """The monotonic clock stands still but for what a test adds to ``hand[0]``."""
    hand = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: hand[0])
    return hand


def test_seconds_add_up_over_interruptions(tmp_path, hand):
    """Every step takes 100 s; the first two attempts are stopped after one step and two, which
    are not all saved.
    """

    def slow(record, last):
        hand[0] += 100
        if record["step"] == last:
            raise KeyboardInterrupt

    for last in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            experiments.run(
                tiny(),
                tmp_path,
                progress=False,
                report=lambda record, last=last: slow(record, last),
            )
    made = experiments.run(
        tiny(), tmp_path, progress=False, report=lambda record: slow(record, 0)
    ).manifest
    assert (made["attempts"], made["seconds"]) == (3, hand[0] - 1000)
    # the second attempt begins anew, the third after its first step
    assert made["seconds"] == 100 * (1 + 2 + 2)


def test_training_seconds_are_those_of_the_steps_that_were_kept(tmp_path, hand, monkeypatch):
    """A step takes 100 s. The second one is stopped before it is saved: done twice, it counts
    once.
    """
    monkeypatch.setattr(
        student, "measure", lambda *inputs, **options: (tick(), measure(*inputs, **options))[1]
    )

    def tick():
        hand[0] += 100

    def stop(record):
        if record["step"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        experiments.run(tiny(), tmp_path, progress=False, report=stop)
    made = experiments.run(tiny(), tmp_path, progress=False).manifest
    assert (made["training_seconds"], made["seconds"]) == (300, 400)


def test_a_clock_goes_on_where_a_kill_left_it(tmp_path, monkeypatch):
    """What it wrote by itself is what a killed process leaves."""
    monkeypatch.setattr(Clock, "EVERY", 0.02)
    path = tmp_path / "work" / "seconds.json"
    with Clock(path):
        time.sleep(0.3)
        left = path.read_text()
    assert 0.15 < json.loads(left)["seconds"] <= 0.3 + 0.1
    path.write_text('{"seconds": 100.25, "attempts": 4}')
    again = Clock(path)
    assert again.attempts == 5 and 100.25 <= again.seconds < 101


def test_a_clock_without_a_file_counts_alone(tmp_path):
    with Clock(None) as clock:
        time.sleep(0.05)
    assert 0.04 < clock.seconds < 5 and clock.attempts == 1


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"seconds": -1.0, "attempts": 1}', '{"seconds": NaN, "attempts": 1}', "{}"],
)
def test_a_damaged_note_of_the_time_is_named(tmp_path, text):
    (tmp_path / "seconds.json").write_text(text)
    refuses(lambda: Clock(tmp_path / "seconds.json"), "seconds.json", "remove it")


def test_a_full_disk_does_not_stop_the_clock_or_hide_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(Clock, "EVERY", 0.01)
    write = files.write_json

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ZeroDivisionError), Clock(tmp_path / "seconds.json"):
        monkeypatch.setattr(files, "write_json", full)
        time.sleep(0.1)
        raise ZeroDivisionError
    monkeypatch.setattr(files, "write_json", write)
    assert threading.active_count() == 1 or not any(
        t.name.startswith("Clock") for t in threading.enumerate()
    )


def test_refused_work_leaves_a_note_only_where_it_saved_something(tmp_path):
    for name, saves in (("a", False), ("b", True)):
        with pytest.raises(InputError), Clock(tmp_path / name / "seconds.json"):
            if saves:
                (tmp_path / name / "checkpoint.pt").touch()
            raise InputError("no")
    assert not (tmp_path / "a").exists() and (tmp_path / "b" / "seconds.json").exists()


# --- listings -------------------------------------------------------------------------------------


def test_listings_of_whole_runs_warn_of_nothing(recorded, tmp_path):
    root = next(iter(recorded.values())).parent
    (tmp_path / "file").touch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [run.path for run in experiments.find_runs(root)] == sorted(recorded.values())
        assert (
            experiments.find_runs(tmp_path / "missing")
            == experiments.find_runs(tmp_path / "file")
            == []
        )
        assert all(isinstance(run.config, Config) for run in experiments.find_runs(root))


@pytest.mark.parametrize("make", [as_file, Path.mkdir])
def test_anything_under_a_run_name_is_named_where_it_is_no_run(tmp_path, make):
    make(tmp_path / tiny("baseline").run_name)
    with pytest.warns(UserWarning, match=tiny("baseline").run_name):
        assert experiments.find_runs(tmp_path) == []
