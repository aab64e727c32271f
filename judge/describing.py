"""LOOP BODY: ask an expert the probe set, each probe once, while traffic flows.

Not user traffic: no decision, response or label comes of it, and a call that fails says nothing
about the expert's health. Every answer is stored as it comes, so a run that is interrupted goes on
where it stopped. The most that a call can cost is reserved before it from the day's budget for
shadow answers, and settled after it with what it and its failed tries cost. Unlike a shadow
answer's, a probe's refusal is not noted there: the probes never stop the sampling of traffic.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from judge.purse import Reservation, settle
from judge.spending import shadows
from online.clients import Answer
from online.costs import NOMINAL_INPUT_TOKENS, count_tokens, expected_cost, most_cost
from store.clock import Clock
from store.describing import ProbeAnswer
from store.errors import ExpertUnavailable, ProbingStopped
from store.health import CallError
from store.ledger import Ledger, Transaction
from store.money import Budget, day_of, micro_usd
from store.records import Expert, Price

AT_ONCE = 4
"""Calls under way at the same time."""
PER_SECOND = 4.0
"""Calls begun a second, at most: 192 probes take 48 s at least."""
ANSWER_TOKENS = 256
"""Longest answer to a probe; a fingerprint reads 128 tokens of its own."""
NOMINAL_ANSWER = 128.0
"""Tokens of an answer that the estimate assumes."""
GIVE_UP_AFTER = 3
"""Calls that fail one after the other, each after the client's own retries."""

Ask = Callable[[str], Answer]
"""Asks an expert a text. Raises ``ExpertUnavailable``, with error ``refused`` where it is the text
that the endpoint does not take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeCost:
    """USD that the probes which are left will cost."""

    calls: int
    about: float
    at_most: float
    left_today: float | None
    """In the day's budget for shadow answers; None while no policy is set."""


class Describer:
    """Asks one expert the probes that it has not answered.

    Parameters
    ----------
    probes, probe_set
        The prompts, and the hash under which their answers are kept.
    """

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        expert: Expert,
        ask: Ask,
        *,
        probes: Sequence[str],
        probe_set: str,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._expert = expert
        self._ask = ask
        self._probes = probes
        self._probe_set = probe_set
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._next_call = 0.0
        self._failures = 0
        self._problem = ""

    def answers(self) -> list[str | None]:
        """Return the answers in the probes' order, None where there is none (any more)."""
        with self._ledger.begin() as tx:
            held = tx.describing.answers(self._expert.name, probe_set=self._probe_set)
        texts = {one.number: one.text for one in held}
        return [texts.get(number) for number in range(len(self._probes))]

    def cost(self) -> ProbeCost:
        """Return what is still to be paid; nothing is called."""
        left = [self._probes[number] for number in self._missing()]
        price = self._expert.price
        with self._ledger.begin() as tx:
            budget = _budget(tx)
            day = day_of(self._clock.now())
            used = tx.money.used([budget.kind], day=day)[budget.kind] if budget else 0
        return ProbeCost(
            calls=len(left),
            about=sum(
                expected_cost(
                    price, input_tokens=count_tokens(text), mean_output_tokens=NOMINAL_ANSWER
                )
                for text in left
            ),
            at_most=sum(most_usd(price, text) for text in left),
            left_today=None if budget is None else max(0, budget.limit - used) / 1e6,
        )

    def run(self, on_answer: Callable[[int], None]) -> None:
        """Ask until every probe has an answer; call ``on_answer`` with how many have.

        An exception from outside (Ctrl-C) ends it too; calls under way are waited for and their
        answers kept, for they are paid.

        Raises
        ------
        ProbingStopped
            The endpoint fails, or the day's budget is spent; says what to do.
        """
        with self._ledger.lead(f"probing {self._expert.name}") as leads:
            if not leads:
                raise ProbingStopped(f"another process probes {self._expert.name}; wait for it")
            while missing := self._missing():
                self._pass(missing, on_answer)
                if self._problem:
                    done = len(self._probes) - len(self._missing())
                    raise ProbingStopped(
                        f"{done} of {len(self._probes)} probes are answered and kept;"
                        f" {self._problem}; then go on: steersman experts probe {self._expert.name}"
                    )

    def _pass(self, numbers: Sequence[int], on_answer: Callable[[int], None]) -> None:
        done = len(self._probes) - len(numbers)
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="probe") as pool:
            try:
                for ended in as_completed([pool.submit(self._probe, n) for n in numbers]):
                    if ended.result():
                        done += 1
                        on_answer(done)
            except BaseException:
                self._stop.set()
                raise

    def _missing(self) -> list[int]:
        return [number for number, text in enumerate(self.answers()) if text is None]

    def _probe(self, number: int) -> bool:
        """Ask one probe; return whether its answer is stored."""
        self._rest()
        if self._stop.is_set():
            return False
        reserved = self._reserve(most_usd(self._expert.price, self._probes[number]))
        if reserved is None:
            return False
        try:
            answer = self._ask(self._probes[number])
        except ExpertUnavailable as problem:
            if problem.error is not CallError.REFUSED:
                self._settle(reserved, problem.cost_usd)
                self._failed(problem)
                return False
            answer = Answer(text="", cost_usd=problem.cost_usd)
        self._failures = 0
        self._settle(reserved, answer.cost_usd, self._answered(number, answer))
        return True

    def _rest(self) -> None:
        with self._lock:
            now = self._clock.monotonic()
            at = max(now, self._next_call)
            self._next_call = at + 1.0 / PER_SECOND
        if at > now:
            self._clock.wait(self._stop, at - now)

    def _reserve(self, most: float) -> Reservation | None:
        amount, day = micro_usd(most), day_of(self._clock.now())
        with self._ledger.begin() as tx:
            budget = _budget(tx)
            if budget is not None and tx.money.reserve([budget], day=day, amount=amount):
                return Reservation((budget.kind,), day, amount)
        self._end(
            "no policy is set, so there is no budget: steersman policy set reference=EXPERT"
            if budget is None
            else "the day's budget for shadow answers has less left than a call may cost: wait for"
            " 00:00 UTC or raise it (steersman policy set shadow_usd_per_day=USD)"
        )
        return None

    def _settle(
        self, reserved: Reservation, cost_usd: float, answer: ProbeAnswer | None = None
    ) -> None:
        """End a reservation with what the call cost, and store its answer if it brought one."""
        with self._ledger.begin() as tx:
            settle(tx, reserved, micro_usd(cost_usd))
            if answer is not None:
                tx.describing.answer(answer)

    def _answered(self, number: int, answer: Answer) -> ProbeAnswer:
        return ProbeAnswer(
            expert=self._expert.name,
            probe_set=self._probe_set,
            number=number,
            text=answer.text or "",
            grade=None,
            cost_usd=answer.cost_usd,
            answered_at=self._clock.now(),
            input_tokens=answer.input_tokens,
            output_tokens=answer.output_tokens,
        )

    def _failed(self, problem: ExpertUnavailable) -> None:
        with self._lock:
            self._failures += 1
            failures = self._failures
        if failures >= GIVE_UP_AFTER:
            self._end(f"{failures} calls in a row failed, the last so: {problem}; mend that")

    def _end(self, problem: str) -> None:
        with self._lock:
            self._problem = self._problem or problem
        self._stop.set()


def most_usd(price: Price, probe: str) -> float:
    """Return the price of the longest answer to a probe, asked once."""
    return most_cost(price, [probe], max_tokens=ANSWER_TOKENS)


def judged_cost(price: Price, requests: int) -> float:
    """Return about what an expert's answers to so many requests of usual length cost in USD."""
    return requests * expected_cost(price, input_tokens=NOMINAL_INPUT_TOKENS)


def _budget(tx: Transaction) -> Budget | None:
    current = tx.policies.current()
    return shadows(current[1])[0] if current is not None else None
