"""Generates bodies and frames, of any size, that cost their reader more than their sender."""

import json
from collections.abc import Callable, Iterator
from random import Random

Filled = Callable[[int], str]


def repeated(unit: str, head: str = "[", tail: str = "]", separator: str = ",") -> Filled:
    """Returns a function that repeats the unit as often as there is room, in bytes."""

    def filled(room: int) -> str:
        count = (room - len(head) - len(tail)) // (len((unit + separator).encode()))
        return head + separator.join([unit] * count) + tail

    return filled


def numbered(member: str, head: str = "{", tail: str = "}") -> Filled:
    """Returns a function that fills the room, in bytes, with members whose names all differ."""

    def filled(room: int) -> str:
        count = (room - len(head) - len(tail)) // (len(member % 0xFFFFFF) + 1)
        return head + ",".join(member % number for number in range(count)) + tail

    return filled


def text_of(unit: str) -> Filled:
    return repeated(unit, '"', '"', "")


def nested(depth: int, head: str = "[", tail: str = "]") -> Filled:
    return repeated(head * depth + tail * depth)


VALUES: dict[str, Filled] = {
    "lists": repeated("[]"),
    "objects": repeated("{}"),
    "numbers": repeated("1"),
    "fractions": repeated("1e308"),
    "empty texts": repeated('""'),
    "NaN": repeated("NaN"),
    "long numbers": repeated("9" * 4_000),
    "one number": repeated("9", "", "", ""),
    "one fraction": repeated("1", "0.", "", ""),
    "one exponent": repeated("9", "1e", "", ""),
    "members": numbered('"%x":1'),
    "members of objects": numbered('"%x":{"":{}}'),
    "the same member": repeated('"a":1', "{", "}"),
    "one long name": repeated("x", '{"', '":1}', ""),
    "long names": numbered(f'"{"x" * 1_000}%x":1'),
    "names of lone surrogates": numbered('"\\ud800%x":1'),
    "a long text": text_of("x"),
    "quotes": text_of('\\"'),
    "backslashes": text_of("\\\\"),
    "commas in a text": text_of(",[{"),
    "lone surrogates": text_of("\\ud800"),
    "NUL": text_of("\\u0000"),
    "what is composed": text_of("\ufdfa"),
    "marks": text_of("a\u0315\u0300\u05ae"),
    "blanks": text_of(" "),
    "an address": repeated("x", '"a@', '.example"', "."),
    "an address of umlauts": repeated("ä", '"a@', '.example"', ""),
    "a date": repeated("1", '"2020-01-01T00:00:00.', '"', ""),
    "deep lists": nested(100),
    "deeper lists": nested(900),
    "the deepest list": repeated("[", "", "", ""),
    "the deepest object": repeated('{"":', "", "", ""),
    "texts that end at once": repeated('"', "", "", ""),
    "white space": repeated(" ", "", "{}", ""),
    "lines": repeated("\n", "", "}", ""),
}


def bodies(fields: list[str], room: int, random: Random) -> Iterator[tuple[str, bytes]]:
    """Yields each value alone, in place of a field and beside fields; some are mixed, truncated, or not in UTF-8."""
    for name, fill in VALUES.items():
        field = random.choice(fields or [""])
        yield name, fill(room).encode()
        yield f"{name} as {field}", _object({**dict.fromkeys(fields, "1"), field: "%"}, fill, room)
        yield f"{name} as more", _object({**dict.fromkeys(fields, "{}"), "more": "%"}, fill, room)
    mixed = random.sample(sorted(VALUES), 8)
    yield " and ".join(mixed), ("[" + ",".join(VALUES[name](room // 9) for name in mixed) + "]").encode()
    whole = VALUES["members"](room).encode()
    yield "broken off", whole[: random.randrange(len(whole))]
    yield "UTF-16", VALUES["members"](room // 2).encode("utf-16")[:room]
    yield "UTF-16 with an escape", ('["\\"",' + VALUES["members"](room // 2 - 9)).encode("utf-16-le") + b"]\0"
    yield "no text", b"\xff" * room
    yield "NUL", b"\0" * room


def _object(members: dict[str, str], fill: Filled, room: int) -> bytes:
    head, _, tail = ("{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in members.items()) + "}").partition(
        "%"
    )
    return (head + fill(room - len(head) - len(tail)) + tail).encode()


def forms(room: int) -> Iterator[tuple[str, str, bytes]]:
    """Yields names, content types and bodies of forms."""
    url, many = "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"
    yield "fields", url, b"&".join([b"a"] * (room // 2))
    yield "empty fields", url, b"&" * room
    yield "signs", url, b"=" * room
    yield "percents", url, b"username=" + b"%41" * (room // 3 - 3)
    yield "scopes", url, b"username=a&password=b&scope=" + b"a+" * (room // 2 - 20)
    yield "a long name", url, b"a" * room
    yield "a long user", url, b"password=b&username=" + b"a@" * (room // 2 - 20)
    yield "a long password", url, b"username=a@example.com&password=" + b"x" * (room - 40)
    part = b'--b\r\ncontent-disposition: form-data; name="%s"%s\r\n\r\nx\r\n'
    yield "parts", many, part % (b"a", b"") * (room // 70) + b"--b--"
    yield "files", many, part % (b"a", b'; filename="x"') * (room // 90) + b"--b--"
    yield "headers", many, b"--b\r\n" + b"a: b\r\n" * (room // 7) + b"\r\nx\r\n--b--"
    yield "a long header", many, b"--b\r\na: " + b"b" * (room - 30) + b"\r\n\r\nx\r\n--b--"
    yield "almost borders", many, b"--b\r\n\r\n" + b"\r\n--a" * (room // 5 - 5) + b"\r\n--b--"
    yield "dashes", many, b"-" * room
    yield "line ends", many, b"\r\n" * (room // 2)
    semicolons = b"--b\r\ncontent-disposition: form-data" + b";" * (room - 100) + b"\r\n\r\nx\r\n--b--"
    yield "semicolons", many, semicolons


def requests(room: int) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yields names, query strings and headers."""
    yield "a query", "&".join(["a"] * (room // 2)), {}
    yield "names in a query", "&".join(f"{number:x}=" for number in range(room // 6)), {}
    yield "percents in a query", "cursor=" + "%41" * (room // 4), {}
    yield "digits in a query", "limit=" + "9" * (room - 100), {}
    yield "many limits", "&".join(["limit=1"] * (room // 8)), {}
    long = {
        "Authorization": "Bearer " + "e30." * (room // 5),
        "Cookie": "a=b; " * (room // 6),
        "Accept": "a/b, " * (room // 6),
        "Accept-Encoding": "gzip, " * (room // 7),
        "Content-Type": "application/json;" * (room // 18),
        "Idempotency-Key": "x" * (room - 100),
        "If-None-Match": '"a", ' * (room // 6),
        "Last-Event-ID": "9" * (room - 100),
        "Origin": "http://" + "a." * (room // 3),
        "Host": "a." * (room // 3),
        "Range": "bytes=" + "0-1," * (room // 5),
        "Sec-WebSocket-Protocol": "a, " * (room // 4),
        "Traceparent": "00-" + "0" * (room - 100),
        "Baggage": "a=b," * (room // 5),
        "X-Forwarded-For": "1.1.1.1, " * (room // 10),
        "X-Request-ID": "a" * (room - 100),
    }
    for name, value in long.items():
        yield name, "", {name: value.strip()}
    yield "escapes in a cookie", "", {"Cookie": 'a="' + "\\1" * (room // 2 - 10) + '"'}
    yield "quotes in a cookie", "", {"Cookie": 'a="' + '\\"' * (room // 2 - 10)}
    yield "many headers", "", {f"X-{number}": "" for number in range(100)}
