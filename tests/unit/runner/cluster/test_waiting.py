import pytest

from runner.cluster.waiting import seconds, wait_until, while_away
from runner.errors import ClusterError, ConfigError, UnreachableError

Answers = list[str | Exception]
AWAY = UnreachableError("connection refused")


def answering(answers: Answers) -> str:
    answer = answers.pop(0)
    if isinstance(answer, Exception):
        raise answer
    return answer


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([""], []),
        (["the pod", "the pod", ""], ["waiting for the pod"]),
        (["the pod", "its node", ""], ["waiting for the pod", "waiting for its node"]),
        (["the pod", AWAY, AWAY, ""], ["waiting for the pod", "connection refused", "answers again"]),
    ],
)
def test_what_is_waited_for_is_said_when_it_changes(answers: Answers, said: list[str]) -> None:
    lines: list[str] = []
    wait_until(lambda: answering(answers), lines.append, remedy="look", patience_s=10, pause_s=0)
    assert all(part in line for part, line in zip(said, lines, strict=True))


@pytest.mark.parametrize(("answers", "kind"), [([AWAY, ""], UnreachableError), (["the pod"] * 99, ClusterError)])
def test_it_fails_when_the_api_never_answered_or_it_does_not_come(answers: Answers, kind: type[ClusterError]) -> None:
    with pytest.raises(kind) as error:
        wait_until(lambda: answering(answers), print, remedy="look", patience_s=0.02, pause_s=0.01)
    assert type(error.value) is kind


def test_a_refusal_counts_as_being_away_when_the_api_has_just_come_back_and_not_for_ever() -> None:
    answers: Answers = [AWAY, ClusterError("403: no role yet"), "here"]
    assert while_away(lambda: answering(answers), print, pause_s=0) == "here"
    answers = [ClusterError("403: no role"), "here"]
    with pytest.raises(ClusterError, match="403"):
        while_away(lambda: answering(answers), print, pause_s=0)
    with pytest.raises(UnreachableError):
        while_away(lambda: answering([AWAY]), print, patience_s=0.02, pause_s=0.01)


@pytest.mark.parametrize(("text", "expected"), [("20m", 1200), ("1h30m", 5400), ("45s", 45), ("0s", 0)])
def test_a_duration_is_read_when_it_is_one(text: str, expected: float) -> None:
    assert seconds(text, "patience") == expected


@pytest.mark.parametrize("text", ["", "20", "m", "20 m", "1d", "-5m"])
def test_refused_when_it_is_no_duration(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^patience: "):
        seconds(text, "patience")
