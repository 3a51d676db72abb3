"""The shards of phones behind a Flower Grid: found once, asked in one message each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from flwr.app import Message
from flwr.serverapp import Grid

from fedspeech import messages
from fedspeech.errors import ProtocolAbort
from fedspeech.job import Job
from fedspeech.messages import (
    Counts,
    CountsRequest,
    MaskedAnswer,
    ProtectedUpdate,
    Roster,
    RoundKey,
    SessionAnswer,
    SessionMessage,
)

AnswerT = TypeVar("AnswerT", bound=Roster | ProtectedUpdate | MaskedAnswer)


class NobodyAnswers(ProtocolAbort):
    """No shard answers: nothing can be learned from going on."""


class Shards:
    """The nodes of a run, in shard order.

    Node ids are random in Flower's engines, and replies come in any order.

    Args:
      grid: any Flower Grid whose nodes run `clients.app`.
      job: the run.

    Raises:
      ProtocolAbort: if the nodes do not host the job's population.
    """

    def __init__(self, grid: Grid, job: Job) -> None:
        """Asks every node which shard it hosts."""
        self._grid, self._deadline_s = grid, job.deadline_s or None
        answers = {}
        nodes = list(grid.get_node_ids())
        for reply in self._send(nodes, "query.counts", [CountsRequest()] * len(nodes), "counts"):
            if reply.has_error():
                raise ProtocolAbort(f"a node cannot host its phones: {reply.error.reason}")
            answer = messages.from_record(reply.content, Counts)
            answers[answer.shard] = (reply.metadata.src_node_id, answer)
        hosted = sum(answer.num_phones for _, answer in answers.values())
        if sorted(answers) != list(range(job.num_shards)) or hosted != job.plan.population:
            raise ProtocolAbort(
                f"the plan is for {job.plan.population} phones in {job.num_shards} shards, but the "
                f"nodes host {hosted} phones in shards {sorted(answers)}"
            )
        self._nodes: list[int] = [answers[shard][0] for shard in sorted(answers)]

    def ask(
        self,
        kind: str,
        request: messages.Message | Sequence[messages.Message],
        answer_type: type[AnswerT],
        key: RoundKey,
    ) -> tuple[list[AnswerT], str]:
        """Sends a request to every shard, or one each.

        A shard that fails or stays silent fails the round: the plan prices how likely one phone
        decides over a floor for phones that drop out each for itself; with a quarter of them gone
        at once, whoever is left may stand just at the floor, and whether the round takes place
        would tell of single phones.

        Returns:
          The answers in shard order, and what went wrong, in words, or "".

        Raises:
          NobodyAnswers: if no shard answers.
        """
        by_node: dict[int, AnswerT] = {}
        failures: list[str] = []
        heard: set[int] = set()
        nodes = self._nodes
        requests = list(request) if isinstance(request, Sequence) else [request] * len(nodes)
        for reply in self._send(nodes, kind, requests, str(key.round)):
            node = reply.metadata.src_node_id
            heard.add(node)
            try:
                if reply.has_error():
                    raise ProtocolAbort(reply.error.reason)
                answer = messages.from_record(reply.content, answer_type)
                _check_answers(answer, requests[0], key)
                if node in by_node:
                    raise ProtocolAbort("a second answer to one request")
                by_node[node] = answer
            except ProtocolAbort as error:
                failures.append(f"shard {nodes.index(node)}: {error}")
        failures += [f"shard {i}: silence" for i, node in enumerate(nodes) if node not in heard]
        if not by_node:
            raise NobodyAnswers(
                f"round {key.round}: no shard answered {kind}: " + "; ".join(failures)
            )
        return [by_node[node] for node in nodes if node in by_node], "; ".join(failures)

    def _send(
        self, nodes: Sequence[int], kind: str, requests: Sequence[messages.Message], group: str
    ) -> list[Message]:
        sent = [
            Message(messages.to_record(request), node, kind, group_id=group)
            for node, request in zip(nodes, requests, strict=True)
        ]
        heard = list(self._grid.send_and_receive(sent, timeout=self._deadline_s))
        asked = {message.metadata.message_id for message in sent}
        # An answer to an earlier request comes after its deadline: it was counted as silence.
        return [reply for reply in heard if reply.metadata.reply_to_message_id in asked]


def _check_answers(
    answer: Roster | ProtectedUpdate | SessionAnswer, request: messages.Message, key: RoundKey
) -> None:
    """Checks that an answer is to this round, and to this session of it."""
    if answer.key != key:
        raise ProtocolAbort(f"an answer to round {answer.key.round}, not {key.round}")
    if (
        isinstance(answer, SessionAnswer)
        and isinstance(request, SessionMessage)
        and answer.session != request.session
    ):
        raise ProtocolAbort(f"an answer to session {answer.session}, not {request.session}")
