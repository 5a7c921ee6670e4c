import json
import os
import resource
import struct
import time

import pytest
import torch
from batteries import refuses
from safetensors.torch import save_file

import dipa
from dipa import files, storage


def test_write_atomic_replaces(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    for text in ("one", "two: é"):
        assert files.write_text(path, text) == path
        assert path.read_text(encoding="utf-8") == text
    assert os.listdir(path.parent) == ["a.txt"]


def test_write_atomic_keeps_the_old_file_on_failure(tmp_path):
    path = files.write_text(tmp_path / "a.txt", "old")

    def broken(partial):
        partial.write_text("half of the n")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.write_atomic(path, broken)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_write_atomic_has_one_moment_of_change(tmp_path, monkeypatch):
    """Until the rename the old file is whole; a failure there leaves it so."""
    path = files.write_text(tmp_path / "a.txt", "old")

    def full(source, target):
        assert source.read_text() == "new" and path.read_text() == "old"
        raise OSError("no space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        files.write_text(path, "new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_write_atomic_leaves_nothing_where_nothing_was(tmp_path):
    with pytest.raises(ZeroDivisionError):
        files.write_atomic(tmp_path / "a.txt", lambda partial: 1 / 0)
    assert os.listdir(tmp_path) == []


def test_write_atomic_never_shows_half_a_file(tmp_path):
    path = files.write_text(tmp_path / "a.txt", "old")

    def slow(partial):
        partial.write_text("new")
        assert path.read_text() == "old" and partial.parent == path.parent

    files.write_atomic(path, slow)
    assert path.read_text() == "new"


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_json_refuses_what_is_not_json(tmp_path, bad):
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "a.json", {"loss": bad})
    assert os.listdir(tmp_path) == []
    assert json.loads(files.write_json(tmp_path / "a.json", {"loss": 0.1}).read_text()) == {
        "loss": 0.1
    }


TENSORS = {
    "transposed": torch.arange(6.0).reshape(2, 3).T,
    "double": torch.rand(3, dtype=torch.float64),
    "index": torch.tensor([3, 1]),
    "bf16": torch.rand(2, 2).bfloat16(),
    "scalar": torch.tensor(1.5),
}


def test_tensors_round_trip_bitwise(tmp_path):
    record = {"steps": 3, "nested": {"a": [1, 2.5, None, "é"]}}
    tensors, back = storage.read_tensors(
        storage.write_tensors(tmp_path / "a.safetensors", TENSORS, record)
    )
    assert back == record
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype and torch.equal(tensors[name], tensor)


def test_missing_truncated_foreign_and_empty_files_are_refused_by_name(tmp_path):
    whole = storage.write_tensors(
        tmp_path / "whole.safetensors", {"a": torch.rand(100)}, {}
    ).read_bytes()
    refuses(lambda: storage.read_tensors(tmp_path / "missing.safetensors"), "missing.safetensors")
    for length in (0, 5, 40, len(whole) - 1):
        (tmp_path / "cut.safetensors").write_bytes(whole[:length])
        refuses(lambda: storage.read_tensors(tmp_path / "cut.safetensors"), "cut.safetensors")
    (tmp_path / "text.safetensors").write_text("these are not tensors, whatever the name says")
    refuses(lambda: storage.read_tensors(tmp_path / "text.safetensors"), "text.safetensors")
    save_file({"a": torch.rand(2)}, tmp_path / "foreign.safetensors")
    refuses(lambda: storage.read_tensors(tmp_path / "foreign.safetensors"), "foreign.safetensors")
    save_file(
        {"a": torch.rand(2)}, tmp_path / "record.safetensors", metadata={"record": "{not json"}
    )
    refuses(lambda: storage.read_tensors(tmp_path / "record.safetensors"), "record.safetensors")
    torch.save({"a": torch.rand(2)}, tmp_path / "pickle.safetensors")
    refuses(lambda: storage.read_tensors(tmp_path / "pickle.safetensors"), "pickle.safetensors")


def test_one_flipped_bit_of_a_number_is_found(tmp_path):
    path = storage.write_tensors(tmp_path / "a.safetensors", {"a": torch.zeros(16)}, {})
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    refuses(lambda: storage.read_tensors(path), "a.safetensors", "damaged")


def test_any_strided_tensor_is_hashed_and_written(tmp_path):
    base = torch.rand(3, 2)
    odd = {
        "expanded": torch.ones(1).expand(1),
        "turned": base.T,
        "part": base[:, 1],
        "conjugate": torch.tensor([1 + 2j]).conj(),
    }
    plain = {
        "expanded": torch.ones(1),
        "turned": base.T.contiguous(),
        "part": base[:, 1].clone(),
        "conjugate": torch.tensor([1 - 2j]),
    }
    assert storage.sha256_tensors(odd) == storage.sha256_tensors(plain)
    again, _ = storage.read_tensors(
        storage.write_tensors(tmp_path / "a.safetensors", {"a": base, "b": base}, {})
    )
    assert torch.equal(again["a"], base) and torch.equal(again["b"], base), (
        "tensors that share memory"
    )


def test_files_without_a_checksum_can_be_read(tmp_path):
    """Those written before version 0.3."""
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors", metadata={"record": "{}"})
    assert torch.equal(storage.read_tensors(tmp_path / "a.safetensors")[0]["a"], torch.ones(2))


def test_what_the_system_refuses_to_write_is_named(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match="file/a.txt: could not be written .* start again"):
        files.write_text(tmp_path / "file" / "a.txt", "x")


def test_two_processes_of_the_same_number_write_under_names_of_their_own(tmp_path, monkeypatch):
    """In containers that share a folder process numbers repeat: a writer in the middle of a
    file is not disturbed.
    """
    path = tmp_path / "a.txt"
    monkeypatch.setattr(files.os, "getpid", lambda: 7)

    def first(partial):
        partial.write_text("fir")
        files.write_text(path, "second")
        partial.write_text(partial.read_text() + "st")

    files.write_atomic(path, first)
    assert path.read_text() == "first" and os.listdir(tmp_path) == ["a.txt"]


def test_sweep_removes_what_killed_writers_left_and_nothing_else(tmp_path):
    left = files.temporary(tmp_path / "a.txt", "partial")
    kept = [tmp_path / name for name in ("a.txt", "a.partial", ".a.partial", ".b.0123abcd.partial")]
    for path in (left, *kept):
        path.touch()
    long_ago = time.time() - 3600
    os.utime(left, (long_ago, long_ago))
    files.sweep(tmp_path, older_than=7200)
    assert left.exists()
    files.sweep(tmp_path, older_than=1800)
    assert sorted(tmp_path.iterdir()) == sorted(kept)
    files.sweep(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(kept[:3])
    files.sweep(tmp_path / "missing")


def test_hash_of_a_file_is_sha256(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert (
        files.sha256_file(tmp_path / "abc")
        == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_hash_of_tensors_sees_names_types_shapes_and_values():
    base = torch.arange(6.0).reshape(2, 3)
    same = storage.sha256_tensors({"a": base, "b": base})
    assert storage.sha256_tensors({"b": base.clone(), "a": base.T.contiguous().T}) == same
    changed = base.clone()
    changed[0, 0] = 1e-20
    others = [
        {"a": base, "c": base},
        {"a": base, "b": base.double()},
        {"a": base, "b": base.reshape(3, 2)},
        {"a": base, "b": changed},
        {"a": base},
    ]
    hashes = {storage.sha256_tensors(other) for other in others}
    assert len(hashes) == len(others) and same not in hashes


def test_hash_of_json_ignores_key_order_only():
    assert files.sha256_json({"a": 1, "b": 2}) == files.sha256_json({"b": 2, "a": 1})
    assert files.sha256_json({"a": 1}) != files.sha256_json({"a": 1.5})
    assert files.sha256_json([1, 2]) != files.sha256_json([2, 1])


# --- files that say the wrong thing ---------------------------------------------------------------


def raw(header: str | bytes, body: bytes = b"", length: int | None = None) -> bytes:
    content = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(content) if length is None else length) + content + body


RECORD, TWICE, DEEP = json.dumps("{}"), json.dumps('{"a": 1, "a": 2}'), json.dumps("[" * 50_000)
META = f'"__metadata__": {{"record": {RECORD}}}'
A = '"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}'


@pytest.mark.parametrize(
    "content",
    [
        raw(f'{{"__metadata__": {{"record": {RECORD}}}, {A}, {A}}}', bytes(8)),
        raw(f'{{"__metadata__": {{"record": "{{}}", "record": {RECORD}}}, {A}}}', bytes(8)),
        raw(f'{{"__metadata__": {{"record": {DEEP}}}, {A}}}', bytes(8)),
        raw(f'{{"__metadata__": {{"record": {TWICE}}}, {A}}}', bytes(8)),
        raw('{"x": ' * 30_000),
        raw("[" * 200_000),
        raw(f"{{{A}}}", bytes(8), length=2**63),
        raw(f"{{{A}}}", bytes(8), length=10**6),
        raw(f"{{{META}, {A.replace('[2]', f'[{2**62}, 8]')}}}", bytes(8)),
        raw(f"{{{META}, {A.replace('[2]', '[-1]')}}}", bytes(8)),
        raw(f"{{{META}, {A.replace('[0, 8]', '[8, 0]')}}}", bytes(8)),
        raw(f"{{{META}, {A.replace('F32', 'Q7')}}}", bytes(8)),
        raw(b'{"\xff": 1}'),
    ],
)
def test_headers_that_lie_are_refused_by_name(tmp_path, content):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    began = time.monotonic()
    refuses(
        lambda: storage.read_tensors(path),
        "a.safetensors",
        "not a file written by dipa, or damaged",
    )
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.tensor([1.0, torch.nan, 1.0]), ("steps", "NaN or infinite")),
        (torch.tensor([1.0, -torch.inf, 1.0]), ("steps", "NaN or infinite")),
        (torch.ones(3, dtype=torch.int64), ("steps", "int64", "float32")),
        (torch.ones(3, dtype=torch.complex64), ("steps.dtype", "complex64")),
        (torch.ones(3).to(torch.float8_e4m3fn), ("steps.dtype", "float8")),
        (torch.ones(4), ("steps", "(4,)", "(3,)")),
        (torch.ones(3, 1), ("steps", "(3, 1)", "(3,)")),
    ],
)
def test_weights_of_another_kind_are_refused_whole_as_their_file_is(tmp_path, tensor, words):
    path = storage.write_tensors(
        tmp_path / "a.safetensors", {"steps": tensor}, {"kind": "scalar_steps", "iterations": 3}
    )
    refuses(lambda: dipa.load(path), "a.safetensors", *words)
    good = storage.write_tensors(
        tmp_path / "b.safetensors",
        {"steps": torch.ones(3)},
        {"kind": "scalar_steps", "iterations": 3},
    )
    assert torch.equal(dipa.load(good)[0].steps, torch.ones(3))


def test_tensors_that_no_module_asks_for_are_refused(tmp_path):
    P = dipa.LinearPreconditioner.identity(dipa.operators.single_pixel((1, 4, 4), ratio=0.5))
    record = {"kind": "linear", **P.header()}
    path = storage.write_tensors(
        tmp_path / "a.safetensors", P.state_dict() | {"other": torch.ones(2)}, record
    )
    refuses(lambda: dipa.load(path), "a.safetensors", "other", "no such tensor")
    for name, wrong in (
        ("basis.index", P.basis.index + 16),
        ("basis.index", P.basis.index.float()),
        ("matrix", P.matrix.detach()[:4]),
    ):
        storage.write_tensors(path, P.state_dict() | {name: wrong}, record)
        refuses(lambda: dipa.load(path), "a.safetensors")


@pytest.mark.parametrize(
    "record",
    [
        {"kind": "pointwise_steps", "iterations": 100_000, "img_size": [1, 200, 200]},
        {"kind": "convolutional_steps", "iterations": 4000, "size": 1001},
        {"kind": "neural", "name": "cnn", "img_size": [10**6, 8, 8]},
        {"kind": "neural", "name": "vit", "img_size": [64, 8, 8], "features": 512, "blocks": 64},
        {"kind": "linear", "basis": "hadamard", "img_size": [1, 2**15, 2**15]},
        {"kind": "linear", "basis": "pixel", "img_size": [1, 10**6, 10**6]},
        {
            "kind": "end-to-end",
            "network": {"name": "u-net", "img_size": [1, 8, 8], "features": 512, "blocks": 5},
        },
        {
            "kind": "end-to-end",
            "network": {"name": "restormer", "img_size": [1, 8, 8], "features": 512, "blocks": 16},
        },
    ],
)
def test_a_small_file_that_describes_a_large_module_is_refused_without_making_it(tmp_path, record):
    tensors = {"steps": torch.ones(3), "matrix": torch.ones(4, 2), "basis.index": torch.arange(2)}
    path = storage.write_tensors(tmp_path / "a.safetensors", tensors, record)
    began = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refuses(lambda: dipa.load(path), "a.safetensors")
    assert time.monotonic() - began < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024, "KiB"


def test_numbers_that_could_not_be_read_back_are_not_saved(tmp_path):
    P = dipa.ScalarSteps(2)
    P.steps.data[0] = torch.nan
    refuses(lambda: dipa.save(P, tmp_path / "a"), "trained", "steps", "NaN")
    network = dipa.endtoend.build("u-net", (1, 8, 8), features=2, blocks=2)
    next(network.parameters()).data.fill_(torch.inf)
    refuses(lambda: dipa.save(network, tmp_path / "a"), "trained", "infinite")
    assert not any(tmp_path.iterdir())
