"""A sweep over epsilon: its list, its file and its page."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from veilface_common.config import PrivacyConfig
from veilface_common.errors import ArtifactError, ConfigError
from veilface_common.presets import preset
from veilface_simulations.cli import main
from veilface_simulations.experiment import USUAL_ARMS, Experiment, save_experiment
from veilface_simulations.results import ArmPrivacy, Result
from veilface_simulations.run import Job
from veilface_simulations.sweep import (
    RECORD,
    Sweep,
    collect,
    load_jobs,
    parse_epsilons,
    plan_sweep,
    start_sweep,
)
from veilface_simulations.sweep_page import headline, render
from veilface_simulations.sweep_plots import against_epsilon, places

MakeResult = Callable[..., Result]
MakeSweep = Callable[..., Sweep]
HOSTILE = "<script>alert('x')</script>\"'&$title ${body} </title></style><!--"
PRIVATE = replace(preset("smoke"), privacy=PrivacyConfig(unit="identity", steps=2))


@pytest.fixture
def made_sweep(made_up: MakeResult) -> MakeSweep:
    """Make a sweep: `made_sweep({epsilon: EER})`; alone it is 22%, pooled 10%."""

    def make(rates: dict[float, float], start: float | None = None) -> Sweep:
        jobs, found = [], []
        for epsilon, eer in rates.items():
            is_private = math.isfinite(epsilon)
            config = PRIVATE if is_private else preset("smoke")
            experiment = Experiment(
                data="drawn:50x5", config=config, epsilon=epsilon if is_private else 8.0
            )
            jobs.append(Job(experiment=experiment, folder=Path(), cache=Path(), command=""))
            found.append(at_price(made_up(eer), epsilon, start))
        return collect(jobs, found)

    return make


def at_price(result: Result, epsilon: float, start: float | None) -> Result:
    spent = ArmPrivacy(
        unit="identity",
        epsilon=epsilon - 0.01,
        delta=1e-5,
        noise_multiplier=1.25,
        sample_rate=0.1,
        steps=1200,
    )
    together = replace(result.arms[0], privacy=spent if math.isfinite(epsilon) else None)
    initial = None if start is None else replace(together.figures, eer=start)
    return replace(result, arms=(together, *result.arms[1:]), initial=initial)


class Words(HTMLParser):
    """The text and the elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words = ""
        self.tags: set[str] = set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.words += data


def test_a_list_is_read_in_rising_order() -> None:
    """`inf` is the last; spaces around numbers do not matter."""
    assert parse_epsilons("8,inf, 0.5,2") == (0.5, 2.0, 8.0, math.inf)
    assert parse_epsilons("inf") == (math.inf,)


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("0", "'0'"),
        ("2,-1", "'-1'"),
        ("-inf", "'-inf'"),
        ("nan", "'nan'"),
        ("2,two", "'two'"),
        ("", "''"),
        ("2,,4", "''"),
        ("2,4,2", "2 twice"),
        ("2,2.0", "2 twice"),
        ("inf,inf", "inf twice"),
    ],
)
def test_a_list_that_makes_no_sense_is_one_line(
    text: str, got: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Zero, below zero, words, gaps and repetitions: refused before anything is made."""
    with pytest.raises(ConfigError, match=re.escape(f"got {got}")):
        parse_epsilons(text)
    out = tmp_path / "sweep"
    assert main(["sweep", "--data", "drawn:16x4", f"--epsilon={text}", "--out", str(out)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("veilface-sim: expected ")
    assert not out.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--data", "drawn:16x4"],
        ["--data", "drawn:16x4", "--resume", "OUT"],
        ["--data", "drawn:16x4", "--out", "OUT", "--privacy", "none"],
        ["--data", "drawn:16x4", "--out", "OUT", "--set", "privacy.unit=none"],
        ["--data", "drawn:16x4", "--out", "OUT", "--arms", "local"],
        ["--data", "drawn:16x4", "--out", "OUT", "--epsilon", "8,inf", "--public", "nothing:x"],
    ],
)
def test_what_a_sweep_cannot_do_is_refused(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, the exit code of a setting, and no folder made."""
    out = tmp_path / "sweep"
    filled = [str(out) if entry == "OUT" else entry for entry in arguments]
    assert main(["sweep", "--preset", "smoke", *filled]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not out.exists()


def small_plan(folder: Path) -> tuple[Job, ...]:
    experiment = Experiment(data="drawn:16x4", config=PRIVATE, public="drawn:8x3", seeded=True)
    job = Job(experiment=experiment, folder=folder, cache=folder, command="veilface-sim sweep")
    return plan_sweep(job, (4.0, 8.0, math.inf))


def test_each_epsilon_is_a_run_and_the_first_has_all_arms(tmp_path: Path) -> None:
    """Folders are named by epsilon, less epsilon is more noise, and `inf` is without privacy."""
    jobs = small_plan(tmp_path)
    assert [job.folder.name for job in jobs] == ["epsilon-4", "epsilon-8", "epsilon-inf"]
    assert [job.experiment.arms for job in jobs] == [USUAL_ARMS, ("federated",), ("federated",)]
    assert [job.experiment.is_private for job in jobs] == [True, True, False]
    assert [job.experiment.epsilon for job in jobs[:2]] == [4.0, 8.0]
    noise = [job.experiment.config.privacy.noise_multiplier for job in jobs]
    assert noise[0] > noise[1]


def test_a_sweep_is_found_again_as_it_was_started(tmp_path: Path) -> None:
    """What was planned is what is resumed, in the same order; nothing is started over it."""
    jobs = small_plan(tmp_path / "sweep")
    start_sweep(tmp_path / "sweep", jobs)
    assert load_jobs(tmp_path / "sweep", tmp_path / "sweep") == jobs
    with pytest.raises(ConfigError, match="new or empty folder for the sweep") as caught:
        start_sweep(tmp_path / "sweep", jobs)
    assert caught.value.hint == f"--resume {tmp_path / 'sweep'} continues that sweep"


def test_half_a_sweep_is_not_resumed(tmp_path: Path) -> None:
    """Killed while its folders were made, or no sweep at all: an error, not fewer points."""
    jobs = small_plan(tmp_path / "half")
    for job in jobs[1:]:
        job.folder.mkdir(parents=True)
        save_experiment(job.folder, job.experiment, job.command)
    for folder in (tmp_path / "half", tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ArtifactError, match="expected a sweep to resume"):
            load_jobs(folder, tmp_path)


def test_the_file_says_what_each_epsilon_bought(made_sweep: MakeSweep, tmp_path: Path) -> None:
    """Every figure that the schema promises; no privacy is null, and no price stands beside it."""
    RECORD.save(made_sweep({2.0: 0.2, math.inf: 0.12}, start=0.3), tmp_path)
    written = json.loads((tmp_path / "sweep.json").read_text())
    private, openly = written["points"]
    assert written["schema"] == 1
    assert (private["epsilon"], private["spent"], private["eer"]) == (2.0, 1.99, 0.2)
    assert (private["noise_multiplier"], private["steps"]) == (1.25, 1200)
    assert private["intervals"]["eer"] == pytest.approx([0.19, 0.21])
    assert [openly[key] for key in ("epsilon", "spent", "noise_multiplier", "steps")] == [None] * 4
    assert written["local"]["eer"] == pytest.approx(0.22)
    assert written["local"]["tar_at_far"] == {"1e-2": 0.5, "1e-3": None}
    assert (written["central"]["eer"], written["initial"]["eer"]) == (0.1, 0.3)


def test_every_written_key_is_documented(made_sweep: MakeSweep) -> None:
    """The part of the schema's page on sweeps names every key of a sweep and of a point."""
    page = (Path(__file__).parents[2] / "docs" / "result-schema.md").read_text()
    part = page[page.index("# `sweep.json`") :]
    written = RECORD.to_json(made_sweep({2.0: 0.2}))
    for key in (*written, *written["points"][0], *written["local"]):
        assert f"`{key}`" in part or f"{key}," in part, key


ALONE = "against 22.0% for an organisation alone."
AT_4 = "equal error rate 20.0% at epsilon 4"


@pytest.mark.parametrize(
    ("rates", "start", "said"),
    [
        (
            {2.0: 0.21, 4.0: 0.2},
            None,
            "every epsilon tried: equal error rate 21.0% at epsilon 2 and 20.0% at epsilon 4, ",
        ),
        (
            {2.0: 0.25, 4.0: 0.2, math.inf: 0.12},
            None,
            f"Joining pays from epsilon 4 on: {AT_4} and 12.0% without privacy, {ALONE}",
        ),
        ({2.0: 0.25, 4.0: 0.2}, None, f"Joining pays only at epsilon 4: {AT_4}, {ALONE}"),
        ({2.0: 0.25, math.inf: 0.12}, None, "Joining pays only without privacy: equal error rate "),
        ({1.0: 0.2, 2.0: 0.25, 4.0: 0.2}, None, "pays only at epsilon 1 and at epsilon 4: equal "),
        (
            {2.0: 0.25, 4.0: 0.219},
            None,
            "does not pay at any epsilon tried: equal error rate at best 21.9% at epsilon 4, ",
        ),
        ({2.0: 0.19, 4.0: 0.17}, 0.18, "at epsilon 4, against 18.0% for the model that all start "),
    ],
)
def test_the_headline_says_at_which_epsilon_joining_pays(
    made_sweep: MakeSweep, rates: dict[float, float], start: float | None, said: str
) -> None:
    """Against the better of what an organisation has anyway; a hair's breadth does not count."""
    assert said in headline(made_sweep(rates, start))


def test_the_page_shows_every_point_and_every_level(made_sweep: MakeSweep) -> None:
    """Headline, two plots, a row for each epsilon and for what there is without joining."""
    text = render(made_sweep({2.0: 0.215, math.inf: 0.12}, start=0.3))
    words = re.sub(r"\s+", " ", Words(text).words)
    for part in ("Joining pays", "20.5 to 22.5%", "+0.5", "+10.0", "1,200", "1.99", "30.0%"):
        assert part in words
    assert "The interval at epsilon 2 includes the 22.0% for an organisation alone" in words
    assert text.count("<svg ") == 2
    assert text.count('<tr class="federated">') == 2
    addresses = re.findall(r"\w+://[^\s\"')]+", text)
    assert {address.split("/")[2] for address in addresses} <= {"www.w3.org"}
    assert "href=" not in text.replace("xlink:href=", "")


def test_ids_do_not_meet_on_the_page(made_sweep: MakeSweep) -> None:
    """Two plots share a page without sharing clip paths and markers."""
    text = render(made_sweep({2.0: 0.2, 8.0: 0.15}))
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(ids)


def test_hostile_names_do_not_inject(made_sweep: MakeSweep) -> None:
    """A source named as a script is shown as text."""
    plain = made_sweep({2.0: 0.2})
    hostile = replace(
        plain,
        data=HOSTILE,
        evaluate_on=HOSTILE,
        preset=HOSTILE,
        model=HOSTILE,
        engine=HOSTILE,
        command=HOSTILE,
        warnings=(HOSTILE,),
    )
    page = Words(render(hostile))
    assert page.tags - {"ul", "li"} == Words(render(plain)).tags - {"ul", "li"}
    assert page.words.count("alert('x')") >= 8
    assert "$title" in page.words, "text from outside is not a template"


def test_no_privacy_stands_at_the_right_end() -> None:
    """Further right than every number, and alone where there is none."""
    spots = places([2.0, 4.0, 8.0, None])
    assert spots[:3] == [2.0, 4.0, 8.0]
    assert spots[3] >= 16.0
    assert places([None]) == [1.0]
    assert places([2.0]) == [2.0]


@pytest.mark.parametrize("epsilons", [(math.inf,), (2.0,), (0.1, 1.0, 1000.0, math.inf)])
def test_any_list_can_be_drawn(made_sweep: MakeSweep, epsilons: tuple[float, ...]) -> None:
    """One point or many, with a number or without; a figure that is missing is not drawn."""
    sweep = made_sweep(dict.fromkeys(epsilons, 0.2))
    assert [plot.name for plot in against_epsilon(sweep)] == ["sweep-eer", "sweep-tar"]
    blind = replace(sweep.points[0], tar_at_far={"1e-2": None})
    names = [plot.name for plot in against_epsilon(replace(sweep, points=(blind,)))]
    assert names == ["sweep-eer"]


def test_the_same_sweep_gives_the_same_page(made_sweep: MakeSweep) -> None:
    """Bytes repeat, so that a page can be compared."""
    sweep = made_sweep({2.0: 0.2, math.inf: 0.12})
    assert render(sweep) == render(sweep)
