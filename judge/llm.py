"""A language model as judge, behind any OpenAI-compatible endpoint."""

from __future__ import annotations

import secrets

from judge.port import Question, Reply
from judge.template import TEMPLATE_HASH, comparison
from judge.verdict import read_verdict
from online.clients import Chat, Endpoint
from store.errors import (
    EndpointRefused,
    EndpointUnavailable,
    JudgeUnavailable,
    VerdictUnreadable,
)

VERDICT_TOKENS = 1_024
"""Room for a model that thinks aloud before its short verdict."""


class LlmJudge:
    """Asks for one verdict per call, at temperature 0; it gives no grades."""

    def __init__(self, chat: Chat, model: str) -> None:
        self._chat = chat
        self._model = model

    @property
    def version(self) -> str:
        return f"llm-{self._model}-{TEMPLATE_HASH}"

    def compare(self, question: Question) -> Reply:
        messages = comparison(
            question.prompt,
            _text(question.answer_a.text, question.expert_a),
            _text(question.answer_b.text, question.expert_b),
            draw_nonce=lambda: secrets.token_hex(8),
        )
        try:
            said = self._chat.complete(messages, max_tokens=VERDICT_TOKENS, temperature=0.0)
        except EndpointRefused as refused:
            raise VerdictUnreadable(f"the judge refuses this comparison: {refused}") from refused
        except EndpointUnavailable as away:
            raise JudgeUnavailable(f"the judge did not answer: {away}") from away
        return Reply(preference=read_verdict(said.text or ""), cost_usd=said.cost_usd)


def llm_judge(endpoint: Endpoint) -> LlmJudge:
    """Return the judge that asks this endpoint."""
    return LlmJudge(Chat(endpoint), endpoint.model)


def _text(text: str | None, expert: str) -> str:
    if text is None:
        raise VerdictUnreadable(
            f"the answer of {expert} came without its text; publish `text` with each response"
        )
    return text
