//! `ScaleService`: the number of instances.

use std::sync::Arc;

use tonic::Request;
use weir_api::v1::{
    Auto, GetAutoRequest, GetAutoResponse, ListDecisionsRequest, ListDecisionsResponse,
    ListOperationsRequest, ListOperationsResponse, Obstacle, PlanScaleRequest, PlanScaleResponse,
    ScaleRequest, ScaleResponse, SetAutoRequest, SetAutoResponse, UndoScaleRequest,
    UndoScaleResponse, WatchScaleRequest, WatchScaleResponse, scale_service_server::ScaleService,
};

use super::{
    Answer, Api, answer, convert, message,
    stream::{self, Answers, Sink},
};
use crate::{
    fault::Fault,
    scaling::operation::{Operation, Origin},
    sidecar::Sidecar,
    store::{DECISIONS_MAX, OPERATIONS_MAX},
};

#[tonic::async_trait]
impl ScaleService for Api {
    type ScaleStream = Answers<ScaleResponse>;

    async fn scale(&self, request: Request<ScaleRequest>) -> Answer<Answers<ScaleResponse>> {
        let request = message(request);
        let id = request.change.as_ref().map_or("", |change| change.request_id.as_str());
        let job = async {
            let begun = self.sidecar.begin_scale(request.instances, Origin::Command, id).await?;
            Ok(ScaleResponse { operation: Some(convert::operation(&begun)) })
        };
        let begun = self.sidecar.change(&request, request.change.as_ref(), job).await?;
        let id = begun.operation.as_ref().map_or(0, |operation| operation.id);
        let sidecar = Arc::clone(&self.sidecar);
        stream::spawn(move |sink| {
            watch(sidecar, id, sink, |operation| ScaleResponse {
                operation: Some(convert::operation(operation)),
            })
        })
    }

    async fn undo_scale(&self, request: Request<UndoScaleRequest>) -> Answer<UndoScaleResponse> {
        let request = message(request);
        let job = async {
            let operation = self.sidecar.undo_scale(request.id).await?;
            Ok(UndoScaleResponse { operation: Some(convert::operation(&operation)) })
        };
        answer(self.sidecar.change(&request, request.change.as_ref(), job).await)
    }

    type WatchScaleStream = Answers<WatchScaleResponse>;

    async fn watch_scale(
        &self,
        request: Request<WatchScaleRequest>,
    ) -> Answer<Answers<WatchScaleResponse>> {
        let id = message(request).id;
        self.sidecar.find_operation(id).await?;
        let sidecar = Arc::clone(&self.sidecar);
        stream::spawn(move |sink| {
            watch(sidecar, id, sink, |operation| WatchScaleResponse {
                operation: Some(convert::operation(operation)),
            })
        })
    }

    async fn plan_scale(&self, request: Request<PlanScaleRequest>) -> Answer<PlanScaleResponse> {
        answer(self.plan(message(request).instances).await)
    }

    async fn list_operations(
        &self,
        request: Request<ListOperationsRequest>,
    ) -> Answer<ListOperationsResponse> {
        let limit = bounded(message(request).limit, 20, OPERATIONS_MAX);
        let listed = self.sidecar.store().run(move |database| database.operations(limit)).await;
        answer(listed.map_err(Fault::from).map(|operations| ListOperationsResponse {
            operations: operations.iter().map(convert::operation).collect(),
        }))
    }

    async fn set_auto(&self, request: Request<SetAutoRequest>) -> Answer<SetAutoResponse> {
        let request = message(request);
        let job = async {
            self.sidecar.set_auto(request.enabled).await?;
            Ok(SetAutoResponse { auto: Some(self.auto()) })
        };
        answer(self.sidecar.change(&request, request.change.as_ref(), job).await)
    }

    async fn get_auto(&self, _: Request<GetAutoRequest>) -> Answer<GetAutoResponse> {
        answer(Ok(GetAutoResponse { auto: Some(self.auto()) }))
    }

    async fn list_decisions(
        &self,
        request: Request<ListDecisionsRequest>,
    ) -> Answer<ListDecisionsResponse> {
        let limit = bounded(message(request).limit, 50, DECISIONS_MAX);
        let listed = self.sidecar.store().run(move |database| database.decisions(limit)).await;
        answer(listed.map_err(Fault::from).map(|decisions| ListDecisionsResponse {
            decisions: decisions.iter().map(convert::logged).collect(),
        }))
    }
}

impl Api {
    fn auto(&self) -> Auto {
        let policy = Some(convert::policy(self.sidecar.policy()));
        Auto { enabled: self.sidecar.auto(), policy }
    }

    async fn plan(&self, instances: u32) -> Result<PlanScaleResponse, Fault> {
        let decision = self.sidecar.decision();
        let wanted = match (instances, &decision) {
            (0, Some(decision)) => decision.to,
            (0, None) => {
                let fault = Fault::precondition("NO_DECISION", "no load has been measured yet");
                return Err(fault.object("loads").fix("try again, or name a number of instances"));
            }
            (wanted, _) => wanted,
        };
        let plan = self.sidecar.plan_scale(wanted).await?;
        // What a policy keeps, it does not rebalance either.
        let kept = instances == 0 && plan.from == plan.to;
        let mut steps = Operation::new(&plan, String::new(), Origin::Command, 0).steps;
        if kept {
            steps.clear();
        }
        let refused = self.sidecar.refuse_to_scale(&plan.retire).err();
        let obstacle = refused.filter(|_| !steps.is_empty());
        Ok(PlanScaleResponse {
            decision: decision.as_ref().map(|decision| weir_api::v1::Decision {
                at_unix_ns: self.sidecar.clock().unix_ns(),
                ..convert::decision(decision)
            }),
            steps: steps.iter().map(convert::step).collect(),
            from_instances: plan.from,
            to_instances: plan.to,
            obstacle: obstacle.map(|Fault { reason, message, object, fix, .. }| Obstacle {
                reason,
                message,
                object,
                fix,
            }),
        })
    }
}

fn bounded(limit: u32, default: u32, max: u32) -> u32 {
    if limit == 0 { default } else { limit.min(max) }
}

/// Writes the operation each time that it changes, until it has ended.
async fn watch<T>(sidecar: Arc<Sidecar>, id: u64, sink: Sink<T>, turn: impl Fn(&Operation) -> T) {
    let mut operations = sidecar.operations();
    loop {
        operations.mark_unchanged();
        let operation = match sidecar.find_operation(id).await {
            Ok(operation) => operation,
            Err(fault) => {
                // The reader is told why the stream ends, or has gone.
                let _ = sink.send(Err(fault.into())).await;
                return;
            }
        };
        if sink.send(Ok(turn(&operation))).await.is_err() || operation.state.ended() {
            return;
        }
        tokio::select! {
            changed = operations.changed() => if changed.is_err() { return },
            () = sidecar.stopped() => return,
            () = sink.closed() => return,
        }
    }
}
