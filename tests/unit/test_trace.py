"""Traces are read strictly: the line, the value and the fix are named."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from contextlib import suppress

import pytest
from green_api.errors import InvalidTraceError
from green_api.zone import Repeat
from green_operator.sources.trace import parse_trace, read_trace
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.factories import T0, hours

HEADER = "time,gramsPerKilowattHour\n"


def csv(*rows: str) -> str:
    return HEADER + "\n".join(rows)


GOOD = csv("2026-06-01T00:00Z,300", "2026-06-01T01:00Z,100.5", "2026-06-01T02:00Z,200")


def test_a_good_trace() -> None:
    trace = parse_trace(GOOD, "t")
    assert (trace.start, trace.end) == (T0, hours(3))
    assert [s.intensity.grams_per_kilowatt_hour for s in trace.slots] == [300, 100.5, 200]
    assert trace.slots[0].renewable_share is None


def test_times_of_another_zone_are_the_same_moments() -> None:
    trace = parse_trace(csv("2026-06-01T02:00+02:00,300", "2026-06-01T03:00+02:00,100"), "t")
    assert trace.start == T0


def test_the_renewable_share_is_read() -> None:
    text = (
        "time,gramsPerKilowattHour,renewableShare\n2026-06-01T00:00Z,300,0.25\n2026-06-01T01:00Z,1,"
    )
    trace = parse_trace(text, "t")
    assert [s.renewable_share for s in trace.slots] == [0.25, None]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1: the columns are missing"),
        ("time,gCO2\n", "line 1: the columns are time, gCO2; they must be"),
        (csv("2026-06-01T00:00Z,300"), "has 1 row(s); give at least two"),
        (csv("2026-06-01T00:00Z,nan", "2026-06-01T01:00Z,1"), "line 2: gramsPerKilowattHour: 'nan'"),
        (csv("2026-06-01T00:00Z,", "2026-06-01T01:00Z,1"), "line 2: gramsPerKilowattHour: ''"),
        (csv("2026-06-01T00:00Z,3", "2026-06-01T01:00Z,inf"), "line 3: gramsPerKilowattHour: 'inf'"),
        (csv("2026-06-01T00:00,3", "2026-06-01T01:00,3"), "has no zone; write"),
        (csv("yesterday,3", "2026-06-01T01:00Z,3"), "line 2: time: 'yesterday'"),
        (csv("2026-06-01T01:00Z,3", "2026-06-01T00:00Z,3"), "line 3: 2026-06-01T00:00Z does not"),
        (csv("2026-06-01T00:00Z,3", "2026-06-01T00:00Z,3"), "line 3: 2026-06-01T00:00Z does not"),
        (
            csv("2026-06-01T00:00Z,3", "2026-06-01T01:00Z,3", "2026-06-01T03:00Z,3"),
            "line 4: 2026-06-01T03:00Z is 2:00:00 after the row before, but the step is 1:00:00",
        ),
        (csv("2026-06-01T00:00Z,3", "2026-06-01T00:01Z,3"), "must be 5 to 60 minutes"),
        (csv("0001-01-01T00:00+14:00,3", "2026-06-01T01:00Z,3"), "the year lies outside 1990 to 2199"),
        (csv(f"2026-06-01T00:00Z,{'9' * 140_000}"), "is not CSV: field larger than field limit"),
        (csv("2026-06-01T00:00Z,-3", "2026-06-01T01:00Z,3"), "-3 lies outside 0 to 1800"),
        (csv("2026-06-01T00:00Z,2400", "2026-06-01T01:00Z,3"), "is it in another unit?"),
        (csv("2026-06-01T00:00Z,0.3", "2026-06-01T01:00Z,0.2"), "is it in kg/kWh? multiply by"),
        (
            "time,gramsPerKilowattHour,renewableShare\n2026-06-01T00:00Z,3,40\n",
            "line 2: renewableShare: 40 lies outside 0 to 1; give a share, not percent",
        ),
    ],
)  # fmt: skip
def test_a_bad_trace_is_refused_with_the_fix(text: str, says: str) -> None:
    with pytest.raises(InvalidTraceError) as caught:
        parse_trace(text, "day.csv")
    assert str(caught.value).startswith("day.csv: ")
    assert says in str(caught.value)


def test_a_zone_without_emissions_is_a_fine_trace() -> None:
    assert parse_trace(csv("2026-06-01T00:00Z,0", "2026-06-01T01:00Z,0"), "t").slots


def test_a_day_repeats_at_the_same_hours() -> None:
    rows = [f"2026-06-01T{h:02d}:00Z,{100 + h}" for h in range(24)]
    trace = parse_trace(csv(*rows), "t")
    later = trace.between(hours(24 * 10 + 5), hours(24 * 10 + 7), Repeat.DAILY)
    assert [(s.start, s.intensity.grams_per_kilowatt_hour) for s in later] == [
        (hours(245), 105),
        (hours(246), 106),
    ]
    assert trace.between(hours(30), hours(40), Repeat.NEVER) == ()
    seam = trace.between(hours(23), hours(25), Repeat.DAILY)
    assert [s.intensity.grams_per_kilowatt_hour for s in seam] == [123, 100]


@pytest.mark.parametrize("pack", [str.encode, lambda text: gzip.compress(text.encode())])
def test_a_config_map_holds_text_or_gzip_of_it(pack: Callable[[str], bytes]) -> None:
    assert read_trace(pack(GOOD), "t") == parse_trace(GOOD, "t")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (gzip.compress(b"0" * 2**27), "t: it holds more than 16 MiB; give CSV, or gzip of it"),
        (gzip.compress(GOOD.encode())[:-12], "t: it is cut off; give CSV, or gzip of it"),
        (b"\x1f\x8bnonsense", "t: it is no sound gzip; give CSV, or gzip of it"),
        (b"\xff\xfe", "t: is neither UTF-8 text nor gzip of it"),
        (gzip.compress(b"\xff\xfe"), "t: is neither UTF-8 text nor gzip of it"),
        (b"", "t: line 1: the columns are missing"),
    ],
)
def test_what_is_no_trace_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(InvalidTraceError) as caught:
        read_trace(data, "t")
    assert str(caught.value).startswith(says)


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda t: (HEADER + t).encode()))
def test_no_bytes_lead_to_another_error(data: bytes) -> None:
    with suppress(InvalidTraceError):
        read_trace(data, "t")
