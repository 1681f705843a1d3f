"""Answers are kept as numbers, in the order in which they came."""

from bench.answers import Taken, end
from bench.client import Answer

CONFIRMED = Answer(200, b'{"status":"CONFIRMED","amount_due":990}', 0.25)
REFUSED = Answer(503, b'{"type":"/problems/busy"}', 0.001)
UNKNOWN = Answer(409, b'{"type":"/problems/coupon-unknown"}', 0.5)


def test_answers_are_kept_in_the_order_in_which_they_came() -> None:
    taken = Taken()
    for number, answer in ((7, CONFIRMED), (5, UNKNOWN), (6, CONFIRMED), (8, REFUSED)):
        taken.take(number, answer)

    assert list(taken.each()) == [
        (7, "confirmed"),
        (5, "coupon-unknown"),
        (6, "confirmed"),
        (8, "503 /problems/busy"),
    ]
    assert taken.ends() == {"confirmed": 2, "coupon-unknown": 1, "503 /problems/busy": 1}
    assert taken.after.tolist() == [0.25, 0.5, 0.25, 0.001]
    assert taken.at.tolist() == sorted(taken.at)
    assert taken.at[0] > 0


def test_an_answer_that_is_no_order_is_its_status() -> None:
    assert end(Answer(500, b"Internal Server Error", 0.1)) == "500"
    assert end(Answer(202, b'{"status":"PENDING"}', 0.1)) == "202 PENDING"
