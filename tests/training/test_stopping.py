"""A stop in the middle of a run: the step ends, a checkpoint of it is written, and the run goes on to the same end."""

import os
import signal
import threading

import pytest

from helpers.runs.events import Event, Logged, Started
from helpers.storage import Storage
from helpers.training.stopping import noted_stops
from helpers.training.train_single_k import train_single_k
from tests.small_run import CONFIG, numbers


def stopped_at_start(event: Event) -> None:
    """The stop button, pressed before the first step: it is answered after that step, between two logs."""
    if isinstance(event, Started):
        os.kill(os.getpid(), signal.SIGINT)


def stopped_at_log(event: Event) -> None:
    if isinstance(event, Logged):
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("stop", [stopped_at_start, stopped_at_log])
def test_a_stopped_run_has_a_checkpoint_of_its_last_step_and_ends_as_if_it_had_not_been_stopped(tmp_path, stop):
    whole, stopped = Storage.at(tmp_path / "whole"), Storage.at(tmp_path / "stopped")
    train_single_k(CONFIG, whole, [])
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as the command line has it
    try:
        with pytest.raises(KeyboardInterrupt):
            train_single_k(CONFIG, stopped, [stop])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert stopped.checkpoint_steps(CONFIG.run_id)[0] == {stopped_at_start: 1, stopped_at_log: 5}[stop]
    assert not stopped.result(CONFIG.run_id).exists()
    train_single_k(CONFIG, stopped, [])
    assert numbers(stopped) == numbers(whole)


def test_a_second_stop_is_not_waited_for():
    said = []
    with pytest.raises(KeyboardInterrupt), noted_stops(said.append) as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.is_asked and len(said) == 1
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_handlers_and_other_threads_are_left_as_they_are():
    mine = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with noted_stops(print):
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, mine)
    seen = []

    def elsewhere() -> None:
        with noted_stops(print) as stop:
            seen.append(stop.is_asked)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [False]
