"""Tensors in files: read back to the bit, refused by name where they are damaged or lie; their
hashes.
"""

import json
import struct
import time

import pytest
import torch
from batteries import refuses
from safetensors.torch import save_file

from dipa import storage

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
