"""What the two providers answer, in its documented shapes and with every trap that was seen."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from green_api.errors import ProviderError
from green_operator.feeds.client import Client, Limits, open_session
from green_operator.feeds.providers import Poll, ask_electricity_maps, ask_uk_neso

from tests.sources.provider import (
    HALF_HOUR,
    HOUR,
    USUAL_MIX,
    ZERO_MIX,
    Provider,
    Reply,
    maps_latest,
    maps_point,
    maps_series,
    mix,
    neso,
    neso_point,
    neso_region,
)

NOW = datetime(2026, 6, 1, 12, 10, tzinfo=UTC)
NOON = NOW.replace(minute=0)
LIMITS = Limits(timeout_seconds=5, first_wait_seconds=0.01)


def ask_neso(provider: Provider, region: int | None = None) -> Poll:
    async def ask() -> Poll:
        async with open_session() as session:
            return await ask_uk_neso(Client(session, LIMITS), provider.url, region, NOW)

    return asyncio.run(ask())


def ask_maps(provider: Provider, key: str = "key") -> Poll:
    async def ask() -> Poll:
        async with open_session() as session:
            return await ask_electricity_maps(Client(session, LIMITS), provider.url, "DE", key)

    return asyncio.run(ask())


def forecast_of(
    provider: Provider, *points: dict[str, Any], region: int | None = None
) -> list[Any]:
    """Start, grams and share of the slots that come of these points."""
    body = {"data": list(points)} if region is None else neso_region(region, *points)
    provider.script("fw48h", Reply(body))
    slots = ask_neso(provider, region).answer.forecast
    return [(s.start, s.intensity.grams_per_kilowatt_hour, s.renewable_share) for s in slots]


def neso_problem(provider: Provider, body: object, region: int | None = None) -> str:
    provider.script("pt24h", Reply(body))
    provider.script("fw48h", Reply(body))
    with pytest.raises(ProviderError) as caught:
        ask_neso(provider, region)
    return str(caught.value)


def test_neso_is_asked_for_a_day_back_and_two_ahead(provider: Provider) -> None:
    provider.script("pt24h", Reply(neso(NOON - timedelta(days=1), 48)))
    provider.script("fw48h", Reply(neso(NOON, 96)))
    poll = ask_neso(provider)
    assert {q.path for q in provider.questions} == {
        "/intensity/2026-06-01T12:10Z/pt24h",
        "/intensity/2026-06-01T12:10Z/fw48h",
    }
    assert poll.errors == ()
    assert (len(poll.answer.observed), len(poll.answer.forecast)) == (48, 96)
    assert poll.answer.forecast[0].duration == HALF_HOUR


def test_neso_is_asked_for_a_region(provider: Provider) -> None:
    body = neso_region(13, neso_point(NOON, 20, generationmix=mix(USUAL_MIX)))
    provider.script("fw48h", Reply(body))
    provider.script("pt24h", Reply({"data": [body["data"]]}))
    poll = ask_neso(provider, 13)
    assert "/regional/intensity/2026-06-01T12:10Z/fw48h/regionid/13" in {
        q.path for q in provider.questions
    }
    assert poll.answer.observed == poll.answer.forecast
    # Wind, solar and hydro; biomass and imports are not counted.
    assert poll.answer.forecast[0].renewable_share == pytest.approx(0.4)


def test_another_regions_answer_is_refused(provider: Provider) -> None:
    body = neso_region(4, neso_point(NOON, 20))
    assert neso_problem(provider, body, 13) == "the answer is for another region"


def test_the_actual_value_counts_once_there_is_one(provider: Provider) -> None:
    points = [neso_point(NOON - HALF_HOUR, 266, 263), neso_point(NOON, 270, None)]
    assert [grams for _, grams, _ in forecast_of(provider, *points)] == [263, 270]


def test_a_value_that_is_missing_is_a_gap(provider: Provider) -> None:
    points = [neso_point(NOON + i * HALF_HOUR, None if i == 1 else 200) for i in range(3)]
    assert [start for start, _, _ in forecast_of(provider, *points)] == [NOON, NOON + HOUR]


def test_a_short_forecast_is_a_forecast(provider: Provider) -> None:
    provider.script("fw48h", Reply(neso(NOON, 29)))
    provider.script("pt24h", Reply(neso(NOON - HOUR, 2)))
    assert len(ask_neso(provider).answer.forecast) == 29


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "the answer holds no points"),
        ({"data": []}, "the answer holds no points"),
        ({"data": {}}, "the answer holds no points"),
        ({"data": None}, "the answer holds no points"),
        ({"error": {"code": "400 Bad Request"}}, "the answer holds no points"),
        ([], "the answer is no JSON object"),
        (b"<html>", "the answer is not JSON"),
        (b"\xff", "the answer is not JSON"),
        (b"[" * 100_000, "the answer is not JSON"),
        (b'{"data": ' + b"9" * 5000 + b"}", "the answer is not JSON"),
        ({"data": [neso_point(NOON, None)]}, "no point of the answer has a value"),
        ({"data": [{}]}, "most values of the answer cannot be true"),
        ({"data": [None, 3, "x"]}, "most values of the answer cannot be true"),
    ],
)
@pytest.mark.parametrize("region", [None, 13])
def test_an_answer_without_anything_in_it_is_refused(
    provider: Provider, body: object, says: str, region: int | None
) -> None:
    if region is not None and isinstance(body, dict) and isinstance(body.get("data"), list):
        body = {"data": {"regionid": region, "data": body["data"]}}
    assert neso_problem(provider, body, region) == says


@pytest.mark.parametrize("value", [-5, 0, 5000, "200", True, [1], {}, float("nan"), float("inf")])
def test_a_value_that_cannot_be_true_is_a_gap_among_others(
    provider: Provider, value: object
) -> None:
    points = [neso_point(NOON + i * HALF_HOUR, value if i == 1 else 200) for i in range(3)]
    assert [start for start, _, _ in forecast_of(provider, *points)] == [NOON, NOON + HOUR]


def test_where_most_values_cannot_be_true_none_is_believed(provider: Provider) -> None:
    points = [neso_point(NOON + i * HALF_HOUR, 200 if i == 0 else -1) for i in range(3)]
    says = neso_problem(provider, {"data": points})
    assert says == "most values of the answer cannot be true"


def test_zero_counts_only_where_the_generation_mix_bears_it_out(provider: Provider) -> None:
    """North Scotland really is at zero at times; elsewhere zero stands for broken data."""
    points = [
        neso_point(NOON, 0, generationmix=mix(ZERO_MIX)),
        neso_point(NOON + HALF_HOUR, 0, generationmix=mix(USUAL_MIX)),
        neso_point(NOON + HOUR, 50, generationmix=mix(USUAL_MIX)),
    ]
    got = forecast_of(provider, *points, region=1)
    assert [(start, grams) for start, grams, _ in got] == [(NOON, 0), (NOON + HOUR, 50)]


def test_a_broken_actual_value_leaves_the_forecast(provider: Provider) -> None:
    assert [g for _, g, _ in forecast_of(provider, neso_point(NOON, 150, 0))] == [150]


@pytest.mark.parametrize(
    "shares",
    [
        {"wind": 60},
        {"wind": 160, "gas": -60},
        {"wind": None},
        {"wind": "60"},
        {"wind": float("nan")},
    ],
)
def test_a_mix_that_makes_no_whole_states_no_share(
    provider: Provider, shares: dict[str, Any]
) -> None:
    point = neso_point(NOON, 150, generationmix=mix(shares))
    assert forecast_of(provider, point) == [(NOON, 150, None)]


def test_points_are_put_in_order_and_the_later_of_two_counts(provider: Provider) -> None:
    points = [
        neso_point(NOON + HALF_HOUR, 2),
        neso_point(NOON, 1),
        neso_point(NOON + HALF_HOUR, 3),
    ]
    got = forecast_of(provider, *points)
    assert got == [(NOON, 1, None), (NOON + HALF_HOUR, 3, None)]


def test_points_that_overlap_are_cut(provider: Provider) -> None:
    long = neso_point(NOON, 1) | {"to": "2026-06-01T13:00Z"}
    provider.script("fw48h", Reply({"data": [long, neso_point(NOON + HALF_HOUR, 2)]}))
    first, second = ask_neso(provider).answer.forecast
    assert first.end == second.start


@pytest.mark.parametrize(
    "to", ["2026-06-01T12:00Z", "2026-06-01T11:30Z", "2026-06-02T12:00Z", None]
)
def test_a_half_hour_of_another_length_is_no_point(provider: Provider, to: str | None) -> None:
    points = [
        neso_point(NOON, 1) | {"to": to},
        neso_point(NOON + HOUR, 2),
        neso_point(NOON + 2 * HOUR, 2),
    ]
    assert len(forecast_of(provider, *points)) == 2


def test_a_past_that_does_not_come_leaves_the_forecast(provider: Provider) -> None:
    provider.script("pt24h", Reply({}))
    provider.script("fw48h", Reply(neso(NOON, 96)))
    poll = ask_neso(provider)
    assert (len(poll.answer.observed), len(poll.answer.forecast)) == (0, 96)
    assert [str(e) for e in poll.errors] == ["the answer holds no points"]


def test_electricity_maps_is_asked_with_its_key_for_life_cycle_factors(provider: Provider) -> None:
    provider.script("history", Reply(maps_series("history", NOON - 24 * HOUR, 24)))
    provider.script("latest", Reply(maps_latest(NOON, 280)))
    provider.script("forecast", Reply(maps_series("forecast", NOON + HOUR, 72)))
    poll = ask_maps(provider, " key\n")
    assert len(poll.answer.observed) == 25
    assert len(poll.answer.forecast) == 72
    assert poll.answer.remark == ""
    for question in provider.questions:
        assert question.query == {"zone": "DE", "emissionFactorType": "lifecycle"}
        assert question.headers["auth-token"] == "key"


@pytest.mark.parametrize("status", [401, 403])
def test_a_free_key_gives_the_past_and_the_present(provider: Provider, status: int) -> None:
    provider.script("history", Reply(maps_series("history", NOON - 24 * HOUR, 24)))
    provider.script("latest", Reply(maps_latest(NOON + timedelta(minutes=7), 280)))
    provider.script("forecast", Reply({"message": "no"}, status))
    poll = ask_maps(provider)
    assert poll.errors == ()
    assert poll.answer.forecast == ()
    assert "without a forecast" in poll.answer.remark
    assert (poll.answer.observed[-1].start, poll.answer.observed[-1].end) == (NOON, NOON + HOUR)


def test_a_wrong_key_is_a_failure(provider: Provider) -> None:
    provider.script("carbon-intensity", Reply({}, 401))
    with pytest.raises(ProviderError, match=r"^HTTP 401$"):
        ask_maps(provider)


@pytest.mark.parametrize("key", ["", " \n", "a\nb", "kéy"])
def test_what_cannot_be_a_key_is_not_sent(provider: Provider, key: str) -> None:
    with pytest.raises(ProviderError, match="characters that no key has"):
        ask_maps(provider, key)
    assert provider.questions == []


def history_of(provider: Provider, *points: dict[str, Any], **fields: object) -> list[Any]:
    provider.script("history", Reply({"zone": "DE", "history": list(points), **fields}))
    provider.script("latest", Reply({}, 404))
    provider.script("forecast", Reply({}, 404))
    slots = ask_maps(provider).answer.observed
    return [(s.start, s.duration, s.intensity.grams_per_kilowatt_hour) for s in slots]


def test_the_length_of_a_slot_follows_from_the_points(provider: Provider) -> None:
    step = timedelta(minutes=15)
    points = [maps_point(NOON + i * step, 300) for i in (0, 1, 2, 6, 7)]
    assert {duration for _, duration, _ in history_of(provider, *points)} == {step}
    assert history_of(provider, maps_point(NOON, 300)) == [(NOON, HOUR, 300)]
    sparse = [maps_point(NOON, 300), maps_point(NOON + 5 * HOUR, 300)]
    assert [duration for _, duration, _ in history_of(provider, *sparse)] == [HOUR, HOUR]


def test_the_hour_that_comes_twice_in_autumn_is_two_hours(provider: Provider) -> None:
    points = [
        maps_point(time, grams)
        for grams, time in enumerate(
            [
                "2026-10-25T01:00:00+02:00",
                "2026-10-25T02:00:00+02:00",
                "2026-10-25T02:00:00+01:00",
                "2026-10-25T03:00:00+01:00",
            ],
            start=100,
        )
    ]
    got = history_of(provider, *points)
    first = datetime(2026, 10, 24, 23, tzinfo=UTC)
    assert got == [(first + i * HOUR, HOUR, 100 + i) for i in range(4)]


def test_a_time_without_a_zone_is_no_point(provider: Provider) -> None:
    points = [
        maps_point("2026-10-25T02:00:00", 1),
        maps_point(NOON, 300),
        maps_point(NOON + HOUR, 310),
    ]
    assert len(history_of(provider, *points)) == 2


@pytest.mark.parametrize("value", [None, 0, -1, float("nan"), "300", 9999])
def test_a_broken_hour_is_a_gap(provider: Provider, value: object) -> None:
    points = [maps_point(NOON + i * HOUR, value if i == 1 else 300) for i in range(4)]
    assert [start for start, _, _ in history_of(provider, *points)] == [
        NOON, NOON + 2 * HOUR, NOON + 3 * HOUR,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("points", "fields", "says"),
    [
        ([maps_point(NOON, 300)], {"zone": "FR"}, "the answer is for another zone"),
        (
            [maps_point(NOON, 300, emissionFactorType="direct")],
            {},
            "most values of the answer cannot be true",
        ),
        (
            [maps_point(NOON, 300)],
            {"emissionFactorType": "direct"},
            "the answer is not of lifecycle emission factors",
        ),
        (
            [maps_point(NOON + i * HOUR, 0.3) for i in range(3)],
            {},
            "the values are in another unit than g/kWh",
        ),
        (
            [maps_point(NOON + i * timedelta(seconds=1), 300) for i in range(3)],
            {},
            "the points of the answer are less than 5 minutes apart",
        ),
    ],
)
def test_what_was_not_asked_for_is_refused(
    provider: Provider, points: list[dict[str, Any]], fields: dict[str, object], says: str
) -> None:
    with pytest.raises(ProviderError) as caught:
        history_of(provider, *points, **fields)
    assert str(caught.value) == says
