"""Which frames are looked at: some of a file's, and of a camera's always the newest."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator

from veilface_client.video.reading import Frame
from veilface_common.errors import ConfigError

_WAIT_SECONDS = 0.2  # between two looks whether to stop


def sampled(frames: Iterable[Frame], *, rate: float = 0.0, every: int = 1) -> Iterator[Frame]:
    """Yield each `every`th frame, and at most `rate` of them a second of the video.

    Args:
        frames: of a video.
        rate: 0: as many as there are.
        every: of 1 or more.

    Raises:
        ConfigError: either is out of range.
    """
    if not rate >= 0 or every < 1:
        raise ConfigError(
            f"expected a rate of 0 or more and every frame of 1 or more, got {rate:g} and {every}"
        )
    return _sampled(frames, 1 / rate if rate else 0.0, every)


def _sampled(frames: Iterable[Frame], span: float, every: int) -> Iterator[Frame]:
    due = 0.0
    for count, frame in enumerate(frames):
        # Times are not exact: a frame that is due within a hundredth of the span is due.
        if count % every or frame.seconds < due - span / 100:
            continue
        # From when it was due, so that 25 frames a second give 10, not 8; unless that is long ago.
        due = max(due, frame.seconds - span) + span
        yield frame


def newest(frames: Iterable[Frame], is_over: Callable[[], bool]) -> Iterator[Frame]:
    """Yield the newest frame of a camera each time; those that came meanwhile are dropped.

    Args:
        frames: read by another thread, as they come; its errors are raised here.
        is_over: asked several times a second, also while no frame comes.
    """
    slot = _Slot()
    reader = threading.Thread(target=slot.fill, args=(frames,), daemon=True, name="camera")
    reader.start()
    try:
        while not is_over():
            frame = slot.take(_WAIT_SECONDS)
            if frame is not None:
                yield frame
            elif slot.is_closed:
                break
    finally:
        slot.stop()
        reader.join(1.0)  # a camera that hangs must not keep us
    if slot.error is not None:
        raise slot.error


class _Slot:
    """Place for one frame between two threads."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.is_closed = False
        self._frame: Frame | None = None
        self._is_wanted = True
        self._changed = threading.Condition()

    def fill(self, frames: Iterable[Frame]) -> None:
        try:
            for frame in frames:
                with self._changed:
                    self._frame = frame
                    self._changed.notify()
                    if not self._is_wanted:
                        return
        except BaseException as error:  # noqa: BLE001 -- raised by the thread that takes
            self.error = error
        finally:
            with self._changed:
                self.is_closed = True
                self._changed.notify()

    def take(self, timeout_seconds: float) -> Frame | None:
        with self._changed:
            self._changed.wait_for(lambda: self._frame or self.is_closed, timeout_seconds)
            frame, self._frame = self._frame, None
            return frame

    def stop(self) -> None:
        with self._changed:
            self._is_wanted = False
