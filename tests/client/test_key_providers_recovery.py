"""Three of five shares open the vault; two, or shares of two keys, do not, and are told why."""

from __future__ import annotations

import itertools
import secrets

import pytest
from shamir_mnemonic import Share, generate_mnemonics

from veilface_client.key_providers.recovery import RecoveryKey, RecoveryLock, combine, split
from veilface_common.errors import ConfigError, VaultError, WrongKey

KEY = bytes(range(100, 132))
SECRET = bytes(range(32))

# Three shares that were printed once, of a key of 32 times `k`: paper must open for ever.
PAPER = (
    (
        "taught result academic acne amazing twin preach insect advance plains making duke "
        "ordinary fatigue preach scatter tactics sack sunlight ceiling valuable exceed trial "
        "viral replace prisoner clock discuss clothes work family cricket exact"
    ),
    (
        "taught result academic agree alto alive move oven legs grownup deploy mayor tadpole "
        "volume diminish drug endless worthy hanger knit true grill mobile total plastic "
        "paper kind unkind tension aquatic sunlight military painting"
    ),
    (
        "taught result academic amazing ambition window meaning glance inform screw round "
        "story glen cleanup webcam rainbow oasis drove vocal beam taught scholar maiden "
        "intend extra acquire formal plot fake machine amount finance organize"
    ),
)


def test_shares_on_paper_still_open() -> None:
    """Whatever the library and we become."""
    assert combine(PAPER) == b"k" * 32


def test_any_three_of_five_shares_give_the_key_back() -> None:
    """All ten choices, in any order, and more than three."""
    shares = split(SECRET)
    assert len(set(shares)) == 5
    for some in itertools.permutations(shares, 3):
        assert combine(some) == SECRET
    assert combine(shares) == combine(shares[:4]) == SECRET


@pytest.mark.parametrize(("threshold", "count"), [(2, 2), (2, 3), (5, 5), (16, 16)])
def test_other_thresholds_hold_too(threshold: int, count: int) -> None:
    """The threshold opens, one less does not."""
    shares = split(SECRET, threshold, count)
    assert len(shares) == count
    assert combine(shares[-threshold:]) == SECRET
    with pytest.raises(VaultError, match=f"expected {threshold} different"):
        combine(shares[: threshold - 1])


@pytest.mark.parametrize(("threshold", "count"), [(1, 1), (1, 5), (6, 5), (3, 17), (0, 5)])
def test_thresholds_that_protect_nothing_are_refused(threshold: int, count: int) -> None:
    """One share that opens alone is a key on paper."""
    with pytest.raises(ConfigError, match=f"got {threshold} of {count}"):
        split(SECRET, threshold, count)


def test_a_key_of_another_length_is_a_slip() -> None:
    """The vault's keys have 32 bytes."""
    with pytest.raises(ValueError, match="32 bytes"):
        split(SECRET[:16])


def test_two_shares_tell_nothing_of_the_key() -> None:
    """The same two x coordinates hold other values each time: they are drawn, not computed."""
    values = {Share.from_mnemonic(split(SECRET)[0]).value for _ in range(20)}
    assert len(values) == 20


def test_the_same_share_thrice_is_one() -> None:
    """Nobody counts for three."""
    shares = split(SECRET)
    with pytest.raises(VaultError, match="expected 3 different recovery shares, got 1"):
        combine([shares[0]] * 3)
    assert combine([shares[0], *shares[:3]]) == SECRET


def test_no_shares_are_too_few() -> None:
    """Not a traceback."""
    with pytest.raises(VaultError, match="got 0"):
        combine([])


def test_shares_of_two_keys_are_named_as_such() -> None:
    """As after a second set was printed."""
    first, second = split(SECRET), split(KEY)
    with pytest.raises(VaultError, match="of one recovery key"):
        combine([*first[:2], second[2]])


def test_a_mistyped_share_is_named_by_its_place_and_not_shown() -> None:
    """Each word in turn replaced, one left out, one unknown, none at all."""
    shares = split(SECRET)
    words = shares[1].split()
    wrong = [
        " ".join(
            [*words[:place], "academic" if word != "academic" else "zero", *words[place + 1 :]]
        )
        for place, word in enumerate(words)
    ]
    wrong += [" ".join(words[:-1]), " ".join([*words[:-1], "veilface"]), ""]
    for text in wrong:
        with pytest.raises(VaultError, match="number 2") as caught:
            combine([shares[0], text, shares[2]])
        assert not set(words[4:-3]) & set(str(caught.value).split())


def test_capitals_and_line_breaks_do_no_harm() -> None:
    """People type them."""
    shares = [share.title().replace(" ", "\n  ", 5) for share in split(SECRET)]
    assert combine(shares[:3]) == SECRET


def test_a_forged_share_is_refused() -> None:
    """A share with another value and a checksum that fits: SLIP-39 keeps a digest of the secret."""
    shares = [Share.from_mnemonic(words) for words in split(SECRET)]
    forged = bytearray(shares[0].value)
    forged[5] ^= 1
    fields = vars(shares[0]) | {"value": bytes(forged)}
    with pytest.raises(VaultError, match="altered"):
        combine([Share(**fields).mnemonic(), shares[1].mnemonic(), shares[2].mnemonic()])


@pytest.mark.parametrize(
    "foreign",
    [
        generate_mnemonics(1, [(3, 5)], SECRET[:16])[0],
        generate_mnemonics(2, [(2, 3), (2, 3)], SECRET)[0],
        generate_mnemonics(1, [(3, 5)], SECRET, iteration_exponent=2)[0],
    ],
    ids=["of-16-bytes", "in-groups", "slower"],
)
def test_shares_of_another_program_are_refused(foreign: list[str]) -> None:
    """A wallet's words, or ones that would be stretched for an hour."""
    with pytest.raises(VaultError, match="Veilface wrote"):
        combine(foreign[:3])


def test_the_shares_open_what_the_lock_wrapped() -> None:
    """Made when the vault is; used at each erasure without the secret; opened years later."""
    secret = secrets.token_bytes(32)
    lock, shares = RecoveryKey(secret).lock, split(secret)
    del secret
    wrapped = [RecoveryLock(lock.public).wrap(key) for key in (KEY, SECRET)]
    recovery = RecoveryKey(combine(shares[2:]))
    assert [recovery.unwrap(one) for one in wrapped] == [KEY, SECRET]


def test_shares_of_another_vault_are_a_wrong_key() -> None:
    """They fit together, and open another vault."""
    wrapped = RecoveryKey(SECRET).wrap(KEY)
    with pytest.raises(WrongKey) as caught:
        RecoveryKey(combine(split(KEY)[:3])).unwrap(wrapped)
    assert "shares" in str(caught.value.hint)


def test_the_lock_is_not_the_key() -> None:
    """What the vault keeps to wrap with opens nothing."""
    recovery = RecoveryKey(SECRET)
    assert recovery.lock.public != SECRET
    with pytest.raises(WrongKey):
        RecoveryKey(recovery.lock.public).unwrap(recovery.wrap(KEY))
