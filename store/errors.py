"""Everything that can go wrong, by what the caller should do about it.

SteersmanError
├── SettingsInvalid        fix the configuration and start again
├── EventRejected          the sender must change the event (HTTP 4xx, dead-letter topic)
│   ├── RequestConflict    the id was used with another prompt (409)
│   ├── NotFound           no such request, expert or state (404)
│   ├── NotAllowed         key missing, unknown or without the scope (401, 403)
│   └── TooMany            the sender must wait before the next one (429)
├── StoreError             the ledger could not do it
│   ├── StoreUnavailable   try again later; nothing was stored
│   ├── StateSuperseded    another publisher was faster; start from the new state
│   └── LeaseLost          the task has another owner now; drop the result
├── JudgeError             no label came of it
│   ├── JudgeUnavailable   an outage: give the task back, it was not sampled out
│   ├── VerdictUnreadable  retried, then a loss for risk, never a training label
│   └── TooDear            a whole day's budget cannot pay for it: a loss for risk
├── EndpointUnavailable    a language model's endpoint did not answer; another try may
├── EndpointRefused        it refuses what was sent; another try ends the same
├── ExpertUnavailable      the expert did not answer
├── BrokerUnavailable      the event stream is away; retry with backoff
└── StateRefused           a routing state that must not go live; the last good one stays
"""

from __future__ import annotations

from store.health import CallError


class SteersmanError(Exception):
    """Any error that this project raises on purpose."""


class SettingsInvalid(SteersmanError):
    """The configuration is wrong; the message lists every problem."""


class EventRejected(SteersmanError):
    """An event or request that cannot be accepted.

    Parameters
    ----------
    code
        A stable, machine-readable reason such as ``"prompt_too_long"``; becomes ``error.code``
        over HTTP and the ``reason`` header of the dead letter.
    message
        What is wrong and what to do, for a person. Never contains prompt text.
    field
        The offending field, if one can be named.
    """

    status = 422

    def __init__(self, code: str, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field


class RequestConflict(EventRejected):
    """The id is taken by a different fact."""

    status = 409


class NotFound(EventRejected):
    """There is nothing under that name."""

    status = 404


class NotAllowed(EventRejected):
    """The key is missing (401) or lacks the scope (403)."""

    status = 403


class TooMany(EventRejected):
    """The sender must wait.

    Parameters
    ----------
    retry_after_s
        Whole seconds after which the next one is taken.
    """

    status = 429

    def __init__(
        self, code: str, message: str, *, field: str | None = None, retry_after_s: int
    ) -> None:
        super().__init__(code, message, field=field)
        self.retry_after_s = retry_after_s


class StoreError(SteersmanError):
    """The ledger could not do what was asked."""


class StoreUnavailable(StoreError):
    """The database cannot be reached; nothing was stored."""


class StateSuperseded(StoreError):
    """The active routing state is no longer the one this candidate was computed from."""

    def __init__(self, *, expected: int, active: int) -> None:
        super().__init__(f"computed from state {expected}, but {active} is active")
        self.expected = expected
        self.active = active


class LeaseLost(StoreError):
    """The lease on a judge task has expired or passed to another worker."""

    def __init__(self, *, task_id: int, worker: str) -> None:
        super().__init__(f"task {task_id} is no longer leased by {worker}")
        self.task_id = task_id
        self.worker = worker


class JudgeError(SteersmanError):
    """The judge gave no usable verdict."""


class JudgeUnavailable(JudgeError):
    """The judge cannot be reached or refuses for now.

    Parameters
    ----------
    retry_after_s
        How long nobody need ask again; 0 if that is not known.
    cost_usd
        What may have been billed all the same.
    """

    def __init__(self, message: str, *, retry_after_s: float = 0.0, cost_usd: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.cost_usd = cost_usd


class VerdictUnreadable(JudgeError):
    """The judge answered something that is not a verdict.

    Parameters
    ----------
    cost_usd
        What the answer cost all the same.
    """

    def __init__(self, message: str, *, cost_usd: float = 0.0) -> None:
        super().__init__(message)
        self.cost_usd = cost_usd


class TooDear(JudgeError):
    """It may cost more than a whole day's budget: no day could pay for it."""


class _EndpointError(SteersmanError):
    """A call that came to nothing.

    Parameters
    ----------
    cost_usd
        What may have been billed: tries that were sent and had no end that could be read, at their
        most. A try that was refused costs nothing.
    """

    def __init__(self, message: str, *, cost_usd: float = 0.0) -> None:
        super().__init__(message)
        self.cost_usd = cost_usd


class EndpointUnavailable(_EndpointError):
    """A language model's endpoint did not answer."""


class EndpointRefused(_EndpointError):
    """A language model's endpoint refuses what was sent: too long, filtered, not understood."""


class ExpertUnavailable(SteersmanError):
    """An expert did not answer.

    Parameters
    ----------
    error
        How the call failed; None when nothing was called, so that it says nothing about the
        expert.
    cost_usd
        What may have been billed all the same.
    """

    def __init__(
        self, message: str, *, error: CallError | None = None, cost_usd: float = 0.0
    ) -> None:
        super().__init__(message)
        self.error = error
        self.cost_usd = cost_usd


class ProbingStopped(SteersmanError):
    """An expert has not answered every probe; its answers so far are kept."""


class BrokerUnavailable(SteersmanError):
    """The event stream cannot be reached."""


class StateRefused(SteersmanError):
    """A routing state is unreadable, implausible or bound to something else."""
