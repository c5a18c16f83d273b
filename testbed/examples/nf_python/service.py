"""The southbound API for a network function in Python: requests are checked here.

A function has `name`, `version`, `kinds` ({scope: (schema kind, revision, name, merge rules)}), `earlier`
(the same, of revisions that it takes in and does not give), `events`, `lock` (a threading.Condition that
it holds while it processes a packet), and these methods, which are called with the lock held:
`ids(scope)`, `chunk(scope, id)` or None, `put(chunk)`, which raises wire.Refused and changes nothing
then, `delete(scope, id)`, `process_kept()`, and, where it counts something for people, `counters()`
({name in snake_case: count}). State of a flow that is older than what is known is
refused as OLDER; whether its writer is told so is decided here.
"""

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from events import SUBSCRIPTIONS_MAX, Subscription
from state_filter import Filter
from stubs import nf_pb2 as api
from stubs import nf_pb2_grpc
from wire import ALL_FLOWS, MULTI_FLOW, PER_FLOW, Chunk, FlowId, Refused

PIECE = 64
"""Chunks that a get gives with the lock held; packets pass between two pieces."""
MESSAGE_BYTES = 1 << 20
MESSAGE_MAX = 2 << 20
FILTER_MAX, IDS_MAX, CHUNKS_MAX, SNAP_MAX = 8192, 256, 256, 65535


def abort(context, code, reason, message):
    """Ends a request with a typed error."""
    info = any_pb2.Any()
    info.Pack(error_details_pb2.ErrorInfo(reason=reason, domain="weir"))
    status = status_pb2.Status(code=code.value[0], message=message, details=[info])
    context.abort_with_status(rpc_status.to_status(status))


def invalid(context, field, why):
    """Ends a request that is wrong in itself."""
    abort(context, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", f"{field}: {why}")


class Service(nf_pb2_grpc.NetworkFunctionServiceServicer):
    """Serves one function."""

    def __init__(self, function):
        self.function = function

    def Describe(self, request, context):
        known = [*self.function.kinds.items(), *self.function.earlier.items()]
        kinds = [api.StateKind(scope=scope, schema=kind, revision=revision, name=name,
                               merge_rules=rules)
                 for scope, (kind, revision, name, rules) in known]
        return api.DescribeResponse(name=self.function.name, version=self.function.version,
                                    kinds=kinds, common_versions=True)

    def GetCounters(self, request, context):
        if not hasattr(self.function, "counters"):
            return api.GetCountersResponse()
        with self.function.lock:
            counters = self.function.counters()
        return api.GetCountersResponse(counters=[api.Counter(name=name, value=value)
                                                 for name, value in counters.items()])

    def GetPerFlow(self, request, context):
        return self._get(PER_FLOW, request, context)

    def GetMultiFlow(self, request, context):
        return self._get(MULTI_FLOW, request, context)

    def GetAllFlows(self, request, context):
        request = api.GetRequest(filter="any", since=request.since)
        return self._get(ALL_FLOWS, request, context)

    def PutPerFlow(self, requests, context):
        return self._put(PER_FLOW, requests, context)

    def PutMultiFlow(self, requests, context):
        return self._put(MULTI_FLOW, requests, context)

    def PutAllFlows(self, requests, context):
        return self._put(ALL_FLOWS, requests, context)

    def DelPerFlow(self, request, context):
        return self._delete(PER_FLOW, request, context)

    def DelMultiFlow(self, request, context):
        return self._delete(MULTI_FLOW, request, context)

    def EnableEvents(self, request, context):
        function, number = self.function, request.subscription
        filter_ = self._filter(request.filter, context)
        if request.action not in (api.ACTION_PROCESS, api.ACTION_BUFFER, api.ACTION_DROP):
            invalid(context, "action", "say what becomes of the packets")
        if request.snap > SNAP_MAX:
            invalid(context, "snap", f"{SNAP_MAX} bytes are the most")
        subscription = Subscription(filter_, request.action, request.snap)
        with function.lock:
            try:
                function.events.enable(number, subscription)
            except KeyError:
                subscription = None
            except OverflowError:
                abort(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "BOUND_REACHED",
                      f"{SUBSCRIPTIONS_MAX} subscriptions are the most")
        if subscription is None:
            abort(context, grpc.StatusCode.ALREADY_EXISTS, "ALREADY_EXISTS",
                  f"subscription {number} is there already: disable it first")
        if not context.add_callback(lambda: self._end(number, subscription)):
            self._end(number, subscription)
        yield api.EnableEventsResponse(enabled=api.Enabled())
        while True:
            with function.lock:
                function.lock.wait_for(
                    lambda: subscription.ended or subscription.notes or subscription.lost)
                note = None if subscription.ended else subscription.take()
            if note is None:
                return
            yield note

    def DisableEvents(self, request, context):
        with self.function.lock:
            subscription = self.function.events.subscriptions.get(request.subscription)
        if subscription is None or not self._end(request.subscription, subscription):
            abort(context, grpc.StatusCode.NOT_FOUND, "NOT_FOUND",
                  f"there is no subscription {request.subscription}")
        return api.DisableEventsResponse()

    def _end(self, number, subscription):
        """Ends a subscription, if it has not ended yet."""
        function = self.function
        with function.lock:
            if function.events.subscriptions.get(number) is not subscription:
                return False
            function.events.disable(number)
            function.process_kept()
            function.lock.notify_all()
            return True

    def _get(self, scope, request, context):
        filter_ = self._filter(request.filter, context)
        contains = request.extent == api.EXTENT_CONTAINS
        with self.function.lock:
            ids = [id_ for id_ in self.function.ids(scope) if filter_.picks(id_, contains)]
        message = api.GetResponse()
        size = 0
        for start in range(0, len(ids), PIECE):
            with self.function.lock:
                piece = [self.function.chunk(scope, id_) for id_ in ids[start:start + PIECE]]
            for chunk in piece:
                if chunk is None or chunk.version <= request.since:
                    continue
                data = chunk.encode()
                if message.chunks and (size + len(data) > MESSAGE_BYTES
                                       or len(message.chunks) == CHUNKS_MAX):
                    yield message
                    message, size = api.GetResponse(), 0
                message.chunks.append(data)
                size += len(data)
        if message.chunks:
            yield message

    def _put(self, scope, requests, context):
        taken = 0
        for request in requests:
            if len(request.chunks) > CHUNKS_MAX:
                invalid(context, "chunks", f"{CHUNKS_MAX} in one message are the most")
            for data in request.chunks:
                try:
                    chunk = Chunk.decode(data)
                    if chunk.scope != scope or not self._knows(scope, chunk.schema):
                        raise Refused("UNKNOWN_SCHEMA", f"no such state: {chunk.schema}")
                    with self.function.lock:
                        self.function.put(chunk)
                except Refused as refused:
                    if refused.reason == "OLDER" and not request.refuse_older:
                        taken += 1  # what is known is better: who copies goes on
                        continue
                    reason = api.RefusalReason.Value(f"REFUSAL_REASON_{refused.reason}")
                    refusal = api.Refusal(reason=reason, message=str(refused)[:1000])
                    return api.PutResponse(taken=taken, refusal=refusal)
                taken += 1
        return api.PutResponse(taken=taken)

    def _knows(self, scope, schema):
        known = (self.function.kinds.get(scope), self.function.earlier.get(scope))
        return any(kind and kind[:2] == schema for kind in known)

    def _delete(self, scope, request, context):
        if len(request.ids) > IDS_MAX:
            invalid(context, "ids", f"{IDS_MAX} in one request are the most")
        try:
            ids = [FlowId.decode(data) for data in request.ids]
        except ValueError as error:
            invalid(context, "ids", str(error))
        with self.function.lock:
            deleted = sum(self.function.delete(scope, id_) for id_ in ids)
        return api.DelResponse(deleted=deleted)

    @staticmethod
    def _filter(text, context):
        if len(text.encode()) > FILTER_MAX:
            invalid(context, "filter", f"{FILTER_MAX} bytes are the most")
        try:
            return Filter(text)
        except ValueError as error:
            invalid(context, "filter", str(error))
