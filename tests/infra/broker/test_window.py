"""The relay's window bounds the span of positions in flight, so a lost connection leaves no hole further back."""

from infra.broker.window import Window


def sent(window: Window, *positions: int) -> Window:
    for position in positions:
        assert window.admits(position)
        window.sent(position)
    return window


def test_a_new_window_is_empty_and_admits_any_first_position() -> None:
    window = Window(0, span=3)

    assert window.empty
    assert window.admits(1)
    assert window.admits(1_000)


def test_a_position_is_admitted_only_when_all_a_span_before_it_are_acknowledged() -> None:
    window = sent(Window(0, span=3), 1, 2, 3)

    assert not window.admits(4)
    window.ack(1)
    assert window.admits(4)
    assert not window.admits(5)


def test_acknowledgements_out_of_order_count_once_the_gap_before_them_is_filled() -> None:
    window = sent(Window(0, span=3), 1, 2, 3)

    window.ack(3)
    window.ack(2)
    assert (window.acked, window.empty, window.admits(4)) == (0, False, False)

    window.ack(1)
    assert (window.acked, window.empty, window.admits(6)) == (3, True, True)


def test_not_the_number_in_flight_but_the_span_is_bounded() -> None:
    window = sent(Window(0, span=3), 1, 2, 3)
    window.ack(2)
    window.ack(3)

    assert not window.admits(4)  # one alone is in flight, but 4 is too far from it


def test_positions_may_have_gaps() -> None:
    window = sent(Window(10, span=3), 12, 13)

    assert not window.admits(20)
    window.ack(13)
    window.ack(12)
    assert window.acked == 13
    assert window.admits(20)


def test_a_gap_longer_than_the_span_does_not_stop_the_relay() -> None:
    window = sent(Window(0, span=3), 1)
    window.ack(1)

    sent(window, 100)
    assert not window.admits(101)
    window.ack(100)
    sent(window, 101, 102, 103)


def test_it_continues_at_the_end_of_the_stream() -> None:
    window = sent(Window(500, span=3), 501, 502, 503)

    assert window.acked == 500
    assert not window.admits(504)
