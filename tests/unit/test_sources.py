"""The chain of a zone's sources, what providers' answers become, and what is kept of the past."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from green_api.base import Signal
from green_api.errors import ProviderError
from green_api.units import Intensity
from green_api.zone import GridZone
from green_operator.plan.types import Slot
from green_operator.plan.windows import cover
from green_operator.sources.electricity_maps import parse_latest, parse_series
from green_operator.sources.history import EMPTY, SPAN, History, pack, read_history
from green_operator.sources.live import USABLE_FOR, Answer, Live
from green_operator.sources.overlay import overlay
from green_operator.sources.trace import parse_trace
from green_operator.sources.uk_neso import parse_uk_neso
from green_operator.sources.zones import Unavailable, resolve
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.factories import HOUR, T0, hours
from tests.unit.test_trace import GOOD

DIRECT, LIFECYCLE = Signal.AVERAGE_DIRECT, Signal.AVERAGE_LIFECYCLE
TRACE = {"trace": {"configMapKeyRef": {"name": "a", "key": "b"}, "signal": "AverageLifecycle"}}
STATIC = {"static": {"gramsPerKilowattHour": 210, "signal": "AverageDirect"}}
NESO = {"ukNeso": {"region": 13}}
MAPS = {"electricityMaps": {"zone": "GB", "secretKeyRef": {"name": "maps", "key": "token"}}}


def zone(*sources: object) -> GridZone:
    return GridZone.parse(
        {
            "apiVersion": "greentraining.io/v1alpha1",
            "kind": "GridZone",
            "metadata": {"name": "gb"},
            "spec": {"sources": list(sources)},
        },
        "test",
    )


def slots(start: float, *grams: float, step: timedelta = HOUR) -> tuple[Slot, ...]:
    first = hours(start)
    return tuple(
        Slot(first + i * step, first + (i + 1) * step, Intensity(g)) for i, g in enumerate(grams)
    )


def grams(series: Sequence[Slot]) -> list[float]:
    return [slot.intensity.grams_per_kilowatt_hour for slot in series]


def live(
    at: float, observed: tuple[Slot, ...], forecast: tuple[Slot, ...], problem: str = ""
) -> Live:
    return Live().after(Answer(observed, forecast), hours(at), problem)


# The chain.


def test_the_first_source_that_knows_the_moment_counts() -> None:
    data = [parse_trace(GOOD, "t"), None]
    at = resolve(zone(TRACE, STATIC), data, T0, hours(1), hours(9))
    assert at.outlook is not None
    assert at.outlook.signal == "AverageLifecycle"
    assert at.description == "trace a/b"
    later = resolve(zone(TRACE, STATIC), data, T0, hours(5), hours(9))
    assert later.outlook is not None
    assert later.outlook.signal == "AverageDirect"
    assert later.description == (
        "static 210 g/kWh; passed over: trace a/b: it does not know the present"
    )


def test_without_a_usable_source_the_reason_is_said() -> None:
    data = [Unavailable("it was not given"), Live(problem="HTTP 503"), Live()]
    nothing = resolve(zone(TRACE, NESO, MAPS), data, T0, T0, hours(24))
    assert (nothing.outlook, nothing.recorded) == (None, None)
    assert nothing.description == (
        "no source is usable: trace a/b: it was not given; ukNeso region 13: HTTP 503; "
        "electricityMaps GB: it has not answered yet"
    )


def test_a_static_source_is_one_long_slot() -> None:
    known = resolve(zone(STATIC), [None], T0, T0, T0 + 5 * HOUR)
    assert known.outlook is not None
    assert len(known.outlook.slots) == 1


def test_what_is_known_of_the_past_is_accounted_although_the_present_is_not() -> None:
    """Else a job that outlasts its trace would lose all its emissions."""
    over = resolve(zone(TRACE), [parse_trace(GOOD, "t")], T0, hours(4), hours(9))
    assert over.outlook is None
    assert over.recorded is not None
    assert len(over.recorded.slots) == 3


def test_only_a_whole_day_can_repeat() -> None:
    daily = {"trace": TRACE["trace"] | {"repeat": "Daily"}}
    nothing = resolve(zone(daily), [parse_trace(GOOD, "t")], T0, T0, hours(9))
    assert nothing.outlook is None
    assert "no whole day" in nothing.description


def test_a_live_source_gives_what_was_observed_and_beyond_it_the_forecast() -> None:
    known = resolve(
        zone(NESO), [live(2, slots(0, 100, 110), slots(1, 999, 120, 130))], T0, hours(2), hours(9)
    )
    assert known.outlook is not None
    assert known.outlook.signal is DIRECT
    assert grams(known.outlook.slots) == [100, 110, 120, 130]
    assert known.fetched == hours(2)
    assert known.description == "ukNeso region 13"


def test_an_old_answer_is_passed_over_and_the_words_do_not_change_with_time() -> None:
    data = [live(0, (), slots(0, *[100] * 48), "HTTP 503"), None]
    said = {
        resolve(zone(NESO, STATIC), data, T0, hours(h), hours(48)).description for h in (6.5, 7, 20)
    }
    assert said == {
        "static 210 g/kWh; passed over: ukNeso region 13: its last answer is more than 6 h old "
        "(HTTP 503)"
    }
    late = {
        resolve(zone(NESO, STATIC), data, T0, hours(h), hours(48)).description for h in (1.5, 2, 6)
    }
    assert late == {"ukNeso region 13 (not fresh for more than 1 h: HTTP 503)"}


def test_a_fallback_with_the_same_signal_keeps_what_was_observed() -> None:
    history = EMPTY.with_observed(DIRECT, slots(0, 100, 110), hours(2))
    data = [Live(problem="HTTP 503"), None]
    known = resolve(zone(NESO, STATIC), data, T0, hours(3), hours(9), history)
    assert known.recorded is not None
    assert grams(known.recorded.slots) == [100, 110, 210]
    assert known.recorded.slots[-1].end == hours(9)


def test_two_signals_are_never_mixed() -> None:
    history = EMPTY.with_observed(DIRECT, slots(0, 100, 110), hours(2))
    data = [Live(), live(2, (), slots(2, 300, 310))]
    known = resolve(zone(NESO, MAPS), data, T0, hours(3), hours(9), history)
    assert known.recorded is not None
    assert known.recorded.signal is LIFECYCLE
    assert grams(known.recorded.slots) == [300, 310]


def test_a_source_before_the_live_one_has_its_own_past() -> None:
    history = EMPTY.with_observed(DIRECT, slots(0, 100, 110), hours(2))
    known = resolve(zone(STATIC, NESO), [None, Live()], T0, hours(3), hours(9), history)
    assert known.recorded is not None
    assert grams(known.recorded.slots) == [210]


def test_the_history_reaches_further_back_than_the_provider() -> None:
    history = EMPTY.with_observed(DIRECT, slots(0, *range(100, 172)), hours(72))
    data = [live(72, slots(48, *[50] * 24), slots(72, 60))]
    known = resolve(zone(NESO), data, T0, hours(72), hours(80), history)
    assert known.recorded is not None
    assert known.recorded.slots[0].start == T0
    assert known.recorded.slots[-1].end == hours(73)


def test_the_past_is_known_without_a_source_that_knows_the_present() -> None:
    history = EMPTY.with_observed(DIRECT, slots(0, 100, 110), hours(2))
    known = resolve(zone(NESO), [Live(problem="HTTP 503")], T0, hours(9), hours(10), history)
    assert known.outlook is None
    assert known.recorded is not None
    assert grams(known.recorded.slots) == [100, 110]


def test_a_forecast_that_stays_away_is_used_up() -> None:
    known = live(0, (), slots(0, *[100] * 48)).after(
        Answer(slots(5, 90, 80), ()), hours(6), "HTTP 503"
    )
    assert grams(known.slots(hours(6)))[-1] == 100
    assert known.slots(hours(6) + USABLE_FOR)[-1].end == hours(7)


def test_a_gap_in_a_forecast_is_planned_at_the_mean() -> None:
    gappy = slots(0, 100) + slots(3, 200)
    covered, assumed = cover(gappy, T0, hours(4))
    assert grams(covered) == [100, 150, 150, 200]
    assert assumed == 2 * HOUR


def test_a_sliver_at_the_front_does_not_make_slivers_of_a_gap() -> None:
    sliver = Slot(T0, T0 + timedelta(seconds=1), Intensity(100))
    covered, _ = cover([sliver, *slots(47, 100)], T0, hours(48))
    assert len(covered) < 60


# One series over another.

series = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 6)), max_size=12).map(
    lambda spans: _apart(spans)
)


def _apart(spans: list[tuple[int, int]]) -> tuple[Slot, ...]:
    found: list[Slot] = []
    for start, length in sorted(spans):
        if not found or hours(start) >= found[-1].end:
            found.append(Slot(hours(start), hours(start + length), Intensity(start)))
    return tuple(found)


def at(known: Sequence[Slot], hour: float) -> float | None:
    moment = hours(hour)
    return next(
        (s.intensity.grams_per_kilowatt_hour for s in known if s.start <= moment < s.end), None
    )


@given(series, series)
def test_the_upper_series_counts_and_the_lower_one_fills_its_gaps(
    over: tuple[Slot, ...], under: tuple[Slot, ...]
) -> None:
    both = overlay(over, under)
    assert_apart(both)
    for hour in range(50):
        upper = at(over, hour + 0.5)
        assert at(both, hour + 0.5) == (upper if upper is not None else at(under, hour + 0.5))


def assert_apart(known: Sequence[Slot]) -> None:
    assert all(slot.start < slot.end for slot in known)
    assert all(earlier.end <= later.start for earlier, later in pairwise(known))


# The parsers: whatever comes, the project's own error or sound slots.

numbers = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
times = (
    st.datetimes(
        min_value=datetime(2026, 10, 24), max_value=datetime(2026, 10, 27), timezones=st.timezones()
    ).map(lambda t: t.isoformat())
    | st.integers(0, 100).map(lambda i: f"{T0 + i * timedelta(minutes=30):%Y-%m-%dT%H:%MZ}")
    | st.text(max_size=20)
    | st.datetimes(timezones=st.just(UTC)).map(lambda t: t.isoformat())
)
anything = st.recursive(
    numbers,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["data", "a"]), inner)
    ),
    max_leaves=6,
)
neso_points = st.fixed_dictionaries(
    {},
    optional={
        "from": times,
        "to": times,
        "intensity": anything
        | st.fixed_dictionaries({}, optional={"forecast": numbers, "actual": numbers}),
        "generationmix": anything
        | st.lists(
            st.fixed_dictionaries(
                {}, optional={"fuel": st.sampled_from(["wind", "gas"]) | anything, "perc": numbers}
            ),
            max_size=3,
        ),
    },
)
maps_points = st.fixed_dictionaries(
    {}, optional={"datetime": times, "carbonIntensity": st.integers(1, 900) | numbers}
)


def assert_sound(known: Sequence[Slot]) -> None:
    assert_apart(known)
    for slot in known:
        assert 0 <= slot.intensity.grams_per_kilowatt_hour <= 1800
        assert slot.renewable_share is None or 0 <= slot.renewable_share <= 1
        assert timedelta(minutes=5) <= slot.duration <= timedelta(minutes=60)
        assert slot.start.tzinfo is UTC


def body(value: object) -> bytes:
    return json.dumps(value).encode()


@given(anything | st.fixed_dictionaries({"data": st.lists(anything | neso_points, max_size=8)}))
def test_no_answer_of_neso_breaks_anything(answer: object) -> None:
    for region in (None, 13):
        with suppress(ProviderError):
            assert_sound(parse_uk_neso(body(answer), region))


@given(st.lists(neso_points, max_size=8), st.sampled_from([13, 4, None, "13"]))
def test_no_regional_answer_of_neso_breaks_anything(points: list[Any], region: object) -> None:
    with suppress(ProviderError):
        assert_sound(parse_uk_neso(body({"data": {"regionid": region, "data": points}}), 13))


@given(anything | st.fixed_dictionaries({"history": st.lists(anything | maps_points, max_size=8)}))
def test_no_answer_of_electricity_maps_breaks_anything(answer: object) -> None:
    with suppress(ProviderError):
        assert_sound(parse_series(body(answer), "DE", "history"))


@given(anything | maps_points)
def test_no_latest_point_breaks_anything(answer: object) -> None:
    with suppress(ProviderError):
        assert_sound(parse_latest(body(answer), "DE"))


@given(st.binary(max_size=60))
def test_no_bytes_break_anything(data: bytes) -> None:
    with suppress(ProviderError):
        parse_uk_neso(data, None)
    with suppress(ProviderError):
        parse_series(data, "DE", "forecast")


# The history.


def test_the_latest_value_of_a_time_counts_and_the_future_is_no_history() -> None:
    once = EMPTY.with_observed(DIRECT, slots(0, 100, 110, 120), hours(2))
    assert grams(once.of(DIRECT)) == [100, 110]
    again = once.with_observed(DIRECT, slots(1, 111, 121), hours(3))
    assert grams(again.of(DIRECT)) == [100, 111, 121]


def test_signals_are_kept_apart() -> None:
    both = EMPTY.with_observed(DIRECT, slots(0, 100), hours(2))
    both = both.with_observed(LIFECYCLE, slots(0, 300), hours(2))
    assert (grams(both.of(DIRECT)), grams(both.of(LIFECYCLE))) == ([100], [300])


def test_what_is_older_than_28_days_is_left_out() -> None:
    long = EMPTY.with_observed(DIRECT, slots(0, *[100] * 24 * 40), hours(24 * 40))
    assert long.of(DIRECT)[0].start == hours(24 * 40) - SPAN
    assert len(long.of(DIRECT)) == 28 * 24


def a_history(draw_grams: Sequence[float], share: float | None, step: timedelta) -> History:
    first = T0
    observed = [
        Slot(first + i * step, first + (i + 1) * step, Intensity(g), share)
        for i, g in enumerate(draw_grams)
    ]
    return EMPTY.with_observed(DIRECT, observed, first + len(observed) * step)


@given(
    st.lists(st.integers(0, 180_000).map(lambda n: n / 100), max_size=50),
    st.none() | st.integers(0, 1000).map(lambda n: n / 1000),
    st.sampled_from([timedelta(minutes=m) for m in (5, 15, 30, 60)]),
)
def test_a_history_survives_the_round_trip(
    values: list[float], share: float | None, step: timedelta
) -> None:
    history = a_history(values, share, step)
    assert read_history(pack(history)) == (history, "")
    assert pack(history) == pack(history)


def test_the_largest_history_fits_into_a_config_map() -> None:
    step, count = timedelta(minutes=5), 28 * 288
    full = EMPTY
    for number, signal in enumerate(Signal):
        observed = [
            Slot(
                T0 + i * step,
                T0 + (i + 1) * step,
                Intensity((i * 7919 + number * 104_729) % 180_000 / 100),
                (i * 6007) % 1000 / 1000,
            )
            for i in range(count)
        ]
        full = full.with_observed(signal, observed, T0 + count * step)
    data = pack(full)
    assert len(data) < 900 * 1024
    assert read_history(data) == (full, "")


ROW = [1_780_272_000, 1800, 100.0, None]


@pytest.mark.parametrize(
    "document",
    [
        {"version": 2, "series": {}},
        {"series": {}},
        {"version": 1, "series": {"Wrong": []}},
        {"version": 1, "series": {"AverageDirect": [[1, 2]]}},
        *(
            {"version": 1, "series": {"AverageDirect": [[*ROW[:i], bad, *ROW[i + 1 :]]]}}
            for i, bad in enumerate([10**12, 1, -5, 7])
        ),
        [],
        None,
    ],
)
def test_a_history_of_another_form_begins_anew(document: object) -> None:
    history, problem = read_history(gzip.compress(body(document)))
    assert history == EMPTY
    assert problem.endswith("begins anew")


@pytest.mark.parametrize(
    "data", [b"", b"x", gzip.compress(b"0" * 2**25), pack(EMPTY)[:-9], gzip.compress(b"\xff")]
)
def test_a_damaged_history_begins_anew(data: bytes) -> None:
    history, problem = read_history(data)
    assert history == EMPTY
    assert problem.endswith("begins anew")


def test_slots_that_overlap_in_a_document_are_left_out() -> None:
    rows = [[1_780_272_900, 1800, 1.0, None], ROW, ROW]
    document = {"version": 1, "series": {"AverageDirect": rows}}
    history, problem = read_history(gzip.compress(body(document)))
    assert (grams(history.of(DIRECT)), problem) == ([100], "")


def test_a_source_whose_forecast_fails_says_so_where_it_does_not_know_the_present() -> None:
    data = [live(2, slots(0, 100, 110), (), "HTTP 503"), None]
    known = resolve(zone(NESO, STATIC), data, T0, hours(2), hours(9))
    assert known.description == (
        "static 210 g/kWh; passed over: ukNeso region 13: it does not know the present (HTTP 503)"
    )


def test_a_forecast_that_a_source_gives_no_more_is_forgotten() -> None:
    before = live(0, slots(-1, 100), slots(0, 100, 110))
    after = before.after(Answer(slots(0, 105), (), "without a forecast"), hours(1))
    assert after.forecast is None
