"""Where a head is in a picture: more than the face that a detector marks.

Hair, ears and the line of the jaw identify too (Oh et al. 2016: people are recognised by body and
head with the face covered), so all of the head is hidden. A detector's box goes from brow or
hairline to chin, and a little to the side; people's proportions add the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

Box = tuple[float, float, float, float]  # left, top, width, height, in pixels

# Shares of the box on each side of it. A Haar box is 2.6 times as wide as the eyes are apart, which
# is 164 mm in an adult; a head with hair has about 230 by 300 mm, and boxes are not exact.
_ACROSS = 0.3
_ABOVE = 0.5
_BELOW = 0.25


@dataclass(frozen=True, kw_only=True)
class Place:
    """A rectangle of whole pixels inside a picture."""

    left: int
    top: int
    right: int  # the first column that is not in it
    bottom: int

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top

    def holds_middle(self, box: Box) -> bool:
        """Return whether the middle of a box lies in it."""
        x, y = middle(box)
        return self.left <= x < self.right and self.top <= y < self.bottom


def head_of(face: Box) -> Box:
    """Return the head around a detector's box of its face."""
    left, top, width, height = face
    return (
        left - _ACROSS * width,
        top - _ABOVE * height,
        (1 + 2 * _ACROSS) * width,
        (1 + _ABOVE + _BELOW) * height,
    )


def grown(box: Box, share: float) -> Box:
    """Return the box, larger by this share of its sides in each direction."""
    left, top, width, height = box
    across, down = share * width, share * height
    return left - across, top - down, width + 2 * across, height + 2 * down


def middle(box: Box) -> tuple[float, float]:
    """Return the middle of a box, (x, y)."""
    left, top, width, height = box
    return left + width / 2, top + height / 2


def place_of(box: Box, width: int, height: int) -> Place | None:
    """Return the pixels of a picture of this size under a box; None where it is outside."""
    left, top, across, down = box
    place = Place(
        left=max(0, int(left // 1)),
        top=max(0, int(top // 1)),
        right=min(width, int(-(-(left + across) // 1))),
        bottom=min(height, int(-(-(top + down) // 1))),
    )
    return place if place.width > 0 and place.height > 0 else None


def common_share(some: Box, other: Box) -> float:
    """Return intersection over union of two boxes."""
    across = min(some[0] + some[2], other[0] + other[2]) - max(some[0], other[0])
    down = min(some[1] + some[3], other[1] + other[3]) - max(some[1], other[1])
    common = max(across, 0.0) * max(down, 0.0)
    return common / max(some[2] * some[3] + other[2] * other[3] - common, 1e-9)
