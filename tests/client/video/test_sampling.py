"""Which frames are looked at."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from veilface_client.video.reading import Frame
from veilface_client.video.sampling import newest, sampled
from veilface_common.errors import ConfigError

BLACK = np.zeros((2, 2, 3), np.uint8)


def frames(*times: float) -> Iterator[Frame]:
    for number, seconds in enumerate(times):
        yield Frame(number=number, seconds=seconds, pixels=BLACK)


def test_a_rate_holds_whatever_the_videos_is() -> None:
    """10 of 25, 24 or 1000 frames a second are 10 a second on average; 5 a second stay 5."""
    for rate, expected in ((25.0, 100), (24.0, 100), (1000.0, 100), (12.5, 100), (5.0, 50)):
        times = (number / rate for number in range(round(10 * rate)))
        assert abs(len(list(sampled(frames(*times), rate=10.0))) - expected) <= 1


def test_a_gap_in_the_video_is_not_made_up_for() -> None:
    """After a minute without frames, there are not hundreds in a burst."""
    times = [*(n / 100 for n in range(100)), *(60 + n / 100 for n in range(100))]
    assert len(list(sampled(frames(*times), rate=10.0))) <= 21


def test_each_nth_frame() -> None:
    """The first, and each third after it; all where nothing is asked for."""
    taken = sampled(frames(*np.arange(10) / 10), every=3)
    assert [frame.number for frame in taken] == [0, 3, 6, 9]
    assert len(list(sampled(frames(*np.arange(10) / 10)))) == 10


def test_impossible_samplings_are_refused() -> None:
    """Before the first frame is read."""
    for rate, every in ((-1.0, 1), (float("nan"), 1), (0.0, 0)):
        with pytest.raises(ConfigError, match="expected a rate"):
            sampled(frames(), rate=rate, every=every)


def test_a_camera_is_not_lagged_behind() -> None:
    """Frames that come while one is looked at are dropped, and the next one is the newest."""
    ahead, taken = threading.Semaphore(0), threading.Semaphore(0)

    def camera() -> Iterator[Frame]:
        for number in range(9):
            if number % 4 == 1:  # 1 to 4 come while 0 is looked at, 5 to 8 while 4 is
                taken.acquire()
            yield Frame(number=number, seconds=number / 25, pixels=BLACK)
            ahead.release()

    seen = []
    for frame in newest(camera(), lambda: False):
        seen.append(frame.number)
        taken.release()
        for _ in range(4 if frame.number < 8 else 0):
            ahead.acquire()
    assert seen[0] == 0
    assert seen[-1] == 8
    assert len(seen) <= 5


def test_a_camera_that_gives_nothing_can_be_stopped() -> None:
    """Ctrl-C is heard while nothing comes."""
    asked = 0
    hung = threading.Event()

    def camera() -> Iterator[Frame]:
        yield from frames(0.0)
        hung.wait()

    def is_over() -> bool:
        nonlocal asked
        asked += 1
        return asked > 3

    assert len(list(newest(camera(), is_over))) == 1
    hung.set()


def test_what_a_camera_raises_is_raised() -> None:
    """An error in the thread that reads does not get lost."""

    def camera() -> Iterator[Frame]:
        yield from frames(0.0)
        raise ConfigError("unplugged")

    with pytest.raises(ConfigError, match="unplugged"):
        list(newest(camera(), lambda: False))
