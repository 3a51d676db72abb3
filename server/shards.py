"""The shards of phones behind a Flower Grid: found once, asked in one message each.

Nothing that a node sends ends more than its own part. `Shards` reads every answer in one place: one
that cannot be read, is of another round or session, has another shape than the plan's, or speaks in
a simulated sum for phones of another shard counts as that shard's failure, named with the request
that it was to answer. In a masked session rows in the name of another shard's phones are left out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from typing import TypeVar

from flwr.app import Message

from fedspeech import messages
from fedspeech.errors import ProtocolAbort
from fedspeech.job import Job
from fedspeech.messages import RoundKey, SessionMessage
from server.grids import Nodes

AnswerT = TypeVar(
    "AnswerT", bound=messages.CohortList | messages.ProtectedUpdate | messages.MaskedAnswer
)
_LOG = logging.getLogger(__name__)


class NobodyAnswers(ProtocolAbort):
    """No shard answers: nothing can be learned from going on."""


class Shards:
    """The nodes of a run, in shard order.

    Node ids are random in Flower's engines, and replies come in any order.

    Raises:
      ProtocolAbort: if the nodes do not host the job's population, each shard by one node.
    """

    def __init__(self, grid: Nodes, job: Job) -> None:
        self._grid, self._job = grid, job
        nodes = list(grid.get_node_ids())
        hosts: dict[int, list[int]] = {shard: [] for shard in range(job.num_shards)}
        failures = []
        requests = [messages.CountsRequest()] * len(nodes)
        for place, reply in self._replies(nodes, "query.counts", requests, "counts"):
            try:
                hosts[self._shard_of(_read(reply, messages.Counts))].append(nodes[place])
            except ProtocolAbort as error:
                failures.append(f"node {nodes[place]} cannot host its phones: {error}")
        if not all(len(found) == 1 for found in hosts.values()):
            counted = {shard: len(found) for shard, found in hosts.items()}
            raise ProtocolAbort(
                f"the plan is for {job.plan.population} phones in {job.num_shards} shards, each on "
                f"one node; nodes for each shard: {counted}" + "".join(f"; {f}" for f in failures)
            )
        for failure in failures:
            _LOG.warning("left out: %s", failure)
        self._nodes = [hosts[shard][0] for shard in sorted(hosts)]

    def ask(
        self,
        kind: str,
        request: messages.Message | Sequence[messages.Message],
        answer_type: type[AnswerT],
        key: RoundKey,
        check: Callable[[AnswerT], None],
    ) -> tuple[list[AnswerT], str]:
        """Sends a request to every shard, or one each.

        A shard that fails or stays silent fails the round: the plan prices how likely one phone
        decides over a minimum for phones that drop out each for itself; with a quarter of them gone
        at once, whoever is left may stand just at the minimum, and whether the round takes place
        would tell of single phones.

        Returns:
          The answers in shard order, and what went wrong, in words, or "".

        Raises:
          NobodyAnswers: if no shard gives an answer that holds.
        """
        nodes = self._nodes
        answers: dict[int, AnswerT] = {}
        failures = dict.fromkeys(range(len(nodes)), "silence")
        requests = list(request) if isinstance(request, Sequence) else [request] * len(nodes)
        for shard, reply in self._replies(nodes, kind, requests, str(key.round)):
            try:
                # Two answers to one request: which of them is the shard's own, nobody can say.
                if failures.pop(shard, "") != "silence":
                    raise ProtocolAbort("a second answer to one request")
                answer = _read(reply, answer_type)
                _check_session(answer, requests[shard], key)
                check(answer)
                answers[shard] = self._hosted(answer, shard, kind)
            except ProtocolAbort as error:
                failures[shard] = str(error)
        words = "; ".join(f"shard {shard}: {failures[shard]}" for shard in sorted(failures))
        if not answers:
            raise NobodyAnswers(f"round {key.number}: no shard answered {kind}: {words}")
        found = [answers[shard] for shard in sorted(answers)]
        return found, f"{kind}: {words}" if failures else ""

    def _replies(
        self, nodes: Sequence[int], kind: str, requests: Sequence[messages.Message], group: str
    ) -> Iterator[tuple[int, Message]]:
        """Sends one request to each node; yields whose request was answered, by place, and how.

        What a reply says of its own origin is not read: Flower itself answers for nodes that are
        gone. An answer to an earlier request comes after its deadline: it was counted as silence.
        """
        sent = [
            Message(messages.to_record(request), node, kind, group_id=group)
            for node, request in zip(nodes, requests, strict=True)
        ]
        heard = self._grid.send_and_receive(sent, timeout=self._job.deadline_s or None)
        asked = {message.metadata.message_id: place for place, message in enumerate(sent)}
        for reply in heard:
            place = asked.get(reply.metadata.reply_to_message_id)
            if place is not None:
                yield place, reply

    def _shard_of(self, answer: messages.Counts) -> int:
        """The shard that a node says it hosts, if the job has it."""
        job, shard = self._job, answer.shard
        if answer.num_shards != job.num_shards or answer.num_phones != len(job.shard_phones(shard)):
            raise ProtocolAbort(
                f"it says that it hosts {answer.num_phones} phones as shard {shard} of "
                f"{answer.num_shards}: another job's"
            )
        return shard

    def _hosted(self, answer: AnswerT, shard: int, kind: str) -> AnswerT:
        """What an answer says for phones of its shard."""
        hosted = self._job.shard_phones(shard)
        phones = answer.reporting if isinstance(answer, messages.ProtectedUpdate) else answer.phones
        own = (phones >= hosted.start) & (phones < hosted.stop)
        if isinstance(answer, messages.SessionAnswer) and (answer.refused > len(hosted)).any():
            raise ProtocolAbort(f"it counts more refusals than its {len(hosted)} phones")
        if own.all():
            return answer
        words = f"it answers for phone {phones[~own][0]}, which it does not host"
        if isinstance(answer, messages.CohortList | messages.ProtectedUpdate):
            raise ProtocolAbort(words)
        _LOG.warning("round %d: %s: shard %d: %s; left out", answer.key.number, kind, shard, words)
        rows = {
            field.name: getattr(answer, field.name)[own]
            for field in fields(answer)
            if field.name not in ("key", "session", "refused")
        }
        return replace(answer, **rows)


def _read(reply: Message, expected: type[messages.MessageT]) -> messages.MessageT:
    """Reads what a node answered."""
    if not reply.has_content():
        raise ProtocolAbort(messages.printable(str(reply.error.reason)))
    return messages.from_record(reply.content, expected)


def _check_session(
    answer: messages.CohortList | messages.ProtectedUpdate | messages.SessionAnswer,
    request: messages.Message,
    key: RoundKey,
) -> None:
    """Checks that an answer is to this round, and to this session of it."""
    if answer.key.round != key.round:
        raise ProtocolAbort(f"an answer to round {answer.key.number}, not {key.number}")
    if answer.key != key:
        raise ProtocolAbort(f"an answer to round {key.number} of another job or attempt")
    if (
        isinstance(answer, messages.SessionAnswer)
        and isinstance(request, SessionMessage)
        and answer.session != request.session
    ):
        raise ProtocolAbort(f"an answer to session {answer.session}, not {request.session}")
