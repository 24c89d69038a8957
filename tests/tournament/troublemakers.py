"""Agents that do to a tournament what agents do."""

import multiprocessing
import os
import random
import signal
import time

import numpy as np
from negmas.sao import ResponseType
from scml.std.agents import GreedyStdAgent, SyncRandomStdAgent


class Raises(GreedyStdAgent):
    """Cannot be constructed."""

    def __init__(self, *args, **kwargs):
        raise RuntimeError("no licence")


class RaisesInPlay(GreedyStdAgent):
    """Fails at every decision; SCML ends the negotiation and goes on."""

    n_raised = 0

    def propose(self, *args, **kwargs):
        self.n_raised += 1
        raise RuntimeError("not today")

    respond = propose

    def tournament_report(self):
        return {"raised": self.n_raised}


class Hangs(GreedyStdAgent):
    """Never comes back on day 2."""

    def before_step(self):
        if self.awi.current_step == 2:
            time.sleep(10_000)


class Dies(GreedyStdAgent):
    """Takes its process with it."""

    def before_step(self):
        os._exit(3)


class DiesOnce(GreedyStdAgent):
    """Takes its process with it if there is no file `note` yet, and leaves one."""

    def __init__(self, *args, note, **kwargs):
        super().__init__(*args, **kwargs)
        self.note = note

    def before_step(self):
        if not os.path.exists(self.note):
            open(self.note, "w").close()
            self.die()

    def die(self):
        os._exit(3)


class KillsWorkerOnce(DiesOnce):
    """Kills the worker that watches over its world, as the kernel does where memory runs out."""

    def die(self):
        os.kill(multiprocessing.parent_process().pid, signal.SIGKILL)
        time.sleep(10_000)


class Remembers(GreedyStdAgent):
    """Plays worse with every world that it has played in the same process."""

    n_worlds = 0

    def init(self):
        super().init()
        Remembers.n_worlds += 1

    def propose(self, *args, **kwargs):
        return super().propose(*args, **kwargs) if Remembers.n_worlds <= 3 else None


class Draws(GreedyStdAgent):
    """Draws random numbers when it is made."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.luck = random.random() + np.random.random()


class SyncByName(SyncRandomStdAgent):
    """Answers thread by thread, as several competition agents do."""

    def propose(self, *args, **kwargs):
        return self.sample_outcome()

    def respond(self, *args, **kwargs):
        return ResponseType.REJECT_OFFER

    def sample_outcome(self):
        issue = self.awi.current_output_issues or self.awi.current_input_issues
        return (1, self.awi.current_step, issue[2].max_value)


class Reports(GreedyStdAgent):
    """Counts something of itself."""

    def tournament_report(self):
        return {"greed": 7}


class Fractions(GreedyStdAgent):
    """Quotes fractional prices."""

    def propose(self, *args, **kwargs):
        offer = super().propose(*args, **kwargs)
        return None if offer is None else (offer[0], offer[1], offer[2] - 0.25 if offer[2] > 1 else offer[2] + 0.25)
