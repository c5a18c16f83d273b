//! Shares: begun, changed, and followed again when the sidecar was started again.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use prost::Message as _;
use weir_api::{
    dataplane::v1::{Change, ChangeShareRequest as ChangeAsked, Share, ShareMode, SharePhase},
    v1::{ChangeShareRequest, ShareRequest, StateOperation, StateOperationKind},
};
use weir_state_transfer::{chunk::Scope, share::MEMBERS_MAX};

use super::{
    Found, Reader,
    begin::scopes,
    not_taken_up, refused,
    sharing::{self, Follow},
};
use crate::{
    fault::Fault,
    filters::{self, Picks},
    service::goes_on,
    sidecar::Sidecar,
    southbound::find_instance,
    state_manager::{
        end::{Called, End},
        operation::{Asked, Operation, ShareAsked},
    },
    store::{Answer, Ending},
};

impl Sidecar {
    /// Begins a share. The caller holds the right to change.
    pub(crate) async fn begin_share(
        self: &Arc<Self>,
        request: &ShareRequest,
    ) -> Result<(Operation, Reader), Fault> {
        self.refuse_during_operation("share state")?;
        let mode = match ShareMode::try_from(request.mode) {
            Ok(ShareMode::Unspecified) => ShareMode::Strong,
            Ok(mode) => mode,
            Err(_) => {
                let message = format!("{} is no mode of a share", request.mode);
                let fault = Fault::invalid("MODE", message).object("mode");
                return Err(fault.fix("ask for STRONG or STRICT"));
            }
        };
        let filter = filters::parsed(&request.filter, Picks::Flows)?;
        let scopes = scopes(&request.scopes, Scope::MultiFlow)?;
        let instances = self.instances_of(&request.instances).await?;
        let asked = ShareAsked { instances, filter, scopes, mode };
        let request_id = request.change.as_ref().map_or("", |change| &change.request_id);
        let begun = self.begin_operation(Asked::Share(asked.clone()), request_id, None).await?;
        let (operation, reins, reader) = begun;
        let ended = |message: String| {
            let fault = Fault::precondition("SHARE_ENDED", message).object("change.request_id");
            Err(fault.fix("choose a new request id"))
        };
        if reins.ending.is_some() {
            return ended("the share of this request was to end".to_owned());
        }
        let shared = sharing::start(self, &asked, request_id).await?;
        if shared.phase() == SharePhase::Ended {
            let (id, reason) = (shared.id, &shared.reason);
            return ended(format!("share {id} of this request has ended: {reason}"));
        }
        let left = limit(request);
        Ok(self.follow_share(operation, shared, left, (reins, reader)))
    }

    fn follow_share(
        self: &Arc<Self>,
        mut operation: Operation,
        shared: Share,
        left: Option<Duration>,
        (reins, reader): (super::Reins, Reader),
    ) -> (Operation, Reader) {
        operation.progress.shared = Some(shared.clone());
        let sidecar = Arc::clone(self);
        tokio::spawn(Follow { sidecar, reins, begun: shared, left }.run());
        (operation, reader)
    }

    /// Lets instances join and leave. The caller holds the right to change.
    pub(crate) async fn change_share(
        &self,
        request: &ChangeShareRequest,
    ) -> Result<Operation, Fault> {
        let id = request.id;
        let fault = |reason, message| {
            Fault::precondition(reason, message).object(format!("operations/{id}"))
        };
        let no_share = || fault("NOT_A_SHARE", format!("operation {id} is no share"));
        let ended = || fault("OPERATION_ENDED", format!("operation {id} has ended"));
        let mut operation = match self.look_for(id).await? {
            Found::Here(operation) => *operation,
            // It is taken up by who may change, which is the caller now.
            Found::Kept(kept) if goes_on(kept.state()) => return Err(not_taken_up(id)),
            Found::Kept(kept) if kept.kind() == StateOperationKind::Share => return Err(ended()),
            Found::Kept(_) => return Err(no_share()),
        };
        let (Asked::Share(asked), Some(shared)) = (&operation.asked, &operation.progress.shared)
        else {
            return Err(no_share());
        };
        if operation.state.ended() {
            return Err(ended());
        }
        let instances = self.instances_of(&request.instances).await?;
        let asked = Asked::Share(ShareAsked { instances, ..asked.clone() });
        self.state.table.borrow().check_change(id, &asked).map_err(refused)?;
        let lives = sharing::find(self, &shared.request_id).await;
        let lives = lives.map_err(|status| Fault::from_dataplane(&status))?;
        let Some(lives) = lives else {
            return Err(fault("SHARE_ENDED", "the data plane does not share any more".to_owned()));
        };
        let asked_of_it = ChangeAsked {
            change: request.change.clone().map(|change| Change { generation: 0, ..change }),
            id: lives.id,
            instances: numbers(&asked),
        };
        let changed = self.southbound.shares().change_share(asked_of_it).await;
        let changed = changed.map_err(|status| Fault::unsure("change of the share", &status))?;
        let changed = changed.into_inner();
        operation.asked = asked.clone();
        operation.progress.shared = changed.share;
        self.state.change(id, asked);
        Ok(operation)
    }

    /// Refuses what would move shared flows or remove instances that share.
    pub(crate) fn refuse_during_share(&self, what: &str) -> Result<(), Fault> {
        let table = self.state.table.borrow();
        let is_share = |operation: &&&Operation| matches!(operation.asked, Asked::Share(_));
        let all = table.newest_first();
        let Some(share) = all.iter().filter(|seen| !seen.state.ended()).find(is_share) else {
            return Ok(());
        };
        let id = share.id;
        let message = format!("cannot {what} while instances share state: operation {id}");
        Err(Fault::precondition("OPERATION_IN_THE_WAY", message)
            .object(format!("operations/{id}"))
            .fix(format!("end it: weir operation cancel {id}")))
    }

    /// Follows a share again that was begun before, which the data plane tells as `share`, if it does.
    pub(super) async fn adopt_share(
        self: &Arc<Self>,
        known: StateOperation,
        answer: &Answer,
        share: Option<&Share>,
    ) -> Result<(), Fault> {
        // One that has died did so before its time was over, for all that is known.
        let lives = share.is_some_and(|share| share.phase() != SharePhase::Ended);
        let share = share.cloned().or(known.share).unwrap_or_default();
        tracing::info!(operation = known.id, share = share.id, "is taken up again");
        let request = ShareRequest::decode(answer.request.as_slice()).unwrap_or_default();
        let scopes = scopes(&share.scopes, Scope::MultiFlow)?;
        let (filter, mode) = (filters::parsed(&share.filter, Picks::Flows)?, share.mode());
        let instances = self.members(&share).await?;
        let asked = Asked::Share(ShareAsked { instances, filter, scopes, mode });
        let (operation, reins, reader) =
            self.begin_operation(asked, &answer.request_id, Some(known.id)).await?;
        // One that came while it was taken in found nobody to tell.
        let id = known.id;
        let row = self.store.run(move |database| database.kept_operation(id)).await?;
        if row.is_some_and(|row| row.ending == Some(Ending::Cancelled)) {
            self.tell_cancelled(id);
        }
        let passed = self.clock.unix_ns().saturating_sub(known.started_unix_ns);
        let left = limit(&request).map(|limit| limit.saturating_sub(Duration::from_nanos(passed)));
        self.follow_share(operation, share, left.filter(|_| lives), (reins, reader));
        Ok(())
    }

    /// The instances of a share of the data plane.
    pub(super) async fn members(&self, share: &Share) -> Result<Vec<End>, Fault> {
        let listed = self.southbound.list_instances().await;
        let listed = listed.map_err(|status| Fault::from_dataplane(&status))?.instances;
        let name = |id: &u32| {
            let found = listed.iter().find(|instance| instance.id == *id);
            End::Instance {
                id: *id,
                name: found.map(|found| found.name.clone()).unwrap_or_default(),
                life: found.map_or(0, |found| found.life),
            }
        };
        Ok(share.instances.iter().map(name).collect())
    }

    /// The instances that a request calls so.
    async fn instances_of(&self, called: &[String]) -> Result<Vec<End>, Fault> {
        let fault = |message: String| Fault::invalid("INSTANCES", message).object("instances");
        if !(2..=MEMBERS_MAX).contains(&called.len()) {
            let fault = fault(format!("a share is of 2 to {MEMBERS_MAX} instances"));
            return Err(fault.fix("name so many: weir instance list"));
        }
        let listed = self.southbound.list_instances().await;
        let listed = listed.map_err(|status| Fault::from_dataplane(&status))?.instances;
        let mut instances = Vec::new();
        for called in called {
            let name = match Called::of(called) {
                Called::Instance(name) | Called::Either(name) => name,
                Called::Nf(name) => {
                    let message = format!("nf/{name} is a process of its own, and shares nothing");
                    return Err(fault(message).fix("copy its state both ways: weir copy --every"));
                }
                Called::Peer { .. } => {
                    let message = format!("{called} is of another node: those of one node share");
                    return Err(
                        fault(message).fix("name instances of this node: weir instance list")
                    );
                }
            };
            let found = find_instance(listed.iter(), name);
            let found = found.ok_or_else(|| {
                let names = listed.iter().map(|instance| &instance.name);
                Fault::not_found("instances", name).one_of(names)
            })?;
            instances.push(End::Instance {
                id: found.id,
                name: found.name.clone(),
                life: found.life,
            });
        }
        if instances.iter().collect::<BTreeSet<_>>().len() < instances.len() {
            let fault = fault("an instance is named twice".to_owned());
            return Err(fault.fix("name each once, by its name or its number"));
        }
        Ok(instances)
    }
}

/// How long it may last, if it says so.
fn limit(request: &ShareRequest) -> Option<Duration> {
    (request.limit_ns > 0).then(|| Duration::from_nanos(request.limit_ns))
}

/// The numbers of the instances of a share.
fn numbers(asked: &Asked) -> Vec<u32> {
    asked.instances().iter().filter_map(|end| end.number()).collect()
}
