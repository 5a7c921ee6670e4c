"""How a run folder comes to be: written, copied or sealed; whole or not at all."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from .. import files, trained
from ..checks import require
from ..training import Fit
from . import manifest as manifests
from . import results
from .config import Config, build
from .results import Run


def write_run(
    folder: Path,
    config: Config,
    fit: Fit,
    *,
    metrics: Mapping[str, Any],
    arrays: Mapping[str, Mapping[str, np.ndarray]],
    manifest: Mapping[str, Any],
) -> Run:
    """Write a run into a sibling folder, then rename it to ``folder``: a reader sees a whole
    run or none.
    """
    with appearing(folder) as partial:
        files.write_text(partial / "config.yaml", yaml.safe_dump(asdict(config), sort_keys=False))
        files.write_json(partial / "metrics.json", metrics)
        files.write_text(
            partial / "history.jsonl", "".join(json.dumps(record) + "\n" for record in fit.history)
        )
        for name, content in arrays.items():
            save_arrays(partial / f"{name}.npz", content)
        if fit.trained is not None:
            manifest = {**manifest, "trained": _save_trained(partial, config, fit.trained)}
        files.write_json(
            partial / manifests.NAME, manifests.sealed(manifest, manifests.hashes(partial))
        )
    return Run(folder)


@contextlib.contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """An empty folder beside ``folder`` that takes its name when it is filled, and is gone
    where that fails.
    """
    partial = files.temporary(folder, "writing")
    try:
        with files.named_errors(folder):
            partial.mkdir(parents=True)
        yield partial
        with files.named_errors(folder):
            os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def copy_run(run: Run, folder: Path) -> Run:
    """Copy a verified run to ``folder`` to be committed; large files are left out, which its
    manifest then says.
    """
    run.verify(sealed=True)
    with appearing(folder) as partial:
        small = [
            name
            for name in manifests.names(run.path)
            if (run.path / name).stat().st_size <= manifests.LARGEST
        ]
        for name in small:
            shutil.copyfile(run.path / name, partial / name)
        hashes = run.manifest["files"]
        content = run.manifest | {"left_out": [name for name in hashes if name not in small]}
        files.write_json(partial / manifests.NAME, manifests.sealed(content, hashes))
    return Run(folder)


class _Unlisted(Run):
    """A run whose list of hashes is not looked at: it is to be made anew."""

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Without list and checksum."""
        content = manifests.read_json(self.path / manifests.NAME, manifests.MOVE)
        return {name: value for name, value in content.items() if name not in manifests.SEAL}


def seal(folder: Path, by: Mapping[str, Any], *, again: bool = False) -> bool:
    """Give a run folder of an older version its list of hashes; whether it had none.

    It must read, and what was trained must be what its manifest and its configuration say.
    ``sealed`` in the manifest holds ``by``, plain values that say when and with what: until then
    nothing watched over the files. With ``again`` a list that is there is made anew, for a folder
    that was changed on purpose.
    """
    run = _Unlisted(folder) if again else Run(folder)
    run.verify()
    if manifests.is_sealed(run.manifest):
        return False
    _check_trained(run)
    hashes, trained = manifests.hashes(folder), run.manifest.get("trained") or {}
    left_out = [trained["file"]] if trained and trained["file"] not in hashes else []
    hashes |= {name: trained["sha256"] for name in left_out}
    content = run.manifest | {"left_out": left_out, "sealed": dict(by)}
    files.write_json(
        folder / manifests.NAME, manifests.sealed(content, dict(sorted(hashes.items())))
    )
    return True


def _check_trained(run: Run) -> None:
    """Refuse a trained file that was made by another configuration."""
    for name in results.TRAINED:
        if (run.path / name).exists():
            made_by = trained.load(run.path / name)[1]
            same = build(Config, made_by.get("config")) == run.config
            require(
                same,
                str(run.path / name),
                "what another configuration trained",
                "what the one of its folder did",
            )


def _save_trained(folder: Path, config: Config, module: Any) -> dict[str, Any]:
    """Write what was trained, where it can be saved; its file, SHA-256 and bytes (fixed
    preconditioners have none).
    """
    if not module.kind:
        return {}
    name = results.NETWORK if config.recipe.network else results.PRECONDITIONER
    path = trained.save(module, folder / name, {"config": asdict(config)})
    return {"file": path.name, "sha256": files.sha256_file(path), "bytes": path.stat().st_size}


def save_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write named arrays as a compressed .npz, whole or not at all."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    files.write_bytes(path, content.getvalue())
