"""A language model as judge, behind any OpenAI-compatible endpoint."""

from __future__ import annotations

import hashlib
import math
import secrets
import threading
from urllib.parse import urlsplit

from judge.families import family_of
from judge.port import Question, Reply
from judge.template import TEMPLATE_HASH, comparison
from judge.verdict import VERDICT_SCHEMA, read_verdict
from online.chat import Chat
from online.clients import Answer, Message
from store.clock import Clock
from store.errors import (
    EndpointRefused,
    EndpointUnavailable,
    JudgeUnavailable,
    VerdictUnreadable,
)
from store.records import ExpertId, RequestId

VERDICT_TOKENS = 1_024
"""Room for a model that thinks aloud before its short verdict."""


TRIAL = Question(
    request_id=RequestId("trial"),
    prompt="What is the sum 2 and 3?",
    expert_a=ExpertId("right"),
    answer_a=Answer(text="5", cost_usd=0.0),
    expert_b=ExpertId("wrong"),
    answer_b=Answer(text="6", cost_usd=0.0),
)
"""A comparison that nobody has a reason to refuse; a judge that works prefers the first answer."""
TRIAL_EVERY_S = 60.0


class LlmJudge:
    """Asks for one verdict per call, at temperature 0; it gives no grades.

    An endpoint that refuses everything (a setting it does not know, a spent budget) is away; one
    that refuses a single comparison is not. ``TRIAL`` tells them apart, at most once a minute.

    Parameters
    ----------
    family
        Who made the model; empty: told by its name.
    is_structured
        Have the endpoint hold the reply to ``VERDICT_SCHEMA``: a small model's reply is seldom one
        JSON object of itself. It is another judge than the same model left free.
    """

    def __init__(
        self, chat: Chat, clock: Clock, *, family: str = "", is_structured: bool = False
    ) -> None:
        self._chat = chat
        self._schema = VERDICT_SCHEMA if is_structured else None
        self._model = chat.endpoint.model
        self._family = family.lower() or family_of(self._model)
        self._clock = clock
        self._trial = threading.Lock()
        """Who meets a refusal while another tries waits for what comes of it."""
        self._try_again = -math.inf
        self._refuses_all = ""
        """What the last trial came to; empty when it was answered."""
        self._trial_usd = chat.most_usd(self._messages(TRIAL), max_tokens=VERDICT_TOKENS)

    @property
    def version(self) -> str:
        held = "-structured" if self._schema else ""
        place = place_hash(self._chat.endpoint.base_url)
        return f"llm-{self._model}-{TEMPLATE_HASH}-{place}{held}"

    @property
    def family(self) -> str:
        return self._family

    def most_usd(self, question: Question) -> float:
        """Return the price of a try whose every byte is a token and that uses all its room; of the
        trial, if that is dearer: a refusal may bring it about.
        """
        try:
            messages = self._messages(question)
        except VerdictUnreadable:  # it will not be asked
            return 0.0
        return max(self._trial_usd, self._chat.most_usd(messages, max_tokens=VERDICT_TOKENS))

    def compare(self, question: Question) -> Reply:
        try:
            said = self._said(question)
        except EndpointRefused as refused:
            cost_usd = self._check_that_it_works(refused.cost_usd)
            said_no = f"the judge refuses this comparison: {refused}"
            raise VerdictUnreadable(said_no, cost_usd=cost_usd) from refused
        except EndpointUnavailable as away:
            raise JudgeUnavailable(
                f"the judge did not answer: {away}", cost_usd=away.cost_usd
            ) from away
        try:
            preference = read_verdict(said.text or "")
        except VerdictUnreadable as problem:
            raise VerdictUnreadable(str(problem), cost_usd=said.cost_usd) from problem
        return Reply(preference=preference, cost_usd=said.cost_usd)

    def _said(self, question: Question, *, retries: int | None = None) -> Answer:
        return self._chat.complete(
            self._messages(question),
            max_tokens=VERDICT_TOKENS,
            temperature=0.0,
            schema=self._schema,
            retries=retries,
        )

    def _messages(self, question: Question) -> tuple[Message, ...]:
        return comparison(
            question.prompt,
            _text(question.answer_a.text, question.expert_a),
            _text(question.answer_b.text, question.expert_b),
            reference_answer=question.reference_answer,
            draw_nonce=lambda: secrets.token_hex(8),
        )

    def _check_that_it_works(self, spent: float) -> float:
        """Return what was spent, the trial's cost with it, if this was the call to try.

        Raises ``JudgeUnavailable`` if the trial was not answered either. It is tried once: with the
        refused call it costs no more than a call may.
        """
        with self._trial:
            if self._clock.monotonic() >= self._try_again:
                self._try_again = self._clock.monotonic() + TRIAL_EVERY_S
                try:
                    spent += self._said(TRIAL, retries=0).cost_usd
                    self._refuses_all = ""
                except (EndpointRefused, EndpointUnavailable) as problem:
                    spent += problem.cost_usd
                    self._refuses_all = str(problem)
            refuses_all = self._refuses_all
        if refuses_all:
            raise JudgeUnavailable(f"the judge refuses everything: {refuses_all}", cost_usd=spent)
        return spent


def place_hash(base_url: str) -> str:
    """Return a short hash of scheme, host, port and path: one name at two places is two judges.

    Credentials and queries, which may hold some, are left out: a new key is no new judge.
    """
    url = urlsplit(base_url)
    port = url.port or {"http": 80, "https": 443}.get(url.scheme)
    place = f"{url.scheme}://{url.hostname}:{port}{url.path.rstrip('/')}"
    return hashlib.sha256(place.encode()).hexdigest()[:6]


def _text(text: str | None, expert: str) -> str:
    if text is None:
        raise VerdictUnreadable(
            f"the answer of {expert} came without its text; publish `text` with each response"
        )
    return text
