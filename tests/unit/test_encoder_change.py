"""Another encoder is another space: nothing learnt in one scores or calibrates in the other."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ingest.local import LocalLoop
from store.records import SAFE, Float32Array, Reason
from tests.unit.loop_fakes import (
    DIMENSION,
    TRAINED,
    ClusterEncoder,
    policy,
    run,
    state_of,
    trained,
)

pytestmark = pytest.mark.usefixtures("few_cycles")


class OtherEncoder(ClusterEncoder):
    """Vectors as long, along other axes."""

    identity = "other-encoder-0123456789abcdef"

    def encode(self, texts: Sequence[str]) -> Float32Array:
        turned: Float32Array = super().encode(texts)[:, ::-1].copy()
        assert turned.shape[1] == DIMENSION
        return turned


def restarted(made: LocalLoop, encoder: ClusterEncoder) -> LocalLoop:
    """The same ledger under processes with that encoder."""
    made.start(encoder)
    made.settle()
    return made


@pytest.mark.parametrize("hold", [False, True])
def test_no_threshold_of_one_encoder_is_published_for_another(
    hold: bool,
) -> None:
    made = trained()
    before = state_of(made)
    assert before.threshold < SAFE
    made.set_policy(policy(hold=hold))
    found = state_of(restarted(made, OtherEncoder()))
    assert (found.encoder, found.model) == (OtherEncoder.identity, None)
    assert (found.threshold, found.safe_reason) == (SAFE, Reason.SAFE_COLD)


def test_learning_starts_over_on_requests_of_the_new_encoder() -> None:
    made = trained(more=250)
    after = restarted(made, OtherEncoder())
    run(after, first=TRAINED)
    found = state_of(after)
    assert found.model is not None
    assert found.threshold < SAFE
    assert found.effective_labels <= 250


def test_back_with_the_old_encoder_its_labels_count_again() -> None:
    made = trained()
    before = state_of(made)
    other = restarted(made, OtherEncoder())
    found = state_of(restarted(other, ClusterEncoder()))
    assert (found.encoder, found.threshold) == (ClusterEncoder.identity, before.threshold)
