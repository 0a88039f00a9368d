"""The page of the evaluation, in a real browser, on reports of the stages' own making."""

import json
from typing import Any

import pytest

from pipeline import paths
from pipeline.errors import DataError
from pipeline.pages import evaluation, examples
from tests import judged
from tests.conftest import Checkout
from tests.pipeline.pages.conftest import looking

NARROW = {"width": 390, "height": 844}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [{"width": 1280, "height": 900}, NARROW])
def test_a_browser_shows_it_without_an_error_and_without_scrolling_sideways(
    checkout: Checkout, browser: Any, scheme: str, size: dict[str, int]
) -> None:
    evaluation.write(judged.write(), margin=0.05)
    with looking(browser, paths.EVALUATION_PAGE, color_scheme=scheme, viewport=size) as page:
        assert page.title() == "Blocked – evaluation"
        assert page.locator("h1").inner_text() == "Blocked"
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") == (scheme == "light")


def test_the_verdict_comes_first_and_says_what_to_do(checkout: Checkout, browser: Any) -> None:
    evaluation.write(judged.write())
    with looking(browser, paths.EVALUATION_PAGE) as page:
        headings = page.locator("h1, h2").all_inner_texts()
        assert headings[:4] == ["Blocked", "Scores", "What changed", "The gate’s rules"]
        steps = page.locator(".verdict li").all_inner_texts()
        assert steps[0].startswith("message-triage: 0.")
        assert "resample.alpha" in steps[0]
        assert "moelora retrain" in steps[-1]


def test_an_override_is_red_and_names_who_and_why(checkout: Checkout, browser: Any) -> None:
    evaluation.write(judged.write(override=True))
    with looking(browser, paths.EVALUATION_PAGE) as page:
        assert page.locator("h1").inner_text() == "Overridden"
        red, green, blue = _colour(page, "h1")
        assert red > 2 * max(green, blue)
        assert page.locator(".verdict blockquote").inner_text() == "“triage is not in use” – A. Meyer"


def test_a_pass_names_the_release_and_the_tasks_to_confirm(checkout: Checkout, browser: Any) -> None:
    reports = judged.write(slack=True)
    reports["publish"] = {"published": True, "release": "0123456789abcdef"}
    evaluation.write(reports)
    confirm = "".join(f" --confirm {task}" for task in reports["gate"]["undecided"])
    assert confirm
    with looking(browser, paths.EVALUATION_PAGE) as page:
        assert page.locator("h1").inner_text() == "Pass"
        promote = f'moelora promote 0123456789abcdef --by NAME --reason "…"{confirm}'
        assert page.locator(".verdict code").last.inner_text() == promote


def test_scores_and_changes_are_those_of_the_reports(checkout: Checkout, browser: Any) -> None:
    reports = judged.write()
    evaluation.write(reports)
    tasks = reports["evaluate"]["tasks"]
    with looking(browser, paths.EVALUATION_PAGE) as page:
        scores, changes = (page.locator("table").nth(number).locator("tbody tr") for number in (0, 1))
        for task, figures in tasks.items():
            row = scores.filter(has_text=task).inner_text()
            for system in ("base", "champion", "candidate"):
                assert f"{figures[system]['score']:.3f}" in row
        drawn = scores.first.locator(".candidate .interval")
        low, high = (float(drawn.get_attribute(end).rstrip("%")) / 100 for end in ("x1", "x2"))
        first = tasks[min(tasks)]["candidate"]
        assert (low, high) == pytest.approx((first["low"], first["high"]), abs=1e-4)
        shown = [text.split()[0] for text in changes.locator("th").all_inner_texts()]
        by_size = sorted(tasks, key=lambda task: (-abs(tasks[task]["comparison"]["difference"]), task))
        assert shown == [*by_size, "mean", "lowest"]
        slices = page.locator("table").nth(2).locator("tbody tr").all_inner_texts()
        of_triage = tasks["message-triage"]["slices"].values()
        doubtful = min(of_triage, key=lambda each: each["comparison"]["p_worse"])
        assert slices[0].startswith("message-triage")
        assert f"{doubtful['comparison']['p_adjusted']:.3f}" in slices[0]


def test_a_first_release_is_compared_with_the_base(checkout: Checkout, browser: Any) -> None:
    evaluation.write(judged.write(champion=False))
    with looking(browser, paths.EVALUATION_PAGE) as page:
        assert "there is no champion yet" in page.locator(".eyebrow").inner_text()
        assert page.locator(".legend li").all_inner_texts() == ["base", "candidate"]


def test_text_of_records_is_there_only_on_request_and_stays_text(checkout: Checkout, browser: Any) -> None:
    reports = judged.write()
    evaluation.write(reports)
    assert "chest pain" not in paths.EVALUATION_PAGE.read_text()
    assert paths.EVALUATION_PAGE.stat().st_mode & 0o777 == 0o644
    everything = examples.read(reports["evaluate"]["systems"], 1000)
    assert any(judged.HOSTILE in example.input for example in everything)
    evaluation.write(reports, everything)
    assert paths.EVALUATION_PAGE.stat().st_mode & 0o777 == 0o600
    with looking(browser, paths.EVALUATION_PAGE) as page:
        assert page.title() == "Blocked – evaluation"
        assert page.locator("script, img").count() == 0
        assert (
            judged.HOSTILE in page.locator(".example .input").filter(has_text="<script>").first.inner_text()
        )
        assert "text of patients’ records" in page.locator(".warning").inner_text()


def test_hostile_names_and_reasons_stay_text(checkout: Checkout, browser: Any) -> None:
    reports = judged.write(override=True)
    reports["gate"]["override"] = {"by": judged.HOSTILE, "reason": judged.HOSTILE}
    tasks = reports["evaluate"]["tasks"]
    tasks["rqe"]["slices"] = {judged.HOSTILE: next(iter(tasks["rqe"]["slices"].values()))}
    evaluation.write(reports)
    with looking(browser, paths.EVALUATION_PAGE) as page:
        assert page.title() == "Overridden – evaluation"
        assert page.locator("script, img").count() == 0
    assert "<script" not in evaluation.summary(reports)


def test_examples_begin_with_rows_that_are_answered_differently(checkout: Checkout) -> None:
    systems = judged.write()["evaluate"]["systems"]
    found = examples.read(systems, 2)
    assert len(found) == 2 * len(judged.TASKS)
    assert found == examples.read(systems, 2)
    for example in found:
        assert len({text for text, _ in example.answers.values()}) > 1
    paths.TEST_SPLIT.unlink()
    with pytest.raises(DataError, match="moelora stage evaluate"):
        examples.read(systems, 2)


def test_memorisation_and_calibration_are_shown_for_each_system(checkout: Checkout, browser: Any) -> None:
    reports = judged.write()
    reports["evaluate"]["calibration"] = {
        "rqe": {"base": 0.25, "candidate": 0.0625, "champion": 0.125},
        "mts-section": {"base": 0.25, "candidate": 0.0625},
    }
    evaluation.write(reports)
    with looking(browser, paths.EVALUATION_PAGE) as page:
        text = page.locator("main").inner_text()
        assert "rqe\t0.250\t0.125\t0.062" in text
        assert "mts-section\t0.250\t–\t0.062" in text  # new since the champion
        assert "auc 0.562" in text
        assert "exposure 1.412" in text
        assert "unseen completed 7" in text
    summary = evaluation.summary(reports)
    assert "| rqe | 0.250 | 0.125 | 0.062 |" in summary
    assert "training rows are told from others" in summary


def test_the_same_reports_give_the_same_page(checkout: Checkout) -> None:
    judged.write()
    first = evaluation.page(evaluation.read(), margin=0.05)
    assert first == evaluation.page(json.loads(json.dumps(evaluation.read())), margin=0.05)


def test_a_missing_report_is_named(checkout: Checkout) -> None:
    judged.write()
    paths.report("gate").unlink()
    with pytest.raises(DataError, match=r"reports/gate\.json is missing.*moelora stage gate"):
        evaluation.read()


def test_the_summary_has_the_verdict_scores_and_no_text(checkout: Checkout) -> None:
    reports = judged.write(override=True)
    text = evaluation.summary(reports)
    assert text.startswith("# 🟥 Overridden\n")
    assert "> triage is not in use – A. Meyer" in text
    assert "![scores of each task with intervals](data:image/svg+xml;base64," in text
    assert "| message-triage | accuracy | 300 |" in text
    assert "chest pain" not in text
    for line in text.splitlines():
        if line.startswith("| message-triage | accuracy"):
            assert line.count("|") == 4 + len(reports["evaluate"]["systems"])


def _colour(page: Any, selector: str) -> list[int]:
    colour = page.evaluate(f"getComputedStyle(document.querySelector('{selector}')).color")
    return [int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
