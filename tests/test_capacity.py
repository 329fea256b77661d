"""A container's limits decide how many processes and threads are started, as the affinity of a process does."""

from __future__ import annotations

from pathlib import Path

import pytest

from funduscope import capacity
from funduscope.capacity import core_count, thread_limit, worker_count


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of control groups, on a machine of 16 cores."""
    monkeypatch.setattr(capacity, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(capacity, "_MEMBERSHIPS", tmp_path / "memberships")
    monkeypatch.setattr(capacity, "allowed_cores", lambda: [*range(16)])
    monkeypatch.setattr(capacity.os, "cpu_count", lambda: 16)
    return tmp_path / "cgroup"


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_without_limits_every_core_counts(groups: Path) -> None:
    assert core_count() == 16
    assert thread_limit() == 0

    write(groups.parent / "memberships", "0::/\n")
    write(groups / "cpu.max", "max 100000\n")
    write(groups / "memory.max", "max\n")
    assert core_count() == worker_count(1) == 16


def test_a_quota_of_a_group_or_one_above_it_counts(groups: Path) -> None:
    write(groups.parent / "memberships", "0::/pod/container\n")
    write(groups / "pod/container/cpu.max", "max 100000\n")
    write(groups / "pod/cpu.max", "250000 100000\n")
    write(groups / "pod/container/memory.max", "1000000000\n")

    assert core_count() == thread_limit() == 3
    assert [worker_count(each_bytes) for each_bytes in (1, 500_000_000, 10**12)] == [3, 2, 1]


def test_limits_of_version_1_count_where_the_path_is_the_host_s(groups: Path) -> None:
    write(groups.parent / "memberships", "5:cpu,cpuacct:/docker/1f\n4:memory:/docker/1f\n0::/docker/1f\n")
    write(groups / "cpu/cpu.cfs_quota_us", "200000\n")
    write(groups / "cpu/cpu.cfs_period_us", "100000\n")
    write(groups / "memory/memory.limit_in_bytes", "500000000\n")

    assert core_count() == 2
    assert worker_count(500_000_000) == 1


def test_a_quota_of_minus_one_is_none(groups: Path) -> None:
    write(groups.parent / "memberships", "1:cpu:/\n")
    write(groups / "cpu/cpu.cfs_quota_us", "-1\n")
    write(groups / "cpu/cpu.cfs_period_us", "100000\n")

    assert core_count() == 16
