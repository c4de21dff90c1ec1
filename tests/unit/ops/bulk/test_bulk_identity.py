"""A row is the same message however its file is named, sorted or shortened."""

import io
import json
import random

from ops.bulk.identity import Identities, KeySet
from ops.bulk.row import Row
from ops.bulk.rows import open_rows

HEADER = "recipient,body\n"
ROWS = [f"+2332{n:08d},Text {n % 7}" for n in range(40)] + ["+1,again"] * 3


def ids(data: str, encoding: str = "utf-8", **options) -> dict[str, list[str]]:
    """The request_ids in a file, by recipient."""
    identities = Identities(**options)
    found: dict[str, list[str]] = {}
    for row in open_rows(io.BytesIO(data.encode(encoding)), None, identities).rows:
        if isinstance(row, Row):
            found.setdefault(row.request.recipient, []).append(row.request.request_id)
    return found


def file_of(rows: list[str]) -> str:
    return HEADER + "\n".join(rows) + "\n"


def test_sorted_and_shuffled_files_have_the_same_identities():
    shuffled = ROWS.copy()
    random.Random(7).shuffle(shuffled)
    assert ids(file_of(ROWS)) == ids(file_of(shuffled)) == ids(file_of(sorted(ROWS)))


def test_deleted_row_leaves_the_identities_of_the_others():
    whole = ids(file_of(ROWS))
    for deleted in (0, 17, 39):
        rest = ids(file_of([*ROWS[:deleted], *ROWS[deleted + 1 :]]))
        assert {**rest, ROWS[deleted].split(",")[0]: whole[ROWS[deleted].split(",")[0]]} == whole


def test_bad_row_that_is_mended_or_deleted_leaves_the_identities_of_the_others():
    spoilt = ids(file_of(["+2", *ROWS]))
    assert spoilt == ids(file_of(ROWS))
    assert spoilt.items() <= ids(file_of(["+2,mended", *ROWS])).items()


def test_equal_rows_are_messages_of_their_own_and_deleting_one_leaves_the_others():
    three = ids(file_of(ROWS))["+1"]
    assert len(set(three)) == 3
    assert ids(file_of(ROWS[:-1]))["+1"] == three[:2]


def test_form_of_the_file_does_not_matter():
    whole = ids(file_of(ROWS))
    assert ids(file_of(ROWS).replace(",", ";").replace("\n", "\r\n"), "utf-16") == whole
    turned = "body,recipient,sender\n" + "".join(f'"{row.split(",")[1]}",{row.split(",")[0]},\n' for row in ROWS)
    assert ids(turned) == whole
    objects = [dict(zip(("recipient", "body"), row.split(","), strict=True)) for row in ROWS]
    assert ids("\n".join(map(json.dumps, objects))) == whole


def test_other_spelling_of_the_number_is_the_same_row():
    [[plain]] = ids(HEADER + "+491512345678,Hi\n").values()
    for spelled in (
        "+49 (1512) 345-678",
        "+49.1512.345.678",
        "0049 1512 345678",
        "+49 (0) 1512 345678",
        " +491512345678",
    ):
        [[other]] = ids(HEADER + spelled + ",Hi\n").values()
        assert other == plain, spelled


def test_number_with_a_decimal_point_is_not_the_one_without_it():
    for spelled in ("+4915123456789.0", "+491512345678.90", "491512345678.900"):
        data = HEADER + f"{spelled},Hi\n{spelled.replace('.', '')},Hi\n"
        distinct = Identities(distinct=True)
        assert len(list(open_rows(io.BytesIO(data.encode()), None, distinct).rows)) == 2, spelled


def test_text_that_an_editor_saved_in_its_own_way_is_the_same_row():
    [[saved]] = ids(HEADER + '+1,"Caf\u00e9\nopen\nnow"\n').values()
    for text in ("Caf\u00e9\r\nopen\r\nnow", "Cafe\u0301\nopen\nnow", "Caf\u00e9\ropen\rnow"):
        [[again]] = ids(json.dumps({"recipient": "+1", "body": text})).values()
        assert again == saved


def test_other_contents_or_another_campaign_are_another_message():
    found = [ids(HEADER + "+1,Hi\n", campaign=campaign)["+1"][0] for campaign in ("", "spring", "summer")] + ids(
        HEADER + "+1,Ho\n"
    )["+1"]
    assert len(set(found)) == 4
    assert ids(HEADER + "+1,Hi\n", campaign="spring")["+1"][0] == found[1]


def test_request_id_of_the_row_itself_is_kept():
    assert ids("recipient,body,request_id\n+1,Hello,mine\n") == {"+1": ["mine"]}


def test_same_recipient_is_counted_and_left_out_only_when_asked():
    data = file_of(["+1,a", "+2,a", "+1,b", "+ 1,c", "+2"])
    kept, distinct = Identities(), Identities(distinct=True)
    assert len(list(open_rows(io.BytesIO(data.encode()), None, kept).rows)) == 5
    assert [row.line for row in open_rows(io.BytesIO(data.encode()), None, distinct).rows] == [2, 3]
    assert kept.same_recipient == distinct.same_recipient == 3


def test_set_of_keys_knows_what_was_added():
    keys, plain = KeySet(), set()
    chance = random.Random(3)
    for _ in range(20_000):
        key = chance.choice([0, 1, chance.getrandbits(64), chance.getrandbits(12), chance.getrandbits(6) << 40])
        assert keys.add(key) is ((key or 1) not in plain)
        plain.add(key or 1)
