from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.simulations.test_results import SAID

from veilface_common.page import package_text
from veilface_simulations import findings, plots, report
from veilface_simulations.report import Example
from veilface_simulations.results import ArmPrivacy, OrganisationSize, Result

MakeResult = Callable[..., Result]
HOSTILE = "<script>alert('x')</script>\"'&$title ${body} </title></style><!--"
VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """What a browser would make of a page: its elements, attributes, text and balance."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]


def hostile(result: Result) -> Result:
    """The same result with a hostile text wherever text comes from outside."""
    arms = tuple(
        dataclasses.replace(arm, organisation=arm.organisation and HOSTILE) for arm in result.arms
    )
    return dataclasses.replace(
        result,
        arms=arms,
        warnings=(HOSTILE,),
        data="drawn:" + HOSTILE,
        evaluate_on="drawn:" + HOSTILE,
        organisations=(OrganisationSize(name=HOSTILE, people=1, images=2),),
        preset=HOSTILE,
        engine=HOSTILE,
        model=HOSTILE,
        versions={HOSTILE: HOSTILE},
        command=HOSTILE,
        started=HOSTILE,
    )


def test_report_is_well_formed_and_says_everything(made_up: MakeResult, tmp_path: Path) -> None:
    """Balanced HTML with the finding first, a row per arm, and what is needed to repeat it."""
    path = tmp_path / report.FILE_NAME
    report.write_report(made_up(), path)
    page = Page(path.read_text())
    assert not page.open
    assert page.tags.count("h1") == 1
    words = re.sub(r"\s+", " ", page.words)
    assert "Training together closed 92% of the gap between training alone and pooling" in words
    for text in ("site-0", "site-1", "Each alone, mean of 2", "10.0 to 12.0%", "22.0%"):
        assert text in words
    assert "80.0% ± 1.0%" in words, "the LFW pairs protocol"
    assert "one file is not an image" in words
    assert "veilface-sim run" in words
    assert "N = 20 enrolled, R = 1" in words


def test_report_needs_nothing_else(made_up: MakeResult) -> None:
    """No script, no link, no address but the SVG name spaces and the data inside."""
    example = Example(title="Two people taken for one", left=b"\x89PNG1", right=b"\x89PNG2")
    text = report.render(made_up(), examples=[example])
    page = Page(text)
    assert page.tags.count("img") == 2
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(page.tags)
    addresses = re.findall(r"\w+://[^\s\"')]+", text)
    assert {address.split("/")[2] for address in addresses} <= {"www.w3.org"}
    assert all(value.startswith("data:image/png;base64,") for value in page.values("src"))
    assert all(value.startswith("#") for value in page.values("xlink:href"))
    assert not page.values("href")
    assert "@import" not in text
    assert "default-src 'none'" in text


def test_hostile_names_do_not_inject(made_up: MakeResult) -> None:
    """A folder or organisation named as a script is shown as text, in HTML and in every SVG."""
    result = hostile(made_up())
    example = Example(title=HOSTILE, left=b"a", right=b"b")
    page = Page(report.render(result, examples=[example]))
    assert not page.open
    plain = Page(report.render(made_up(), examples=[dataclasses.replace(example, title="x")]))
    assert set(page.tags) == set(plain.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.words.count("alert('x')") >= 10
    assert "$title" in page.words, "text from outside is not a template"


def test_ids_are_unique_and_references_lead_somewhere(made_up: MakeResult) -> None:
    """Several drawings share a page without sharing their clip paths and markers."""
    text = report.render(made_up())
    ids = Page(text).values("id")
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(ids)
    assert {value[1:] for value in Page(text).values("xlink:href")} <= set(ids)


def test_report_repeats(made_up: MakeResult) -> None:
    """The same result gives the same bytes."""
    assert report.render(made_up()) == report.render(made_up())


def test_drawings_take_the_colours_of_the_page(made_up: MakeResult) -> None:
    """No fixed colour but through a variable that the style sheet sets in light and in dark."""
    style = package_text("veilface_common", "page.css")
    dark = style[style.index("prefers-color-scheme: dark") : style.index("@media print")]
    for plot in plots.all_plots(made_up()):
        assert set(re.findall(r"#[0-9a-fA-F]{6}\b", plot.svg)) <= {"#000000"}, plot.name
        assert "#000000" not in plot.svg
        for variable in set(re.findall(r"var\((--[a-z]+)\)", plot.svg)):
            assert style.count(variable + ":") >= 2
            assert variable + ":" in dark


def test_organisation_names_are_not_typeset_as_formulas(made_up: MakeResult) -> None:
    """A dollar sign is a dollar sign, also where the formula would be broken."""
    result = made_up()
    sizes = (OrganisationSize(name=r"$\frac{", people=1, images=2),)
    svgs = [plot.svg for plot in plots.all_plots(dataclasses.replace(result, organisations=sizes))]
    assert any(r"$\frac{" in svg for svg in svgs)


def test_real_faces_are_never_shown(made_up: MakeResult) -> None:
    """Examples of people who were not drawn are refused, and the report says why there are none."""
    example = Example(title="x", left=b"a", right=b"b")
    real = dataclasses.replace(made_up(), data="lfw:faces")
    with pytest.raises(ValueError, match="drawn"):
        report.render(real, examples=[example])
    with pytest.raises(ValueError, match="drawn"):
        report.render(dataclasses.replace(made_up(), evaluate_on="folder:x"), examples=[example])
    text = report.render(real)
    assert "photographs of real people" in re.sub(r"\s+", " ", Page(text).words)
    assert "<img" not in text


@pytest.mark.parametrize(
    ("federated", "local", "text"),
    [
        (0.11, (0.2, 0.24), "closed 92% of the gap"),
        (0.09, (0.2,), "did as well as"),
        (0.3, (0.2,), "did not help"),
        (0.1, (0.102,), "hardly a gap"),
    ],
)
def test_headline_says_what_was_found(
    made_up: MakeResult, federated: float, local: tuple[float, ...], text: str
) -> None:
    """Success, failure and nothing to win are told apart, with the figures behind them."""
    sentence = findings.headline(made_up(federated, local))
    assert text in sentence
    assert f"{federated:.1%}" in sentence
    assert sentence.endswith(".")
    assert sentence.count(". ") == 0


@pytest.mark.parametrize("kept", ["federated", "local", "central", "federated local", ""])
def test_a_report_of_some_arms_is_a_report(made_up: MakeResult, kept: str) -> None:
    """Whatever --arms says, page and headline come out, without a figure for what is missing."""
    result = made_up()
    arms = tuple(arm for arm in result.arms if arm.arm in kept.split())
    result = dataclasses.replace(result, arms=arms)
    assert "%" in findings.headline(result) or not kept
    page = Page(report.render(result))
    assert not page.open
    assert "None" not in page.words
    assert "nan" not in page.words.split()


def test_chance_is_named_where_it_could_explain_the_difference(made_up: MakeResult) -> None:
    """Alone inside the federated interval: the report says that this may be nothing."""
    assert "chance" in findings.qualification(made_up(0.11, (0.115,)))
    assert "chance" not in findings.qualification(made_up(0.11, (0.2,)))


def test_warnings_that_follow_from_the_figures(made_up: MakeResult) -> None:
    """Too few impostors, a person who dominates and missing pairs are said without being asked."""
    result = made_up()
    arm = result.arms[0]
    heavy = dataclasses.replace(arm.figures, largest_person_share=0.6)
    result = dataclasses.replace(result, arms=(dataclasses.replace(arm, figures=heavy),))
    text = " ".join(findings.all_warnings(result))
    assert "One person makes up 60%" in text
    assert "too few for the lowest" in text
    assert "10 pairs of the LFW protocol" in text


def test_a_hundred_organisations_still_make_a_report(made_up: MakeResult) -> None:
    """Plots stop naming everybody; the table keeps them all."""
    result = made_up(0.1, tuple(0.2 + index / 1000 for index in range(100)))
    text = report.render(result)
    assert text.count('class="local one"') == 100
    assert "13 of 100 alone" in text
    assert all(name in text.split("<svg")[1] for name in ("site-0<", "site-99<"))
    assert len(text) < 1_000_000


def test_reported_figures_stand_beside_the_true_ones(made_up: MakeResult) -> None:
    """The noised histograms are drawn, and the caption holds both figures; else no such plot."""
    result = made_up()
    assert "as the organisations report them" not in report.render(result)
    for tar, said in ((0.4, "TAR at FAR 1%: 40.0% (20.0% to 70.0%), true 50.0%"), (None, "")):
        reported = dataclasses.replace(SAID, tar_at_far_1e_2=tar)
        arm = dataclasses.replace(result.arms[0], reported=reported)
        page = Page(report.render(dataclasses.replace(result, arms=(arm, *result.arms[1:]))))
        words = " ".join(page.words.split())
        assert not page.open
        assert "Equal error rate: 12.0% (10.0% to 15.0%), true 11.0%." in words
        assert said in words
        assert ("TAR at FAR 1%:" in words) == (tar is not None)
        ids = page.values("id")
        assert len(ids) == len(set(ids))


def test_a_private_run_says_what_was_spent_and_what_it_cost(made_up: MakeResult) -> None:
    """Unit, epsilon and noise, beside the start and the federation without privacy."""
    assert "differential privacy (epsilon" not in Page(report.render(made_up())).words
    result = made_up()
    together = result.arms[0]
    spent = ArmPrivacy(
        unit="identity",
        epsilon=7.99,
        delta=1e-5,
        noise_multiplier=1.25,
        sample_rate=0.5,
        steps=40,
    )
    private = dataclasses.replace(together, privacy=spent)
    plain = dataclasses.replace(
        together, arm="plain", figures=dataclasses.replace(together.figures, eer=0.09)
    )
    result = dataclasses.replace(
        result,
        arms=(private, plain, *result.arms[1:]),
        initial=dataclasses.replace(together.figures, eer=0.15),
    )
    words = " ".join(Page(report.render(result)).words.split())
    assert "differential privacy (epsilon 7.99) and reaches an equal error rate of 11.0%" in words
    assert "The model it started from has 15.0%" in words
    assert "without privacy reaches 9.0%" in words
    assert "a person, with all photographs at one organisation" in words
    assert "Together, no privacy" in words
    assert "trained without differential privacy" not in words
    assert "Training together with privacy (epsilon 8.0) closed" in words
