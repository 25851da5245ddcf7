"""Any file gives prices or a ForecastError, never another exception, and needs little memory."""

import datetime as dt
import io
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from forecastlib.data.prices import require_prices
from forecastlib.data.sources import open_source
from forecastlib.errors import ForecastError

PRICES = Path(__file__).parent / "fixtures" / "prices"
FILES = {path.name: path.read_bytes() for path in sorted(PRICES.iterdir())}
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp949", "latin-1", "utf-32"]

PAST = dt.date(1900, 1, 1)

fuzz = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def read(data, suffix=".csv", **options):
    """Read bytes as a file; return prices, or None where a ForecastError says why there are none."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "prices" + suffix)
        path.write_bytes(data)
        try:
            prices = open_source(f"csv:{path}", **options).fetch("^GSPC")
        except ForecastError as error:
            assert len(str(error)) > 20, "an error must say what was expected"
            assert len(str(error)) < 2_000 + len(str(path)), "an error must be readable"
            return None
    require_prices(prices, complete=False)
    assert prices.attrs["source"] == f"csv:{path}"
    return prices


@fuzz
@given(st.binary(max_size=3_000))
def test_random_bytes(data):
    read(data)
    read(data, ".parquet")
    read(b"PAR1" + data + b"PAR1")


@fuzz
@given(st.sampled_from(sorted(FILES)), st.data())
def test_files_cut_off_anywhere(name, data):
    whole = read(FILES[name])
    cut = read(FILES[name][: data.draw(st.integers(0, len(FILES[name])))])
    if cut is not None and name != "holidays.csv":
        known = cut.index.intersection(whole.index)
        assert len(known) >= len(cut) - 1  # only the date of the last line may have lost a digit


@fuzz
@given(st.sampled_from(sorted(FILES)), st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 255)), max_size=8))
def test_files_with_changed_bytes(name, changes):
    broken = bytearray(FILES[name])
    for position, value in changes:
        broken[position % len(broken)] = value
    read(bytes(broken))


@fuzz
@given(
    st.sampled_from(sorted(FILES)),
    st.lists(
        st.tuples(st.sampled_from(["drop", "repeat", "swap", "blank", "halve", "join"]), st.integers(0, 10)), max_size=6
    ),
    st.sampled_from(ENCODINGS),
)
def test_files_with_mangled_lines_in_any_encoding(name, changes, encoding):
    text = FILES[name].decode("utf-16" if "utf16" in name else "cp949" if "cp949" in name else "utf-8-sig")
    lines = text.splitlines(keepends=True)
    for change, number in changes:
        if not lines:
            break
        number %= len(lines)
        if change == "drop":
            del lines[number]
        elif change == "repeat":
            lines.insert(number, lines[number])
        elif change == "swap":
            lines[number], lines[0] = lines[0], lines[number]
        elif change == "blank":
            lines[number] = "\n"
        elif change == "halve":
            lines[number] = lines[number][: len(lines[number]) // 2]
        else:
            lines[number] = lines[number].rstrip("\r\n")
    read("".join(lines).encode(encoding, errors="replace"))


@fuzz
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4))
def test_parquet_files_with_changed_bytes(changes):
    buffer = io.BytesIO()
    open_source("bundled").fetch("^GSPC", "2018-12-06").to_parquet(buffer)
    broken = bytearray(buffer.getvalue())
    for position, value in changes:
        broken[position % len(broken)] = value
    read(bytes(broken), ".parquet")


CELL = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["", "-", "1", "1,5", "1.5", "1,234", "1e308", "1e400", "-1", "nan", "inf", "3B", '"', "2021-03-04"]
    ),
    st.floats().map(str),
    st.integers().map(str),
    st.dates().map(str),
    st.datetimes().map(str),
)


@fuzz
@given(
    st.lists(st.lists(CELL, min_size=4, max_size=8), max_size=8),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["auto", "none", "close"]),
    st.sampled_from([None, "%Y-%m-%d", "%d/%m/%Y", "%H", "", "%", "%Y-%m-%d %z"]),
    st.sampled_from([None, ".", ","]),
)
@example([["2021-03-04", "1", "2", "0.5", "1.5", "0.0", "7"]], ",", "close", None, None)
@example([["9999-12-31", "1", "2", "0.5", "1.5", "1.5", "7"]], ",", "auto", "%Y-%m-%d", None)
@example([["0001-01-01", "1", "2", "0.5", "1.5", "1.5", "7"]], ",", "auto", "%Y-%m-%d", None)
def test_any_cells_below_a_header(rows, delimiter, adjust, date_format, decimal):
    table = [["Date", "Open", "High", "Low", "Close", "Adj Close", "Volume"], *rows]
    text = "\n".join(delimiter.join(row) for row in table)
    read(text.encode("utf-8", errors="replace"), adjust=adjust, date_format=date_format, decimal=decimal)


@fuzz
@given(
    st.lists(
        st.lists(st.sampled_from(["Date", "Open", "High", "Low", "Close", "Price", "Ticker", "^GSPC", "", "1"])),
        max_size=6,
    )
)
def test_any_header(rows):
    read("\n".join(",".join(row) for row in rows).encode())


@fuzz
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_number_comes_back_exactly(value):
    prices = read(
        f"Date,Open,High,Low,Close,Volume\n2021-03-04,{value!r},{value!r},{value!r},{value!r},{value!r}\n".encode()
    )
    assert prices.iloc[0].to_list() == [value] * 5


@fuzz
@given(st.lists(st.dates(PAST, dt.date.today()), min_size=1, unique=True), st.data())
def test_dates_in_any_order_are_read_correctly_or_reported_as_ambiguous(dates, data):
    written = data.draw(st.sampled_from(["%d/%m/%Y", "%m/%d/%Y", "%Y-%m-%d", "%d.%m.%Y", "%b %d, %Y"]))
    rows = "".join(f'"{date.strftime(written)}",1,2,0.5,1.5,7\n' for date in dates)
    prices = read(("Date,Open,High,Low,Close,Volume\n" + rows).encode())
    formatted = read(("Date,Open,High,Low,Close,Volume\n" + rows).encode(), date_format=written)
    assert [stamp.date() for stamp in formatted.index] == sorted(dates)
    if prices is None:  # only ambiguous dates are refused
        assert "/" in written or "." in written
        assert all(date.day <= 12 for date in dates)
    else:
        assert [stamp.date() for stamp in prices.index] == sorted(dates)


GARBAGE = """
import random, resource, sys
from forecastlib.errors import ForecastError
from forecastlib.data.sources import open_source

header = b"Date,Open,High,Low,Close,Volume\\n"
random.seed(0)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for data in (
    random.randbytes(10_000_000),
    b"," * 10_000_000,
    b"\\n" * 10_000_000,
    b'"' * 10_000_000,
    b"9" * 10_000_000,
    header + b"," * 10_000_000,
    header + b"1,\\n" * 3_300_000,
    header + b"2021-03-04,1,1,1,1,1\\n" * 100_000,
    header + b'"' + b"2021-03-04,1,1,1,1,1\\n" * 450_000,
    header + b"2021-03-04,1,1,1,1," + b"9" * 60_000 + b"\\n",
    "날".encode("utf-16") * 2_500_000,
):
    with open(sys.argv[1], "wb") as file:
        file.write(data)
    try:
        open_source(f"csv:{sys.argv[1]}").fetch("X")
    except ForecastError as error:
        assert len(str(error)) < 1_000
    else:
        assert data.count(b"2021-03-04,1") == 100_000  # exact repetitions: one session
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
def test_ten_megabytes_of_garbage_take_a_bounded_amount_of_memory(tmp_path):
    command = [sys.executable, "-c", GARBAGE, str(tmp_path / "garbage.csv")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.stderr == ""
    assert int(done.stdout) < 800  # megabytes
