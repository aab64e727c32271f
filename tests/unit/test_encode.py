"""The cache of vectors: it may be slow, torn, shared or full, but never wrong."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from online.encode import BUNDLED, CachedEncoder, SentenceEncoder, _path_of, identity_of
from store.records import Float32Array

TEXTS = [f"text {n}" for n in range(40)]


class Counting:
    """Vectors from the text's bytes; remembers what it was asked."""

    identity = "counting-encoder-0123"
    dimension = 6

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str]) -> Float32Array:
        self.asked += texts
        rows = [np.random.default_rng(list(text.encode())).normal(size=6) for text in texts]
        return np.stack([row / np.linalg.norm(row) for row in rows]).astype(np.float32)


def expected(texts: Sequence[str]) -> Float32Array:
    return Counting().encode(texts)


_open: list[CachedEncoder] = []


def opened(folder: Path, inner: Counting | None = None) -> tuple[CachedEncoder, Counting]:
    inner = inner or Counting()
    _open.append(CachedEncoder(inner, folder))
    return _open[-1], inner


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while _open:
        _open.pop().close()


def file_of(folder: Path) -> Path:
    (found,) = folder.glob("*.vectors")
    return found


def test_a_known_text_is_not_encoded_again(tmp_path: Path) -> None:
    cached, inner = opened(tmp_path)
    first = cached.encode(TEXTS)
    again = cached.encode(TEXTS[::-1])
    assert np.array_equal(first, expected(TEXTS))
    assert np.array_equal(again, first[::-1])
    assert inner.asked == TEXTS
    assert cached.hits == len(TEXTS)


def test_a_text_twice_in_a_batch_is_encoded_once(tmp_path: Path) -> None:
    cached, inner = opened(tmp_path)
    found = cached.encode(["b", "a", "b", "b"])
    assert np.array_equal(found, expected(["b", "a", "b", "b"]))
    assert sorted(inner.asked) == ["a", "b"]


def test_vectors_outlive_the_process(tmp_path: Path) -> None:
    opened(tmp_path)[0].encode(TEXTS)
    cached, inner = opened(tmp_path)
    assert np.array_equal(cached.encode(TEXTS), expected(TEXTS))
    assert inner.asked == []


@pytest.mark.parametrize("torn", [1, 15, 16, 39])
def test_a_torn_tail_is_cut_off(tmp_path: Path, torn: int) -> None:
    opened(tmp_path)[0].encode(TEXTS)
    size = file_of(tmp_path).stat().st_size
    os.truncate(file_of(tmp_path), size - torn)
    cached, inner = opened(tmp_path)
    assert np.array_equal(cached.encode(TEXTS), expected(TEXTS))
    assert inner.asked == TEXTS[-1:]
    assert file_of(tmp_path).stat().st_size == size


def test_a_record_that_another_process_cut_is_encoded_again(tmp_path: Path) -> None:
    cached, _ = opened(tmp_path)
    cached.encode(TEXTS)
    os.truncate(file_of(tmp_path), 100)
    assert np.array_equal(cached.encode(TEXTS), expected(TEXTS))


def test_a_half_written_record_of_another_process_never_gives_a_wrong_vector(
    tmp_path: Path,
) -> None:
    """From there on positions are off by half a record; keys are checked, so it only costs time."""
    cached, _ = opened(tmp_path)
    cached.encode(TEXTS[:3])
    with file_of(tmp_path).open("ab") as other:
        other.write(b"half a record")
    for _ in range(2):
        assert np.array_equal(cached.encode(TEXTS), expected(TEXTS))
    assert np.array_equal(opened(tmp_path)[0].encode(TEXTS), expected(TEXTS))


def _append(folder: Path, start: int) -> None:
    cached, _ = opened(folder)
    for n in range(start, start + 30):
        texts = [f"shared {n}", f"own {start} {n}"]
        if not np.array_equal(cached.encode(texts), expected(texts)):
            raise AssertionError("a wrong vector")
    cached.close()


def test_two_processes_may_append_to_one_file(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_append, args=(tmp_path, start)) for start in (0, 15)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [w.exitcode for w in workers] == [0, 0]
    cached, inner = opened(tmp_path)
    texts = [f"shared {n}" for n in range(45)]
    assert np.array_equal(cached.encode(texts), expected(texts))
    assert inner.asked == []


def test_a_disk_that_is_full_costs_speed_and_not_correctness(tmp_path: Path) -> None:
    cached, inner = opened(tmp_path)
    cached.encode(TEXTS[:5])
    cached._file.close()
    cached._file = file_of(tmp_path).open("rb", buffering=0)
    for _ in range(2):
        assert np.array_equal(cached.encode(TEXTS), expected(TEXTS))
    assert len(inner.asked) == 5 + 2 * 35


def test_the_cache_stops_growing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CachedEncoder, "MAX_RECORDS", 10)
    cached, _ = opened(tmp_path)
    for start in range(0, 40, 4):
        cached.encode(TEXTS[start : start + 4])
    assert file_of(tmp_path).stat().st_size <= 10 * (16 + 4 * 6)
    assert np.array_equal(cached.encode(TEXTS), expected(TEXTS))


def test_no_texts_are_no_vectors(tmp_path: Path) -> None:
    cached, inner = opened(tmp_path)
    assert cached.encode([]).shape == (0, 6)
    assert inner.asked == []


def test_the_text_itself_is_never_stored(tmp_path: Path) -> None:
    opened(tmp_path)[0].encode(["a very secret prompt"])
    assert b"secret" not in file_of(tmp_path).read_bytes()


def test_another_encoder_has_its_own_file(tmp_path: Path) -> None:
    cached, _ = opened(tmp_path)
    cached.encode(TEXTS)
    other = Counting()
    other.identity = "another-encoder-0123"
    opened(tmp_path, other)[0].encode(TEXTS)
    assert other.asked == TEXTS
    assert len(list(tmp_path.glob("*.vectors"))) == 2


def test_identity_and_dimension_are_the_inner_encoder_s(tmp_path: Path) -> None:
    cached, inner = opened(tmp_path)
    assert (cached.identity, cached.dimension) == (inner.identity, inner.dimension)


def test_a_model_on_this_disk_is_known_without_loading_it() -> None:
    code = f"import sys; from online.encode import identity_of; print(identity_of({BUNDLED!r}))"
    code += "; sys.exit('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == SentenceEncoder().identity


def test_another_tokenizer_is_another_encoder(tmp_path: Path) -> None:
    copy = tmp_path / "model"
    shutil.copytree(_path_of(BUNDLED), copy)
    assert identity_of(str(copy)) == identity_of(BUNDLED)
    (copy / "README.md").write_text("no part of the model")
    assert identity_of(str(copy)) == identity_of(BUNDLED)
    (copy / "vocab.txt").write_text("changed")
    assert identity_of(str(copy)) != identity_of(BUNDLED)
