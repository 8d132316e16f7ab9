"""Batches of tiles: fewer at a time where memory is short, two at a time on the processor, and errors in one."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from restorer_double import Answer, Double, local, numbers
from scene_files import read, write_tif
from unclouded.errors import UncloudedError
from unclouded.whole_scene import plan_scene, restore_scene

CPU_ERROR = RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried …")


class Small(Double):
    """Has room for `most` tiles at a time."""

    def __init__(self, most: int, error: Exception) -> None:
        super().__init__(local)
        self.most, self.error, self.batches = most, error, [0]

    def restore(self, y: Tensor, origins: Sequence[tuple[int, int]], sampling: object = None) -> Answer:
        self.batches.append(len(y))
        if len(y) > self.most:
            raise self.error
        return super().restore(y, origins, sampling)


@pytest.mark.parametrize("error", [CPU_ERROR, MemoryError(), torch.cuda.OutOfMemoryError("CUDA out of memory")])
def test_out_of_memory_halves_the_batch_and_goes_on(tmp_path: Path, error: Exception) -> None:
    source = write_tif(tmp_path / "in.tif", numbers((3, 104, 272), "uint8"))  # 11 tiles a row
    options = {"tile": 32, "overlap": 8, "batch_size": 8, "overwrite": True}
    assert restore_scene(source, tmp_path / "all.tif", model=Double(local), **options).notes == (
        "Every pixel that has data was synthesised.",
    )
    small = Small(3, error)
    report = restore_scene(source, tmp_path / "out.tif", model=small, **options)
    assert small.batches[:4] == [0, 8, 4, 2]
    assert max(small.batches[4:]) == 2
    assert [note for note in report.notes if "Memory" in note] == [
        "Memory ran out: the run went on with 2 instead of 8 tiles at a time."
    ]
    np.testing.assert_array_equal(read(tmp_path / "out.tif"), read(tmp_path / "all.tif"))


def test_a_tile_too_much_for_memory_and_other_errors_end_the_run(tmp_path: Path) -> None:
    source = write_tif(tmp_path / "in.tif", numbers((3, 50, 60), "uint8"))
    for error, raised, message in (
        (CPU_ERROR, UncloudedError, "smaller --tile"),
        (RuntimeError("a kernel broke"), RuntimeError, "a kernel broke"),
    ):
        with pytest.raises(raised, match=message):
            restore_scene(source, tmp_path / "out.tif", model=Small(0, error), tile=32, overlap=8)
    assert [p.name for p in tmp_path.iterdir()] == ["in.tif"]


class Elsewhere(Double):
    """A restorer on the processor, so that two batches may be in work at a time; the first of two takes longer."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        super().__init__(local)
        self.inside, self.most, self.threads = 0, 0, set[int]()
        self.lock = threading.Lock()

    def restore(self, y: Tensor, origins: Sequence[tuple[int, int]], sampling: object = None) -> Answer:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.threads.add(torch.get_num_threads())
        time.sleep(0.02 if origins[0][1] == 0 else 0.002)
        answer = super().restore(y, origins, sampling)
        with self.lock:
            self.inside -= 1
        return answer


def test_two_batches_at_a_time_give_the_bits_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_tif(tmp_path / "in.tif", numbers((3, 104, 272), "float32"))
    results = []
    for threads, most in ((1, 1), (2, 2), (5, 2)):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=threads: n)
        given: list[int] = []
        monkeypatch.setattr(torch, "set_num_threads", given.append)
        double = Elsewhere()
        restore_scene(source, tmp_path / "out.tif", model=double, tile=32, overlap=8, batch_size=3, overwrite=True,
                      uncertainty_out=tmp_path / "u.tif", weights_out=tmp_path / "w.tif")  # fmt: skip
        assert double.most == most
        assert given == ([1] if most == 1 else [threads // 2, threads])
        results.append([(tmp_path / f"{name}.tif").read_bytes() for name in ("out", "u", "w")])
    assert results[0] == results[1] == results[2]


def test_an_error_in_one_of_two_batches_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    source, double = write_tif(tmp_path / "in.tif", numbers((3, 104, 272), "uint8")), Elsewhere()
    double.function = lambda y: y * torch.nan
    with pytest.raises(UncloudedError, match="not finite"):
        restore_scene(source, tmp_path / "out.tif", model=double, tile=32, overlap=8)
    assert [p.name for p in tmp_path.iterdir()] == ["in.tif"]


@pytest.mark.parametrize(("device", "tiles"), [(None, 4), ("cpu", 4), ("cuda", 16)])
def test_a_gpu_gets_more_tiles_at_a_time_unless_told_otherwise(tmp_path: Path, device: str | None, tiles: int) -> None:
    source, model = write_tif(tmp_path / "in.tif", numbers((3, 50, 60), "uint8")), Double(local)
    if device is not None:
        model.device = torch.device(device)  # type: ignore[attr-defined]
    assert plan_scene(source, tmp_path / "out.tif", model=model, tile=32, overlap=8).batch_size == tiles
    assert plan_scene(source, tmp_path / "out.tif", model=model, tile=32, overlap=8, batch_size=3).batch_size == 3
