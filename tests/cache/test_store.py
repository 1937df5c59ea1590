"""A folder of answers: found by key, whole or not there, and of one teacher."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from scipy.special import logsumexp, softmax

from hf_distill.cache import shard
from hf_distill.cache import store as store_module
from hf_distill.cache.shard import Answers
from hf_distill.cache.store import AnswerStore

IDENTITY = {"format": 1, "dtype": "float32", "top_k": None, "features": [], "name": "t", "teacher": {"weights": "a"}}


def answers(first: int, count: int, classes: int = 3, **features: Any) -> Answers:
    """Answers that say which example they are for: example i has the logits i, i + 0.25, ..."""
    examples = np.arange(first, first + count, dtype=np.uint64)
    keys = np.stack([examples * np.uint64(0x9E3779B97F4A7C15), examples], axis=1)  # in no order
    return Answers(keys, (examples[:, None] + np.arange(classes) / 4).astype(np.float32), **features)


def test_answers_come_back_by_key_in_any_order(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path, IDENTITY)
    store.add([answers(0, 50), answers(50, 7)])
    store.add([answers(100, 20)])
    wanted = np.concatenate([answers(110, 3).keys, answers(3, 2).keys, answers(55, 1).keys, answers(3, 1).keys])
    for opened in (store, AnswerStore(tmp_path)):
        np.testing.assert_array_equal(opened.logits(wanted)[:, 0], [110, 111, 112, 3, 4, 55, 3])
        assert len(opened) == 77
        assert opened.missing(answers(56, 3).keys).tolist() == [False, True, True]
    with pytest.raises(KeyError, match="2 of 3 examples have no answer"):
        store.logits(answers(56, 3).keys)


def test_half_a_key_is_not_enough(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path, IDENTITY)
    store.add([answers(0, 5)])
    keys = answers(0, 5).keys
    keys[2, 1] += 1
    assert store.missing(keys).tolist() == [False, False, True, False, False]


def test_half_precision_and_the_largest_of_many_classes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(6, 300), scale=3).astype(np.float32)
    part = Answers(answers(0, 6).keys, logits)
    half = AnswerStore(tmp_path / "half", {**IDENTITY, "dtype": "float16"})
    half.add([part])
    np.testing.assert_array_equal(half.logits(part.keys), logits.astype(np.float16).astype(np.float32))
    top = AnswerStore(tmp_path / "top", {**IDENTITY, "top_k": 10})
    top.add([part])
    kept = top.logits(part.keys)
    expected, found = softmax(logits.astype(np.float64), axis=1), softmax(kept.astype(np.float64), axis=1)
    best = np.argsort(-logits, axis=1)
    np.testing.assert_allclose(
        np.take_along_axis(found, best[:, :10], axis=1), np.take_along_axis(expected, best[:, :10], axis=1), rtol=1e-5
    )
    rest = np.take_along_axis(found, best[:, 10:], axis=1)
    np.testing.assert_allclose(
        rest.sum(axis=1), np.take_along_axis(expected, best[:, 10:], axis=1).sum(axis=1), rtol=1e-5
    )
    np.testing.assert_allclose(rest, rest[:, :1].repeat(290, axis=1), rtol=1e-6)
    np.testing.assert_allclose(logsumexp(kept, axis=1), logsumexp(logits, axis=1), rtol=1e-6)
    size = sum(path.stat().st_size for path in (tmp_path / "top").glob("*.arrow"))
    assert size < 0.5 * sum(path.stat().st_size for path in (tmp_path / "half").glob("*.arrow"))


def test_a_logit_too_large_for_half_precision_is_refused(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path, {**IDENTITY, "dtype": "float16"})
    with pytest.raises(ValueError, match="A logit of 100000 is too large for float16"):
        store.add([Answers(answers(0, 1).keys, np.array([[1e5, 0.0]], dtype=np.float32))])
    assert len(AnswerStore(tmp_path)) == 0


def test_features_of_tokens_and_of_one_shape(tmp_path: Path) -> None:
    def tokens(example: int) -> np.ndarray[Any, Any]:
        return np.full((example + 1, 4), example, dtype=np.float16)

    store = AnswerStore(tmp_path, {**IDENTITY, "features": ["layer", "map"]})
    kept = {
        "layer": [tokens(example) for example in range(3)],
        "map": [np.full((2, 5), example, dtype=np.float16) for example in range(3)],
    }
    store.add([answers(0, 3, features=kept, per_token=frozenset({"layer"}))])
    assert store.per_token == {"layer"}
    places = AnswerStore(tmp_path).find(answers(0, 3).keys[[2, 0]])
    found = {path: places.feature(path) for path in kept}
    assert [array.shape for array in found["layer"]] == [(3, 4), (1, 4)]
    assert [array.shape for array in found["map"]] == [(2, 5), (2, 5)]
    assert [float(array.min()) for arrays in found.values() for array in arrays] == [2, 0, 2, 0]


def without_batches(path: Path) -> None:
    schema = pyarrow.ipc.open_file(path.read_bytes()).schema
    with pyarrow.ipc.new_file(path, schema):
        pass


def with_metadata(path: Path, metadata: bytes) -> None:
    batch = pyarrow.ipc.open_file(path.read_bytes()).get_batch(0).replace_schema_metadata({shard.METADATA: metadata})
    with pyarrow.ipc.new_file(path, batch.schema) as writer:
        writer.write_batch(batch)


@pytest.mark.parametrize(
    "damage",
    [
        *(lambda path, kept=kept: path.write_bytes(path.read_bytes()[:kept]) for kept in (0, 10, -1, -200)),
        without_batches,
        *(partial(with_metadata, metadata=metadata) for metadata in (b"{", b"\xff", b"3", b"[1]")),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    AnswerStore(tmp_path, IDENTITY).add([answers(0, 50)])
    (path,) = tmp_path.glob("*.arrow")
    damage(path)
    with pytest.raises(ValueError, match=rf"{path.name} is cut off or damaged .*Delete .*{path.name}"):
        AnswerStore(tmp_path)


def test_a_file_that_the_system_cannot_read_is_not_called_damaged(tmp_path: Path) -> None:
    AnswerStore(tmp_path, IDENTITY)
    (tmp_path / "0.arrow").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"0\.arrow.*No such file"):
        AnswerStore(tmp_path)


def test_what_a_killed_run_left_is_not_read(tmp_path: Path) -> None:
    AnswerStore(tmp_path, IDENTITY).add([answers(0, 5)])
    (tmp_path / "0.part").write_bytes(b"half")
    assert len(AnswerStore(tmp_path)) == 5


def test_a_full_disk_loses_nothing_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = AnswerStore(tmp_path, IDENTITY)
    store.add([answers(0, 5)])

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shard.os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            store.add([answers(5, 5)])
    assert len(list(tmp_path.iterdir())) == 2
    assert len(AnswerStore(tmp_path)) == len(store) == 5
    store.add([answers(5, 5)])
    assert len(AnswerStore(tmp_path)) == 10


def test_answers_of_another_teacher_are_refused_with_the_difference(tmp_path: Path) -> None:
    AnswerStore(tmp_path, IDENTITY).add([answers(0, 5)])
    assert len(AnswerStore(tmp_path, {**IDENTITY, "name": "the same elsewhere"})) == 5
    changed = {**IDENTITY, "teacher": {"weights": "b"}, "dtype": "float16"}
    with pytest.raises(ValueError, match=r"dtype was 'float32' and is 'float16'; teacher's weights was 'a' and is 'b'"):
        AnswerStore(tmp_path, changed)


def test_a_file_from_another_cache_is_refused(tmp_path: Path) -> None:
    AnswerStore(tmp_path / "a", IDENTITY).add([answers(0, 5)])
    other = AnswerStore(tmp_path / "b", {**IDENTITY, "teacher": {"weights": "b"}})
    (path,) = (tmp_path / "a").glob("*.arrow")
    path.rename(tmp_path / "b" / path.name)
    with pytest.raises(ValueError, match="does not belong to the cache in whose folder it lies"):
        other.refresh()


def test_no_cache_or_half_of_its_description(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no cache of a teacher's answers in .*Make one: cache_teacher"):
        AnswerStore(tmp_path / "nowhere")
    AnswerStore(tmp_path, IDENTITY)
    (tmp_path / "identity.json").write_text("{")
    with pytest.raises(ValueError, match=r"identity.json is damaged .* Delete the folder"):
        AnswerStore(tmp_path)
    (tmp_path / "identity.json").write_text(json.dumps({**IDENTITY, "format": 99}))
    with pytest.raises(ValueError, match="another version"):
        AnswerStore(tmp_path)


def test_a_complete_cache_is_not_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    AnswerStore(tmp_path, IDENTITY).add([answers(0, 5)])
    monkeypatch.setattr(store_module.uuid, "uuid4", lambda: pytest.fail("written"))
    assert len(AnswerStore(tmp_path, IDENTITY)) == 5


def test_a_folder_of_something_else_is_not_begun_in(tmp_path: Path) -> None:
    (tmp_path / "data-00000-of-00001.arrow").write_bytes(b"a data set")
    with pytest.raises(ValueError, match=r"holds something else, data-00000-of-00001.arrow for one, .*new folder"):
        AnswerStore(tmp_path, IDENTITY)
    assert len(list(tmp_path.iterdir())) == 1


def test_another_process_may_begin_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_into = Path.iterdir

    def begun_before(folder: Path) -> Iterator[Path]:
        monkeypatch.setattr(Path, "iterdir", looked_into)
        AnswerStore(folder, IDENTITY).add([answers(0, 5)])
        return looked_into(folder)

    monkeypatch.setattr(Path, "iterdir", begun_before)
    assert len(AnswerStore(tmp_path / "new", IDENTITY)) == 5


def test_features_of_several_shapes_without_tokens_are_refused(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path, {**IDENTITY, "features": ["layer"]})
    kept = {"layer": [np.zeros((length, 4), dtype=np.float16) for length in (2, 3)]}
    with pytest.raises(ValueError, match=r"'layer' puts out differs in shape .*attention_mask"):
        store.add([answers(0, 2, features=kept)])


def fill(folder: Path, number: int) -> None:
    store = AnswerStore(folder, IDENTITY)
    for part in range(20):
        store.add([answers(1000 * number + 10 * part, 10), answers(10 * part, 10)])
        store.refresh()
    os._exit(0)


def test_processes_that_fill_a_folder_at_once_do_not_harm_each_other(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=fill, args=(tmp_path / "new", number)) for number in (1, 2, 3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    store = AnswerStore(tmp_path / "new")
    for first in (0, 1000, 2000, 3000):
        np.testing.assert_array_equal(store.logits(answers(first, 200).keys), answers(first, 200).logits)
    assert not list((tmp_path / "new").glob("*.part"))
