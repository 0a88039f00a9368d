"""Dates: which are found, and what they become."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.deidentify import dates


def found(text: str) -> set[str]:
    return {text[start:end] for start, end in dates.find(text)}


@pytest.mark.parametrize(
    ("date", "three_weeks_later", "year"),
    [
        ("2024-03-09", "2024-03-30", "2024"),
        ("2024/3/9", "2024/3/30", "2024"),
        ("2000-04-16 11:34:35", "2000-05-07 11:34:35", "2000"),
        ("3/9/2024", "3/30/2024", "2024"),
        ("03/09/24", "03/30/24", "2024"),
        ("13.3.2024", "3.4.2024", "2024"),
        ("9 March 2024", "30 March 2024", "2024"),
        ("9th of March, 2024", "30th of March, 2024", "2024"),
        ("9-Mar-24", "30-Mar-24", "2024"),
        ("March 9th, 2024", "March 30th, 2024", "2024"),
        ("MARCH 3, 2021", "MARCH 24, 2021", "2021"),
        ("Mar. 9 2024", "Mar. 30 2024", "2024"),
        ("Jan 30 to 31, 2021", "Feb 20 to 21, 2021", "2021"),
        ("Sept 2020", "Oct 2020", "2020"),
        ("03/2024", "04/2024", "2024"),
        ("March 9", "March 30", "[date]"),
        ("9 March", "30 March", "[date]"),
        ("December 25", "January 15", "[date]"),
        ("February 29", "March 21", "[date]"),
        ("02/31/2023", "03/21/2023", "2023"),
        ("20240309", "20240330", "2024"),
        ("Jul-04-2021", "Jul-25-2021", "2021"),
        ("June 5th '22", "June 26th '22", "2022"),
        ("May '19", "June '19", "2019"),
        ("spring 2020", "summer 2020", "2020"),
        ("Winter of 2019", "Spring of 2019", "2019"),
        ("Q4 2021", "Q1 2022", "2021"),
    ],
)
def test_a_date_moves_in_its_own_format(date: str, three_weeks_later: str, year: str) -> None:
    assert date in found(f"Seen: {date}.")
    assert dates.replaced(date, 3) == three_weeks_later
    assert dates.replaced(date, None) == year


def test_month_and_day_in_figures_are_a_date_after_a_word_of_time_only() -> None:
    assert found("Call after 3/9, pain on 5/10 pain scale, took 1/2 tablet, since 12/25.") == {"3/9", "12/25"}


@pytest.mark.parametrize(
    "text",
    ["daily", "a 60-year-old man", "of 2000 patients", "a 2000 mg dose", "we may", "March on", "BP 120/80", "may 5 mg", "March 5 mg",
     "version 1.2.10", "HbA1c 7.9 %", "123-45-6789", "31/31/2020", "555-01-9999", "at 9:40"],
)  # fmt: skip
def test_what_is_no_date_is_not_found(text: str) -> None:
    assert found(text) == set()


def test_both_ends_of_a_range_and_months_alone_are_found() -> None:
    assert found("from 1/15/2022-1/20/2022") == {"1/15/2022", "1/20/2022"}
    assert found("between 3/1 and 3/9/22") == {"3/1", "3/9/22"}
    assert found("worse since June, better in early May") == {"June", "May"}
    assert dates.replaced("June", 3) == "July"
    assert dates.replaced("June", None) == dates.NO_YEAR


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("from 1985 to 2009", {"1985", "2009"}),
        ("a 2017 survey", {"2017"}),
        ("seen on Monday morning", {"Monday"}),
    ],
)
def test_bare_years_and_weekdays_are_found_and_stay(text: str, kept: set[str]) -> None:
    assert found(text) == kept
    for date in kept:
        assert dates.replaced(date, 3) == dates.replaced(date, None) == date


@given(st.dates(datetime.date(1900, 1, 1), datetime.date(2098, 1, 1)), st.integers(-52, 52).filter(bool))
def test_shifts_keep_weekdays_and_intervals(date: datetime.date, weeks: int) -> None:
    for form in ("%Y-%m-%d", "%m/%d/%Y", "%B %d, %Y", "%d %B %Y"):
        text = date.strftime(form)
        assert text in found(text)
        moved = datetime.datetime.strptime(dates.replaced(text, weeks) or "", form).date()
        assert moved - date == datetime.timedelta(weeks=weeks)


@pytest.mark.parametrize("weeks", [-52, -3, -1, 1, 2, 3, 17, 52])
def test_different_months_stay_different(weeks: int) -> None:
    months = [f"{month:02d}/{year}" for year in (2022, 2023, 2024) for month in range(1, 13)]
    moved = [dates.replaced(month, weeks) for month in months]
    assert len(set(moved)) == len(months)
    assert all(before != after for before, after in zip(months, moved, strict=True))
    assert dates.replaced("12/2023", 3) == "01/2024"
    assert dates.replaced("January 2024", -52) == "January 2023"


@given(st.text())
def test_any_text_is_searched(text: str) -> None:
    for start, end in dates.find(text):
        assert dates.replaced(text[start:end], 1)
