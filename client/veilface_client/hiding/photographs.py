"""A photograph: untrusted pixels -> the same with heads hidden, looked at again before it is given.

What was hidden is looked for once more in the result, by the same detectors. A face that is still
found where a head was hidden is hidden more strongly; one that shows up elsewhere is hidden too;
what cannot be hidden is not written.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from veilface_client.detectors.detection import Detection
from veilface_client.hiding.covering import CELLS, Cover, How, cover_for
from veilface_client.hiding.regions import Box, Place, common_share, head_of, place_of
from veilface_client.images import Pixels
from veilface_common.errors import DataError

Finding = Callable[[Pixels], Sequence[Detection]]
Staying = Callable[[Pixels, Detection], bool]  # does this face of the picture stay visible?

ROUNDS = 6  # of hiding and looking again
SAME = 0.4  # what two boxes of one face have in common at least, over what both cover


class FaceNotHidden(DataError):  # noqa: N818 -- named for what happened
    """A face is still there after all that can be done."""

    def __init__(self) -> None:
        super().__init__(
            "expected every face hidden, got one that is still found; nothing is written",
            hint="--how drawn leaves nothing of a face",
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Hidden:
    """A picture in which heads are hidden."""

    pixels: Pixels  # [H, W, 3]
    hidden: int  # heads
    shown: int  # faces that stay


@dataclass(eq=False)
class Covers:
    """What lies on a picture, and what stays visible in it."""

    how: How
    secret: random.Random
    places: list[tuple[Place, Cover]] = field(default_factory=list)
    shown: list[Detection] = field(default_factory=list)

    def on(self, picture: Pixels) -> Pixels:
        """Return the picture with all covers on it."""
        result = picture.copy()
        for place, cover in self.places:
            cover.put_on(result, place)
        return result

    def add(self, picture: Pixels, head: Box, known: Cover | None = None) -> Cover | None:
        """Hide one more head, by the cover that is known of it; None where it lies outside."""
        place = place_of(head, picture.shape[1], picture.shape[0])
        if place is None:
            return None
        cover = known or cover_for(picture, place, self.how, self.secret)
        assert cover is not None  # there always is a first one
        self.places.append((place, cover))
        return cover

    def add_found_late(self, picture: Pixels, face: Detection) -> None:
        """Hide as strongly as can be what only the second look found."""
        place = place_of(head_of(face.box), picture.shape[1], picture.shape[0])
        weaker = 0 if self.how == "drawn" else len(CELLS) - 1
        if place is None:
            raise FaceNotHidden
        cover = cover_for(picture, place, self.how, self.secret, weaker)
        assert cover is not None
        self.places.append((place, cover))

    def strengthen(self, picture: Pixels, face: Detection) -> bool | None:
        """Hide more strongly what lies on this face, found in the result.

        Returns:
            Whether anything changed; None if nothing lies there.

        Raises:
            FaceNotHidden: there is nothing stronger.
        """
        under = [at for at, (place, _) in enumerate(self.places) if place.holds_middle(face.box)]
        if not under or self.how == "drawn":  # whose faces are found again, as faces
            return False if under else None
        for at in under:
            place, cover = self.places[at]
            stronger = cover_for(picture, place, self.how, self.secret, cover.weaker + 1)
            if stronger is None:
                raise FaceNotHidden
            self.places[at] = place, stronger
        return True

    def shows(self, face: Detection) -> bool:
        """Return whether this face, found in the result, is one that stays."""
        return any(common_share(face.box, one.box) >= SAME for one in self.shown)


def hide_photograph(
    picture: Pixels, find: Finding, stays: Staying | None, how: How, secret: random.Random
) -> Hidden:
    """Return uint8 [H, W, 3] with the heads hidden of all faces that do not stay.

    Args:
        picture: as it was taken.
        find: finds its faces, and is asked again about the result.
        stays: says who is not hidden; None: nobody.
        how: what is shown instead.
        secret: makes the noise.

    Raises:
        FaceNotHidden: a face is still found in the result.
    """
    covers = Covers(how=how, secret=secret)
    for face in find(picture):
        if stays is not None and stays(picture, face):
            covers.shown.append(face)
        else:
            covers.add(picture, head_of(face.box))
    result = settle(picture, covers, find)
    return Hidden(pixels=result, hidden=len(covers.places), shown=len(covers.shown))


def settle(picture: Pixels, covers: Covers, find: Finding) -> Pixels:
    """Return the picture with its covers once no face is found that should not be there.

    Raises:
        FaceNotHidden: that does not happen.
    """
    for _ in range(ROUNDS):
        result = covers.on(picture)
        changes = 0
        for face in find(result):
            if covers.shows(face):
                continue
            is_stronger = covers.strengthen(picture, face)
            if is_stronger is None:
                covers.add_found_late(picture, face)
            changes += is_stronger is not False
        if not changes:
            return result
    raise FaceNotHidden
